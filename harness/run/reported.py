"""Reports of the tests of a run, from all its processes, and the outcome that follows."""

from __future__ import annotations

import shlex
from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.base.codes import Code, coded
from harness.base.errors import InputError, some_of
from harness.base.records import as_plain
from harness.checks.families import families_in_words, family_in_words
from harness.checks.known import KNOWN, read_known
from harness.checks.roles import INCUMBENT, ROLES
from harness.measures import METRICS, Unit
from harness.run.findings import Findings
from harness.run.outcome import Outcome, RunFacts, RunInputs
from harness.run.results import FamilyCost, OtherTest, Results
from harness.run.status import versions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from harness.checks import Check, ChecksFile, Verdict
    from harness.checks.known import KnownIssue
    from harness.run.feature_records import FeatureRecord
    from harness.run.session import StressSession


LONGEST = 300
"""Characters of a test's name that are shown: one with parameters may be of any length."""
MOST, _MOST_OF_ALL = 20_000, 200_000
"""Characters that the record keeps of what a test printed, and of what all of them did."""
_FAMILIES_NAMED = 20
"""Families that a line names."""


@dataclass
class Reported:
    """Gathers the reports of a run's tests; `verdicts` are by the id of the check."""

    verdicts: dict[str, Verdict] = field(default_factory=dict)
    failed_tests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    interrupted: bool = False
    findings: Findings = field(default_factory=Findings)
    parts: dict[str, FeatureRecord] = field(default_factory=dict)
    """Records of features by their keys in `stress.json`."""
    tests: list[OtherTest] = field(default_factory=list)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Seconds of all cores by family."""
    _tests: dict[str, str] = field(default_factory=dict)
    _shares: dict[str, float] = field(default_factory=dict)
    _causes: dict[tuple[str, str], dict[str, None]] = field(default_factory=dict)

    def take(self, verdict: Verdict, *, test: str) -> None:
        """Take the verdict of a test; that of a second test under the same name is an error.

        Of a test that runs again, as a plugin of retries has it, the gravest verdict counts.
        """
        row = verdict.check.id
        if (other := self._tests.setdefault(row, test)) != test:
            self._add(
                Code.TEST,
                f"{row}: two tests have a verdict of this name, {other} and {test}; name a metric in their "
                "`@check(family, metric=...)`, a family of its own for one, or the row otherwise",
            )
        family, share = verdict.check.family, verdict.check.conditions.share
        if verdict.value is not None and self._shares.setdefault(family, share) != share:
            self._add(
                Code.USAGE,
                f"{row}: workers chose other samples of family {family} to fit into the time; run the gate without "
                "workers, or calibrate with --budget",
            )
        if row not in self.verdicts or verdict.outranks(self.verdicts[row]):
            self.verdicts[row] = verdict
        if verdict.status == "error":
            cause = verdict.explain().removeprefix(f"{row}: ")
            self._causes.setdefault((verdict.code or Code.TEST, cause), {})[row] = None

    def take_failure(self, message: str, *, test: str, called: bool) -> None:
        """Take the failure of a test that has no verdict: of what it asserts when it is called, or else an error."""
        test = test if len(test) <= LONGEST else f"{test[:LONGEST]}…"
        if called and message.startswith(("AssertionError", "assert ")):
            self.failed_tests.append(test)
        else:
            self._add(Code.TEST, f"{test}: {message.splitlines()[0] if message else 'failed'}")

    @property
    def reasons(self) -> tuple[str, ...]:
        """Return why the run is inconclusive: each cause once, with the checks that met it."""
        met = self._causes.items()
        return (
            *(coded(code, f"{some_of([*rows])}: {cause}") for (code, cause), rows in met),
            *self.errors,
        )

    def _add(self, code: str, message: str) -> None:
        self.errors.append(coded(code, message))


def outcome_of(
    reported: Reported,
    session: StressSession,
    *,
    profile: str,
    command: Sequence[str],
    run: str = "",
    default: ChecksFile | None = None,
) -> Outcome:
    """Return the outcome of a run of this session: its verdicts in the order of the rows, and its omissions.

    `command` is the command line of the run, and `run` its id. `default` is the checks file of the
    default profile, with which the outcome compares checks that are made for a sample.
    """
    checks = session.checks
    rows = {check.id: position for position, check in enumerate(checks.checks)}
    verdicts = sorted(
        reported.verdicts.values(),
        key=lambda verdict: (rows.get(verdict.check.id, len(rows)), verdict.check.id),
    )
    run_facts = RunFacts(
        command=shlex.join(command),
        profile=profile,
        versions=versions(),
        id=run,
        folder=_working_folder(),
        day=datetime.now(UTC).date(),
        scope=_scope(checks, default),
        stopped="".join(_stopped(session)),
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
        verdicts=tuple(verdicts),
        errors=reported.reasons,
        omissions=tuple(_omissions(reported, verdicts, session)),
        failed_tests=tuple(reported.failed_tests),
        tests=_fitting(sorted(reported.tests, key=lambda test: test.name)),
        notices=(
            *_stopped(session),
            *_notices(session, verdicts),
            *_known_notices(inputs.known, verdicts, run_facts.day),
        ),
        remarks=_remarks(session, verdicts),
        costs=_costs(reported, verdicts),
    )
    outcome = Outcome(run_facts, inputs, results, reported.findings, reported.parts)
    return outcome if outcome.fails_in_earnest else _with_failed_self_checks(outcome)


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
    """Return the known issues; none where they are unreadable: they could be read before, and change no verdict."""
    try:
        return read_known(checks)
    except InputError:
        return ()


def _working_folder() -> str:
    try:
        return str(Path.cwd())
    except OSError:  # It may be gone.
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


def _provenance(session: StressSession) -> str:
    """Return the origin of the reference models, and whether the candidate has their recipe."""
    recipe = session.checks.recipe
    if not recipe and not any(check.panel for check in session.checks.checks):
        return "by hand; there is no reference panel yet"
    about = str(recipe.get("about", "of unknown origin"))
    of_panel = recipe.get("training")
    record = session.roles["candidate"].record
    of_candidate = record.training if record else None
    if not of_panel or not of_candidate:
        return f"{about}; whether the candidate's recipe is theirs is not known"
    settings = [name for name in of_panel if name != "seed"]
    differing = sorted(name for name in settings if of_candidate.get(name) != of_panel[name])
    if differing:
        return f"{about}; the candidate's recipe is another (it differs in {', '.join(differing)})"
    return f"{about}; the candidate's recipe is the same"


def _remarks(session: StressSession, verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    """Return facts about models, images and rows that no reader needs for the verdict."""
    notes = []
    for role, model in session.roles.items():
        if model.note:
            notes.append(f"{role} {model.path}: {model.note}")
    return (
        *notes,
        *_dropped(session),
        *session.images.notes,
        *_mixed(session, verdicts),
        *_new(session, verdicts),
    )


def _costs(reported: Reported, verdicts: Sequence[Verdict]) -> dict[str, FamilyCost]:
    found = {}
    for family in dict.fromkeys(verdict.check.family for verdict in verdicts):
        images = max(verdict.out_of for verdict in verdicts if verdict.check.family == family)
        found[family] = FamilyCost(round(reported.seconds[family], 2), images)
    return found


def shortened(text: str, most: int) -> str:
    """Return the end of a text, at most so many characters, and how many are left out."""
    return (
        text
        if len(text) <= most
        else f"{len(text) - most:,} characters are left out\n{text[len(text) - most :]}"
    )


def _fitting(tests: Sequence[OtherTest]) -> tuple[OtherTest, ...]:
    """Return the tests in their order, with what the record keeps of their texts."""
    room, kept = _MOST_OF_ALL, []
    for test in tests:
        kept.append(replace(test, text=shortened(test.text, max(0, room))))
        room -= len(test.text)
    return tuple(kept)


def _reference_pipeline(session: StressSession) -> str:
    from harness.data.serving import serving_of
    from harness.inference.serving import normalization_of

    candidate = session.roles.get("candidate")
    try:
        return str(
            serving_of(session.images, normalization_of(candidate) if candidate else None).reference
        )
    except InputError:  # The files may be gone by now, and the run is judged already.
        return session.images.pipeline


def _new(session: StressSession, verdicts: Sequence[Verdict]) -> list[str]:
    """Return a remark on the checks that the checks file does not have: tests for which calibration adds one."""
    new = sorted(
        {verdict.check.id for verdict in verdicts} - {check.id for check in session.checks.checks}
    )
    return (
        [f"checks that {session.checks.path.name} does not have yet: {len(new)}, {some_of(new)}"]
        if new
        else []
    )


def _without_incumbent(verdicts: Sequence[Verdict]) -> list[str]:
    return [
        each.check.id
        for each in verdicts
        if each.without == INCUMBENT and each.check.binding is not None
    ]


def _notices(session: StressSession, verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    """Return notices about the incumbent: that the run compared with none, or with another than the declared one."""
    declared, used = session.declared, session.roles.get(INCUMBENT)
    asked = [each.check.id for each in verdicts if each.without == INCUMBENT]
    if session.waived and asked and not session.scope.recording:
        there = (
            f", though {declared.path} declares one"
            if declared is not None and declared.weights
            else ""
        )
        named = _without_incumbent(verdicts) or asked
        what = "" if named is asked else " with a threshold"
        count = f"{len(named)} check{'' if len(named) == 1 else 's'}{what}"
        return (
            f"not compared with an incumbent ({session.waived}){there}: not applicable: {count}: {some_of(named)}",
        )
    if (
        used is None
        or declared is None
        or declared.weights is None
        or used.sha256 == declared.sha256
    ):
        return ()
    return (
        f"compared with {used.path} ({used.sha256[:12]}…), which is not the incumbent that {declared.path} declares "
        f"({declared.sha256[:12]}…)",
    )


def _stopped(session: StressSession) -> list[str]:
    if session.scope.stopped is None:
        return []
    (check, of), others = session.scope.stopped, len(session.checks.checks) - 1
    after = f"after {len(session.images):,} of {of:,} images"
    return [
        f"stopped at {check}, which fails for certain, {after}; other checks are not measured ({others})"
    ]


def _known_notices(
    known: Sequence[KnownIssue], verdicts: Sequence[Verdict], day: date
) -> list[str]:
    failing = {each.check.id for each in verdicts if each.status == "fail"}
    accepted = [issue.about for issue in known if issue.check in failing and day <= issue.last_day]
    expired = [
        f"{issue.about} ({issue.until}, {issue.owner})" for issue in known if day > issue.last_day
    ]
    said = []
    if accepted:
        said.append(
            f"known issues among the failing checks: {some_of(accepted)}; the verdict counts them"
        )
    if expired:
        said.append(f"expired known issues: {some_of(expired)}; fix or renew them in {KNOWN}")
    return said


def _mixed(session: StressSession, verdicts: Sequence[Verdict]) -> list[str]:
    """Return a remark on a cluster of mixed processors: the margins that their differences might change."""
    if session.cluster is None or len(session.cluster.kinds) <= 1:
        return []
    from harness.inference.platforms import note_on_platforms

    margins = [
        (each.check.id, abs(each.value - each.threshold))
        for each in verdicts
        if each.value is not None and each.threshold is not None and each.judged
        if (metric := METRICS.get(each.metric)) and metric.unit is Unit.SHARE
    ]
    return [note_on_platforms(session.cluster.kinds, margins)]


def _dropped(session: StressSession) -> list[str]:
    incumbent, declared = session.roles.get("incumbent"), session.declared
    its_own = incumbent.record.acceptance if incumbent and incumbent.record else None
    same = incumbent and declared and declared.sha256 == incumbent.sha256
    acceptance = (declared.acceptance if declared and same else None) or its_own or {}
    now = {check.id for check in session.checks.checks}
    gone = [str(name) for name in acceptance.get("checks", ()) if name not in now]
    if not gone or acceptance.get("profile") != (
        "quick" if session.checks.data.sample is not None else "default"
    ):
        return []
    return [
        f"{len(gone)} checks that the last accepted model (incumbent) was accepted by are not in "
        f"{session.checks.path}: {some_of(gone)}"
    ]


def _omissions(
    reported: Reported, verdicts: Sequence[Verdict], session: StressSession
) -> list[str]:
    """Return the parts that a run did not cover; each makes its verdict partial."""
    rows = [
        check
        for check in session.checks.checks
        if session.scope.stopped is None or check.id == session.scope.stopped[0]
    ]
    omissions = _unmeasured(rows, [verdict.check for verdict in verdicts])
    if reported.interrupted:
        omissions.append("the run was interrupted, and did not check itself")
    elif not reported.findings.self_checks and not session.scope.recording:
        omissions.append("the run did not check itself")
    judged = [verdict.check for verdict in verdicts if verdict.judged or verdict.is_open]
    if all(ROLES[check.role].precondition for check in judged):
        omissions.append(f"no threshold of {session.checks.path} judged the candidate")
    if others := [verdict.check.id for verdict in verdicts if _on_other_images(verdict, session)]:
        omissions.append(
            f"other images than their thresholds are made for: {some_of(others)}; calibrate them anew"
        )
    if lacking := [
        verdict.check.id for verdict in verdicts if verdict.lacking and verdict.check.binding
    ]:
        omissions.append(
            f"thresholds that need panel predictions, which do not exist for these images: {some_of(lacking)}; "
            "calibrate them anew"
        )
    if session.scope.answered and (
        others := sorted({check.family for check in rows} - set(session.scope.answered))
    ):
        exported, missing = (
            families_in_words(families, shown=_FAMILIES_NAMED)
            for families in (session.scope.answered, others)
        )
        omissions.append(
            f"recorded predictions were exported for {exported} alone; not measured: {missing}"
        )
    if not session.waived and (lost := _without_incumbent(verdicts)):
        omissions.append(
            f"no incumbent is declared or waived, so {len(lost)} checks with a threshold have no verdict: "
            f"{some_of(lost)}. Accept a model (`stress-harness accept`), name one with --incumbent, or use --incumbent "
            "none."
        )
    if undecided := [verdict.check.id for verdict in verdicts if verdict.is_open]:
        sample = "[data.samples] of its family" if session.share == 1 else "--stress-samples"
        omissions.append(
            f"thresholds by hand that this sample is too small to decide: {some_of(undecided)}. Measure more "
            f"images, or all of them without {sample}"
        )
    omissions += _sampled(verdicts) if session.share == 1 else []
    if session.share != 1 and session.scope.stopped is None:
        made_for = session.checks.data
        sample = (
            ""
            if made_for.sample is None
            else f"; the checks are made for a sample of {made_for.measured}"
        )
        omissions.append(f"{len(session.images)} of {made_for.n} images were measured{sample}")
    return omissions


def _unmeasured(rows: Sequence[Check], measured: Sequence[Check]) -> list[str]:
    took, families = {check.definition for check in measured}, {check.family for check in measured}
    missing = [check for check in rows if check.definition not in took]
    if not missing:
        return []
    said = f"{len(missing)} of {len(rows)} checks did not run: {some_of([check.id for check in missing])}"
    without = dict.fromkeys(check.family for check in missing if check.family not in families)
    return [
        f"{said}; families without a test: {families_in_words(without, shown=_FAMILIES_NAMED)}"
        if without
        else said
    ]


def _sampled(verdicts: Sequence[Verdict]) -> list[str]:
    shares = {
        verdict.check.family: verdict.check.conditions.share
        for verdict in verdicts
        if verdict.check.conditions.share < 1
    }
    if not shares:
        return []
    said = some_of(
        [f"{family_in_words(family)} ({share:.0%})" for family, share in shares.items()], shown=20
    )
    return [
        f"to fit into the time given, some families were measured on a share of their images: {said}; "
        "`stress-harness calibrate --budget` makes thresholds for samples that fit"
    ]


def _on_other_images(verdict: Verdict, session: StressSession) -> bool:
    """Return whether a check's test left out images that its threshold was made for, in a run that left out none.

    More images than the threshold was made for are allowed in the thorough profile only. As many by
    another draw are others, too.
    """
    threshold = verdict.check.binding
    if (
        threshold is None
        or not threshold.n
        or verdict.threshold is None
        or not session.share == verdict.check.conditions.share == 1
    ):
        return False
    by_panel = verdict.sampling is not None and session.has_votes
    sample = session.checks.data.by_panel(verdict.check.family) if by_panel else None
    if not verdict.check.by_hand and threshold.sample != (sample.named if sample else ""):
        return True
    return verdict.n < threshold.n or (verdict.n > threshold.n and not session.scope.thorough)


def _scope(checks: ChecksFile, default: ChecksFile | None) -> str:
    if checks.data.sample is None:
        return ""
    count = len(checks.checks)
    measured = f"quick profile: {count} checks, made for a sample of {checks.data.measured} of {checks.data.n} images"
    left_out = "the comparison of the models"
    if default is not None:
        others = {check.id for check in default.checks} - {check.id for check in checks.checks}
        families = [
            name
            for name in dict.fromkeys(check.family for check in default.checks)
            if not checks.family(name)
        ]
        among = (
            f" (all of {families_in_words(families, shown=_FAMILIES_NAMED)})" if families else ""
        )
        left_out = f"{len(others)} of the default profile's {len(default.checks)} checks{among} and {left_out}"
        own = {check.id for check in checks.written} - {check.id for check in default.checks}
        left_out += f"; of this profile alone: {len(own)} of its {count}" if own else ""
    return f"{measured}; left out are {left_out}"
