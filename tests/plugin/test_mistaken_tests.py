"""Stress tests that would let a bad model pass: what they do wrong is an error or a failure, never a pass."""

import cv2  # noqa: F401  Compiled modules must be there before `pytester` takes its snapshot of modules.
import pytest
import scipy.stats  # noqa: F401
from zoo import ROWS

HEAD = """
import pytest
from dataclasses import replace
from harness.base.errors import NotApplicableError
from harness.checks import Threshold
from harness.measures import accuracy
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
