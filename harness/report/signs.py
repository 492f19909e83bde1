"""Signs of a weaker model: the smallest margins, rare informational checks, and all checks together."""

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
    from collections.abc import Sequence

    from harness.checks import Verdict
    from harness.run.outcome import Outcome

FAR = 3.0
"""Standard deviations from which on an informational check is a sign."""
RARE, RARE_TOGETHER = 0.04, 0.01
"""Probability for one more reference model of a line of such checks, and of the line of all checks together."""
_CLOSEST, _NAMED = 3, 2
"""Families with the smallest margins, and informational checks, that are named."""


def margin_lines(outcome: Outcome) -> list[str]:
    """Return a line with the smallest margin of each family of a run that passes; none for other runs."""
    closest: dict[str, str] = {}
    for away, verdict in sorted(known_margins(outcome.results.verdicts), key=itemgetter(0)):
        closest.setdefault(verdict.check.family, f"{verdict.check.id} {away:.1f}")
    if outcome.verdict != "pass" or not closest:
        return []
    named = ", ".join([*closest.values()][:_CLOSEST])
    return [f"closest to failing: {named} standard deviations inside the threshold"]


def signs(outcome: Outcome) -> list[str]:
    """Return at most two lines with signs of a weaker model in a run that passes, one for a run that fails."""
    if outcome.verdict not in {"pass", "fail"}:
        return []
    looked_at, found = rare(outcome.results.verdicts)
    said = []
    for p, verdict in found[:_NAMED]:
        panel, why = verdict.check.panel, f"p {related(p)}"
        if panel is not None and not _is_rare(p, verdict):
            why = f"beyond their threshold of {verdict.unit.format(panel.threshold)}"
        measured = f"{verdict.check.id} {verdict.unit.format(verdict.value or 0.0)}"
        away = f"{deviation(verdict):.1f} standard deviations"
        said.append(f"{measured}, reference models {reference(verdict)} ({away}, {why})")
    more = f"; and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    lines = [
        f"worse than reference models among {looked_at} informational checks: {'; '.join(said)}{more}"
    ]
    named = {verdict.check.id for _, verdict in found}
    others = [verdict for verdict in outcome.results.verdicts if verdict.check.id not in named]
    rest = _without_stated(others)
    return [*(lines if found else []), *(_together(rest) if outcome.verdict == "pass" else [])]


def probability(verdict: Verdict) -> float:
    """Return the probability that one more reference model is at least as bad on a check.

    It is the tail of Student's t distribution with K - 1 degrees of freedom, on the scale of the check. 1 where the
    values of two or more reference models are not known.
    """
    from scipy.stats import t

    away, models = deviation(verdict), verdict.check.panel and verdict.check.panel.reference_models
    if away is None or not models or models == 1:
        return 1.0
    return float(t.sf(away / widened(models), models - 1))


def known_margins(verdicts: Sequence[Verdict]) -> list[tuple[float, Verdict]]:
    """Return the margins of the verdicts that have one in standard deviations of reference models, in their order."""
    return [
        (away, verdict)
        for verdict in verdicts
        if not ROLES[verdict.check.role].precondition
        if (panel := verdict.check.reference) and panel.std
        if (away := margin(verdict)) is not None
    ]


def deviation(verdict: Verdict) -> float | None:
    """Return how far a value is on the bad side of the reference models, in standard deviations, on its check's scale.

    None where the values of the reference models are not known, and for a check of a precondition.
    """
    panel = verdict.check.panel
    if verdict.value is None or panel is None:
        return None
    root = verdict.scale == "root"
    mean, std = (panel.root_mean, panel.root_std) if root else (panel.mean, panel.std)
    if mean is None or not std or ROLES[verdict.check.role].precondition:
        return None
    away = (float(on_scale(np.asarray(verdict.value), verdict.scale)) - mean) / std
    if not math.isfinite(away):
        return None
    return away if verdict.check.direction == "at_most" else -away


def rare(verdicts: Sequence[Verdict]) -> tuple[int, list[tuple[float, Verdict]]]:
    """Return the number of informational checks, and those that chance hardly explains with their p-values.

    A p-value allows for their number. With few reference models, it is large for any value, since it knows only the
    spread of their own values. Their threshold knows more, so a value beyond it counts, too.
    """
    informational = [verdict for verdict in verdicts if verdict.status == "informational"]
    looked_at = [
        verdict for verdict in _without_stated(informational) if deviation(verdict) is not None
    ]
    found = sorted(
        ((probability(verdict) * len(looked_at), verdict) for verdict in looked_at),
        key=itemgetter(0),
    )
    return len(looked_at), [(p, each) for p, each in found if _is_sign(p, each)]


def _without_stated(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Return the verdicts without those that are informational by a setting of the project."""
    return [verdict for verdict in verdicts if not verdict.check.informational.startswith(STATED)]


def _is_sign(p: float, verdict: Verdict) -> bool:
    if never_judged(verdict.metric):  # Its tail is heavier than a threshold allows for.
        return _beyond(verdict, times=2)
    return _is_rare(p, verdict) or _beyond(verdict)


def _is_rare(p: float, verdict: Verdict) -> bool:
    return p <= RARE and (deviation(verdict) or 0) >= FAR


def _beyond(verdict: Verdict, *, times: int = 1) -> bool:
    """Return whether an informational check is beyond the threshold of three or more reference models.

    It is the threshold that lies so many `times` as far from their mean.
    """
    panel, value = verdict.check.panel, verdict.value
    if panel is None or value is None or (panel.reference_models or 0) < PROVISIONAL:
        return False
    if (
        panel.n not in {None, verdict.n}
        or "within" in verdict.check.keys
        or verdict.check.significance is not None
    ):
        return False  # A threshold for other images, for a shorter search, or together with a test.
    mean = panel.threshold if panel.mean is None else panel.mean
    return not verdict.check.holds(value, panel.threshold + (times - 1) * (panel.threshold - mean))


def _together(verdicts: Sequence[Verdict]) -> list[str]:
    """Return a line if all checks together are rare, by the combination of their probabilities.

    A threshold by hand says that the spread of reference models does not count, so its check is left out. Families
    weigh the same. The combination needs no correlations, which few reference models do not determine.
    """
    families: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for verdict in verdicts:
        away, models = (
            deviation(verdict),
            verdict.check.panel and verdict.check.panel.reference_models,
        )
        judged = not (verdict.check.by_hand or never_judged(verdict.metric))
        if away is not None and models and models > 1 and judged:
            families[verdict.check.family].append((probability(verdict), away))
    rows = [(p, 1 / len(of_family)) for of_family in families.values() for p, _ in of_family]
    if len(families) <= 1 or (p := combined_p(*zip(*rows, strict=True))) > RARE_TOGETHER:
        return []
    of_each = []
    for name, each in families.items():
        values, deviations = zip(*each, strict=True)
        of_each.append((combined_p(values, [1] * len(each)), fmean(deviations), name))
    named = ", ".join(
        f"{family_in_words(name)} {mean:+.1f}"
        for _, mean, name in sorted(of_each)[:_CLOSEST]
        if mean > 0
    )
    means = f"; mostly {named} standard deviations, means of a family's checks" if named else ""
    return [f"worse than reference models over {len(rows)} checks together: p {related(p)}{means}"]
