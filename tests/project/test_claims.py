"""The study's claims: the rule that decides them, what is measured of a network, and the tables."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import ttest_1samp, ttest_ind

from benchmarks.claims.__main__ import Results, _spans, full_table, main, measure, read_results
from benchmarks.claims.claims import CLAIMS, Claim, decide
from benchmarks.claims.measure import (
    Network,
    kind_of,
    penultimate,
    pictures,
    recipe_of,
    separation,
    shuffled_patches,
    silhouettes,
)  # fmt: skip
from benchmarks.runner import keep
from harness.base.errors import InputError
from harness.data import LabelledImages, load_images, stratified_sample
from harness.data.images import object_masks
from harness.inference import Classifier
from harness.networks.architectures import build
from harness.networks.checkpoints import Record, load_checkpoint, save_checkpoint
from harness.networks.training import TrainingConfig

ROOT = Path(__file__).parents[2]
RAISES = Claim("It rises", "by hand", "it")
LOWERS = replace(RAISES, sign=-1)
ABOVE = replace(RAISES, reference=0.5)
REPORTED = replace(RAISES, reported=0.1)
LOW, HIGH, WIDE = [0.1, 0.11, 0.12], [0.5, 0.51, 0.52], [0.0, 0.4, 0.8]
ARGUMENTS = {"conv_channels": [2, 2], "fc_sizes": [3]}


# The rule.


@pytest.mark.parametrize(
    ("claim", "baseline", "augmented", "verdict"),
    [
        (RAISES, LOW, HIGH, "confirmed"),
        (RAISES, HIGH, LOW, "refuted"),
        (RAISES, LOW, WIDE, "not decided"),
        (LOWERS, HIGH, LOW, "confirmed"),
        (LOWERS, LOW, HIGH, "refuted"),
        (LOWERS, WIDE, HIGH, "not decided"),
        (ABOVE, [0.6, 0.61, 0.62], [], "confirmed"),
        (ABOVE, LOW, HIGH, "refuted"),
        (ABOVE, WIDE, HIGH, "not decided"),
        (replace(ABOVE, sign=-1), LOW, [], "confirmed"),
        (REPORTED, [0.1, 0.11, 0.12], [0.2, 0.21, 0.22], "confirmed"),
        (REPORTED, [0.1, 0.11, 0.12], [0.3, 0.31, 0.32], "refuted"),
        (REPORTED, [0.2, 0.21, 0.22], [0.1, 0.11, 0.12], "refuted"),
        (REPORTED, WIDE, WIDE, "not decided"),
        (RAISES, [0.1], HIGH, "not decided"),
        (RAISES, [], HIGH, "not measured"),
        (RAISES, LOW, [], "not measured"),
    ],
)
def test_the_rule(claim, baseline, augmented, verdict):
    assert decide(claim, baseline, augmented).verdict == verdict


def test_a_difference_has_welchs_interval():
    one, two = np.array([0.1, 0.14, 0.15, 0.2]), np.array([0.3, 0.31, 0.4])
    decision = decide(RAISES, one, two)
    expected = ttest_ind(two, one, equal_var=False).confidence_interval(0.95)
    assert decision.estimate == pytest.approx(two.mean() - one.mean())
    assert decision.interval == pytest.approx(tuple(expected))
    assert decision.baseline == pytest.approx((one.mean(), one.std(ddof=1), 4))


def test_a_reference_has_students_interval_over_the_baselines_alone():
    values = np.array([0.6, 0.7, 0.65, 0.9])
    expected = pytest.approx(tuple(ttest_1samp(values - 0.5, 0).confidence_interval(0.95)))
    assert decide(ABOVE, values, LOW).interval == expected
    assert decide(ABOVE, values, HIGH).interval == expected


def test_networks_that_agree_leave_no_doubt():
    decision = decide(RAISES, [0.5, 0.5], [0.75, 0.75])
    assert (decision.interval, decision.verdict) == ((0.25, 0.25), "confirmed")
    assert decide(RAISES, [0.5, 0.5], [0.5, 0.5]).verdict == "not decided"


def test_intervals_cover_as_often_as_they_say():
    rng = np.random.default_rng(0)
    drawn = [
        decide(RAISES, rng.normal(0, 3, 5), rng.normal(0.5, 1, 20)).interval for _ in range(2_000)
    ]
    assert 0.93 < np.mean([low <= 0.5 <= high for low, high in drawn]) < 0.97


# Pictures.


def garments(size=40):
    return stratified_sample(load_images("fashion-mnist"), size)


def test_silhouettes_keep_outline_and_brightness_and_lose_texture():
    images = garments()
    plain, masks = silhouettes(images), object_masks(images)
    for before, after, mask in zip(
        images.pixels[:, 0].numpy(), plain.pixels[:, 0].numpy(), masks, strict=True
    ):
        assert len(np.unique(after[mask])) == 1
        assert after[mask][0] == pytest.approx(before[mask].mean(), abs=0.5)
        assert np.array_equal(after[~mask], before[~mask])
    assert not torch.equal(plain.pixels, images.pixels)


def test_shuffled_patches_are_the_same_patches_elsewhere():
    images = garments()
    shuffled = shuffled_patches(images)

    def patches(pixels):
        return sorted(
            pixels[0, row : row + 7, column : column + 7].numpy().tobytes()
            for row in range(0, 28, 7)
            for column in range(0, 28, 7)
        )

    assert [patches(image) for image in shuffled.pixels] == [
        patches(image) for image in images.pixels
    ]
    moved = (shuffled.pixels != images.pixels).flatten(1).any(dim=1)
    assert moved.all()
    assert torch.equal(shuffled.pixels, shuffled_patches(images).pixels)
    assert not torch.equal(shuffled.pixels, shuffled_patches(images, seed=1).pixels)


def test_each_image_has_an_order_of_its_own():
    same = replace(
        garments(),
        pixels=torch.arange(784, dtype=torch.uint8).view(1, 1, 28, 28).repeat(40, 1, 1, 1),
    )
    assert len({image.numpy().tobytes() for image in shuffled_patches(same).pixels}) > 30


def test_patches_that_do_not_fill_an_image_are_refused():
    with pytest.raises(InputError, match="patches of 5 pixels do not fill images of 28x28"):
        shuffled_patches(garments(), size=5)


# Features.


class Corner(torch.nn.Module):
    """A network whose features are the brightness of the upper left and right pixel."""

    def __init__(self):
        super().__init__()
        self.last = torch.nn.Linear(2, 2)

    def forward(self, pixels):
        return self.last(pixels[:, 0, 0, [0, -1]])


def lit(labels, brightness):
    pixels = torch.zeros(len(labels), 1, 4, 4, dtype=torch.uint8)
    for number, label in enumerate(labels):
        pixels[number, 0, 0, -label] = brightness[number]
    return LabelledImages(pixels, torch.tensor(labels), ("left", "right"), "lights", "test")


def test_features_are_what_the_last_layer_is_given():
    images = lit([0, 1], [255, 51])
    features = penultimate(Classifier(Corner(), workers=1), images, moved=False)
    assert features.tolist() == pytest.approx(np.array([[1, 0], [0, 0.2]]))
    moved = penultimate(Classifier(Corner(), workers=1), images, moved=True)
    assert not np.allclose(moved, features)


def test_separation_is_high_for_classes_apart_and_low_for_mixed_ones():
    classifier = Classifier(Corner(), workers=1)
    apart = lit([0, 0, 1, 1], [255, 250, 255, 250])
    assert separation(classifier, apart, moved=False) > 0.9
    mixed = replace(apart, labels=torch.tensor([0, 1, 0, 1]))
    assert separation(classifier, mixed, moved=False) < 0


# Networks.


def save(path, *, seed, augmented, **changes):
    config = TrainingConfig(
        epochs=1, seed=seed, arguments=ARGUMENTS, validation_size=20, split_seed=0
    )
    if augmented:
        config = replace(config, rotation_degrees=10.0, shift_fraction=0.1, flip_probability=0.5)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 100 * augmented)
        model = build("fashion-cnn", ARGUMENTS)
    training = {**asdict(config), **changes}
    save_checkpoint(
        path,
        model,
        Record("fashion-cnn", ARGUMENTS, load_images("fashion-mnist").classes, training),
    )
    return path


@pytest.fixture
def networks(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return {
        augmented: [
            save(tmp_path / f"{augmented}-{seed}.safetensors", seed=seed, augmented=augmented)
            for seed in (1, 2)
        ]
        for augmented in (False, True)
    }


def test_every_claim_is_measured_on_every_network(networks):
    test, training = garments(60), garments(90)
    results = measure(networks[False], networks[True], test, training)
    for network in results.networks:
        assert {claim.value for claim in CLAIMS} <= set(network.values)
    expected = [(kind, seed) for kind in ("baseline", "augmented") for seed in (1, 2)]
    assert [(one.kind, one.seed) for one in results.networks] == expected
    assert results.images == {"test": 60, "class": 6, "sample": 60, "few": 60, "training": 90}
    assert "not measured" not in full_table(results)
    one = results.networks[0].values
    assert one["texture over shape"] == pytest.approx(
        one["accuracy on shuffled patches"] - one["accuracy on silhouettes"]
    )
    assert one["accuracy"] == pytest.approx(
        np.mean([one[f"accuracy of {name}"] for name in test.classes])
    )


def test_without_training_images_the_row_says_so(networks):
    results = measure(networks[False], networks[True], garments(60), None)
    assert all("gap" not in network.values for network in results.networks)
    (row,) = (line for line in full_table(results).splitlines() if "overfits less" in line)
    assert "| no training images | – | – | – | – to – | not measured |" in row


def test_training_and_validation_images_are_those_that_the_networks_had():
    training = garments(90)
    parts = pictures(garments(60), training, validation_size=20, split=3)
    assert (len(parts.training), len(parts.validation)) == (70, 20)
    numbers = {*parts.training.positions.tolist(), *parts.validation.positions.tolist()}
    assert numbers == set(training.positions.tolist())


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (
            {"seed": 3, "augmented": False, "epochs": 7},
            r"new.safetensors: its recipe differs .* in epochs",
        ),
        ({"seed": 2, "augmented": True}, r"new.safetensors: the seed of .*True-2.safetensors"),
        (None, r"new.safetensors: no record of its training"),
    ],
    ids=["another recipe", "a seed twice", "no record"],
)
def test_a_network_that_does_not_fit_is_refused(made, said, tmp_path, networks):
    path = tmp_path / "new.safetensors"
    if made:
        save(path, **made)
    else:
        save_checkpoint(
            path,
            build("fashion-cnn", ARGUMENTS),
            Record("fashion-cnn", ARGUMENTS, tuple("0123456789")),
        )
    with pytest.raises(InputError, match=said):
        recipe_of([load_checkpoint(each) for each in (*networks[False], *networks[True], path)])


def test_an_augmented_network_is_no_baseline(networks):
    assert [kind_of(load_checkpoint(path)) for path in networks[True]] == ["augmented"] * 2
    with pytest.raises(
        InputError, match=r"True-1.safetensors: by its record the network is of kind augmented"
    ):
        measure(networks[True], networks[False], garments(60), None)


# Tables.


def by_hand():
    values = {claim.value: 0.5 for claim in CLAIMS}
    return Results(
        images={"test": 10_000, "class": 1_000, "sample": 2_000, "few": 500, "training": 60_000},
        recipe={},
        versions={"torch": "2.0"},
        networks=tuple(
            Network(
                f"{kind}-{seed}",
                kind,
                seed,
                "",
                {**values, "accuracy": mean + seed / 1000, "confident errors": 9 + seed},
            )
            for kind, mean in (("baseline", 0.9), ("augmented", 0.95))
            for seed in (1, 2, 3, 42)
        ),
    )


def test_tables_say_what_was_found():
    results = by_hand()
    full = full_table(results)
    assert full.startswith(
        "4 baseline networks (seeds 1 to 3, 42) and 4 augmented networks (seeds 1 to 3, 42)"
    )
    decision = results.decide(next(claim for claim in CLAIMS if claim.value == "accuracy"))
    low, high = (f"{100 * end:+.2f} points" for end in decision.interval)
    (row,) = (line for line in full.splitlines() if "| accuracy |" in line)
    assert (
        f"| 10,000 | 91.20% ± 2.00 | 96.20% ± 2.00 | +5.00 points | {low} to {high} | confirmed |"
        in row
    )


def test_results_are_kept_as_they_are(tmp_path):
    keep(tmp_path / "results.json", by_hand())
    assert read_results(tmp_path / "results.json") == by_hand()
    (tmp_path / "results.json").write_text(json.dumps({"networks": []}))
    with pytest.raises(InputError, match="no results"):
        read_results(tmp_path / "results.json")


@pytest.mark.parametrize(
    ("numbers", "words"),
    [([], "none"), ([7], "7"), ([1, 2], "1, 2"), ([1, 2, 3, 5, 9, 10], "1 to 3, 5, 9, 10")],
)
def test_seeds_in_words(numbers, words):
    assert _spans(numbers) == words


def test_a_baseline_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.safetensors"):
        main(baselines=[tmp_path / "none.safetensors"], report=False)
