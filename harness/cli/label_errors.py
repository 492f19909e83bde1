"""Suspected label errors, and whose errors a model makes: by the predictions of a reference panel."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.base.errors import InputError, NotApplicableError, printable

if TYPE_CHECKING:
    import numpy as np

    from harness.data import LabelledImages
    from harness.inference import Predictions, RoleModel
    from harness.measures.panel.predictions import PanelPredictions

CHECKS = Path("stress_tests/checks.toml")
_SHOWN = 20
"""Suspected label errors that the terminal shows; the file has all."""


def chosen_panel_predictions(path: Path | None, images: LabelledImages, model: RoleModel) -> PanelPredictions | None:
    """Return the panel's predictions of the images, all of the split, without those of the model itself.

    They are those of `path`, or else of the file that the checks file names. None if no file is named, or if that one
    cannot be used; a note says why. Raises `InputError` for a `path` that cannot be used.
    """
    from harness.checks import read_checks
    from harness.measures.panel.predictions import read_panel_predictions

    try:
        checks = read_checks(CHECKS) if CHECKS.exists() and path is None else None
        found = checks.panel_predictions if checks else path
        if found is None or not (path or found.exists()):
            return None
        panel_predictions = read_panel_predictions(found)
        if checks:
            checks.expect_panel_predictions(found, panel_predictions.sha256)
        return _about(images, panel_predictions.without(model.model_sha256), found)
    except InputError as error:
        if path is not None:
            raise
        print(f"note: whose errors these are is not told: {printable(error)}", file=sys.stderr)
        return None


def _about(images: LabelledImages, panel_predictions: PanelPredictions, path: Path) -> PanelPredictions:
    """Return what was read from a file; raises `InputError` that names it unless it is about all of the images."""
    from harness.measures.panel.label_errors import expect_asked

    try:
        panel_predictions.expect(images)
        expect_asked(images, panel_predictions)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return panel_predictions


def label_errors_of(
    predictions: Predictions, panel_predictions: PanelPredictions, labels: np.ndarray, folder: Path
) -> tuple[dict[str, Any], list[str]]:
    """Write the suspected label errors into the folder; return what JSON has of them, and lines for the terminal.

    `labels` are those of the whole split, (S,) int64. Where reference models do not tell, a line says why.
    """
    from harness.base import write_atomically
    from harness.base.records import as_plain
    from harness.measures.panel.label_errors import label_errors, without
    from harness.report.label_errors import label_errors_csv, label_errors_rows, without_in_words
    from harness.report.text import aligned

    try:
        found = label_errors(predictions.images, panel_predictions, labels)
    except NotApplicableError as error:
        return {"label_errors": None, "label_errors_missing": str(error)}, [str(error)]
    path = folder / "label_errors.csv"
    write_atomically(path, label_errors_csv(found, predictions).encode())
    rest = without(predictions, panel_predictions, found)
    shown = label_errors_rows(found)
    lines = [
        f"labels that nearly all of {found.reference_models} reference models agree against: {len(found.rows)} of "
        f"{found.n}"
    ]
    lines += aligned([[str(cell) for cell in row] for row in shown[: _SHOWN + 1]], text=(0, 1, 2)) if found.rows else []
    lines += [f"and {len(found.rows) - _SHOWN} more, in label_errors.csv"] if len(found.rows) > _SHOWN else []
    lines += [without_in_words(rest), f"written: {path}"]
    return {
        "label_errors": found.as_json(),
        "without_label_errors": as_plain(rest),
        "label_errors_file": str(path),
    }, lines
