"""Measurement of each network.

The checks that `init` writes, by the functions that their stress tests call.

`init` makes the gate of the fine-tunings as a user makes it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.few.stored import Answers, distances_of
from benchmarks.runner import keep, python
from benchmarks.transfer.network import NETWORKS, PROJECT, TEST, Lite0, pretrained
from benchmarks.transfer.train import HEALTHY, RECIPES
from harness.base.records import as_plain
from harness.checks import Check, read_checks
from harness.data import LabelledImages, load_images
from harness.inference.predictions import Predictions
from harness.measures import (
    Measurement,
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

MEASURED = Path(__file__).parent / "measured"
HEALTHY_FILE, OTHERS, ANSWERS = (
    MEASURED / f"{name}.json" for name in ("healthy", "others", "answers")
)
FAMILIES = "clean,class,class-difference,slice,consensus,flips,confidence,flip,regression"
AMONG_NETWORKS = frozenset({"consensus", "flips"})
"""Families with values that depend on the reference models."""
INCUMBENT = "regression"
"""Family with values that depend on the incumbent alone."""
_BATCH, _DIGITS = 128, 6


def measure_all() -> None:
    """Measure every network that is trained, and write the files of the benchmark."""
    if not (PROJECT / "stress_tests").exists():
        data = ("--data", "folder:data/test", "--families", FAMILIES, "--budget", "none")
        model = (
            "--model",
            "benchmarks.transfer.network:Lite0",
            "--checkpoint",
            f"runs/{RECIPES[0].name}.pth",
        )
        python(PROJECT, "-m", "harness", "init", *data, *model)
    checks, images = (
        read_checks(PROJECT / "stress_tests/checks.toml"),
        load_images(f"folder:{TEST}"),
    )
    views = [
        (perturbation, _frozen(images, perturbation))
        for perturbation in (IDENTITY, HorizontalFlip())
    ]
    entries: dict[str, list[dict[str, Any]]] = {}
    rows: dict[str, PanelCheck] = {}
    wrong = {}
    network = Lite0().eval()
    made = [recipe for recipe in RECIPES if (NETWORKS / f"{recipe.name}.pth").exists()]
    for recipe in tqdm(made, unit="network", smoothing=0):
        network.load_state_dict(torch.load(NETWORKS / f"{recipe.name}.pth", weights_only=True))
        with torch.inference_mode():
            seen = [
                Predictions(network.logits(frozen).numpy(), images, moved)
                for moved, frozen in views
            ]
        wrong[recipe.name] = ~seen[0].correct
        entries[recipe.name] = []
        for check in checks.checks:
            if check.family not in {*AMONG_NETWORKS, INCUMBENT}:
                found = measurement_of(check, *seen)
                rows[check.id] = row_of(check, found)
                entries[recipe.name].append(_entry(check, found))
    sound = [recipe.name for recipe in made if recipe.kind == HEALTHY]
    distances_of(sound, [entries[name] for name in sound]).write(HEALTHY_FILE)
    Answers({repr(IDENTITY): len(images)}, wrong).write(ANSWERS)
    others = {
        "classes": list(images.classes),
        "sizes": np.bincount(images.labels.numpy()).tolist(),
        "rows": [as_plain(row) for row in rows.values()],
        "among": [_as_plain(check) for check in checks.checks if check.family in AMONG_NETWORKS],
        "mutants": {
            name: {entry["id"]: round(float(entry["value"]), _DIGITS) for entry in of_one}
            for name, of_one in entries.items()
            if name not in sound
        },
    }
    keep(OTHERS, others)


def measurement_of(check: Check, clean: Predictions, flipped: Predictions) -> Measurement:
    """Return what the stress test of a check measures.

    Raises:
        KeyError: For a metric without one here.
    """
    keys, of_class = check.keys, check.class_name
    by, group = str(keys.get("by")), str(keys.get("group"))
    if check.metric == "accuracy" and check.family == "flip":
        return accuracy(flipped, clean=clean)
    measures = {
        "accuracy": lambda: accuracy(clean, of_class=of_class),
        "invariance": lambda: invariance(clean, flipped),
        "class_difference": lambda: class_difference(clean, of_class=of_class or ""),
        "group_accuracy": lambda: group_accuracy(clean, by=by, group=group),
        "group_difference": lambda: group_difference(
            clean, by=by, group=group, paired_by=keys.get("paired_by")
        ),
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
    return PanelCheck(
        check.id,
        check.family,
        check.metric,
        found.unit,
        metric.direction,
        found.n,
        scale=metric.scale,
    )


def _entry(check: Check, found: Measurement) -> dict[str, Any]:
    each = None if found.each is None else packed(np.asarray(found.each))
    return {
        "id": check.id,
        "value": found.value,
        "unit": found.unit.value,
        "each": each,
        "rest": found.rest,
    }


def _as_plain(check: Check) -> dict[str, Any]:
    named = {name: getattr(check, name) for name in ("id", "family", "metric")}
    return {**named, "keys": dict(check.keys), "class": check.class_name}


def _frozen(images: LabelledImages, perturbation: Any) -> torch.Tensor:
    """Return the output of the frozen blocks for all images under a perturbation."""
    network = pretrained()
    with torch.inference_mode():
        parts = [
            network.kept(perturbation(part.float() / 255)) for part in images.pixels.split(_BATCH)
        ]
    return torch.cat(parts)
