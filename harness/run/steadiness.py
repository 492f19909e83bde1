"""Self-checks of the answers: the candidate answers the same question alike, however and whenever it is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from harness.base.codes import Code
from harness.base.errors import InputError, printable
from harness.data import sample_up_to
from harness.inference.anew import WAYS, asked_elsewhere, ways_for
from harness.perturb import pose_each
from harness.run.outcome import SelfCheck
from harness.run.session import UNSEEDED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.data import LabelledImages
    from harness.inference import Classifier, RoleModel
    from harness.run.session import StressSession

SAMPLES, TOLERANCE = 32, 1e-3
"""Images that are asked about otherwise, at most, and the tolerance of their logits, relative or absolute."""
ANSWERS = 16
"""Largest number of perturbations that are predicted again."""


def identity_changes_nothing(fresh: Classifier, sampled: StressSession) -> SelfCheck:
    """Check that the identity pose gives the logits of clean images."""
    images = sampled.images
    equal = np.array_equal(fresh.predict(images, _AtRest()).computed, fresh.predict(images).computed)
    return SelfCheck(
        "identity-equals-clean",
        "pass" if equal else "fail",
        f"rotated by 0° and translated by 0 px, {len(images)} images give "
        + ("the same logits, bit for bit" if equal else "other logits: the geometry or the model is not deterministic"),
    )


def model_equals_itself(models: Sequence[RoleModel], images: LabelledImages) -> SelfCheck:
    """Check that each model predicts the same however it is asked; see `_unsteady`."""
    found = _unsteady(models, images)
    return SelfCheck(
        "model-equals-itself",
        "fail" if found else "pass",
        found
        or "asked again in other orders, batches and processes, as far as its kind allows, each model gives the logits "
        "of the run",
    )


def expect_steady(models: Sequence[RoleModel], images: LabelledImages) -> None:
    """Raise `InputError` for a model that predicts otherwise if it is asked otherwise."""
    for check in (*(answers_are_the_models(model) for model in models), model_equals_itself(models, images)):
        if check.status == "fail":
            raise InputError(check.detail, code=Code.SELF_CHECK)


def _unsteady(models: Sequence[RoleModel], images: LabelledImages) -> str:
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


def answers_are_the_models(model: RoleModel, *, most: int = ANSWERS, few: int = SAMPLES) -> SelfCheck:
    """Check that the model still gives the predictions of this run, from the cache or not.

    The check takes `few` images of at most `most` of the run's perturbations: predictions of another model differ on
    many images.
    """
    fresh, answered = model.classifier.like(model.classifier.model), model.classifier.answered
    count, under = 0, dict[object, int]()
    for before in answered[:: -(-len(answered) // most)] if answered else ():
        chosen = np.unique(np.linspace(0, len(before.labels) - 1, few).astype(np.int64))
        anew = fresh.predict(before.images.take(torch.from_numpy(chosen)), before.perturbation)
        count += len(chosen)
        if others := int((anew.predicted != before.predicted[chosen]).sum()):
            under[before.perturbation] = under.get(before.perturbation, 0) + others
    # Without their number: with workers each process has answers of its own.
    detail = (
        f"predictions of this run, from the cache or not, are the same when predicted anew, {few} images of each of "
        f"{most} perturbations at most"
    )
    if under:
        detail = (
            f"{sum(under.values())} of {count} predictions of this run are others when predicted anew, as under "
            f"{printable(next(iter(under)))}: it keeps state, or the cache is of another. Empty it with "
            "`stress-harness cache --clear`. Your own perturbations must change an image alike in any batch."
        )
    return SelfCheck("answers-are-the-models", "fail" if under else "pass", detail)


class _AtRest:
    """The pose of each image, all of them zero: the whole path of interpolation, to no effect."""

    def __call__(self, images: Tensor) -> Tensor:
        rest = torch.zeros(len(images), device=images.device)
        return pose_each(images, rest, rest, rest)

    def __repr__(self) -> str:
        return "AtRest()"
