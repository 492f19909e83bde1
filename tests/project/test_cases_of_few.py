"""The cases of the benchmark of few reference models.

Their faults, what is stored of them, and rates of alarms.
"""

import numpy as np
import pytest
import torch

from benchmarks.few import case_store
from benchmarks.few.case_store import distances_file, read_case, rows_file, write_rows
from benchmarks.few.case_tables import left_out_row
from benchmarks.few.cases import CASES
from benchmarks.few.faults import FAULTS, fault_of, faulty_paths
from benchmarks.few.network import Augmentation, Network, augmented, make_batch_norm_stale
from benchmarks.few.splits import interval_over_networks
from benchmarks.few.stored import distances_of
from benchmarks.few.voices import mel_filters
from harness.measures import Unit
from harness.measures.metric import packed
from harness.measures.panel.threshold import PanelCheck

N = 400
ROW = PanelCheck("clean", "clean", "accuracy", Unit.SHARE, "at_least", N)


def stored_case(folder, monkeypatch, *, networks):
    monkeypatch.setattr(case_store, "MEASURED", folder)
    is_correct = np.random.default_rng(0).random((networks, N)) < 0.9
    entries = [
        [
            {
                "id": "clean",
                "value": float(row.mean()),
                "unit": "share",
                "each": packed(row),
                "rest": 0.9,
            }
        ]
        for row in is_correct
    ]
    names = [f"seed-{number}" for number in range(networks)]
    distances_of(names, entries).write(distances_file("shapes", N))
    write_rows(rows_file("shapes", N), [ROW], {"label-noise-1": {"clean": 0.5}, "no-shifts-1": {}})


def test_a_case_is_read_as_it_was_written(tmp_path, monkeypatch):
    stored_case(tmp_path, monkeypatch, networks=5)

    networks, names = read_case("shapes", N)

    assert networks.panel.checks == (ROW,)
    assert names == ("label-noise-1", "no-shifts-1")
    assert networks.mutants[0, 0] == 0.5
    assert np.isnan(networks.mutants[1, 0]), "a row without a value"


def test_left_out_runs_are_splits_times_networks(tmp_path, monkeypatch):
    stored_case(tmp_path, monkeypatch, networks=6)
    networks, _ = read_case("shapes", N)

    _, runs, count, *_ = left_out_row(networks, reference_models=3, splits=10)

    assert (runs, count) == ("30", "6")


def test_the_interval_of_one_rate_is_that_rate():
    assert interval_over_networks({"a": [True, False], "b": [False, True]}, seed=0) == (0.5, 0.5)


def test_files_of_faults_name_their_faults(tmp_path):
    faults = [fault_of(path.stem) for path in faulty_paths(tmp_path)]
    assert list(dict.fromkeys(faults)) == list(FAULTS)


def test_time_alone_is_shifted_and_edges_repeat():
    torch.manual_seed(0)
    pixels = torch.arange(8.0).expand(50, 1, 8, 8)

    shifted = augmented(pixels, Augmentation(rotate=0, shift_x=2, shift_y=0, border="edge"))

    steps = shifted[:, 0, 0, 4] - 4
    assert set(steps.tolist()) == {-2, -1, 0, 1, 2}
    assert torch.equal(shifted[:, :, 0], shifted[:, :, 7])


def test_a_range_of_zero_changes_nothing():
    pixels = torch.rand(4, 3, 8, 8)
    unchanged = augmented(pixels, Augmentation(rotate=0, shift_x=0, shift_y=1e-9, border="edge"))
    assert torch.allclose(unchanged, pixels, atol=1e-5)


def test_a_stale_batch_norm_has_the_statistics_of_its_input():
    network = Network(channels=1, classes=3, side=8, width=2).eval()
    pixels = torch.rand(32, 1, 8, 8)

    make_batch_norm_stale(network, pixels, block=1)

    with torch.no_grad():
        normalized = network.batch_norm_block(1)[:2](network.blocks[0](pixels - 0.4))
    assert normalized.mean().item() == pytest.approx(0, abs=1e-5)


def test_mel_filters_are_means():
    filters = mel_filters()
    assert filters.sum(axis=1) == pytest.approx(np.ones(64))
    assert np.all(np.diff(filters.argmax(axis=1)) >= 0)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_cases_ask_init_for_their_range(case):
    assert ("rotation" in case.families) == ("rotate" in case.augmentation.option)
    assert ("slice" in case.families.split(",")) == case.grouped
