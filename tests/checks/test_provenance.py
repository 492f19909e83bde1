"""A panel threshold follows from its own numbers, which are those of its panel.

An edited one is refused.
"""

import re
from dataclasses import fields, replace
from functools import cache
from pathlib import Path

import pytest
from panels import with_panel

from harness.base.errors import InputError
from harness.calibration.calibrate import by_hand
from harness.calibration.panel import read_panel
from harness.calibration.record import expect_rows_of_panel
from harness.calibration.thresholds import thresholds_of
from harness.checks import ChecksError, Threshold, read_checks
from harness.checks.edits import with_thresholds
from harness.measures.metric import Unit
from harness.measures.panel.threshold import Calibrated, PanelCheck

ROOT = Path(__file__).parents[2]
SHIPPED = ("checks", "checks-quick")
NEEDED = ("mean", "std", "k", "reference_models", "minimum_detectable_drop", "n", "definition")
CLEAN = '\n[[check]]\nid = "clean"\nfamily = "clean"\nmetric = "accuracy"\n'


@cache
def shipped(name):
    return read_checks(ROOT / "stress_tests" / f"{name}.toml")


def refused(checks, *rows):
    """Return why a checks file, or one of these rows alone, is refused."""
    try:
        replace(checks, checks=rows or checks.checks).expect_rows_as_calibrated()
    except ChecksError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_thresholds_follow_and_edited_ones_do_not(name):
    checks = shipped(name)
    assert refused(checks) == ""
    for row in (check for check in checks.checks if check.panel):
        for key in ("threshold", "minimum_detectable_drop"):
            value = getattr(row.panel, key)
            edited = replace(row, panel=replace(row.panel, **{key: value * 1.2 + 0.05}))
            assert f"check {row.id!r}: {key} of the panel threshold is" in refused(
                checks, edited
            ), (row.id, key)


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize(
    "key", ["n", "reference_models", "mean", "std", "root_mean", "conversions"]
)
def test_a_number_that_the_panel_does_not_have_is_refused(name, key):
    """Fewer images alone would make a check lenient."""
    checks = shipped(name)
    expect_rows_of_panel(checks, ROOT)
    for row in [
        check for check in checks.checks if check.panel and getattr(check.panel, key) is not None
    ][:5]:
        value = getattr(row.panel, key)
        edited = (
            "other"
            if key == "conversions"
            else value - 1
            if isinstance(value, int)
            else value * 1.02 + 0.001
        )
        if key == "std" and row.panel.root_std is not None:
            continue  # The scale of roots decides.
        other = replace(checks, checks=(replace(row, panel=replace(row.panel, **{key: edited})),))
        with pytest.raises(
            ChecksError, match=f"'{row.id}': {key} of the panel threshold is .*, by the panel in "
        ):
            expect_rows_of_panel(other, ROOT)


def test_rows_that_their_panel_or_their_own_numbers_contradict_are_refused():
    checks = shipped("checks")
    row = next(check for check in checks.checks if check.panel)
    with pytest.raises(
        ChecksError, match=r"check 'other' has a panel threshold, but .* has no such check"
    ):
        expect_rows_of_panel(replace(checks, checks=(replace(row, id="other"),)), ROOT)
    row = next(
        check for check in shipped("checks").checks if check.panel and check.family == "rotation"
    )
    for name in (item.name for item in fields(Threshold)):
        value = getattr(row.panel, name)
        if name in {"mean", "std", "k"}:
            edited = replace(row, panel=replace(row.panel, **{name: type(value)(value * 1.5)}))
            assert f"check {row.id!r}: threshold of the panel threshold is" in refused(
                shipped("checks"), edited
            ), name
    first, second = [
        check for check in checks.checks if check.panel and check.family == "rotation"
    ][:2]
    assert "has changed since its threshold was calibrated" in refused(
        checks, replace(first, panel=second.panel)
    )
    for name in NEEDED:
        lacking = replace(
            first, panel=replace(first.panel, **{name: "" if name == "definition" else None})
        )
        expected = (
            f"{name} of the panel threshold is {'' if name == 'definition' else None!r}, expected "
            "the one that"
        )
        assert expected in refused(checks, lacking)
    checks = shipped("checks-quick")
    judged = next(check for check in checks.checks if check.panel and not check.informational)
    assert "informational of the panel threshold is 'of no interest', expected ''" in refused(
        checks, replace(judged, informational="of no interest")
    )
    checks = shipped("checks-quick")
    first, second, *others = checks.checks
    assert (
        refused(checks, *reversed(others), replace(first, hand=Threshold(0.5, reason="agreed")))
        == ""
    )
    assert refused(checks, replace(second, panel=None), *others) == ""


def test_a_spread_that_the_file_rounds_to_zero_is_as_calibrated():
    """A model that is correct everywhere has a Brier score, and a spread of it, of almost zero."""
    checks = shipped("checks")
    row = next(check for check in checks.checks if check.panel and check.metric == "brier_score")
    about = PanelCheck(row.id, row.family, row.metric, Unit.SCORE, "at_most", 40)
    spread = 2e-7
    calibrated = Calibrated(about, 0.0, spread, 0.0, spread, k=1393.89, reference_models=1)
    written = calibrated.written
    assert written["std"] == 0 < written["minimum_detectable_drop"]

    almost_zero = replace(row.panel, **written)
    row = replace(row, panel=almost_zero, informational=calibrated.informational)

    assert refused(checks, row) == ""
    larger = replace(almost_zero, minimum_detectable_drop=0.02)
    assert "minimum_detectable_drop of the panel threshold is 0.02" in refused(
        checks, replace(row, panel=larger)
    )


@pytest.mark.zoo(tests=("clean",))
def test_the_gate_ends_with_4_for_an_edited_threshold(zoo):
    row = with_panel(CLEAN, mean=0.9, std=0.01)
    zoo.bind(row)
    assert zoo.run().ret == 0
    zoo.bind(re.sub(r"threshold = [\d.]+", "threshold = 0.2", row))
    result = zoo.run()
    assert result.ret == 4
    said = (
        "*check 'clean': threshold of the panel threshold is 0.2, expected 0.86*hand = { "
        "threshold = 0.2, reason*"
    )
    result.stderr.fnmatch_lines([said])
    assert zoo.report()["verdict"] == "error"


@pytest.mark.parametrize("reference_models", [3, 8])
def test_what_calibration_writes_for_fewer_models_follows(tmp_path, reference_models):
    checks = shipped("checks-quick")
    panel = read_panel(ROOT / "models/panel-quick.json", checks)
    panel = replace(panel, models=panel.models[:reference_models])
    calibrated = thresholds_of(panel, by_hand=by_hand(checks, panel))
    path = tmp_path / "checks.toml"
    path.write_text(
        with_thresholds(
            checks.path.read_text(), calibrated, recipe=checks.recipe, date="2026-01-01"
        )
    )
    assert refused(read_checks(path)) == ""


@pytest.mark.parametrize(
    "recipe", [{"panel_predictions_sha256": "b" * 64}, {"panel_predictions": "panel.npz"}]
)
def test_panel_predictions_of_another_or_no_hash_are_refused(recipe):
    own = shipped("checks")
    with pytest.raises(
        InputError, match=r"panel\.npz: its SHA-256 is aaaaaaaaaaaa…, the thresholds of .*"
    ):
        replace(own, recipe=recipe).expect_panel_predictions(Path("panel.npz"), "a" * 64)
    replace(own, recipe={}).expect_panel_predictions(Path("panel.npz"), "a" * 64)
