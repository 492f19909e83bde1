"""The outcome of a run, from what its tests reported and from its session."""

from __future__ import annotations

import shlex
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.base.errors import InputError
from harness.base.features import missing_feature
from harness.base.records import as_plain
from harness.checks.families import families_in_words
from harness.checks.known import read_known
from harness.run.environment import environment_of
from harness.run.notices import notices_of, remarks_of, stop_notice
from harness.run.omissions import MAX_FAMILIES_NAMED, omissions_of
from harness.run.outcome import Outcome, RunFacts, RunInputs
from harness.run.results import Results
from harness.run.status import versions

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.checks import ChecksFile, Verdict
    from harness.checks.known import KnownIssue
    from harness.run.session import StressSession
    from harness.run.tally import Tally


def outcome_of(
    tally: Tally,
    session: StressSession,
    *,
    profile: str,
    command: Sequence[str],
    run: str = "",
    default: ChecksFile | None = None,
) -> Outcome:
    """Return the outcome of a run, with its verdicts in the order of the checks file.

    Args:
        tally: What the tests reported.
        session: The session of the run.
        profile: The profile of the run.
        command: The command line of the run.
        run: The id of the run.
        default: The checks file of the default profile, with which the outcome compares checks that
            are made for a sample.
    """
    checks = session.checks
    measured = _in_order(tally.verdicts.values(), checks)
    verdicts = _in_order([*measured, *_of_missing_features(tally, session)], checks)
    run_facts = RunFacts(
        command=shlex.join(command),
        profile=profile,
        versions=versions(),
        id=run,
        folder=_working_folder(),
        day=datetime.now(UTC).date(),
        scope=_scope(checks, default),
        stopped=stop_notice(session),
        environment=environment_of(session),
    )
    inputs = RunInputs(
        models={role: model.as_json() for role, model in session.roles.items()},
        data=_data_of(session),
        recipe=checks.recipe,
        checks_sha256=checks.sha256,
        provenance=_provenance(session),
        known=_known_issues(checks),
    )
    results = Results(
        verdicts=verdicts,
        errors=tally.reasons,
        omissions=omissions_of(tally, measured, session),
        failed_tests=tuple(tally.failed_tests),
        tests=tally.listed_tests,
        notices=notices_of(session, verdicts, known=inputs.known, day=run_facts.day),
        remarks=remarks_of(session, verdicts),
        costs=tally.costs(measured),
    )
    outcome = Outcome(run_facts, inputs, results, tally.findings, tally.parts)
    if outcome.fails_in_earnest:
        return outcome
    return _with_failed_self_checks(outcome)


def _in_order(verdicts: Iterable[Verdict], checks: ChecksFile) -> tuple[Verdict, ...]:
    """Return the verdicts in the order of the checks file; checks it does not have come last."""
    positions = {check.id: position for position, check in enumerate(checks.checks)}

    def place(verdict: Verdict) -> tuple[int, str]:
        check_id = verdict.check.id
        return positions.get(check_id, len(positions)), check_id

    return tuple(sorted(verdicts, key=place))


def _of_missing_features(tally: Tally, session: StressSession) -> list[Verdict]:
    """Return verdicts on rows that no test measures, because their feature is not there.

    The rows count as not measured, so the run is partial.
    """
    if session.scope.stopped is not None or session.scope.recording:
        return []
    verdicts = []
    for check in session.checks.checks:
        feature = missing_feature(check.family)
        if feature and check.id not in tally.verdicts:
            reason = f"the feature {feature} is not there (harness/features/{feature})"
            verdicts.append(check.unjudged("not_applicable", reason))
    return verdicts


def _with_failed_self_checks(outcome: Outcome) -> Outcome:
    """Return an outcome whose errors have the reasons of failed self-checks."""
    errors = outcome.results.errors
    for check in outcome.findings.unsound:
        # A test may have reported the error because of which the self-checks could not run.
        is_reported = bool(check.cause) and any(check.cause in error for error in errors)
        if not is_reported:
            errors += (check.reason,)
    return replace(outcome, results=replace(outcome.results, errors=errors))


def _known_issues(checks: ChecksFile) -> tuple[KnownIssue, ...]:
    """Return the known issues; none if their file has become unreadable since the run began.

    They change no verdict.
    """
    try:
        return read_known(checks)
    except InputError:
        return ()


def _working_folder() -> str:
    try:
        return str(Path.cwd())
    except OSError:  # It may have been removed during the run.
        return ""


def _data_of(session: StressSession) -> dict[str, Any]:
    images = session.images
    return {
        "name": images.name,
        "split": images.split,
        "sha256": session.checks.data.sha256,
        "n": len(images),
        "classes": list(images.classes),
        "pipeline": _reference_pipeline(session),
        **as_plain(images.domain),
    }


def _reference_pipeline(session: StressSession) -> str:
    from harness.data.serving import serving_of
    from harness.inference.serving import normalization_of

    candidate = session.roles.get("candidate")
    try:
        normalization = normalization_of(candidate) if candidate else None
        return str(serving_of(session.images, normalization).reference)
    except InputError:  # The files may be gone by now, and the run is judged already.
        return session.images.pipeline


def _provenance(session: StressSession) -> str:
    """Return the origin of the reference models, and whether the candidate has their recipe."""
    recipe = session.checks.recipe
    has_panel = any(check.panel for check in session.checks.checks)
    if not recipe and not has_panel:
        return "by hand; there is no reference panel yet"

    about = str(recipe.get("about", "of unknown origin"))
    panel_training = recipe.get("training")
    record = session.roles["candidate"].record
    candidate_training = record.training if record else None
    if not panel_training or not candidate_training:
        return f"{about}; whether the candidate's recipe is theirs is not known"

    differing = []
    for name, value in sorted(panel_training.items()):
        if name != "seed" and candidate_training.get(name) != value:
            differing.append(name)
    if differing:
        return f"{about}; the candidate's recipe is another (it differs in {', '.join(differing)})"
    return f"{about}; the candidate's recipe is the same"


def _scope(checks: ChecksFile, default: ChecksFile | None) -> str:
    """Return what a complete run of checks that are made for a sample leaves out."""
    if checks.data.sample is None:
        return ""
    count = len(checks.checks)
    images = f"{checks.data.measured} of {checks.data.n} images"
    measured = f"quick profile: {count} checks, made for a sample of {images}"
    left_out = "the comparison of the models"
    if default is not None:
        left_out = f"{_checks_left_out(checks, default)} and {left_out}"
        default_ids = {check.id for check in default.checks}
        own_ids = {check.id for check in checks.written} - default_ids
        if own_ids:
            left_out += f"; of this profile alone: {len(own_ids)} of its {count}"
    return f"{measured}; left out are {left_out}"


def _checks_left_out(checks: ChecksFile, default: ChecksFile) -> str:
    """Return how many checks of the default profile these leave out, and which families."""
    other_ids = {check.id for check in default.checks} - {check.id for check in checks.checks}
    text = f"{len(other_ids)} of the default profile's {len(default.checks)} checks"
    default_families = dict.fromkeys(check.family for check in default.checks)
    other_families = [family for family in default_families if not checks.family(family)]
    if not other_families:
        return text
    return f"{text} (all of {families_in_words(other_families, shown=MAX_FAMILIES_NAMED)})"
