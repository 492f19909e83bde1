"""Calibrated thresholds go into a checks file by hand, and nothing else of it changes."""

import difflib
import re
import tomllib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from panels import calibrate, check, panel_of

from harness.calibration.calibrate import by_hand
from harness.calibration.thresholds import PROVISIONAL, thresholds_of
from harness.checks import Threshold, read_checks
from harness.checks.edits import with_thresholds

OWN = Path(__file__).parents[2] / "stress_tests" / "checks.toml"
WRITTEN = """\
# What this file is for,
#   in the words of its author.
schema = 2
protocol = 1

[data]   # never edited
name = "toy"
split = 'test'
sha256 = "abc"
n = 10_000

# Whose reference models they were.
[recipe]
about = "set by hand"  # as of May
seeds = [1, 2, 3]

# How many images; do not lose this.
[data.samples]
shift = 3_000   # three thousand

# Turning.
[[check]]
id       = "ccw-010"   # to the left
family   = "rotation"
metric   = "accuracy"
pose     = {degrees = 10}
hand     = { threshold = 0.85, reason = "agreed in May" } # not to be touched

[[check]]
metric = "accuracy"
id = "cw-010"
family = "rotation"
pose = { degrees = -10 }

# Without calibration.
[[check]]
id = "left"
family = "shift"
metric = "accuracy"
hand = { threshold = 0.7 }
"""
ROWS = (check("ccw-010"), check("cw-010"))
RECIPE = {
    "about": "8 reference models",
    "panel": "models/panel.json",
    "training": {"epochs": 20, "sizes": [4, 2]},
}
DATE = "2001-02-03"


@cache
def calibrated(checks=ROWS, *, mean=0.9, std=0.003, seed=0):
    values = np.random.default_rng(seed).normal(mean, std, (8, len(checks)))
    return calibrate(panel_of(values, checks))


def rewritten(content=WRITTEN, items=None, *, recipe=RECIPE, date=DATE):
    return with_thresholds(
        content, calibrated() if items is None else items, recipe=recipe, date=date
    )


def read(folder, content):
    path = folder / "checks.toml"
    path.write_text(content, encoding="utf-8")
    return read_checks(path)


def test_the_thresholds_are_read_back_and_all_else_stays(tmp_path):
    items = calibrated()
    checks = {check.id: check for check in read(tmp_path, rewritten(items=items)).checks}
    assert list(checks) == ["ccw-010", "cw-010", "left"]
    for item in items:
        panel = checks[item.check.id].panel
        assert panel.threshold == item.threshold
        assert (panel.reference_models, panel.date) == (8, DATE)
        assert (panel.mean, panel.std) == (
            pytest.approx(item.mean, abs=1e-4),
            pytest.approx(item.std, abs=1e-5),
        )
        assert (panel.k, panel.minimum_detectable_drop) == (
            pytest.approx(item.k, abs=0.01),
            pytest.approx(item.minimum_detectable_drop, abs=1e-4),
        )
    assert checks["left"].panel is None
    before, after = (read(tmp_path, content).checks for content in (WRITTEN, rewritten()))
    assert [check.hand for check in after] == [
        Threshold(0.85, "agreed in May"),
        None,
        Threshold(0.7),
    ]
    assert [(check.pose, check.metric, check.family) for check in after] == [
        (check.pose, check.metric, check.family) for check in before
    ]
    assert after[0].binding.threshold == 0.85, "a hand threshold still wins"
    changes = [
        line
        for line in difflib.ndiff(WRITTEN.splitlines(), rewritten().splitlines())
        if line[0] in "+-"
    ]
    removed = [line[2:] for line in changes if line[0] == "-" and line[2:]]
    added = [line[2:] for line in changes if line[0] == "+" and line[2:]]
    assert removed == ['about = "set by hand"  # as of May', "seeds = [1, 2, 3]"]
    assert [line.split(" = ")[0] for line in added] == [
        *("about", "panel", "[recipe.training]", "epochs", "sizes"),
        *("panel", "panel"),
    ]
    once = rewritten()
    assert rewritten(once) == once
    wide = rewritten(items=calibrated(std=0.02))
    assert rewritten(wide, calibrated(std=0.02)) == wide


@pytest.mark.parametrize(
    ("models", "mean", "stays"), [(8, 0.9, False), (2, 0.9, True), (8, 0.01, True)],
    ids=["calibrated", "provisional", "informational"],
)  # fmt: skip
def test_a_threshold_until_calibrated_ends_when_the_panel_has_one(tmp_path, models, mean, stays):
    content = WRITTEN.replace('"agreed in May"', '"until calibrated"')
    values = np.random.default_rng(0).normal(mean, 0.003, (models, len(ROWS)))
    panel = panel_of(values, ROWS)
    items = thresholds_of(panel)
    ends = set() if models < PROVISIONAL else {"ccw-010"}
    assert by_hand(read(tmp_path, content), panel) == {"ccw-010", "left"} - ends, (
        "the others share the false alarms"
    )
    check = read(tmp_path, rewritten(content, items)).checks[0]
    assert (check.hand is not None) == stays
    assert check.panel is not None


def test_comments_and_order_of_this_repositorys_checks_survive(tmp_path):
    content = OWN.read_text(encoding="utf-8")
    shipped = [each for each in read_checks(OWN).checks if each.family in {"clean", "rotation"}]
    checks = tuple(check(each.id, family=each.family) for each in shipped)
    result = rewritten(content, calibrated(checks))
    kept = [line for line in content.splitlines() if line.startswith("#")]
    assert [line for line in result.splitlines() if line.startswith("#")] == kept
    after = read(tmp_path, result)
    assert [check.id for check in after.checks] == [check.id for check in read_checks(OWN).checks]
    assert {check.id for check in after.checks if check.panel and check.panel.date == DATE} == {
        check.id for check in checks
    }
    samples = re.search(r"# How many.*?thousand\n", WRITTEN, re.DOTALL)[0]
    content = WRITTEN.replace(samples, "").replace("# Without", f"{samples}\n# Without")
    assert content.index("[data.samples]") > content.index("[[check]]")
    before, after = read(tmp_path, content), read(tmp_path, rewritten(content))
    assert [check.id for check in after.checks] == [check.id for check in before.checks]
    assert after.checks[1].panel.threshold == calibrated()[1].threshold


def test_a_comment_stays_above_the_row_that_it_is_about():
    result = rewritten()
    assert '\n\n# Turning.\n[[check]]\nid       = "ccw-010"' in result
    assert '}\n\n# Without calibration.\n[[check]]\nid = "left"' in result


def test_rows_that_other_tables_separate_stay_where_they_are():
    start, end = WRITTEN.index("# Whose reference"), WRITTEN.index("# Turning.")
    tables = WRITTEN[start:end]
    content = WRITTEN.replace(tables, "").replace("# Without", f"{tables}# Without")
    result = rewritten(content)
    headers = [line for line in result.splitlines() if line.startswith(("#", "["))]
    expected = [line for line in content.splitlines() if line.startswith(("#", "["))]
    expected.insert(expected.index("[recipe]") + 1, "[recipe.training]")
    assert headers == expected


def test_a_row_in_several_tables_gets_a_threshold():
    spread = WRITTEN.replace("pose     = {degrees = 10}\n", "")
    spread = spread.replace("# not to be touched\n", "#\n\n  [check.pose]\n  degrees = 10\n")
    assert "  [check.pose]\n  degrees = 10\n" in rewritten(spread)
    rows = tomllib.loads(rewritten(spread))["check"]
    assert rows[0]["pose"] == {"degrees": 10}
    assert rows[0]["panel"]["date"] == DATE
    table = WRITTEN.replace("pose     = {degrees = 10}\n", "").replace(
        "# not to be touched\n", "#\n[check.panel]\nthreshold = 0.1\n"
    )
    rows = tomllib.loads(rewritten(table))["check"]
    assert rows[0]["panel"] == tomllib.loads(rewritten())["check"][0]["panel"]


def test_a_file_without_recipe_and_rows_gets_both_and_a_new_row(tmp_path):
    head = WRITTEN.split("# Whose", maxsplit=1)[0]
    result = read(tmp_path, rewritten(head))
    assert dict(result.recipe) == RECIPE
    assert [(check.id, check.family, check.metric) for check in result.checks] == [
        ("ccw-010", "rotation", "accuracy"),
        ("cw-010", "rotation", "accuracy"),
    ]
    checks = (
        *ROWS,
        check("blots", family="occlusion"),
        check("swaps", family="swaps", unit="images"),
    )
    values = np.random.default_rng(0).normal([0.9] * 3 + [60], [0.002] * 3 + [5], (8, 4))
    result = read(tmp_path, rewritten(items=calibrate(panel_of(values, checks))))
    assert [check.id for check in result.checks] == ["ccw-010", "cw-010", "left", "blots", "swaps"]
    blots, swaps = result.checks[-2:]
    assert (blots.family, blots.metric, blots.direction, blots.role) == (
        "occlusion",
        "accuracy",
        "at_least",
        "candidate",
    )
    assert (swaps.family, swaps.metric, swaps.direction) == ("swaps", "pair_failures", "at_most")
    assert blots.panel.threshold < 0.9
    assert swaps.panel.threshold > 60
    values = np.random.default_rng(0).normal(60, 9, (8, 1))
    (item,) = calibrate(panel_of(values, (check("swaps", family="swaps", unit="images"),)))
    (swaps,) = read(tmp_path, rewritten(items=[item])).family("swaps")
    assert swaps.panel.mean == round(item.mean, 1) != round(item.mean, 2)
    assert swaps.panel.minimum_detectable_drop == round(item.minimum_detectable_drop, 1)
    assert swaps.panel.std == round(item.std, 2) != round(item.std, 3)


def test_a_reason_not_to_gate_appears_and_disappears(tmp_path):
    wide = calibrated(std=0.2)
    assert all(item.informational for item in wide)
    off = rewritten(items=wide)
    check = read(tmp_path, off).checks[1]
    assert check.informational == wide[1].informational
    assert (check.binding, check.panel.threshold) == (None, wide[1].threshold)
    on = rewritten(off)
    assert "informational" not in on
    assert read(tmp_path, on).checks[1].binding.threshold == calibrated()[1].threshold
    assert on == rewritten()


@pytest.mark.parametrize(
    ("facts", "mean", "std"),
    [
        ({"unit": "share"}, 0.2, 0.08),
        ({"unit": "share", "direction": "at_most"}, 0.9, 0.08),
        ({"unit": "difference"}, -0.9, 0.1),
        ({"unit": "images", "n": 100}, 95, 10),
    ],
    ids=[
        "threshold-below-zero",
        "threshold-above-one",
        "gain-below-minus-one",
        "more-than-all-images",
    ],
)
def test_a_threshold_beyond_the_metrics_range_leaves_a_readable_file(tmp_path, facts, mean, std):
    items = calibrated((check("ccw-010", **facts),), mean=mean, std=std)
    assert items[0].informational
    written = f'"{items[0].check.metric}"\ndirection = "{items[0].check.direction}"'
    content = WRITTEN.replace('"accuracy"', written, 1)
    assert read(tmp_path, rewritten(content, items)).checks[0].informational
