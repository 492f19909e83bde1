"""Files of checkpoints: refusals, the bytes of a regular file, members of a zip of `torch.save`, and stored tensors."""

from __future__ import annotations

import errno
import hashlib
import io
import re
import struct
import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from harness.base import files
from harness.base.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


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

SAVE_WEIGHTS_ALONE = "Save the weights alone: torch.save(model.state_dict(), path)."
COPY_AGAIN = "Copy the file again, or save it again."
MAX_BYTES = 2 << 30
"""Largest file; a ViT-B/16 with its average and Adam's states has 1.4 GB."""
MAX_MEMBERS = 20_000
"""Most members of an archive; each takes memory before it is verified."""
MAX_DIMENSIONS = 16
_OF_TORCHSCRIPT = re.compile(r"/(constants\.pkl$|code/)")
_NAME = re.compile(r"[^/\\\0]+(/[^/\\\0]+)+")


class CheckpointRefused(InputError):  # noqa: N818  The message begins with this word.
    """The refusal of a checkpoint; `code` is its reason in one word."""

    def __init__(self, code: Code, path: Path, fact: str, next_step: str) -> None:
        super().__init__(f"REFUSED[{code}] {path}: {fact}. Nothing was executed. {next_step}", code=code)


def shown(text: object, *, length: int = 120) -> str:
    """Return text from a file for a message: one line, printable, shortened to `length` characters."""
    line = str(text)
    line = line if len(line) <= length else f"{line[:length]}..."
    return line if line.isprintable() else ascii(line)[1:-1]


def require_file(path: Path) -> None:
    """Raise `CheckpointRefused` unless `path` is a regular file; for an early check before long work."""
    try:
        files.require_regular(path)
    except OSError as error:
        raise _unreadable(path, error) from None


def read_regular(path: Path, *, beside: str = "") -> bytes:
    """Return the content of a regular file of at most `MAX_BYTES`, or of one `beside` it, with this name.

    A link beside it is refused, since it may lead anywhere. Raises `CheckpointRefused` about `path` for anything else.
    """
    place = path.parent / beside if beside else path
    try:
        if beside and place.is_symlink():
            raise OSError(errno.ELOOP, "a link, not a file")
        return files.read_regular(place, max_bytes=MAX_BYTES, follow=not beside)
    except OSError as error:
        raise _unreadable(path, error, beside) from None


def _unreadable(path: Path, error: OSError, beside: str = "") -> CheckpointRefused:
    too_large = error.errno == errno.EFBIG
    next_step = SAVE_WEIGHTS_ALONE if too_large else "Name a checkpoint file (.safetensors, .pt or .pth)."
    fact = f"cannot be read ({error.strerror or error})"
    if beside:
        next_step = "Copy both files into one folder, or export it again with its weights inside (external_data=False)."
        fact = f"its weights are in {shown(beside)!r} beside it, which {fact}"
    return CheckpointRefused("TOO_LARGE" if too_large else "NOT_REGULAR", path, fact, next_step)


def read_members(content: bytes, path: Path) -> dict[str, memoryview]:
    """Return the members of the archive in its one folder, by their names there; raises `CheckpointRefused`.

    Nothing is decompressed or copied. Members are views of `content`, so an archive takes no more memory than the file.
    Python's `zipfile` reads the directory, and compares each entry with the header of its member.
    """
    if (count := content.count(b"PK\x01\x02")) > MAX_MEMBERS:
        fact = f"a zip file of {count} members, more than the limit of {MAX_MEMBERS}"
        raise CheckpointRefused("RESOURCE", path, fact, SAVE_WEIGHTS_ALONE)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = sorted(archive.infolist(), key=lambda member: member.header_offset)
            if any(_OF_TORCHSCRIPT.search(member.orig_filename) for member in members):
                raise CheckpointRefused("FORMAT", path, "a TorchScript archive, which holds code", SAVE_WEIGHTS_ALONE)
            ends = [*(member.header_offset for member in members[1:]), archive.start_dir]
            found: dict[str, memoryview] = {}
            for member, end in zip(members, ends, strict=True):
                name = member.orig_filename
                if not _NAME.fullmatch(name) or {".", ".."} & set(name.split("/")):
                    raise ValueError(f"it has a member named {name!r}, which is no path in its one folder")
                if name.partition("/")[0] != members[0].orig_filename.partition("/")[0]:
                    raise ValueError(f"it has two folders, those of {members[0].orig_filename} and {name}")
                if (inner := name.partition("/")[2]) in found:
                    raise ValueError(f"it has two members with the name {name}")
                found[inner] = _content(content, archive, member, end)
            return found
    except (zipfile.BadZipFile, RuntimeError, ValueError, OSError, EOFError, OverflowError, struct.error) as error:
        # RuntimeError: an unknown kind of archive; ValueError: impossible names and offsets.
        fact = f"not an intact zip file of torch.save ({shown(error)})"
        raise CheckpointRefused("ZIP_LAYOUT", path, fact, SAVE_WEIGHTS_ALONE) from None


def _content(content: bytes, archive: zipfile.ZipFile, member: zipfile.ZipInfo, end: int) -> memoryview:
    """Return the content of a member, which must not reach beyond `end`, where the next one begins."""
    if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
        raise ValueError("it has compressed members")
    archive.open(member).close()  # It raises an error if the directory and the member's own header differ.
    header = member.header_offset
    begin = header + 30 + sum(struct.unpack_from("<2H", content, header + 26))  # The lengths of a name and an extra.
    if begin + member.file_size > end:
        raise ValueError(f"member {member.orig_filename} overlaps what follows it")
    view = memoryview(content)[begin : begin + member.file_size]
    if zlib.crc32(view) != member.CRC:
        raise ValueError(f"checksum of {member.orig_filename} does not match")
    return view


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor within the bytes `content`; `offset` and `stride` count elements.

    Every element must lie inside `content`, and there must be no more elements than it holds; the caller verifies both.
    Reading a tensor therefore takes no more memory than the file. Without a `stride` it is contiguous.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    content: memoryview
    offset: int = 0
    stride: tuple[int, ...] | None = None

    def read(self) -> Tensor:
        """Return a contiguous copy."""
        if 0 in self.shape:
            return torch.empty(self.shape, dtype=self.dtype)
        size = self.dtype.itemsize
        # Untyped bytes, since the content may not be aligned; NumPy verifies the limits once more.
        elements = np.ndarray(
            self.shape,
            np.dtype(f"V{size}"),
            self.content,
            offset=self.offset * size,
            strides=None if self.stride is None else [step * size for step in self.stride],
        )
        return torch.from_numpy(elements.reshape(-1).copy().view(np.uint8)).view(self.dtype).reshape(self.shape)


def hash_tensors(tensors: Mapping[str, Tensor] | Mapping[str, StoredTensor]) -> str:
    """Return the SHA-256 over names, dtypes, shapes and values, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        given = tensors[name]
        tensor = given.read() if isinstance(given, StoredTensor) else given.detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
