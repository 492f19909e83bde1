"""Networks in ONNX files, for predictions only, with weights from files beside them, by ONNX Runtime on one thread."""

from __future__ import annotations

import hashlib
import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.base.errors import PackageError, some_of
from harness.networks.checkpoints.files import Refusal, read_regular, refusals_of, shown
from harness.networks.checkpoints.loading import Checkpoint
from harness.networks.checkpoints.trial import OnnxRunner, expect_moderate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


MAX_TOTAL = 2_000_000_000
"""Most bytes of a network and its weights; protocol buffers end at 2 GiB."""

_EXPORT = (
    "Export it by torch.onnx.export(..., dynamo=True, external_data=False): its weights inside, one input of images in "
    "float32, float16 or uint8, and one output per class."
)
_PLAIN_NAME = re.compile(r"[^/\\:\0]{1,255}")
_NUMBER = re.compile(r"\d{1,18}")
_DYNAMIC = {"DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"}
"""Steps that quantize by the range of their input, alone or merged with the step after them."""
_EXTREMES = {"ReduceMin", "ReduceMax"}
_BYTES = {
    **dict.fromkeys(("UINT8", "INT8", "BOOL"), 1),
    **dict.fromkeys(("UINT16", "INT16", "FLOAT16", "BFLOAT16"), 2),
    **dict.fromkeys(("FLOAT", "INT32", "UINT32"), 4),
    **dict.fromkeys(("DOUBLE", "INT64", "UINT64"), 8),
}


class OnnxNetwork(nn.Module):
    """A network that ONNX Runtime computes, without layers and gradients in PyTorch.

    `in_channels` and `image_size` (height, width) are fixed by the file, or None for any. A network that `takes_bytes`
    has an input of uint8, and normalizes by itself. One with `dynamic_ranges` quantizes by the values
    of a whole batch.
    """

    def __init__(self, runner: OnnxRunner, digest: bytes, *, dynamic_ranges: bool) -> None:
        super().__init__()
        self.runner = runner
        self.dynamic_ranges = dynamic_ranges
        self.in_channels, *size = runner.sizes
        self.image_size = None if None in size else tuple(size)
        self.takes_bytes = runner.kind is np.uint8
        # The digest identifies this network, since it has no weights in PyTorch.
        self.register_buffer("digest", torch.tensor(list(digest), dtype=torch.uint8))

    def forward(self, pixels: Tensor) -> Tensor:
        """Map pixels (N, C, H, W), float32, to the file's output."""
        if not isinstance(pixels, Tensor):
            raise TypeError("a network in an ONNX file cannot be traced")
        outputs = self.runner(pixels.detach().cpu().contiguous().numpy())
        return torch.from_numpy(outputs).to(pixels.device)


def load_onnx(path: Path, *, batch: int | None = None) -> Checkpoint:
    """Load a network from an ONNX file and from the files of its weights beside it, and from no other file.

    With dynamic ranges, it computes batches of exactly `batch` images, 1 by default, unless the file
    fixes their size. The `sha256` of the checkpoint covers all of them. Raises `CheckpointRefused` for
    an irregular file, for weights elsewhere, and unless it has one input of images in float32, float16
    or uint8 and one output. Raises `InputError` when the packages of the `onnx` extra are missing.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401  A missing package is an error here, not at its use.
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise PackageError(
            f"{path}: ONNX files need {error.name}; pip install 'stress-harness[onnx]'"
        ) from None
    content = read_regular(path)
    with refusals_of(path, _EXPORT):
        try:
            description = onnx.load_model_from_string(content)
        except DecodeError:
            raise Refusal("FORMAT", "not an ONNX file") from None
        content, sha256, note = _with_weights_inside(description, content, path)
        dynamic = _has_dynamic_ranges(description)
        expect_moderate("onnxruntime", content, path, (3, 32, 32), advice=_EXPORT)
        try:
            # Each other batch would give an image other ranges, and so other logits.
            runner = OnnxRunner(content, (batch or 1) if dynamic else None)
        except ValueError as error:
            raise Refusal("ARCHITECTURE", shown(error)) from None
        except Exception as error:  # ONNX Runtime's exceptions have no common base class.
            raise Refusal("FORMAT", f"ONNX Runtime cannot run it ({shown(error)})") from None
    network = OnnxNetwork(runner, bytes.fromhex(sha256), dynamic_ranges=dynamic).eval()
    return Checkpoint(path, sha256, network, "onnx", None, note)


def _has_dynamic_ranges(description: Any) -> bool:
    """Return whether a step quantizes by the smallest and largest value of a whole batch."""
    return any(_takes_range(node) for node in _parts_of(description, "NodeProto"))


def _takes_range(node: Any) -> bool:
    """Return whether a step takes the range of a whole tensor, as dynamic quantization does.

    For uint8, ONNX Runtime has steps of their own; for int8, it takes the extremes over all axes.
    """
    if node.op_type in _EXTREMES:
        axes = [attribute for attribute in node.attribute if attribute.name == "axes"]
        return not axes and not any(node.input[1:])
    return node.op_type in _DYNAMIC


def _with_weights_inside(description: Any, content: bytes, path: Path) -> tuple[bytes, str, str]:
    """Return an ONNX file with all weights inside, a SHA-256 over all files read, and a note on external weights.

    `description` is the parsed content, which this function changes. Raises `CheckpointRefused` unless the weights are
    in regular files with plain names in the same folder. Also for weights larger than their files.
    """
    tensors = _parts_of(description, "TensorProto")
    outside = [tensor for tensor in tensors if tensor.data_location or tensor.external_data]
    digest = hashlib.sha256(content)
    if not outside:
        return content, digest.hexdigest(), ""
    parts = [_part(tensor) for tensor in outside]
    names = sorted({location for location, _, _ in parts})
    files, total = {}, len(content)
    for name in names:
        files[name] = read_regular(path, beside=name)
        total += len(files[name])
        if total > MAX_TOTAL:
            fact = (
                f"it and its weights have {total} bytes or more, more than the limit of {MAX_TOTAL}"
            )
            raise Refusal("TOO_LARGE", fact)
        # With name and size, the hash also changes if bytes move from one file to the next.
        digest.update(f"\n{name} {len(files[name])}\n".encode(errors="replace") + files[name])
    if sum(length for _, _, length in parts) > total - len(content):
        raise Refusal("RESOURCE", "its tensors claim more bytes than their files have")
    for tensor, (location, offset, length) in zip(outside, parts, strict=True):
        if offset + length > len(files[location]):
            end, size = offset + length, len(files[location])
            fact = f"tensor {shown(tensor.name)!r} ends at byte {end} of {shown(location)}, which has {size}"
            raise Refusal("FORMAT", fact)
        tensor.raw_data = files[location][offset : offset + length]
        tensor.ClearField("data_location")
        tensor.ClearField("external_data")
    where = some_of([shown(name) for name in names], shown=3)
    return (
        description.SerializeToString(),
        digest.hexdigest(),
        f"its weights are read from {where}, beside it",
    )


def _parts_of(message: Any, name: str) -> Iterator[Any]:
    """Yield every part of a message of protocol buffers that has this type, at any depth."""
    for kind, value in message.ListFields():
        for each in (
            () if kind.message_type is None else [value] if hasattr(value, "ListFields") else value
        ):
            if kind.message_type.name == name:
                yield each
            yield from _parts_of(each, name)


def _part(tensor: Any) -> tuple[str, int, int]:
    """Return the file of a tensor, its offset and its length in bytes, which must be that of its numbers."""
    import onnx

    name = f"tensor {shown(tensor.name)!r} is in another file"
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    if (
        not _PLAIN_NAME.fullmatch(location)
        or location in {".", ".."}
        or len(entries) != len(tensor.external_data)
    ):
        raise Refusal(
            "ARCHITECTURE", f"{name}, {shown(location)!r}, expected the plain name of one beside it"
        )
    kinds = onnx.TensorProto.DataType
    kind = (
        kinds.Name(tensor.data_type)
        if tensor.data_type in kinds.values()
        else str(tensor.data_type)
    )
    size = (
        math.prod(tensor.dims) * _BYTES.get(kind, 0)
        if all(dimension >= 0 for dimension in tensor.dims)
        else -1
    )
    offset, length = (
        entries.get(key, default) for key, default in (("offset", "0"), ("length", str(size)))
    )
    if (
        kind not in _BYTES
        or not (_NUMBER.fullmatch(offset) and _NUMBER.fullmatch(length))
        or int(length) != size
    ):
        fact = f"{name}, {shown(location)!r}, with {shown(length)} bytes from {shown(offset)} on for {size} of {kind}"
        raise Refusal("FORMAT", fact)
    return location, int(offset), int(length)
