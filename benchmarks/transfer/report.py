"""Results of the fine-tunings, as Markdown."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.few.report import draws
from benchmarks.transfer.recipes import HEALTHY
from benchmarks.transfer.splits import split
from harness.measures.panel.threshold import widened

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.transfer.splits import Split, Stored
    from harness.measures.panel.threshold import Calibrated

_Z90 = 1.2816
_AGAIN = 2_000
"""Draws of the bootstrap over networks."""
_SHOWN = 4
"""Checks that the table names for a mutant."""


def splits_of(found: Stored, size: int, most: int, on_split: Callable[[], None]) -> tuple[list[Split], int]:
    """Return the splits with K reference models, and the number of panels that calibration refuses."""
    made, refused = [], 0
    for chosen in draws(found.healthy, size, most):
        each = split(found, np.random.default_rng(chosen.tolist()).permutation(chosen))
        made += [each] if each else []
        refused += not each
        on_split()
    return made, refused


def alarms_of(made: Sequence[Split], names: Sequence[str]) -> np.ndarray:
    """Return the share of the splits in which each of these networks fails, (names,), where it is held out."""
    return _shares(made, names, lambda one, name: bool(one.failed[name]))


def signs_of(made: Sequence[Split], names: Sequence[str]) -> np.ndarray:
    """Return the share of the splits in which each network passes beyond an informational threshold, (names,)."""
    return _shares(made, names, lambda one, name: bool(one.signs[name]) and not one.failed[name])


def _shares(made: Sequence[Split], names: Sequence[str], holds: Callable[[Split, str], bool]) -> np.ndarray:
    """Return the share of the splits in which something holds of each network, (names,), where it is held out."""
    return np.array([np.mean([holds(one, name) for one in made if name in one.failed]) for name in names])


def drop_at_90(item: Calibrated) -> float:
    """Return the drop of a group that its check fails with 90% power, by the formula of the harness for 95%."""
    error, n = item.spread * widened(item.reference_models), item.check.n
    middle = item.k * error + _Z90**2 / (2 * n)
    return middle + math.sqrt(max(middle**2 - (item.k**2 - _Z90**2) * error**2, 0.0))


def alarms_table(found: Stored, by_size: dict[int, tuple[list[Split], int]]) -> str:
    """Return the table of false alarms, detection and thresholds, a line for each K."""
    healthy = found.names[: found.healthy]
    mutants = found.names[found.healthy :]
    lines = [
        "| K | splits (refused) | false alarms of the whole gate | sound networks that pass beyond an "
        "informational threshold | mutants detected | checks with a threshold | "
        "class differences with one, of 8 | class accuracies with one, of 8 | drop of a vendor at 90% power |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for size, (made, refused) in by_size.items():
        shares = alarms_of(made, healthy)
        again = np.random.default_rng(size).choice(shares, (_AGAIN, len(shares))).mean(axis=1)
        low, high = np.quantile(again, [0.025, 0.975])
        detected = alarms_of(made, mutants)
        checks = [[item for item in one.calibrated if not item.informational] for one in made]
        of_vendors = [item for one in made for item in one.calibrated if item.check.metric == "group_difference"]
        differences, accuracies = (_mean_of(checks, family) for family in ("class-difference", "class"))
        lines.append(
            f"| {size} | {len(made)} ({refused}) | {shares.mean():.1%} ({low:.1%} to {high:.1%}) | "
            f"{signs_of(made, healthy).mean():.1%} | "
            f"{detected.sum():.1f} of {len(mutants)} | {np.mean([len(each) for each in checks]):.1f} of "
            f"{len(made[0].calibrated)} | {differences:.1f} | {accuracies:.1f} | "
            f"{100 * np.median([drop_at_90(item) for item in of_vendors]):.1f} points |"
        )
    return "\n".join(lines)


def mutants_table(found: Stored, by_size: dict[int, tuple[list[Split], int]]) -> str:
    """Return the table of detection, a line for each kind of mutant."""
    kinds = list(dict.fromkeys(kind_of(name) for name in found.names))
    lines = [
        f"| fine-tuning | accuracy | {' | '.join(f'fails at K = {size}' for size in by_size)} | passes beyond an "
        f"informational threshold at K = {min(by_size)} | checks at K = {min(by_size)}, by share of splits |",
        f"| --- | --- |{' --- |' * (len(by_size) + 2)}",
    ]
    fewest = by_size[min(by_size)][0]
    for kind in kinds:
        names = [name for name in found.names if kind_of(name) == kind]
        accuracy = 1 - found.wrong[[found.names.index(name) for name in names]].mean()
        shares = [alarms_of(made, names).mean() for made, _ in by_size.values()]
        by_name = [one.failed[name] for one in fewest for name in names if name in one.failed]
        most = Counter(check for failed in by_name for check in failed).most_common(_SHOWN)
        named = ", ".join(f"`{check}` {count / len(by_name):.0%}" for check, count in most) or "–"
        title = kind.replace("-", " ") + (f" ({len(names)})" if kind == HEALTHY or len(names) > 1 else "")
        lines.append(
            f"| {title} | {accuracy:.1%} | {' | '.join(f'{share:.0%}' for share in shares)} | "
            f"{signs_of(fewest, names).mean():.0%} | {named} |"
        )
    return "\n".join(lines)


def kind_of(name: str) -> str:
    """Return the kind of a network from its name."""
    return name.rpartition("-seed-")[0]


def _mean_of(checks: Sequence[Sequence[Calibrated]], family: str) -> float:
    return float(np.mean([sum(item.check.family == family for item in each) for each in checks]))
