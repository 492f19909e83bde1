"""Reports of tests become an outcome.

Errors, failures, and parts that a run left out, without running anything.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from panels import view_of
from zoo import CLASSES, ROWS, checks_text, images_of, role_model

from harness.checks import Check, Verdict, read_checks
from harness.checks.rows import Threshold
from harness.measures import METRICS, Measurement
from harness.measures.metric import Sampling
from harness.measures.panel.predictions import PanelPredictions
from harness.perturb import IDENTITY
from harness.report.text import summary_lines
from harness.run.conclusion import outcome_of
from harness.run.findings import Findings, SelfCheck
from harness.run.results import OtherTest
from harness.run.session import RunScope, StressSession
from harness.run.tally import Tally

IMAGES = images_of(400)
SOUND = (SelfCheck("identity-equals-clean", "pass", "they are"),)
COMMAND = ("pytest", "stress_tests", "-k", "clean or not")
BASELINE = (
    '\n[[check]]\nid = "baseline"\nfamily = "baseline"\nmetric = "accuracy"\nrole = "baseline"\n'
)


@pytest.fixture
def session_of(tmp_path):
    def build(rows=ROWS, images=IMAGES, **data) -> StressSession:
        path = tmp_path / "checks.toml"
        text = checks_text(IMAGES, rows)
        for name, value in data.items():
            text = text.replace("\n\n[[check]]", f"\n{name} = {value}\n\n[[check]]", 1)
        path.write_text(text)
        return StressSession(images, read_checks(path), {"candidate": role_model()})

    return build


def verdict_of(check: Check, *, value=None, n=400) -> Verdict:
    """Return what a good model gets."""
    value = value if value is not None else (0 if check.metric == "confident_errors" else 1.0)
    return check.judge(Measurement(METRICS[check.metric], value, n, (value, value)))


def report_all(session, *, but=()) -> Tally:
    tally = Tally(findings=Findings(SOUND))
    for check in reversed(session.checks.checks):
        if check.id not in but:
            tally.take(verdict_of(check), test=f"test_{check.family}.py::test[{check.id}]")
    return tally


def finished(tally, session, profile="default", **facts):
    return outcome_of(tally, session, profile=profile, command=COMMAND, **facts)


# Outcomes of a whole run.


def test_a_cause_that_many_met_is_one_reason(session_of):
    session = session_of()
    tally = Tally()
    for check in session.checks.checks:
        error = check.unjudged("error", "the predictor returned NaN", code="PREDICTOR")
        for _ in range(2):  # As a plugin of retries has it.
            tally.take(error, test=f"test[{check.id}]")
    cause = "the predictor returned NaN"
    tally.findings = Findings(
        (SelfCheck("self-checks", "fail", f"they could not run: {cause}", cause=cause),)
    )
    outcome = finished(tally, session)
    ids = ", ".join(check.id for check in session.checks.checks)
    assert outcome.results.errors == (f"[PREDICTOR] {ids}: error: the predictor returned NaN",)
    assert sum("NaN" in line for line in summary_lines(outcome, Path("reports"))) == 1
    assert {verdict.detail for verdict in outcome.results.verdicts} == {
        "the predictor returned NaN"
    }


def test_a_whole_run_is_a_verdict_in_the_order_of_the_rows(session_of):
    session = session_of()
    outcome = finished(report_all(session), session)
    assert [verdict.check.id for verdict in outcome.results.verdicts] == [
        check.id for check in session.checks.checks
    ]
    assert (
        outcome.verdict,
        outcome.exit_status,
        outcome.results.omissions,
        outcome.results.errors,
    ) == (
        "pass",
        0,
        (),
        (),
    )
    assert outcome.run.command == "pytest stress_tests -k 'clean or not'"
    assert outcome.inputs.checks_sha256 == session.checks.sha256
    assert outcome.inputs.data == {
        "name": "zoo",
        "split": "test",
        "sha256": IMAGES.sha256,
        "n": 400,
        "classes": ["ant", "bee", "cat", "dog"],
        "pipeline": "pixels of the data, gray, size unchanged, uncropped, /255, no normalization",
        "augmentation": {"rotate": 10, "shift_x": 2, "shift_y": 2, "flip": True},
        "border": "constant:0",
    }
    assert outcome.inputs.models["candidate"]["path"] == "c.safetensors"
    assert set(outcome.run.versions) == {"python", "torch", "hypothesis", "harness"}


def test_tests_without_a_row_come_last_by_name(session_of):
    session = session_of()
    tally = report_all(session)
    for name in ("zebra", "aardvark"):
        tally.take(verdict_of(Check(name, name, "accuracy")), test=name)
    outcome = finished(tally, session)
    assert [verdict.check.id for verdict in outcome.results.verdicts[-2:]] == ["aardvark", "zebra"]
    assert outcome.verdict == "pass"


def test_what_else_was_reported_is_in_the_outcome(session_of):
    session = session_of()
    tally = report_all(session)
    tally.tests = [OtherTest("z", "failed"), OtherTest("a", "passed")]
    tally.findings += Findings(overview_missing="they could not be compared")
    outcome = finished(tally, session, "thorough")
    assert [each.name for each in outcome.results.tests] == ["a", "z"]
    assert (outcome.findings.overview, outcome.findings.overview_missing) == (
        None,
        "they could not be compared",
    )
    assert (outcome.run.profile, outcome.findings.self_checks) == ("thorough", SOUND)


# Errors and failures.


@pytest.mark.parametrize("other", ["test_another.py::test[clean]", "test_own.py::test[clean]"])
def test_two_tests_of_one_name_are_an_error_but_not_one_told_twice(session_of, other):
    session = session_of()
    tally = report_all(session)
    (clean, *_) = session.checks.checks
    tally.take(verdict_of(clean), test="test_clean.py::test[clean]")
    assert tally.errors == []
    tally.take(verdict_of(clean), test=other)
    (error,) = tally.errors
    names = f"test_clean.py::test[clean] and {other}"
    assert error.startswith(
        f"[TEST] clean: two tests have a verdict of this name, {names}; name a metric in their "
    )
    assert finished(tally, session).exit_status == 4


@pytest.mark.parametrize(
    "values", [(0.0, 1.0), (1.0, 0.0)], ids=["fails, then passes", "passes, then fails"]
)
def test_of_a_test_that_runs_again_the_gravest_verdict_counts(session_of, values):
    session = session_of()
    tally, (check,) = report_all(session, but={"clean"}), session.checks.family("clean")
    for value in values:  # As a plugin of retries has it.
        tally.take(verdict_of(check, value=value), test="test_clean.py::test[clean]")
    outcome = finished(tally, session)
    assert (outcome.exit_status, [verdict.check.id for verdict in outcome.results.failed]) == (
        1,
        ["clean"],
    )


def test_a_verdict_that_is_an_error_is_told(session_of):
    session = session_of()
    tally = report_all(session, but=["clean"])
    tally.take(session.checks.checks[0].unjudged("error", "NaN"), test="test_clean.py")
    assert tally.reasons == ("[TEST] clean: error: NaN",)
    assert finished(tally, session).verdict == "error"


@pytest.mark.parametrize(
    ("message", "called", "failed", "errors"),
    [
        ("assert 1 == 2", True, ["t"], []),
        ("AssertionError: no", True, ["t"], []),
        ("AssertionError: no", False, [], ["[TEST] t: AssertionError: no"]),
        ("OSError: lost\nand more", True, [], ["[TEST] t: OSError: lost"]),
        ("", True, [], ["[TEST] t: failed"]),
    ],
    ids=["asserts", "asserts-by-name", "a-fixture-asserts", "raises", "says-nothing"],
)
def test_only_what_a_test_asserts_is_a_failure(message, called, failed, errors):
    tally = Tally()
    tally.take_failure(message, test="t", called=called)
    assert (tally.failed_tests, tally.errors) == (failed, errors)


def test_a_test_without_a_row_that_failed_fails_the_run_by_its_name(session_of):
    session = session_of()
    tally = report_all(session)
    tally.take_failure("assert 1 == 2", test="test_own.py::test_mine", called=True)
    outcome = finished(tally, session)
    assert (outcome.results.failed_tests, outcome.results.errors) == (
        ("test_own.py::test_mine",),
        (),
    )
    assert (outcome.verdict, outcome.exit_status) == ("fail", 1)


def test_a_failed_test_without_a_row_is_a_verdict_without_thresholds(session_of):
    session, tally = session_of(), Tally(findings=Findings(SOUND))
    assert (
        finished(tally, session).results.judged,
        finished(tally, session).exit_status,
    ) == (
        False,
        4,
    )
    tally.take_failure("assert 1 == 2", test="t", called=True)
    assert (
        finished(tally, session).results.judged,
        finished(tally, session).exit_status,
    ) == (
        True,
        1,
    )


# Parts that a run left out.


@pytest.mark.parametrize(
    ("but", "omission"),
    [
        (
            ["rotate-ccw-010"],
            "1 of 4 checks did not run: rotate-ccw-010; families without a test: rotated images",
        ),
        (
            ["clean", "clean-bee"],
            "2 of 4 checks did not run: clean, clean-bee; families without a test: clean images, "
            "single classes",
        ),
    ],
)
def test_rows_that_no_test_took_are_missed(session_of, but, omission):
    session = session_of()
    outcome = finished(report_all(session, but=but), session)
    assert (outcome.results.omissions, outcome.verdict) == ((omission,), "partial")


def test_a_row_is_missed_though_another_of_its_family_ran(session_of):
    session = session_of(ROWS.replace('family = "class"', 'family = "clean"'))
    outcome = finished(report_all(session, but=["clean"]), session)
    assert outcome.results.omissions == ("1 of 4 checks did not run: clean",)


def test_a_row_is_missed_though_a_test_without_a_row_has_its_name(session_of):
    session = session_of()
    tally = report_all(session, but=["clean"])
    tally.take(verdict_of(Check("clean", "brightness", "accuracy")), test="t")
    assert finished(tally, session).results.omissions == (
        "1 of 4 checks did not run: clean; families without a test: clean images",
    )


def test_a_run_that_did_not_check_itself_is_partial_unless_it_records(session_of):
    session = session_of()
    tally = replace(report_all(session), findings=Findings())
    assert finished(tally, session).results.omissions == ("the run did not check itself",)
    assert finished(tally, replace(session, scope=RunScope(recording=True))).results.omissions == ()


def test_a_run_that_was_interrupted_is_partial(session_of):
    session = session_of()
    tally = replace(report_all(session), interrupted=True, findings=Findings())
    assert finished(tally, session).results.omissions == (
        "the run was interrupted, and did not check itself",
    )


def test_a_run_without_a_threshold_is_inconclusive(session_of):
    unbound = "\n".join(line for line in ROWS.splitlines() if not line.startswith("hand"))
    session = session_of(unbound + BASELINE + "hand = { threshold = 0.9 }\n")
    tally = report_all(session)
    assert {verdict.status for verdict in tally.verdicts.values()} == {"informational", "pass"}
    outcome = finished(tally, session)
    assert outcome.results.omissions == (
        f"no threshold of {session.checks.path} judged the candidate",
    )
    assert (outcome.results.judged, outcome.verdict, outcome.exit_status) == (False, "error", 4)
    session = session_of(ROWS + BASELINE)
    assert finished(report_all(session), session).verdict == "pass", (
        "with thresholds of the candidate it is whole"
    )


@pytest.mark.parametrize(
    ("n", "thorough", "others"),
    [(399, False, True), (400, False, False), (401, False, True), (401, True, False)],
)
def test_a_test_of_other_images_than_its_threshold_is_made_for_is_partial(
    session_of, n, thorough, others
):
    """More of them than that are what the thorough profile is for."""
    session = replace(
        session_of(ROWS.replace("threshold = 0.5 }", "threshold = 0.5, n = 400 }")),
        scope=RunScope(thorough=thorough),
    )
    tally = report_all(session, but=["rotate-ccw-010"])
    tally.take(verdict_of(session.checks.checks[2], n=n), test="t")
    said = "other images than their thresholds are made for: rotate-ccw-010; calibrate them anew"
    assert finished(tally, session).results.omissions == ((said,) if others else ())


@pytest.mark.parametrize(
    ("sample", "others"),
    [("by panel, n = 150, seed = 5", False), ("by panel, n = 150, seed = 0", True), ("", True)],
    ids=["the-same", "another-draw", "by-class"],
)
@pytest.mark.parametrize("weighted", [True, False])
def test_another_draw_of_as_many_images_is_partial(session_of, sample, others, *, weighted):
    text = '[data.samples]\nrotation = { n = 150, by = "panel", seed = 5 }\n' if weighted else ""
    votes = {repr(IDENTITY): view_of(np.zeros(400), np.ones((400, 1)), np.zeros(400, dtype=int))}
    panel = PanelPredictions(IMAGES.sha256, CLASSES, ("a",), votes)
    session = replace(session_of(f"{text}{ROWS}"), panel_predictions=panel)
    check = replace(session.checks.checks[2], hand=None, panel=Threshold(0.5, n=150, sample=sample))
    verdict = replace(verdict_of(check, n=150), sampling=Sampling(0.0, 0.0) if weighted else None)
    tally = report_all(session, but=[check.id])
    tally.take(verdict, test="t")
    assert len(finished(tally, session).results.omissions) == (others if weighted else sample != "")


def test_a_sample_is_partial_and_a_test_of_fewer_images_no_more_so(session_of):
    session = session_of(
        ROWS.replace("threshold = 0.5 }", "threshold = 0.5, n = 400 }"),
        IMAGES.take(torch.arange(40)),
    )
    tally = Tally(findings=Findings(SOUND))
    for check in session.checks.checks:
        tally.take(verdict_of(session.scaled(check), n=40), test=check.id)
    outcome = finished(tally, session)
    assert (outcome.results.omissions, outcome.inputs.data["n"]) == (
        ("40 of 400 images were measured",),
        40,
    )


# Gates made for a sample.


def test_checks_made_for_a_sample_say_what_they_leave_out(session_of):
    default = session_of().checks
    rows = "\n[[check]]".join(ROWS.split("\n[[check]]")[:3])
    session = session_of(rows, IMAGES.take(torch.arange(100)), sample=100)
    tally = report_all(session)
    measured = "quick profile: 2 checks, made for a sample of 100 of 400 images; left out are "
    assert finished(tally, session, default=default).run.scope == (
        measured + "2 of the default profile's 4 checks (all of rotated images, confidence and "
        "calibration) and the comparison of the models"
    )
    assert finished(tally, session).run.scope == measured + "the comparison of the models"
    assert finished(tally, session).results.omissions == ()
    own = replace(default, checks=default.checks[1:])
    assert finished(tally, session, default=own).run.scope.endswith(
        "; of this profile alone: 1 of its 2"
    )
    whole = replace(default, checks=session.checks.checks)
    assert (
        "0 of the default profile's 2 checks and the comparison"
        in finished(tally, session, default=whole).run.scope
    )


@pytest.mark.parametrize("size", [50, 200], ids=["fewer", "more"])
def test_another_sample_than_the_checks_are_made_for_is_partial(session_of, size):
    session = session_of(ROWS, IMAGES.take(torch.arange(size)), sample=100)
    said = f"{size} of 400 images were measured; the checks are made for a sample of 100"
    assert finished(report_all(session), session).results.omissions == (said,)


def test_other_checks_have_no_scope(session_of):
    session = session_of()
    assert finished(report_all(session), session, default=session.checks).run.scope == ""
