"""One line of the benchmark's table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """One line of the table; `wanted` is the least that the harness set out to reach, None where it only reports."""

    what: str
    ours: str
    peer: str
    ratio: float
    wanted: float | None
    note: str = ""

    @property
    def reached(self) -> str:
        """Return whether the ratio is what was wanted."""
        return "" if self.wanted is None else ("yes" if self.ratio >= self.wanted else "**no**")
