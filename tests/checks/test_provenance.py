"""A panel threshold follows from its own numbers, and from the record of its panel; an edited one is refused."""

import re
import tomllib
from dataclasses import fields, replace
from functools import cache
from pathlib import Path

import cv2  # noqa: F401  Compiled modules must be there before `pytester` takes its snapshot of modules,
import pytest
import scipy.stats  # noqa: F401  since it drops what a run inside this process imports, and they load only once.
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from panels import panel_of, with_panel
from zoo import ROWS, GatedZoo

from harness.calibration.calibrate import by_hand
from harness.calibration.panel import read_panel
from harness.calibration.record import expect_thresholds_of_record
from harness.calibration.thresholds import thresholds_of
from harness.checks import ChecksError, Threshold, read_checks
from harness.checks.tables import with_thresholds
from harness.measures import Unit
from harness.measures.panel.threshold import PanelCheck

ROOT = Path(__file__).parents[2]
SHIPPED = ("checks", "checks-quick")
NUMBERS = [item.name for item in fields(Threshold) if item.name not in {"reason", "definition", "date", "conversions"}]
CLEAN = '\n[[check]]\nid = "clean"\nfamily = "clean"\nmetric = "accuracy"\n'


@cache
def shipped(name):
    return read_checks(ROOT / "stress_tests" / f"{name}.toml")


def with_row(checks, row):
    return replace(checks, checks=tuple(row if check.id == row.id else check for check in checks.checks))


def refused(checks, root=None):
    """Return why a checks file is refused; with `root`, by the record of its panel too."""
    try:
        checks.expect_rows_as_calibrated()
        if root is not None:
            expect_thresholds_of_record(checks, root)
    except ChecksError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_thresholds_follow_and_match_their_record(name):
    assert refused(shipped(name), ROOT) == ""


@pytest.mark.parametrize("name", SHIPPED)
def test_a_threshold_that_does_not_follow_is_refused_without_a_record(name):
    """That of every row, and the loss that it detects."""
    for row in (check for check in shipped(name).checks if check.panel):
        for key in ("threshold", "minimum_detectable_drop"):
            value = getattr(row.panel, key)
            edited = replace(row, panel=replace(row.panel, **{key: value * 1.2 + 0.05}))
            said = refused(replace(shipped(name), checks=(edited,)))
            assert f"check {row.id!r}: {key} of the panel threshold is" in said, (row.id, key)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_each_number_edited_is_refused_by_the_record(data):
    checks = shipped(data.draw(st.sampled_from(SHIPPED)))
    row = data.draw(st.sampled_from([check for check in checks.checks if check.panel]))
    key = data.draw(st.sampled_from([name for name in NUMBERS if getattr(row.panel, name) is not None]))
    value = getattr(row.panel, key)
    unit = 1 if isinstance(value, int) else 10.0 ** -len(str(value).partition(".")[2])
    steps = data.draw(st.integers(1, 1000))
    edited = value + unit * steps * data.draw(st.sampled_from([-1, 1]))
    said = refused(with_row(checks, replace(row, panel=replace(row.panel, **{key: edited}))), ROOT)
    # A mean in the middle of two numbers of the file may be either; no verdict depends on it.
    assert f"check {row.id!r}" in said or (key == "mean" and steps == 1), (row.id, key, edited)


@pytest.mark.parametrize("name", SHIPPED)
def test_what_the_row_says_of_itself_cannot_be_edited(name):
    checks = shipped(name)
    for row in [check for check in checks.checks if check.panel][::9]:
        other = "at_least" if row.direction == "at_most" else "at_most"
        for edited in (
            replace(row, informational="" if row.informational else "reference models differ"),
            replace(row, panel=replace(row.panel, definition="")),
            replace(row, direction=other),
        ):
            assert f"check {row.id!r}" in refused(with_row(checks, edited), ROOT), row.id


def test_thresholds_made_by_the_rule_of_other_numbers_are_not_the_panels():
    """All numbers of one row taken from another follow from each other, though not from the record."""
    checks = shipped("checks")
    first, second = [check for check in checks.checks if check.panel and check.family == "rotation"][:2]
    panel = replace(second.panel, definition=first.panel.definition)
    edited = with_row(checks, replace(first, panel=panel))
    assert refused(edited) == ""
    said = refused(edited, ROOT)
    assert f"check {first.id!r}: threshold of the panel threshold is {panel.threshold}" in said
    assert "by the panel in " in said
    assert "models/panel.json" in said


def test_a_row_of_which_the_record_knows_nothing_is_refused(tmp_path):
    checks = shipped("checks-quick")
    (tmp_path / "models").mkdir()
    panel = read_panel(ROOT / "models/panel-quick.json")
    lacking = replace(panel, checks=panel.checks[1:])
    (tmp_path / "models/panel-quick.json").write_bytes(lacking.as_bytes())
    assert f"{panel.checks[0].id!r} has a panel threshold, but" in refused(checks, tmp_path)


def test_a_record_without_multipliers_holds_no_threshold(tmp_path):
    checks = shipped("checks-quick")
    panel = replace(read_panel(ROOT / "models/panel-quick.json"), multipliers={})
    (tmp_path / "models").mkdir()
    (tmp_path / "models/panel-quick.json").write_bytes(panel.as_bytes())
    assert "threshold of the panel threshold" in refused(checks, tmp_path)


# Edits by hand.


def test_what_is_a_persons_to_edit_is_not_refused():
    checks = shipped("checks-quick")
    first, second, *others = checks.checks
    by_hand = replace(first, hand=Threshold(0.5, reason="agreed"))
    assert refused(replace(checks, checks=(*reversed(others), by_hand)), ROOT) == ""
    assert refused(replace(checks, checks=(replace(second, panel=None), *others)), ROOT) == ""


def test_a_budget_that_changes_what_counts_asks_for_a_calibration():
    checks = shipped("checks-quick")
    said = refused(replace(checks, budgets={**checks.budgets, "clean": 0.0001}))
    assert "informational of the panel threshold is ''" in said
    assert "--family clean" in said


# The gate.


@pytest.fixture
def zoo(pytester, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(pytester.path / "cache"))
    return GatedZoo(pytester, tests=("clean",))


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["serial", "workers"])
def test_the_gate_ends_with_4_for_an_edited_threshold(zoo, workers):
    row = with_panel(CLEAN, mean=0.9, std=0.01)
    zoo.bind(row)
    if not workers:
        assert zoo.run().ret == 0
    zoo.bind(re.sub(r"threshold = [\d.]+", "threshold = 0.2", row))
    result = zoo.run(*workers)
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        ["*check 'clean': threshold of the panel threshold is 0.2, expected 0.86*hand = { threshold = 0.2, reason*"]
    )
    assert zoo.report()["verdict"] == "error"


@pytest.mark.parametrize(
    "left_out", ["mean", "std", "k", "reference_models", "minimum_detectable_drop", "n", "definition"]
)
def test_a_threshold_without_its_origin_is_none_of_a_panel(zoo, left_out):
    row = with_panel(CLEAN)
    zoo.bind(re.sub(rf" {left_out} = [^,}}]+(,| )", "", row).replace(",}", "}"))
    assert left_out not in tomllib.loads(zoo.checks.read_text())["check"][0]["panel"]
    result = zoo.run()
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*{left_out} of the panel threshold is*expected the one that calibration writes*"])


def test_a_row_cannot_be_called_informational(zoo):
    zoo.bind(
        with_panel(CLEAN) + 'informational = "of no interest"\n' + ROWS.split("[[check]]")[2].join(["[[check]]", ""])
    )
    result = zoo.run()
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*informational of the panel threshold is 'of no interest', expected ''*"])


def test_the_gate_holds_a_threshold_to_the_panel_of_its_record(zoo):
    check = PanelCheck("clean", "clean", "accuracy", Unit.SHARE, "at_least", 400)
    row = with_panel(CLEAN, mean=0.9, std=0.01)
    definition = tomllib.loads(row)["check"][0]["panel"]["definition"]
    panel = replace(
        panel_of([0.94, 0.96, 0.97, 0.95, 0.96, 0.97, 0.95, 0.96], (replace(check, definition=definition),)),
        data_sha256=zoo.images.sha256,
    )
    (zoo.root / "panel.json").write_bytes(panel.as_bytes())
    zoo.bind(f'\n[recipe]\npanel = "panel.json"\n{row}')
    result = zoo.run()
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        ["*check 'clean': threshold of the panel threshold is 0.86*, expected 0.957* by the panel in*"]
    )


@pytest.mark.parametrize("reference_models", [3, 8])
def test_what_calibration_writes_for_fewer_models_follows(tmp_path, reference_models):
    checks = shipped("checks")
    panel = read_panel(ROOT / "models/panel.json", checks)
    panel = replace(panel, models=panel.models[:reference_models])
    calibrated = thresholds_of(panel, checks.budgets, by_hand=by_hand(checks, panel))
    path = tmp_path / "checks.toml"
    path.write_text(with_thresholds(checks.path.read_text(), calibrated, recipe=checks.recipe, date="2026-01-01"))
    (tmp_path / "models").mkdir()
    multipliers = {item.check.id: item.k for item in calibrated}
    (tmp_path / "models/panel.json").write_bytes(panel.with_multipliers(multipliers, before=None).as_bytes())
    assert refused(read_checks(path), tmp_path) == ""
