"""External weights of an ONNX file, as current exporters write them: read, verified and put inside.

ONNX Runtime would follow any path in a file. Here it gets a network with its weights inside. This module opens the
files itself, only by plain names in the network's own folder.
"""

from __future__ import annotations

import hashlib
import math
import re
from typing import TYPE_CHECKING, Any

from harness.networks.checkpoints.files import CheckpointRefused, Code, read_beside, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

MAX_FILES = 1_000
"""Most files of weights."""
MAX_TOTAL = 2_000_000_000
"""Most bytes of a network and its weights; protocol buffers end at 2 GiB."""

_EXPORT = "Export it with its weights inside: torch.onnx.export(..., dynamo=True, external_data=False)."
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

    outside = [tensor for tensor in tensors_of(description.graph, *description.functions) if _lies_outside(tensor)]
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


def tensors_of(*graphs: Any) -> Iterator[Any]:
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
                    yield from tensors_of(attribute.g, *attribute.graphs)


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
    return CheckpointRefused(code, path, fact, _EXPORT)
