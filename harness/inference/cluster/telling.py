"""What is said of a cluster: how fast each worker is, who lags behind, and of how many kinds they are."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import some_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

SLOW = 0.5
"""A worker below this part of the middle one's speed is a straggler."""
TOLERANCE = 2 / 10_000
"""By how much of the images answers may differ between processors of several kinds."""


@dataclass
class Done:
    """How many inputs a worker has answered, and in how many seconds."""

    name: str
    inputs: int = 0
    seconds: float = 0.0

    @property
    def speed(self) -> float:
        """Return inputs per second."""
        return self.inputs / self.seconds if self.seconds else 0.0


def stragglers(done: Collection[Done]) -> list[Done]:
    """Return the workers that are much slower than the one in the middle."""
    fast = [each for each in done if each.seconds]
    middle = statistics.median(each.speed for each in fast) if fast else 0.0
    return [each for each in fast if each.speed < SLOW * middle]


def speeds(done: Collection[Done]) -> str:
    """Return in words how fast workers are, and which are slow."""
    found = [f"{each.speed:.3g}" for each in done if each.seconds]
    slow = [f"{each.name} ({each.speed:.3g}/s)" for each in stragglers(done)]
    each = f"{some_of(found, shown=8)} images/s" if found else "nothing done yet"
    return each + (f"; slow: {some_of(slow)}" if slow else "")


def mixed(kinds: Mapping[str, int], margins: Sequence[tuple[str, float]]) -> str:
    """Return what is to be said of a run on workers of several kinds; "" where all are of one.

    `margins` are rows of the gates file with how far their value is from its bound, as a share of the images.
    """
    if len(kinds) < 2:  # noqa: PLR2004  One kind, or none yet.
        return ""
    said = "; ".join(f"{count} on {kind}" for kind, count in sorted(kinds.items()))
    margins = sorted(margins, key=lambda row: row[1])
    close = [f"{name} ({margin:.4f})" for name, margin in margins if margin <= TOLERANCE]
    if close:
        by = f"decided by less: {some_of(close)}"
    elif margins:
        by = f"none is so close to its bound, the closest is {margins[0][0]} ({margins[0][1]:.4f})"
    else:
        by = "no gate is held against a share"
    return (
        f"the workers of the cluster are of {len(kinds)} kinds, so that answers may differ from one kind's in 2 of "
        f"10,000: {said}; of the gates, {by}"
    )
