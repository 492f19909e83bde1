"""The gate finds another order of classes, and none in models that are merely bad.

It is no verdict on the model.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from zoo import ARGUMENTS, CLASSES, images_of, network

from benchmarks.detection.mutants import KINDS
from harness.data import load_fashion_mnist
from harness.inference import Classifier, Predictions
from harness.inference.predictors.answers import other_order
from harness.networks.checkpoints import Record, load_checkpoint, save_checkpoint
from harness.perturb import IDENTITY

AUGMENTED = Path(__file__).parents[2] / "models/augmented.safetensors"
DAMAGES = {
    f"{kind.slug} {strength.words}": (kind.weights, strength.amount)
    for kind in KINDS.values()
    if kind.weights is not None
    for strength in kind.strengths
    if (kind.slug, strength.amount) != ("swapped-logits", 1.0)
}


def predictions(table) -> Predictions:
    """Return predictions with this confusion matrix, a row for each true class."""
    labels, predicted = np.nonzero(np.array(table))
    counts = np.array(table)[labels, predicted]
    pixels = torch.zeros((counts.sum(), 1, 1, 1), dtype=torch.uint8)
    images = replace(
        images_of(4), pixels=pixels, labels=torch.from_numpy(labels.repeat(counts)), indices=None
    )
    classes = tuple(f"class {at}" for at in range(len(table)))
    images = replace(images, classes=classes)
    return Predictions(
        np.eye(len(table), dtype=np.float32)[predicted.repeat(counts)], images, IDENTITY
    )


ROTATED = np.roll(np.eye(10, dtype=int) * 70 + 3, 1, axis=1)
SWAPPED = np.array([[5, 90, 5], [85, 5, 10], [5, 5, 90]])
BAD = {
    "constant": [[50, 0, 0], [50, 0, 0], [50, 0, 0]],
    "label noise of one half": [[49, 51, 0], [52, 48, 0], [0, 0, 100]],
    "label noise of 70%": [[30, 70, 0], [70, 30, 0], [0, 0, 100]],
    "a class lost to another": [[5, 95, 0], [5, 95, 0], [0, 0, 100]],
    "collapsed, and crosswise": [[5, 95, 0, 0], [95, 5, 0, 0], [50, 50, 0, 0], [50, 50, 0, 0]],
    "good": [[90, 10, 0], [5, 95, 0], [0, 0, 100]],
    "too few images": [[0, 2], [2, 0]],
    "constant, of a rare class": [[10, 0], [90, 0]],
    "constant, of a class of 16%": [[16, 0], [84, 0]],
    "constant, of two rare classes": [[5, 0, 0], [5, 0, 0], [90, 0, 0]],
    "constant, of a long tail": np.eye(10, dtype=int)[[0] * 10] * np.array([[60, *[5] * 8, 900]]).T,
    "images of one class": [[0, 0], [50, 0]],
    "mostly collapsed": [[48, 2], [900, 50]],
    "a common class lost": [[20, 0, 0, 0], [0, 20, 0, 0], [0, 0, 20, 0], [300, 0, 0, 0]],
    "a rare class and a common one that is half lost": [[14, 6], [290, 10]],
    "a common class kept, a rare one lost": [[3, 17], [17, 983]],
    "a guess on few images": [[1, 5], [5, 1]],
    "by chance": np.random.default_rng(0).multinomial(10, [0.01] * 100, size=100),
}


def rotated(classes: int, images: int, accuracy: float) -> np.ndarray:
    """Return the confusion matrix of a model that numbers classes from the second on.

    The accuracy is given.
    """
    shares = np.full((classes, classes), (1 - accuracy) / (classes - 1))
    np.fill_diagonal(shares, accuracy)
    random = np.random.default_rng(0)
    return np.roll([random.multinomial(images, row) for row in shares], 1, axis=1)


@pytest.mark.parametrize(
    ("classes", "images", "accuracy"),
    [(2, 1_000, 0.85), (10, 1_000, 0.65), (100, 1_000, 0.65), (100, 10, 0.8), (1_000, 10, 0.8)],
)
def test_the_order_of_a_good_model_is_found(classes, images, accuracy):
    seen_as, _ = other_order(predictions(rotated(classes, images, accuracy)))
    assert seen_as.tolist() == [*range(1, classes), 0]


@pytest.mark.parametrize(("classes", "images"), [(2, 5), (2, 6), (2, 12), (3, 5), (3, 8), (5, 6)])
def test_a_guess_has_no_order(classes, images):
    random = np.random.default_rng(0)
    for _ in range(500):
        guessed = random.multinomial(images, np.full(classes, 1 / classes), size=classes)
        assert other_order(predictions(guessed)) is None


@pytest.mark.parametrize(
    ("table", "moved"), [(ROTATED, 10), (SWAPPED, 2), (np.eye(2, dtype=int)[::-1] * 20, 2)]
)
def test_a_permutation_is_found_and_said_in_a_sentence(table, moved):
    seen_as, said = other_order(predictions(table))
    assert (seen_as != np.arange(len(table))).sum() == moved
    assert (table[np.arange(len(table)), seen_as] > table.sum(axis=1) / 2).all()
    assert said.startswith("it predicts most clean images of class 0 as class 1 (")


@pytest.mark.parametrize("name", BAD)
def test_a_model_that_is_merely_bad_has_no_other_order(name):
    assert other_order(predictions(BAD[name])) is None


@pytest.mark.parametrize("seed", range(20))
def test_confusions_of_bad_models_are_no_order(seed):
    random = np.random.default_rng(seed)
    shares = random.dirichlet(np.full(10, random.choice([0.05, 0.2, 1.0])), size=10)
    noisy = 0.5 * np.eye(10) + 0.5 * shares
    assert other_order(predictions([random.multinomial(100, row) for row in noisy])) is None


@pytest.fixture(scope="module")
def photographs():
    return load_fashion_mnist("test").take(torch.arange(500))


@pytest.mark.parametrize("name", DAMAGES)
def test_no_mutant_has_another_order(name, photographs):
    mutate, amount = DAMAGES[name]
    broken = mutate(load_checkpoint(AUGMENTED), amount, torch.Generator().manual_seed(201))
    assert other_order(Classifier(broken.model, workers=1).predict(photographs)) is None


def turned(order) -> torch.nn.Module:
    model = network()
    with torch.no_grad():
        model.fc1.weight.copy_(model.fc1.weight[order].clone())
        model.fc1.bias.copy_(model.fc1.bias[order].clone())
    return model


def test_a_candidate_of_another_order_has_no_verdict(shared):
    save_checkpoint(
        shared.root / "turned.safetensors",
        turned([1, 2, 3, 0]),
        Record("fashion-cnn", ARGUMENTS, CLASSES),
    )
    ran = shared.once("--candidate", "turned.safetensors")
    assert ran.ending == (4, "error")
    assert (
        "[MODEL] candidate turned.safetensors: its classes are in another order than those of the "
        "data" in ran.why
    )
    assert "most clean images of ant as dog (" in ran.why


def test_a_bad_candidate_has_one(shared):
    shared.save("blind.safetensors", blind=True)
    assert shared.once("--candidate", "blind.safetensors").ending == (1, "fail")
