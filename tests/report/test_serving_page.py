"""Skews on the page: one row for each, the greatest loss first, under the reference pipeline in full."""

from dataclasses import replace

from outcomes import EMPTY, PASS

from harness.checks import Check, Threshold, Verdict
from harness.measures import Unit
from harness.report.family_sections import losses_by_serving, serving

EVIL = "<script>alert('x')</script>"


def verdict(skew, metric, value, status="informational", *, detail=""):
    threshold = None if status == "informational" else 0.02
    check = Check(
        f"skew-{skew}-{metric}",
        "skew",
        f"served_{metric}",
        "at_most",
        hand=threshold and Threshold(threshold),
        keys={"skew": skew},
    )
    unit = Unit.DIFFERENCE if "lost" in metric else Unit.SHARE
    return Verdict(check, status, check.metric, value=value, threshold=threshold, n=500, detail=detail, unit=unit)


SLIGHT = verdict("bits-6", "correct_predictions_lost", 0.004, detail="served with 6 bits, it would lose 0.4 points")
GREAT = verdict("bgr", "correct_predictions_lost", 0.19, "fail", detail="served with BGR, it would lose 19.0 points")
CHANGED = verdict("bgr", "predictions_changed", 0.31, detail="served with BGR, it would lose 19.0 points")
ALONE = verdict("gray", "predictions_changed", 0.1, detail=EVIL)
GAINED = verdict("float16", "correct_predictions_lost", -0.01, detail="served in float16, it would gain 1.0 points")
OUTCOME = replace(EMPTY, verdicts=(PASS, SLIGHT, GAINED, ALONE, CHANGED, GREAT), data={"pipeline": "Pillow 12, RGB"})


def test_each_skew_has_one_row_by_its_loss():
    body = serving(OUTCOME).body
    places = [body.index(f"<td>{name}</td>") for name in ("bgr", "gray", "bits-6", "float16")]
    assert places == sorted(places)
    assert [body.count(f"<td>{name}</td>") for name in ("bgr", "gray")] == [1, 1]
    assert "The reference pipeline: Pillow 12, RGB." in body
    assert "The costliest of the pipelines below: served with BGR, it would lose 19.0 points." in body
    assert "<details open><summary>4 pipelines, 1 of 5 checks fail</summary>" in body
    assert "at most +2.0 points: ✗ fails" in body
    assert "31.0%: " in body
    assert EVIL not in body


def test_skews_that_pass_are_folded_without_an_empty_column():
    body = serving(replace(OUTCOME, verdicts=(SLIGHT, GAINED))).body
    assert "<details><summary>2 pipelines, and no check of them fails</summary>" in body
    assert "reference models" not in body


def test_a_summary_names_losses_alone():
    assert losses_by_serving(OUTCOME) == [GREAT.detail, SLIGHT.detail]


def test_without_skews_there_is_no_section():
    assert serving(replace(EMPTY, verdicts=(PASS,))) is None
