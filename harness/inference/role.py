"""A model in its role in a run: its checkpoint opened for some images, and its predictions of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from harness.base.errors import InputError, NotApplicableError
from harness.inference.classifier import Classifier
from harness.inference.devices import pick_device
from harness.networks import NetworkOptions
from harness.networks.declared import expect_fit, load_model
from harness.networks.process import settings_kept
from harness.perturb import IDENTITY
from harness.perturb.corruptions import ALL, SEVERITIES, SHIPPED, Corruption

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from harness.base import PredictionCache
    from harness.data import LabelledImages
    from harness.inference.attention import Attention
    from harness.inference.backend import MakeBackend
    from harness.inference.predictions import Predictions
    from harness.networks.checkpoints import Record
    from harness.perturb import Perturbation


@dataclass(frozen=True, eq=False)
class RoleModel:
    """A checkpoint in a role, of `harness.checks.roles.ROLES`, or in none."""

    role: str
    path: Path
    sha256: str
    model_sha256: str = field(repr=False)
    architecture: str
    record: Record | None = field(repr=False)
    classifier: Classifier = field(repr=False)
    note: str = field(default="", repr=False)
    """Which of its file's tensors it was filled with, where there was a choice."""
    layer: str | None = None
    """The layer whose attention is looked at; None for the default, see `harness.inference.layers`."""

    def predict(self, images: LabelledImages, perturbation: Perturbation | None = None) -> Predictions:
        """Predict every image under the perturbation (default: none); see `Classifier.predict`."""
        return self.classifier.predict(images, perturbation or IDENTITY)

    def attend(self, images: LabelledImages, perturbation: Perturbation | None = None) -> Attention:
        """Predict every image under the perturbation (default: none) and say where the model looks; see `attend`."""
        from harness.inference.attention import attend

        if self.architecture == "onnx":
            raise NotApplicableError(
                "attention: a network in an ONNX file gives predictions only; to see where the model looks, gate the "
                "checkpoint that it was exported from"
            )
        return attend(self.classifier, images, perturbation or IDENTITY, layer=self.layer)

    def as_json(self) -> dict[str, str]:
        """Return the model's entry in `stress.json`; of a user's network also what was declared of it."""
        entry = {"path": str(self.path), "sha256": self.sha256, "architecture": self.architecture}
        if self.note:
            entry["loaded"] = self.note
        return entry | getattr(self.classifier.plain, "declared", {})


def along(model: RoleModel, images: LabelledImages, *perturbations: Perturbation) -> tuple[Predictions, ...]:
    """Predict the images as they are, and then under each perturbation, in this order."""
    return (model.predict(images), *under_each(model, images, perturbations))


def under_each(
    model: RoleModel, images: LabelledImages, perturbations: Iterable[Perturbation]
) -> tuple[Predictions, ...]:
    """Predict the images under each perturbation, in this order."""
    return tuple(model.predict(images, perturbation) for perturbation in perturbations)


def under_corruption(model: RoleModel, images: LabelledImages, name: str) -> dict[str, tuple[Predictions, ...]]:
    """Predict the images as they are and at severities 1 to 5, in this order, for one corruption or for `ALL`.

    Raises `ValueError` for an unknown name.
    """
    return {
        each: (model.predict(images), *(model.predict(images, Corruption(each, severity)) for severity in SEVERITIES))
        for each in (SHIPPED if name == ALL else (name,))
    }


@settings_kept()
def open_model(
    path: Path,
    images: LabelledImages,
    *,
    role: str = "",
    network: NetworkOptions | None = None,
    device: str = "auto",
    workers: int | None = None,
    cache: PredictionCache | None = None,
    backend: str | MakeBackend = "process",
    others: Iterable[RoleModel] = (),
) -> RoleModel:
    """Load a checkpoint, check that it fits the images, and return it as the model of a role.

    The precision of its answers is measured on these images. ONNX Runtime computes in float32 alone, so that bfloat16
    does not screen for it. If one of `others` is the same network, the two share what they remember. Raises
    `CheckpointRefused` for a file out of order, and `InputError`, which names role and file, for a device or backend
    that there is not and for a model that does not fit the images or fails on the first of them.
    """
    device = pick_device(device)
    network = (network or NetworkOptions()).after(images)
    checkpoint = load_model(path, network)
    twin = next((other for other in others if other.model_sha256 == checkpoint.model_sha256), None)
    try:
        if twin:
            classifier = twin.classifier
        else:
            screen = checkpoint.architecture != "onnx"
            classifier = Classifier(
                checkpoint.model, device=device, workers=workers, cache=cache, screen=screen, backend=backend
            )
            classifier.measure_precision_on(images)
        where = expect_fit(checkpoint.model, images, outputs=network.outputs)
        classifier.predict(images.take(torch.tensor([0])))
    except InputError as error:
        raise InputError(f"{role} {path}: {error}".strip()) from error
    except Exception as error:  # The model's own, which may fail in any way, and at any call.
        raise InputError(f"{role} {path}: the model failed on the first images: {error}".strip()) from error
    return RoleModel(
        role,
        path,
        checkpoint.sha256,
        checkpoint.model_sha256,
        checkpoint.architecture,
        checkpoint.record,
        classifier,
        note="; ".join(filter(None, (checkpoint.note, where))),
    )
