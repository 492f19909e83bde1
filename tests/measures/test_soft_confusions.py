"""Probabilities on the consensus set, by hand and against direct computations.

Their tables in a file.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch import nn

from harness.base.errors import InputError, NotApplicableError, NotRecordedError
from harness.checks import Check
from harness.checks.families import starter_checks
from harness.data import LabelledImages
from harness.features.consensus import soft, starters
from harness.features.consensus.mutant import MIXED
from harness.features.consensus.soft import (
    find_known_images,
    largest_soft_confusion,
    lost_probability,
    panel_divergence,
    soft_confusion,
)
from harness.inference import Classifier, Predictions
from harness.inference.role import RoleModel
from harness.measures.panel import collection, predictions
from harness.measures.panel.collection import ReferencePredictions, combine, merge
from harness.measures.panel.predictions import read_panel_predictions
from harness.measures.statistics import moderated_variances
from harness.perturb import IDENTITY

CLASSES, N = ("ant", "bee", "cat", "dog"), 400
LABELS = torch.arange(N) % 4
IMAGES = LabelledImages(
    torch.arange(N * 4).remainder(251).to(torch.uint8).reshape(N, 1, 2, 2),
    LABELS,
    CLASSES,
    "toys",
    "test",
)
NAMES = tuple("abcdefgh")


def model_of(seed: int, extra: float = 0.0, images=IMAGES) -> Predictions:
    """Return a model that is mostly right.

    `extra` is the further probability that ants give to bees.
    """
    rng, labels = np.random.default_rng(seed), images.labels.numpy()
    logits = rng.normal(size=(len(labels), len(images.classes)))
    logits[np.arange(len(labels)), labels] += 5
    shares = softmax(logits, axis=1)
    ants = labels == 0
    shares[ants] *= 1 - extra
    shares[ants, 1] += extra
    return Predictions(np.log(shares).astype(np.float32), images, IDENTITY)


MODELS = [model_of(seed) for seed in range(8)]


def panel_of(models, images=IMAGES, names=NAMES):
    parts = [[ReferencePredictions.of(each)] for each in models]
    return combine(images.sha256, len(images), names[: len(models)], parts)


PANEL = panel_of(MODELS)


def test_values_are_those_of_a_direct_computation():
    candidate = model_of(99)
    seen = find_known_images(candidate, PANEL)
    known = np.all([each.correct for each in MODELS], axis=0)
    assert 0 < known.sum() < N
    assert seen.known.tolist() == known.tolist()
    own, labels = candidate.probabilities, LABELS.numpy()
    others = np.mean([each.probabilities for each in MODELS], axis=0)
    divergence = (others * np.log(others / own)).sum(axis=1)[known].mean()
    assert panel_divergence(seen).value == pytest.approx(np.log(divergence), abs=1e-5)
    lost = (1 - own[np.arange(N), labels])[known].mean()
    assert lost_probability(seen).value == pytest.approx(np.log(lost), abs=1e-5)
    ants = known & (labels == 0)
    measured = soft_confusion(seen, ("ant", "bee"))
    assert measured.value == pytest.approx(np.log(own[ants, 1].mean()), abs=1e-5)
    assert (measured.n, measured.counted) == (N, ants.sum())
    assert measured.interval[0] < measured.value < measured.interval[1]
    assert own[measured.failures[0], 1] == own[ants, 1].max()
    usual = others[ants, 1].mean()
    assert measured.detail == (
        f"ant is predicted as bee with {own[ants, 1].mean():.2%} on {ants.sum()} easy images, "
        f"reference models {usual:.2%}"
    )


@pytest.mark.parametrize("stored", [False, True])
def test_a_model_of_the_panel_is_left_out_of_its_own_reference(stored, tmp_path):
    panel = PANEL
    if stored:
        (tmp_path / "panel.npz").write_bytes(PANEL.as_bytes())
        panel = read_panel_predictions(tmp_path / "panel.npz")
    rest = panel_of(MODELS[1:], names=NAMES[1:])
    left_out, apart = (find_known_images(MODELS[0], each) for each in (panel.without("a"), rest))
    assert left_out.known.tolist() == apart.known.tolist()
    for measure in (
        panel_divergence,
        lost_probability,
        lambda seen: soft_confusion(seen, ("dog", "cat")),
    ):
        assert measure(left_out).value == pytest.approx(
            measure(apart).value, abs=2e-4 if stored else 1e-5
        )
    ants = MODELS[0].probabilities[apart.of_class(0)].astype(float)
    np.testing.assert_allclose(panel.view().soft[0, 0], np.log(ants.mean(axis=0)), rtol=1e-5)


def test_the_pair_that_deviates_most_is_found_and_named():
    def largest(extra):
        return largest_soft_confusion(find_known_images(model_of(99, extra), PANEL))

    sound, flipped = largest(0.0), largest(0.05)
    assert sound.value < 5 < flipped.value
    assert flipped.detail.startswith("ant is predicted as bee with")
    assert flipped.detail.endswith("; of 12 pairs")
    assert sound.interval[0] < sound.value
    sound_of_panel = [
        largest_soft_confusion(find_known_images(each, PANEL.without(name)))
        for each, name in zip(MODELS, NAMES, strict=True)
    ]
    assert max(each.value for each in sound_of_panel) < flipped.value


def test_a_class_that_one_model_never_predicts_is_left_out_for_it(tmp_path):
    answers = MODELS[0].answers.copy()
    answers[LABELS == 3] = [0, 0, 5, 0]
    models = [Predictions(answers, IMAGES, IDENTITY), *MODELS[1:]]
    (tmp_path / "panel.npz").write_bytes(panel_of(models).as_bytes())
    panel = read_panel_predictions(tmp_path / "panel.npz")
    assert np.isnan(panel.view().soft[1:, 3]).all()
    assert np.isfinite(panel.view().soft[:, :3]).all()
    found = largest_soft_confusion(find_known_images(models[0], panel.without("a")))
    assert found.value < 5
    assert found.detail.endswith("; of 9 pairs")
    unknown = replace(PANEL.view(), soft=np.full_like(PANEL.view().soft, np.nan))
    with pytest.raises(NotApplicableError, match="for each class"):
        largest_soft_confusion(
            find_known_images(model_of(99), replace(PANEL, views={repr(IDENTITY): unknown}))
        )


def test_equal_reference_models_give_no_deviation_without_bound():
    panel = panel_of([MODELS[0]] * 8)
    shifted = np.log(softmax(MODELS[0].answers, axis=1) + np.array([0.0, 1e-4, 0.0, 0.0])).astype(
        np.float32
    )
    assert (
        largest_soft_confusion(
            find_known_images(Predictions(shifted, IMAGES, IDENTITY), panel)
        ).value
        < 1
    )


def test_variances_are_shrunk_as_far_as_chance_explains_them():
    rng = np.random.default_rng(0)
    alike = rng.chisquare(9, size=500) / 9
    assert np.ptp(moderated_variances(alike, df=9)) < 0.2 * np.ptp(alike)
    differing = alike * np.exp(rng.normal(size=500) * 3)
    assert np.corrcoef(np.log(moderated_variances(differing, df=9)), np.log(differing))[0, 1] > 0.98


def test_the_mutant_takes_the_classes_of_the_first_pair_for_each_other():
    candidate = RoleModel(
        "candidate", "toy.pth", "0" * 64, "1" * 64, "toy", None, Classifier(nn.Flatten())
    )
    largest = Check("largest", "soft_confusion", "largest_soft_confusion")
    pairs = [[one, "bee"] for one in ("elk", "dog", "cat")]
    rows = [
        Check(pair[0], "soft_confusion", "soft_confusion", keys={"pair": pair}) for pair in pairs
    ]
    for checks, order in ((rows, [0, 3, 2, 1]), ([largest], [1, 0, 2, 3])):
        answers = MIXED.apply(candidate, checks, CLASSES).predict(IMAGES).answers
        np.testing.assert_array_equal(answers, candidate.predict(IMAGES).answers[:, order])


def test_what_is_not_recorded_or_not_known_is_said():
    view = replace(PANEL.view(), mean=None, soft=None)
    bare = replace(PANEL, views={repr(IDENTITY): view})
    seen = find_known_images(model_of(99), bare)
    assert "reference models" not in soft_confusion(seen, ("ant", "bee")).detail
    for measure in (panel_divergence, largest_soft_confusion):
        with pytest.raises(NotRecordedError, match="calibrate again"):
            measure(seen)
    with pytest.raises(NotApplicableError, match="no class 'elk'"):
        soft_confusion(seen, ("ant", "elk"))
    with pytest.raises(NotApplicableError, match="2 reference models tell no spread"):
        largest_soft_confusion(find_known_images(model_of(99), panel_of(MODELS[:2])))
    with pytest.raises(NotApplicableError, match="returns labels only"):
        find_known_images(replace(model_of(99), known=0), PANEL)
    wrong = Predictions(np.roll(MODELS[0].answers, 1, axis=1), IMAGES, IDENTITY)
    with pytest.raises(NotRecordedError, match="agree on no image"):
        find_known_images(model_of(99), panel_of([MODELS[0], wrong]))


def test_of_many_classes_the_label_and_the_rest_count(monkeypatch):
    for module in (collection, predictions, soft, starters):
        monkeypatch.setattr(module, "MANY", 3)
    panel = panel_of(MODELS)
    assert panel.view().mean is None
    seen = find_known_images(model_of(99), panel)
    labels = LABELS.numpy()
    q, p = (
        each[np.arange(N), labels]
        for each in (np.mean([each.probabilities for each in MODELS], axis=0), seen.probabilities)
    )
    with pytest.raises(NotApplicableError, match="more than 3 classes"):
        largest_soft_confusion(seen)
    rows = starter_checks(IMAGES, ["soft_confusion"], pairs=[("ant", "bee")])
    assert [row.id for row in rows] == ["soft-confusion-ant-bee", "soft-confusion-bee-ant"]
    divergence = (q * np.log(q / p) + (1 - q) * np.log((1 - q) / (1 - p)))[seen.known].mean()
    assert panel_divergence(seen).value == pytest.approx(np.log(divergence), abs=1e-4)


def test_tables_of_all_images_survive_a_later_part():
    some = IMAGES.take(torch.arange(0, N, 2))
    part = combine(
        IMAGES.sha256,
        N,
        NAMES,
        [[ReferencePredictions.of(model_of(seed, images=some))] for seed in range(8)],
    )
    both = merge(part, PANEL)
    np.testing.assert_array_equal(both.view().soft, PANEL.view().soft)
    np.testing.assert_array_equal(both.view().mean[1::2], PANEL.view().mean[1::2])
    turned = merge(replace(part, models=NAMES[::-1]), PANEL)
    np.testing.assert_array_equal(turned.view().soft, PANEL.view().soft[::-1])


def test_a_sample_does_not_complete_a_panel_without_all_probabilities():
    some = IMAGES.take(torch.arange(0, N, 2))
    part = panel_of([model_of(seed, images=some) for seed in range(8)], images=IMAGES)
    assert part.view().mean is not None
    old = replace(PANEL, views={repr(IDENTITY): replace(PANEL.view(), mean=None, soft=None)})
    view = merge(part, old).view()
    assert (view.mean, view.soft) == (None, None)
    assert merge(PANEL, old).view().soft is not None


def test_a_file_with_other_tables_is_refused(tmp_path):
    (tmp_path / "panel.npz").write_bytes(PANEL.as_bytes())
    with np.load(tmp_path / "panel.npz") as archive:
        tables = dict(archive)
    np.savez(tmp_path / "panel.npz", **tables | {"0.soft": tables["0.soft"][:, :2]})
    with pytest.raises(InputError, match="mean probabilities of 4 classes by 8 models"):
        read_panel_predictions(tmp_path / "panel.npz")
