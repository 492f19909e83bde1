"""Measurements of the benchmark: each fault served, diagnosed and kept, so a run resumes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from benchmarks.skew.report import LEAST_CHANGED
from harness.base.files import write_atomically
from harness.inference.serving import model_serving, served_predictions
from harness.run.skew import diagnosis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from benchmarks.skew.faults import Fault
    from harness.data import LabelledImages
    from harness.data.serving.served import Serving
    from harness.inference import RoleModel

Results = dict[str, list[dict[str, Any]]]


def read_results(path: Path) -> Results:
    """Return the results in a file; a missing file has no rows."""
    empty: Results = {"faults": [], "identical": [], "stages": []}
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
    for fault in planted(serving):
        if fault.name in done:
            continue
        served = served_predictions(model, serving, fault.pipeline).predicted
        row = {"fault": fault.name, "cause": list(fault.cause), "listed": fault.listed}
        row["changed"] = int((served != before).sum())
        if row["changed"] >= LEAST_CHANGED:
            found = diagnosis(model, images, served)
            row |= {"outcome": found.outcome, "named": found.named, "causes": [list(each) for each in found.causes]}
            row["explained"] = found.best.explains.net if found.best else 0.0
        results["faults"].append(row)
        keep(path, results, row)
