"""External weights of ONNX files: read from plain files beside them, and never from elsewhere."""

from __future__ import annotations

import hashlib
import math
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.base.errors import some_of
from harness.features.onnx.parts import parts_of
from harness.networks.checkpoints.files import Refusal, read_regular, shown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAX_TOTAL = 2_000_000_000
"""Most bytes of a network and its weights; protocol buffers end at 2 GiB."""
_PLAIN_NAME = re.compile(r"[^/\\:\0]{1,255}")
_NUMBER = re.compile(r"\d{1,18}")
_SHOWN_FILES = 3
_BYTES = {
    **dict.fromkeys(("UINT8", "INT8", "BOOL"), 1),
    **dict.fromkeys(("UINT16", "INT16", "FLOAT16", "BFLOAT16"), 2),
    **dict.fromkeys(("FLOAT", "INT32", "UINT32"), 4),
    **dict.fromkeys(("DOUBLE", "INT64", "UINT64"), 8),
}
"""Bytes of a number, by the name of its type."""


class _Place(NamedTuple):
    """The file of a tensor's numbers, beside the ONNX file, and their first byte and length."""

    file: str
    offset: int
    length: int


def with_weights_inside(description: Any, content: bytes, path: Path) -> tuple[bytes, str, str]:
    """Return an ONNX file with all weights inside, a SHA-256 over all files read, and a note.

    Args:
        description: The parsed content, which this function changes.
        content: The bytes of the ONNX file.
        path: Its path.

    Returns:
        The new content, the hash, and a note on the files of weights; empty without such files.

    Raises:
        CheckpointRefused: For a file of weights that is not a regular one.
        Refusal: Unless the weights are in files with plain names in the same folder, and for
            weights that are larger than their files.
    """
    digest = hashlib.sha256(content)
    outside = [tensor for tensor in parts_of(description, "TensorProto") if _is_outside(tensor)]
    if not outside:
        return content, digest.hexdigest(), ""

    places = [_place_of(tensor) for tensor in outside]
    files = _files_of(places, path, len(content))
    for name, weights in files.items():
        # With name and size, the hash also changes if bytes move from one file to the next.
        digest.update(f"\n{name} {len(weights)}\n".encode(errors="replace") + weights)

    # Else a small file could name the same bytes in many tensors, and fill the memory.
    if sum(place.length for place in places) > sum(map(len, files.values())):
        raise Refusal("RESOURCE", "its tensors claim more bytes than their files have")
    for tensor, place in zip(outside, places, strict=True):
        _fill(tensor, place, files)

    names = some_of([shown(name) for name in files], shown=_SHOWN_FILES)
    note = f"its weights are read from {names}, beside it"
    return description.SerializeToString(), digest.hexdigest(), note


def _is_outside(tensor: Any) -> bool:
    return bool(tensor.data_location or tensor.external_data)


def _files_of(places: list[_Place], path: Path, total: int) -> dict[str, bytes]:
    """Return the files of weights by their names, in order.

    Raises `Refusal` if they and the `total` bytes of the ONNX file are too many.
    """
    files = {}
    for name in sorted({place.file for place in places}):
        files[name] = read_regular(path, beside=name)
        total += len(files[name])
        if total > MAX_TOTAL:
            fact = (
                f"it and its weights have {total} bytes or more, more than the limit of {MAX_TOTAL}"
            )
            raise Refusal("TOO_LARGE", fact)
    return files


def _fill(tensor: Any, place: _Place, files: Mapping[str, bytes]) -> None:
    """Move the numbers of a tensor into it; raises `Refusal` if its file is too short."""
    weights = files[place.file]
    end = place.offset + place.length
    if end > len(weights):
        fact = (
            f"tensor {shown(tensor.name)!r} ends at byte {end} of {shown(place.file)}, "
            f"which has {len(weights)}"
        )
        raise Refusal("FORMAT", fact)
    tensor.raw_data = weights[place.offset : end]
    tensor.ClearField("data_location")
    tensor.ClearField("external_data")


def _place_of(tensor: Any) -> _Place:
    """Return the place of a tensor's numbers, whose length must be that of its shape and type."""
    where = f"tensor {shown(tensor.name)!r} is in another file"
    entries = {entry.key: entry.value for entry in tensor.external_data}
    file = entries.get("location", "")
    is_plain = _PLAIN_NAME.fullmatch(file) is not None and file not in {".", ".."}
    has_repeated_keys = len(entries) != len(tensor.external_data)
    if not is_plain or has_repeated_keys:
        fact = f"{where}, {shown(file)!r}, expected the plain name of one beside it"
        raise Refusal("ARCHITECTURE", fact)

    kind = _kind_of(tensor)
    size = _size_of(tensor, kind)
    offset = entries.get("offset", "0")
    length = entries.get("length", str(size))
    are_numbers = bool(_NUMBER.fullmatch(offset)) and bool(_NUMBER.fullmatch(length))
    if kind not in _BYTES or not are_numbers or int(length) != size:
        fact = (
            f"{where}, {shown(file)!r}, with {shown(length)} bytes from {shown(offset)} on "
            f"for {size} of {kind}"
        )
        raise Refusal("FORMAT", fact)
    return _Place(file, int(offset), int(length))


def _kind_of(tensor: Any) -> str:
    """Return the name of the type of a tensor's numbers, or its number if it has no name."""
    import onnx

    kinds = onnx.TensorProto.DataType
    if tensor.data_type not in kinds.values():
        return str(tensor.data_type)
    return str(kinds.Name(tensor.data_type))


def _size_of(tensor: Any, kind: str) -> int:
    """Return the bytes of a tensor of this type, -1 for a shape that is not valid."""
    if any(dimension < 0 for dimension in tensor.dims):
        return -1
    count: int = math.prod(tensor.dims)
    return count * _BYTES.get(kind, 0)
