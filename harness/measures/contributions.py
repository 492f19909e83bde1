"""What each image contributes to a number: for the mean over some of the images, and as text between processes."""

from __future__ import annotations

import base64
import zlib

import numpy as np

from harness.errors import InputError

_KINDS = {"bool": np.bool_, "int8": np.int8, "float32": np.float32}


def contributions(values: np.ndarray, counted: np.ndarray, n: int) -> np.ndarray:
    """Return what each of n images contributes to the mean of `values`, which are those of the images `counted` alone.

    By the delta method (the mean is a ratio of two means): mean + (value - mean) n / m for the m that count.
    """
    each = np.full(n, values.mean())
    each[counted] += (values - values.mean()) * n / len(values)
    return each


def packed(each: np.ndarray) -> str:
    """Return contributions as text: their type, their number, and the values, compressed; reals keep 24 bits."""
    kind = each.dtype.name if each.dtype.name in _KINDS else "float32"
    content = np.packbits(each) if kind == "bool" else each.astype(_KINDS[kind])
    return f"{kind} {len(each)} {base64.b85encode(zlib.compress(content.tobytes(), 1)).decode()}"


def unpacked(text: str) -> np.ndarray:
    """Return the contributions that `packed` wrote, float64; raises `InputError` for another text."""
    try:
        kind, n, packed_values = text.split(" ")
        content = zlib.decompress(base64.b85decode(packed_values))
        values: np.ndarray = np.frombuffer(content, np.uint8 if kind == "bool" else _KINDS[kind])
        if kind == "bool":
            values = np.unpackbits(values, count=int(n))
    except (ValueError, KeyError, zlib.error) as error:
        raise InputError(f"contributions of images: not readable ({error}); measure again") from None
    if len(values) != int(n):
        raise InputError(f"contributions of images: {len(values)} of {n}; measure again")
    return values.astype(np.float64)
