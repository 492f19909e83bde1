"""Train the networks of a case and measure them by the checks that `init` writes; resumable."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.few.case_store import distances_file, rows_file, write_rows
from benchmarks.few.cases import CASES, SIZES, Case
from benchmarks.few.faults import Training, faulty_paths, healthy_paths, images_of, write_network
from benchmarks.few.measure import AMONG_NETWORKS, TESTS
from benchmarks.few.stored import distances_of
from benchmarks.runner import ROOT, python
from harness.calibration.measure import check_in, entries_of
from harness.calibration.recording import Recording
from harness.checks import read_checks
from harness.networks.declared import load_model
from harness.run.request import request_of

MODEL = "benchmarks.few.network:Network"
_DIGITS = 6


def measure_case(name: str, folder: Path | None) -> None:
    """Train the networks of a case that are not in `folder`, and measure them.

    They are measured with each number of test images.
    """
    torch.set_num_threads(1)
    case, work = CASES[name], (folder or ROOT / "runs/few").resolve() / name
    train_networks(case, work)
    for size in SIZES:
        project = work / f"project-{size}"
        prepare(case, size, project, work)
        measure_networks(case, size, project, work)


def train_networks(case: Case, work: Path) -> None:
    """Train the healthy networks and those with faults whose files are missing."""
    training_images, _ = images_of(case, work)
    trainings = {**healthy_paths(case, work / "networks"), **faulty_paths(work / "networks")}
    for path, (train, seed) in tqdm(trainings.items(), unit="network", smoothing=0):
        if not path.exists():
            write_network(path, train(Training(*training_images, case, seed)))


def prepare(case: Case, size: int, project: Path, work: Path) -> None:
    """Make the project of a case with the first test images, unless it is there."""
    if (project / TESTS / "checks.toml").exists():
        return
    _, (images, labels, groups) = images_of(case, work)
    arrays = {"images": images[:size], "labels": labels[:size], "classes": np.array(case.classes)}
    if case.grouped:
        arrays["groups"] = groups[:size]
    project.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(project / "test.npz", **arrays)

    settings = {f"model_args.{key}": value for key, value in case.model_args.items()}
    options = [
        "--data",
        "npz:test.npz",
        "--model",
        MODEL,
        "--families",
        case.families,
        "--budget",
        "none",
    ]
    options += [
        "--augmentation",
        case.augmentation.option,
        "--set",
        f"border={case.augmentation.border}",
    ]
    for key, value in settings.items():
        options += ["--set", f"{key}={value}"]
    python(project, "-m", "harness", "init", *options)


def measure_networks(case: Case, size: int, project: Path, work: Path) -> None:
    """Measure all networks in a project, and write the rows and values."""
    healthy, faulty = (
        list(healthy_paths(case, work / "networks")),
        list(faulty_paths(work / "networks")),
    )
    os.environ["PYTHONPATH"] = str(ROOT)  # Of the processes that measure.
    with (
        contextlib.chdir(project),
        tqdm(total=len(healthy + faulty), unit="network", smoothing=0) as bar,
    ):
        checks = read_checks(TESTS / "checks.toml")
        network = request_of((), root=Path())
        loaded = [load_model(path, network) for path in healthy + faulty]
        measured = entries_of(loaded, Recording(TESTS, checks), bar.update)
    definitions = {check.id: check.definition for check in checks.checks}
    alone = [
        [entry for entry in entries if entry["family"] not in AMONG_NETWORKS]
        for entries in measured
    ]
    rows = [check_in(entry, definitions, checks.data) for entry in alone[0]]

    distances = distances_of([path.stem for path in healthy], alone[: len(healthy)])
    common_rows = [row for row in rows if row.id in distances.values]
    values = {
        path.stem: _values(entries)
        for path, entries in zip(faulty, alone[len(healthy) :], strict=True)
    }
    distances.write(distances_file(case.name, size))
    write_rows(rows_file(case.name, size), common_rows, values)


def _values(entries: list[dict[str, Any]]) -> dict[str, float]:
    return {entry["id"]: round(float(entry["value"]), _DIGITS) for entry in entries}
