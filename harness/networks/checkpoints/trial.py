"""Networks in native code: each runs once in a process with limits, before any other runs it.

That process loads this file alone, so this module imports nothing of the package.
"""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import Self

LIMITS = {"onnxruntime": (1_500, 25), "openvino": (4_000, 60)}
"""Megabytes, plus four times the network's size, and seconds of one core for a trial, by engine."""
_PATIENCE = 10
"""Factor from these seconds to the time limit, since other processes share the machine."""
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
    """Raise `CheckpointRefused` for a network that needs too much time or memory for one image.

    `content` describes it, `weights` are external ones, and `shape` is (C, H, W). A small file may
    expand to any size or loop forever, and this process could not stop native code.
    """
    from harness.base.launcher import ChildError, call_in_child
    from harness.networks.checkpoints.files import CheckpointRefused

    megabytes, seconds = LIMITS[engine]
    megabytes += 4 * ((len(content) + len(weights)) >> 20)
    try:
        answer = call_in_child(
            try_network,
            engine,
            content,
            weights,
            shape,
            (megabytes, seconds),
            alone=True,
            timeout_s=_PATIENCE * seconds,
        )
        exhausted = bool(answer["exhausted"])
    except ChildError:
        exhausted = True
    if exhausted:
        fact = (
            f"to open it and compute one image took more than {megabytes} MB or {seconds} s, "
            "or crashed"
        )
        raise CheckpointRefused("RESOURCE", path, fact, advice)


def try_network(
    engine: str,
    content: bytes,
    weights: bytes,
    shape: Sequence[int],
    limits: tuple[int, int],
) -> dict[str, Any]:
    """Run a network on one blank image, within `limits` in megabytes and seconds.

    The limits hold for everything but the imports. It is called in a child process. The network is
    `exhausted` if it lacks memory. Any other error counts for nothing.
    """
    import_module(engine)
    _limit_process(*limits)
    try:
        if engine == "onnxruntime":
            _run_onnx(content, shape)
        else:
            _run_openvino(content, weights, shape)
    except Exception as error:
        lacks_memory = isinstance(error, MemoryError) or "alloc" in str(error).lower()
        return {"exhausted": lacks_memory}
    return {"exhausted": False}


def _limit_process(megabytes: int, seconds: int) -> None:
    with suppress(ImportError):  # Windows has no such limits; the caller still limits the time.
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (megabytes << 20, megabytes << 20))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class Runner:
    """A network that native code computes, by `run` for one batch of its size.

    Copies of a network share it.

    `batch` is None for any size. `kind` is the type of its input; uint8 takes 0 to 255. Channels
    may be `last`.
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
    fixes wins over the given one. Raises `ValueError` without one input of images and one output,
    and for an invalid file any exception of ONNX Runtime.
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
        """Pickle the bytes, which this process has validated: another one makes a new session."""
        return OnnxRunner, (self.content, self.batch)

    def run(self, part: np.ndarray) -> np.ndarray:
        """Return the answers for one batch."""
        return np.asarray(self.session.run(None, {self.input: part})[0])


def _run_onnx(content: bytes, shape: Sequence[int]) -> None:
    runner = OnnxRunner(content)
    sizes = [fixed or size for fixed, size in zip(runner.sizes, shape, strict=True)]
    runner(np.zeros((1, *sizes), dtype=np.float32))


def _run_openvino(content: bytes, weights: bytes, shape: Sequence[int]) -> None:
    import openvino

    core = openvino.Core()
    model = core.read_model(content, weights)
    (images,) = model.inputs
    sizes = []
    for size, own in zip(images.partial_shape, [1, *shape], strict=True):
        sizes.append(own if size.is_dynamic else size.get_length())
    compiled = core.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1})
    compiled([np.zeros(sizes, dtype=images.element_type.to_dtype())])
