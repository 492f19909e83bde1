"""Signs of a weaker model: smallest margins, rare informational checks, and all checks together."""

from __future__ import annotations

import math
from collections import defaultdict
from operator import itemgetter
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from harness.checks.families import family_in_words
from harness.checks.roles import ROLES
from harness.measures import never_judged
from harness.measures.panel.threshold import PROVISIONAL, STATED, on_scale, widened
from harness.measures.statistics import combined_p, related
from harness.report.wording import reference
from harness.run.margins import margin

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.checks import Verdict
    from harness.run.outcome import Outcome

FAR = 3.0
"""Standard deviations from which on an informational check is a sign."""
RARE, RARE_TOGETHER = 0.04, 0.01
"""Probability of a line for one more reference model: on such checks, and on all checks together.
"""
_CLOSEST, _NAMED = 3, 2
"""Families with the smallest margins, and informational checks, that are named."""


def margin_lines(outcome: Outcome) -> list[str]:
    """Return a line with the smallest margins of a run that passes, one margin for each family."""
    if outcome.verdict != "pass":
        return []

    smallest: dict[str, str] = {}
    for distance, verdict in sorted(known_margins(outcome.results.verdicts), key=itemgetter(0)):
        check = verdict.check
        smallest.setdefault(check.family, f"{check.id} {distance:.1f}")
    if not smallest:
        return []
    closest = ", ".join([*smallest.values()][:_CLOSEST])
    return [f"closest to failing: {closest} standard deviations inside the threshold"]


def signs(outcome: Outcome) -> list[str]:
    """Return lines with signs of a weaker model: two at most if the run passes, else at most one.

    A run without a verdict has none.
    """
    if outcome.verdict not in {"pass", "fail"}:
        return []

    verdicts = outcome.results.verdicts
    count, rare_checks = rare(verdicts)
    lines = []
    if rare_checks:
        lines.append(_line_of_rare_checks(count, rare_checks))
    if outcome.verdict == "pass":
        rare_ids = {verdict.check.id for _, verdict in rare_checks}
        other_verdicts = [verdict for verdict in verdicts if verdict.check.id not in rare_ids]
        lines += _line_of_all_checks(_without_stated(other_verdicts))
    return lines


def _line_of_rare_checks(count: int, rare_checks: Sequence[tuple[float, Verdict]]) -> str:
    """Return the line with the rarest of `count` informational checks."""
    descriptions = [_rare_in_words(p, verdict) for p, verdict in rare_checks[:_NAMED]]
    unnamed = len(rare_checks) - _NAMED
    more = f"; and {unnamed} more" if unnamed > 0 else ""
    return (
        f"worse than reference models among {count} informational checks: "
        f"{'; '.join(descriptions)}{more}"
    )


def _rare_in_words(p: float, verdict: Verdict) -> str:
    panel = verdict.check.panel
    reason = f"p {related(p)}"
    if panel is not None and not _is_rare(p, verdict):
        reason = f"beyond their threshold of {verdict.unit.format(panel.threshold)}"
    measured = f"{verdict.check.id} {verdict.unit.format(verdict.value or 0.0)}"
    distance = f"{deviation(verdict):.1f} standard deviations"
    return f"{measured}, reference models {reference(verdict)} ({distance}, {reason})"


def probability(verdict: Verdict) -> float:
    """Return the probability that one more reference model is at least as bad on a check.

    It is the tail of Student's t distribution with K - 1 degrees of freedom, on the scale of the
    check. It is 1 without the values of two or more reference models.
    """
    from scipy.stats import t

    distance = deviation(verdict)
    models = _reference_models(verdict)
    if distance is None or models <= 1:
        return 1.0
    return float(t.sf(distance / widened(models), models - 1))


def _reference_models(verdict: Verdict) -> int:
    """Return the number of reference models of a check, 0 if it is unknown."""
    panel = verdict.check.panel
    if panel is None:
        return 0
    return panel.reference_models or 0


def known_margins(verdicts: Sequence[Verdict]) -> list[tuple[float, Verdict]]:
    """Return the margins in standard deviations of reference models, each with its verdict.

    Verdicts without such a margin, and those on preconditions, are left out.
    """
    margins = []
    for verdict in verdicts:
        if ROLES[verdict.check.role].precondition:
            continue
        panel = verdict.check.reference
        if not panel or not panel.std:
            continue
        distance = margin(verdict)
        if distance is not None:
            margins.append((distance, verdict))
    return margins


def deviation(verdict: Verdict) -> float | None:
    """Return how far a value is on the bad side of the mean of the reference models.

    The unit is their standard deviation, on the scale of the check. None if the values of the
    reference models are unknown, and for a check of a precondition.
    """
    panel = verdict.check.panel
    if verdict.value is None or panel is None:
        return None

    mean, std = panel.mean, panel.std
    if verdict.scale == "root":
        mean, std = panel.root_mean, panel.root_std
    if mean is None or not std or ROLES[verdict.check.role].precondition:
        return None

    value = float(on_scale(np.asarray(verdict.value), verdict.scale))
    distance = (value - mean) / std
    if not math.isfinite(distance):
        return None
    return distance if verdict.check.direction == "at_most" else -distance


def rare(verdicts: Sequence[Verdict]) -> tuple[int, list[tuple[float, Verdict]]]:
    """Return the number of informational checks, and those that chance hardly explains.

    Each of those has its p-value, which allows for their number. With few reference models, a
    p-value is large for any value, because it follows from the spread of their own values alone.
    Their threshold follows from more, so a value beyond it counts, too.
    """
    informational = [verdict for verdict in verdicts if verdict.status == "informational"]
    candidates = [
        verdict for verdict in _without_stated(informational) if deviation(verdict) is not None
    ]
    p_values = [(probability(verdict) * len(candidates), verdict) for verdict in candidates]
    p_values.sort(key=itemgetter(0))
    return len(candidates), [(p, verdict) for p, verdict in p_values if _is_sign(p, verdict)]


def _without_stated(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Return the verdicts without those that are informational by a setting of the project."""
    return [verdict for verdict in verdicts if not verdict.check.informational.startswith(STATED)]


def _is_sign(p: float, verdict: Verdict) -> bool:
    if never_judged(verdict.metric):  # Its tail is heavier than a threshold allows for.
        return _is_beyond(verdict, times=2)
    return _is_rare(p, verdict) or _is_beyond(verdict)


def _is_rare(p: float, verdict: Verdict) -> bool:
    return p <= RARE and (deviation(verdict) or 0) >= FAR


def _is_beyond(verdict: Verdict, *, times: int = 1) -> bool:
    """Return whether an informational check is beyond the threshold of its reference models.

    Fewer than three reference models have no threshold here.

    Args:
        verdict: The verdict on the check.
        times: Factor of the distance from the mean of the reference models to the threshold.
    """
    check, panel, value = verdict.check, verdict.check.panel, verdict.value
    if panel is None or value is None or _reference_models(verdict) < PROVISIONAL:
        return False

    has_other_images = panel.n not in {None, verdict.n}
    has_shorter_search = "within" in check.keys
    has_test = check.significance is not None
    if has_other_images or has_shorter_search or has_test:
        return False  # The threshold is not for this measurement.

    mean = panel.threshold if panel.mean is None else panel.mean
    threshold = panel.threshold + (times - 1) * (panel.threshold - mean)
    return not check.holds(value, threshold)


def _line_of_all_checks(verdicts: Sequence[Verdict]) -> list[str]:
    """Return a line if all checks together are rare, by the combination of their probabilities.

    Families weigh the same. The combination needs no correlations, which few reference models do
    not determine.
    """
    families = _deviations_by_family(verdicts)
    if len(families) <= 1:
        return []

    p_values, weights = [], []
    for checks in families.values():
        for p, _ in checks:
            p_values.append(p)
            weights.append(1 / len(checks))
    together = combined_p(p_values, weights)
    if together > RARE_TOGETHER:
        return []

    worst = ", ".join(_worst_families(families))
    means = f"; mostly {worst} standard deviations, means of a family's checks" if worst else ""
    return [
        f"worse than reference models over {len(p_values)} checks together: "
        f"p {related(together)}{means}"
    ]


def _deviations_by_family(verdicts: Sequence[Verdict]) -> dict[str, list[tuple[float, float]]]:
    """Return the probability and the deviation of each check that counts, by family.

    A threshold by hand says that the spread of reference models does not count, so its check is
    left out.
    """
    families: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for verdict in verdicts:
        if verdict.check.by_hand or never_judged(verdict.metric):
            continue
        distance = deviation(verdict)
        if distance is not None and _reference_models(verdict) > 1:
            families[verdict.check.family].append((probability(verdict), distance))
    return families


def _worst_families(families: Mapping[str, Sequence[tuple[float, float]]]) -> list[str]:
    """Return the rarest families that are worse on average, each with its mean deviation."""
    combinations = []
    for name, checks in families.items():
        p_values, deviations = zip(*checks, strict=True)
        p = combined_p(p_values, [1] * len(checks))
        combinations.append((p, fmean(deviations), name))

    rarest = sorted(combinations)[:_CLOSEST]
    return [f"{family_in_words(name)} {mean:+.1f}" for _, mean, name in rarest if mean > 0]
