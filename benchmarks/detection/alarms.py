"""Healthy retrains: how many the gate fails, and how far a mutant that it passes is from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.detection.judgement import Judged, upper_bound
from benchmarks.detection.wording import many, percent

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAMED_ROWS = 5


def false_alarms(healthy: Sequence[Judged]) -> str:
    """Return how many healthy retrains fail, first of those measured on every row, then of all by the rows they have.

    A retrain that lacks rows cannot speak for these, so that it is never counted as one that the whole gate passes.
    """
    if not healthy:
        return "No healthy retrain is judged yet."
    whole = [one for one in healthy if not one.unmeasured]
    older = [one for one in healthy if one.unmeasured]
    parts = [_rate(whole, "measured on every row")] if whole else []
    if older:
        lacking = max(len(one.unmeasured) for one in older)
        parts.append(
            f"{many(len(older), 'more healthy retrain' if whole else 'healthy retrain')} lack up to "
            f"{many(lacking, 'row')} that the checks file has now; for these rows they prove nothing. "
            + _rate(healthy, "by the rows that each was measured on")
        )
    parts.append(
        "Thresholds are exact and one-sided (Clopper & Pearson 1934). They do not show that the rate is the one that "
        "the thresholds aim at."
    )
    alarms = [one for one in healthy if one.detected]
    if alarms:
        parts.append("\n".join(map(_alarm, alarms)))
    return "\n\n".join(parts)


def like_healthy(missed: Sequence[Judged], healthy: Sequence[Judged]) -> str:
    """Say how many come no nearer to a threshold than healthy retrains that pass, so that nothing tells them apart."""
    limit = min((one.nearest[1] for one in healthy if one.nearest), default=None)
    if limit is None:
        return ""
    alike = sum(one.nearest is not None and one.nearest[1] >= limit for one in missed)
    own = [beyond(one, [other for other in healthy if other is not one])[0] for one in healthy]
    return (
        f"Healthy retrains that pass come as near as {limit:.1f} standard deviations to a threshold. Of the "
        f"{many(len(missed), 'mutant')} that the gate passes, {alike} keep that distance, "
        f"{len(missed) - alike} do not. Such a retrain is worse than all {len(healthy) - 1} others in {min(own)} to "
        f"{max(own)} rows."
    )


def beyond(one: Judged, healthy: Sequence[Judged]) -> tuple[int, int]:
    """Return in how many rows it is worse than every healthy retrain, and of how many that both were measured on."""
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
        f"The gate fails **{failed} of {n}** healthy retrains {how} (clean accuracy {percent(min(accuracies))} to "
        f"{percent(max(accuracies))}). This proves, with 95% confidence, that no more than "
        f"{upper_bound(failed, n):.1%} of healthy retrains raise a false alarm."
    )


def _alarm(one: Judged) -> str:
    named = ", ".join(f"`{verdict.check.id}`" for verdict in one.failed[:_NAMED_ROWS])
    more = len(one.failed) - _NAMED_ROWS
    return f"- `{one.result.id}` fails {named}" + (f" and {many(more, 'row')} more" if more > 0 else "")
