"""Stress tests that would let a bad model pass: what they do wrong is an error or a failure, never a pass."""

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
    """Return a file with a test for each body, of a family of its name; a body may have its own head."""
    parts = [HEAD]
    for name, body in bodies.items():
        parts.append(body if "@check" in body else f'@check("{name}")\ndef test_{name.replace("-", "_")}{body}')
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
"""Tests of clean accuracy, for a model that predicts one class for everything: 25.0% against 85.0%."""


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
ASKS_NOT = {
    "incumbent": """(incumbent, images, evidence, stress_check):
    evidence.show(stress_check.judge(accuracy(incumbent.predict(images))))
""",
    "unused": """(candidate, incumbent, images, evidence, stress_check):
    evidence.show(stress_check.judge(accuracy(incumbent.predict(images))))
""",
    "constant": """(candidate, images, evidence, stress_check):
    evidence.show(stress_check.judge(Measurement(METRICS["accuracy"], 0.95, 400, (0.9, 1.0))))
""",
    "fixture": """
@pytest.fixture(scope="session")
def others(incumbent, images):
    return incumbent.predict(images)

@check("fixture")
def test_fixture(candidate, others, evidence, stress_check):
    evidence.show(stress_check.judge(accuracy(others)))
""",
}
ANOTHER, ASKED_NOT = "the test shows the verdict of another check", "the test measured something without asking the "


def test_a_test_of_another_threshold_or_model_is_an_error(gate):
    """`precondition` is a check of the baseline that asks the candidate."""
    bodies = {
        **{
            name: "(candidate, images, evidence, stress_check, stress_session):\n"
            f"    evidence.show({judge}.judge(accuracy(candidate.predict(images))))\n"
            for name, judge in JUDGES.items()
        },
        **ASKS_NOT,
        "precondition": SHOWS["asserts-nothing"],
        "easy": SHOWS["asserts-nothing"],
    }
    rows = rows_of([*bodies][:-1]) + rows_of(["easy"], ROW.replace("0.85", "0.1"))
    rows = rows.replace('id = "precondition"', 'id = "precondition"\nrole = "baseline"')
    ran = gate.once(*BLIND, "--baseline", "models/augmented.safetensors", files=written(bodies), rows=rows)
    assert ran.ending == (4, "error")
    for name in JUDGES:
        assert ran.checks[name]["detail"].startswith(ANOTHER), name
    for name in (*ASKS_NOT, "precondition"):
        role = "baseline" if name == "precondition" else "candidate"
        assert ran.checks[name]["detail"].startswith(f"{ASKED_NOT}{role}: "), name
    assert {ran.statuses[name] for name in (*JUDGES, *ASKS_NOT, "precondition")} == {"error"}


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
    evidence.show(stress_check.judge(Measurement(METRICS["accuracy"], share, len(answers), (share, share))))
""",
    "search": """(candidate, images, evidence, stress_check):
    found = first_failures(candidate.classifier, images, [Pose()])
    share = float(found.right_everywhere.mean())
    evidence.show(stress_check.judge(Measurement(METRICS["accuracy"], share, len(images), (share, share))))
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
    assert len(MADE) <= 2, "made once by pytest, and once for all replays"
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
    (said,) = (each["detail"] for each in ran.report["self_checks"] if each["name"] == "checks-follow-the-candidate")
    assert said.startswith(f"{len(SOUND) - 2} of {len(SOUND)} checks")
    assert said.endswith("a fixture that cannot be made here: network, plain")


# Fixtures of the gate that a project replaces.

REPLACES = {
    "candidate": """
@pytest.fixture(scope="session")
def candidate(stress_session):
    asked, other = stress_session.role("candidate"), stress_session.role("incumbent")

    class Both:
        def predict(self, images):
            asked.predict(images)
            return other.predict(images)

    return Both()
""",
    "images": """
@pytest.fixture(scope="session", params=[0])
def images(request, stress_session):
    return stress_session.images.take(stress_session.images.labels.new_tensor([0, 4, 8]))
""",
    "stress_check": """
@pytest.fixture
def stress_check(stress_session):
    return replace(stress_session.checks.checks[0], hand=Threshold(0.1))
""",
}


@pytest.mark.parametrize(
    ("name", "place"), [("candidate", "stress_tests/conftest.py"), ("images", "conftest.py"), ("stress_check", TEST)]
)
def test_a_fixture_of_the_gate_that_is_replaced_is_an_error(gate, name, place):
    files = written({"clean": SHOWS["asserts-nothing"]})
    files[place] = HEAD + REPLACES[name] + files[TEST].removeprefix(HEAD) * (place == TEST)
    ran = gate.once(*BLIND, files=files, rows=ROW)
    assert ran.ending == (4, "error")
    if name != "stress_check":
        module = Path(place).stem
        assert f"the fixture {name} is the gate's own, and {module} replaces it" in ran.report["errors"][0]


# Tests that take fixtures of their own are checked like others.

FOR_SHOW = {
    "of the session": """
@pytest.fixture(scope="session")
def answers(candidate, incumbent, images):
    candidate.predict(images)
    return incumbent.predict(images)
""",
    "request and a parameter": """
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


@pytest.mark.parametrize("fixture", FOR_SHOW.values(), ids=FOR_SHOW)
def test_a_fixture_that_asks_the_candidate_for_show_is_noticed(gate, fixture):
    ran = gate.once(*BLIND, files={TEST: HEAD + fixture + TAKES}, rows=CLEAN)
    assert ran.ending == (4, "error")
    assert ran.self_checks["checks-follow-the-candidate"] == "fail"
