"""Measurements of the benchmark: each fault served, diagnosed and kept, so a run resumes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.runner import few, keep, read
from benchmarks.skew.faults import Fault
from benchmarks.skew.report import LEAST_CHANGED, Results
from harness.data import LabelledImages
from harness.data.serving import Serving
from harness.features.skew.diagnosis import diagnosis
from harness.inference import RoleModel
from harness.inference.serving import model_serving, served_predictions


def read_results(path: Path) -> Results:
    """Return the results in a file; a missing file has no rows."""
    return {"faults": [], "pairs": [], "identical": [], "stages": []} | read(path, {})


def add(path: Path, results: Results, kind: str, row: dict[str, Any]) -> None:
    """Write the results with a row more of this kind, and print it."""
    results[kind].append(row)
    keep(path, {key: rows for key, rows in results.items() if rows})
    print(row, flush=True)


def measure_planted(
    path: Path,
    results: Results,
    model: RoleModel,
    images: LabelledImages,
    planted: Callable[[Serving], Iterable[tuple[Fault, ...]]],
    *,
    kind: str = "faults",
) -> None:
    """Serve the images by each planted fault that has no result, and diagnose the answers.

    The fault is the last of a tuple; a pair stands behind its two faults. Predictions that a fault
    changes are counted from those of the reference or of a fault alone, whichever are nearest.
    """
    serving, done = model_serving(model, images), {row["fault"] for row in results[kind]}

    def served(fault: Fault) -> np.ndarray:
        return served_predictions(model, serving, fault.pipeline).predicted

    before = model.predict(images).predicted
    for *parts, fault in islice(planted(serving), 0, None, few(1, 12)):
        if fault.name not in done:
            others = [before, *map(served, parts)]
            add(path, results, kind, _diagnosed(model, images, fault, served(fault), others))


def _diagnosed(
    model: RoleModel,
    images: LabelledImages,
    fault: Fault,
    served: np.ndarray,
    others: Sequence[np.ndarray],
) -> dict[str, Any]:
    """Return the row of a fault.

    It has a diagnosis if enough of its predictions differ from each of the others.
    """
    row: dict[str, Any] = {"fault": fault.name, "cause": list(fault.cause), "listed": fault.listed}
    row["changed"] = min(int((served != other).sum()) for other in others)
    if row["changed"] >= LEAST_CHANGED:
        found = diagnosis(model, images, served)
        row |= {
            "outcome": found.outcome,
            "named": found.named,
            "causes": [list(each) for each in found.causes],
        }
        row["explained"] = found.best.explains.net if found.best else 0.0
    return row
