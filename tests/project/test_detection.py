"""The benchmark of detection judges what it has kept of each mutant by the gates file of today."""

from pathlib import Path

import pytest

from benchmarks.detection.judgement import verdict_of
from harness.gates import read_gates

ROOT = Path(__file__).parents[2]
ROWS = [
    gate
    for gate in read_gates(ROOT / "stress_tests/gates.toml").gates
    # What compares with an incumbent is not kept: mutants are measured without one.
    if gate.role == "candidate" and gate.threshold and gate.significance is None
]


@pytest.mark.parametrize("better", [True, False], ids=["inside", "beyond"])
def test_a_kept_value_of_any_row_is_judged_by_its_bound(better):
    for row in ROWS:
        bound, sign = row.threshold.bound, 1 if row.direction == "at_least" else -1
        value = bound + sign * (1 if better else -1) * 1e-6
        verdict = verdict_of(row, value, n=10_000)
        assert verdict.status == ("pass" if better else "fail"), verdict.explain()
        assert verdict.limit == bound


def test_what_the_gate_had_no_value_for_is_not_applicable():
    assert verdict_of(ROWS[0], None, n=10_000).status == "not_applicable"
