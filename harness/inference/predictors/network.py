"""A predictor with the classes of the data, from pixels to logits, and the backend that calls it."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from harness.inference.engine import Engine
from harness.inference.predictors.answers import as_logits, order_of
from harness.inference.predictors.protocol import Remote
from harness.networks.checkpoints import hash_tensors

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from harness.inference.backend import Perturbed
    from harness.inference.engine import BatchTask, MakeBackend
    from harness.inference.predictors.protocol import Predictor, Provides


class PredictorModel:
    """A predictor that maps pixels (N, C, H, W) to logits (N, classes); copies share it.

    `named` are the predictor's own classes in its order.
    """

    def __init__(self, predictor: Predictor, *, classes: Sequence[str] = (), named: Sequence[str] = ()) -> None:
        self.predictor, self.classes = predictor, len(classes)
        self.identity, self.provides = predictor.identity, predictor.provides
        self.order = order_of(named, classes) if named and classes else None

    @property
    def fingerprint(self) -> str | None:
        """Return a hash of everything that determines the logits; None for an identity that is not lasting."""
        if not self.identity.lasting:
            return None
        order = None if self.order is None else self.order.tolist()
        decisive = self.identity.sha256, self.identity.runtime, order, self.provides.scores, self.provides.top
        return hashlib.sha256(repr(decisive).encode()).hexdigest()

    @property
    def sha256(self) -> str:
        """Return a hash of the identity, as of a network with a tensor for it."""
        digest = torch.tensor(list(bytes.fromhex(self.identity.sha256)), dtype=torch.uint8)
        return hash_tensors({"digest": digest})

    @property
    def declared(self) -> dict[str, str]:
        """Return the facts of the predictor as text, for `stress.json`."""
        provides = self.provides
        scores = provides.scores if provides.top is None else f"top {provides.top} {provides.scores}"
        return {**self.identity.facts, "outputs": scores}

    def __deepcopy__(self, memo: object) -> PredictorModel:
        return self

    def __call__(self, pixels: Tensor) -> Tensor:
        """Map pixels, float32, to logits; raises `PredictorError` for invalid answers."""
        if not isinstance(pixels, Tensor):
            raise TypeError("a predictor cannot be traced")
        asked = np.ascontiguousarray(pixels.detach().cpu().numpy(), dtype=np.float32)
        logits = as_logits(self.predictor.predict(asked), self.provides, images=len(asked), classes=self.classes)
        return torch.from_numpy(logits if self.order is None else np.ascontiguousarray(logits[:, self.order]))


class Asking(Engine):
    """The backend that calls a predictor in batches of one size, with as many parallel calls as it allows.

    A live predictor gets only full batches; the last one is padded with black images.
    """

    def __init__(
        self,
        model: Any,
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

    def over_batches(self, task: BatchTask, model: Any, inputs: Perturbed, *, size: int) -> np.ndarray:
        """Return the task's result, once a remote predictor has confirmed its answers."""
        rows = super().over_batches(task, model, inputs, size=size)
        if isinstance(model, PredictorModel) and isinstance(model.predictor, Remote):
            model.predictor.confirm()
        return rows

    def _size(self, inputs: Perturbed, *, low: bool = False) -> int:  # noqa: ARG002
        return self._batch


def asking(provides: Provides, *, size: int) -> MakeBackend:
    """Return the maker of a predictor's backend with batches of `size` images."""
    return partial(Asking, size=size, provides=provides)
