"""Controls: the share that the gate fails, and the distance of a mutant that it passes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.detection.judgement import Judged, upper_bound
from benchmarks.detection.wording import many, percent

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAMED_ROWS = 5


def false_alarms(healthy: Sequence[Judged]) -> str:
    """Return how many controls fail, first of those measured on every row, then of all by the rows they have.

    A control that lacks rows proves nothing for them, so it never counts as one that the whole gate passes.
    """
    if not healthy:
        return "No control is judged yet."
    whole = [one for one in healthy if not one.unmeasured]
    older = [one for one in healthy if one.unmeasured]
    parts = [_rate(whole, "measured on every row")] if whole else []
    if older:
        lacking = max(len(one.unmeasured) for one in older)
        parts.append(
            f"{many(len(older), 'more control' if whole else 'control')} lack up to "
            f"{many(lacking, 'row')} that the checks file has now; for these rows they prove nothing. "
            + _rate(healthy, "by the rows that each was measured on")
        )
    parts.append(
        "The confidence bound is exact and one-sided (Clopper & Pearson 1934). It does not prove the rate of 1% that "
        "the thresholds aim at."
    )
    alarms = [one for one in healthy if one.detected]
    if alarms:
        parts.append("\n".join(map(_alarm, alarms)))
    return "\n\n".join(parts)


def like_healthy(missed: Sequence[Judged], healthy: Sequence[Judged]) -> str:
    """Return how many mutants come no nearer to a threshold than controls that pass: they look alike."""
    limit = min((one.nearest[1] for one in healthy if one.nearest), default=None)
    if limit is None:
        return ""
    alike = sum(one.nearest is not None and one.nearest[1] >= limit for one in missed)
    own = [beyond(one, [other for other in healthy if other is not one])[0] for one in healthy]
    return (
        f"Controls that pass come as near as {limit:.1f} standard deviations to a threshold. The gate passes "
        f"{many(len(missed), 'mutant')}: {alike} keep that distance, {len(missed) - alike} do not. "
        f"Such a control is worse than all {len(healthy) - 1} others in {min(own)} to {max(own)} rows."
    )


def beyond(one: Judged, healthy: Sequence[Judged]) -> tuple[int, int]:
    """Return the number of rows in which it is worse than every control, and the number of rows that both have."""
    worse = compared = 0
    for verdict in one.verdicts:
        others = [value for other in healthy if (value := other.result.rows.get(verdict.check.id)) is not None]
        if verdict.value is None or not others:
            continue
        compared += 1
        worst = max(others) if verdict.check.direction == "at_most" else min(others)
        worse += verdict.value != worst and verdict.check.holds(worst, verdict.value)
    return worse, compared


def _rate(healthy: Sequence[Judged], how: str) -> str:
    failed, n = sum(one.detected for one in healthy), len(healthy)
    accuracies = [one.clean_accuracy for one in healthy]
    return (
        f"The gate fails **{failed} of {n}** controls {how} (clean accuracy {percent(min(accuracies))} to "
        f"{percent(max(accuracies))}). This proves, with 95% confidence, that no more than "
        f"{upper_bound(failed, n):.1%} of such networks raise a false alarm."
    )


def _alarm(one: Judged) -> str:
    named = ", ".join(f"`{verdict.check.id}`" for verdict in one.failed[:_NAMED_ROWS])
    more = len(one.failed) - _NAMED_ROWS
    return f"- `{one.result.id}` fails {named}" + (f" and {many(more, 'row')} more" if more > 0 else "")
