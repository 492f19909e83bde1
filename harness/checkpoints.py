"""Safe loading and saving of checkpoints; the only place that touches files with weights.

Native files are safetensors with a JSON record in the header; plain state dicts in `.pt`/`.pth` files are read through
PyTorch's restricted loader. Nothing in a file is ever executed: whatever looks wrong is refused, without a fallback.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import stat
import struct
import warnings
import zipfile
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from harness.architectures import ARCHITECTURES, build, geometry
from harness.errors import InputError
from harness.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

MAX_BYTES = 1 << 30
"""Larger files are refused before they are read."""

_NAME_A_FILE = "Name a checkpoint file (.safetensors, .pt or .pth)."
_RECORD_KEY = "harness"
_SCHEMA = 1

Code = Literal[
    "NOT_REGULAR",
    "TOO_LARGE",
    "HASH_MISMATCH",
    "FORMAT",
    "PICKLE_GLOBAL",
    "ZIP_LAYOUT",
    "ARCHITECTURE",
    "SCHEMA",
    "NONFINITE",
    "RESOURCE",
]


class CheckpointRefused(InputError):  # noqa: N818  The word that its message begins with.
    """A checkpoint that will not be loaded; `code` says why in one word."""

    def __init__(self, code: Code, path: Path, fact: str, next_step: str) -> None:
        super().__init__(f"REFUSED[{code}] {path}: {fact}. Nothing was executed. {next_step}")
        self.code = code


@dataclass(frozen=True)
class Record:
    """What a native checkpoint says about itself."""

    architecture: str
    arguments: Mapping[str, Any]
    classes: tuple[str, ...]
    training: Mapping[str, Any] | None = None
    """The full training config, None when unknown (a converted file)."""
    data_sha256: str | None = None
    """SHA-256 of the training data, see `LabelledImages.sha256`."""
    validation: Mapping[str, Any] | None = None
    """Metrics on the validation images."""
    history: tuple[Mapping[str, float], ...] = ()
    """One entry per epoch."""
    versions: Mapping[str, str] = field(default_factory=dict)
    acceptance: Mapping[str, Any] | None = None
    """When and with what verdict it became the incumbent, and whether by force."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A loaded model with where it came from; `sha256` is that of the file, `model_sha256` that of what computes."""

    path: Path
    sha256: str
    model: nn.Module
    architecture: str
    record: Record | None

    @property
    def model_sha256(self) -> str:
        """Return the SHA-256 over weights and buffers: equal for the same network in another file or format."""
        return hash_tensors({**self.model.state_dict(), **dict(self.model.named_buffers())})


def save_checkpoint(path: Path, model: nn.Module, record: Record) -> None:
    """Write model and record to `path` in the native format; the file appears atomically, complete or not at all."""
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    content = {"schema": _SCHEMA, **asdict(record), "tensors_sha256": hash_tensors(tensors)}
    write_atomically(path, save(tensors, metadata={_RECORD_KEY: json.dumps(content)}))


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 over names, dtypes, shapes and values, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def load_checkpoint(path: Path, *, builder: Callable[[], nn.Module] | None = None) -> Checkpoint:
    """Load a checkpoint, native or a state dict, into an evaluation-mode model with float32 weights.

    The network is that of the file's architecture id. A file that names no shipped architecture goes into the network
    that the user's `builder` returns, or without one into the notebook's. Raises `CheckpointRefused` for anything out
    of order.
    """
    content = _read(path)
    if content[:4] == b"PK\x03\x04":
        tensors, record = _read_state_dict(content, path), None
    elif content[8:9] == b"{":
        tensors, record = _read_native(content, path)
    else:
        raise CheckpointRefused(
            "FORMAT",
            path,
            f"neither a safetensors file nor a zip file of torch.save; it starts with {content[:8].hex() or 'nothing'}",
            "Save the weights with safetensors or with torch.save(model.state_dict(), path).",
        )
    if builder is not None and (record is None or record.architecture not in ARCHITECTURES):
        architecture, model = "user", builder()
    else:
        architecture, model = _build(record, tensors, path)
    _fill(model, tensors, path)
    return Checkpoint(path, hashlib.sha256(content).hexdigest(), model.eval(), architecture, record)


def require_file(path: Path) -> None:
    """Raise `CheckpointRefused` unless there is a regular file at `path`; for a look before long work."""
    if not path.is_file():
        fact = "not a regular file" if path.exists() else "no such file"
        raise CheckpointRefused("NOT_REGULAR", path, fact, _NAME_A_FILE)


def _read(path: Path) -> bytes:
    next_step = _NAME_A_FILE
    try:
        # Not blocking on a FIFO, and asking the opened file itself, so that it cannot be swapped in between.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        raise CheckpointRefused("NOT_REGULAR", path, f"cannot be opened ({error.strerror})", next_step) from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):  # Before fdopen, which raises on a directory.
        os.close(descriptor)
        raise CheckpointRefused("NOT_REGULAR", path, "not a regular file", next_step)
    with os.fdopen(descriptor, "rb") as file:
        if status.st_size > MAX_BYTES:
            raise CheckpointRefused(
                "TOO_LARGE", path, f"{status.st_size} bytes are more than the limit of {MAX_BYTES}", next_step
            )
        return file.read(MAX_BYTES)


def _read_native(content: bytes, path: Path) -> tuple[dict[str, Tensor], Record | None]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    next_step = "Copy the file again, or save it anew."
    try:
        tensors = load(content)
        (size,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + size], object_pairs_hook=_without_duplicates)
    except (SafetensorError, ValueError, KeyError) as error:
        raise CheckpointRefused("FORMAT", path, f"not an intact safetensors file ({error})", next_step) from None
    metadata = header.get("__metadata__") or {}
    if _RECORD_KEY not in metadata:
        return tensors, None
    try:
        record = json.loads(metadata[_RECORD_KEY], object_pairs_hook=_without_duplicates)
        schema, expected_hash = record.pop("schema"), record.pop("tensors_sha256")
        if schema != _SCHEMA:
            raise ValueError(f"schema {schema}, this version reads {_SCHEMA}")
        parsed = _parse_record(record)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CheckpointRefused(
            "SCHEMA",
            path,
            f"the record in its header is malformed ({error!r})",
            "Train or convert it with this version.",
        ) from None
    if (found := hash_tensors(tensors)) != expected_hash:
        raise CheckpointRefused(
            "HASH_MISMATCH", path, f"SHA-256 of the tensors is {found}, the record says {expected_hash}", next_step
        )
    return tensors, parsed


def _parse_record(entries: dict[str, Any]) -> Record:
    record = Record(**entries)
    well_formed = {
        "architecture": isinstance(record.architecture, str),
        "arguments": isinstance(record.arguments, dict),
        "classes": isinstance(record.classes, list) and all(isinstance(name, str) for name in record.classes),
        "training": isinstance(record.training, dict | None),
        "data_sha256": isinstance(record.data_sha256, str | None),
        "validation": isinstance(record.validation, dict | None),
        "history": isinstance(record.history, list | tuple)
        and all(isinstance(epoch, dict) for epoch in record.history),
        "versions": isinstance(record.versions, dict),
        "acceptance": isinstance(record.acceptance, dict | None),
    }
    if wrong := [name for name, right in well_formed.items() if not right]:
        raise TypeError(f"wrong type of {', '.join(wrong)}")
    return replace(record, classes=tuple(record.classes), history=tuple(record.history))


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise ValueError(f"duplicate key among {[key for key, _ in pairs]}")
    return mapping


def _read_state_dict(content: bytes, path: Path) -> dict[str, Tensor]:
    next_step = "Save the weights alone: torch.save(model.state_dict(), path)."
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise CheckpointRefused("ZIP_LAYOUT", path, "it has compressed members", next_step)
            if len({member.filename for member in members}) != len(members):
                raise CheckpointRefused("ZIP_LAYOUT", path, "it has two members of one name", next_step)
            if (damaged := archive.testzip()) is not None:
                raise CheckpointRefused("ZIP_LAYOUT", path, f"checksum of {damaged} does not match", next_step)
    except (zipfile.BadZipFile, RuntimeError, ValueError, OSError, EOFError) as error:
        # RuntimeError: an encrypted or unknown kind of member; ValueError: names and offsets that make no sense.
        raise CheckpointRefused("ZIP_LAYOUT", path, f"not an intact zip file ({error})", next_step) from None
    import pickle

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        fact = f"its pickle wants {wanted[1]}" if wanted else "its pickle holds more than tensors"
        raise CheckpointRefused("PICKLE_GLOBAL", path, fact, next_step) from None
    except Exception as error:  # A damaged pickle makes the unpickler fail in any way; none of them executes it.
        raise CheckpointRefused("FORMAT", path, f"not readable by torch.load ({error})", next_step) from None
    if not isinstance(loaded, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in loaded.items()
    ):
        raise CheckpointRefused("SCHEMA", path, "not a state dict, that is, a dict of names and tensors", next_step)
    return dict(loaded)


def _build(record: Record | None, tensors: Mapping[str, Tensor], path: Path) -> tuple[str, nn.Module]:
    if record is None:
        return "fashion-cnn", build("fashion-cnn", {})
    next_step = "For a network of your own use --stress-model."
    if record.architecture not in ARCHITECTURES:
        fact = f"unknown architecture id {record.architecture!r}, known are {sorted(ARCHITECTURES)}"
        raise CheckpointRefused("ARCHITECTURE", path, fact, next_step)
    try:
        with torch.device("meta"):  # Arguments may claim any size: nothing is allocated before the shapes agree.
            _compare(geometry(build(record.architecture, record.arguments)), tensors, path)
        model = build(record.architecture, record.arguments)
    except (TypeError, ValueError, RuntimeError, LookupError, OverflowError) as error:
        fact = f"architecture {record.architecture!r} rejects its arguments ({error})"
        raise CheckpointRefused("ARCHITECTURE", path, fact, next_step) from None
    for name, buffer in model.named_buffers():
        if not buffer.isfinite().all() or (name == "std" and not buffer.all()):
            raise CheckpointRefused(
                "NONFINITE", path, f"{name} of its normalisation is {buffer.flatten().tolist()}", next_step
            )
    return record.architecture, model


def _compare(expected: Mapping[str, tuple[int, ...]], tensors: Mapping[str, Tensor], path: Path) -> None:
    next_step = "For a network that is not the shipped architecture use --stress-model."
    for name, shape in expected.items():
        if name not in tensors:
            raise CheckpointRefused("ARCHITECTURE", path, f"tensor {name} {shape} is missing", next_step)
        if tuple(tensors[name].shape) != shape:
            fact = f"tensor {name} has shape {tuple(tensors[name].shape)}, the architecture has {shape}"
            raise CheckpointRefused("ARCHITECTURE", path, fact, next_step)
    if unknown := sorted(set(tensors) - set(expected)):
        raise CheckpointRefused("ARCHITECTURE", path, f"the architecture has no tensor {unknown[0]}", next_step)


_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def _fill(model: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    next_step = "For a network that is not the shipped architecture use --stress-model."
    _compare(geometry(model), tensors, path)
    own = model.state_dict()
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.device.type != "cpu":
            fact = f"tensor {name} is {tensor.layout} on {tensor.device}, not plain numbers"
            raise CheckpointRefused("ARCHITECTURE", path, fact, next_step)
        if (tensor.dtype not in _FLOATS) if own[name].is_floating_point() else tensor.is_floating_point():
            raise CheckpointRefused("ARCHITECTURE", path, f"tensor {name} has dtype {tensor.dtype}", next_step)
        if not tensor.to(own[name].dtype).isfinite().all():
            raise CheckpointRefused(
                "NONFINITE", path, f"tensor {name} holds NaN or infinity", "Its training diverged: train it again."
            )
    model.load_state_dict({name: tensor.contiguous() for name, tensor in tensors.items()})
