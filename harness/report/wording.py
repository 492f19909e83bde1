"""Words of the report: what a check shows, and the meaning of each term."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.base.errors import printable
from harness.checks.families import FAMILIES, family_title
from harness.checks.wording import excused, missed, numbers
from harness.measures import METRICS, Unit
from harness.measures.statistics import Z95, Z95_ONE_SIDED
from harness.perturb import IDENTITY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.checks import Verdict
    from harness.measures import Metric
    from harness.run.outcome import Outcome


_PERCENT = {Unit.SHARE, Unit.DIFFERENCE}
_SMALLEST_SPREAD = 0.0005
"""Smallest standard deviation of shares that is not 0.0 points."""
SIGNS = {
    "pass": "✓ passes",
    "fail": "✗ fails",
    "error": "✗ error",
    "inconclusive": "? inconclusive",
    "informational": "informational",
    "not_applicable": "not applicable",
}


def candidate_name(outcome: Outcome) -> str:
    """Return the name of the candidate's file without its folders.

    Empty where the run has no candidate.
    """
    candidate = outcome.inputs.models.get("candidate")
    return printable(candidate["path"].rstrip("/").rpartition("/")[2]) if candidate else ""


def points(difference: float) -> str:
    """Return a difference of shares in percentage points, with its sign."""
    return f"{100 * difference:+.1f}".replace("-", "−")


def non_inferiority(verdict: Verdict) -> str:
    """Return whether a passing change excludes a loss beyond the margin.

    Else return how many images would. The margin is the threshold. The bound is one-sided, at 95%
    confidence, by the interval of the flips.
    """
    flips, threshold = verdict.flips, verdict.threshold
    if verdict.status != "pass" or not flips or not threshold or threshold > 0:
        return ""
    net, margin = flips["net"], -threshold
    error = Z95_ONE_SIDED * (net - flips["interval"][0]) / Z95
    loss = max(error - net, 0.0)
    if loss <= margin:
        return (
            f"; at 95% confidence it loses at most {100 * loss:.1f} points, less than the margin "
            f"of {100 * margin:g}"
        )
    possible = f"a loss of up to {100 * loss:.1f} points cannot be excluded at 95% confidence"
    said = f"; {possible}, the margin is {100 * margin:g}"
    if net <= -margin:
        return said
    needed = verdict.n * (error / (net + margin)) ** 2 - verdict.n
    return f"{said}: about {_two_digits(needed):,} more labeled images would decide"


def _two_digits(number: float) -> int:
    unit = int(10 ** max(len(str(round(number))) - 2, 0))
    return math.ceil(number / unit) * unit


def case(verdict: Verdict) -> str:
    """Return what a check is about, within its family; its id where nothing else is known."""
    check = verdict.check
    parts = [check.class_name or "", *check.words, verdict.about]
    if check.pose != IDENTITY:
        parts.append(check.pose.in_words())
    return ", ".join(filter(None, parts)) or (
        "all images" if check.family in FAMILIES else check.id
    )


def measured_and_required(verdict: Verdict) -> tuple[str, str]:
    """Return the measured and the required value as text.

    Different numbers never have the same text.
    """
    minus = "−" if verdict.unit is Unit.DIFFERENCE else "-"
    value, limit = (each.replace("-", minus) for each in numbers(verdict))
    significance = verdict.check.significance
    chance = "" if significance is None else f", or p ≥ {significance:g}"
    return (
        value,
        limit and f"{'≤' if verdict.check.direction == 'at_most' else '≥'} {limit}{chance}",
    )


def reference(verdict: Verdict) -> str:
    """Return what reference models reach, as mean ± standard deviation.

    Empty where nobody knows.
    """
    known = verdict.check.reference
    if known is None or known.mean is None or known.std is None:
        return ""
    share = verdict.n / known.n if known.n else verdict.check.conditions.share
    if verdict.unit is Unit.IMAGES and verdict.check.conditions.share != 1 and share != 1:
        return verdict.unit.format(known.mean * share)
    spread = f"{known.std:.2g}"
    if verdict.unit in _PERCENT:
        spread = (
            f"{100 * known.std:.1f}" if known.std == 0 or known.std >= _SMALLEST_SPREAD else "<0.1"
        )
    return f"{verdict.unit.format(known.mean)} ± {spread}"


def significantly_more(mine: float, theirs: float) -> bool:
    """Return whether a count is significantly larger than another one.

    It is if the difference exceeds 1.96 standard deviations of two Poisson counts. Their sum
    estimates its variance.
    """
    return mine - theirs > Z95 * math.sqrt(mine + theirs)


def of_candidate(verdicts: Sequence[Verdict], metric: Metric) -> list[Verdict]:
    """Return the verdicts on the candidate with a value of this metric.

    Their checks have no other keys than pose and class.
    """
    return [
        each
        for each in verdicts
        if (each.check.role, each.metric) == ("candidate", metric.name)
        and each.value is not None
        and not any(value is not None for value in each.check.keys.values())
    ]


def _detectable_drop(verdict: Verdict) -> float | None:
    """Return the minimum detectable drop; None without one, and for one that no model can lose."""
    known, metric = verdict.check.reference, METRICS.get(verdict.metric)
    drop = known.minimum_detectable_drop if known else None
    if known is None or drop is None or known.mean is None or metric is None:
        return drop
    largest_loss = abs(metric.worst(known.n or verdict.n) - known.mean)
    return drop if drop <= largest_loss else None


def row_of(verdict: Verdict) -> dict[str, Any]:
    """Return what a page shows of a check, by column; pairs are a text and its number."""
    check, known = verdict.check, verdict.check.reference
    measured, required = measured_and_required(verdict)
    drop = _detectable_drop(verdict)
    unit = Unit.DIFFERENCE if verdict.unit is Unit.SHARE else verdict.unit
    why = check.informational if verdict.status == "informational" else ""
    return {
        "id": check.id,
        "about": explained(check.family),
        "behavior": family_title(check.family),
        "case": case(verdict),
        "status": verdict.status,
        "worse": not verdict.passed,
        "sign": SIGNS[verdict.status],
        "measured": (measured, verdict.value),
        "threshold": (required, verdict.threshold),
        "direction": "" if verdict.threshold is None else check.direction or "at_least",
        "missed": missed(verdict),
        "reference": (reference(verdict), known.mean if known else None),
        "minimum_detectable_drop": (
            "" if drop is None else unit.told_apart(drop, 0.0)[0].removeprefix("+"),
            drop,
        ),
        "n": (f"{verdict.out_of:,}", verdict.out_of) if verdict.n else ("", None),
        "detail": "; ".join(filter(None, (excused(verdict), verdict.detail, why))),
    }


def explained(name: str) -> str:
    """Return the anchor of what is said about a family of checks; empty where nothing is."""
    return f"about-{name}" if name in FAMILIES else ""


def terms() -> Mapping[str, tuple[str, str]]:
    """Return the terms of the page, each with its name and its meaning, by their anchor.

    An anchor is `word-` and the key.
    """
    return tomllib.loads((Path(__file__).parent / "templates/terms.toml").read_text("utf-8"))
