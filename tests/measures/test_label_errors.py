"""Suspected label errors, and whose errors are whose, by what reference models say."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from panels import view_of

from harness.base.errors import InputError, NotApplicableError
from harness.data import LabelledImages, load_images
from harness.inference import Classifier, Predictions
from harness.measures.failures import UNIQUE, kinds_for
from harness.measures.panel.label_errors import (
    SEED_DEPENDENT,
    SHARED,
    label_errors,
    owners,
    suspicion,
    without,
)
from harness.measures.panel.predictions import PanelPredictions, read_panel_predictions
from harness.networks.declared import load_model
from harness.perturb import IDENTITY

CLASSES = ("ant", "bee", "cat")
N, REFERENCE_MODELS = 300, 20
SHIPPED = Path("models/panel.predictions.npz")


def images_with(labels: np.ndarray) -> LabelledImages:
    return LabelledImages(
        torch.zeros((len(labels), 1, 2, 2), dtype=torch.uint8),
        torch.from_numpy(labels),
        CLASSES,
        "zoo",
        "test",
    )


def panel(labels: np.ndarray, flipped: np.ndarray, *, each: bool = True) -> PanelPredictions:
    """Return a panel that is sure and right of all labels but these, and one cat.

    It takes the others for the class after. Of that cat, the last image but one, half of the
    members are unsure.
    """
    rng = np.random.default_rng(0)
    true = labels.copy()
    true[flipped] = (true[flipped] + 1) % 3
    mean = np.full((len(labels), 3), 0.0, dtype=np.float32)
    sure = rng.uniform(0.97, 0.99, len(labels)) * np.where(true == 2, 0.7, 1)
    mean[np.arange(len(labels)), true] = sure
    mean += ((1 - sure) / 2)[:, None] * (mean == 0)
    wrong = np.zeros((REFERENCE_MODELS, len(labels)), dtype=bool)
    wrong[:, flipped] = True
    wrong[: REFERENCE_MODELS // 2, -1] = True
    mean[-1] = [0.4, 0.1, 0.5]
    models = tuple(f"{number:064x}" for number in range(REFERENCE_MODELS))
    view = view_of(wrong.sum(axis=0), mean, labels, wrong if each else None)
    return PanelPredictions(images_with(labels).sha256, CLASSES, models, {repr(IDENTITY): view})


LABELS = np.arange(N) % 3
FLIPPED = np.array([12, 101, 201])


def answers(labels: np.ndarray, wrong: np.ndarray) -> Predictions:
    taken = np.where(np.isin(np.arange(N), wrong), (labels + 1) % 3, labels)
    return Predictions(4 * np.eye(3, dtype=np.float32)[taken], images_with(labels), IDENTITY)


def test_labels_that_the_panel_agrees_against_are_suspect():
    found = label_errors(images_with(LABELS), panel(LABELS, FLIPPED))
    assert {row.index for row in found.rows} == set(FLIPPED)
    assert all(
        row.wrong == REFERENCE_MODELS and row.answer == CLASSES[(LABELS[row.index] + 1) % 3]
        for row in found.rows
    )
    assert [row.suspicion for row in found.rows] == sorted(row.suspicion for row in found.rows)
    assert (found.n, found.reference_models) == (N, REFERENCE_MODELS)
    assert label_errors(images_with(LABELS), panel(LABELS, np.array([], dtype=int))).rows == ()
    of_label = np.array([0.9, 0.9, 0.3, 0.3, 0.06])
    by_hand = [1.0, 1.0, 0.3 / 0.22, 0.3 / 0.22, 0.06 / 0.22]
    assert suspicion(of_label, np.array([0, 0, 1, 1, 1])) == pytest.approx(by_hand)
    panel_predictions = panel(LABELS, FLIPPED)
    (view,) = panel_predictions.views.values()
    view.wrong[3] = -1
    with pytest.raises(NotApplicableError, match="no panel predictions of 1 of 300"):
        label_errors(images_with(LABELS), panel_predictions)


def test_label_errors_of_a_sample_go_by_their_numbers_in_the_split():
    sample = images_with(LABELS).take(torch.arange(90, 210))
    assert {row.index for row in label_errors(sample, panel(LABELS, FLIPPED), LABELS).rows} == {
        101,
        201,
    }
    with pytest.raises(
        NotApplicableError, match="labels of all 300 images of the split, found 120"
    ):
        label_errors(sample, panel(LABELS, FLIPPED))
    panel_predictions, whole = panel(LABELS, FLIPPED), images_with(LABELS)
    by_number = {row.index: row for row in label_errors(whole, panel_predictions).rows}
    for number, row in by_number.items():
        alone = label_errors(whole.take(torch.tensor([number])), panel_predictions, LABELS)
        assert alone.rows == (row,), "though its label is what is usual in the sample"


@pytest.mark.parametrize(("reference_models", "told"), [(1, False), (2, False), (3, True)])
def test_fewer_than_three_retrains_say_nothing_about_labels(reference_models, told):
    panel_predictions = panel(LABELS, FLIPPED)
    (view,) = panel_predictions.views.values()
    few = view_of(view.wrong.clip(0, reference_models), np.full((N, 3), 1 / 3), LABELS)
    few.of_label[FLIPPED] = 0.001
    panel_predictions = replace(
        panel_predictions,
        models=panel_predictions.models[:reference_models],
        views={repr(IDENTITY): few},
    )
    if told:
        assert set(FLIPPED) <= {
            row.index for row in label_errors(images_with(LABELS), panel_predictions).rows
        }
        return
    with pytest.raises(
        NotApplicableError, match=f"at least 3 reference models; this panel has {reference_models}"
    ):
        label_errors(images_with(LABELS), panel_predictions)


def test_errors_are_shared_seed_dependent_or_unique():
    panel_predictions = panel(LABELS, FLIPPED)
    predictions = answers(LABELS, np.array([12, 50, 60, N - 1]))
    owned = owners(predictions, panel_predictions)
    assert owned[SHARED] == set(FLIPPED)
    assert owned[SEED_DEPENDENT] == {N - 1}
    kinds = {
        kind.name: int(kind.among(predictions).sum()) for kind in kinds_for(predictions, owned)
    }
    assert [kinds[name] for name in ("any error", SHARED, SEED_DEPENDENT, UNIQUE)] == [4, 1, 1, 2]
    assert kinds["over 90% confidence, unique"] == 2
    assert UNIQUE not in {kind.name for kind in kinds_for(predictions)}, (
        "which nobody knows without a panel"
    )
    panel_predictions = panel(LABELS, FLIPPED)
    (view,) = panel_predictions.views.values()
    view.wrong[7], view.each[0, 7] = 1, True
    predictions = answers(LABELS, np.array([*FLIPPED, 7]))
    owned = owners(predictions, panel_predictions.without(panel_predictions.models[0]))
    assert 7 in owned[UNIQUE]
    assert owned[SHARED] == set(FLIPPED)


def test_the_value_without_label_errors_stands_beside_that_of_the_panel(tmp_path):
    panel_predictions = panel(LABELS, FLIPPED)
    rest = without(
        answers(LABELS, np.array([12, 50])),
        panel_predictions,
        label_errors(images_with(LABELS), panel_predictions),
    )
    assert (rest.n, rest.lost) == (297, 1)
    assert rest.accuracy == pytest.approx(296 / 297)
    shares = np.where(np.arange(REFERENCE_MODELS) < REFERENCE_MODELS // 2, 296 / 297, 1)
    assert (rest.reference_mean, rest.reference_std) == pytest.approx(
        (shares.mean(), shares.std(ddof=1))
    )
    nobody = panel(LABELS, FLIPPED, each=False)
    assert (
        without(
            answers(LABELS, FLIPPED), nobody, label_errors(images_with(LABELS), nobody)
        ).reference_mean
        is None
    )
    panel_predictions = panel(LABELS, FLIPPED)
    path = tmp_path / "panel.predictions.npz"
    path.write_bytes(panel_predictions.as_bytes())
    (kept,), (view,) = read_panel_predictions(path).views.values(), panel_predictions.views.values()
    assert np.array_equal(kept.each, view.each)
    view.wrong[0] = 1
    path.write_bytes(panel_predictions.as_bytes())
    with pytest.raises(InputError, match="do not add up to the counts"):
        read_panel_predictions(path)


@pytest.mark.skipif(not SHIPPED.exists(), reason="what the shipped panel knows is not there")
def test_nearly_all_planted_labels_are_found_and_stand_first():
    """One in a hundred labels of the shipped test images is another one."""
    images, view = load_images("fashion-mnist"), read_panel_predictions(SHIPPED).view()
    table = csv.DictReader(io.StringIO(Path("benchmarks/suspects/calls.csv").read_text()))
    calls = {int(row["image"]): row["call"] for row in table}
    labels = images.labels.numpy()
    models = [
        Classifier(load_model(path).model, workers=1)
        for path in sorted(SHIPPED.parent.glob("panel/*.safetensors"))
    ]
    planted, wrong, found = [], [], []
    for seed in range(1):
        rng = np.random.default_rng(seed)
        which = rng.choice(len(labels), len(labels) // 100, replace=False)
        made, of_label = labels.copy(), view.of_label.copy()
        made[which] = (made[which] + rng.integers(1, 10, len(which))) % 10
        few = images.take(torch.from_numpy(which))
        said = np.mean([member.predict(few).probabilities for member in models], axis=0)
        np.testing.assert_allclose(
            said[np.arange(len(which)), labels[which]], of_label[which], atol=1e-3
        )
        of_label[which] = said[np.arange(len(which)), made[which]]
        unusual = suspicion(of_label, made)
        first = np.argsort(unusual, kind="stable")[:100]
        planted.append(np.isin(first[:50], which).mean())
        wrong.append(
            np.mean([at in which or calls.get(int(at)) == "wrong" for at in first.tolist()])
        )
        found.append(np.mean(unusual[which] < 0.05))
    assert np.mean(planted) > 0.99
    assert np.mean(wrong) >= 0.95, "of the first hundred"
    assert np.mean(found) > 0.94
