"""Steadiness of models: asked again, or in another way, they give the predictions of the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from harness.base.codes import Code
from harness.base.errors import InputError, printable
from harness.data import sample_up_to
from harness.inference.anew import WAYS, asked_elsewhere, ways_for
from harness.run.session import UNSEEDED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.data import LabelledImages
    from harness.inference import Classifier, Predictions, RoleModel

MAX_IMAGES = 32
"""Images for which each model is asked in other ways, at most."""
TOLERANCE = 1e-3
"""Tolerance of a logit, absolute and relative to the logit."""
ROUNDING = 1e-5
"""Tolerance relative to the largest logit of an image: other batches add in another order."""
SCORE_ROUNDING = 1e-4
"""Largest difference of two scores of an image that count as equal."""
_IMAGES_ALONE = 4
"""Images that are predicted alone to find out whether others in their batches change them."""
MAX_PERTURBATIONS = 16
"""Largest number of perturbations that are predicted again."""


def expect_steady(models: Sequence[RoleModel], images: LabelledImages) -> None:
    """Raise `InputError` for a model that predicts otherwise if asked again or in another way."""
    for model in models:
        changes = other_answers(model)
        if changes:
            raise InputError(changes, code=Code.SELF_CHECK)
    difference = unsteady(models, images)
    if difference:
        raise InputError(difference, code=Code.SELF_CHECK)


def unsteady(models: Sequence[RoleModel], images: LabelledImages) -> str:
    """Return which model predicts these images otherwise if asked in another way; empty for none.

    It is asked as it was given, in another order and without padding. A model that runs code of the
    user is asked in other processes, too. In a run, tracing loses state between calls, and all
    batches are filled up to one size, which a served model does not have.
    """
    sample = sample_up_to(images, MAX_IMAGES)
    live_models = [model for model in models if model.provides.live]
    logits_of_run = {}
    for model in live_models:
        fresh = model.classifier.like(model.classifier.model)
        logits_of_run[id(model)] = fresh.predict(sample).computed

    difference = _difference_elsewhere(live_models, sample, logits_of_run)
    if difference:
        return difference
    for model in live_models:  # After the other processes, since the code may depend on the time.
        difference = _difference_in_process(model, sample, logits_of_run[id(model)])
        if difference:
            return difference
    return ""


def _difference_elsewhere(
    models: Sequence[RoleModel], sample: LabelledImages, logits_of_run: dict[int, np.ndarray]
) -> str:
    """Return which model with code of the user predicts otherwise in another process."""
    foreign_models = []
    openings = []
    for model in models:
        if model.classifier.opening:
            foreign_models.append(model)
            openings.append(model.classifier.opening)

    for answers in asked_elsewhere(openings, sample):
        for model, logits_by_way in zip(foreign_models, answers, strict=True):
            for way, logits in logits_by_way.items():
                expected = logits_of_run[id(model)][way.positions(len(sample))]
                difference = _other_logits(logits, expected)
                if difference:
                    why = UNSEEDED if way == WAYS[0] else way.reason(model.provides)
                    return f"{model.path}: asked {way.how} in another process, {difference}: {why}"
    return ""


def _difference_in_process(
    model: RoleModel, sample: LabelledImages, logits_of_run: np.ndarray
) -> str:
    """Return how a model predicts otherwise in this process if asked in another way."""
    for way in ways_for(model.classifier):
        why = way.reason(model.provides)
        try:
            logits = way.logits(model.classifier, sample)
        except InputError as error:
            return f"{model.path}: asked {way.how}, the model fails ({error}): {why}"
        difference = _other_logits(logits, logits_of_run[way.positions(len(sample))])
        if difference:
            return f"{model.path}: asked {way.how}, {difference}: {why}"
    return ""


def _other_logits(logits: np.ndarray, logits_of_run: np.ndarray) -> str:
    """Return how many images have other logits than in the run; empty for none."""
    # Sums of large terms round to a part of the largest, also where they cancel to a small logit.
    largest = np.abs(logits_of_run).max(axis=1, keepdims=True, initial=0)
    tolerances = np.maximum(TOLERANCE, ROUNDING * largest) + TOLERANCE * np.abs(logits_of_run)
    distances = np.abs(logits - logits_of_run)
    # NaN is within no tolerance.
    differs = ~(distances <= tolerances).all(axis=1)
    if not differs.any():
        return ""
    distance = distances.max(initial=0)
    return f"{differs.sum()} of {len(differs)} images get other logits, by up to {distance:.3g}"


def other_answers(model: RoleModel, *, most: int = MAX_PERTURBATIONS, few: int = MAX_IMAGES) -> str:
    """Return how many predictions of this run the model gives otherwise now; empty for none.

    They may be from the cache. The model is asked for `few` images of at most `most` of the run's
    perturbations, because predictions of another model differ on many images.
    """
    answered = model.classifier.answered
    if not answered:
        return ""

    fresh = model.classifier.like(model.classifier.model)
    step = -(-len(answered) // most)
    count = 0
    changed_count = 0
    example = None
    for before in answered[::step]:
        positions = np.unique(np.linspace(0, len(before.labels) - 1, few).astype(np.int64))
        images = before.images.take(torch.from_numpy(positions))
        anew = fresh.predict(images, before.perturbation)
        changed = int(_differ(anew, before, positions).sum())
        count += len(positions)
        changed_count += changed
        if changed and example is None:
            example = anew
    if example is None:
        return ""

    changes = (
        f"{changed_count} of {count} predictions of this run are others when predicted anew, "
        f"as under {printable(example.perturbation)}"
    )
    if _depends_on_batch(fresh, example.images):
        shared = "its prediction for an image depends on the others in its batch"
        return f"{changes}: {shared}. {model.provides.batch_advice}."
    return (
        f"{changes}: it keeps state, or the cache is of another. Empty it with "
        "`stress-harness cache --clear`. Your own perturbations must change an image alike in any "
        "batch."
    )


def _differ(anew: Predictions, before: Predictions, positions: np.ndarray) -> np.ndarray:
    """Return which images have another predicted class than before, or another score, (M,) bool."""
    if not before.scored:
        return np.asarray(anew.predicted != before.predicted[positions])
    distances = np.abs(anew.image_scores - before.image_scores[positions])
    return np.asarray(distances > SCORE_ROUNDING)


def _depends_on_batch(fresh: Classifier, images: LabelledImages) -> bool:
    """Return whether images get other logits alone than beside each other.

    False for a model that gives other logits for the same batch, too.
    """

    def computed(positions: Sequence[int]) -> np.ndarray:
        return fresh.predict(images.take(torch.tensor(positions)), keep=False).computed

    positions = range(len(images))
    before = computed(positions)
    again = computed(positions)
    if _other_logits(again, before):
        return False
    step = -(-len(images) // _IMAGES_ALONE)
    chosen = positions[::step]
    alone = np.concatenate([computed([position]) for position in chosen])
    return bool(_other_logits(alone, before[chosen]))
