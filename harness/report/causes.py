"""Likely cause of the failures of a run.

It follows from the failing checks and their deviations from reference models. The rules are simple,
stated, and measured on mutants: see `benchmarks/causes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from harness.checks.families import FAMILIES
from harness.checks.roles import ROLES
from harness.report.cause_classes import never_predicted
from harness.report.cause_evidence import CauseEvidence, FailingCheck, area_of, own_areas
from harness.report.cause_rules import (
    COMPARE_PIXELS,
    LOOK_FOR_CLASS,
    MISSING,
    PIPELINE,
    RULES,
    SURELY_BETTER,
    UNCLEAR,
    by_count,
    expects_other_pixels,
)
from harness.report.signs import FAR

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.base.features import Family
    from harness.checks import Verdict
    from harness.run.findings import InputFaults
    from harness.run.overview import Overview

Shown: TypeAlias = tuple[str, str, str]
"""A group, the evidence for it, and the next step."""


@dataclass(frozen=True)
class Cause:
    """Likely cause of failures.

    A group, the evidence for it, the next step, and the failing checks by area.

    `counted` is text, such as `geometry 37 of 55, classes 3 of 25`.
    """

    group: str
    evidence: str
    advice: str
    counted: str

    @property
    def sentence(self) -> str:
        """Return group and evidence as one line."""
        return f"Likely cause: {self.group}. {self.evidence}"


def likely_cause(
    verdicts: Sequence[Verdict],
    faults: InputFaults | None = None,
    overview: Overview | None = None,
) -> Cause | None:
    """Return the likely cause of what fails, the group `unclear` if no rule holds.

    None if no check fails.

    Only failing checks count, none that are informational. `faults` are the input faults that the
    run tried, and `overview` has the candidate's predictions by class.
    """
    on_candidate = [verdict for verdict in verdicts if not ROLES[verdict.check.role].precondition]
    judged = [area_of(verdict) for verdict in on_candidate if verdict.judged]
    failing = [area_of(verdict) for verdict in on_candidate if verdict.status == "fail"]
    if not failing:
        return None
    counted = ", ".join(
        f"{area} {failing.count(area)} of {judged.count(area)}" for area in by_count(failing)
    )
    own = {area: family for area, family in own_areas().items() if area in failing}
    evidence = CauseEvidence(on_candidate, overview)
    shown = (
        _shown_by_pixels(faults)
        or _shown_by_classes(evidence)
        or _shown_by_family(evidence)
        or _shown_by_rule(evidence, own)
        or _shown_by_rest(own, on_candidate)
    )
    return Cause(*shown, counted)


def _shown_by_pixels(faults: InputFaults | None) -> Shown | None:
    if faults is None or not faults.explain:
        return None
    shares = (
        f"{faults.correct_with / faults.n:.1%} with {faults.best}, "
        f"{faults.correct / faults.n:.1%} without"
    )
    images = f"{faults.n:,} images that reference models predict correctly"
    return PIPELINE, f"{shares}: the pixels, not the weights ({images}).", COMPARE_PIXELS


def _shown_by_classes(evidence: CauseEvidence) -> Shown | None:
    missing = never_predicted(evidence)
    return (MISSING, missing, LOOK_FOR_CLASS) if missing else None


def _shown_by_family(evidence: CauseEvidence) -> Shown | None:
    """Return the cause that the checks of one family show.

    None if corruptions show that other pixels are expected.
    """
    if expects_other_pixels(evidence, by=SURELY_BETTER):
        return None
    for family in FAMILIES.values():
        shown = family.cause(evidence.verdicts) if family.cause else None
        if shown:
            return tuple(shown)
    return None


def _shown_by_rule(evidence: CauseEvidence, own: Mapping[str, Family]) -> Shown | None:
    for group, advice, rule in RULES:
        words = rule(evidence)
        if words:
            aside = "".join(f" Left aside are failing checks of {area}." for area in own)
            return group, f"{words}{aside}", advice
    return None


def _shown_by_rest(own: Mapping[str, Family], verdicts: Sequence[Verdict]) -> Shown:
    """Return the cause where no rule holds.

    An area of its own that fails clearly or alone, or none.
    """
    failing = [FailingCheck.of(verdict) for verdict in verdicts if verdict.status == "fail"]
    for area, family in own.items():
        alone = all(check.area == area for check in failing)
        if alone or any(check.area == area and check.miss >= FAR for check in failing):
            others = "no others" if alone else "no rule explains the others"
            return area, f"Checks of {area} fail, and {others}.", family.failure
    return UNCLEAR, "No rule explains the checks that fail.", "Look at the checks one by one."
