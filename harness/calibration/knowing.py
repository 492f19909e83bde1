"""What a panel knows: the stress tests ask each member, and the answers are put together."""

from __future__ import annotations

import ast
import hashlib
import io
import tempfile
import zipfile
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.calibration.measure import kept_or_made
from harness.calibration.recording import Recording, recorded
from harness.errors import InputError
from harness.measures.knowledge import NOT_ASKED, Knowledge, View, read_knowledge
from harness.perturb import IDENTITY
from harness.run.before import ASKING
from harness.store import user_folder, write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.networks import NetworkOptions
    from harness.networks.checkpoints import Checkpoint


@dataclass(frozen=True, eq=False)
class Answer:
    """What a member answers under one perturbation, the one of this `repr`, about some images of the split."""

    name: str
    positions: np.ndarray
    wrong: np.ndarray
    mean: np.ndarray
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
        ask_for = frozenset(name for name in recording.families if of_rows.get(name, name) in ask_for)
    if not ask_for:
        return []
    recording = replace(recording, families=tuple(sorted(ask_for)))

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
    `ask_panel` does, and, where only some families ask, for a file that is not what the bounds of the others were made
    with. Where all ask anew, one that cannot be read is not needed.
    """
    if not families_that_ask(recording.tests):
        return recording, None
    old = None
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
    path = user_folder("measured") / f"{hashlib.sha256(content).hexdigest()}.knowledge.json"
    write_atomically(path, content)
    return replace(recording, options=(*recording.options, "--stress-knowledge", str(path))), knowledge


def families_that_ask(tests: Path) -> frozenset[str]:
    """Return the families whose stress tests ask what healthy retrains know: by functions that take such fixtures."""
    found = set()
    for file in sorted(tests.glob("**/*.py")):
        with suppress(SyntaxError, ValueError):  # Which a run of the tests tells better.
            for node in ast.walk(ast.parse(file.read_bytes())):
                if isinstance(node, ast.FunctionDef) and any(each.arg in ASKING for each in node.args.args):
                    found |= {
                        str(call.args[0].value)
                        for call in node.decorator_list
                        if isinstance(call, ast.Call) and call.args and isinstance(call.args[0], ast.Constant)
                    }
    return frozenset(found)


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
        about = parts[0]
        shape = (images, about.mean.shape[1])
        wrong, mean = np.full(images, NOT_ASKED, dtype=np.int16), np.full(shape, np.nan, dtype=np.float32)
        wrong[about.positions] = sum(each.wrong.astype(np.int16) for each in parts)
        mean[about.positions] = sum(each.mean.astype(np.float64) for each in parts) / len(parts)
        by_member = None
        if about.name == repr(IDENTITY):
            by_member = np.zeros((len(parts), images), dtype=bool)
            by_member[:, about.positions] = [each.wrong for each in parts]
        views[about.name] = View(wrong, mean, by_member).over(views.get(about.name))
    return Knowledge(data_sha256, first[0].classes, tuple(members), views)


def merged(new: Knowledge, old: Knowledge | None) -> Knowledge:
    """Return what is known newly, and what was known of other answers, by the same members of the same data."""
    if old is None or (old.data_sha256, old.members, old.classes) != (new.data_sha256, new.members, new.classes):
        return new
    views = {name: view.over(old.views.get(name)) for name, view in new.views.items()}
    return replace(new, views={**old.views, **views})


def _read(content: bytes) -> list[Answer]:
    """Return a member's answers, by the names of their files; raises `ValueError` for what is none."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            parts = [np.load(io.BytesIO(archive.read(name))) for name in sorted(archive.namelist())]
        return [
            Answer(str(part["name"]), part["positions"], part["wrong"], part["mean"], tuple(map(str, part["classes"])))
            for part in parts
        ]
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(f"no answers ({error})") from None
