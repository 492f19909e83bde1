"""Faults planted in serving pipelines, and pipelines without one.

They are judged as `stress-harness skew` judges. Run `python -m benchmarks.skew`. It skips the
results that `results.json` has.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from benchmarks.runner import fashion_mnist, few, missed, option, run, status
from benchmarks.skew.faults import faults, pairs
from benchmarks.skew.measurements import add, measure_planted, read_results
from benchmarks.skew.report import Results, goals, write_page
from harness.base.cache import Store
from harness.data import LabelledImages, stratified_sample
from harness.features.skew.diagnosis import diagnosis
from harness.inference import RoleModel, open_model

RESULTS = Path(__file__).parent / "results.json"
IMAGES = few(1_500, 100)
SHIPPED = Path("models/augmented.safetensors")
NETWORKS = (SHIPPED, *sorted(Path("models/panel").glob("seed-*.safetensors")))[: few(21, 2)]
BATCHES = (7, 64, 500)[: few(3, 1)]
"""Batches that a server may predict in.

The harness has others, folds batch norms and screens in bfloat16.
"""


def main(*, report: bool) -> int:
    """Measure the missing values, write results and page, and return 1 below the goals."""
    results = read_results(RESULTS)
    if not report:
        images = stratified_sample(fashion_mnist("test"), IMAGES)
        model = open_model(SHIPPED, images, cache=Store.of_user())
        measure_planted(RESULTS, results, model, images, faults)
        _measure_identical(images, results)
        measure_planted(RESULTS, results, model, images, pairs, kind="pairs")
    write_page(results)
    print("\n".join(missed(goals(results))) or "all goals are reached")
    return status(missed(goals(results)))


def _measure_identical(images: LabelledImages, results: Results) -> None:
    done = {(row["network"], row["batch"]) for row in results["identical"]}
    for path in NETWORKS:
        wanted = [batch for batch in BATCHES if (path.stem, batch) not in done]
        model = open_model(path, images, cache=Store.of_user()) if wanted else None
        for batch in wanted if model else ():
            found = diagnosis(model, images, _served(model, images, batch))
            row = {
                "network": path.stem,
                "batch": batch,
                "outcome": found.outcome,
                "changed": found.reference.changed,
            }
            add(RESULTS, results, "identical", row)


def _served(model: RoleModel, images: LabelledImages, batch: int) -> np.ndarray:
    """Return the classes that a server predicts with the saved network, in its batches."""
    with torch.inference_mode():
        parts = [
            model.classifier.plain(part).argmax(dim=1)
            for part in (images.pixels.float() / 255).split(batch)
        ]
    return np.asarray(torch.cat(parts).numpy())


COMMANDS = {"": (main, option("--report", action="store_true", help="only write the page anew"))}

if __name__ == "__main__":
    sys.exit(run(COMMANDS))
