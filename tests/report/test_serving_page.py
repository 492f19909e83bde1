"""Skews on the page: the costliest first, under the reference pipeline in full."""

from dataclasses import replace

from outcomes import EMPTY, PASS

from harness.checks import Check, Threshold, Verdict
from harness.features.skew.family import costliest
from harness.features.skew.family import section as serving
from harness.measures import Unit

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


def test_the_costliest_pipelines_are_listed_the_greatest_loss_first():
    body = serving(OUTCOME).body
    assert body.index(GREAT.detail) < body.index(SLIGHT.detail)
    assert GAINED.detail not in body
    assert "The reference pipeline: Pillow 12, RGB." in body
    assert "Of 4 other pipelines, 1 of 5 checks fail." in body
    assert EVIL not in body


def test_a_summary_names_losses_alone():
    assert costliest(OUTCOME) == [GREAT.detail, SLIGHT.detail]


def test_without_skews_there_is_no_section():
    assert serving(replace(EMPTY, verdicts=(PASS,))) is None


def test_changes_alone_are_listed_where_no_loss_is_measured():
    body = serving(replace(OUTCOME, verdicts=(CHANGED,))).body
    assert CHANGED.detail in body
    none = serving(replace(OUTCOME, verdicts=(GAINED,))).body
    assert "The costliest first" not in none
