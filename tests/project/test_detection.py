"""The benchmark of detection judges what it has kept of each mutant by the checks file of today."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.detection.__main__ import COMMANDS
from benchmarks.detection.besides import draw
from benchmarks.detection.judgement import judge, upper_bound, verdict_of
from benchmarks.detection.make import make_all, with_parents
from benchmarks.detection.measure import measure_all
from benchmarks.detection.mutants import BY_ID, MUTANTS
from benchmarks.detection.paths import BASELINE, CHECKS
from benchmarks.detection.report import tables
from benchmarks.detection.results import MEASURED, Result, read_result, write_result
from benchmarks.detection.sections import beyond, false_alarms, like_healthy
from benchmarks.detection.shares import comparison
from benchmarks.runner import parser
from harness.base.files import hash_of_file
from harness.checks import read_checks
from harness.data import load_fashion_mnist, one_in
from harness.inference import Predictions
from harness.perturb import IDENTITY

ROOT = Path(__file__).parents[2]
ROWS = [
    check
    for check in read_checks(ROOT / "stress_tests/checks.toml").checks
    # Comparisons with an incumbent are not stored: mutants are measured without one.
    if check.role == "candidate" and check.binding and check.significance is None
]


@pytest.mark.parametrize("better", [True, False], ids=["inside", "beyond"])
def test_a_kept_value_of_any_row_is_judged_by_its_threshold(better):
    for row in ROWS:
        threshold, sign = row.binding.threshold, 1 if row.direction == "at_least" else -1
        value = threshold + sign * (1 if better else -1) * 1e-6
        verdict = verdict_of(row, value, n=10_000)
        assert verdict.status == ("pass" if better else "fail"), verdict.explain()
        assert verdict.threshold == threshold


def test_what_the_gate_had_no_value_for_is_not_applicable():
    assert verdict_of(ROWS[0], None, n=10_000).status == "not_applicable"


HEALTHY, MIDDLE = BY_ID["healthy-seed-101"], BY_ID["weight-noise-2-seed-202"]
FILE = read_checks(CHECKS)


def result_of(mutant, *, without=(), **rows):
    """Return a result that holds every threshold by a hair.

    `rows` are other values, and the rows `without` are missing.
    """
    judged = [check for check in FILE.checks if check.role == "candidate"]
    values = {check.id: check.binding.threshold if check.binding else 0.5 for check in judged}
    values |= {check.id: None for check in judged if check.significance is not None}
    values = {name: value for name, value in {**values, **rows}.items() if name not in without}
    files = {"checkpoint_sha256": "of it", "baseline_sha256": hash_of_file(BASELINE)}
    return Result.of(mutant, MEASURED, {}, **files, clean_accuracy=0.92, exit_status=0, rows=values)


def lower(row):
    return {row: next(check.binding.threshold for check in FILE.checks if check.id == row) - 0.01}


def test_a_result_without_a_newer_row_is_undecided_unless_others_fail():
    whole, old = judge(result_of(MIDDLE), FILE), judge(result_of(MIDDLE, without=["flip"]), FILE)
    caught = judge(result_of(MIDDLE, without=["flip"], **lower("clean")), FILE)
    assert (whole.undecided, whole.detected) == (False, False)
    assert (old.undecided, old.detected, old.unmeasured) == (True, False, ("flip",))
    assert (caught.undecided, caught.detected) == (False, True)


def test_tables_count_an_undecided_mutant_as_neither_passed_nor_detected():
    page = tables({MIDDLE: result_of(MIDDLE, without=["flip"])}, FILE)
    assert "The gate detects **0** of 1 mutants that are not trivial" in page
    assert "It passes 0; 1 are undecided." in page
    assert "0 of 1 (1 undecided)" in page
    assert "Undecided, since newer rows were not measured on them:" in page
    assert "of the families flip (1 row)" in page


def test_false_alarms_of_the_gate_count_models_with_every_row():
    kept = [judge(result_of(HEALTHY), FILE)] * 3
    kept += [judge(result_of(HEALTHY, without=["flip"]), FILE)] * 2
    text = false_alarms(kept)
    assert "**0 of 3** controls measured on every row" in text
    assert f"{upper_bound(0, 3):.1%}" in text
    assert "2 more controls lack up to 1 row" in text
    assert "**0 of 5** controls by the rows that each was measured on" in text


def test_the_threshold_on_the_share_of_false_alarms_is_exact():
    assert upper_bound(0, 60) == pytest.approx(1 - 0.05 ** (1 / 60))
    assert upper_bound(0, 12) == pytest.approx(0.2209, abs=1e-4)


def test_a_passed_mutant_is_compared_with_controls_row_by_row():
    reference = [judge(result_of(HEALTHY), FILE)] * 2
    worse = judge(result_of(MIDDLE, clean=0.0), FILE)
    compared = sum(verdict.value is not None for verdict in worse.verdicts)
    assert beyond(worse, reference) == (1, compared)
    assert beyond(reference[0], reference[1:]) == (0, compared)
    assert "worse than all 1 others in 0 to 0 rows" in like_healthy([worse], reference)


def test_what_is_measured_is_not_trained_again_unless_a_damage_needs_it(tmp_path):
    def touching(mutant, folder):
        return ("touch", str(mutant.checkpoint(folder)))

    measured = {HEALTHY, MIDDLE}.__contains__
    assert make_all(
        [HEALTHY, MIDDLE], tmp_path, side_by_side=1, measured=measured, command=touching
    )
    assert not list(tmp_path.glob("*.safetensors"))
    assert with_parents([MIDDLE], tmp_path) == [HEALTHY, MIDDLE]
    assert make_all([HEALTHY], tmp_path, side_by_side=1, command=touching)
    assert with_parents([MIDDLE], tmp_path) == [MIDDLE]


def test_a_result_is_complete_by_todays_rows_and_todays_baseline():
    kept, today = result_of(HEALTHY), hash_of_file(BASELINE)
    assert kept.complete(FILE.checks, baseline_sha256=today)
    assert not kept.complete(FILE.checks, baseline_sha256="another")
    assert not result_of(HEALTHY, without=["flip"]).complete(FILE.checks, baseline_sha256=today)
    assert result_of(HEALTHY, flip=None).missing(FILE.checks) == ["flip"]
    assert replace(kept, outcome="diverged", rows={}).complete(FILE.checks, baseline_sha256=today)


def test_rows_added_by_other_versions_are_told_apart():
    old = replace(result_of(HEALTHY, without=["flip"]), versions={"torch": "1"})
    row = {"flip": 0.9}
    same = old.with_rows_of(replace(old, rows=row))
    other = old.with_rows_of(replace(old, rows=row, versions={"torch": "2"}))
    assert same.rows == other.rows == {**old.rows, **row}
    assert not same.later
    assert list(other.later) == [{"rows": ["flip"], "versions": {"torch": "2"}}]
    more = other.with_rows_of(replace(old, rows={"clean": 0.9}, versions={"torch": "2"}))
    assert list(more.later) == [{"rows": ["clean", "flip"], "versions": {"torch": "2"}}]
    assert not more.with_rows_of(replace(old, rows={**row, "clean": 0.9})).later
    page = tables({HEALTHY: other}, FILE)
    assert "Newer rows of the same checkpoints were added by torch 2" in page


def test_measuring_counts_kept_results_whose_checkpoint_is_elsewhere(tmp_path, capsys):
    write_result(result_of(HEALTHY), tmp_path / "results")
    write_result(result_of(MIDDLE, without=["flip"]), tmp_path / "results")
    assert measure_all([HEALTHY, MIDDLE], tmp_path, side_by_side=1, results=tmp_path / "results")
    assert (
        "1 of 2 mutants have a result with every row (1 without a checkpoint here); 0 to measure, "
        "1 to make" in (capsys.readouterr().out)
    )


@pytest.mark.parametrize("command", [[], ["train"], ["shares"]], ids=["all", "train", "shares"])
def test_help_is_printed(capsys, command):
    with pytest.raises(SystemExit) as ended:
        parser(COMMANDS).parse_args([*command, "--help"])
    assert ended.value.code == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "%%" not in printed
    assert ("divide the 1% of" in printed) == (command != ["train"])


def test_divisions_of_the_false_alarms_are_compared_on_kept_results():
    _, _, *compared = comparison().splitlines()
    assert len(compared) == 9
    assert all(
        int(choosing) > 0 < int(confirming)
        for _, _, choosing, confirming, *_ in (r.split("|") for r in compared)
    )


def test_every_kept_result_is_read():
    kept = [read_result(mutant.id, ROOT / "benchmarks/detection/results") for mutant in MUTANTS]
    assert sum(result is not None for result in kept) >= 72


def test_predictions_lost_at_random_are_judged_by_the_checks_file():
    images = one_in(20, load_fashion_mnist("test"))
    said = images.labels.numpy().copy()
    said[:60] = (said[:60] + 1) % 10
    sure = Predictions(np.eye(10, dtype=np.float32)[said] * 9, images, IDENTITY)
    drawn = draw([sure], read_checks(CHECKS), draws=2)
    assert (drawn.networks, drawn.draws, drawn.failed, drawn.failed_by_clean) == (1, 2, 2, 2)
