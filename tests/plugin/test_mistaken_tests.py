"""Stress tests that would let a bad model pass: what they do wrong is an error or a failure, never a pass."""

from pathlib import Path

import cv2  # noqa: F401  Compiled modules must be there before `pytester` takes its snapshot of modules.
import pytest
import scipy.stats  # noqa: F401
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

@check("clean")
"""
SHOWS = {
    "few-images-after": """
def test_clean(candidate, images, evidence, stress_check):
    evidence.show(stress_check.judge(accuracy(candidate.predict(images))))
    few = images.take(images.labels.new_tensor([0, 4]))
    evidence.show(stress_check.judge(accuracy(candidate.predict(few))))
""",
    "skips-after": """
def test_clean(candidate, images, evidence, stress_check):
    verdict = stress_check.judge(accuracy(candidate.predict(images)))
    evidence.show(verdict)
    if not verdict.passed:
        pytest.skip("not today")
""",
    "does-not-apply-after": """
def test_clean(candidate, images, evidence, stress_check):
    evidence.show(stress_check.judge(accuracy(candidate.predict(images))))
    raise NotApplicableError("not today")
""",
    "catches": """
def test_clean(candidate, images, evidence, stress_check):
    verdict = stress_check.judge(accuracy(candidate.predict(images)))
    evidence.show(verdict)
    try:
        assert verdict.passed, verdict.explain()
    except AssertionError:
        pass
""",
    "asserts-nothing": """
def test_clean(candidate, images, evidence, stress_check):
    evidence.show(stress_check.judge(accuracy(candidate.predict(images))))
""",
}
"""Tests of clean accuracy, for a model that predicts one class for everything: 25.0% against 85.0%."""


@pytest.mark.parametrize("body", SHOWS.values(), ids=SHOWS)
def test_a_failure_that_was_shown_stays(zoo, body):
    (zoo.tests / "test_clean.py").write_text(HEAD + body)
    zoo.bind(ROWS[: ROWS.index('[[check]]\nid = "clean-bee"')])
    result = zoo.run("--candidate", str(zoo.save("blind.safetensors", blind=True)))
    assert zoo.statuses["clean"] == "fail"
    assert result.ret == 1
    assert result.parseoutcomes().get("failed") == 1


OTHER = {
    "easier": "replace(stress_check, hand=Threshold(0.1))",
    "none": "replace(stress_check, hand=None)",
    "another": "next(row for row in stress_session.checks.checks if row.id == 'easy')",
}


@pytest.mark.parametrize("check", OTHER.values(), ids=OTHER)
def test_a_test_that_judges_by_another_threshold_is_an_error(zoo, check):
    (zoo.tests / "test_clean.py").write_text(
        HEAD
        + "def test_clean(candidate, images, evidence, stress_check, stress_session):\n"
        + f"    evidence.show({check}.judge(accuracy(candidate.predict(images))))\n"
    )
    clean = ROWS[: ROWS.index('[[check]]\nid = "clean-bee"')]
    zoo.bind(clean + clean.replace('id = "clean"', 'id = "easy"').replace("0.85", "0.1"))
    result = zoo.run("--candidate", str(zoo.save("blind.safetensors", blind=True)))
    assert result.ret == 4
    assert zoo.statuses["clean"] == "error"
    result.stdout.fnmatch_lines(["*clean: error: the test shows the verdict of another check*"])


# A test that asks the candidate for nothing.

CLEAN_ROW = ROWS[: ROWS.index('[[check]]\nid = "clean-bee"')]
ASKS_NOT = {
    "incumbent": """
def test_clean(incumbent, images, evidence, stress_check):
    evidence.show(stress_check.judge(accuracy(incumbent.predict(images))))
""",
    "candidate-unused": """
def test_clean(candidate, incumbent, images, evidence, stress_check):
    evidence.show(stress_check.judge(accuracy(incumbent.predict(images))))
""",
    "constant": """
def test_clean(candidate, images, evidence, stress_check):
    evidence.show(stress_check.judge(Measurement(METRICS["accuracy"], 0.95, 400, (0.9, 1.0))))
""",
    "a-fixture-of-the-incumbent": """
@pytest.fixture(scope="session")
def answers(incumbent, images):
    return incumbent.predict(images)

@check("clean")
def test_clean(candidate, answers, evidence, stress_check):
    evidence.show(stress_check.judge(accuracy(answers)))
""",
}


def write_clean(zoo, body: str) -> None:
    head = HEAD[: HEAD.index("@check")] if "@check" in body else HEAD
    (zoo.tests / "test_clean.py").write_text(head + body)
    zoo.bind(CLEAN_ROW)
    zoo.save("models/incumbent.safetensors", jitter=0.01)


@pytest.mark.parametrize(
    ("body", "workers"),
    [
        *((body, ()) for body in ASKS_NOT.values()),
        pytest.param(ASKS_NOT["incumbent"], ("-n", "2"), marks=pytest.mark.processes),
    ],
    ids=[*ASKS_NOT, "incumbent-n2"],
)
def test_a_test_that_asks_the_candidate_for_nothing_is_an_error(zoo, body, workers):
    write_clean(zoo, body)
    arguments = (
        "--candidate",
        str(zoo.save("blind.safetensors", blind=True)),
        "--incumbent",
        "models/incumbent.safetensors",
    )
    result = zoo.run(*arguments, *workers)
    assert result.ret == 4
    assert zoo.statuses["clean"] == "error"
    result.stdout.fnmatch_lines(["*clean: error: the test measured something without asking the candidate: *"])


ASKS = {
    "a-session-fixture": """
@pytest.fixture(scope="session")
def answers(candidate, images):
    return candidate.predict(images)

@pytest.fixture(scope="module")
def again(answers):
    return answers

@check("clean")
def test_clean(again, evidence, stress_check):
    evidence.show(stress_check.judge(accuracy(again)))

@check("rotation")
def test_rotation(again, evidence, stress_check):
    evidence.show(stress_check.judge(accuracy(again)))
""",
    "the-network-itself": """
def test_clean(candidate, images, evidence, stress_check):
    pixels = images.pixels.float() / 255
    with torch.no_grad():
        answers = candidate.classifier.plain(pixels).argmax(1)
    share = float((answers == images.labels).float().mean())
    evidence.show(stress_check.judge(Measurement(METRICS["accuracy"], share, len(answers), (share, share))))
""",
    "a-search": """
def test_clean(candidate, images, evidence, stress_check):
    found = first_failures(candidate.classifier, images, [Pose()])
    share = float(found.right_everywhere.mean())
    evidence.show(stress_check.judge(Measurement(METRICS["accuracy"], share, len(images), (share, share))))
""",
    "through-stress-session": """
def test_clean(stress_session, evidence, stress_check):
    candidate = stress_session.role("candidate")
    evidence.show(stress_check.judge(accuracy(candidate.predict(stress_session.images))))
""",
}


@pytest.mark.parametrize("body", ASKS.values(), ids=ASKS)
def test_a_test_that_asks_the_candidate_in_another_way_is_judged(zoo, body):
    write_clean(zoo, body)
    if "rotation" in body:
        (zoo.tests / "test_rotation.py").unlink()
    for _ in range(2):  # The second time predictions come from the cache.
        assert zoo.run().ret == 0
        assert zoo.statuses["clean"] == "pass"


def test_a_check_of_the_baseline_must_ask_the_baseline(zoo):
    write_clean(zoo, SHOWS["asserts-nothing"])
    zoo.bind(CLEAN_ROW + 'role = "baseline"\n')
    zoo.save("baseline.safetensors", blind=True)
    result = zoo.run("--baseline", "baseline.safetensors")
    assert result.ret == 4
    result.stdout.fnmatch_lines(["*clean: error: the test measured something without asking the baseline: *"])


# Fixtures of the gate that a project replaces.

REPLACES = {
    "by-one-that-asks": """
@pytest.fixture(scope="session")
def candidate(stress_session):
    asked, other = stress_session.role("candidate"), stress_session.role("incumbent")

    class Both:
        def predict(self, images):
            asked.predict(images)
            return other.predict(images)

    return Both()
""",
    "by-fewer-images": """
@pytest.fixture(scope="session")
def images(stress_session):
    return stress_session.images.take((stress_session.images.labels == 0).nonzero()[:, 0])
""",
    "by-its-own-check": """
@pytest.fixture
def stress_check(stress_session):
    return replace(stress_session.checks.checks[0], hand=Threshold(0.1))
""",
    "by-parameters": """
@pytest.fixture(scope="session", params=[0])
def images(request, stress_session):
    return stress_session.images.take(stress_session.images.labels.new_tensor([0, 4, 8]))
""",
}
TEST = """
@check("clean")
def test_clean(candidate, images, evidence, stress_check):
    evidence.show(stress_check.judge(accuracy(candidate.predict(images))))
"""


@pytest.mark.parametrize("place", ["stress_tests/conftest.py", "conftest.py", "stress_tests/test_clean.py"])
@pytest.mark.parametrize("fixture", REPLACES.values(), ids=REPLACES)
def test_a_fixture_of_the_gate_that_is_replaced_is_an_error(zoo, fixture, place):
    write_clean(zoo, "\n" + TEST)
    head = HEAD[: HEAD.index("@check")]
    code = head + fixture + (TEST if place.endswith("test_clean.py") else "")
    (zoo.root / place).write_text(code)
    blind = str(zoo.save("blind.safetensors", blind=True))
    result = zoo.run("--candidate", blind, "--incumbent", "models/incumbent.safetensors")
    assert result.ret == 4
    assert zoo.report()["verdict"] == "error"


def test_a_fixture_of_the_gate_that_is_replaced_is_named(zoo):
    write_clean(zoo, "\n" + TEST)
    (zoo.tests / "conftest.py").write_text(HEAD[: HEAD.index("@check")] + REPLACES["by-fewer-images"])
    assert zoo.run().ret == 4
    assert "the fixture images is the gate's own, and conftest replaces it" in zoo.report()["errors"][0]


# Tests that take fixtures of their own are checked like others.

OF_ANOTHER = """
@pytest.fixture{scope}
def answers({models}, images):
    candidate.predict(images)
    {gives} incumbent.predict(images)

@pytest.fixture
def share(answers):
    return accuracy(answers)

@check("clean")
def test_clean(share, evidence, stress_check):
    evidence.show(stress_check.judge(share))
"""
GIVEN = {
    "returned": ("", "candidate, incumbent", "return"),
    "of-the-session": ('(scope="session")', "candidate, incumbent", "return"),
    "yielded": ("", "candidate, incumbent", "yield"),
}


@pytest.mark.parametrize(("scope", "models", "gives"), GIVEN.values(), ids=GIVEN)
def test_a_fixture_that_asks_the_candidate_for_show_is_noticed(zoo, scope, models, gives):
    body = OF_ANOTHER.format(scope=scope, models=models, gives=gives)
    write_clean(zoo, body)
    blind = str(zoo.save("blind.safetensors", blind=True))
    result = zoo.run("--candidate", blind, "--incumbent", "models/incumbent.safetensors")
    assert result.ret == 4
    found = {check["name"]: check["status"] for check in zoo.report()["self_checks"]}
    assert found["checks-follow-the-candidate"] == "fail"


@pytest.mark.parametrize("taken", ["", "place, ", "network, "])
def test_fixtures_of_a_project_cost_no_verdict(zoo, taken):
    own = """
@pytest.fixture
def place(tmp_path):
    return tmp_path

@pytest.fixture
def network(candidate):
    return candidate.classifier.plain

MADE = []

@pytest.fixture(scope="session")
def made():
    MADE.append(1)
    assert len(MADE) <= 2, "made once by pytest, and once for all replays"
    return 1

@pytest.fixture
def more(made):
    return made + 1

@check("clean")
def test_clean(candidate, images, more, {taken}evidence, stress_check):
    evidence.show(stress_check.judge(accuracy(candidate.predict(images))))
"""
    write_clean(zoo, own.format(taken=taken))
    assert zoo.run().ret == 0


OF_PYTEST = {
    "request and a parameter": """
@pytest.fixture(params=["incumbent"], scope="session")
def answers(request, images, tmp_path_factory):
    request.addfinalizer(tmp_path_factory.mktemp("answers").rmdir)
    request.getfixturevalue("candidate").predict(images)
    return request.getfixturevalue(request.param).predict(images)
""",
    "fixtures of pytest": """
@pytest.fixture
def answers(candidate, incumbent, images, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    print(candidate.predict(images))
    assert capsys.readouterr().out
    yield incumbent.predict(images)
""",
}
TAKES = """
@check("clean")
def test_clean(answers, evidence, stress_check{more}):
    evidence.show(stress_check.judge(accuracy(answers)))
"""


@pytest.mark.parametrize("fixture", OF_PYTEST.values(), ids=OF_PYTEST)
def test_a_fixture_that_takes_those_of_pytest_is_checked_too(zoo, fixture):
    write_clean(zoo, fixture + TAKES.format(more=", request, tmp_path"))
    here = Path.cwd()
    assert zoo.run("--incumbent", "models/incumbent.safetensors").ret == 4
    found = {check["name"]: check["status"] for check in zoo.report()["self_checks"]}
    assert found["checks-follow-the-candidate"] == "fail"
    assert Path.cwd() == here
    fixture = fixture.replace("incumbent", "candidate").replace("candidate, candidate", "candidate")
    write_clean(zoo, fixture + TAKES.format(more=""))
    assert zoo.run().ret == 0
    said = {check["name"]: check["detail"] for check in zoo.report()["self_checks"]}
    assert said["checks-follow-the-candidate"].startswith("1 of 1 checks")


def test_a_check_without_a_self_check_is_named(zoo):
    zoo.tests.joinpath("test_more.py").write_text(
        f"{HEAD[: HEAD.index('@check')]}\n"
        "@check('more')\n"
        "def test_more(candidate, images, evidence, stress_check):\n"
        "    candidate.classifier.plain\n"
        "    evidence.show(stress_check.judge(accuracy(candidate.predict(images))))\n"
    )
    zoo.bind(ROWS + CLEAN.replace('"clean"', '"more"'))
    assert zoo.run().ret == 0
    said = {check["name"]: check["detail"] for check in zoo.report()["self_checks"]}
    assert said["checks-follow-the-candidate"].endswith("a fixture that cannot be made here: more")
