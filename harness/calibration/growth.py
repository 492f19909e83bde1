"""Growth of a panel by use: accepted retrainings of one recipe join it, and its thresholds are set anew."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.errors import PanelError, some_of
from harness.base.files import write_atomically
from harness.calibration.calibrate import calibrate
from harness.calibration.panel import read_panel
from harness.checks import read_checks
from harness.run.request import model_spec

if TYPE_CHECKING:
    from harness.calibration.calibrate import CalibrationRequest
    from harness.calibration.panel import Panel
    from harness.run.settings import ModelSettings

COPY = "accepted-"
"""Beginning of the name of a model that is kept for a panel."""
GROWN = 8
"""Number of reference models up to which a panel of kept models grows by itself."""
APART = 1 / 3
"""Fewest changed predictions between two trainings of a recipe, as a share of the reference models' mean errors.

Between reference models the smallest share is 0.45 on the shipped panel. Exports and quantized copies have 0.09 at
most, a copy with batch-norm statistics of other images 0.25, one with 5% noise on its weights 0.21."""


def keep_for_panel(model: Path, panel: Path) -> Path:
    """Copy a model into the folder of a panel's file, named by its content, and return the copy."""
    content = model.read_bytes()
    copy = panel.with_suffix("") / f"{COPY}{hashlib.sha256(content).hexdigest()[:12]}{model.suffix}"
    if not copy.exists():
        write_atomically(copy, content)
    return copy


def grows_by_use(panel: Panel) -> bool:
    """Return whether a panel has kept models alone, and few of them."""
    return len(panel.models) < GROWN and all(Path(model.path).name.startswith(COPY) for model in panel.models)


def grow(accepted: Path, request: CalibrationRequest, settings: ModelSettings, *, wanted: bool | None) -> list[str]:
    """Calibrate with an accepted model as one more reference model, and return a summary.

    The models of the panel are those of the file. `wanted` None lets a panel grow that `grows_by_use`. Raises
    `InputError`, and changes no threshold, for a panel that cannot be measured, and for a model that is no other
    training of the recipe.

    Only models that pass the gate join, which could narrow the spread. In simulated panels of digits, the
    gate refused one of 141 sound models. Networks outside then failed as often as with a random panel.
    """
    checks = read_checks(request.checks_path)
    path, _ = request.paths(checks)
    if wanted is None and not path.exists():
        return []
    panel = read_panel(path, checks)
    if not (grows_by_use(panel) if wanted is None else wanted):
        return []
    members = [model_spec(model.path) for model in panel.models]
    _expect_retraining(accepted, members, settings)
    copy = keep_for_panel(accepted, path)
    try:
        lines = calibrate(replace(request, checkpoints=(*members, copy)))
    except BaseException:
        copy.unlink()
        raise
    now = read_checks(request.checks_path)
    before, after = ({check.id for check in each.checks if check.panel} for each in (checks, now))
    gained = f"{len(after - before)} checks got a threshold" + (": " if after - before else "")
    names = some_of([check.id for check in now.checks if check.id in after - before])
    return [f"the panel has {len(members) + 1} reference models now; {gained}{names}", *lines]


def _expect_retraining(accepted: Path, members: list[Path | str], settings: ModelSettings) -> None:
    """Raise `InputError` for a model with almost the predictions of a reference model, as of a copy of it."""
    images = settings.images()
    new = settings.open(accepted, images).predict(images)
    known = {member: settings.open(member, images).predict(images) for member in members}
    least = APART * sum(int((~each.correct).sum()) for each in known.values()) / len(known)
    for member, predictions in known.items():
        if (changed := int((predictions.predicted != new.predicted).sum())) < least:
            raise PanelError(
                f"{accepted}: no reference model, since only {changed} of {len(images)} predictions differ from "
                f"{member}; between two trainings {least:.0f} or more differ. Exports and fine-tuned copies stay out"
            )
