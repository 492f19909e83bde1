"""A model in its role in a run: loaded by its SPEC, opened for a data set, and its predictions."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from harness.base.codes import Code
from harness.base.errors import InputError, NotApplicableError
from harness.data.images import sample_up_to
from harness.inference.classifier import Classifier
from harness.inference.devices import pick_device
from harness.inference.engine import Engine
from harness.inference.predictors.answers import expect_order
from harness.inference.predictors.kinds import open_predictor
from harness.inference.predictors.network import Network, PredictorModel
from harness.inference.predictors.protocol import OF_NETWORKS, Provides, UnknownPixelsError
from harness.networks import NetworkOptions
from harness.networks.checkpoints import Checkpoint
from harness.networks.declared import load_model
from harness.networks.native_code import NativeNetwork
from harness.networks.process import settings_kept
from harness.perturb import IDENTITY
from harness.perturb.corruptions import ALL, SEVERITIES, SHIPPED, Corruption

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import nn

    from harness.base.cache import Store
    from harness.data import LabelledImages
    from harness.inference.attention import Attention
    from harness.inference.engine import MakeBackend
    from harness.inference.predictions import Predictions
    from harness.networks.checkpoints import Record
    from harness.perturb import Perturbation


def load(
    spec: Path | str, options: NetworkOptions | None = None, images: LabelledImages | None = None
) -> Checkpoint:
    """Load the model that a SPEC names; without images, a predictor only gives its identity.

    Raises `CheckpointRefused` for an irregular file, and `InputError` for a predictor that cannot
    be opened.
    """
    options = options or NetworkOptions()
    if isinstance(spec, Path):
        return load_model(spec, options)
    predictor = open_predictor(spec, options, images)
    classes = images.classes if images else ()
    named = (predictor.provides.classes if images else ()) or options.class_names
    model = PredictorModel(predictor, classes=classes, named=named, batch=options.images_per_call)
    if options.predictor_batch == 1 and model.provides.live and model.provides.batch is None:
        # Served one image at a time, it is asked in no other batches, and the verdict holds for
        # none.
        model.provides = replace(model.provides, batch=1)
    if images is None:
        predictor.close()
    identity = predictor.identity
    return Checkpoint(spec, identity.sha256, model, identity.kind, None, lasting=identity.lasting)


_ORDER_SAMPLES, _ORDER_SAMPLES_PER_CLASS = 500, 10
"""Numbers of clean images, in all and for each class, that verify the order of a predictor's
classes.
"""


@dataclass(frozen=True, eq=False)
class RoleModel:
    """A checkpoint in a role of `harness.checks.roles.ROLES`, or without a role."""

    role: str
    path: Path | str
    """Its file, or the SPEC of a predictor as text."""
    sha256: str
    model_sha256: str = field(repr=False)
    architecture: str
    record: Record | None = field(repr=False)
    classifier: Classifier = field(repr=False)
    note: str = field(default="", repr=False)
    """Description of the choice among its file's tensors, or of its outputs.

    Empty without a choice.
    """
    layer: str | None = None
    """The layer for Grad-CAM; None for the default, see `harness.inference.layers`."""

    @property
    def provides(self) -> Provides:
        """Return the kind of its answers."""
        return self.classifier.provides

    def predict(
        self, images: LabelledImages, perturbation: Perturbation | None = None
    ) -> Predictions:
        """Predict every image under the perturbation (default: none); see `Classifier.predict`."""
        return self.classifier.predict(images, perturbation or IDENTITY)

    def attend(self, images: LabelledImages, perturbation: Perturbation | None = None) -> Attention:
        """Return predictions and Grad-CAM maps under the perturbation (default: none).

        See `attend`.
        """
        from harness.inference.attention import attend

        if not self.provides.layers:
            raise NotApplicableError(
                f"attention: a model of the kind {self.architecture} gives predictions only; to "
                "see where the model looks, gate the checkpoint that it was made from"
            )
        return attend(self.classifier, images, perturbation or IDENTITY, layer=self.layer)

    def as_json(self) -> dict[str, str]:
        """Return the model's entry in `stress.json`, with the declarations of a user's network."""
        entry = {"path": str(self.path), "sha256": self.sha256, "architecture": self.architecture}
        if self.note:
            entry["loaded"] = self.note
        if self.provides.holds_for:
            entry["batches"] = self.provides.holds_for
        return self.classifier.predictor.declared | entry


def along(
    model: RoleModel, images: LabelledImages, *perturbations: Perturbation
) -> tuple[Predictions, ...]:
    """Predict the clean images, and then the images under each perturbation, in this order."""
    return (model.predict(images), *under_each(model, images, perturbations))


def under_each(
    model: RoleModel, images: LabelledImages, perturbations: Iterable[Perturbation]
) -> tuple[Predictions, ...]:
    """Predict the images under each perturbation, in this order."""
    return tuple(model.predict(images, perturbation) for perturbation in perturbations)


def under_corruption(
    model: RoleModel, images: LabelledImages, name: str
) -> dict[str, tuple[Predictions, ...]]:
    """Predict the clean images and those at severities 1 to 5, in this order.

    They are of one corruption or of `ALL`. Raises `ValueError` for an unknown name.
    """
    return {
        each: (
            model.predict(images),
            *(model.predict(images, Corruption(each, severity)) for severity in SEVERITIES),
        )
        for each in (SHIPPED if name == ALL else (name,))
    }


@settings_kept()
def open_model(
    path: Path | str,
    images: LabelledImages,
    *,
    role: str = "",
    network: NetworkOptions | None = None,
    device: str = "auto",
    workers: int | None = None,
    cache: Store | None = None,
    backend: MakeBackend = Engine,
    others: Iterable[RoleModel] = (),
    ordered: bool = True,
    rounded: bool = False,
) -> RoleModel:
    """Load a model, check that it fits the images, and return it in its role.

    The precision of its predictions is measured on these images. A model without layers has one
    precision, so bfloat16 does not screen for it. This process calls a predictor, whatever the
    backend. If one of `others` is the same network, the two share their cached predictions. Images
    may be `rounded` to 8 bits for the model. Raises `CheckpointRefused` for an irregular file, and
    `InputError` for an unavailable device or backend. Raises `InputError`, with role and file, for
    a model that does not fit the images or fails on the first of them.
    """
    device = pick_device(device)
    network = (network or NetworkOptions()).after(images)
    with (
        nullcontext() if isinstance(path, Path) else _named(role, path)
    ):  # A refused file names itself.
        checkpoint = load(path, network, images)
    model = checkpoint.model
    if not isinstance(model, PredictorModel):
        model = Network(model, device=device, provides=_provided_by(model))
    twin = next((other for other in others if other.model_sha256 == checkpoint.model_sha256), None)
    with _named(role, path):
        where = model.fit(images, network.model_outputs)
        if twin:
            classifier = twin.classifier
            model.close()
        else:
            if cache is not None:
                model.keep_in(cache)
            classifier = Classifier(model, workers=workers, cache=cache, backend=backend)
            classifier.rounded = rounded
            if checkpoint.architecture in {"user", "python"}:  # It runs code of the user's.
                classifier.opening = {
                    "path": path,
                    "network": network,
                    "device": device,
                    "rounded": rounded,
                }
            classifier.measure_precision_on(images)
        _expect_answers(classifier, images, ordered=ordered)
    identity = (
        checkpoint.sha256,
        checkpoint.model_sha256,
        checkpoint.architecture,
        checkpoint.record,
    )
    return RoleModel(
        role, path, *identity, classifier, note="; ".join(filter(None, (checkpoint.note, where)))
    )


def _provided_by(model: nn.Module) -> Provides:
    """Return the kind of answers of a network.

    With dynamic ranges, they hold for one batch size.
    """
    network = getattr(model, "network", model)
    if not isinstance(network, NativeNetwork):
        return OF_NETWORKS
    if not network.dynamic_ranges:
        return Provides(network=True)
    return Provides(network=True, batch=network.runner.batch, dynamic=True)


@contextmanager
def _named(role: str, path: Path | str) -> Iterator[None]:
    """Name role and model in any error, which is an `InputError` then."""
    try:
        yield
    except InputError as error:
        raise InputError(
            f"{role} {path}: {error.message}".strip(), setting=error.setting, code=error.code
        ) from error
    except Exception as error:  # The model may raise any exception at any call.
        raise InputError(
            f"{role} {path}: the model failed on the first images: {error}".strip(),
            code=Code.MODEL_RAISED,
        ) from error


def _expect_answers(classifier: Classifier, images: LabelledImages, *, ordered: bool) -> None:
    """Raise `InputError` for a model without predictions, or with another order of classes.

    The order is compared with that of the data. A sample of the clean images verifies the order,
    unless the kind of model fixes it.
    """
    with suppress(UnknownPixelsError):  # Recorded predictions may be of other images only.
        classifier.predict(images.take(torch.tensor([0])))
        if ordered and not classifier.provides.layers and not classifier.provides.scored:
            sample = sample_up_to(
                images, max(_ORDER_SAMPLES, _ORDER_SAMPLES_PER_CLASS * len(images.classes))
            )
            expect_order(classifier.predict(sample), classifier.predictor.order)
