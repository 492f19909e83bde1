"""Panel predictions in a calibration: the stress tests record them, and checks files share them."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base import locked, user_folder, write_atomically
from harness.base.errors import InputError, PanelError
from harness.base.outputs import CHECKS, Output
from harness.calibration.recording import Recording, kept_or_made, recorded
from harness.measures.panel.collection import (
    ReferencePredictions,
    archive_of,
    combined,
    merged,
    read_archive,
    repeats,
)
from harness.measures.panel.consensus import PANEL_FIXTURES
from harness.measures.panel.predictions import PanelPredictions, read_panel_predictions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.networks.checkpoints import Checkpoint
    from harness.run.execute import RunResult
    from harness.run.request import RunRequest


def record_predictions(
    checkpoints: Sequence[Checkpoint], recording: Recording, on_model: Callable[[], object]
) -> list[list[ReferencePredictions]]:
    """Return the predictions of each checkpoint that the stress tests need; empty if they need none.

    They stay in the user's cache, like measurements. Raises `InputError` if the tests could not run.
    """

    def make(checkpoint: Checkpoint, run: Callable[[RunRequest], RunResult]) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            asking = replace(recording, answers=Path(folder))
            recorded(checkpoint.path, asking, run, sha256=checkpoint.sha256)
            return archive_of(Path(folder))

    found: list[list[ReferencePredictions]] = []
    if _mentions_predictions(recording.tests.resolve().parent):
        for some in (checkpoints[:1], checkpoints[1:]):  # If the first needs none, no other does.
            found += kept_or_made(some, recording, make=make, read=read_archive, what="answers.zip", on_model=on_model)
            if not any(found):
                return []
    return found


def with_predictions(
    loaded: Sequence[Checkpoint], recording: Recording, file: Path, on_model: Callable[[], object]
) -> tuple[Recording, PanelPredictions | None, PanelPredictions | None]:
    """Return a recording with the models' predictions, the new predictions, and the old ones of `file`.

    The new predictions are completed with the old ones, and written to the user's cache for the recording. If the tests
    need none, the recording does not change. Raises `InputError` if tests could not run or requested different images
    for different models. For a part of the families, it also refuses a missing file and one of other thresholds.
    """
    checks, old = recording.checks, None
    partly = bool(recording.families)
    needed = partly and checks.panel_predictions is not None
    if needed and not file.exists():
        raise PanelError(
            f"{file}: is missing, but thresholds of {checks.path} were made with it; bring it back, or calibrate all "
            "families"
        )
    try:
        old = read_panel_predictions(file) if file.exists() else None
        if needed and old:
            checks.expect_panel_predictions(file, old.sha256)
    except InputError:
        if partly:
            raise
    found = record_predictions(loaded, recording, on_model)
    models = [each.model_sha256 for each in loaded]
    new = combined(checks.data.sha256, checks.data.n, models, found) if found else None
    if new is None:
        return recording, None, old
    new = merged(new, old)
    content = new.as_bytes()
    new = replace(new, sha256=hashlib.sha256(content).hexdigest())
    path = user_folder("measured") / f"{new.sha256}.predictions.npz"
    write_atomically(path, content)
    return replace(recording, panel_predictions=path), new, old


def _mentions_predictions(project: Path) -> bool:
    """Return whether code of the project has a name of `PANEL_FIXTURES`; pytest knows the tests that take one."""
    for place, folders, names in os.walk(project):
        folders[:] = [name for name in folders if name[0] != "." and not Path(place, name, "pyvenv.cfg").exists()]
        for code in (Path(place, name) for name in names if name.endswith(".py")):
            if any(name.encode() in code.read_bytes() for name in PANEL_FIXTURES):
                return True
    return False


def share(checks: Path, new: PanelPredictions | None, old: PanelPredictions | None) -> list[str]:
    """Write the hash of new panel predictions into the checks files beside this one that declare the old ones.

    Returns a line on each. A file does not change if its thresholds would; its line then says so.
    """
    if new is None or old is None or old.sha256 == new.sha256:
        return []
    lines, before, after = [], old.sha256.encode(), new.sha256.encode()
    for path in sorted(checks.parent.glob("*.toml")):
        if path.resolve() == checks.resolve() or before not in path.read_bytes():
            continue
        if not repeats(new, old):
            lines.append(f"{path}: its thresholds were made with other panel predictions; calibrate it too")
            continue
        with locked(path.resolve()):
            Output(path, CHECKS).write(path.read_bytes().replace(before, after))
        lines.append(f"{path}: shares the panel predictions and now names the new file; its thresholds stay")
    return lines
