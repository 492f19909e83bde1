"""Networks in native code: run once in a process of their own with limits, before any other process runs them.

As a script, this file is that process: `python trial.py ENGINE MEGABYTES SECONDS LENGTH CHANNELS HEIGHT WIDTH`. On
standard input, LENGTH bytes describe the network, and the rest are weights. The script imports nothing of this package.
It ends with 0 if the network ran, even with an error, since only exhaustion counts here.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import Self

LIMITS = {"onnxruntime": (1_500, 25), "openvino": (4_000, 60)}
"""Megabytes, plus four times the network's size, and seconds of one core that a trial may take, by its engine."""
_PATIENCE = 10
"""Factor from these seconds to the time limit of a trial, since other processes share the machine."""
_KINDS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}
"""Types of an input of images, as ONNX Runtime names them; uint8 takes pixels from 0 to 255."""
IMAGES = 4
"""Dimensions of a batch of images: (N, C, H, W), or (N, H, W, C)."""


def expect_moderate(
    engine: str,
    content: bytes,
    path: Path,
    shape: Sequence[int],
    *,
    advice: str,
    weights: bytes = b"",
) -> None:
    """Raise `CheckpointRefused` for a network that takes too long, or too much memory, for one blank image.

    `content` describes it, `weights` are external ones, and `shape` is (C, H, W). A small file may expand to any size
    or loop forever, and this process could not stop native code.
    """
    from harness.networks.checkpoints.files import CheckpointRefused

    megabytes, seconds = LIMITS[engine]
    megabytes += 4 * ((len(content) + len(weights)) >> 20)
    command = [
        sys.executable,
        "-P",
        __file__,
        engine,
        *map(str, (megabytes, seconds, len(content), *shape)),
    ]
    ended = None
    with suppress(subprocess.TimeoutExpired):
        patience = _PATIENCE * seconds
        ended = subprocess.run(  # noqa: S603  This script.
            command, input=content + weights, capture_output=True, timeout=patience, check=False
        )
    if ended is None or ended.returncode:
        fact = f"to open it and compute one image took more than {megabytes} MB or {seconds} s, or crashed"
        raise CheckpointRefused("RESOURCE", path, fact, advice)


class Runner:
    """A network that native code computes, by `run` for one batch of its size; copies of a network share it.

    `batch` is None for any size. `kind` is the type of its input; uint8 takes 0 to 255. Channels may be `last`.
    """

    batch: int | None
    kind: Any
    last: bool
    run: Callable[[np.ndarray], np.ndarray]

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Return the answers for pixels (N, C, H, W) in [0, 1], those in float16 as float32."""
        size = self.batch or max(len(pixels), 1)
        scaled = np.rint(pixels * 255).clip(0, 255) if self.kind is np.uint8 else pixels
        placed = scaled.transpose(0, 2, 3, 1) if self.last else scaled
        typed = np.ascontiguousarray(placed).astype(self.kind, copy=False)
        padded = np.concatenate(
            [typed, np.zeros((-len(typed) % size, *typed.shape[1:]), typed.dtype)]
        )
        answers = np.concatenate(
            [self.run(padded[start : start + size]) for start in range(0, len(padded), size)]
        )
        return (answers.astype(np.float32) if answers.dtype == np.float16 else answers)[
            : len(pixels)
        ]


class OnnxRunner(Runner):
    """A network in a session of ONNX Runtime on one thread, which has no state.

    `sizes` (C, H, W) are those that the file fixes, or None for any. A `batch` size that the file
    fixes wins over the given one. Raises `ValueError` without one input of images and one output, and
    for an invalid file any exception of ONNX Runtime.
    """

    def __init__(self, content: bytes, batch: int | None = None) -> None:
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = settings.inter_op_num_threads = 1
        settings.log_severity_level = 4
        self.content = content
        self.session = onnxruntime.InferenceSession(
            content, settings, providers=["CPUExecutionProvider"]
        )
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            raise ValueError(f"it has {len(inputs)} inputs and {len(outputs)} outputs")
        (images,) = inputs
        if images.type not in _KINDS or len(images.shape) != IMAGES:
            raise ValueError(f"its input is {images.type} of shape {images.shape}")
        self.input, self.kind = images.name, _KINDS[images.type]
        fixed, *sizes = (size if isinstance(size, int) else None for size in images.shape)
        self.batch = fixed or batch
        self.last = sizes[2] in {1, 3} and sizes[0] not in {
            1,
            3,
        }  # The channels, as in exports of Keras.
        self.sizes = (sizes[2], *sizes[:2]) if self.last else tuple(sizes)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the network's bytes, so another process makes a new session; this one has validated them."""
        return OnnxRunner, (self.content, self.batch)

    def run(self, part: np.ndarray) -> np.ndarray:
        """Return the answers for one batch."""
        return np.asarray(self.session.run(None, {self.input: part})[0])


def _onnx(content: bytes, length: int, shape: list[int]) -> None:
    runner = OnnxRunner(content[:length])
    sizes = [size or known for size, known in zip(runner.sizes, shape, strict=True)]
    runner(np.zeros((1, *sizes), dtype=np.float32))


def _openvino(content: bytes, length: int, shape: list[int]) -> None:
    import openvino

    core = openvino.Core()
    model = core.read_model(content[:length], content[length:])
    (images,) = model.inputs
    sizes = [
        known if size.is_dynamic else size.get_length()
        for size, known in zip(images.partial_shape, [1, *shape], strict=True)
    ]
    compiled = core.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1})
    compiled([np.zeros(sizes, dtype=images.element_type.to_dtype())])


def main(arguments: list[str]) -> int:
    """Run the network from standard input on one blank image, with limits on everything but the imports."""
    engine, *numbers = arguments
    megabytes, seconds, length, *shape = map(int, numbers)
    import_module(engine)
    content = sys.stdin.buffer.read()
    with suppress(ImportError):  # Windows has no such limits; the caller still limits the time.
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (megabytes << 20, megabytes << 20))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        (_onnx if engine == "onnxruntime" else _openvino)(content, length, shape)
    except Exception as error:
        return int(isinstance(error, MemoryError) or "alloc" in str(error).lower())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
