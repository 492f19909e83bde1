"""Measurements of the benchmark: each fault served, diagnosed and kept, so a run resumes."""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING, Any

from benchmarks.skew.report import LEAST_CHANGED
from benchmarks.smoke import few
from harness.base.files import write_atomically
from harness.features.skew.diagnosis import diagnosis
from harness.inference.serving import model_serving, served_predictions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    import numpy as np

    from benchmarks.skew.faults import Fault
    from harness.data import LabelledImages
    from harness.data.serving.served import Serving
    from harness.inference import RoleModel

Results = dict[str, list[dict[str, Any]]]


def read_results(path: Path) -> Results:
    """Return the results in a file; a missing file has no rows."""
    empty: Results = {"faults": [], "pairs": [], "identical": [], "stages": []}
    return empty | (json.loads(path.read_text()) if path.exists() else {})


def keep(path: Path, results: Results, row: dict[str, Any]) -> None:
    """Write the results with their newest row, and print it."""
    write_atomically(path, (json.dumps({key: rows for key, rows in results.items() if rows}, indent=1) + "\n").encode())
    print(row, flush=True)


def measure_faults(
    path: Path,
    results: Results,
    model: RoleModel,
    images: LabelledImages,
    planted: Callable[[Serving], Iterable[Fault]],
) -> None:
    """Serve the images by each planted fault that has no result, and diagnose the answers."""
    serving, done = model_serving(model, images), {row["fault"] for row in results["faults"]}
    before = model.predict(images).predicted
    for fault in islice(planted(serving), 0, None, few(1, 12)):
        if fault.name not in done:
            results["faults"].append(_diagnosed(model, serving, fault, [before]))
            keep(path, results, results["faults"][-1])


def measure_pairs(
    path: Path,
    results: Results,
    model: RoleModel,
    images: LabelledImages,
    planted: Callable[[Serving], Iterable[tuple[Fault, Fault, Fault]]],
) -> None:
    """Serve the images by each pair of faults that has no result, and diagnose the answers.

    A pair changes as many predictions as it does from those of the reference and of each fault alone, whichever is
    nearest.
    """
    serving, done = model_serving(model, images), {row["fault"] for row in results["pairs"]}
    before = model.predict(images).predicted
    for first, second, both in islice(planted(serving), 0, None, few(1, 12)):
        if both.name not in done:
            alone = [served_predictions(model, serving, fault.pipeline).predicted for fault in (first, second)]
            results["pairs"].append(_diagnosed(model, serving, both, [before, *alone]))
            keep(path, results, results["pairs"][-1])


def _diagnosed(model: RoleModel, serving: Serving, fault: Fault, others: Sequence[np.ndarray]) -> dict[str, Any]:
    """Return the row of a fault, with a diagnosis if enough of its predictions differ from each of the others."""
    served = served_predictions(model, serving, fault.pipeline).predicted
    row: dict[str, Any] = {"fault": fault.name, "cause": list(fault.cause), "listed": fault.listed}
    row["changed"] = min(int((served != other).sum()) for other in others)
    if row["changed"] >= LEAST_CHANGED:
        found = diagnosis(model, serving.images, served)
        row |= {"outcome": found.outcome, "named": found.named, "causes": [list(each) for each in found.causes]}
        row["explained"] = found.best.explains.net if found.best else 0.0
    return row
