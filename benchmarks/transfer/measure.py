"""Measurement of each network: the checks that `init` writes, by the functions that their stress tests call."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.few.answers import Answers
from benchmarks.few.distances import distances_of
from benchmarks.transfer.network import Lite0, pretrained
from benchmarks.transfer.paths import ANSWERS, HEALTHY_FILE, MEASURED, NETWORKS, OTHERS, PROJECT, TEST
from benchmarks.transfer.project import make_project
from benchmarks.transfer.recipes import HEALTHY, RECIPES
from harness.base.files import write_atomically
from harness.base.records import as_plain
from harness.checks import read_checks
from harness.data import load_images
from harness.inference.predictions import Predictions
from harness.measures import (
    accuracy,
    calibration_error,
    class_difference,
    confident_errors,
    group_accuracy,
    group_difference,
    group_gap,
    invariance,
    negative_log_likelihood,
    worst_group,
)
from harness.measures.metric import packed
from harness.measures.panel.threshold import PanelCheck
from harness.perturb import IDENTITY, HorizontalFlip

if TYPE_CHECKING:
    from harness.checks import Check
    from harness.data import LabelledImages
    from harness.measures import Measurement

AMONG_NETWORKS = frozenset({"consensus", "flips"})
"""Families with values that depend on the reference models."""
INCUMBENT = "regression"
"""Family with values that depend on the incumbent alone."""
_BATCH, _DIGITS = 128, 6


def measure_all() -> None:
    """Measure every network that is trained, and write the files of the benchmark."""
    make_project()
    checks, images = read_checks(PROJECT / "stress_tests/checks.toml"), load_images(f"folder:{TEST}")
    views = [(perturbation, _frozen(images, perturbation)) for perturbation in (IDENTITY, HorizontalFlip())]
    entries: dict[str, list[dict[str, Any]]] = {}
    rows: dict[str, PanelCheck] = {}
    wrong = {}
    network = Lite0().eval()
    made = [recipe for recipe in RECIPES if (NETWORKS / f"{recipe.name}.pth").exists()]
    for recipe in tqdm(made, unit="network", smoothing=0):
        network.load_state_dict(torch.load(NETWORKS / f"{recipe.name}.pth", weights_only=True))
        with torch.inference_mode():
            seen = [Predictions(network.logits(frozen).numpy(), images, moved) for moved, frozen in views]
        wrong[recipe.name] = ~seen[0].correct
        entries[recipe.name] = []
        for check in checks.checks:
            if check.family not in {*AMONG_NETWORKS, INCUMBENT}:
                found = measurement_of(check, *seen)
                rows[check.id] = row_of(check, found)
                entries[recipe.name].append(_entry(check, found))
    MEASURED.mkdir(exist_ok=True)
    sound = [recipe.name for recipe in made if recipe.kind == HEALTHY]
    distances_of(sound, [entries[name] for name in sound]).write(HEALTHY_FILE)
    Answers({repr(IDENTITY): len(images)}, wrong).write(ANSWERS)
    others = {
        "classes": list(images.classes),
        "sizes": np.bincount(images.labels.numpy()).tolist(),
        "budgets": dict(checks.budgets),
        "rows": [as_plain(row) for row in rows.values()],
        "among": [_as_plain(check) for check in checks.checks if check.family in AMONG_NETWORKS],
        "mutants": {
            name: {entry["id"]: round(float(entry["value"]), _DIGITS) for entry in of_one}
            for name, of_one in entries.items()
            if name not in sound
        },
    }
    write_atomically(OTHERS, (json.dumps(others, indent=1) + "\n").encode())


def measurement_of(check: Check, clean: Predictions, flipped: Predictions) -> Measurement:
    """Return what the stress test of a check measures; raises `KeyError` for a metric without one here."""
    keys = check.keys
    of_class, by = check.class_name or "", str(keys.get("by"))
    group, paired_by = str(keys.get("group")), keys.get("paired_by")
    measures = {
        "accuracy": lambda: (
            accuracy(flipped, clean=clean) if check.family == "flip" else accuracy(clean, of_class=check.class_name)
        ),
        "invariance": lambda: invariance(clean, flipped),
        "class_difference": lambda: class_difference(clean, of_class=of_class),
        "group_accuracy": lambda: group_accuracy(clean, by=by, group=group),
        "group_difference": lambda: group_difference(clean, by=by, group=group, paired_by=paired_by),
        "worst_group_accuracy": lambda: worst_group(clean, by=by, least=keys.get("least")),
        "group_gap": lambda: group_gap(clean, by=by, least=keys.get("least")),
        "confident_errors": lambda: confident_errors(clean, above=keys["confidence"]),
        "calibration_error": lambda: calibration_error(clean),
        "negative_log_likelihood": lambda: negative_log_likelihood(clean),
    }
    return measures[check.metric]()


def row_of(check: Check, found: Measurement) -> PanelCheck:
    """Return the row of a panel for a check's measurement."""
    metric = found.metric
    return PanelCheck(check.id, check.family, check.metric, found.unit, metric.direction, found.n, scale=metric.scale)


def _entry(check: Check, found: Measurement) -> dict[str, Any]:
    each = None if found.each is None else packed(np.asarray(found.each))
    return {"id": check.id, "value": found.value, "unit": found.unit.value, "each": each, "rest": found.rest}


def _as_plain(check: Check) -> dict[str, Any]:
    named = {name: getattr(check, name) for name in ("id", "family", "metric")}
    return {**named, "keys": dict(check.keys), "class": check.class_name}


def _frozen(images: LabelledImages, perturbation: Any) -> torch.Tensor:
    """Return the output of the frozen blocks for all images under a perturbation."""
    network = pretrained()
    with torch.inference_mode():
        parts = [network.kept(perturbation(part.float() / 255)) for part in images.pixels.split(_BATCH)]
    return torch.cat(parts)
