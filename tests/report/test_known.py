"""Panel predictions on the page: its head, suspected label errors, shared and unique errors, golden images."""

from dataclasses import replace

import numpy as np
import pytest
from outcomes import EMPTY
from overviews import model, overview

from harness.checks import Check, Threshold
from harness.features.golden.report import section as golden
from harness.measures import Measurement
from harness.measures.accuracy import GOLDEN_RIGHT
from harness.measures.failures import UNIQUE_CONFIDENT
from harness.measures.panel.consensus import CONSENSUS_SET_ERRORS
from harness.measures.panel.label_errors import LabelError, LabelErrors, WithoutLabelErrors
from harness.report.mistakes import label_error_section
from harness.report.sections import examples
from harness.report.tables import models
from harness.run.overview import KindCount

PICTURE = np.zeros((8, 8, 1), dtype=np.uint8)
EVIL = "</p><script>alert(1)</script>"
KNOWN = Check(
    "consensus-clean",
    "consensus",
    "consensus_set_errors",
    panel=Threshold(30, mean=12.2, std=4.2, reference_models=20, k=4),
)
CLEAN = Check("clean", "clean", "accuracy", panel=Threshold(0.92, mean=0.93, std=0.002, reference_models=20, k=4))


def lost(count: int, check: Check = KNOWN):
    return check.judge(
        Measurement(CONSENSUS_SET_ERRORS, count, 10_000, (1.0, 90.0), detail="of 8514 that each gets right")
    )


def right(value: float):
    from harness.measures.accuracy import ACCURACY

    return CLEAN.judge(Measurement(ACCURACY, value, 10_000, (value - 0.01, value + 0.01)))


def golden_row(name: str, value: float, reason: str = "complaint 7"):
    check = Check(
        name, "golden", "golden_right", class_name="shoe", hand=Threshold(1, reason=reason, n=1, date="2026-11-26")
    )
    return check.judge(Measurement(GOLDEN_RIGHT, value, 1, (0.0, 1.0), detail=f"shoe; {reason}"))


def test_consensus_set_errors_lead_the_page_of_a_model_that_fails():
    outcome = replace(
        EMPTY, verdicts=(lost(71),), consensus_pictures={"consensus-clean": ["<b>one</b>", "<b>two</b>", "<b>3</b>"]}
    )
    section = examples(outcome)
    lead = "71 consensus-set errors, of 8514 that each gets right. Reference models: 12 images ± 4.2."
    assert lead in section.body
    assert section.body.index("<b>one</b>") < section.body.index("<b>two</b>")
    assert "<b>3</b>" not in section.body, "the failing behaviors stand not far below"
    assert 'href="#pictures-consensus-clean"' in section.body


def test_the_row_that_misses_by_most_is_shown():
    other = replace(KNOWN, id="consensus-mirrored")
    telling = {"consensus-clean": ["a"], "consensus-mirrored": ["b"]}
    section = examples(replace(EMPTY, verdicts=(lost(35), lost(90, other)), consensus_pictures=telling))
    assert "90 consensus-set errors" in section.body
    assert "35 consensus-set errors" not in section.body


@pytest.mark.parametrize(
    "facts", [{"consensus_pictures": {}}, {"verdicts": (lost(20),)}], ids=["no pictures", "nothing fails"]
)
def test_it_is_left_out_where_there_is_nothing_to_show(facts):
    known = {"verdicts": (lost(71),), "consensus_pictures": {"consensus-clean": ["a"]}, **facts}
    assert examples(replace(EMPTY, **known)) is None


LABEL_ERRORS = LabelErrors(
    300, 20, (LabelError(17, "top", EVIL, 0.97, 0.002, 20, 0.003), LabelError(4, "shoe", "top", 0.9, 0.01, 19, 0.01))
)


def suspected(**rest):
    first = model(without_label_errors=WithoutLabelErrors(0.9, 298, 2, **rest))
    return replace(
        EMPTY,
        verdicts=(right(0.93),),
        overview=overview(first, label_errors=LABEL_ERRORS),
        thumbnails={17: PICTURE, 4: PICTURE},
    )


def test_label_errors_stand_with_pictures_and_both_verdicts():
    body = label_error_section(suspected(reference_mean=0.94, reference_std=0.001)).body
    assert "against the labels of 2 of 300 images" in body
    assert "Clean accuracy with all images 93.0%, which passes: at least 92.0%" in body
    floor = 0.94 - 4 * (1 / 298) * np.sqrt(1.05)
    assert f"without the suspected label errors 90.0%, which fails: at least {100 * floor:.1f}%" in body
    assert body.count("<img") == 2
    assert "<script>" not in body


def test_the_threshold_without_label_errors_has_no_smaller_spread():
    outcome = suspected(reference_mean=0.94, reference_std=0.001)
    (clean,) = outcome.verdicts
    wide = replace(clean, check=replace(CLEAN, panel=replace(CLEAN.panel, std=0.01)))
    body = label_error_section(replace(outcome, verdicts=(wide,))).body
    assert f"at least {100 * (0.94 - 4 * 0.01 * np.sqrt(1.05)):.1f}%, the threshold" in body


def test_why_label_errors_are_not_told_is_said():
    section = label_error_section(replace(EMPTY, overview=overview(label_errors_missing=f"only 2 {EVIL}")))
    assert section.title == "Suspected label errors"
    assert "only 2" in section.body
    assert "<script>" not in section.body


def test_without_panel_predictions_the_second_verdict_has_no_threshold():
    body = label_error_section(suspected()).body
    assert "without the suspected label errors 90.0%. 2 of its errors are on suspected label errors." in body


def test_no_label_errors_no_section():
    assert label_error_section(EMPTY) is None
    assert label_error_section(replace(EMPTY, overview=overview())) is None


def test_golden_images_stand_with_pictures_those_that_are_wrong_first():
    verdicts = (golden_row("golden-0000000a", 1.0), golden_row("golden-0000000b", 0.0, EVIL))
    thumbnails = {"golden-0000000a": PICTURE, "golden-0000000b": PICTURE}
    body = golden(replace(EMPTY, verdicts=verdicts, thumbnails=thumbnails)).body
    assert "1 of 2 images that must never be wrong again are correct; " in body
    assert body.index("golden-0000000b") < body.index("golden-0000000a")
    assert "<script>" not in body
    assert golden(EMPTY) is None


def test_confident_errors_say_how_many_are_the_models_own():
    own = model(failures=(KindCount("any error", 30, 0.2), KindCount(UNIQUE_CONFIDENT, 3, 0.1)))
    assert "of 300, 3 unique" in models(overview(own))
    assert "unique" not in models(overview())
