"""Stress tests that would let a bad model pass.

Their mistakes are errors or failures, never a pass.
"""

from pathlib import Path

import pytest
from zoo import CLEAN, ROWS

HEAD = """
import pytest
import torch
from dataclasses import replace
from harness.base.errors import NotApplicableError
from harness.checks import Threshold
from harness.inference.search import first_failures
from harness.measures import METRICS, Measurement, accuracy
from harness.perturb import Pose
from harness.plugin import check
"""
ROW = ROWS[: ROWS.index('[[check]]\nid = "clean-bee"')]
TEST = "stress_tests/test_clean.py"


def written(bodies: dict[str, str]) -> dict:
    """Return a file with a test for each body, of a family of its name.

    A body may have its own head.
    """
    parts = [HEAD]
    for name, body in bodies.items():
        parts.append(
            body
            if "@check" in body
            else f'@check("{name}")\ndef test_{name.replace("-", "_")}{body}'
        )
    return {TEST: "\n\n".join(parts)}


def rows_of(names, row=ROW) -> str:
    return "".join(row.replace('"clean"', f'"{name}"') for name in names)


@pytest.fixture(scope="module")
def gate(shared):
    for name in ("rotation", "confident_errors"):
        (shared.tests / f"test_{name}.py").unlink()
    shared.save("blind.safetensors", blind=True)
    shared.save("models/incumbent.safetensors", jitter=0.01)
    return shared


BLIND = ("--candidate", "blind.safetensors", "--incumbent", "models/incumbent.safetensors")

SHOWS = {
    "few-images-after": """(candidate, images, evidence, stress_check):
    evidence.show(stress_check.judge(accuracy(candidate.predict(images))))
    few = images.take(images.labels.new_tensor([0, 4]))
    evidence.show(stress_check.judge(accuracy(candidate.predict(few))))
""",
    "skips-after": """(candidate, images, evidence, stress_check):
    verdict = stress_check.judge(accuracy(candidate.predict(images)))
    evidence.show(verdict)
    if not verdict.passed:
        pytest.skip("not today")
""",
    "does-not-apply-after": """(candidate, images, evidence, stress_check):
    evidence.show(stress_check.judge(accuracy(candidate.predict(images))))
    raise NotApplicableError("not today")
""",
    "catches": """(candidate, images, evidence, stress_check):
    verdict = stress_check.judge(accuracy(candidate.predict(images)))
    evidence.show(verdict)
    try:
        assert verdict.passed, verdict.explain()
    except AssertionError:
        pass
""",
    "asserts-nothing": """(candidate, images, evidence, stress_check):
    evidence.show(stress_check.judge(accuracy(candidate.predict(images))))
""",
}
"""Tests of clean accuracy, for a model that predicts one class for everything: 25.0% against 85.0%.
"""


def test_a_failure_that_was_shown_stays(gate):
    ran = gate.once(*BLIND, files=written(SHOWS), rows=rows_of(SHOWS))
    assert ran.ending == (1, "fail")
    assert ran.statuses == dict.fromkeys(SHOWS, "fail")
    assert ran.parseoutcomes().get("failed") == len(SHOWS)


JUDGES = {
    "easier": "replace(stress_check, hand=Threshold(0.1))",
    "none": "replace(stress_check, hand=None)",
    "another": "next(row for row in stress_session.checks.checks if row.id == 'easy')",
}
ANOTHER = "the test shows the verdict of another check"


def test_a_test_of_another_threshold_is_an_error(gate):
    bodies = {
        **{
            name: "(candidate, images, evidence, stress_check, stress_session):\n"
            f"    evidence.show({judge}.judge(accuracy(candidate.predict(images))))\n"
            for name, judge in JUDGES.items()
        },
        "easy": SHOWS["asserts-nothing"],
    }
    rows = rows_of(JUDGES) + rows_of(["easy"], ROW.replace("0.85", "0.1"))
    ran = gate.once(*BLIND, files=written(bodies), rows=rows)
    assert ran.ending == (4, "error")
    for name in JUDGES:
        assert ran.checks[name]["detail"].startswith(ANOTHER), name


FOLLOW = "checks-follow-the-candidate"
IGNORES = {
    "another model": """
@check("clean")
def test_clean(candidate, incumbent, images, evidence, stress_check):
    evidence.show(stress_check.judge(accuracy(incumbent.predict(images))))
""",
    "asks both": """
@check("clean")
def test_clean(candidate, incumbent, images, evidence, stress_check):
    candidate.predict(images)
    evidence.show(stress_check.judge(accuracy(incumbent.predict(images))))
""",
    "constant": """
@check("clean")
def test_clean(candidate, images, evidence, stress_check):
    evidence.show(stress_check.judge(Measurement(METRICS["accuracy"], 0.95, 400, (0.9, 1.0))))
""",
    "constant of a fixture": """
@pytest.fixture(scope="session")
def share():
    return 0.95

@check("clean")
def test_clean(candidate, share, evidence, stress_check):
    evidence.show(stress_check.judge(Measurement(METRICS["accuracy"], share, 400, (0.9, 1.0))))
""",
    "method": """
class TestClean:
    share = 0.95

    @check("clean")
    def test_clean(self, candidate, images, evidence, stress_check):
        measured = Measurement(METRICS["accuracy"], self.share, 400, (0.9, 1.0))
        evidence.show(stress_check.judge(measured))
""",
    "hypothesis": """
from hypothesis import given, settings
from harness.perturb.strategies import drawn_poses

@check("clean")
@given(pose=drawn_poses(max_degrees=1, max_shift_px=1))
@settings(max_examples=5)
def test_clean(incumbent, probe_images, evidence, stress_check, pose):
    evidence.show(stress_check.judge(accuracy(incumbent.predict(probe_images))))
""",
}


@pytest.mark.parametrize("test", IGNORES.values(), ids=IGNORES)
def test_a_test_that_ignores_its_candidate_is_named(gate, test):
    ran = gate.once(*BLIND, files={TEST: HEAD + test}, rows=CLEAN)
    assert ran.ending == (4, "error")
    assert ran.statuses == {"clean": "pass"}
    assert ran.self_checks[FOLLOW] == "fail"
    assert follow(ran)["check"] == "clean"
    assert follow(ran)["detail"].startswith("check clean of family 'clean' measures ")


def follow(ran) -> dict:
    """Return the self-check with right, wrong and random predictions as the candidate's."""
    (check,) = (check for check in ran.report["self_checks"] if check["name"] == FOLLOW)
    return check


def not_self_checked(ran) -> list[str]:
    """Return the checks that the self-check names as such."""
    _, _, reason_and_names = follow(ran)["detail"].partition("; not self-checked, because ")
    return reason_and_names.rpartition(": ")[2].split(", ")


ASKS = {
    "session": """
@pytest.fixture(scope="session")
def answers(candidate, images):
    return candidate.predict(images)

@pytest.fixture(scope="module")
def again(answers):
    return answers

@check("session")
def test_session(again, evidence, stress_check):
    evidence.show(stress_check.judge(accuracy(again)))

@check("more")
def test_more(again, evidence, stress_check):
    evidence.show(stress_check.judge(accuracy(again)))
""",
    "network": """(candidate, images, evidence, stress_check):
    pixels = images.pixels.float() / 255
    with torch.no_grad():
        answers = candidate.classifier.plain(pixels).argmax(1)
    share = float((answers == images.labels).float().mean())
    measured = Measurement(METRICS["accuracy"], share, len(answers), (share, share))
    evidence.show(stress_check.judge(measured))
""",
    "search": """(candidate, images, evidence, stress_check):
    found = first_failures(candidate.classifier, images, [Pose()])
    share = float(found.right_everywhere.mean())
    measured = Measurement(METRICS["accuracy"], share, len(images), (share, share))
    evidence.show(stress_check.judge(measured))
""",
    "through": """(stress_session, evidence, stress_check):
    candidate = stress_session.role("candidate")
    evidence.show(stress_check.judge(accuracy(candidate.predict(stress_session.images))))
""",
    "own": """
@pytest.fixture
def place(tmp_path):
    return tmp_path

@pytest.fixture
def plain(candidate):
    return candidate.classifier.plain

MADE = []

@pytest.fixture(scope="session")
def made():
    MADE.append(1)
    # Once for the run, and once for all tests that another worker has run.
    assert len(MADE) <= 2
    return 1

@pytest.fixture(params=["candidate"], scope="session")
def by_name(request, images, tmp_path_factory):
    request.addfinalizer(tmp_path_factory.mktemp("answers").rmdir)
    return request.getfixturevalue(request.param).predict(images)

@pytest.fixture
def of_pytest(candidate, images, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    print(candidate.predict(images))
    assert capsys.readouterr().out
    yield candidate.predict(images)

@check("own")
def test_own(candidate, images, made, place, evidence, stress_check):
    evidence.show(stress_check.judge(accuracy(candidate.predict(images))))

@check("plain")
def test_plain(candidate, images, made, plain, evidence, stress_check):
    evidence.show(stress_check.judge(accuracy(candidate.predict(images))))

@check("by-name")
def test_by_name(by_name, evidence, stress_check, request, tmp_path):
    evidence.show(stress_check.judge(accuracy(by_name)))

@check("of-pytest")
def test_of_pytest(of_pytest, evidence, stress_check):
    evidence.show(stress_check.judge(accuracy(of_pytest)))
""",
}
SOUND = (*ASKS, "more", "plain", "by-name", "of-pytest")


def test_a_test_that_asks_the_candidate_in_another_way_is_judged(gate):
    here = Path.cwd()
    for again in ("", "\n# again"):  # The second time predictions come from the cache.
        ran = gate.once(files={TEST: written(ASKS)[TEST] + again}, rows=rows_of(SOUND))
        assert ran.ending == (0, "pass"), ran.said
        assert ran.statuses == dict.fromkeys(SOUND, "pass")
    assert Path.cwd() == here
    assert not_self_checked(ran) == ["session", "network", "more", "plain", "by-name", "of-pytest"]
    assert follow(ran)["status"] == "pass"


@pytest.mark.processes
def test_workers_name_the_same_tests(gate):
    ran = gate.once("-n", "2", files=written(ASKS), rows=rows_of(SOUND))
    assert ran.ending == (0, "pass"), ran.said
    assert not_self_checked(ran) == ["session", "network", "more", "plain", "by-name", "of-pytest"]


# Fixtures whose values a self-check cannot give again.

DEPENDENT = {
    "of the session": """
@pytest.fixture(scope="session")
def answers(candidate, incumbent, images):
    candidate.predict(images)
    return incumbent.predict(images)
""",
    "by name": """
@pytest.fixture(params=["incumbent"], scope="session")
def answers(request, images, tmp_path_factory):
    request.getfixturevalue("candidate").predict(images)
    return request.getfixturevalue(request.param).predict(images)
""",
    "yields": """
@pytest.fixture
def answers(candidate, incumbent, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    candidate.predict(images)
    yield incumbent.predict(images)
""",
}
TAKES = """
@pytest.fixture
def share(answers):
    return accuracy(answers)

@check("clean")
def test_clean(share, evidence, stress_check):
    evidence.show(stress_check.judge(share))
"""
AUTOUSE = """
class TestClean:
    @pytest.fixture(autouse=True)
    def predict(self, candidate, images):
        self.predictions = candidate.predict(images)

    @check("clean")
    def test_clean(self, evidence, stress_check):
        evidence.show(stress_check.judge(accuracy(self.predictions)))
"""
OF_THE_CANDIDATE = {
    **{name: fixture + TAKES for name, fixture in DEPENDENT.items()},
    "autouse": AUTOUSE,
}
INCUMBENT = ("--incumbent", "models/incumbent.safetensors")
EASY = """
@check("easy")
def test_easy(candidate, images, evidence, stress_check):
    evidence.show(stress_check.judge(accuracy(candidate.predict(images))))
"""
CLEAN_AND_EASY = CLEAN + rows_of(["easy"], CLEAN)
MEASURES = "evidence.show(stress_check.judge(accuracy(candidate.predict(images))))"
SERVES_ONCE = {
    "iterator": f"""
@pytest.fixture(scope="session")
def turns():
    return iter([1])

@check("clean")
def test_clean(candidate, images, turns, evidence, stress_check):
    next(turns)
    {MEASURES}
""",
    "closed": f"""
@pytest.fixture
def log(tmp_path):
    with open(tmp_path / "log.txt", "w") as file:
        yield file

@check("clean")
def test_clean(candidate, images, log, evidence, stress_check):
    log.write("x")
    {MEASURES}
""",
    "memo": """
@pytest.fixture(scope="module")
def memo():
    return {}

@check("clean")
def test_clean(candidate, images, memo, evidence, stress_check):
    if "clean" not in memo:
        memo["clean"] = float(candidate.predict(images).correct.mean())
    share = memo["clean"]
    evidence.show(stress_check.judge(Measurement(METRICS["accuracy"], share, 400, (share, share))))
""",
    "method with a memo": """
class TestClean:
    def setup_method(self):
        self.memo = {}

    @check("clean")
    def test_clean(self, candidate, images, evidence, stress_check):
        share = self.memo.setdefault("clean", float(candidate.predict(images).correct.mean()))
        measured = Measurement(METRICS["accuracy"], share, 400, (share, share))
        evidence.show(stress_check.judge(measured))
""",
}
NOT_CHECKED = OF_THE_CANDIDATE | SERVES_ONCE


@pytest.mark.parametrize("test", NOT_CHECKED.values(), ids=NOT_CHECKED)
def test_a_test_whose_fixtures_serve_one_call_is_judged_and_named(gate, test):
    ran = gate.once(*INCUMBENT, files={TEST: HEAD + test}, rows=CLEAN)
    assert ran.ending == (0, "pass"), ran.said
    assert ran.self_checks[FOLLOW] == "not_applicable"
    assert not_self_checked(ran) == ["clean"]


@pytest.mark.parametrize("test", NOT_CHECKED.values(), ids=NOT_CHECKED)
def test_such_a_test_is_also_named_if_the_run_leaves_it_out(gate, test):
    ran = gate.once(*INCUMBENT, "-k", "easy", files={TEST: HEAD + test + EASY}, rows=CLEAN_AND_EASY)
    assert ran.ending == (0, "partial"), ran.said
    assert ran.self_checks[FOLLOW] == "pass"
    assert not_self_checked(ran) == ["clean"]


def test_a_test_that_does_not_apply_is_named(gate):
    """Its fixtures have failed in the run, so it has never been called."""
    test = """
@check("clean")
def test_clean(candidate, incumbent, images, evidence, stress_check):
    evidence.show(stress_check.judge(accuracy(candidate.predict(images))))
"""
    ran = gate.once("--incumbent", "none", files={TEST: HEAD + test + EASY}, rows=CLEAN_AND_EASY)
    assert ran.ending == (0, "pass"), ran.said
    assert ran.statuses == {"clean": "not_applicable", "easy": "pass"}
    assert not_self_checked(ran) == ["clean"]


SERVES_AGAIN = {
    "method": f"""
class TestClean:
    def setup_method(self):
        self.settings = {{"few": 4}}

    @check("clean")
    def test_clean(self, candidate, images, evidence, stress_check):
        assert self.settings["few"] == 4
        {MEASURES}
""",
    "parameter of a mark": f"""
@pytest.mark.parametrize("batch, name", [(4, "x")])
@check("clean")
def test_clean(candidate, images, batch, name, tmp_path, evidence, stress_check):
    assert (batch, name) == (4, "x")
    {MEASURES}
""",
    "hypothesis in a class": """
from hypothesis import given, settings
from harness.perturb.strategies import drawn_poses

class TestClean:
    @pytest.fixture
    def limit(self):
        return 0.5

    @check("clean")
    @given(pose=drawn_poses(max_degrees=1, max_shift_px=1))
    @settings(max_examples=5)
    def test_clean(self, candidate, probe_images, limit, evidence, stress_check, pose):
        predictions = candidate.predict(probe_images, Pose(pose.degrees))
        evidence.show(stress_check.judge(accuracy(predictions)))
""",
}


@pytest.mark.parametrize("test", SERVES_AGAIN.values(), ids=SERVES_AGAIN)
def test_values_of_fixtures_are_given_again(gate, test):
    ran = gate.once(files={TEST: HEAD + test}, rows=CLEAN)
    assert ran.ending == (0, "pass"), ran.said
    assert ran.self_checks[FOLLOW] == "pass"
    assert "not self-checked" not in follow(ran)["detail"]


@pytest.mark.parametrize("test", SERVES_AGAIN.values(), ids=SERVES_AGAIN)
def test_a_test_that_the_run_leaves_out_is_set_up_for_the_self_checks(gate, test):
    ran = gate.once("-k", "easy", files={TEST: HEAD + test + EASY}, rows=CLEAN_AND_EASY)
    assert ran.ending == (0, "partial"), ran.said
    assert follow(ran)["detail"].startswith("2 of 2 checks")


@pytest.mark.parametrize(
    "test", [*NOT_CHECKED.values(), *SERVES_AGAIN.values()], ids=[*NOT_CHECKED, *SERVES_AGAIN]
)
def test_a_run_with_a_plan_for_its_samples_sets_each_test_up_anew(gate, test):
    ran = gate.once(*INCUMBENT, "--stress-budget", "1h", files={TEST: HEAD + test}, rows=CLEAN)
    assert ran.ending == (0, "pass"), ran.said
    ran.stdout.fnmatch_lines(["stress: *clean *400*"])
