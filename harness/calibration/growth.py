"""Growth of a panel by use: accepted retrainings of one recipe join it.

Its thresholds are then set anew.
"""

from __future__ import annotations

import hashlib
import math
from contextlib import contextmanager
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import InputError, PanelError, some_of
from harness.base.files import write_atomically
from harness.calibration.calibrate import calibrate
from harness.calibration.panel import read_panel, readable_panel
from harness.checks import read_checks
from harness.networks.declared import load_model
from harness.run.request import model_spec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.calibration.calibrate import CalibrationRequest
    from harness.calibration.panel import Panel
    from harness.run.settings import ModelSettings

COPY = "accepted-"
"""Beginning of the name of a model that is kept for a panel."""
GROWN = 8
"""Number of reference models up to which a panel of kept models grows by itself."""
OF_ERRORS, OF_DISTANCE = 1 / 8, 1 / 2
"""Shares of the reference models' mean errors, and of the smallest distance between two of them."""


@contextmanager
def kept_for_panel(model: Path, panel: Path) -> Iterator[Path]:
    """Copy a model into the folder of a panel's file, named by its content, and yield the copy.

    Yields an ONNX file with weights in other files itself. An error removes a new copy that the
    panel does not name.
    """
    content = model.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    if model.suffix.lower() == ".onnx" and load_model(model).sha256 != sha256:
        yield model
        return

    copy = panel.with_suffix("") / f"{COPY}{sha256[:12]}{model.suffix}"
    is_new = not copy.exists()
    if is_new:
        write_atomically(copy, content)
    try:
        yield copy
    except BaseException:
        written = readable_panel(panel)
        paths = {model.path for model in written.models} if written else set()
        if is_new and copy.as_posix() not in paths:
            copy.unlink()
        raise


def fewest_changes(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Return the fewest changed predictions between reference models, and one more, at least 1.

    `predicted` is (K, N) classes of K models. The result is the larger of an eighth of their mean
    errors and of half the smallest distance between two of them.

    Exports and quantized copies of the shipped model change at most 0.09 of its errors. A copy that
    is fine-tuned, or with noise on its weights, changes 0.2 to 0.25. Only the distance keeps such
    copies out, from two reference models on. It is 0.22 of the errors for the shipped panel.
    """
    apart = [float((one != other).sum()) for one, other in combinations(predicted, 2)]
    errors = float((predicted != labels).sum(axis=1).mean())
    return max(1.0, OF_ERRORS * errors, OF_DISTANCE * min(apart, default=0.0))


def grows_by_use(panel: Panel) -> bool:
    """Return whether a panel has kept models alone, and few of them."""
    if len(panel.models) >= GROWN:
        return False
    return all(Path(model.path).name.startswith(COPY) for model in panel.models)


def grow(
    accepted: Path, request: CalibrationRequest, settings: ModelSettings, *, wanted: bool | None
) -> list[str]:
    """Calibrate with an accepted model as one more reference model, and return a summary.

    Only models that pass the gate join, which could narrow the spread. In simulated panels of
    digits, the gate refused one of 141 healthy models. Networks outside then failed as often as
    with a random panel.

    Args:
        accepted: The accepted model.
        request: The calibration; the models of the panel are those of its file.
        settings: The way models are opened.
        wanted: Whether the panel shall grow; None lets a panel grow that `grows_by_use`.

    Raises:
        InputError: The panel cannot be measured, or the model is no other training of the recipe.
            No threshold changes.
    """
    checks = read_checks(request.checks_path)
    path, _ = request.paths(checks)
    if wanted is None and not path.exists():
        return []
    panel = read_panel(path, checks)
    if wanted is None:
        wanted = grows_by_use(panel)
    if not wanted:
        return []

    members = [model_spec(model.path) for model in panel.models]
    _expect_retraining(accepted, members, settings)
    with kept_for_panel(accepted, path) as copy:
        lines = calibrate(replace(request, checkpoints=(*members, copy)))

    judged_before = {check.id for check in checks.checks if check.binding}
    calibrated = read_checks(request.checks_path).checks
    gained = [check.id for check in calibrated if check.binding and check.id not in judged_before]
    summary = (
        f"the panel has {len(members) + 1} reference models now; "
        f"{len(gained)} checks got a threshold"
    )
    if gained:
        summary += f": {some_of(gained)}"
    return [summary, *lines]


def finish_growth(request: CalibrationRequest) -> list[str]:
    """Set the thresholds of a panel that grew before its checks file was written.

    A crash between the two files leaves this state. Without it, nothing is done and the returned
    summary is empty. Raises `InputError` for a panel that cannot be measured.
    """
    try:
        checks = read_checks(request.checks_path)
        path, _ = request.paths(checks)
        panel = read_panel(path, checks)
    except InputError:  # The run of the gate says more.
        return []

    rows = [check.panel for check in checks.checks if check.panel and not check.panel.conversions]
    models_behind_rows = max((row.reference_models or 0 for row in rows), default=0)
    if not 0 < models_behind_rows < len(panel.models):
        return []

    members = tuple(model_spec(model.path) for model in panel.models)
    lines = calibrate(replace(request, checkpoints=members))
    return [
        f"an earlier acceptance was interrupted: {path} has {len(members)} reference models, "
        f"and the thresholds of {checks.path} came from {models_behind_rows}; they are set anew",
        *lines,
    ]


def _expect_retraining(accepted: Path, members: list[Path | str], settings: ModelSettings) -> None:
    """Raise `InputError` for a model with almost the predictions of a reference model.

    It would be a copy of that model.
    """
    images = settings.images()
    candidate = settings.open(accepted, images).predict(images)
    predicted_by_members = np.stack(
        [settings.open(member, images).predict(images).predicted for member in members]
    )
    least = fewest_changes(predicted_by_members, candidate.labels)
    for member, predicted in zip(members, predicted_by_members, strict=True):
        changed = int((predicted != candidate.predicted).sum())
        if changed < least:
            raise PanelError(
                f"{accepted}: no reference model, since only {changed} of {len(images)} "
                f"predictions differ from {member}; expected at least {math.ceil(least)}, "
                "as between two trainings. Copies stay out"
            )
