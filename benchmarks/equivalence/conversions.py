"""Thresholds from int8 conversions of the shipped panel at several settings.

Bad conversions stand beside them. Run `python -m benchmarks.equivalence.conversions` with the
extras `onnx` and `bench`, and the training images. A setting is a way to quantize. Well calibrated
conversions of eight reference models give its thresholds, by the rule of `calibrate --convert`.
Values in `conversions.json` are not measured again.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.equivalence.exports import BATCH, Maker, dimmed, int8, noise, of_one_class
from benchmarks.equivalence.networks import PANEL, SHIPPED, Material, of_training
from benchmarks.runner import fashion_mnist, few, keep, option, read, run, table, write_between
from harness.calibration.panel import Panel, ReferenceModel
from harness.calibration.thresholds import thresholds_of
from harness.data import LabelledImages
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
from harness.measures.panel.threshold import Calibrated, PanelCheck
from harness.perturb import IDENTITY

README, RESULTS = (Path(__file__).parent / name for name in ("README.md", "conversions.json"))
IMAGES, CALIBRATION = few(2_000, 100), few(BATCH, 50)
"""Test images, the first ones, and training images that a conversion is calibrated with."""
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "per tensor": {"per_channel": False},
    "per channel": {"per_channel": True},
    "per channel, 99.9th percentile": {"per_channel": True, "percentile": 99.9},
}
"""Ways to quantize, by name; the ranges of activations are whole, or cut at a percentile."""
BAD = {"noise": noise, "dimmed images": dimmed, "one class": of_one_class}
"""Wrong calibration images, by name."""
MEASURES = {
    measure.__name__: measure
    for measure in (
        predictions_changed,
        worst_class_predictions_changed,
        correct_predictions_lost,
        worst_class_correct_predictions_lost,
        confidence_moved,
        confidence_moved_p99,
        calibration_error_change,
    )
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
    return {
        name: round(float(measure(artifact, original).value), 6)
        for name, measure in MEASURES.items()
    }


def thresholds(healthy: Iterable[Values]) -> list[Calibrated]:
    """Return the thresholds by the values of healthy conversions, as `calibrate` computes them."""
    checks = tuple(
        PanelCheck(name, "equivalence", name, METRICS[name].unit, "at_most", IMAGES)
        for name in MEASURES
    )
    models = tuple(
        ReferenceModel(str(seed), str(seed), seed, values) for seed, values in enumerate(healthy)
    )
    return thresholds_of(Panel("", IMAGES, {}, checks, models))


def failed(values: Values, limits: Sequence[Calibrated]) -> list[str]:
    """Return the metrics whose threshold the values do not keep."""
    return [
        each.check.id
        for each in limits
        if not each.informational and not each.holds(values[each.check.id])
    ]


def _rows(setting: str, found: Mapping[str, Values]) -> Iterator[tuple[str, ...]]:
    """Yield a row for each conversion of the shipped model by one setting.

    The well calibrated one comes first.
    """
    limits = thresholds(values for name, values in found.items() if name.startswith("seed"))
    at_most, gating = (
        {each.check.id: each.threshold for each in limits},
        sum(not each.informational for each in limits),
    )
    for name in (WELL, *BAD):
        values, missed = found[name], failed(found[name], limits)
        shown = (
            f"{values[each]:.1%} (at most {at_most[each]:.1%})"
            for each in ("predictions_changed", "confidence_moved")
        )
        yield (
            setting,
            name,
            *shown,
            f"fails {len(missed)} of {gating} checks" if missed else "passes",
        )


def write_page(results: Mapping[str, Mapping[str, Values]]) -> None:
    """Write the table into the page, of the settings that are wholly measured."""
    whole = {setting: found for setting, found in results.items() if {WELL, *BAD} <= set(found)}
    rows = [row for setting, found in whole.items() for row in _rows(setting, found)]
    head = ("int8", "calibrated on", "predictions changed", "confidence moved", "outcome")
    write_between(README, "conversions", table(head, rows))


def main(*, report: bool) -> None:
    """Measure what is missing, and write results and page."""
    results: dict[str, dict[str, Values]] = read(RESULTS, {})
    if not report:
        _measure(results)
    write_page(results)


def _measure(results: dict[str, dict[str, Values]]) -> None:
    images = fashion_mnist("test").take(torch.arange(IMAGES))
    train = fashion_mnist("train").take(torch.arange(CALIBRATION))
    with tempfile.TemporaryDirectory() as folder:
        for setting, how in SETTINGS.items():
            wanted = {
                **{path.stem: (path, int8(**how)) for path in PANEL[: few(8, 3)]},
                WELL: (SHIPPED, int8(**how)),
                **{name: (SHIPPED, int8(calibration, **how)) for name, calibration in BAD.items()},
            }
            found = results.setdefault(setting, {})
            for name, (path, make) in wanted.items():
                if name not in found:
                    found[name] = measured(of_training(path, train), make, images, Path(folder))
                    print(setting, name, found[name]["predictions_changed"], flush=True)
                    keep(RESULTS, results, indent=0)


COMMANDS = {"": (main, option("--report", action="store_true", help="only write the page anew"))}

if __name__ == "__main__":
    sys.exit(run(COMMANDS))
