"""A role is one entry in a table: its option, its default, its model in a session, its rows, its entry in reports."""

import json

import cv2  # noqa: F401  Compiled modules must be there before `pytester` takes its snapshot of modules,
import pytest
import scipy.stats  # noqa: F401  since it drops what a run inside this process imports, and they load only once.
from zoo import ROWS, Zoo, hypothesis_as_it_starts

from harness.checks import ChecksError, read_checks
from harness.checks.roles import ROLES, Role

TEACHER_ROW = """
[[check]]
id = "teacher-clean"
family = "teacher"
metric = "accuracy"
role = "teacher"
hand = { threshold = 0.8 }
"""
TEACHER_TEST = """
from harness.measures import accuracy
from harness.plugin import check


@check("teacher")
def test_the_teacher_is_right(teacher, images, evidence, stress_check):
    verdict = stress_check.judge(accuracy(teacher.predict(images)))
    evidence.show(verdict)
    assert verdict.passed, verdict.explain()
"""
TEACHER_FIXTURE = """
from harness.plugin.fixtures import fixture_of

teacher = fixture_of("teacher")
"""


@pytest.fixture
def zoo(pytester, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(pytester.path / "cache"))
    place = Zoo(pytester.path, tests=("clean",))
    place.save("big.safetensors", seed=1, jitter=0.02)
    with hypothesis_as_it_starts():
        yield place


@pytest.fixture
def teacher(monkeypatch, zoo):
    monkeypatch.setitem(ROLES, "teacher", Role("The model that the candidate learnt from", precondition=True))
    zoo.bind(ROWS.split('\n[[check]]\nid = "rotate')[0].replace("bee", "ant") + TEACHER_ROW)
    (zoo.tests / "test_teacher.py").write_text(TEACHER_TEST)
    (zoo.tests / "conftest.py").write_text(TEACHER_FIXTURE)
    return zoo


def gate_run(zoo, pytester, *options):
    result = pytester.runpytest_inprocess("-p", "no:html", "stress_tests", "--stress-set", f"data={zoo.data}", *options)
    return result, json.loads((zoo.root / "reports/stress.json").read_text())


def test_a_role_of_ones_own_has_an_option_a_model_rows_and_an_entry(teacher, pytester):
    result, report = gate_run(teacher, pytester, "--teacher", "big.safetensors")
    assert report["teacher"]["path"] == "big.safetensors"
    (row,) = [row for row in report["checks"] if row["role"] == "teacher"]
    assert (row["id"], row["status"]) == ("teacher-clean", "pass")
    assert result.ret == 0


def test_a_role_without_a_checkpoint_makes_its_rows_not_applicable(teacher, pytester):
    _, report = gate_run(teacher, pytester)
    assert report["teacher"] is None
    (row,) = [row for row in report["checks"] if row["role"] == "teacher"]
    assert (row["status"], row["detail"]) == ("not_applicable", "there is no teacher (--teacher none)")


def test_a_precondition_that_does_not_hold_leaves_nothing_judged(teacher, pytester):
    teacher.save("blind.safetensors", blind=True)
    result, report = gate_run(teacher, pytester, "--teacher", "blind.safetensors")
    (row,) = [row for row in report["checks"] if row["role"] == "teacher"]
    assert (row["status"], report["verdict"], result.ret) == ("error", "error", 4)
    assert "the teacher fails its own check" in row["explanation"]


def test_the_help_names_the_option_with_its_default(teacher, pytester):
    said = " ".join(pytester.runpytest_inprocess("--help").stdout.str().split())
    assert "--teacher=PATH|none The model that the candidate learnt from, or none (default: none)." in said
    assert (
        "--candidate=PATH The model under test (`stress-harness list predictors` prints the kinds) (default: " in said
    )


def test_a_row_about_an_unknown_role_is_refused_with_the_known_ones(zoo):
    zoo.bind(ROWS + TEACHER_ROW)
    with pytest.raises(ChecksError, match="role is 'teacher', expected one of candidate, baseline, incumbent"):
        read_checks(zoo.checks)


@pytest.mark.parametrize(
    ("role", "shipped_data", "expected"),
    [
        ("candidate", True, "augmented"),
        ("candidate", False, "augmented"),
        ("baseline", True, "baseline"),
        ("baseline", False, None),
        ("incumbent", True, "augmented"),
        ("incumbent", False, None),
    ],
)
def test_each_role_has_its_default(tmp_path, role, shipped_data, expected):
    found = ROLES[role].default(tmp_path, shipped_data=shipped_data)
    assert found == (expected and tmp_path / f"{expected}.safetensors")


@pytest.mark.parametrize("shipped_data", [True, False])
def test_an_accepted_incumbent_comes_first(tmp_path, shipped_data):
    accepted = tmp_path / "incumbent.safetensors"
    accepted.touch()
    assert ROLES["incumbent"].default(tmp_path, shipped_data=shipped_data) == accepted
