"""Images in a folder: one folder per class."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import InputError
from harness.data.decoding import decoded
from harness.data.groups import NAME as GROUPS
from harness.data.groups import groups_beside
from harness.data.image_files import SUFFIXES, read_picture
from harness.data.pictures import Pictures, files_as_they_are

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from harness.data.images import LabelledImages
    from harness.data.pipeline import Pipeline

_EXPECTED = f"expected one folder per class with files in {', '.join(sorted(SUFFIXES))}"


def load_folder(path: Path, pipeline: Pipeline) -> LabelledImages:
    """Load a folder that holds one folder per class, named like it, with its images.

    Classes and files are taken in the order of their names, so that the labels are those of torchvision's
    `ImageFolder`. Hidden files, and what is no picture by its name, are left out, and counted in a note. A `groups.csv`
    says which groups images are of, see `groups_beside`. Raises `InputError` for what cannot be read, and for pictures
    that the pipeline does not make alike.
    """
    folders = _folders(path)
    if not folders:
        raise InputError(f"{path}: no folders in it; {_EXPECTED}")
    files: list[Path] = []
    labels: list[int] = []
    for label, folder in enumerate(folders):
        found = [file for file in sorted(folder.iterdir()) if _is_picture(file)]
        if not found:
            deeper = any(child.is_dir() for child in folder.iterdir())
            hint = f"; if its folders are the classes, name folder:{folder}" if deeper else ", or remove the folder"
            raise InputError(f"{folder}: no images in it; {_EXPECTED}{hint}")
        files += found
        labels += [label] * len(found)
    groups = groups_beside(path, files)
    made_of, stored = files_as_they_are(files)
    images = decoded(
        Pictures(
            read=lambda position: read_picture(files[position]),
            labels=np.array(labels, dtype=np.int64),
            classes=tuple(folder.name for folder in folders),
            name=path.resolve().name,
            where=lambda position: str(files[position]),
            made_of=made_of,
            stored=stored,
            notes=tuple(_left_out(path, folders, len(files))),
            whole=str(path),
            file=files.__getitem__,
        ),
        pipeline,
    )
    return replace(images, groups=groups)


def _folders(path: Path) -> list[Path]:
    if not path.is_dir():
        raise InputError(f"{path}: no such folder; expected one folder per class in it")
    return sorted(child for child in path.iterdir() if child.is_dir() and not _is_nobodys(child))


def _is_nobodys(path: Path) -> bool:
    """Return whether no person put this there: hidden, or left by macOS's archives."""
    return path.name.startswith(".") or path.name == "__MACOSX"


def _is_picture(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and not _is_nobodys(file)


def _left_out(path: Path, folders: list[Path], read: int) -> Iterable[str]:
    """Say how many files there are besides those that are read, by kind."""
    kinds: Counter[str] = Counter()
    for child in path.iterdir():
        if not child.is_dir() and child.name != GROUPS:
            kinds["hidden" if _is_nobodys(child) else "in no class's folder"] += 1
    for folder in folders:
        for child in folder.iterdir():
            if child.is_dir():
                if not _is_nobodys(child):
                    kinds["in a subfolder"] += sum(1 for below in child.rglob("*") if not below.is_dir())
            elif _is_nobodys(child):
                kinds["hidden"] += 1
            elif not _is_picture(child):
                kinds[child.suffix.lower() or "without a suffix"] += 1
    if left_out := +kinds:
        listed = ", ".join(f"{count} {kind}" for kind, count in sorted(left_out.items()))
        yield f"{read} of {read + left_out.total()} files are read: {listed}"
