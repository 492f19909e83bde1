"""An export written: shards of the images that tests ask about, once each, with a manifest; resumable."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from harness.base.errors import OutputError
from harness.base.files import hash_of_file, locked, write_atomically
from harness.base.progress import Progress
from harness.data.exported import NAME, as_stored, names_of
from harness.data.image_files import as_png
from harness.run.export.template import files_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from harness.data.exported import Export
    from harness.run.export.asking import Questions
    from harness.run.export.request import ExportOrder
    from harness.run.session import StressSession


SHARD_BYTES = 64 << 20
"""Bytes of pixels in a shard."""
ROW_BYTES = {"npz": 4 * 64 + 8 + 4, "png": 400}
"""Bytes that an image takes besides its pixels: its name and place, and of a PNG its own head."""
SUFFIXES = {"npz": ".npz", "png": ".zip"}
_ROWS = "rows.csv"


class Shard(NamedTuple):
    """Images of an export: `names` (N,), `pixels` as stored, `index` in the split (N,), `perturbation` (N,) int32."""

    names: np.ndarray
    pixels: np.ndarray
    index: np.ndarray  # type: ignore[assignment]  # Of tuples, a method that nobody calls here.
    perturbation: np.ndarray

    def content(self, form: str) -> bytes:
        """Return the content of a file with the shard; equal images make equal files."""
        content = io.BytesIO()
        if form == "npz":
            names = self.names.astype(str)  # In a table, bytes would become b'…'.
            np.savez(content, image=names, pixels=self.pixels, index=self.index, perturbation=self.perturbation)
            return content.getvalue()
        table = csv.writer(rows := io.StringIO(), lineterminator="\n")
        table.writerow(("image", "index", "perturbation"))
        with zipfile.ZipFile(content, "w") as archive:
            for name, pixels, *row in zip(*self, strict=True):
                table.writerow((name.decode(), *row))
                entry = zipfile.ZipInfo(f"{name.decode()}.png")  # Without a date.
                archive.writestr(entry, as_png(pixels.transpose(2, 0, 1), compress_level=1))
            archive.writestr(zipfile.ZipInfo(_ROWS), rows.getvalue())
        return content.getvalue()


def names_in(path: Path, form: str) -> np.ndarray | None:
    """Return the names of the images in a shard of an earlier run; None for one that is missing or damaged."""
    try:
        if form == "npz":
            with np.load(path, allow_pickle=False) as file:
                names, pixels = file["image"].astype(NAME), file["pixels"]
            return names if np.array_equal(names_of(pixels), names) else None
        from PIL import Image

        with zipfile.ZipFile(path) as archive:
            listed = [line.split(",")[0] for line in archive.read(_ROWS).decode().splitlines()[1:]]
            for name in listed:
                with archive.open(f"{name}.png") as file, Image.open(file, formats=["png"]) as picture:
                    if names_of(np.array(picture)[None])[0] != name.encode():
                        return None
        return np.array(listed, dtype=NAME)
    except Exception:  # A damaged archive fails in any way; it is written again.
        return None


MANIFEST, BEGUN = "manifest.json", "export.json"
SCHEMA = 1
MARGIN = 256 << 20
"""Bytes that are left free on the disk."""
_PART = 16 << 20
"""Bytes of pixels that are made at a time."""


@dataclass(frozen=True)
class Written:
    """A finished export: its manifest, and the number of files that were there from an earlier run."""

    manifest: dict[str, Any]
    resumed: int


def write_export(
    questions: Questions,
    session: StressSession,
    scope: Export,
    order: ExportOrder,
    *,
    say: Callable[[str], None] = print,
    doing: str = "",
) -> Written:
    """Write the images of the questions into the folder of the order, and return what is there.

    `say` takes a line with the size before anything is written; a bar of progress says what it is `doing`. Raises
    `InputError` for a folder with something else in it, and for a disk without room.
    """
    if len(questions.shapes) != 1:
        shapes = " and ".join(map(str, sorted(questions.shapes))) or "none"
        raise OutputError(f"tests ask about images of these shapes: {shapes}; expected one shape (C, H, W)")
    (shape,) = questions.shapes
    if order.format == "png" and shape[0] not in {1, 3}:
        raise OutputError(f"PNG holds images of 1 or 3 channels, these have {shape[0]}; export with --format npz")
    total, suffix = len(questions), SUFFIXES[order.format]
    each = math.prod(shape) * (4 if order.format == "npz" else 1)
    size = max(1, SHARD_BYTES // each)
    needed = total * (each + ROW_BYTES[order.format])
    with locked(order.path):
        begun = {"export": str(scope), "format": order.format, "asked": questions.identity()}
        _expect_own_folder(order.path, begun)
        existing = next(path for path in (order.path.absolute(), *order.path.absolute().parents) if path.exists())
        free = shutil.disk_usage(existing).free
        there = sum(path.stat().st_size for path in order.path.glob(f"shard-*{suffix}"))
        say(
            f"{total:,} images of {'x'.join(map(str, shape))} under {len(questions.asked)} perturbations: at most "
            f"{needed / 1e6:,.1f} MB in {-(-total // size):,} files of {order.path}; {free / 1e9:,.1f} GB are free"
        )
        if free < needed - there + MARGIN:
            raise OutputError(
                f"{order.path}: the export needs up to {needed / 1e9:.1f} GB, but {free / 1e9:.1f} GB are free. Name a "
                "folder on another disk, or export less with --families, --budget or --format png."
            )
        order.path.mkdir(parents=True, exist_ok=True)
        write_atomically(order.path / BEGUN, _as_json(begun))
        seen: set[bytes] = set()
        entries, resumed = [], 0
        with Progress(total=total, unit="image", desc=doing, delay=2) as bar:
            for number, parts in enumerate(_ranges(questions, size)):
                path = order.path / f"shard-{number:05}{suffix}"
                names = names_in(path, order.format)
                resumed += names is not None
                if names is None:
                    shard = _made(questions, parts, order.pixels, seen)
                    names = shard.names
                    if len(names):
                        write_atomically(path, shard.content(order.format))
                seen.update(names.tolist())
                if len(names):
                    entries.append({"file": path.name, "images": len(names), "sha256": hash_of_file(path)})
                bar.update(min((number + 1) * size, total) - bar.n)
        held = scope.holding(np.array(sorted(seen), dtype=NAME))
        manifest = _manifest(questions, session, held, order, entries)
        for name, text in files_for(order.format, manifest).items():
            if not (order.path / name).exists():
                write_atomically(order.path / name, text.encode())
        write_atomically(order.path / MANIFEST, _as_json(manifest))
    return Written(manifest, resumed)


def _ranges(questions: Questions, size: int) -> Iterator[list[tuple[int, np.ndarray]]]:
    """Yield, for shards of this size, numbers of questions with the images to make, in an order that stays."""
    parts: list[tuple[int, np.ndarray]] = []
    room = size
    for asked, question in enumerate(questions.asked):
        for numbers in questions.parts(question.numbers):
            rest = numbers
            while len(rest):
                parts.append((asked, rest[:room]))
                rest, room = rest[room:], room - len(rest[:room])
                if not room:
                    yield parts
                    parts, room = [], size
    if parts:
        yield parts


def _made(questions: Questions, parts: list[tuple[int, np.ndarray]], stored: str, seen: set[bytes]) -> Shard:
    """Return a shard of these images, each once, without those of shards before."""
    (shape,) = questions.shapes
    step = max(1, _PART // (4 * math.prod(shape)))
    made = []
    for asked, numbers in parts:
        for start in range(0, len(numbers), step):
            pixels, index = questions.pixels(questions.asked[asked], numbers[start : start + step])
            kept = as_stored(pixels, stored)
            made.append((names_of(kept), kept, index, np.full(len(kept), asked, dtype=np.int32)))
    whole = Shard(*map(np.concatenate, zip(*made, strict=True)))
    _, first = np.unique(whole.names, return_index=True)
    new = np.array([row for row in np.sort(first) if whole.names[row] not in seen], dtype=np.int64)
    return Shard(*(each[new] for each in whole))


def _manifest(
    questions: Questions,
    session: StressSession,
    scope: Export,
    order: ExportOrder,
    shards: list[dict[str, Any]],
) -> dict[str, Any]:
    (shape,) = questions.shapes
    checks, data = session.checks, session.images
    return {
        "schema": SCHEMA,
        "export": str(scope),
        "protocol": scope.protocol,
        "profile": scope.profile,
        "format": order.format,
        "pixels": scope.pixels,
        "shape": list(shape),
        "images": scope.images,
        "classes": list(data.classes),
        "data": {"name": data.name, "split": data.split, "sha256": checks.data.sha256, "n": checks.data.n},
        "checks": {"path": str(checks.path), "sha256": checks.sha256},
        "families": list(scope.families),
        "samples": dict(scope.samples),
        "perturbations": [
            {
                "perturbation": str(question.perturbation),
                "images": len(question.numbers),
                "checks": {name: len(numbers) for name, numbers in question.by_name.items()},
            }
            for question in questions.asked
        ],
        "files": shards,
    }


def _expect_own_folder(folder: Path, begun: dict[str, str]) -> None:
    """Raise `InputError` unless the folder is empty, is not there, or has this export, begun or finished."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise OutputError(f"{folder}: is no folder; name an empty or a new one")
    if not any(folder.iterdir()):
        return
    try:
        found = json.loads((folder / BEGUN).read_text("utf-8"))
    except FileNotFoundError:
        raise OutputError(f"{folder}: has other files in it; name an empty or a new folder") from None
    except (OSError, ValueError) as error:
        raise OutputError(f"{folder / BEGUN}: cannot be read ({error}); remove the folder, or name another") from None
    if found != begun:
        raise OutputError(
            f"{folder}: holds another export (other checks, data, families or format); name another folder, or remove "
            "this one"
        )


def _as_json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()
