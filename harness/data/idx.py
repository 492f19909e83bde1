"""The IDX format of the MNIST family (http://yann.lecun.com/exdb/mnist/), gzipped, checked byte by byte."""

from __future__ import annotations

import gzip
import hashlib
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

_UNSIGNED_BYTES = 0x08


def decompress(path: Path, *, remedy: str) -> bytes:
    """Return the decompressed bytes of a gzip file; `remedy` ends the message of every `InputError`."""
    try:
        with gzip.open(path) as file:
            content = file.read()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file. {remedy}") from None
    except EOFError:
        raise InputError(f"{path}: truncated, the gzip stream ends before its end marker. {remedy}") from None
    except gzip.BadGzipFile as error:
        raise InputError(f"{path}: not an intact gzip file ({error}). {remedy}") from None
    except (OSError, zlib.error) as error:
        raise InputError(f"{path}: cannot be decompressed ({error}). {remedy}") from None
    if not content:
        raise InputError(f"{path}: empty. {remedy}")
    return content


def verify(content: bytes, *, sha256: str, path: Path, remedy: str) -> None:
    """Raise `InputError` unless the decompressed bytes have this SHA-256."""
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise InputError(f"{path}: wrong content, SHA-256 {found} instead of {sha256}. {remedy}")


def parse(content: bytes, *, dimensions: int, path: Path, remedy: str) -> np.ndarray:
    """Return the array of unsigned bytes that an IDX file holds.

    Raises `InputError` when the magic number is not that of `dimensions`-dimensional unsigned bytes, or when the
    header announces another number of bytes than follow.
    """
    magic = struct.pack(">BBBB", 0, 0, _UNSIGNED_BYTES, dimensions)
    header = 4 + 4 * dimensions
    if content[:4] != magic:
        raise InputError(f"{path}: wrong magic number {content[:4].hex()}, expected {magic.hex()}. {remedy}")
    if len(content) < header:
        raise InputError(f"{path}: truncated, {len(content)} bytes are less than its {header}-byte header. {remedy}")
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    expected = int(np.prod(shape, dtype=object))
    if len(content) - header != expected:
        raise InputError(
            f"{path}: {len(content) - header} bytes of data where the header announces {expected} {shape}. {remedy}"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)
