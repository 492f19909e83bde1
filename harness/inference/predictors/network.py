"""A predictor as a model, from pixels to logits, with a backend that calls it in batches of one size."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from harness.inference.engine import Engine
from harness.inference.predictors.audit import SUMS_TO_ONE, checked, order_of
from harness.inference.predictors.protocol import PredictorError, Remote

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from harness.inference.backend import Perturbed
    from harness.inference.engine import BatchTask, MakeBackend
    from harness.inference.predictors.protocol import Predictor, Provides

_SMALLEST = float(np.finfo(np.float32).tiny)


class PredictorNetwork(nn.Module):
    """A predictor as a model that maps pixels (N, C, H, W) to logits (N, classes); copies share the predictor.

    `named` are the predictor's own classes in its order. The softmax of the logits gives the predictor's probabilities.
    A label becomes logits with the largest at the label; no probability is then known.
    """

    predictor: Predictor

    def __init__(self, predictor: Predictor, *, classes: Sequence[str] = (), named: Sequence[str] = ()) -> None:
        super().__init__()
        self.__dict__["predictor"] = predictor  # It may be a module itself, but not a part of this one.
        self.classes = len(classes)
        self.identity, self.provides = predictor.identity, predictor.provides
        self.order = order_of(named, classes) if named and classes else None
        digest = bytes.fromhex(self.identity.sha256)
        self.register_buffer("digest", torch.tensor(list(digest), dtype=torch.uint8))

    @property
    def fingerprint(self) -> str | None:
        """Return a hash of everything that determines the logits; None for an identity that is not lasting."""
        if not self.identity.lasting:
            return None
        order = None if self.order is None else self.order.tolist()
        decisive = self.identity.sha256, self.identity.runtime, order, self.provides.scores, self.provides.top
        return hashlib.sha256(repr(decisive).encode()).hexdigest()

    @property
    def declared(self) -> dict[str, str]:
        """Return the facts of the predictor as text, for `stress.json`."""
        provides = self.provides
        scores = provides.scores if provides.top is None else f"top {provides.top} {provides.scores}"
        return {**self.identity.facts, "outputs": scores}

    def __deepcopy__(self, memo: object) -> PredictorNetwork:
        return self

    def forward(self, pixels: Tensor) -> Tensor:
        """Map pixels (N, C, H, W), float32, to logits (N, classes); raises `PredictorError` for invalid answers."""
        if not isinstance(pixels, Tensor):
            raise TypeError("a predictor cannot be traced")
        asked = np.ascontiguousarray(pixels.detach().cpu().numpy(), dtype=np.float32)
        answers = self.predictor.predict(asked)
        logits = as_logits(answers, self.provides, images=len(asked), classes=self.classes)
        return torch.from_numpy(logits if self.order is None else np.ascontiguousarray(logits[:, self.order]))


def as_logits(answers: np.ndarray, provides: Provides, *, images: int, classes: int) -> np.ndarray:
    """Return logits, (N, classes) float32, of a predictor's answers for N images.

    Raises `PredictorError` for invalid answers, see `checked`, and for probabilities that do not sum to one.
    """
    answers = checked(answers, provides.scores, images=images, classes=classes, top=provides.top is not None)
    if provides.scores == "labels":
        return np.asarray(np.eye(classes, dtype=np.float32)[answers])
    if provides.top is not None:
        answers = _completed(answers, provides.top)
    if provides.scores == "logits":
        return answers.copy()
    sums = answers.sum(axis=1)
    if wrong := int(((np.abs(sums - 1) > SUMS_TO_ONE) | (answers < 0).any(axis=1)).sum()):
        raise PredictorError(
            f"the predictor's probabilities are {answers.min():.3g} to {answers.max():.3g} with sums of "
            f"{sums.min():.3g} to {sums.max():.3g}, expected a sum of 1 ({wrong} of {images} images are wrong). "
            "Declare logits with model_outputs logits, or return probabilities"
        )
    return np.asarray(np.log(np.maximum(answers, _SMALLEST)))


def _completed(answers: np.ndarray, top: int) -> np.ndarray:
    """Return probabilities in which the unknown classes share the rest up to a sum of one."""
    unknown = np.isnan(answers)
    known = (~unknown).sum(axis=1)
    if (known < min(1, top)).any() or (known > top).any():
        raise PredictorError(
            f"the predictor declared the top {top} classes, but returned {known.min()} to {known.max()} of them"
        )
    rest = np.maximum(0, 1 - np.nansum(answers, axis=1))
    least = np.nanmin(answers, axis=1)
    share = np.minimum(rest / np.maximum(1, unknown.sum(axis=1)), np.nextafter(least, np.float32(0)))
    return np.where(unknown, share[:, None], answers)


class Asking(Engine):
    """The backend that calls a predictor in batches of one size, with as many parallel calls as it allows.

    A live predictor gets only full batches; the last one is padded with black images.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        device: torch.device,
        workers: int,  # noqa: ARG002  The predictor determines its parallel calls.
        screen: bool = False,  # noqa: ARG002  A predictor has one precision.
        size: int,
        provides: Provides,
    ) -> None:
        super().__init__(model, device=device, workers=max(1, provides.calls), screen=False)
        self._batch, self.fills = size, provides.live

    @property
    def decides(self) -> Hashable:
        """Return the batch size and the kind of processor, which may affect the last bits of answers."""
        return "predictor", self._batch, torch.backends.cpu.get_cpu_capability()

    def over_batches(self, task: BatchTask, model: nn.Module, inputs: Perturbed, *, size: int) -> np.ndarray:
        """Return the task's result, once a remote predictor has confirmed its answers."""
        rows = super().over_batches(task, model, inputs, size=size)
        if isinstance(model, PredictorNetwork) and isinstance(model.predictor, Remote):
            model.predictor.confirm()
        return rows

    def _size(self, inputs: Perturbed, *, low: bool = False) -> int:  # noqa: ARG002
        return self._batch


def asking(provides: Provides, *, size: int) -> MakeBackend:
    """Return the maker of a predictor's backend with batches of `size` images."""
    return partial(Asking, size=size, provides=provides)
