"""The benchmark of false alarms.

Its networks, their faults, its panels, and the intervals of its rates.
"""

import numpy as np
import pytest
import torch
from torch.nn import functional

from benchmarks.alarms.measure import checks_of
from benchmarks.alarms.network import GRID, Networks
from benchmarks.alarms.panels import (
    applicable,
    asked_rows,
    chance_of,
    counts_of,
    failing_regression,
)
from benchmarks.alarms.rates import rate_of
from benchmarks.alarms.sources import read_logits
from benchmarks.alarms.train import TOGETHER, Batch, faulty
from benchmarks.transfer.splits import count_of
from harness.base.errors import InputError
from harness.calibration.panel import Chance
from harness.data import LabelledImages
from harness.measures import Unit
from harness.measures.metric import packed
from harness.measures.panel.threshold import PanelCheck

LABELS = np.repeat(np.arange(4), 30)
IMAGES = LabelledImages(
    torch.zeros((len(LABELS), 1, 1, 1), dtype=torch.uint8),
    torch.from_numpy(LABELS),
    ("a", "b", "c", "d"),
    "letters",
    "test",
)


@pytest.mark.parametrize("side", [8, 14])
def test_a_network_is_one_of_convolutions(side):
    networks = Networks(3, side, 10, torch.Generator().manual_seed(0))
    pixels = torch.rand(5, side, side)
    logits = networks.logits(networks.windows(pixels))

    weights = [weight[1] for weight in networks.weights]
    window, step, margin = networks.window, networks.step, networks.margin
    kernels = weights[0].T.reshape(-1, 1, window, window)
    first = functional.conv2d(pixels[:, None], kernels, stride=step, padding=margin).relu()
    # The second kernel takes positions first, then channels.
    kernels = weights[1].reshape(2, 2, first.shape[1], -1).permute(3, 2, 0, 1)
    second = functional.conv2d(first, kernels, stride=2).relu()
    expected = second.permute(0, 2, 3, 1).flatten(1) @ weights[2]

    assert first.shape[-2:] == (GRID, GRID)
    assert torch.allclose(logits[1], expected[:, :10], atol=1e-5)


def test_networks_learn_alone():
    networks = Networks(2, 8, 10, torch.Generator().manual_seed(0))
    networks.logits(networks.windows(torch.rand(4, 8, 8)))[0].sum().backward()
    assert all(weight.grad[0].any() and not weight.grad[1].any() for weight in networks.weights)


def test_a_tenth_of_noisy_labels_is_wrong():
    labels = torch.arange(10).repeat(100)
    noisy, positions = faulty(Batch("digits", "label-noise", 0), labels, torch.Generator())
    assert (noisy != labels[positions]).float().mean().item() == pytest.approx(0.1, abs=0.01)


def test_half_of_the_images_of_a_class_are_left_out():
    labels = torch.arange(10).repeat(100)
    kept, positions = faulty(Batch("digits", "class-halved", 0), labels, torch.Generator())
    assert torch.equal(kept, labels[positions])
    for network in range(TOGETHER):
        of_class = positions[network][kept[network] == network % 10]
        assert len(of_class) == len(of_class.unique()) == 50


@pytest.mark.parametrize("models", [1, 3])
@pytest.mark.parametrize("unit", [Unit.SHARE, Unit.IMAGES])
@pytest.mark.parametrize("kind", [bool, np.float32])
def test_the_variance_by_chance_is_that_of_a_calibration(models, unit, kind):
    contributions = (np.random.default_rng(0).random((models, 40)) > 0.3).astype(kind)
    row = PanelCheck("clean", "clean", "accuracy", unit, "at_least", 40)
    entries = [
        {"id": "clean", "unit": unit.value, "each": packed(each), "rest": 0.9}
        for each in contributions
    ]
    assert chance_of(contributions, row, 0.9) == Chance.of(entries)


def test_counts_are_those_of_one_network_after_the_other():
    rng = np.random.default_rng(0)
    panel, errors = rng.random((3, len(LABELS))) < 0.2, rng.random((5, len(LABELS))) < 0.3
    asked = asked_rows(checks_of(IMAGES, ["clean"]), IMAGES)
    counts = counts_of(errors.astype(np.float32), panel, asked, LABELS)
    consensus = ~panel.any(axis=0)
    for network, wrong in enumerate(errors):
        expected = [count_of(row, wrong, ~panel[0], consensus, LABELS) for row in asked]
        assert counts[network].tolist() == expected


def test_few_models_have_no_values_among_others():
    asked = asked_rows(checks_of(IMAGES, ["clean"]), IMAGES)
    names = {size: {row.check.id for row in applicable(asked, size)} for size in (1, 2, 3)}
    assert names[1] == set()
    assert names[3] - names[2] == {"flips-consensus"}
    assert {"consensus-clean", "flips", "flips-a"} < names[2]


def test_a_loss_against_the_incumbent_must_be_large_and_significant():
    right = np.ones(2_000, bool)
    wrong = np.zeros((3, 2_000), bool)
    wrong[1, :15] = True
    wrong[2, :60] = True
    assert failing_regression(wrong, right).tolist() == [False, False, True]


def test_an_interval_holds_differences_of_panels_and_of_networks():
    rng = np.random.default_rng(0)
    independent = rng.random((50, 50)) < 0.1
    of_panels = np.repeat(rng.random((50, 1)) < 0.1, 50, axis=1)
    widths = []
    for alarms in (independent, of_panels, of_panels.T):
        rate = rate_of([alarms, alarms])
        assert rate.low <= rate.rate <= rate.high
        widths.append(rate.high - rate.low)
    assert min(widths[1:]) > 2 * widths[0]


def test_logits_of_clean_images_need_no_conditions(tmp_path):
    path = tmp_path / "networks.npz"
    np.savez(path, logits=np.zeros((6, len(LABELS), 4)), labels=LABELS)
    recorded = read_logits(path)
    assert recorded.logits.shape == (6, 1, len(LABELS), 4)
    assert recorded.sizes == (len(LABELS),)
    assert not any(check.family == "corruption" for check in recorded.checks.alone)


def test_each_condition_of_recorded_logits_has_a_check(tmp_path):
    path = tmp_path / "networks.npz"
    logits = np.zeros((6, 2, len(LABELS), 4))
    np.savez(path, logits=logits, labels=LABELS, conditions=["clean", "fog"])
    checks = read_logits(path).checks.alone
    assert [check.id for check in checks if check.family == "corruption"] == ["corrupt-fog"]


@pytest.mark.parametrize(
    "tables",
    [{"logits": np.zeros((6, 3, 4))}, {"logits": np.zeros((6, 3, 4)), "labels": LABELS}],
    ids=["no labels", "other images"],
)
def test_a_file_of_other_tables_is_refused(tmp_path, tables):
    path = tmp_path / "networks.npz"
    np.savez(path, **tables)
    with pytest.raises(InputError, match=r"networks\.npz: (not an npz file|logits have the shape)"):
        read_logits(path)
