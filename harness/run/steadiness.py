"""Steady models: they answer the same question alike, however and whenever they are asked."""

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
    from harness.inference import RoleModel

SAMPLES, TOLERANCE = 32, 1e-3
"""Images that are asked about otherwise, at most, and the tolerance of their logits, relative or absolute."""
ANSWERS = 16
"""Largest number of perturbations that are predicted again."""


def expect_steady(models: Sequence[RoleModel], images: LabelledImages) -> None:
    """Raise `InputError` for a model that predicts otherwise if it is asked otherwise, or again."""
    if found := next(filter(None, map(other_answers, models)), "") or unsteady(models, images):
        raise InputError(found, code=Code.SELF_CHECK)


def unsteady(models: Sequence[RoleModel], images: LabelledImages) -> str:
    """Say which model gives other predictions for these images if it is asked otherwise; empty if none does.

    It is asked as it was given, in another order and without padding. If it runs code of the user's, other processes
    are asked, too. In a run, tracing loses state between calls, and all batches are filled up to one size. Where the
    model is served they are not.
    """
    some, live = sample_up_to(images, SAMPLES), [model for model in models if model.provides.live]
    in_the_run = {id(model): model.classifier.like(model.classifier.model).predict(some).computed for model in live}
    foreign = [model for model in live if model.classifier.opening]
    for answers in asked_elsewhere([model.classifier.opening for model in foreign if model.classifier.opening], some):
        for model, given in zip(foreign, answers, strict=True):
            for way, logits in given.items():
                if found := _others(logits, in_the_run[id(model)][way.positions(len(some))]):
                    why = UNSEEDED if way == WAYS[0] else way.why
                    return f"{model.path}: asked {way.how} in another process, {found}: {why}"
    for model in live:  # After the other processes, since the code may depend on the time.
        for way in ways_for(model.classifier):
            try:
                logits = way.logits(model.classifier, some)
            except InputError as error:
                return f"{model.path}: asked {way.how}, the model fails ({error}): {way.why}"
            if found := _others(logits, in_the_run[id(model)][way.positions(len(some))]):
                return f"{model.path}: asked {way.how}, {found}: {way.why}"
    return ""


def _others(logits: np.ndarray, in_the_run: np.ndarray) -> str:
    """Say how many images have other logits than in the run; empty for none."""
    others = ~np.isclose(logits, in_the_run, rtol=TOLERANCE, atol=TOLERANCE).all(axis=1)
    by = np.abs(logits - in_the_run).max(initial=0)
    return f"{others.sum()} of {len(others)} images get other logits, by up to {by:.3g}" if others.any() else ""


def other_answers(model: RoleModel, *, most: int = ANSWERS, few: int = SAMPLES) -> str:
    """Say how many predictions of this run, from the cache or not, the model gives otherwise now; empty for none.

    The model is asked about `few` images of at most `most` of the run's perturbations: predictions of another model
    differ on many images.
    """
    fresh, answered = model.classifier.like(model.classifier.model), model.classifier.answered
    count, under = 0, dict[object, int]()
    for before in answered[:: -(-len(answered) // most)] if answered else ():
        chosen = np.unique(np.linspace(0, len(before.labels) - 1, few).astype(np.int64))
        anew = fresh.predict(before.images.take(torch.from_numpy(chosen)), before.perturbation)
        count += len(chosen)
        if others := int((anew.predicted != before.predicted[chosen]).sum()):
            under[before.perturbation] = under.get(before.perturbation, 0) + others
    if not under:
        return ""
    return (
        f"{sum(under.values())} of {count} predictions of this run are others when predicted anew, as under "
        f"{printable(next(iter(under)))}: it keeps state, or the cache is of another. Empty it with "
        "`stress-harness cache --clear`. Your own perturbations must change an image alike in any batch."
    )
