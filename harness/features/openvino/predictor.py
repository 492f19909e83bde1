"""Networks in OpenVINO's format as predictors: a description in .xml and weights in .bin."""

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
from harness.features.openvino.session import compute_one_image
from harness.inference.devices import available_cores
from harness.inference.predictors.answers import provided
from harness.inference.predictors.protocol import Identity, PredictorError, Provides
from harness.networks.checkpoints.files import CheckpointRefused, read_regular
from harness.networks.native_code import IMAGES, NativeLibrary, Runner, expect_moderate
from harness.networks.options import parse_normalization

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.data import LabelledImages
    from harness.networks.options import NetworkOptions

OPENVINO = NativeLibrary("openvino", compute_one_image, megabytes=4_000, seconds=60)
_EXPORT = (
    "Convert the network again with openvino.save_model: one input of images, one output per class."
)
_EXTREMES = {"ReduceMin", "ReduceMax"}
_FLOATS = frozenset({"f16", "bf16", "f32", "f64"})
_FIRST = 8
"""Images whose answers show their kind."""
_LONGEST_ERROR = 200


class OpenVinoPredictor(Runner):
    """A network that OpenVINO computes on the CPU, in float32 or its file's int8.

    Each batch has a thread. An input of float gets pixels in [0, 1], normalized if the options say
    so. An input of u8 gets bytes. A network with dynamic ranges computes batches of exactly
    `predictor_batch` images, 1 by default, unless the file fixes their size.

    Args:
        spec: `openvino:` and the path of the .xml file, which has the .bin file beside it.
        options: Those of the run.
        images: The images of the run; without them, the predictor only has an `identity`.

    Attributes:
        identity: The SHA-256 of both files, and the normalization.

    Raises:
        CheckpointRefused: For a network that OpenVINO cannot compute, or only at a high cost.
        UnusableModelError: For another file, and for a network that takes other images.
    """

    def __init__(self, spec: str, options: NetworkOptions, images: LabelledImages | None) -> None:
        import openvino

        path = Path(spec.partition(":")[2])
        if path.suffix.lower() != ".xml":
            raise UnusableModelError("expected openvino:model.xml, with model.bin beside it")
        description = read_regular(path)
        weights = read_regular(path.with_suffix(".bin"))

        facts = {
            "xml_sha256": hashlib.sha256(description).hexdigest(),
            "bin_sha256": hashlib.sha256(weights).hexdigest(),
        }
        if options.normalization is not None:
            facts["normalization"] = options.normalization
        # The version affects the last bits of answers, so it is the runtime's.
        self.identity = Identity("openvino", facts, runtime=str(openvino.__version__))

        self._calls = available_cores()
        self._outputs = options.model_outputs
        self._first: np.ndarray | None = None
        if images is None:
            return
        shape = tuple(images.pixels.shape[1:])
        expect_moderate(OPENVINO, description, path, shape, advice=_EXPORT, weights=weights)
        self._compile(description, weights, path, shape, options.predictor_batch)
        self._normalization = None
        if self.kind is not np.uint8:
            self._normalization = parse_normalization(options.normalization)
        self._first = unit_range(images.pixels[:_FIRST]).numpy()

    def _compile(
        self,
        description: bytes,
        weights: bytes,
        path: Path,
        shape: tuple[int, ...],
        batch: int | None,
    ) -> None:
        """Read the network and compile it for images of a shape (C, H, W)."""
        import openvino

        core = openvino.Core()
        try:
            model = core.read_model(description, weights)
        except RuntimeError as error:
            fact = f"OpenVINO cannot read it ({_last_line(error)})"
            raise CheckpointRefused("FORMAT", path, fact, _EXPORT) from None
        _expect_one_input_of_images(model, path)

        self.batch, *sizes = (_size_of(dimension) for dimension in model.inputs[0].partial_shape)
        self.kind = np.float32
        if model.inputs[0].element_type.get_type_name() == "u8":
            self.kind = np.uint8
        self._dynamic = any(_takes_range(step) for step in model.get_ordered_ops())
        if self._dynamic and self.batch is None:
            self.batch = batch or 1
        self.last = _layout_of(model, sizes, shape) == "[NHWC]"

        settings = {
            "INFERENCE_NUM_THREADS": self._calls,
            "NUM_STREAMS": self._calls,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        # OpenVINO gives the thread that loads its CPU plugin an alternate signal stack, and frees
        # the stack with the plugin. If a second `Core` is loaded in between, a surviving thread
        # keeps the freed stack. The next signal then kills the process (OpenVINO 2026.4), so this
        # thread ends at once.
        with ThreadPoolExecutor(1) as thread:
            compiled = thread.submit(core.compile_model, model, "CPU", settings)
            self._compiled: Any = compiled.result()
        self._of_thread = threading.local()

    @cached_property
    def provides(self) -> Provides:
        """Return the kind of the answers, from those for the first images and the declarations."""
        if self._first is None:
            return Provides()
        answers = self.predict(self._first)
        provides = replace(provided(answers, self._outputs), calls=self._calls)
        if self._dynamic:
            provides = replace(provides, batch=self.batch, dynamic=True)
        return provides

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        """Return the answers for pixels (N, C, H, W), float32 in [0, 1].

        A fixed batch is padded with black images. Raises `PredictorError` if OpenVINO fails.
        """
        if self._normalization is not None:
            means, stds = self._normalization
            pixels = (pixels - _by_channel(means)) / _by_channel(stds)
        try:
            answers = self(pixels)
        except RuntimeError as error:
            raise PredictorError(
                f"OpenVINO fails on {len(pixels)} images ({_last_line(error)})"
            ) from None
        if answers.dtype.kind == "f":
            return answers.astype(np.float32)
        return answers.astype(np.int64)

    def run(self, part: np.ndarray) -> np.ndarray:
        """Return the answers for one batch, by a request of this thread's own."""
        if not hasattr(self._of_thread, "request"):
            self._of_thread.request = self._compiled.create_infer_request()
        return np.array(self._of_thread.request.infer([part])[0])

    def close(self) -> None:
        """Do nothing: the network is freed with its object."""


def _expect_one_input_of_images(model: Any, path: Path) -> None:
    """Raise `CheckpointRefused` unless a model has one input of images, and one output."""
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        fact = f"it has {len(model.inputs)} inputs and {len(model.outputs)} outputs"
        raise CheckpointRefused("ARCHITECTURE", path, fact, _EXPORT)
    shape = model.inputs[0].partial_shape
    kind = model.inputs[0].element_type.get_type_name()
    has_four_dimensions = not shape.rank.is_dynamic and len(shape) == IMAGES
    if not has_four_dimensions or kind not in {*_FLOATS, "u8"}:
        fact = f"its input is {kind} of shape {shape}"
        raise CheckpointRefused("ARCHITECTURE", path, fact, _EXPORT)


def _layout_of(model: Any, sizes: Sequence[int | None], shape: tuple[int, ...]) -> str:
    """Return the layout of a model's input for images of a shape (C, H, W).

    The declared layout of the file decides, or else the `sizes` of the input, None for any size.
    Raises `UnusableModelError` if the images do not fit.
    """
    declared = str(model.get_parameters()[0].get_layout()).replace(" ", "").replace(",", "")
    channels, height, width = shape
    layouts = {"[NCHW]": shape, "[NHWC]": (height, width, channels)}
    candidates = list(layouts)
    if declared in layouts:
        candidates = [declared]
    for layout in candidates:
        pairs = zip(sizes, layouts[layout], strict=True)
        if all(fixed in {None, size} for fixed, size in pairs):
            return layout

    shown_sizes = tuple(size or "?" for size in sizes)
    raise UnusableModelError(
        f"the model takes images of shape {shown_sizes}, the data have {channels} channels of "
        f"{height}x{width} pixels (height x width). Load the data in that shape, or convert the "
        "model again"
    )


def _size_of(dimension: Any) -> int | None:
    """Return the size of a dimension, None for any."""
    if dimension.is_dynamic:
        return None
    return int(dimension.get_length())


def _by_channel(values: Sequence[float]) -> np.ndarray:
    """Return a number for each channel as an array that fits pixels (N, C, H, W)."""
    return np.array(values, np.float32).reshape(-1, 1, 1)


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
    return printable(str(error).strip().splitlines()[-1])[:_LONGEST_ERROR]
