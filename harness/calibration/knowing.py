"""What a panel knows: the stress tests ask each member, and the answers are put together."""

from __future__ import annotations

import ast
import hashlib
import io
import tempfile
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.calibration.measure import kept_or_made
from harness.calibration.recording import Recording, recorded
from harness.errors import InputError
from harness.measures.knowledge import LIKELIEST, NOT_ASKED, Knowledge, View, read_knowledge
from harness.perturb import IDENTITY
from harness.run.before import ASKING
from harness.store import user_folder, write_atomically
from harness.store.decisive import decisive_files

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.networks import NetworkOptions
    from harness.networks.checkpoints import Checkpoint

EVERY = "all"
"""Stands for every family."""
_PACKAGE = Path(__file__).resolve().parents[1]
_AT_A_TIME = 1024
"""Images of whose classes all probabilities are held."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What a member answers under one perturbation, the one of this `repr`, about M images of the split.

    `wrong`, (M,) bool, says of which it gets wrong, `of_label`, (M,) float32, how probable it finds their labels, and
    `shares`, (M, C) float32, how probable the `likeliest` of the `classes`, (M, C) int32.
    """

    name: str
    positions: np.ndarray
    wrong: np.ndarray
    of_label: np.ndarray
    likeliest: np.ndarray
    shares: np.ndarray
    classes: tuple[str, ...]


def ask_panel(
    checkpoints: Sequence[Path],
    recording: Recording,
    *,
    network: NetworkOptions | None = None,
    on_member: Callable[[], None] | None = None,
) -> Knowledge | None:
    """Ask every checkpoint what the stress tests want to know of healthy retrains; None when they ask nothing.

    Raises `InputError` when the tests could not run, and when members are asked different things.
    """
    from harness.networks.declared import load_model

    loaded = [load_model(path, network) for path in checkpoints]
    answers, data = answers_of(loaded, recording, on_member), recording.gates.data
    return together(data.sha256, data.n, [each.model_sha256 for each in loaded], answers) if answers else None


def answers_of(
    checkpoints: Sequence[Checkpoint], recording: Recording, on_member: Callable[[], None] | None = None
) -> list[list[Answer]]:
    """Return what each checkpoint answers to what the stress tests ask; empty when they ask nothing.

    Answers are kept in the user's cache, as measurements are. Raises `InputError` when the tests could not run.
    """
    ask_for = families_that_ask(recording.tests)
    if recording.families:
        of_rows = {gate.id: gate.family for gate in recording.gates.gates}
        ask_for = frozenset(name for name in recording.families if {of_rows.get(name, name), EVERY} & ask_for)
    if not ask_for:
        return []
    recording = replace(recording, families=() if EVERY in ask_for else tuple(sorted(ask_for)))

    def ask(checkpoint: Checkpoint, core: int) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            asking = replace(recording, options=(*recording.options, "--stress-answers", folder))
            recorded(checkpoint.path, asking, core=core, sha256=checkpoint.sha256)
            files = sorted(Path(folder).glob("*.npz"))
            together = io.BytesIO()
            with zipfile.ZipFile(together, "w", zipfile.ZIP_DEFLATED) as archive:
                for file in files:
                    archive.write(file, file.name)
            return together.getvalue()

    return kept_or_made(checkpoints, recording, make=ask, read=_read, what="answers.zip", on_member=on_member)


def knowing(
    checkpoints: Sequence[Path],
    recording: Recording,
    knows: Path,
    *,
    network: NetworkOptions | None = None,
    on_member: Callable[[], None] | None = None,
) -> tuple[Recording, Knowledge | None]:
    """Return how to record these checkpoints by what they know, and that, put together with what stands in `knows`.

    It is written into the user's cache for the recording. Of tests that ask nothing both are as they were; raises as
    `ask_panel` does, and, where only some families ask, for a file that is not there or is not what the bounds of the
    others were made with. Where all ask anew, one that cannot be read is not needed.
    """
    if not families_that_ask(recording.tests):
        return recording, None
    old = None
    if recording.families and recording.gates.knowledge is not None and not knows.exists():
        raise InputError(
            f"{knows}: not there, though bounds of {recording.gates.path} were made with it; bring it back, or "
            "calibrate all families"
        )
    if knows.exists():
        try:
            old = read_knowledge(knows)
            if recording.families and recording.gates.knowledge is not None:
                recording.gates.expect_knowledge(knows, old.sha256)
        except InputError:
            if recording.families:
                raise
    knowledge = ask_panel(checkpoints, recording, network=network, on_member=on_member)
    if knowledge is None:
        return recording, None
    knowledge = merged(knowledge, old)
    content = knowledge.as_bytes()
    knowledge = replace(knowledge, sha256=hashlib.sha256(content).hexdigest())
    path = user_folder("measured") / f"{knowledge.sha256}.knowledge.json"
    write_atomically(path, content)
    return replace(recording, options=(*recording.options, "--stress-knowledge", str(path))), knowledge


def families_that_ask(tests: Path) -> frozenset[str]:
    """Return the families whose stress tests ask what healthy retrains know: by functions that take such fixtures.

    It is `EVERY` alone where the code, read and not run, does not tell which: where a fixture of the user's own takes
    one, or a family is not named in so many letters. Raises `InputError` for code that cannot be read.
    """
    folder, found = tests.resolve(), set[str]()
    sources = [*folder.glob("**/*.py"), *folder.parent.glob("*.py")]
    for file in decisive_files(sources, projects=(folder, folder.parent, Path.cwd())):
        if file.is_relative_to(_PACKAGE):
            continue
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not ASKING.isdisjoint(_taken_by(node)):
                found.update([family for each in node.decorator_list for family in _families_in(each)] or [EVERY])
    return frozenset({EVERY} if EVERY in found else found)


def _taken_by(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Return the names of a function's arguments."""
    given = function.args
    return [each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)]


def _families_in(decorator: ast.expr) -> list[str]:
    """Return the family in `@gate("family", ...)`, and none of any other decorator."""
    match decorator:
        case ast.Call(func=ast.Name("gate") | ast.Attribute(attr="gate"), args=[ast.Constant(str(family))]):
            return [family]
    return []


def together(
    data_sha256: str, images: int, members: Sequence[str], answers: Sequence[Sequence[Answer]]
) -> Knowledge | None:
    """Return what members know together of so many images, by the answers of each, or None for no answers."""
    first = answers[0]
    questions = [[(each.name, each.positions.tobytes()) for each in asked] for asked in answers]
    if other := [member for member, asked in zip(members, questions, strict=True) if asked != questions[0]]:
        raise InputError(
            f"the members of the panel were asked about different images or perturbations: {other[0][:12]}… (SHA-256 "
            f"of its tensors) not about those of {members[0][:12]}…; a test must ask the same of every network"
        )
    if not first:
        return None
    views: dict[str, View] = {}
    for parts in zip(*answers, strict=True):
        name, at = parts[0].name, parts[0].positions
        likeliest, shares = _likeliest(parts)
        by_member = None
        if name == repr(IDENTITY):
            by_member = np.zeros((len(parts), images), dtype=bool)
            by_member[:, at] = [each.wrong for each in parts]
        of_label = sum(each.of_label.astype(np.float64) for each in parts) / len(parts)
        view = View(
            _placed(sum(each.wrong.astype(np.int16) for each in parts), at, images, NOT_ASKED),
            _placed(of_label.astype(np.float32), at, images, np.nan),
            _placed(likeliest, at, images, NOT_ASKED),
            _placed(shares, at, images, np.nan),
            by_member,
        )
        views[name] = view.over(views.get(name))
    return Knowledge(data_sha256, first[0].classes, tuple(members), views)


def _placed(rows: np.ndarray, positions: np.ndarray, images: int, rest: float) -> np.ndarray:
    """Return a table of so many images that has these rows at these positions."""
    table = np.full((images, *rows.shape[1:]), rest, dtype=rows.dtype)
    table[positions] = rows
    return table


def _likeliest(parts: Sequence[Answer]) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes likeliest in the mean, (M, C) int32, and the means of their probabilities, (M, C) float32."""
    classes = len(parts[0].classes)
    likeliest, shares = [], []
    for start in range(0, len(parts[0].positions), _AT_A_TIME):
        rows = slice(start, start + _AT_A_TIME)
        total = np.zeros((len(parts[0].positions[rows]), classes))
        for each in parts:
            at = each.likeliest[rows]
            np.put_along_axis(total, at, np.take_along_axis(total, at, axis=1) + each.shares[rows], axis=1)
        order = np.argsort(-total, axis=1, kind="stable")[:, :LIKELIEST]
        likeliest.append(order.astype(np.int32))
        shares.append((np.take_along_axis(total, order, axis=1) / len(parts)).astype(np.float32))
    return np.concatenate(likeliest), np.concatenate(shares)


def merged(new: Knowledge, old: Knowledge | None) -> Knowledge:
    """Return what is known newly, and what was known of other answers, by the same members of the same data.

    Members may stand in another order, and classes have other names.
    """
    kept = _views_for(new, old) if old else {}
    return replace(new, views={**kept, **{name: view.over(kept.get(name)) for name, view in new.views.items()}})


def judges_as(new: Knowledge, old: Knowledge) -> bool:
    """Return whether bounds that were made with the old are the same with the new, which may know of more answers."""
    views = _views_for(new, old)
    return bool(views) and all(name in new.views and new.views[name].repeats(view) for name, view in views.items())


def _views_for(new: Knowledge, old: Knowledge) -> dict[str, View]:
    """Return what was known, its members in the order of the new; nothing of other members, or of other data."""
    same = sorted(old.members) == sorted(new.members) and len(old.classes) == len(new.classes)
    if not same or old.data_sha256 != new.data_sha256:
        return {}
    order = [old.members.index(member) for member in new.members]
    return {name: view.ordered(order) for name, view in old.views.items()}


def _read(content: bytes) -> list[Answer]:
    """Return a member's answers, by the names of their files; raises `ValueError` for what is none."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            parts = [np.load(io.BytesIO(archive.read(name))) for name in sorted(archive.namelist())]
        tables = ("positions", "wrong", "of_label", "likeliest", "shares")
        return [
            Answer(str(part["name"]), classes=tuple(map(str, part["classes"])), **{name: part[name] for name in tables})
            for part in parts
        ]
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(f"no answers ({error})") from None
