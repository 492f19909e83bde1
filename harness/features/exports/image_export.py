"""An export: the images that tests ask about, found by stand-ins and written once each into shards.

Resumable.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from harness.base.errors import (
    InputError,
    NotApplicableError,
    OutputError,
    foreign_code,
    printable,
    some_of,
)
from harness.base.files import hash_of_file, locked, write_atomically
from harness.base.progress import Progress
from harness.checks.roles import ROLES
from harness.data.exported import FLOAT32, NAME, as_stored, names_of
from harness.data.rows import parts_of
from harness.features.exports.template import SAID, files_for
from harness.inference import RoleModel
from harness.inference.engine import Perturbed
from harness.inference.predictors.protocol import Provides
from harness.inference.standins import Asked, Ledger, StandIn
from harness.measures.panel.predictions import PanelPredictions
from harness.report.costs import whole_by_hand
from harness.run.budget import OVERVIEW, Costs, Plan, duration, families_by_hand, plan_from
from harness.run.recorded import scope_of
from harness.run.side_by_side import overview_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.checks import Check
    from harness.data import LabelledImages
    from harness.data.exported import Export
    from harness.perturb import Perturbation
    from harness.run.mutants import Judge
    from harness.run.request import RunRequest
    from harness.run.session import StressSession


SHARD_BYTES = 64 << 20
"""Bytes of pixels in a shard."""
ROW_BYTES = 4 * 64 + 8 + 4
"""Bytes that an image takes besides its pixels: its name and place."""
MARGIN = 256 << 20
"""Bytes that are left free on the disk."""
_BEGUN = "export.json"


def run_instead(
    session: StressSession,
    checks: Sequence[Check],
    judge: Judge,
    request: RunRequest,
    order: Mapping[str, Any],
) -> None:
    """Write the images that the collected tests ask about.

    Raises `InputError` where that cannot be done.

    The order has the `folder`, and the `families` asked about, none for all. `speed` is that of the
    system that answers, in images per second. An `overview` adds the images of the report's
    comparison of models.
    """
    families, known = tuple(order["families"]), sorted({check.family for check in checks})
    if missing := [family for family in families if family not in known]:
        raise InputError(
            f"--families {','.join(missing)}: no check is of this family; there are "
            f"{', '.join(known)}"
        )
    checks = [check for check in checks if not families or check.family in families]
    if (votes := session.panel_predictions) is None or not votes.has_votes:
        session.checks.data.expect_numbers(
            {check.family for check in checks}, "there are no panel predictions yet"
        )
    samples: dict[str, int] = {}
    if (seconds := request.budget_seconds) is not None:
        plan = _fitting(session, checks, judge, seconds=seconds, speed=order["speed"])
        samples = plan.samples
        sizes = [
            f"{name} {line.images:,} of {line.out_of:,}"
            for name, line in plan.lines.items()
            if name in samples
        ]
        fits = "" if plan.fits else ", and even the fewest images do not fit"
        taken = f"{duration(plan.total.seconds)} of {duration(seconds)}"
        _say(
            f"at {order['speed']:g} images/s, {taken}{fits}: "
            f"{some_of(sizes, shown=20) or 'all images'}"
        )
        for line in whole_by_hand(plan):
            _say(line)
    questions = _questions(session.with_samples(samples), checks, judge, overview=order["overview"])
    for name, error in questions.failed.items():
        _say(
            f"{name}: its test failed without a model, so the export may lack images "
            f"({printable(repr(error))})"
        )
    scope = scope_of(session.checks, checks, profile=request.profile, measured=request.samples)
    _write(
        questions,
        session,
        replace(scope, families=families, samples=samples),
        Path(order["folder"]),
    )


def _say(line: str) -> None:
    print(f"{SAID}{line}", flush=True)


@dataclass(frozen=True, eq=False)
class _Questions:
    """All that tests ask.

    The perturbations `under`, and by name the numbers of images `asked` under each, ascending.

    Images with equal pixels, of the hash `digests[i]`, share the number i; `at[i]` is the first
    one's number in `sets` and its position there. `rows` has each place in `under` with each
    number, (R, 2). `failed` has what tests raised, by their checks: images that they ask for later
    are not known.
    """

    sets: Sequence[LabelledImages]
    digests: Sequence[bytes]
    at: np.ndarray
    under: Sequence[Perturbation]
    asked: Sequence[Mapping[str, np.ndarray]]
    rows: np.ndarray
    failed: Mapping[str, Exception]

    def identity(self) -> str:
        """Return a hash of all images and perturbations, in their order."""
        digest, last = hashlib.sha256(), -1
        for under, number in self.rows:
            digest.update(repr(self.under[under]).encode() if under != last else b"")
            digest.update(self.digests[number])
            last = under
        return digest.hexdigest()

    def shard(self, rows: np.ndarray, seen: set[bytes], *, rounded: bool) -> dict[str, np.ndarray]:
        """Return the arrays of a shard: the images of some rows, but those seen before.

        Models may see 8 bits.
        """
        made, places = (
            list[tuple[np.ndarray, ...]](),
            np.column_stack([rows[:, 0], self.at[rows[:, 1], 0]]),
        )
        for part in np.split(rows, np.flatnonzero(np.diff(places, axis=0).any(axis=1)) + 1):
            (under, first), at = part[0], self.at[part[:, 1], 1]
            images = self.sets[self.at[first, 0]]
            inputs = Perturbed(
                images.pixels, at, torch.device("cpu"), (self.under[under],), rounded=rounded
            )
            pixels = as_stored(inputs(np.arange(len(at))).numpy(), FLOAT32)
            made.append(
                (
                    names_of(pixels),
                    pixels,
                    images.positions.numpy()[at],
                    np.full(len(at), under, np.int32),
                )
            )
        names, *arrays = map(np.concatenate, zip(*made, strict=True))
        first = np.sort(np.unique(names, return_index=True)[1])
        new = np.array([row for row in first if names[row] not in seen], dtype=np.int64)
        # In a table, bytes would become b'…'.
        arrays = [names.astype(str), *arrays]
        return dict(
            zip(
                ("image", "pixels", "index", "perturbation"),
                (each[new] for each in arrays),
                strict=True,
            )
        )


def _questions(
    session: StressSession, checks: Sequence[Check], judge: Judge, *, overview: bool = False
) -> _Questions:
    """Return what the tests of these checks ask models about, and the `overview`.

    Every role has a stand-in.
    """
    ledger, path, failed = Ledger(), session.checks.path, dict[str, Exception]()
    stand_in = StandIn(Provides("probabilities", live=False), ledger=ledger)
    roles = {role: RoleModel(role, path, role, role, "recorded", None, stand_in) for role in ROLES}
    panel = session.panel_predictions
    panel = panel or PanelPredictions(session.images.sha256, session.images.classes, ("asked",), {})
    known = {check.definition for check in session.checks.checks}
    asked = replace(session, roles=roles, cache=None, panel_predictions=panel)
    for check in checks:
        try:
            with ledger.under(check.id), foreign_code():
                judge(asked, check)
        except NotApplicableError:
            continue
        except (
            Exception
        ) as error:  # Of the test, on made-up answers; one without a row may lack a key.
            if check.definition in known:
                failed[check.id] = error
    if overview:
        with ledger.under(OVERVIEW):
            overview_of(asked)
    numbered, at, of_set = dict[bytes, int](), list[tuple[int, int]](), {}
    for which, images in enumerate(ledger.sets):
        of_set[images] = numbers = np.empty(len(images), dtype=np.int64)
        for part in parts_of(len(images), int(np.prod(images.pixels.shape[1:]))):
            for position, pixels in enumerate(images.pixels[part].numpy(), start=part.start):
                name = hashlib.sha256(np.ascontiguousarray(pixels).data).digest()
                numbers[position] = numbered.setdefault(name, len(at))
                if numbers[position] == len(at):
                    at.append((which, position))
    by_name = [
        {
            name: np.unique(
                np.concatenate(
                    [of_set[each][slice(None) if at is None else at] for each, at in parts]
                )
            )
            for name, parts in question.by_name.items()
        }
        for question in ledger.questions.values()
    ]
    each = [np.unique(np.concatenate([*numbers.values()])) for numbers in by_name]
    numbers = np.concatenate([*each, np.empty(0, np.int64)])
    rows = np.column_stack([np.repeat(np.arange(len(each)), [*map(len, each)]), numbers])
    under = [question.perturbation for question in ledger.questions.values()]
    return _Questions(
        list(ledger.sets),
        list(numbered),
        np.array(at, dtype=np.int64),
        under,
        by_name,
        rows,
        failed,
    )


def _fitting(
    session: StressSession, checks: Sequence[Check], judge: Judge, *, seconds: float, speed: float
) -> Plan:
    """Return samples of the families that a system of this speed answers in so many seconds."""
    families = {check.id: check.family for check in checks}
    names = list(dict.fromkeys(families.values()))

    def count(samples: Mapping[str, int]) -> Ledger:
        """Return how many images each family asks for first, and whose it shares."""
        counted = {family: Asked() for family in names}
        questions = _questions(session.with_samples(samples), checks, judge)
        for asked in questions.asked:
            first = np.full(len(questions.at), -1)
            for name, numbers in asked.items():
                family = names.index(families[name])
                new, others = (
                    numbers[first[numbers] < 0],
                    set(first[numbers].tolist()) - {-1, family},
                )
                counted[families[name]].shares |= {names[other] for other in others}
                counted[families[name]].add(passes=1, poses=len(new), images=len(numbers))
                first[new] = family
        return Ledger(counted)

    sizes = {check.family: session.size_of(check.family) for check in checks}
    costs, by_hand = Costs(1 / speed, 0.0, 0), families_by_hand(checks)
    return plan_from(
        count, sizes, costs, images=len(session.images), budget=seconds, by_hand=by_hand
    )


def _write(questions: _Questions, session: StressSession, scope: Export, folder: Path) -> None:
    """Write the images of the questions into the folder, after a line with the size.

    Raises `InputError` for a folder with something else in it, and for a disk without room.
    """
    shapes = sorted({tuple(images.pixels.shape[1:]) for images in questions.sets})
    if len(shapes) != 1:
        found = " and ".join(map(str, shapes)) or "none"
        raise OutputError(
            f"tests ask about images of these shapes: {found}; expected one shape (C, H, W)"
        )
    each, rows = math.prod(shapes[0]) * 4, questions.rows
    size, needed = max(1, SHARD_BYTES // each), len(rows) * (each + ROW_BYTES)
    checks, data = session.checks, session.images
    with locked(folder):
        begun = {"export": str(scope), "format": "npz", "asked": questions.identity()}
        _expect_own_folder(folder, begun)
        existing = next(
            path for path in (folder.absolute(), *folder.absolute().parents) if path.exists()
        )
        free = shutil.disk_usage(existing).free
        _say(
            f"{len(rows):,} images of {'x'.join(map(str, shapes[0]))} under "
            f"{len(questions.under)} perturbations: at most {needed / 1e6:,.1f} MB in "
            f"{-(-len(rows) // size):,} files of {folder}; {free / 1e9:,.1f} GB are free"
        )
        if free < needed - sum(path.stat().st_size for path in folder.glob("shard-*.npz")) + MARGIN:
            raise OutputError(
                f"{folder}: the export needs up to {needed / 1e9:.1f} GB, but {free / 1e9:.1f} GB "
                "are free. Name a folder on another disk, or export less with --families or "
                "--budget."
            )
        folder.mkdir(parents=True, exist_ok=True)
        _write_json(folder / _BEGUN, begun)
        seen, entries, resumed = set[bytes](), list[dict[str, Any]](), 0
        with Progress(total=len(rows), unit="image", desc=SAID.rstrip(": "), delay=2) as bar:
            for number, start in enumerate(range(0, len(rows), size)):
                path = folder / f"shard-{number:05}.npz"
                names = _names_in(path)
                resumed += names is not None
                if names is None:
                    arrays = questions.shard(
                        rows[start : start + size], seen, rounded=checks.data.pixels is not None
                    )
                    names = arrays["image"].astype(NAME)
                    if len(names):
                        np.savez(content := io.BytesIO(), **arrays)  # type: ignore[arg-type]  # No array is a flag.
                        write_atomically(path, content.getvalue())
                seen.update(names.tolist())
                if len(names):
                    entries.append(
                        {"file": path.name, "images": len(names), "sha256": hash_of_file(path)}
                    )
                bar.update(min(size, len(rows) - start))
        held = scope.holding(np.array(sorted(seen), dtype=NAME))
        manifest = {
            "schema": 1,
            "export": str(held),
            "protocol": held.protocol,
            "profile": held.profile,
            "format": "npz",
            "pixels": held.pixels,
            "shape": list(shapes[0]),
            "images": held.images,
            "classes": list(data.classes),
            "data": {
                "name": data.name,
                "split": data.split,
                "sha256": checks.data.sha256,
                "n": checks.data.n,
            },
            "checks": {"path": str(checks.path), "sha256": checks.sha256},
            "families": list(held.families),
            "samples": dict(held.samples),
            "perturbations": [
                {
                    "perturbation": str(under),
                    "images": int((rows[:, 0] == at).sum()),
                    "checks": {name: len(numbers) for name, numbers in asked.items()},
                }
                for at, (under, asked) in enumerate(
                    zip(questions.under, questions.asked, strict=True)
                )
            ],
            "files": entries,
        }
        for name, text in files_for(manifest).items():
            if not (folder / name).exists():
                write_atomically(folder / name, text.encode())
        _write_json(folder / "manifest.json", manifest)
    of_before = f", {resumed} of them from an earlier run" if resumed else ""
    _say(f"{held.images:,} images in {len(entries):,} files{of_before}")


def _names_in(path: Path) -> np.ndarray | None:
    """Return the names of the images in a shard of an earlier run.

    None for one that is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            names, pixels = file["image"].astype(NAME), file["pixels"]
        return names if np.array_equal(names_of(pixels), names) else None
    except Exception:  # A damaged archive fails in any way; it is written again.
        return None


def _expect_own_folder(folder: Path, begun: dict[str, str]) -> None:
    """Raise `InputError` unless the folder can take this export.

    It may be missing, be empty, or have this export, begun or finished.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        try:
            found = json.loads((folder / _BEGUN).read_text("utf-8"))
        except (OSError, ValueError):
            raise OutputError(
                f"{folder}: has other files in it; name an empty or a new folder"
            ) from None
        if found != begun:
            raise OutputError(
                f"{folder}: holds another export (other checks, data or families); name another "
                "folder, or remove this one"
            )


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())
