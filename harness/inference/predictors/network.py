"""Models of a classifier, from pixels to logits.

A model is a network of PyTorch, or a predictor with the classes of the data.
"""

from __future__ import annotations

import hashlib
import operator
from copy import copy
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from harness.inference import devices
from harness.inference.engine import Engine
from harness.inference.graph import folded, pooled_by_maxima
from harness.inference.predictors.answers import as_logits, order_of
from harness.inference.predictors.protocol import OF_NETWORKS
from harness.networks.checkpoints import hash_tensors
from harness.networks.declared import expect_fit
from harness.networks.process import evaluation_copy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.base.cache import Store
    from harness.data import LabelledImages
    from harness.inference.engine import MakeBackend
    from harness.inference.predictors.protocol import Predictor, Provides


class Network:
    """A network of PyTorch, which does not change; both of its copies are made at the first use.

    `plain` is in evaluation mode, with layers under their own names. In `fast`, which predicts,
    batch norms are folded into the convolutions before them. This changes logits by less than 1e-5.
    """

    order: np.ndarray | None = None

    def __init__(
        self,
        network: nn.Module,
        *,
        device: str | torch.device = "cpu",
        provides: Provides = OF_NETWORKS,
    ) -> None:
        self._network = network
        self.device = torch.device(device)
        self.provides = provides

    @cached_property
    def plain(self) -> nn.Module:
        """Return the evaluation copy, which replaces the given network."""
        self._network = self._on_device(evaluation_copy(self._network))
        return self._network

    @cached_property
    def fast(self) -> nn.Module:
        """Return the traced copy, or `plain` if it cannot be traced."""
        return self._on_device(pooled_by_maxima(folded(self.plain)))

    @property
    def declared(self) -> dict[str, str]:
        """Return the declarations of a user's network as text, for `stress.json`."""
        return dict(getattr(self.plain, "declared", {}))

    @cached_property
    def fingerprint(self) -> str | None:
        """Return a hash of the whole computation, None for a network that cannot be traced.

        The hash covers the traced code, the layers and every tensor. It is equal for the same
        network in another file, and differs if only the code changes.
        """
        model = self.fast
        if not isinstance(model, GraphModule):
            return None

        attributes = [str(node.target) for node in model.graph.nodes if node.op == "get_attr"]
        tensors = {**model.state_dict(), **dict(model.named_buffers())}
        tensors |= {name: operator.attrgetter(name)(model) for name in attributes}
        if not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
            return None

        layers = "".join(
            f"{name} {type(layer)} {_settings(layer)}" for name, layer in model.named_modules()
        )
        computation = f"{model.code} {layers} {hash_tensors(tensors)}"
        return hashlib.sha256(computation.encode()).hexdigest()

    def fit(self, images: LabelledImages, outputs: str | None) -> str:
        """Return a description of the outputs.

        Raises:
            InputError: The network does not fit the images.
        """
        return expect_fit(self._network, images, outputs=outputs)

    def workers(self, wanted: int | None) -> int:
        """Return the number of parallel batches."""
        if devices.is_accelerator(self.device):
            return 1
        return wanted or devices.available_cores()

    def like(self, model: nn.Module) -> Network:
        """Return another network of this kind, on the same device."""
        return Network(model, device=self.device, provides=self.provides)

    def engine(self, model: Any, make: MakeBackend, *, workers: int, screen: bool) -> Engine:
        """Return the backend that runs a model of this kind; only one with layers is screened."""
        return make(
            model, device=self.device, workers=workers, screen=screen and self.provides.layers
        )

    def keep_in(self, cache: Store) -> None:
        """Do nothing: the classifier stores all predictions."""

    def close(self) -> None:
        """Do nothing: no process and no connection is open."""

    def _on_device(self, model: nn.Module) -> nn.Module:
        return model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _settings(layer: nn.Module) -> str:
    """Return the settings of a layer as text.

    Its `extra_repr` omits some, such as the alignment of an upsampling.
    """
    public = {
        name: value
        for name, value in vars(layer).items()
        if not name.startswith("_") and name != "training"
    }
    plain = {
        name: value
        for name, value in public.items()
        if isinstance(value, bool | int | float | str | tuple | None)
    }
    return f"{layer.extra_repr()} {sorted(plain.items())!r}"


class PredictorModel:
    """A predictor with the members of a `Network`.

    A call maps pixels (N, C, H, W) to logits (N, classes). The predictor gets batches of one size,
    as many at a time as it allows. A live one gets full ones only, the last padded with black
    images.

    Args:
        predictor: The predictor.
        classes: The classes of the data.
        named: The predictor's own classes in its order.
        batch: The number of images in a batch.
    """

    device = torch.device("cpu")

    def __init__(
        self,
        predictor: Predictor,
        *,
        classes: Sequence[str] = (),
        named: Sequence[str] = (),
        batch: int = 32,
    ) -> None:
        self.predictor = predictor
        self.classes = len(classes)
        self._batch = batch
        self.identity = predictor.identity
        self.provides = predictor.provides
        self.order = order_of(named, classes) if named and classes else None
        self.plain: Any = self
        self.close = predictor.close
        self.keep_in = getattr(predictor, "keep_in", lambda _cache: None)

    @property
    def fast(self) -> Any:
        """Return the same as `plain`."""
        return self.plain

    @property
    def fingerprint(self) -> str | None:
        """Return a hash of all that determines the logits; None if the identity is not lasting."""
        if not self.identity.lasting:
            return None
        order = None if self.order is None else self.order.tolist()
        kind = self.provides.scores, self.provides.top
        decisive = self.identity.sha256, self.identity.runtime, order, *kind
        if self.provides.dynamic:  # The same file gives other logits in batches of another size.
            return hashlib.sha256(repr((*decisive, self.provides.batch)).encode()).hexdigest()
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
        outputs: str = provides.scores
        if provides.top is not None:
            outputs = f"top {provides.top} {provides.scores}"
        return {**self.identity.facts, "outputs": outputs}

    def fit(self, _images: LabelledImages, _outputs: str | None) -> str:
        """Return the note on its outputs; the predictor has compared itself with the images."""
        return self.provides.note

    def workers(self, _wanted: int | None) -> int:
        """Return 1: it does not use this machine's cores, and limits the parallel calls itself."""
        return 1

    def like(self, model: Any) -> PredictorModel:
        """Return one that calls this model instead, such as a module around the predictor."""
        other = copy(self)
        other.plain = other if model is self else model
        return other

    def engine(self, model: Any, _make: MakeBackend, **_how: Any) -> Engine:
        """Return an engine of this process; a remote predictor confirms its own answers."""
        confirm = getattr(self.predictor, "confirm", None) if model is self else None
        return Engine(
            model,
            device=self.device,
            workers=max(1, self.provides.calls),
            screen=False,
            batch=self._batch,
            fills=self.provides.live,
            confirm=confirm,
        )

    def __call__(self, pixels: Tensor) -> Tensor:
        """Map pixels, float32, to logits; raises `PredictorError` for invalid answers."""
        images = np.ascontiguousarray(pixels.detach().cpu().numpy(), dtype=np.float32)
        answers = self.predictor.predict(images)
        logits = as_logits(answers, self.provides, images=len(images), classes=self.classes)
        if self.order is not None:
            logits = np.ascontiguousarray(logits[:, self.order])
        return torch.from_numpy(logits)
