"""Fingerprint: weight statistics by PyTorch, distances by hand, and a gate that reads them."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from zoo import ARGUMENTS, CLASSES, CLEAN, TRAINING, Zoo, images_of, network, role_model

from harness.base.errors import NotApplicableError, NotRecordedError, PanelError
from harness.cli import main
from harness.features.fingerprint.distance import (
    distance_from,
    find_weight_distance,
    weight_distance,
)
from harness.features.fingerprint.weights import (
    KIND,
    StatisticKind,
    as_model_statistics,
    find_weight_statistics,
    statistics_of,
)
from harness.inference import standins
from harness.measures.panel.collection import (
    PredictionRecorder,
    ReferencePredictions,
    archive_of,
    combine,
    merge,
    read_archive,
)
from harness.measures.panel.predictions import read_panel_predictions
from harness.networks.checkpoints import Record, save_checkpoint

IMAGES = images_of(40)
ON_ZOO = ("--stress-set", "data=npz:zoo.npz")
ROW = '\n[[check]]\nid = "fingerprint"\nfamily = "fingerprint"\nmetric = "weight_distance"\n'
KINDS = np.array(["norm"] * 6 + ["effective rank"] * 6)


def named(statistics, kind):
    return {statistic.tensor: statistic.value for statistic in statistics if statistic.kind == kind}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


# Statistics of one network.


@pytest.mark.parametrize(
    ("layer", "rows"),
    [
        pytest.param(nn.Conv2d(3, 8, 3), 8, id="convolution"),
        pytest.param(nn.Conv2d(6, 6, 3, groups=6), 6, id="depthwise convolution"),
        pytest.param(nn.Linear(20, 5), 5, id="wide matrix"),
        pytest.param(nn.Linear(5, 20), 20, id="tall matrix"),
    ],
)
def test_statistics_of_a_weight_are_those_of_its_singular_values(layer, rows):
    statistics = statistics_of(layer)

    weight = layer.weight.detach().double().reshape(rows, -1)
    singular_values = torch.linalg.svdvals(weight).numpy()
    squares = singular_values**2 / (singular_values**2).sum()
    assert named(statistics, "norm")["weight"] == pytest.approx(float(weight.norm().log()))
    assert named(statistics, "spectral norm")["weight"] == pytest.approx(
        np.log(singular_values[0]), abs=1e-5
    )
    assert named(statistics, "effective rank")["weight"] == pytest.approx(
        -(squares * np.log(squares)).sum(), abs=1e-5
    )
    assert len(statistics) == 3, "a bias has none"


def test_a_matrix_of_rank_one_has_an_effective_rank_of_one():
    layer = nn.Linear(7, 4, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.outer(torch.arange(1.0, 5), torch.arange(1.0, 8)))
    assert named(statistics_of(layer), "effective rank")["weight"] == pytest.approx(0, abs=1e-4)


def test_weights_that_are_all_zero_have_finite_statistics():
    layer = nn.Linear(7, 4)
    nn.init.zeros_(layer.weight)
    assert np.isfinite(as_model_statistics(statistics_of(layer)).values).all()


def test_norms_of_layers_have_a_scale_and_batch_norms_a_variance():
    network = nn.Sequential(nn.BatchNorm2d(4), nn.LayerNorm(4), nn.GroupNorm(2, 4))
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([1.0, -2.0, 3.0, -4.0]))
        network[0].running_var.fill_(3.0)

    statistics = statistics_of(network)

    assert named(statistics, "mean scale")["1.weight"] == pytest.approx(np.log(2.5))
    assert named(statistics, "running variance") == {
        "0.running_var": pytest.approx(np.log(3.0), abs=1e-4)
    }
    assert list(named(statistics, "mean scale")) == ["0.weight", "1.weight", "2.weight"]


def test_attention_and_positions_have_statistics():
    network = nn.TransformerEncoderLayer(8, 2, 16)
    network.positions = nn.Parameter(torch.randn(1, 5, 8))
    ranks = named(statistics_of(network), "effective rank")
    assert {"positions", "self_attn.in_proj_weight", "linear1.weight"} <= set(ranks)


def test_a_vector_has_a_norm_and_no_rank():
    layer = nn.Linear(6, 1, bias=False)
    assert [statistic.kind for statistic in statistics_of(layer)] == [StatisticKind.NORM]


def test_empty_and_whole_numbers_have_no_statistic():
    network = nn.Module()
    network.empty = nn.Parameter(torch.empty(0, 5))
    network.codes = nn.Parameter(torch.ones(3, 3, dtype=torch.int8), requires_grad=False)
    network.bias_ih_l0 = nn.Parameter(torch.ones(4))
    assert statistics_of(network) == ()


def test_complex_numbers_count_by_their_absolute_values():
    network = nn.Module()
    network.weight = nn.Parameter(torch.full((2, 3), 3 + 4j))
    assert named(statistics_of(network), "norm")["weight"] == pytest.approx(np.log(5 * np.sqrt(6)))


@pytest.mark.parametrize(
    ("weight", "reason"),
    [
        pytest.param(
            torch.full((2, 2), float("inf")), "norm of weight 2x2 is not finite", id="infinite"
        ),
        pytest.param(torch.ones(2, 2).to_sparse(), "values of weight cannot be read", id="sparse"),
        pytest.param(torch.ones(2, 2, device="meta"), "values of weight cannot be read", id="meta"),
    ],
)
def test_values_that_no_statistic_reads_are_not_applicable(weight, reason):
    network = nn.Module()
    network.weight = nn.Parameter(weight)
    with pytest.raises(NotApplicableError, match=reason):
        statistics_of(network)


def test_half_precision_changes_no_statistic_by_a_thousandth():
    layer = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16))
    whole = as_model_statistics(statistics_of(layer)).values
    half = as_model_statistics(statistics_of(layer.half())).values
    assert half == pytest.approx(whole, abs=1e-3)


def test_predictions_alone_have_no_weights():
    model = standins.standing_in(role_model(), standins.right)
    with pytest.raises(NotApplicableError, match="gives predictions only, no weights"):
        find_weight_statistics(model)


# Distances.


def test_the_distance_of_one_more_healthy_model_is_about_one():
    others = normal(2_000, 12)
    distances = [distance_from(normal(12, seed=seed), others, KINDS)[0] for seed in range(200)]
    assert np.sqrt(np.mean(np.square(distances))) == pytest.approx(1, abs=0.05)


def test_a_deviation_counts_in_standard_deviations_whatever_the_unit():
    others, unit = normal(50, 12), np.logspace(-1, 1, 12)
    shifted = others.mean(axis=0) + 5 * others.std(axis=0, ddof=1)
    plain, deviations = distance_from(shifted, others, KINDS)
    scaled, _ = distance_from(
        shifted * unit, others * unit, np.array([str(kind) for kind in range(12)])
    )
    assert deviations == pytest.approx(5 / np.sqrt(1 + 1 / 50), rel=0.2)
    assert scaled == pytest.approx(plain, rel=0.1)
    assert plain > 4


def test_correlated_statistics_count_less():
    common = normal(200, 1, seed=1)
    alike, apart = common + 0.1 * normal(200, 12), normal(200, 12, seed=2)
    own = np.full(12, 3.0)
    assert distance_from(own, alike, KINDS)[0] < 0.7 * distance_from(own, apart, KINDS)[0]


def test_weights_that_training_leaves_alone_differ_by_rounding_only():
    others = np.concatenate([normal(8, 6), np.ones((8, 6))], axis=1)
    rounded = np.concatenate([others[0, :6], np.full(6, 1.0001)])
    trained = np.concatenate([others[0, :6], np.full(6, 1.1)])
    assert distance_from(rounded, others, KINDS)[0] < 3
    assert distance_from(trained, others, KINDS)[0] > 10


def test_many_frozen_weights_do_not_turn_rounding_into_another_recipe():
    others = np.concatenate([0.01 * normal(20, 3), np.zeros((20, 150))], axis=1)
    kinds = np.array(["norm"] * 153)
    rounded = np.concatenate([others[0, :3], np.full(150, 5e-4)])
    assert distance_from(rounded, others, kinds)[0] < 1
    assert distance_from(np.concatenate([others[0, :3], np.full(150, 0.01)]), others, kinds)[0] > 5


@pytest.mark.parametrize("count", [3, 8])
def test_few_models_and_many_statistics_have_a_distance(count):
    others = normal(count, 300)
    distance, _ = distance_from(normal(300, seed=1), others, np.array(["norm"] * 300))
    assert np.isfinite(distance)


# Statistics in panel predictions.


def recorded(folder, model):
    """Return what a run records of a model."""
    recorder = PredictionRecorder("", (), (), {}, folder=folder)
    with pytest.raises(NotApplicableError, match="this run records"):
        find_weight_distance(model, IMAGES, recorder)
    return read_archive(archive_of(folder))


def model_of(seed, *, module=None):
    torch.manual_seed(seed)
    model = module or nn.Sequential(nn.Flatten(), nn.Linear(256, 8), nn.ReLU(), nn.Linear(8, 4))
    return replace(role_model(model=model), model_sha256=str(seed))


@pytest.fixture(scope="module")
def models():
    return [model_of(seed) for seed in range(9)]


@pytest.fixture(scope="module")
def panel(models, tmp_path_factory):
    parts = [recorded(tmp_path_factory.mktemp("answers"), model) for model in models]
    names = [model.model_sha256 for model in models]
    predictions, statistics = (
        [part.predictions for part in parts],
        [part.statistics for part in parts],
    )
    return combine(IMAGES.sha256, len(IMAGES), names, predictions, statistics)


def test_a_file_keeps_the_statistics_of_each_model(panel, models, tmp_path):
    path = tmp_path / "panel.predictions.npz"
    path.write_bytes(panel.as_bytes())
    read = read_panel_predictions(path)
    own = as_model_statistics(find_weight_statistics(models[4]))
    assert read.statistics[KIND].names == own.names
    assert read.statistics[KIND].values[4] == pytest.approx(own.values, abs=0)
    assert find_weight_distance(models[4], IMAGES, read).distance == pytest.approx(
        find_weight_distance(models[4], IMAGES, panel).distance, abs=0
    )


def test_a_model_of_the_panel_is_compared_with_the_others(panel, models):
    own = as_model_statistics(find_weight_statistics(models[2]))
    others = panel.without("2").statistics_of_others(own, clean=lambda: None)
    assert len(panel.statistics_of_others(own, clean=lambda: None)) == 9
    assert others == pytest.approx(np.delete(panel.statistics[KIND].values, 2, axis=0), abs=0)


def test_statistics_follow_the_models_into_another_order(panel):
    backwards = combine(
        IMAGES.sha256,
        len(IMAGES),
        panel.models[::-1],
        [[ReferencePredictions.of(model_of(seed).predict(IMAGES))] for seed in reversed(range(9))],
    )
    assert not backwards.statistics
    assert merge(backwards, panel).statistics[KIND].values == pytest.approx(
        panel.statistics[KIND].values[::-1], abs=0
    )


def test_another_architecture_is_not_applicable(panel):
    wider = model_of(
        1, module=nn.Sequential(nn.Flatten(), nn.Linear(256, 9), nn.ReLU(), nn.Linear(9, 4))
    )
    with pytest.raises(
        NotApplicableError, match=r"it lacks norm of 1.weight 8x256.*it has norm of 1.weight 9x256"
    ):
        find_weight_distance(wider, IMAGES, panel)


def test_a_panel_without_statistics_asks_for_a_calibration(panel, models):
    with pytest.raises(NotRecordedError, match="`stress-harness calibrate` records them"):
        find_weight_distance(models[0], IMAGES, replace(panel, statistics={}))


def test_two_models_tell_no_spread(panel, models):
    few = replace(panel, models=panel.models[:2])
    with pytest.raises(NotApplicableError, match="2 reference models cannot show"):
        find_weight_distance(models[8], IMAGES, few)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param({".values": np.full((9, 6), np.nan)}, id="not finite"),
        pytest.param({".values": np.ones((8, 6))}, id="of fewer models"),
        pytest.param({".values": None}, id="no values"),
        pytest.param({".names": np.frombuffer(b'["norm"', np.uint8)}, id="cut names"),
        pytest.param({".names": np.frombuffer(b"[[1, 2]]", np.uint8)}, id="names of no text"),
        pytest.param({".names": np.frombuffer(b"[" * 100_000, np.uint8)}, id="deep names"),
        pytest.param(
            {".names": np.frombuffer(b'["a", "a", "b", "c", "d", "e"]', np.uint8)},
            id="a name twice",
        ),
    ],
)
def test_damaged_statistics_are_refused(panel, tmp_path, damage):
    path = tmp_path / "panel.predictions.npz"
    path.write_bytes(panel.as_bytes())
    tables = dict(np.load(path))
    for end, table in damage.items():
        tables.pop(f"statistics.{KIND}{end}")
        tables |= {} if table is None else {f"statistics.{KIND}{end}": table}
    np.savez(path, **tables)
    with pytest.raises(PanelError, match="expected statistics 'weights' of 9 models"):
        read_panel_predictions(path)


def test_the_detail_names_what_deviates_most(panel, models):
    trained_longer = model_of(20)
    with torch.no_grad():
        trained_longer.classifier.plain[3].weight.mul_(1.5)
    measurement = weight_distance(find_weight_distance(trained_longer, IMAGES, panel), IMAGES)
    assert "norm of 3.weight" in measurement.detail
    assert "% larger (+" in measurement.detail
    assert (measurement.counted, measurement.metric.direction) == (0, "at_most")
    assert (
        measurement.value
        > weight_distance(find_weight_distance(models[0], IMAGES, panel), IMAGES).value
    )


# A gate.


@pytest.fixture
def calibrated(pytester, runs):
    """A project with a calibrated row, and eight reference models with other last weights."""
    zoo = Zoo(pytester.path, tests=("clean", "fingerprint"))
    zoo.bind(CLEAN + ROW)
    seeds = [
        zoo.save(
            f"seed-{seed}.safetensors", seed=seed, jitter=0.05, training={**TRAINING, "seed": seed}
        ).name
        for seed in range(1, 9)
    ]
    assert main(["calibrate", "--checkpoints", *seeds, "--", *ON_ZOO]) == 0

    def gate(*options, factor=1.0):
        """Gate a healthy network with scaled logits, and so with the same predictions."""
        candidate = network(seed=40, jitter=0.05)
        with torch.no_grad():
            candidate.fc1.weight.mul_(factor)
            candidate.fc1.bias.mul_(factor)
        path = zoo.root / "candidate.safetensors"
        save_checkpoint(path, candidate, Record("fashion-cnn", ARGUMENTS, CLASSES))
        options = (
            "-p",
            "no:html",
            "stress_tests",
            *ON_ZOO,
            "--stress-set=no_overview=true",
            *options,
        )
        return pytester.runpytest_inprocess(
            *options, "--candidate", path.name, "--incumbent=none", "--baseline=none"
        )

    return SimpleNamespace(zoo=zoo, gate=gate)


def test_another_recipe_fails_and_an_open_one_is_told(calibrated):
    def stated_recipe():
        record = json.loads((calibrated.zoo.root / "reports" / "stress.json").read_text())
        return record["fingerprint"]

    assert calibrated.gate().ret == 0
    assert stated_recipe() == {"recipe": "same"}

    other = calibrated.gate(factor=3)
    assert other.ret == 1
    other.stdout.fnmatch_lines(
        [
            "*Likely cause: training recipe.*",
            "*fingerprint: weight distance * > threshold * (no image counts; 8 reference models *",
        ]
    )

    opened = calibrated.gate("--stress-set=recipe=open", factor=3)
    assert opened.ret == 0
    assert stated_recipe() == {"recipe": "open"}
    opened.stdout.fnmatch_lines(["*note: trained by another recipe than the reference panel*"])
    opened.stdout.no_fnmatch_line("*signs of a weaker model*")
