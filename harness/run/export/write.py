"""An export: the images that tests ask about, found by stand-ins and written once each into shards; resumable."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import shutil
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from harness.base.errors import NotApplicableError, OutputError, foreign_code
from harness.base.files import hash_of_file, locked, write_atomically
from harness.base.progress import Progress
from harness.checks.roles import ROLES
from harness.data.exported import FORMATS, NAME, as_stored, names_of
from harness.data.image_files import as_png
from harness.data.rows import parts_of
from harness.inference import RoleModel
from harness.inference.engine import Perturbed
from harness.inference.predictors.protocol import Provides
from harness.inference.standins import Asked, Ledger, StandIn
from harness.measures.panel.predictions import PanelPredictions
from harness.run.budget import OVERVIEW, Costs, Plan, plan_from
from harness.run.export.request import SAID
from harness.run.export.template import files_for
from harness.run.side_by_side import overview_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.checks import Check
    from harness.data.exported import Export
    from harness.perturb import Perturbation
    from harness.run.export.request import ExportOrder
    from harness.run.mutants import Judge
    from harness.run.session import StressSession


SHARD_BYTES = 64 << 20
"""Bytes of pixels in a shard."""
ROW_BYTES = {"npz": 4 * 64 + 8 + 4, "png": 400}
"""Bytes that an image takes besides its pixels: its name and place, and of a PNG its own head."""
SUFFIXES = {"npz": ".npz", "png": ".zip"}
MARGIN = 256 << 20
"""Bytes that are left free on the disk."""
_ROWS, _MANIFEST, _BEGUN = "rows.csv", "manifest.json", "export.json"
_PART = 16 << 20
"""Bytes of pixels that are made at a time."""


@dataclass(frozen=True, eq=False)
class Question:
    """A perturbation and the numbers of its images, ascending: of all of them, and of those that each name asks for."""

    perturbation: Perturbation
    numbers: np.ndarray
    by_name: dict[str, np.ndarray]


class Questions:
    """All questions of a ledger. Images with equal pixels share a number; with `rounded`, models see 8 bits.

    `failed` has what tests raised, by their checks: images that they ask for later are not known.
    """

    def __init__(self, ledger: Ledger, *, rounded: bool, failed: Mapping[str, Exception]) -> None:
        self._rounded, self._sets, self.failed = rounded, list(ledger.sets), failed
        self._names: dict[bytes, int] = {}
        of_set, at = {}, list[tuple[int, int]]()
        for which, images in enumerate(self._sets):
            of_set[images] = numbers = np.empty(len(images), dtype=np.int64)
            for part in parts_of(len(images), int(np.prod(images.pixels.shape[1:]))):
                for position, pixels in enumerate(images.pixels[part].numpy(), start=part.start):
                    name = hashlib.sha256(np.ascontiguousarray(pixels).data).digest()
                    numbers[position] = self._names.setdefault(name, len(at))
                    if numbers[position] == len(at):
                        at.append((which, position))
        self._at = np.array(at, dtype=np.int64).reshape(-1, 2)
        self.asked: list[Question] = []
        for question in ledger.questions.values():
            by_name = {
                name: np.unique(np.concatenate([of_set[each][slice(None) if at is None else at] for each, at in parts]))
                for name, parts in question.by_name.items()
            }
            numbers = np.unique(np.concatenate([*by_name.values()]))
            self.asked.append(Question(question.perturbation, numbers, by_name))

    @property
    def rows(self) -> np.ndarray:
        """Return the place of each question in `asked` with each number of its images, (R, 2) int64."""
        numbers = [question.numbers for question in self.asked]
        return np.column_stack([np.repeat(np.arange(len(numbers)), [*map(len, numbers)]), np.concatenate(numbers)])

    @property
    def shapes(self) -> set[tuple[int, ...]]:
        """Return the shapes of the images, each (C, H, W)."""
        return {tuple(images.pixels.shape[1:]) for images in self._sets}

    def identity(self) -> str:
        """Return a hash of all images and perturbations, in their order."""
        digest, known = hashlib.sha256(), list(self._names)
        for question in self.asked:
            digest.update(repr(question.perturbation).encode())
            for number in question.numbers:
                digest.update(known[number])
        return digest.hexdigest()

    def shard(self, rows: np.ndarray, stored: str, seen: set[bytes]) -> Shard:
        """Return the images of some `rows`, each once, without those seen before."""
        (shape,) = self.shapes
        step, made = max(1, _PART // (4 * math.prod(shape))), []
        sets = np.column_stack([rows[:, 0], self._at[rows[:, 1], 0]])
        for part in np.split(rows, np.flatnonzero(np.diff(sets, axis=0).any(axis=1)) + 1):
            for start in range(0, len(part), step):
                asked, (which, at) = int(part[0, 0]), self._at[part[start : start + step, 1]].T
                images, under = self._sets[which[0]], (self.asked[asked].perturbation,)
                inputs = Perturbed(images.pixels, at, torch.device("cpu"), under, rounded=self._rounded)
                kept = as_stored(inputs(np.arange(len(at))).numpy(), stored)
                index = images.positions.numpy()[at]
                made.append((names_of(kept), kept, index, np.full(len(kept), asked, dtype=np.int32)))
        whole = Shard(*map(np.concatenate, zip(*made, strict=True)))
        _, first = np.unique(whole.names, return_index=True)
        new = np.array([row for row in np.sort(first) if whole.names[row] not in seen], dtype=np.int64)
        return Shard(*(each[new] for each in whole))


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


def _names_in(path: Path, form: str) -> np.ndarray | None:
    """Return the names of the images in a shard of an earlier run; None for one that is missing or damaged."""
    try:
        if form == "npz":
            with np.load(path, allow_pickle=False) as file:
                names, pixels = file["image"].astype(NAME), file["pixels"]
            return names if np.array_equal(names_of(pixels), names) else None
        with zipfile.ZipFile(path) as archive:
            listed = [line.split(",")[0] for line in archive.read(_ROWS).decode().splitlines()[1:]]
            return None if archive.testzip() else np.array(listed, dtype=NAME)
    except Exception:  # A damaged archive fails in any way; it is written again.
        return None


def questions_of(session: StressSession, checks: Sequence[Check], judge: Judge, *, overview: bool = False) -> Questions:
    """Return what the tests of these checks ask models about, and the `overview`; every role has a stand-in."""
    ledger, path, failed = Ledger(), session.checks.path, dict[str, Exception]()
    provides = Provides("probabilities", live=False)
    roles = {
        role: RoleModel(role, path, role, role, "recorded", None, StandIn(provides, ledger=ledger)) for role in ROLES
    }
    panel = session.panel_predictions
    panel = panel or PanelPredictions(session.images.sha256, session.images.classes, ("asked",), {})
    rows = {check.definition for check in session.checks.checks}
    asked = replace(session, roles=roles, cache=None, panel_predictions=panel)
    for check in checks:
        try:
            with ledger.under(check.id), foreign_code():
                judge(asked, check)
        except NotApplicableError:
            continue
        except Exception as error:  # Of the test, on made-up answers; one without a row may lack a key.
            if check.definition in rows:
                failed[check.id] = error
    if overview:
        with ledger.under(OVERVIEW):
            overview_of(asked)
    return Questions(ledger, rounded=session.checks.data.pixels is not None, failed=failed)


def fitting(
    session: StressSession, checks: Sequence[Check], judge: Judge, *, seconds: float, images_per_second: float
) -> Plan:
    """Return samples of the families with which a system of this speed answers all images in so many seconds."""
    families = {check.id: check.family for check in checks}

    def count(samples: Mapping[str, int]) -> Ledger:
        """Return how many images each family asks for first, and whose it shares."""
        counted = {family: Asked() for family in families.values()}
        for question in questions_of(replace(session, fitted=samples), checks, judge).asked:
            first: dict[str, np.ndarray] = {}
            for name, numbers in question.by_name.items():
                family, new = families[name], numbers
                for other, known in first.items():
                    shared = np.isin(new, known)
                    if shared.any() and other != family:
                        counted[family].shares.add(other)
                    new = new[~shared]
                counted[family].add(passes=1, poses=len(new), images=len(numbers))
                first[family] = np.union1d(first.get(family, new), new)
        return Ledger(counted)

    sizes = {check.family: session.size_of(check.family) for check in checks}
    return plan_from(count, sizes, Costs(1 / images_per_second, 0.0, 0), images=len(session.images), budget=seconds)


def write_export(
    questions: Questions, session: StressSession, scope: Export, order: ExportOrder, *, say: Callable[[str], None]
) -> tuple[dict[str, Any], int]:
    """Write the images of the questions into the folder of the order; return its manifest, and the files resumed.

    `say` takes a line with the size before anything is written. Raises `InputError` for a folder with something else in
    it, and for a disk without room.
    """
    if len(questions.shapes) != 1:
        shapes = " and ".join(map(str, sorted(questions.shapes))) or "none"
        raise OutputError(f"tests ask about images of these shapes: {shapes}; expected one shape (C, H, W)")
    (shape,) = questions.shapes
    if order.format == "png" and shape[0] not in {1, 3}:
        raise OutputError(f"PNG holds images of 1 or 3 channels, these have {shape[0]}; export with --format npz")
    folder, rows, suffix = Path(order.folder), questions.rows, SUFFIXES[order.format]
    each = math.prod(shape) * (4 if order.format == "npz" else 1)
    size = max(1, SHARD_BYTES // each)
    needed = len(rows) * (each + ROW_BYTES[order.format])
    with locked(folder):
        begun = {"export": str(scope), "format": order.format, "asked": questions.identity()}
        _expect_own_folder(folder, begun)
        existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        free = shutil.disk_usage(existing).free
        there = sum(path.stat().st_size for path in folder.glob(f"shard-*{suffix}"))
        say(
            f"{len(rows):,} images of {'x'.join(map(str, shape))} under {len(questions.asked)} perturbations: at most "
            f"{needed / 1e6:,.1f} MB in {-(-len(rows) // size):,} files of {folder}; {free / 1e9:,.1f} GB are free"
        )
        if free < needed - there + MARGIN:
            raise OutputError(
                f"{folder}: the export needs up to {needed / 1e9:.1f} GB, but {free / 1e9:.1f} GB are free. Name a "
                "folder on another disk, or export less with --families, --budget or --format png."
            )
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / _BEGUN, _as_json(begun))
        seen: set[bytes] = set()
        entries, resumed = [], 0
        with Progress(total=len(rows), unit="image", desc=SAID.rstrip(": "), delay=2) as bar:
            for number, start in enumerate(range(0, len(rows), size)):
                path = folder / f"shard-{number:05}{suffix}"
                names = _names_in(path, order.format)
                resumed += names is not None
                if names is None:
                    shard = questions.shard(rows[start : start + size], FORMATS[order.format], seen)
                    names = shard.names
                    if len(names):
                        write_atomically(path, shard.content(order.format))
                seen.update(names.tolist())
                if len(names):
                    entries.append({"file": path.name, "images": len(names), "sha256": hash_of_file(path)})
                bar.update(min(size, len(rows) - start))
        held, checks, data = scope.holding(np.array(sorted(seen), dtype=NAME)), session.checks, session.images
        manifest = {
            "schema": 1,
            "export": str(held),
            "protocol": held.protocol,
            "profile": held.profile,
            "format": order.format,
            "pixels": held.pixels,
            "shape": list(shape),
            "images": held.images,
            "classes": list(data.classes),
            "data": {"name": data.name, "split": data.split, "sha256": checks.data.sha256, "n": checks.data.n},
            "checks": {"path": str(checks.path), "sha256": checks.sha256},
            "families": list(held.families),
            "samples": dict(held.samples),
            "perturbations": [
                {
                    "perturbation": str(question.perturbation),
                    "images": len(question.numbers),
                    "checks": {name: len(numbers) for name, numbers in question.by_name.items()},
                }
                for question in questions.asked
            ],
            "files": entries,
        }
        for name, text in files_for(order.format, manifest).items():
            if not (folder / name).exists():
                write_atomically(folder / name, text.encode())
        write_atomically(folder / _MANIFEST, _as_json(manifest))
    return manifest, resumed


def _expect_own_folder(folder: Path, begun: dict[str, str]) -> None:
    """Raise `InputError` unless the folder is empty, is not there, or has this export, begun or finished."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        try:
            found = json.loads((folder / _BEGUN).read_text("utf-8"))
        except (OSError, ValueError):
            raise OutputError(f"{folder}: has other files in it; name an empty or a new folder") from None
        if found != begun:
            raise OutputError(
                f"{folder}: holds another export (other checks, data, families or format); name another folder, or "
                "remove this one"
            )


def _as_json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()
