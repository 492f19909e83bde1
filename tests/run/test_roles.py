"""A role is one entry in a table.

Its option, its default, its model in a session, its rows, its entry in reports.
"""

import pytest
from zoo import ROWS

from harness.checks import ChecksError, read_checks
from harness.checks.roles import ROLES, Role

pytestmark = pytest.mark.usefixtures("unchecked")
TESTS = ("clean",)
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
FILES = {
    "stress_tests/test_teacher.py": TEACHER_TEST,
    "stress_tests/conftest.py": (
        'from harness.plugin.fixtures import fixture_of\n\nteacher = fixture_of("teacher")\n'
    ),
}


@pytest.mark.parametrize(
    ("model", "ending", "row"),
    [
        ("big.safetensors", (0, "pass"), ("pass", "teacher-clean: accuracy")),
        (None, (0, "pass"), ("not_applicable", "there is no teacher (--teacher none)")),
        ("blind.safetensors", (4, "error"), ("error", "the teacher fails its own check")),
    ],
    ids=["right", "none", "precondition"],
)
def test_a_role_of_ones_own_has_an_option_a_model_rows_and_an_entry(
    shared, monkeypatch, model, ending, row
):
    monkeypatch.setitem(
        ROLES.own, "teacher", Role("The model that the candidate learnt from", precondition=True)
    )
    shared.save("big.safetensors", seed=1, jitter=0.02)
    shared.save("blind.safetensors", blind=True)
    rows = ROWS.split('\n[[check]]\nid = "rotate')[0].replace("bee", "ant") + TEACHER_ROW
    ran = shared.once(*(("--teacher", model) if model else ()), rows=rows, files=FILES)
    assert ran.ending == ending
    assert (ran.report["teacher"] or {}).get("path") == model
    found = ran.checks["teacher-clean"]
    assert (found["role"], found["status"]) == ("teacher", row[0])
    assert row[1] in found["explanation"]
    if model is None:
        text = " ".join(shared.once("--help").said.split())
        assert (
            "--teacher=MODEL|none The model that the candidate learnt from, or none (default: "
            "none)." in text
        )
        kinds = "(`stress-harness list predictors` prints the kinds) (default: "
        assert f"--candidate=MODEL The model under test {kinds}" in text


def test_a_row_about_an_unknown_role_is_refused_with_the_known_ones(zoo):
    zoo.bind(ROWS + TEACHER_ROW)
    with pytest.raises(
        ChecksError, match="role is 'teacher', expected one of candidate, baseline, incumbent"
    ):
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
