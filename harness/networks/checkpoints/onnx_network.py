"""Networks in ONNX files, for predictions only, by ONNX Runtime on one thread per batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.base.errors import PackageError
from harness.networks.checkpoints.files import CheckpointRefused, read_regular, shown
from harness.networks.checkpoints.loading import Checkpoint
from harness.networks.checkpoints.onnx_weights import take_in
from harness.networks.checkpoints.trial import Trial, expect_moderate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_EXPORT = (
    "Export the network with its weights inside, one input of images in float32, float16 or uint8, and one output per "
    "class."
)
_TRIAL = Trial("onnxruntime", megabytes=1_500, seconds=25, doing="making a session of", advice=_EXPORT)
_KINDS: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
}
"""Types of an input of images, as ONNX Runtime names them; uint8 takes pixels from 0 to 255."""
_IMAGES = 4
"""Dimensions of a batch of images: (N, C, H, W), or (N, H, W, C)."""
_CHANNELS = (1, 3)
"""Numbers of channels. A file that fixes one of them as its last size alone has the channels last."""


@dataclass(frozen=True, eq=False)
class _Runner:
    """A session of ONNX Runtime; it has no state, so copies of a network share it.

    `kind` is the type of its input of images. `last` is true for images (N, H, W, C), as in exports of Keras.
    """

    session: Any
    input: str
    kind: type[np.generic]
    batch: int | None
    last: bool
    content: bytes

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the network's bytes, so another process makes a new session; this one has validated them."""
        return _runner, (self.content, self.input, self.kind, self.batch, self.last)

    def __deepcopy__(self, memo: object) -> _Runner:
        return self

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        size = self.batch or max(len(pixels), 1)
        found = [self.session.run(None, {self.input: part})[0] for part in self.parts(pixels, size)]
        answers = np.concatenate(found)[: len(pixels)]
        return answers.astype(np.float32) if answers.dtype == np.float16 else answers

    def parts(self, pixels: np.ndarray, size: int) -> list[np.ndarray]:
        """Return pixels (N, C, H, W) as the network takes them, in parts of `size` images, the last one padded."""
        scaled = np.rint(pixels * 255).clip(0, 255) if self.kind is np.uint8 else pixels
        placed = scaled.transpose(0, 2, 3, 1) if self.last else scaled
        typed = np.ascontiguousarray(placed).astype(self.kind, copy=False)
        padded = np.concatenate([typed, np.zeros((-len(typed) % size, *typed.shape[1:]), typed.dtype)])
        return [padded[start : start + size] for start in range(0, len(padded), size)]


def tensors_of(network: OnnxNetwork, pixels: np.ndarray) -> list[np.ndarray]:
    """Return all floating-point tensors that a network computes for its inputs (N, C, H, W), each (N, ...)."""
    import onnx

    description = onnx.load_model_from_string(network.runner.content)
    known = {output.name for output in description.graph.output}
    steps = [name for node in description.graph.node for name in node.output if name and name not in known]
    description.graph.output.extend(onnx.ValueInfoProto(name=name) for name in steps)
    session, size = _session(description.SerializeToString()), network.runner.batch or len(pixels)
    found = [session.run(None, {network.runner.input: part}) for part in network.runner.parts(pixels, size)]
    whole = [np.concatenate(each) for each in zip(*found, strict=True) if np.ndim(each[0])]
    return [each[: len(pixels)] for each in whole if each.dtype.kind == "f" and len(each) >= len(pixels)]


def _session(content: bytes) -> Any:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.log_severity_level = 4
    return onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])


def _runner(content: bytes, name: str, kind: type[np.generic], batch: int | None, last: bool) -> _Runner:  # noqa: FBT001  As pickled.
    return _Runner(_session(content), name, kind, batch, last, content)


class OnnxNetwork(nn.Module):
    """A network that ONNX Runtime computes, without layers and gradients in PyTorch.

    `in_channels` and `image_size` (height, width) are fixed by the file, or None for any. A network that `takes_bytes`
    has an input of uint8, and normalizes by itself.
    """

    def __init__(self, runner: _Runner, digest: bytes, sizes: Sequence[int | None]) -> None:
        super().__init__()
        self.runner = runner
        *size, channels = sizes if runner.last else (*sizes[1:], sizes[0])
        self.takes_bytes = runner.kind is np.uint8
        self.in_channels = channels
        self.image_size = None if None in size else tuple(size)
        # The digest identifies this network, since it has no weights in PyTorch.
        self.register_buffer("digest", torch.tensor(list(digest), dtype=torch.uint8))

    def forward(self, pixels: Tensor) -> Tensor:
        """Map pixels (N, C, H, W), float32, to the file's output."""
        if not isinstance(pixels, Tensor):
            raise TypeError("a network in an ONNX file cannot be traced")
        outputs = self.runner(pixels.detach().cpu().contiguous().numpy())
        return torch.from_numpy(outputs).to(pixels.device)


def load_onnx(path: Path) -> Checkpoint:
    """Load a network from an ONNX file and from the files of its weights beside it, and from no other file.

    The `sha256` of the checkpoint covers all of them. Raises `CheckpointRefused` for an irregular file, for weights
    elsewhere, and unless it has one input of images in float32, float16 or uint8 and one output. Raises `InputError`
    when the packages of the `onnx` extra are not installed.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401  A missing package is an error here, not at its use.
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise PackageError(f"{path}: ONNX files need {error.name}; pip install 'stress-harness[onnx]'") from None
    content = read_regular(path)
    try:
        description = onnx.load_model_from_string(content)
    except DecodeError:
        raise CheckpointRefused("FORMAT", path, "not an ONNX file", _EXPORT) from None
    content, sha256, note = take_in(description, content, path)
    expect_moderate(_TRIAL, content, path, (3, 32, 32))
    try:
        session = _session(content)
    except Exception as error:  # ONNX Runtime's exceptions have no common base class.
        fact = f"ONNX Runtime cannot run it ({shown(str(error))})"
        raise CheckpointRefused("FORMAT", path, fact, _EXPORT) from None
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1:
        fact = f"it has {len(inputs)} inputs and {len(outputs)} outputs"
        raise CheckpointRefused("ARCHITECTURE", path, fact, _EXPORT)
    (images,) = inputs
    if images.type not in _KINDS or len(images.shape) != _IMAGES:
        fact = f"its input is {images.type} of shape {shown(images.shape)}"
        raise CheckpointRefused("ARCHITECTURE", path, fact, _EXPORT)
    batch, *sizes = (size if isinstance(size, int) else None for size in images.shape)
    last = sizes[2] in _CHANNELS and sizes[0] not in _CHANNELS
    runner = _Runner(session, images.name, _KINDS[images.type], batch, last, content)
    network = OnnxNetwork(runner, bytes.fromhex(sha256), sizes)
    return Checkpoint(path, sha256, network.eval(), "onnx", None, note)
