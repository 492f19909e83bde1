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
from harness.networks.checkpoints.trial import IMAGES, Runner, expect_moderate
from harness.networks.options import parse_normalization

if TYPE_CHECKING:
    from harness.data import LabelledImages
    from harness.networks.options import NetworkOptions

_EXPORT = (
    "Convert the network again with openvino.save_model: one input of images, one output per class."
)
_EXTREMES = {"ReduceMin", "ReduceMax"}
_FLOATS = frozenset({"f16", "bf16", "f32", "f64"})


class OpenVinoPredictor(Runner):
    """A network that OpenVINO computes on the CPU, in float32 or its file's int8, with a thread per batch.

    The `identity` has the SHA-256 of both files. An input of float gets pixels in [0, 1], normalized if the options
    say so. An input of u8 gets bytes. A network with dynamic ranges computes batches of exactly
    `predictor_batch` images, 1 by default, unless the file fixes their size.
    """

    def __init__(self, spec: str, options: NetworkOptions, images: LabelledImages | None) -> None:
        import openvino

        path = Path(spec.partition(":")[2])
        if path.suffix.lower() != ".xml":
            raise UnusableModelError("expected openvino:model.xml, with model.bin beside it")
        description, weights = read_regular(path), read_regular(path.with_suffix(".bin"))
        hashes = [hashlib.sha256(content).hexdigest() for content in (description, weights)]
        facts = dict(zip(("xml_sha256", "bin_sha256"), hashes, strict=True))
        if options.normalization is not None:
            facts["normalization"] = options.normalization
        self.identity = Identity(
            "openvino", facts, runtime=str(openvino.__version__)
        )  # It affects the last bits.
        self._calls, self._outputs, self._first = available_cores(), options.model_outputs, None
        self._wanted_batch = options.predictor_batch
        if images is not None:
            shape = tuple(images.pixels.shape[1:])
            expect_moderate("openvino", description, path, shape, advice=_EXPORT, weights=weights)
            self._compile(description, weights, path, shape)
            self._normalization = (
                None if self.kind is np.uint8 else parse_normalization(options.normalization)
            )
            self._first = unit_range(images.pixels[:8]).numpy()

    def _compile(
        self, description: bytes, weights: bytes, path: Path, shape: tuple[int, ...]
    ) -> None:
        import openvino

        core = openvino.Core()
        try:
            model = core.read_model(description, weights)
        except RuntimeError as error:
            fact = f"OpenVINO cannot read it ({_last_line(error)})"
            raise CheckpointRefused("FORMAT", path, fact, _EXPORT) from None
        if len(model.inputs) != 1 or len(model.outputs) != 1:
            fact = f"it has {len(model.inputs)} inputs and {len(model.outputs)} outputs"
            raise CheckpointRefused("ARCHITECTURE", path, fact, _EXPORT)
        taken, kind = model.inputs[0].partial_shape, model.inputs[0].element_type.get_type_name()
        if taken.rank.is_dynamic or len(taken) != IMAGES or kind not in {*_FLOATS, "u8"}:
            raise CheckpointRefused(
                "ARCHITECTURE", path, f"its input is {kind} of shape {taken}", _EXPORT
            )
        self.batch, *sizes = (None if each.is_dynamic else each.get_length() for each in taken)
        self.kind = np.uint8 if kind == "u8" else np.float32
        self._dynamic = any(map(_takes_range, model.get_ordered_ops()))
        if self._dynamic and self.batch is None:
            self.batch = self._wanted_batch or 1
        # The declared layout of the file decides, or else the sizes of the input.
        declared = str(model.get_parameters()[0].get_layout()).replace(" ", "").replace(",", "")
        channels, height, width = shape
        layouts = {"[NCHW]": shape, "[NHWC]": (height, width, channels)}
        fitting = [
            layout
            for layout, own in layouts.items()
            if declared not in layouts.keys() - {layout}
            and all(found in {None, size} for found, size in zip(sizes, own, strict=True))
        ]
        if not fitting:
            raise UnusableModelError(
                f"the model takes images of shape {tuple('?' if size is None else size for size in sizes)}, the data "
                f"have {channels} channels of {height}x{width} pixels (height x width). Load the data in that shape, "
                "or convert the model again"
            )
        self.last = fitting[0] == "[NHWC]"
        single = {
            "INFERENCE_NUM_THREADS": self._calls,
            "NUM_STREAMS": self._calls,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        # OpenVINO gives the thread that loads its CPU plugin an alternate signal stack, and frees the stack with the
        # plugin. If a second `Core` is loaded in between, a surviving thread keeps the freed stack. The next signal
        # then kills the process (OpenVINO 2026.4), so this thread ends at once.
        with ThreadPoolExecutor(1) as thread:
            self._compiled: Any = thread.submit(core.compile_model, model, "CPU", single).result()
        self._of_thread = threading.local()

    @cached_property
    def provides(self) -> Provides:
        """Return the kind of the answers, from those for the first images and from the declarations."""
        if self._first is None:
            return Provides()
        found = replace(provided(self.predict(self._first), self._outputs), calls=self._calls)
        return replace(found, batch=self.batch, dynamic=True) if self._dynamic else found

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        """Return the network's answers for pixels (N, C, H, W); a fixed batch is padded with black images."""
        if self._normalization is not None:
            means, stds = (
                np.array(values, np.float32).reshape(-1, 1, 1) for values in self._normalization
            )
            pixels = (pixels - means) / stds
        try:
            found = self(pixels)
        except RuntimeError as error:
            raise PredictorError(
                f"OpenVINO fails on {len(pixels)} images ({_last_line(error)})"
            ) from None
        return found.astype(np.float32 if found.dtype.kind == "f" else np.int64)

    def run(self, part: np.ndarray) -> np.ndarray:
        """Return the answers for one batch, by a request of this thread's own."""
        if not hasattr(self._of_thread, "request"):
            self._of_thread.request = self._compiled.create_infer_request()
        return np.array(self._of_thread.request.infer([part])[0])

    def close(self) -> None:
        """Do nothing: the network is freed with its object."""


def _takes_range(step: Any) -> bool:
    """Return whether a step takes an extreme over all axes, as dynamic quantization does."""
    if step.get_type_name() not in _EXTREMES:
        return False
    axes = step.input_value(1).get_node()
    rank = step.get_input_partial_shape(0).rank
    if axes.get_type_name() != "Constant" or rank.is_dynamic:
        return False
    dimensions = int(rank.get_length())
    reduced = {int(axis) % max(1, dimensions) for axis in np.ravel(axes.data)}
    return len(reduced) == dimensions


def _last_line(error: RuntimeError) -> str:
    return printable(str(error).strip().splitlines()[-1])[:200]
