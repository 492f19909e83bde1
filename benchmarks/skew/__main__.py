"""Faults planted in serving pipelines, and pipelines without one, judged as `stress-harness skew` judges.

Run `python -m benchmarks.skew`. It skips the results that `results.json` has.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.skew.faults import faults
from benchmarks.skew.report import LEAST_CHANGED, goals, write_page
from harness.base import PredictionCache
from harness.base.files import write_atomically
from harness.data import load_images, stratified_sample
from harness.inference import open_model
from harness.inference.serving import model_serving, served_predictions
from harness.run.skew import diagnosis

if TYPE_CHECKING:
    from harness.data import LabelledImages
    from harness.inference import RoleModel

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
IMAGES = 1_500
SHIPPED = Path("models/augmented.safetensors")
NETWORKS = (SHIPPED, *sorted(Path("models/panel").glob("seed-*.safetensors")))
BATCHES = (7, 64, 500)
"""Batches that a server may predict in; the harness has others, folds batch norms and screens in bfloat16."""


def main() -> int:
    """Measure what is missing, write results and page, and return 1 where less is reached than wanted."""
    results: dict[str, list[dict[str, Any]]] = {"faults": [], "identical": []}
    if RESULTS.exists():
        results = json.loads(RESULTS.read_text())
    images = stratified_sample(load_images("fashion-mnist"), IMAGES)
    _measure_faults(images, results)
    _measure_identical(images, results)
    write_page(HERE / "README.md", results)
    missed = [f"{wanted}: {reached}" for wanted, reached, good in goals(results) if not good]
    print("\n".join(missed) or "all goals are reached")
    return 1 if missed else 0


def _measure_faults(images: LabelledImages, results: dict[str, list[dict[str, Any]]]) -> None:
    model = open_model(SHIPPED, images, cache=PredictionCache.of_user())
    serving, done = model_serving(model, images), {row["fault"] for row in results["faults"]}
    before = model.predict(images).predicted
    for fault in faults(serving):
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
        _keep(results, row)


def _measure_identical(images: LabelledImages, results: dict[str, list[dict[str, Any]]]) -> None:
    done = {(row["network"], row["batch"]) for row in results["identical"]}
    for path in NETWORKS:
        wanted = [batch for batch in BATCHES if (path.stem, batch) not in done]
        model = open_model(path, images, cache=PredictionCache.of_user()) if wanted else None
        for batch in wanted if model else ():
            found = diagnosis(model, images, _served(model, images, batch))
            row = {"network": path.stem, "batch": batch, "outcome": found.outcome, "changed": found.reference.changed}
            results["identical"].append(row)
            _keep(results, row)


def _served(model: RoleModel, images: LabelledImages, batch: int) -> np.ndarray:
    """Return the classes that a server predicts with the network as it was saved, in its batches."""
    with torch.inference_mode():
        parts = [model.classifier.plain(part).argmax(dim=1) for part in (images.pixels.float() / 255).split(batch)]
    return np.asarray(torch.cat(parts).numpy())


def _keep(results: dict[str, list[dict[str, Any]]], row: dict[str, Any]) -> None:
    write_atomically(RESULTS, (json.dumps(results, indent=1) + "\n").encode())
    print(row, flush=True)


if __name__ == "__main__":
    sys.exit(main())
