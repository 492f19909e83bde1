"""Networks in OpenVINO's format as predictors: a description in .xml and weights in .bin, run on the CPU."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.base.errors import UnusableModelError, printable
from harness.data.images import unit_range
from harness.inference.devices import available_cores
from harness.inference.predictors.answers import provided
from harness.inference.predictors.protocol import Identity, PredictorError, Provides
from harness.networks.checkpoints.files import CheckpointRefused, read_regular
from harness.networks.checkpoints.trial import expect_moderate
from harness.networks.options import parse_normalization

if TYPE_CHECKING:
    from harness.data import LabelledImages
    from harness.networks.options import NetworkOptions

_EXPORT = "Convert the network again with openvino.save_model: one input of images, one output per class."
_IMAGES = 4
"""Dimensions of a batch of images."""
_FLOATS = frozenset({"f16", "bf16", "f32", "f64"})


class OpenVinoPredictor:
    """A network that OpenVINO computes on the CPU, in float32 or its file's int8, with a thread per batch.

    The `identity` has the SHA-256 of both files. An input of float gets pixels in [0, 1], normalized if the options
    say so. An input of u8 gets bytes.
    """

    def __init__(self, spec: str, options: NetworkOptions, images: LabelledImages | None) -> None:
        import openvino

        path = Path(spec.partition(":")[2])
        if path.suffix.lower() != ".xml":
            raise UnusableModelError("expected openvino:model.xml, with model.bin beside it")
        description, weights = read_regular(path), read_regular(path.with_suffix(".bin"))
        self._options, self._images = options, images
        hashes = [hashlib.sha256(content).hexdigest() for content in (description, weights)]
        facts = dict(zip(("xml_sha256", "bin_sha256"), hashes, strict=True))
        if options.normalization is not None:
            facts["normalization"] = options.normalization
        self.identity = Identity("openvino", facts, runtime=str(openvino.__version__))  # It affects the last bits.
        self._calls = available_cores()
        if images is not None:
            self._shape = tuple(images.pixels.shape[1:])
            expect_moderate("openvino", description, path, self._shape, advice=_EXPORT, weights=weights)
            self._compile(description, weights, path)

    def _compile(self, description: bytes, weights: bytes, path: Path) -> None:
        import openvino

        core = openvino.Core()
        try:
            model = core.read_model(description, weights)
        except RuntimeError as error:
            fact = f"OpenVINO cannot read it ({printable(str(error).strip().splitlines()[-1])[:200]})"
            raise CheckpointRefused("FORMAT", path, fact, _EXPORT) from None
        if len(model.inputs) != 1 or len(model.outputs) != 1:
            fact = f"it has {len(model.inputs)} inputs and {len(model.outputs)} outputs"
            raise CheckpointRefused("ARCHITECTURE", path, fact, _EXPORT)
        taken, kind = model.inputs[0].partial_shape, model.inputs[0].element_type.get_type_name()
        if taken.rank.is_dynamic or len(taken) != _IMAGES or kind not in {*_FLOATS, "u8"}:
            raise CheckpointRefused("ARCHITECTURE", path, f"its input is {kind} of shape {taken}", _EXPORT)
        sizes = [None if each.is_dynamic else each.get_length() for each in taken]
        self._batch, self._bytes = sizes[0], kind == "u8"
        self._last = self._channels_last(sizes[1:], str(model.get_parameters()[0].get_layout()))
        single = {"INFERENCE_NUM_THREADS": self._calls, "NUM_STREAMS": self._calls, "INFERENCE_PRECISION_HINT": "f32"}
        self._compiled = _compiled(core, model, single)
        self._of_thread = threading.local()

    def _channels_last(self, sizes: list[int | None], layout: str) -> bool:
        """Return whether channels are last, from the declared layout of the file or else from the input's sizes."""
        channels, height, width = self._shape
        declared = layout.replace(" ", "").replace(",", "")
        for last, shape, other in ((False, self._shape, "[NHWC]"), (True, (height, width, channels), "[NCHW]")):
            if declared != other and all(found in {None, own} for found, own in zip(sizes, shape, strict=True)):
                return last
        raise UnusableModelError(
            f"the model takes images of shape {tuple('?' if size is None else size for size in sizes)}, the data have "
            f"{channels} channels of {height}x{width} pixels (height x width). Load the data in that shape, or convert "
            "the model again"
        )

    @cached_property
    def provides(self) -> Provides:
        """Return the kind of the answers, from those for the first images and from the declarations."""
        if self._images is None:
            return Provides()
        first = self.predict(unit_range(self._images.pixels[:8]).numpy())
        return replace(provided(first, self._options.model_outputs), calls=self._calls)

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        """Return the network's answers for pixels (N, C, H, W); a fixed batch is padded with black images."""
        if not hasattr(self._of_thread, "request"):
            self._of_thread.request = self._compiled.create_infer_request()
        request: Any = self._of_thread.request
        try:
            found = np.concatenate([request.infer([batch])[0].copy() for batch in self._batches(pixels)])
        except RuntimeError as error:
            said = printable(str(error).strip().splitlines()[-1])[:200]
            raise PredictorError(f"OpenVINO fails on {len(pixels)} images ({said})") from None
        return found[: len(pixels)].astype(np.float32 if found.dtype.kind == "f" else np.int64)

    def _batches(self, pixels: np.ndarray) -> list[np.ndarray]:
        """Return the network's inputs for pixels (N, C, H, W), in batches of its size."""
        inputs = pixels
        if self._bytes:
            inputs = np.rint(pixels * 255).clip(0, 255).astype(np.uint8)
        elif normalization := parse_normalization(self._options.normalization):
            means, stds = (np.array(values, np.float32).reshape(-1, 1, 1) for values in normalization)
            inputs = (pixels - means) / stds
        if self._last:
            inputs = inputs.transpose(0, 2, 3, 1)
        size = self._batch or len(inputs)
        missing = np.zeros((-len(inputs) % size, *inputs.shape[1:]), inputs.dtype)
        full = np.ascontiguousarray(np.concatenate([inputs, missing]))
        return [full[start : start + size] for start in range(0, len(full), size)]

    def close(self) -> None:
        """Do nothing: the network is freed with its object."""


def _compiled(core: Any, model: Any, options: dict[str, Any]) -> Any:
    """Return a network compiled for the CPU, in a short-lived thread.

    OpenVINO gives the thread that loads its CPU plugin an alternate signal stack, and frees the stack with the plugin.
    If a second `Core` is loaded in between, a surviving thread keeps the freed stack. The next signal then kills the
    process (OpenVINO 2026.4).
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(core.compile_model, model, "CPU", options).result()
