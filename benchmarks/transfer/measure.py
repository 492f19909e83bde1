"""Measurement of each network by its own stress tests, as a calibration records it; resumable."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from benchmarks.few.answers import with_answers
from benchmarks.few.distances import distances_of
from benchmarks.transfer.paths import ANSWERS, HEALTHY_FILE, NETWORKS, OTHERS, PROJECT, RECORDED
from benchmarks.transfer.recipes import HEALTHY, RECIPES
from harness.base.files import write_atomically
from harness.base.records import as_plain
from harness.calibration.panel_predictions import archive_of
from harness.calibration.recording import Recording, recorded
from harness.checks import read_checks
from harness.data import load_images
from harness.measures import Unit
from harness.measures.panel.collection import read_archive
from harness.measures.panel.threshold import PanelCheck
from harness.perturb import IDENTITY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.transfer.recipes import Recipe

AMONG_NETWORKS = frozenset({"consensus", "flips"})
"""Families with values that depend on the reference models."""
DIGITS = 6


def measure_all() -> None:
    """Record every network that has no record yet, and write the files of the benchmark."""
    RECORDED.mkdir(parents=True, exist_ok=True)
    made = [recipe for recipe in RECIPES if (NETWORKS / f"{recipe.name}.pth").exists()]
    with contextlib.chdir(PROJECT):
        recording = Recording(Path("stress_tests"), read_checks(Path("stress_tests/checks.toml")))
        core = min(os.sched_getaffinity(0))
        for recipe in tqdm([each for each in made if not _record_of(each).exists()], unit="network", smoothing=0):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(NETWORKS.relative_to(PROJECT), f"{recipe.name}.pth")
                report = recorded(path, replace(recording, answers=Path(folder)), core=core)
                _record_of(recipe).with_suffix(".answers.zip").write_bytes(archive_of(Path(folder)))
            write_atomically(_record_of(recipe), json.dumps(_measured(report)).encode())
        labels = load_images("folder:data/test").labels.numpy()
        write_files(made, recording, np.bincount(labels).tolist())


def write_files(made: Sequence[Recipe], recording: Recording, sizes: Sequence[int]) -> None:
    """Write values and differences of the sound networks, the values of the others, and all clean errors."""
    found = {recipe: json.loads(_record_of(recipe).read_bytes()) for recipe in made}
    healthy = {recipe.name: entries for recipe, entries in found.items() if recipe.kind == HEALTHY}
    distances_of(list(healthy), list(healthy.values())).write(HEALTHY_FILE)
    answers = {
        recipe.name: [
            each
            for each in read_archive(_record_of(recipe).with_suffix(".answers.zip").read_bytes())
            if each.name == repr(IDENTITY) and len(each.wrong) == sum(sizes)
        ][:1]
        for recipe in made
    }
    with_answers(None, answers).write(ANSWERS)
    known = {check.id: check for check in recording.checks.checks}
    measured = [_row(entry) for entry in next(iter(healthy.values()))]
    others = {
        "classes": list(recording.checks.data.classes),
        "sizes": list(sizes),
        "rows": [as_plain(row) for row in measured],
        "among": [
            {
                **{name: getattr(check, name) for name in ("id", "family", "metric")},
                "keys": dict(check.keys),
                "class": check.class_name,
            }
            for check in known.values()
            if check.family in AMONG_NETWORKS
        ],
        "budgets": dict(recording.checks.budgets),
        "mutants": {
            recipe.name: {entry["id"]: round(entry["value"], DIGITS) for entry in entries}
            for recipe, entries in found.items()
            if recipe.kind != HEALTHY
        },
    }
    write_atomically(OTHERS, (json.dumps(others, indent=1) + "\n").encode())


def _record_of(recipe: Recipe) -> Path:
    return RECORDED / f"{recipe.name}.json"


def _measured(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the entries of the candidate's checks that have a value, as calibration takes them."""
    return [
        entry
        for entry in report["checks"]
        if entry["role"] == "candidate" and entry["status"] == "informational" and entry["value"] is not None
    ]


def _row(entry: dict[str, Any]) -> PanelCheck:
    named = {name: entry[name] for name in ("id", "family", "metric", "direction", "n")}
    return PanelCheck(**named, unit=Unit(entry["unit"]), scale=entry.get("scale", "plain"))
