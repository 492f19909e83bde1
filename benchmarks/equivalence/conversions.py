"""Thresholds from int8 conversions of the shipped panel at several settings, beside bad conversions at each.

Run `python -m benchmarks.equivalence.conversions` with the extras `onnx` and `bench`, and the training images. A
setting is a way to quantize. Well calibrated conversions of eight reference models give its thresholds, by the rule of
`calibrate --convert`. Values in `conversions.json` are not measured again.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.equivalence.exports import BATCH, dimmed, int8, noise, of_one_class
from benchmarks.equivalence.networks import SHIPPED, of_training
from benchmarks.pages import write_between
from benchmarks.smoke import fashion_mnist, few, run
from harness.base.files import write_atomically
from harness.calibration.panel import Panel, ReferenceModel
from harness.calibration.thresholds import thresholds_of
from harness.data.images import unit_range
from harness.inference import Predictions
from harness.measures import METRICS
from harness.measures.changed_predictions import (
    calibration_error_change,
    confidence_moved,
    confidence_moved_p99,
    correct_predictions_lost,
    predictions_changed,
    worst_class_correct_predictions_lost,
    worst_class_predictions_changed,
)
from harness.measures.panel.threshold import PanelCheck
from harness.perturb import IDENTITY

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from benchmarks.equivalence.exports import Maker
    from benchmarks.equivalence.networks import Material
    from harness.data import LabelledImages
    from harness.measures.panel.threshold import Calibrated

HERE = Path(__file__).parent
RESULTS = HERE / "conversions.json"
PANEL = sorted(Path("models/panel").glob("seed-*.safetensors"))[: few(8, 3)]
IMAGES, CALIBRATION = few(2_000, 200), few(BATCH, 50)
"""Test images, the first ones, and training images that a conversion is calibrated with."""
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "per tensor": {"per_channel": False},
    "per channel": {"per_channel": True},
    "per channel, 99.9th percentile": {"per_channel": True, "percentile": 99.9},
}
"""Ways to quantize, by name; the ranges of activations are whole, or cut at a percentile."""
BAD = {"noise": noise, "dimmed images": dimmed, "one class": of_one_class}
"""Wrong calibration images, by name."""
BEGIN, END = "<!-- conversions -->", "<!-- end of conversions -->"
MEASURES = {
    "predictions_changed": predictions_changed,
    "worst_class_predictions_changed": worst_class_predictions_changed,
    "correct_predictions_lost": correct_predictions_lost,
    "worst_class_correct_predictions_lost": worst_class_correct_predictions_lost,
    "confidence_moved": confidence_moved,
    "confidence_moved_p99": confidence_moved_p99,
    "calibration_error_change": calibration_error_change,
}
"""The metrics of the family on clean images, by name."""
WELL = "training images"
Values = dict[str, float]


def measured(of: Material, make: Maker, images: LabelledImages, folder: Path) -> Values:
    """Convert a model, and return its distances from the original on clean images, by metric."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(make(of, folder / "artifact"), settings)
    parts = unit_range(images.pixels).split(BATCH)
    with torch.no_grad():
        before = np.concatenate([of.network(part).numpy() for part in parts])
    after = np.concatenate([session.run(None, {"pixels": part.numpy()})[0] for part in parts])
    original, artifact = (Predictions(logits, images, IDENTITY) for logits in (before, after))
    return {name: round(float(measure(artifact, original).value), 6) for name, measure in MEASURES.items()}


def thresholds(healthy: Iterable[Values]) -> list[Calibrated]:
    """Return the thresholds by the values of healthy conversions, as `calibrate` computes them."""
    checks = tuple(PanelCheck(name, "equivalence", name, METRICS[name].unit, "at_most", IMAGES) for name in MEASURES)
    models = tuple(ReferenceModel(str(seed), str(seed), seed, values) for seed, values in enumerate(healthy))
    return thresholds_of(Panel("", IMAGES, {}, checks, models), {})


def failed(values: Values, limits: Sequence[Calibrated]) -> list[str]:
    """Return the metrics whose threshold the values do not keep."""
    return [each.check.id for each in limits if not each.informational and not each.holds(values[each.check.id])]


def _rows(setting: str, found: Mapping[str, Values]) -> list[str]:
    """Return a row for each conversion of the shipped model by one setting, the well calibrated one first."""
    limits = thresholds(values for name, values in found.items() if name.startswith("seed"))
    gating = [each for each in limits if not each.informational]
    rows = []
    for name in (WELL, *BAD):
        values, missed = found[name], failed(found[name], limits)
        shown = [
            f"{values[each]:.1%} (at most {limit.threshold:.1%})"
            for each in ("predictions_changed", "confidence_moved")
            for limit in limits
            if limit.check.id == each
        ]
        outcome = f"fails {len(missed)} of {len(gating)} checks" if missed else "passes"
        rows.append(f"| {setting} | {name} | {' | '.join(shown)} | {outcome} |")
    return rows


def write_page(page: Path, results: Mapping[str, Mapping[str, Values]]) -> None:
    """Write the table into the page, of the settings that are wholly measured."""
    head = ["| int8 | calibrated on | predictions changed | confidence moved | outcome |", "| --- " * 5 + "|"]
    whole = {setting: found for setting, found in results.items() if {WELL, *BAD} <= set(found)}
    body = [row for setting, found in whole.items() for row in _rows(setting, found)]
    write_between(page, BEGIN, END, "\n".join([*head, *body]))


def read() -> dict[str, dict[str, Values]]:
    """Return the values by metric of each conversion, by setting and name."""
    found: dict[str, dict[str, Values]] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return found


def main() -> int:
    """Measure what is missing, and write results and page."""
    images = fashion_mnist("test").take(torch.arange(IMAGES))
    train = fashion_mnist("train").take(torch.arange(CALIBRATION))
    results = read()
    with tempfile.TemporaryDirectory() as folder:
        for setting, how in SETTINGS.items():
            wanted = {
                **{path.stem: (path, int8(**how)) for path in PANEL},
                WELL: (SHIPPED, int8(**how)),
                **{name: (SHIPPED, int8(calibration, **how)) for name, calibration in BAD.items()},
            }
            found = results.setdefault(setting, {})
            for name, (path, make) in wanted.items():
                if name not in found:
                    found[name] = measured(of_training(path, train), make, images, Path(folder))
                    print(setting, name, found[name]["predictions_changed"], flush=True)
                    write_atomically(RESULTS, f"{json.dumps(results, indent=0)}\n".encode())
    write_page(HERE / "README.md", results)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
