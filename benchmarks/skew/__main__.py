"""Faults planted in serving pipelines, and pipelines without one, judged as `stress-harness skew` judges.

Run `python -m benchmarks.skew`. It skips the results that `results.json` has.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from benchmarks.skew.faults import faults, pairs
from benchmarks.skew.measurements import keep, measure_faults, measure_pairs, read_results
from benchmarks.skew.report import goals, write_page
from benchmarks.smoke import fashion_mnist, few, run, status
from harness.base.cache import Store
from harness.data import stratified_sample
from harness.features.skew.diagnosis import diagnosis
from harness.inference import open_model

if TYPE_CHECKING:
    from benchmarks.skew.measurements import Results
    from harness.data import LabelledImages
    from harness.inference import RoleModel

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
IMAGES = few(1_500, 150)
SHIPPED = Path("models/augmented.safetensors")
NETWORKS = (SHIPPED, *sorted(Path("models/panel").glob("seed-*.safetensors")))[: few(21, 2)]
BATCHES = (7, 64, 500)[: few(3, 1)]
"""Batches that a server may predict in; the harness has others, folds batch norms and screens in bfloat16."""


def main() -> int:
    """Measure what is missing, write results and page, and return 1 where less is reached than wanted."""
    results = read_results(RESULTS)
    images = stratified_sample(fashion_mnist("test"), IMAGES)
    model = open_model(SHIPPED, images, cache=Store.of_user())
    measure_faults(RESULTS, results, model, images, faults)
    _measure_identical(images, results)
    measure_pairs(RESULTS, results, model, images, pairs)
    write_page(HERE / "README.md", results)
    missed = [f"{wanted}: {reached}" for wanted, reached, good in goals(results) if not good]
    print("\n".join(missed) or "all goals are reached")
    return status(missed)


def _measure_identical(images: LabelledImages, results: Results) -> None:
    done = {(row["network"], row["batch"]) for row in results["identical"]}
    for path in NETWORKS:
        wanted = [batch for batch in BATCHES if (path.stem, batch) not in done]
        model = open_model(path, images, cache=Store.of_user()) if wanted else None
        for batch in wanted if model else ():
            found = diagnosis(model, images, _served(model, images, batch))
            row = {"network": path.stem, "batch": batch, "outcome": found.outcome, "changed": found.reference.changed}
            results["identical"].append(row)
            keep(RESULTS, results, row)


def _served(model: RoleModel, images: LabelledImages, batch: int) -> np.ndarray:
    """Return the classes that a server predicts with the network as it was saved, in its batches."""
    with torch.inference_mode():
        parts = [model.classifier.plain(part).argmax(dim=1) for part in (images.pixels.float() / 255).split(batch)]
    return np.asarray(torch.cat(parts).numpy())


if __name__ == "__main__":
    sys.exit(run(main))
