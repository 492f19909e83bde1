"""Files of checkpoints: the bytes of a regular file up to a size limit, and the members of a zip of `torch.save`."""

from __future__ import annotations

import errno
import io
import re
import struct
import zipfile
import zlib
from typing import TYPE_CHECKING, Literal

from harness.base import files
from harness.base.errors import InputError

if TYPE_CHECKING:
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
_BOTH = "Copy both files into one folder, or export it again with its weights inside (external_data=False)."
_NEXT_STEP = "Name a checkpoint file (.safetensors, .pt or .pth)."


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
        raise _refusal(path, error, "opened") from None


def read_regular(path: Path) -> bytes:
    """Return the content of a regular file of at most `MAX_BYTES`; raises `CheckpointRefused` for anything else."""
    require_file(path)
    try:
        return files.read_regular(path, max_bytes=MAX_BYTES)
    except OSError as error:
        raise _refusal(path, error, "read") from None


def read_beside(path: Path, name: str) -> bytes:
    """Return the content of a regular file of this name in the folder of `path`, of at most `MAX_BYTES`.

    A link is refused, since it may lead anywhere. Raises `CheckpointRefused` about `path`.
    """
    other = path.parent / name
    try:
        if other.is_symlink():
            raise OSError(errno.ELOOP, "a link, not a file")
        files.require_regular(other)
        return files.read_regular(other, max_bytes=MAX_BYTES, follow=False)
    except OSError as error:
        fact = f"its weights are in {shown(name)!r} beside it, which is {error.strerror or error}"
        if isinstance(error, FileNotFoundError):
            fact = f"its weights are in {shown(name)!r} beside it, and there is no such file"
        code: Code = "TOO_LARGE" if error.errno == errno.EFBIG else "NOT_REGULAR"
        raise CheckpointRefused(code, path, fact, _BOTH) from None


def _refusal(path: Path, error: OSError, done: str) -> CheckpointRefused:
    fact = error.strerror or str(error)
    if error.errno == errno.EFBIG:
        return CheckpointRefused("TOO_LARGE", path, fact, SAVE_WEIGHTS_ALONE)
    said = fact if fact == "not a regular file" else f"cannot be {done} ({fact})"
    return CheckpointRefused("NOT_REGULAR", path, said, _NEXT_STEP)


MAX_MEMBERS = 20_000
"""Most members of an archive; each takes memory before it is verified."""

_ENTRY, _LOCAL = b"PK\x01\x02", struct.Struct("<4s5H3L2H")
_UTF8, _SIZES_FOLLOW = 0x800, 0x8
_OF_TORCHSCRIPT = re.compile(r"/(constants\.pkl$|code/)")
_NAME = re.compile(r"[^/\\\0]+(/[^/\\\0]+)+")


def read_members(content: bytes, path: Path) -> dict[str, memoryview]:
    """Return the members of the archive in its one folder, by their names there; raises `CheckpointRefused`.

    Nothing is decompressed or copied. Members are views of `content`, so an archive takes no more memory than the file.
    Python's `zipfile` reads the directory, and every entry must agree with its member.
    """
    if (count := content.count(_ENTRY)) > MAX_MEMBERS:
        fact = f"a zip file of {count} members, more than the limit of {MAX_MEMBERS}"
        raise CheckpointRefused("RESOURCE", path, fact, SAVE_WEIGHTS_ALONE)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members, end = archive.infolist(), archive.start_dir
        if any(_OF_TORCHSCRIPT.search(member.orig_filename) for member in members):
            raise CheckpointRefused("FORMAT", path, "a TorchScript archive, which holds code", SAVE_WEIGHTS_ALONE)
        return _checked(content, sorted(members, key=lambda member: member.header_offset), end)
    except _LayoutError as error:
        raise CheckpointRefused("ZIP_LAYOUT", path, shown(error), SAVE_WEIGHTS_ALONE) from None
    except (zipfile.BadZipFile, RuntimeError, ValueError, OSError, EOFError, OverflowError, struct.error) as error:
        # RuntimeError: an unknown kind of archive; ValueError: impossible names and offsets.
        fact = f"not an intact zip file ({shown(error)})"
        raise CheckpointRefused("ZIP_LAYOUT", path, fact, SAVE_WEIGHTS_ALONE) from None


class _LayoutError(Exception):
    """A zip file with another layout than that of `torch.save`."""


def _checked(content: bytes, members: list[zipfile.ZipInfo], end: int) -> dict[str, memoryview]:
    found: dict[str, memoryview] = {}
    folder = members[0].orig_filename.partition("/")[0] if members else ""
    following = [*(member.header_offset for member in members[1:]), end]
    for member, limit in zip(members, following, strict=True):
        name = member.orig_filename
        if not _NAME.fullmatch(name) or {".", ".."} & set(name.split("/")):
            raise _LayoutError(f"it has a member named {name!r}, which is no path in its one folder")
        if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
            raise _LayoutError("it has compressed members")
        within, _, inner = name.partition("/")
        if within != folder:
            raise _LayoutError(f"it has two folders, {folder} and {within}")
        if inner in found:
            raise _LayoutError(f"it has two members with the name {name}")
        found[inner] = _content(content, member, limit)
    return found


def _content(content: bytes, member: zipfile.ZipInfo, limit: int) -> memoryview:
    """Return the content of a member, which must end before `limit`, where the next one begins."""
    signature, _, flags, method, _, _, _, _, _, name_length, extra_length = _LOCAL.unpack_from(
        content, member.header_offset
    )
    named = member.header_offset + _LOCAL.size
    begin = named + name_length + extra_length
    encoding = "utf-8" if member.flag_bits & _UTF8 else "cp437"
    same = (b"PK\x03\x04", member.flag_bits, member.compress_type, member.orig_filename.encode(encoding))
    if same != (signature, flags, method, content[named : named + name_length]):
        raise _LayoutError(f"not an intact zip file (its directory and member {member.orig_filename} differ)")
    if flags & ~(_UTF8 | _SIZES_FOLLOW):
        raise _LayoutError(f"member {member.orig_filename} is of an unusual kind (flags {flags:#x})")
    if begin + member.file_size > limit:
        raise _LayoutError(f"member {member.orig_filename} overlaps what follows it")
    view = memoryview(content)[begin : begin + member.file_size]
    if zlib.crc32(view) != member.CRC:
        raise _LayoutError(f"checksum of {member.orig_filename} does not match")
    return view
