"""Images by the names of their files, as production writes them: paths, or their ends."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import AnswersError, printable, some_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.data import LabelledImages

_SEPARATORS = re.compile(r"[/\\]|: ")


def numbers_of_files(names: Sequence[str], images: LabelledImages) -> np.ndarray:
    """Return the number in the data of each image whose file is named, (N,) int64.

    A file is the one with the longest common end of its path; folders above may differ. Raises `InputError` for data
    without files, and for a name of no file or of several.
    """
    if images.origin is None:
        raise AnswersError(
            f"names images as {printable(names[0][:40])!r}, and the data have no files; expected their numbers, from 0"
        )
    files: dict[str, list[tuple[tuple[str, ...], int]]] = defaultdict(list)
    for number in images.positions.tolist():
        parts = _parts(images.origin.where(number))
        files[parts[-1]].append((parts, number))
    found = [_closest(_parts(name), files) for name in names]
    example = "/".join(_parts(images.origin.where(int(images.positions[0])))[-2:])
    if unknown := [name for name, numbers in zip(names, found, strict=True) if not numbers]:
        raise AnswersError(
            f"{len(unknown):,} of {len(names):,} names in image are no files of the data: "
            f"{printable(some_of(unknown))}; expected names such as {printable(example)!r}, or numbers from 0"
        )
    if several := [name for name, numbers in zip(names, found, strict=True) if len(numbers) > 1]:
        raise AnswersError(
            f"{len(several):,} of {len(names):,} names in image are those of several files of the data: "
            f"{printable(some_of(several))}; write more of their paths, such as {printable(example)!r}"
        )
    return np.array([numbers[0] for numbers in found], dtype=np.int64)


def _parts(path: str) -> tuple[str, ...]:
    return tuple(part for part in _SEPARATORS.split(path.strip()) if part not in {"", "."}) or ("",)


def _closest(name: tuple[str, ...], files: dict[str, list[tuple[tuple[str, ...], int]]]) -> list[int]:
    """Return the numbers of the files whose paths have the longest common end with a name."""
    alike = [(_common(name, parts), number) for parts, number in files.get(name[-1], [])]
    most = max((length for length, _ in alike), default=0)
    return [number for length, number in alike if length == most]


def _common(first: tuple[str, ...], second: tuple[str, ...]) -> int:
    """Return how many parts at their ends two paths share."""
    length = 0
    for one, other in zip(reversed(first), reversed(second), strict=False):
        if one != other:
            break
        length += 1
    return length
