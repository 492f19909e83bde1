"""The benchmark of fine-tunings.

Its split of the pictures, its recipes, and values that depend on the panel.
"""

import numpy as np
import pytest
import torch

from benchmarks.transfer.pictures import TEST_EMOJI, VENDORS, Emoji, halves, slug_of
from benchmarks.transfer.splits import asked_of, of_panel, regressed
from benchmarks.transfer.train import HEALTHY, RECIPES, Recipe, labels_of, pictures_of
from harness.data import LabelledImages
from harness.features.consensus.measures import (
    consensus_set_errors,
    find_consensus_set_errors,
    worst_class_consensus_set_errors,
)
from harness.inference import Predictions
from harness.measures import negative_flips
from harness.measures.panel.collection import ReferencePredictions, combine
from harness.measures.panel.pairing import PairedIncumbent
from harness.perturb import IDENTITY

CLASSES = ["animals", "food"]
LABELS = np.repeat([0, 1], [6, 4])


def test_all_pictures_of_an_emoji_are_on_one_side():
    drawn = dict.fromkeys(VENDORS)
    emoji = [
        Emoji(f"{n:04X}", "food", drawn if n % 20 else {"google": None})
        for n in range(TEST_EMOJI + 100)
    ]
    learnt, tested = halves(emoji)
    assert len(tested) == TEST_EMOJI
    assert {each.code for each in tested}.isdisjoint(each.code for each in learnt)
    assert all(len(each.files) == len(VENDORS) for each in tested)


@pytest.mark.parametrize(
    ("name", "slug"),
    [("Food & Drink", "food-drink"), ("man’s shoe", "mans-shoe"), ("A button", "a-button")],
)
def test_a_name_becomes_the_name_of_a_file(name, slug):
    assert slug_of(name) == slug


def test_a_recipe_changes_only_what_it_names():
    vendors = np.array(["fluent", "google"] * 5)
    assert pictures_of(Recipe("plain", 1), LABELS, vendors, CLASSES).tolist() == list(range(10))
    assert pictures_of(
        Recipe("x", 1, without_vendor="fluent"), LABELS, vendors, CLASSES
    ).tolist() == [1, 3, 5, 7, 9]
    halved = pictures_of(Recipe("x", 1, halved_class="food"), LABELS, vendors, CLASSES)
    assert [int((LABELS[halved] == label).sum()) for label in (0, 1)] == [6, 2]
    assert (labels_of(Recipe("x", 1, wrong_labels=0.2), LABELS, 2) != LABELS).sum() == 2


def test_networks_have_a_name_each_and_twelve_are_sound():
    assert len({recipe.name for recipe in RECIPES}) == len(RECIPES)
    assert sum(recipe.kind == HEALTHY for recipe in RECIPES) >= 12


NAMES = ("a", "b", "c", "d")
IMAGES = LabelledImages(
    torch.zeros((60, 1, 2, 2), dtype=torch.uint8),
    torch.arange(60) // 20,
    ("animals", "food", "objects"),
    "hand",
    "test",
    torch.arange(60),
)


@pytest.fixture(scope="module")
def answers():
    """Predictions of four reference models, each with its own errors among those of hard images."""
    rng = np.random.default_rng(0)
    hard = rng.random(60) < 0.6
    logits = rng.normal(0, 1, (4, 60, 3)).astype(np.float32)
    logits[:, np.arange(60), IMAGES.labels.numpy()] += np.where(hard, 1.5, 9.0)
    return [Predictions(each, IMAGES, IDENTITY) for each in logits]


ROWS = {
    "all": {"family": "consensus", "metric": "consensus_set_errors", "class": None, "keys": {}},
    "worst": {
        "family": "consensus",
        "metric": "worst_class_consensus_set_errors",
        "class": None,
        "keys": {},
    },
    "flips": {"family": "flips", "metric": "negative_flips", "class": None, "keys": {}},
    "of-class": {"family": "flips", "metric": "negative_flips", "class": "food", "keys": {}},
    "among": {
        "family": "flips",
        "metric": "negative_flips",
        "class": None,
        "keys": {"among": "consensus"},
    },
}


def as_calibrated(row, predictions, panel, name):
    """The value that the stress test of a row measures of a reference model."""
    panel = panel.without(name)
    if row["family"] == "consensus":
        errors = find_consensus_set_errors([predictions], panel)
        worst = row["metric"].startswith("worst")
        return (worst_class_consensus_set_errors if worst else consensus_set_errors)(errors).value
    pair = PairedIncumbent(lambda: None, panel, reference=name)
    among = row["keys"].get("among")
    return negative_flips(
        predictions,
        pair.right(predictions),
        of_class=row["class"],
        among=pair.consensus(predictions, among),
        correction=pair.correction(among),
    ).value


@pytest.mark.parametrize("name", ROWS)
def test_reference_models_are_counted_as_a_calibration_does(answers, name):
    panel = combine(IMAGES.sha256, 60, NAMES, [[ReferencePredictions.of(each)] for each in answers])
    expected = [
        as_calibrated(ROWS[name], *pair) for pair in zip(answers, [panel] * 4, NAMES, strict=True)
    ]
    labels, wrong = IMAGES.labels.numpy(), np.stack([~each.correct for each in answers])
    found = of_panel(
        asked_of({"id": name, **ROWS[name]}, labels, list(IMAGES.classes)), wrong, labels
    )
    assert found == pytest.approx(expected)
    assert sum(expected) > 0


def test_only_a_clear_loss_fails_against_the_incumbent():
    right = np.ones(1_000, dtype=bool)
    assert not regressed(np.arange(1_000) < 10, right)
    assert regressed(np.arange(1_000) < 30, right)
