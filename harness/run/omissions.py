"""Omissions of a run: the parts that it did not cover, each of which makes its verdict partial."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.base.errors import some_of
from harness.checks.families import families_in_words, family_in_words
from harness.checks.roles import ROLES
from harness.run.results import binding_checks_without_incumbent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.checks import Check, Verdict
    from harness.run.session import StressSession
    from harness.run.tally import Tally

MAX_FAMILIES_NAMED = 20
"""Families that a line names."""


def omissions_of(
    tally: Tally, verdicts: Sequence[Verdict], session: StressSession
) -> tuple[str, ...]:
    """Return the parts that a run did not cover, a sentence each."""
    rows = _rows_of(session)
    return (
        *_unmeasured(rows, [verdict.check for verdict in verdicts]),
        *_self_checks_left_out(tally, session),
        *_candidate_not_judged(verdicts, session),
        *_measured_on_other_images(verdicts, session),
        *_without_panel_predictions(verdicts),
        *_without_recorded_predictions(rows, session),
        *_without_incumbent(verdicts, session),
        *_undecided(verdicts, session),
        *_sampled_families(verdicts, session),
        *_sampled_images(session),
    )


def _rows_of(session: StressSession) -> list[Check]:
    """Return the checks that the run was to measure: one if it stopped, or else all."""
    stopped = session.scope.stopped
    if stopped is None:
        return [*session.checks.checks]
    return [check for check in session.checks.checks if check.id == stopped[0]]


def _unmeasured(rows: Sequence[Check], measured: Sequence[Check]) -> list[str]:
    definitions = {check.definition for check in measured}
    missing = [check for check in rows if check.definition not in definitions]
    if not missing:
        return []
    names = some_of([check.id for check in missing])
    text = f"{len(missing)} of {len(rows)} checks did not run: {names}"
    measured_families = {check.family for check in measured}
    missing_families = dict.fromkeys(check.family for check in missing)
    untested = [family for family in missing_families if family not in measured_families]
    if untested:
        families = families_in_words(untested, shown=MAX_FAMILIES_NAMED)
        text += f"; families without a test: {families}"
    return [text]


def _self_checks_left_out(tally: Tally, session: StressSession) -> list[str]:
    if tally.interrupted:
        return ["the run was interrupted, and did not check itself"]
    if not tally.findings.self_checks and not session.scope.recording:
        return ["the run did not check itself"]
    return []


def _candidate_not_judged(verdicts: Sequence[Verdict], session: StressSession) -> list[str]:
    judged = [verdict.check for verdict in verdicts if verdict.judged or verdict.is_open]
    if all(ROLES[check.role].precondition for check in judged):
        return [f"no threshold of {session.checks.path} judged the candidate"]
    return []


def _measured_on_other_images(verdicts: Sequence[Verdict], session: StressSession) -> list[str]:
    names = [verdict.check.id for verdict in verdicts if _has_other_images(verdict, session)]
    if not names:
        return []
    return [
        f"other images than their thresholds are made for: {some_of(names)}; calibrate them anew"
    ]


def _has_other_images(verdict: Verdict, session: StressSession) -> bool:
    """Return whether a check was measured on other images than its threshold was made for.

    Runs that measure samples on purpose are left out here. Only the thorough profile may measure
    more images than the threshold was made for. As many images of another draw are others, too.
    """
    check = verdict.check
    threshold = check.binding
    if threshold is None or not threshold.n or verdict.threshold is None:
        return False
    if session.share != 1 or check.conditions.share != 1:
        return False

    sample = None
    if verdict.sampling is not None and session.has_votes:
        sample = session.checks.data.by_panel(check.family)
    sample_name = sample.named if sample else ""
    if not check.by_hand and threshold.sample != sample_name:
        return True
    if verdict.n > threshold.n:
        return not session.scope.thorough
    return verdict.n < threshold.n


def _without_panel_predictions(verdicts: Sequence[Verdict]) -> list[str]:
    lacking = [verdict.check for verdict in verdicts if verdict.lacking]
    names = [check.id for check in lacking if check.binding]
    if not names:
        return []
    return [
        "thresholds that need panel predictions, which do not exist for these images: "
        f"{some_of(names)}; calibrate them anew"
    ]


def _without_recorded_predictions(rows: Sequence[Check], session: StressSession) -> list[str]:
    exported_families = session.scope.answered
    if not exported_families:
        return []
    other_families = sorted({check.family for check in rows} - set(exported_families))
    if not other_families:
        return []
    exported = families_in_words(exported_families, shown=MAX_FAMILIES_NAMED)
    missing = families_in_words(other_families, shown=MAX_FAMILIES_NAMED)
    return [f"recorded predictions were exported for {exported} alone; not measured: {missing}"]


def _without_incumbent(verdicts: Sequence[Verdict], session: StressSession) -> list[str]:
    names = binding_checks_without_incumbent(verdicts)
    if session.waived or not names:
        return []
    return [
        f"no incumbent is declared or waived, so {len(names)} checks with a threshold have no "
        f"verdict: {some_of(names)}. Accept a model (`stress-harness accept`), name one with "
        "--incumbent, or use --incumbent none."
    ]


def _undecided(verdicts: Sequence[Verdict], session: StressSession) -> list[str]:
    names = [verdict.check.id for verdict in verdicts if verdict.is_open]
    if not names:
        return []
    sample = "[data.samples] of its family" if session.share == 1 else "--stress-samples"
    return [
        f"thresholds by hand that this sample is too small to decide: {some_of(names)}. Measure "
        f"more images, or all of them without {sample}"
    ]


def _sampled_families(verdicts: Sequence[Verdict], session: StressSession) -> list[str]:
    if session.share != 1:
        return []
    shares = {}
    for verdict in verdicts:
        share = verdict.check.conditions.share
        if share < 1:
            shares[verdict.check.family] = share
    if not shares:
        return []
    names = [f"{family_in_words(family)} ({share:.0%})" for family, share in shares.items()]
    return [
        "to fit into the time given, some families were measured on a share of their images: "
        f"{some_of(names, shown=MAX_FAMILIES_NAMED)}; `stress-harness calibrate --budget` makes "
        "thresholds for samples that fit"
    ]


def _sampled_images(session: StressSession) -> list[str]:
    if session.share == 1 or session.scope.stopped is not None:
        return []
    made_for = session.checks.data
    text = f"{len(session.images)} of {made_for.n} images were measured"
    if made_for.sample is not None:
        text += f"; the checks are made for a sample of {made_for.measured}"
    return [text]
