"""Networks in ONNX files, for predictions only, with weights from files beside them, by ONNX Runtime on one thread."""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.base.errors import PackageError
from harness.networks.checkpoints.files import CheckpointRefused, Code, read_beside, read_regular, shown
from harness.networks.checkpoints.loading import Checkpoint
from harness.networks.checkpoints.trial import Trial, expect_moderate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path


MAX_FILES = 1_000
"""Most files of weights."""
MAX_TOTAL = 2_000_000_000
"""Most bytes of a network and its weights; protocol buffers end at 2 GiB."""

_WITH_WEIGHTS = "Export it with its weights inside: torch.onnx.export(..., dynamo=True, external_data=False)."
_PLAIN_NAME = re.compile(r"[^/\\:\0]{1,255}")
_NUMBER = re.compile(r"\d{1,18}")
_BYTES = {
    **dict.fromkeys(("UINT8", "INT8", "BOOL"), 1),
    **dict.fromkeys(("UINT16", "INT16", "FLOAT16", "BFLOAT16"), 2),
    **dict.fromkeys(("FLOAT", "INT32", "UINT32"), 4),
    **dict.fromkeys(("DOUBLE", "INT64", "UINT64"), 8),
}


def take_in(description: Any, content: bytes, path: Path) -> tuple[bytes, str, str]:
    """Return an ONNX file with all weights inside, a SHA-256 over all files read, and a note on external weights.

    `description` is the parsed content, which this function changes. Raises `CheckpointRefused` unless the weights are
    in regular files with plain names in the same folder. Also for weights larger than their files.
    """
    import onnx

    outside = [tensor for tensor in _stored_tensors(description.graph, *description.functions) if _lies_outside(tensor)]
    digest = hashlib.sha256(content)
    if not outside:
        return content, digest.hexdigest(), ""
    parts = [_part(tensor, path) for tensor in outside]
    files = _read({location for location, _, _ in parts}, len(content), path)
    if sum(length for _, _, length in parts) > sum(map(len, files.values())):
        raise _refusal("RESOURCE", path, "its tensors claim more bytes than their files have")
    for tensor, (location, offset, length) in zip(outside, parts, strict=True):
        if offset + length > len(files[location]):
            end, size = offset + length, len(files[location])
            fact = f"tensor {shown(tensor.name)!r} ends at byte {end} of {shown(location)}, which has {size}"
            raise _refusal("FORMAT", path, fact)
        tensor.raw_data = files[location][offset : offset + length]
        tensor.data_location = onnx.TensorProto.DEFAULT
        tensor.ClearField("external_data")
    for location in sorted(files):
        # With name and size, the hash also changes if bytes move from one file to the next.
        digest.update(f"\n{location} {len(files[location])}\n".encode(errors="replace") + files[location])
    where = ", ".join(map(shown, sorted(files)[:3])) + (f" and {len(files) - 3} more" if len(files) > 3 else "")  # noqa: PLR2004
    return description.SerializeToString(), digest.hexdigest(), f"its weights are read from {where}, beside it"


def _stored_tensors(*graphs: Any) -> Iterator[Any]:
    """Yield every tensor of graphs and functions, including those of graphs in the attributes of nodes."""
    for graph in graphs:
        yield from getattr(graph, "initializer", ())
        for sparse in getattr(graph, "sparse_initializer", ()):
            yield from (sparse.values, sparse.indices)
        for node in graph.node:
            for attribute in node.attribute:
                yield from (attribute.t, *attribute.tensors)
                for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                    yield from (sparse.values, sparse.indices)
                if attribute.HasField("g") or attribute.graphs:
                    yield from _stored_tensors(attribute.g, *attribute.graphs)


def _lies_outside(tensor: Any) -> bool:
    return bool(tensor.data_location or tensor.external_data)


def _part(tensor: Any, path: Path) -> tuple[str, int, int]:
    """Return the file of a tensor, its offset and its length in bytes, which must be that of its numbers."""
    import onnx

    name = f"tensor {shown(tensor.name)!r} is in another file"
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    if not _PLAIN_NAME.fullmatch(location) or location in {".", ".."} or len(entries) != len(tensor.external_data):
        raise _refusal("ARCHITECTURE", path, f"{name}, {shown(location)!r}, expected the plain name of one beside it")
    kinds = onnx.TensorProto.DataType
    kind = kinds.Name(tensor.data_type) if tensor.data_type in kinds.values() else str(tensor.data_type)
    size = math.prod(tensor.dims) * _BYTES.get(kind, 0) if all(dimension >= 0 for dimension in tensor.dims) else -1
    offset, length = (entries.get(key, default) for key, default in (("offset", "0"), ("length", str(size))))
    if kind not in _BYTES or not (_NUMBER.fullmatch(offset) and _NUMBER.fullmatch(length)) or int(length) != size:
        fact = f"{name}, {shown(location)!r}, with {shown(length)} bytes from {shown(offset)} on for {size} of {kind}"
        raise _refusal("FORMAT", path, fact)
    return location, int(offset), int(length)


def _read(locations: Iterable[str], already: int, path: Path) -> dict[str, bytes]:
    names = sorted(locations)
    if len(names) > MAX_FILES:
        raise _refusal("RESOURCE", path, f"its weights are in {len(names)} files, more than the limit of {MAX_FILES}")
    files: dict[str, bytes] = {}
    for name in names:
        files[name] = read_beside(path, name)
        already += len(files[name])
        if already > MAX_TOTAL:
            fact = f"it and its weights have {already} bytes or more, more than the limit of {MAX_TOTAL}"
            raise _refusal("TOO_LARGE", path, fact)
    return files


def _refusal(code: Code, path: Path, fact: str) -> CheckpointRefused:
    return CheckpointRefused(code, path, fact, _WITH_WEIGHTS)


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
