"""Self-checks of the answers: the candidate answers the same question alike, however and whenever it is asked."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from harness.base.errors import InputError, printable
from harness.inference import Predictions
from harness.inference.devices import batch_size
from harness.inference.predictors.network import PredictorNetwork
from harness.measures.flips import flips
from harness.perturb import pose_each
from harness.run.outcome import SelfCheck

if TYPE_CHECKING:
    from harness.data import LabelledImages
    from harness.inference import Classifier, RoleModel
    from harness.run.session import StressSession

STATE_SAMPLES, TOLERANCE = 100, 1e-3
"""Images for a run of the untraced model, at most, and the tolerance of its logits, relative or absolute."""
ALONE = 8
"""Images that the model predicts one by one, at most: milliseconds for a small network, a second for a large one."""


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


def model_equals_itself(fresh: Classifier, session: StressSession, sampled: StressSession) -> SelfCheck:
    """Check that the candidate predicts the same classes a second time."""
    images = sampled.images
    changed = flips(fresh.predict(images), kept_predictions(session.roles["candidate"], session, images))
    count = len(changed.lost) + len(changed.gained)
    return SelfCheck(
        "model-equals-itself",
        "fail" if count else "pass",
        f"predicted a second time, {count} of {len(images)} predictions change"
        + ("; the model is not deterministic" if count else ""),
    )


def kept_predictions(model: RoleModel, session: StressSession, images: LabelledImages) -> Predictions:
    """Return the predictions of some clean images that a model made in the run."""
    kept = model.predict(session.images)
    chosen = np.isin(session.images.positions.numpy(), images.positions.numpy())
    return Predictions(kept.answers[chosen], images, kept.perturbation, known=kept.known)


def model_keeps_no_state(fresh: Classifier, sampled: StressSession) -> SelfCheck:
    """Check that the model, run twice as it was given, answers as it does in the run.

    In the run its computation is traced where it can be, and what its code keeps from one call to the next is lost.
    """
    classifier = sampled.roles["candidate"].classifier
    images = sampled.images.take(torch.arange(min(STATE_SAMPLES, len(sampled.images))))
    backend = classifier.backend_for(copy.deepcopy(classifier.plain), workers=1, screen=False)

    def as_given() -> np.ndarray:
        inputs = classifier.inputs(images)
        return backend.exact_logits(len(images), inputs, classes=len(images.classes), what="images, as it was given")

    in_the_run = fresh.predict(images).computed
    alike = all(np.allclose(as_given(), in_the_run, rtol=TOLERANCE, atol=TOLERANCE) for _ in range(2))
    return SelfCheck(
        "model-keeps-no-state",
        "pass" if alike else "fail",
        f"run as it was given, twice, it gives {len(images)} images "
        + ("the logits of this run" if alike else "other logits than in this run: it keeps state between calls"),
    )


def batch_changes_nothing(fresh: Classifier, sampled: StressSession) -> SelfCheck:
    """Check that the logits of an image depend on no other image of its batch, and not on the size of the batch.

    In the run all batches are filled up to one size. Where the model is served they are not.
    """
    name, images = "batch-changes-nothing", sampled.images.take(torch.arange(min(STATE_SAMPLES, len(sampled.images))))
    in_the_run = fresh.predict(images).computed
    if isinstance(fresh.plain, PredictorNetwork):  # Always asked about full batches.
        return _order_changes_nothing(name, fresh, images, in_the_run)
    full = batch_size(images.pixels.shape[1:], fresh.device, screening=False)
    few, reversed_ = np.arange(min(ALONE, len(images))), np.arange(min(full, len(images)))[::-1]
    batches = {
        "one by one": [few[[each]] for each in range(len(few))],
        "by threes": [few[::-1][start : start + 3] for start in range(0, len(few), 3)],
        f"{len(reversed_)} at once": [reversed_],
    }
    advice = (
        "a served model would give other predictions than those judged. Let no step work across the batch, such as "
        "`.squeeze()` without a dimension, a branch on its size, or a norm over it"
    )
    for how, parts in batches.items():
        positions = np.concatenate(parts)
        try:
            logits = np.concatenate([fresh.in_one_batch(images, part) for part in parts])
        except InputError as error:
            return SelfCheck(name, "fail", f"asked {how}, without padding, the model fails ({error}): {advice}")
        others = ~np.isclose(logits, in_the_run[positions], rtol=TOLERANCE, atol=TOLERANCE).all(axis=1)
        if others.any():
            differs = float(np.abs(logits - in_the_run[positions]).max())
            return SelfCheck(
                name,
                "fail",
                f"asked {how}, without padding, {others.sum()} of {len(positions)} images get other logits than in "
                f"this run, by up to {differs:.3g}: {advice}",
            )
    return SelfCheck(
        name,
        "pass",
        f"asked {' and '.join(batches)} in another order, without padding, the model gives the logits of this run",
    )


def _order_changes_nothing(name: str, fresh: Classifier, images: LabelledImages, in_the_run: np.ndarray) -> SelfCheck:
    """Check that a predictor gives an image the same prediction at another place of another batch."""
    if not fresh.provides.live:
        return SelfCheck(name, "not_applicable", "the predictions were recorded before the run")
    order, count = np.arange(len(images))[::-1], len(images)
    backend, inputs = fresh.backend_for(fresh.plain), fresh.inputs(images).only(order)
    logits = backend.exact_logits(count, inputs, classes=len(images.classes), what="images in another order")
    others = ~np.isclose(logits, in_the_run[order], rtol=TOLERANCE, atol=TOLERANCE).all(axis=1)
    return SelfCheck(
        name,
        "fail" if others.any() else "pass",
        f"asked in another order, {others.sum()} of {count} images get other predictions"
        + (
            "; the predictor mixes up predictions, or its prediction for an image depends on the others"
            if others.any()
            else ""
        ),
    )


def answers_are_the_models(fresh: Classifier, session: StressSession, *, most: int, few: int) -> SelfCheck:
    """Check that the model still gives the predictions of this run, from the cache or not.

    The check takes `few` images of at most `most` of the run's perturbations: predictions of another model differ on
    many images.
    """
    candidate = session.roles["candidate"]
    answered = candidate.classifier.answered
    some = answered[:: -(-len(answered) // most)] if answered else ()
    count = differing = 0
    under: list[object] = []
    for before in some:
        chosen = np.unique(np.linspace(0, len(before.labels) - 1, few).astype(np.int64))
        anew = fresh.predict(before.images.take(torch.from_numpy(chosen)), before.perturbation)
        count += len(chosen)
        if others := int((anew.predicted != before.predicted[chosen]).sum()):
            differing += others
            under.append(before.perturbation)
    return SelfCheck(
        "answers-are-the-models",
        "fail" if differing else "pass",
        f"{differing} of {count} predictions of this run are others when predicted anew, such as under "
        f"{printable(under[0])}; empty the cache with `stress-harness cache --clear`. Your own perturbations must "
        "change an image alike in any batch."
        if differing
        # Without their number: with workers each process has answers of its own.
        else f"predictions of this run, from the cache or not, are the same when predicted anew, {few} "
        f"images of each of {most} perturbations at most",
    )


class _AtRest:
    """The pose of each image, all of them zero: the whole path of interpolation, to no effect."""

    def __call__(self, images: Tensor) -> Tensor:
        rest = torch.zeros(len(images), device=images.device)
        return pose_each(images, rest, rest, rest)

    def __repr__(self) -> str:
        return "AtRest()"
