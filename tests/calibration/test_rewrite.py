"""Calibrated bounds go into a gates file that a person wrote, and nothing else of it changes."""

import difflib
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from panels import calibrate, panel_of, row

from harness.calibration.rewrite import with_bounds
from harness.gates import Bound, read_gates

OWN = Path(__file__).parents[2] / "stress_tests" / "gates.toml"
WRITTEN = """\
# What this file is for,
#   in the words of its author.
schema = 1
protocol = 1

[data]   # never edited
name = "toy"
split = 'test'
sha256 = "abc"
n = 10_000

# Whose retrains they were.
[recipe]
about = "set by hand"  # as of May
seeds = [1, 2, 3]

# How much may go unnoticed; do not lose this.
[budget]
rotation = 3e-2   # three points

# Turning.
[[gate]]
id       = "ccw-010"   # to the left
family   = "rotation"
metric   = "accuracy"
pose     = {degrees = 10}
hand     = { bound = 0.85, reason = "agreed in May" } # not to be touched

[[gate]]
metric = "accuracy"
id = "cw-010"
family = "rotation"
pose = { degrees = -10 }

# Without calibration.
[[gate]]
id = "left"
family = "shift"
metric = "accuracy"
hand = { bound = 0.7 }
"""
ROWS = (row("ccw-010"), row("cw-010"))
RECIPE = {"about": "8 healthy retrains", "panel": "models/panel.json", "training": {"epochs": 20, "sizes": [4, 2]}}
DATE = "2001-02-03"


@cache
def calibrated(rows=ROWS, *, mean=0.9, std=0.003, seed=0, budget=0.05):
    values = np.random.default_rng(seed).normal(mean, std, (8, len(rows)))
    return calibrate(panel_of(values, rows), {r.family: budget for r in rows})


def rewritten(content=WRITTEN, items=None, *, recipe=RECIPE, date=DATE):
    return with_bounds(content, calibrated() if items is None else items, recipe=recipe, date=date)


def read(folder, content):
    path = folder / "gates.toml"
    path.write_text(content, encoding="utf-8")
    return read_gates(path)


def test_the_bounds_are_read_back_with_their_provenance(tmp_path):
    items = calibrated()
    gates = {gate.id: gate for gate in read(tmp_path, rewritten(items=items)).gates}
    assert list(gates) == ["ccw-010", "cw-010", "left"]
    for item in items:
        panel = gates[item.row.id].panel
        assert panel.bound == item.bound
        assert (panel.retrains, panel.date) == (8, DATE)
        assert (panel.mean, panel.std) == (pytest.approx(item.mean, abs=1e-4), pytest.approx(item.std, abs=1e-5))
        assert (panel.k, panel.detects) == (pytest.approx(item.k, abs=0.01), pytest.approx(item.detects, abs=1e-4))
    assert gates["left"].panel is None


def test_hand_bounds_and_the_rest_of_each_row_stay(tmp_path):
    before, after = (read(tmp_path, content).gates for content in (WRITTEN, rewritten()))
    assert [gate.hand for gate in after] == [Bound(0.85, "agreed in May"), None, Bound(0.7)]
    assert [(gate.pose, gate.metric, gate.family) for gate in after] == [
        (gate.pose, gate.metric, gate.family) for gate in before
    ]
    assert after[0].threshold.bound == 0.85, "a hand bound still wins"


def test_of_all_lines_only_the_recipe_and_the_bounds_change():
    changes = [line for line in difflib.ndiff(WRITTEN.splitlines(), rewritten().splitlines()) if line[0] in "+-"]
    removed = [line[2:] for line in changes if line[0] == "-" and line[2:]]
    added = [line[2:] for line in changes if line[0] == "+" and line[2:]]
    assert removed == ['about = "set by hand"  # as of May', "seeds = [1, 2, 3]"]
    assert [line.split(" = ")[0] for line in added] == [
        *("about", "panel", "[recipe.training]", "epochs", "sizes"),
        *("panel", "panel"),
    ]


def test_every_comment_outside_the_recipe_survives():
    comments = set(re.findall(r"#.*", WRITTEN)) - {"# as of May"}
    assert comments - set(re.findall(r"#.*", rewritten())) == set()


def test_comments_and_order_of_this_repositorys_gates_survive(tmp_path):
    content = OWN.read_text(encoding="utf-8")
    gates = [gate for gate in read_gates(OWN).gates if gate.family in {"clean", "rotation"}]
    rows = tuple(row(gate.id, family=gate.family) for gate in gates)
    result = rewritten(content, calibrated(rows, budget=1.0))
    kept = [line for line in content.splitlines() if line.startswith("#")]
    assert [line for line in result.splitlines() if line.startswith("#")] == kept
    after = read(tmp_path, result)
    assert [gate.id for gate in after.gates] == [gate.id for gate in read_gates(OWN).gates]
    assert {gate.id for gate in after.gates if gate.panel and gate.panel.date == DATE} == {gate.id for gate in gates}
    assert after.budgets == read_gates(OWN).budgets


def test_the_recipe_is_replaced(tmp_path):
    assert dict(read(tmp_path, rewritten()).recipe) == RECIPE
    again = rewritten(rewritten(), recipe={"about": "20 others"})
    assert dict(read(tmp_path, again).recipe) == {"about": "20 others"}


def test_a_file_without_recipe_and_rows_gets_both(tmp_path):
    head = WRITTEN.split("# Whose", maxsplit=1)[0]
    result = read(tmp_path, rewritten(head))
    assert dict(result.recipe) == RECIPE
    assert [(gate.id, gate.family, gate.metric) for gate in result.gates] == [
        ("ccw-010", "rotation", "accuracy"),
        ("cw-010", "rotation", "accuracy"),
    ]


def test_a_new_row_is_appended_with_what_is_known_of_it(tmp_path):
    rows = (*ROWS, row("blots", family="occlusion"), row("swaps", family="swaps", unit="images"))
    values = np.random.default_rng(0).normal([0.9] * 3 + [60], [0.002] * 3 + [5], (8, 4))
    result = read(tmp_path, rewritten(items=calibrate(panel_of(values, rows), {"occlusion": 1.0, "swaps": 100})))
    assert [gate.id for gate in result.gates] == ["ccw-010", "cw-010", "left", "blots", "swaps"]
    blots, swaps = result.gates[-2:]
    assert (blots.family, blots.metric, blots.direction, blots.role) == (
        "occlusion",
        "accuracy",
        "at_least",
        "candidate",
    )
    assert (swaps.family, swaps.metric, swaps.direction) == ("swaps", "pair_failures", "at_most")
    assert blots.panel.bound < 0.9
    assert swaps.panel.bound > 60


def test_rows_are_written_where_they_are_told_apart():
    """A person reads the file: a row begins after an empty line."""
    lines = rewritten(items=calibrated((*ROWS, row("blots", family="occlusion")))).splitlines()
    starts = [number for number, line in enumerate(lines) if line == "[[gate]]"]
    assert len(starts) == 4
    assert all(lines[number - 1] == "" or lines[number - 1].startswith("#") for number in starts)


def test_a_reason_not_to_gate_appears_and_disappears(tmp_path):
    wide = calibrated(std=0.02)
    assert all(item.not_gated for item in wide)
    off = rewritten(items=wide)
    gate = read(tmp_path, off).gates[1]
    assert gate.not_gated == wide[1].not_gated
    assert (gate.threshold, gate.panel.bound) == (None, wide[1].bound)
    on = rewritten(off)
    assert "not_gated" not in on
    assert read(tmp_path, on).gates[1].threshold.bound == calibrated()[1].bound
    assert on == rewritten()


@pytest.mark.parametrize(
    ("facts", "mean", "std"),
    [
        ({"unit": "share"}, 0.2, 0.08),
        ({"unit": "share", "direction": "at_most"}, 0.9, 0.08),
        ({"unit": "difference"}, -0.9, 0.1),
        ({"unit": "images", "n": 100}, 95, 10),
    ],
    ids=["floor-below-zero", "ceiling-above-one", "gain-below-minus-one", "more-than-all-images"],
)
def test_a_bound_beyond_what_the_metric_can_reach_leaves_a_file_that_can_be_read(tmp_path, facts, mean, std):
    items = calibrated((row("ccw-010", **facts),), mean=mean, std=std)
    assert items[0].not_gated
    written = f'"{items[0].row.metric}"\ndirection = "{items[0].row.direction}"'
    content = WRITTEN.replace('"accuracy"', written, 1)
    gate = read(tmp_path, rewritten(content, items)).gates[0]
    assert gate.not_gated


def test_calibrating_twice_with_equal_input_gives_equal_text():
    once = rewritten()
    assert rewritten(once) == once
    wide = rewritten(items=calibrated(std=0.02))
    assert rewritten(wide, calibrated(std=0.02)) == wide


def test_a_later_calibration_replaces_the_bounds(tmp_path):
    later = calibrated(mean=0.95, seed=1)
    result = read(tmp_path, rewritten(rewritten(), later, date="2027-01-01"))
    assert [gate.panel.bound for gate in result.gates[:2]] == [item.bound for item in later]
    assert {gate.panel.date for gate in result.gates[:2]} == {"2027-01-01"}


def test_numbers_are_plain_in_the_text():
    assert re.search(
        r"panel = \{ ?bound = 0\.8\d{1,3}, mean = 0\.\d{1,4}, std = 0\.00\d{1,3}, k = \d\.\d{1,2}, ", rewritten()
    )


def test_counts_are_written_to_a_tenth_and_their_spread_to_a_hundredth(tmp_path):
    values = np.random.default_rng(0).normal(60, 9, (8, 1))
    (item,) = calibrate(panel_of(values, (row("swaps", family="swaps", unit="images"),)), {"swaps": 100})
    (swaps,) = read(tmp_path, rewritten(items=[item])).family("swaps")
    assert swaps.panel.mean == round(item.mean, 1) != round(item.mean, 2)
    assert swaps.panel.detects == round(item.detects, 1)
    assert swaps.panel.std == round(item.std, 2) != round(item.std, 3)


def test_tables_between_the_rows_are_no_obstacle(tmp_path):
    budget = re.search(r"# How much.*?points\n", WRITTEN, re.DOTALL)[0]
    content = WRITTEN.replace(budget, "").replace("# Without", f"{budget}\n# Without")
    assert content.index("[budget]") > content.index("[[gate]]")
    before, after = read(tmp_path, content), read(tmp_path, rewritten(content))
    assert [gate.id for gate in after.gates] == [gate.id for gate in before.gates]
    assert after.budgets == before.budgets
    assert after.gates[1].panel.bound == calibrated()[1].bound
