"""A predictor with the classes of the data, from pixels to logits, and the backend that calls it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from harness.inference.devices import in_batches
from harness.inference.engine import checked, named
from harness.inference.predictors.answers import as_logits, order_of
from harness.inference.predictors.protocol import Remote
from harness.networks.checkpoints import hash_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from harness.inference.backend import Inputs
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


class Asking:
    """The backend that calls a predictor in batches of one size, with as many parallel calls as it allows.

    A live predictor gets only full batches; the last one is padded with black images. It has one precision. `model` is
    a `PredictorModel`, or a network around one.
    """

    def __init__(
        self,
        model: Callable[[Tensor], object],
        *,
        device: torch.device,  # noqa: ARG002  The predictor has its own.
        workers: int,  # noqa: ARG002  The predictor determines its parallel calls.
        screen: bool = False,  # noqa: ARG002
        size: int,
        provides: Provides,
    ) -> None:
        self.model, self._size, self._provides = model, size, provides

    @property
    def decides(self) -> Hashable:
        """Return the batch size and the kind of processor, which may affect the last bits of answers."""
        return "predictor", self._size, torch.backends.cpu.get_cpu_capability()

    def measure_precision_on(self, count: int, inputs: Inputs, *, name: str) -> None:
        """Do nothing, as there is no other precision."""

    def screens_for(self, count: int) -> bool:  # noqa: ARG002
        """Return that all answers are exact."""
        return False

    def logits(self, count: int, inputs: Inputs, *, classes: int, what: str) -> np.ndarray:
        """Return the logits of `count` inputs, (count, classes); raises as `Backend.logits`."""

        def predict(some: np.ndarray) -> Tensor:
            with torch.inference_mode():
                pixels = inputs(some)
                missing = self._size - len(some) if self._provides.live else 0
                batch = torch.cat([pixels, pixels.new_zeros(missing, *pixels.shape[1:])])
                return checked(self.model(batch), (len(batch), classes), images=len(some))

        with named(what):
            calls = max(1, self._provides.calls)
            parts = in_batches(predict, np.arange(count), size=self._size, workers=calls)
            if isinstance(predictor := getattr(self.model, "predictor", None), Remote):
                predictor.confirm()
        return torch.cat([torch.empty((0, classes)), *parts]).numpy()

    exact_logits = logits
