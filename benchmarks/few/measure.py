"""Measure the networks anew, by their own stress tests, into the stored files of this benchmark.

Resumable.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.detection.mutants import HEALTHY, MUTANTS
from benchmarks.detection.paths import CHECKPOINTS as OF_DETECTION
from benchmarks.few.stored import (
    ANSWERS,
    DIGITS,
    EXAMPLE,
    FASHION,
    PAIRS,
    distances_of,
    read_answers,
    with_answers,
)
from benchmarks.runner import ROOT, by_line, few, python, write
from harness.calibration.measure import entries_of, record_predictions, with_predictions
from harness.calibration.recording import Recording
from harness.checks import read_checks
from harness.measures.metric import unpacked
from harness.networks.checkpoints import load_checkpoint
from harness.networks.declared import load_model
from harness.run.request import request_of

SCRIPT = "digits_on_photos.py"
PANEL, TESTS = Path("models/panel"), Path("stress_tests")
"""Relative to the root, as for `calibrate`: its measurements there are reused."""
PAIRED = {"clean": "clean", "flipped": "flip", "rotated by 15°": "rotate-ccw-015"}
AMONG_NETWORKS = frozenset({"consensus", "flips"})
"""Families with values that depend on the other networks: the values of all say nothing of few."""
SEEDS, EPOCHS = range(1, few(25, 5)), few(10, 1)
"""Epochs of the digits' networks.

The example itself trains 25 epochs, so these networks are farther apart.
"""


def measure_fashion(_: Path | None) -> None:
    """Measure the shipped panel.

    Differences of its networks in each row, and predictions that one loses of another's.

    It uses all images of a row, and reuses measurements that a calibration left in the user's
    cache.
    """
    with contextlib.chdir(ROOT):
        paths, checks = sorted(PANEL.glob("*.safetensors")), read_checks(TESTS / "checks.toml")
        with _bar(2 * len(paths)) as bar:
            assert checks.panel_predictions, "the shipped checks file names panel predictions"
            predicted = Recording(TESTS, checks), checks.panel_predictions
            recording, *_rest = with_predictions(paths, *predicted, on_model=bar.update)
            found = entries_of([load_checkpoint(path) for path in paths], recording, bar.update)
    measured = [
        [entry for entry in of_one if entry["family"] not in AMONG_NETWORKS] for of_one in found
    ]
    distances_of([path.stem for path in paths], measured).write(FASHION)
    write(PAIRS, by_line({words: _lost(measured, row) for words, row in PAIRED.items()}) + "\n")
    print(f"{FASHION}\n{PAIRS}")


def measure_digits(folder: Path | None) -> None:
    """Train the example's digit networks that are missing, and measure their differences.

    `folder` keeps them.
    """
    example = (folder or ROOT / "runs/few").resolve() / "digits"
    shutil.copytree(EXAMPLE, example, dirs_exist_ok=True)
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(ROOT), str(example)]
    )  # Of the processes that measure.
    if not (example / "digits.npz").exists():
        python(example, SCRIPT, "data")
    paths = [Path(f"runs/seed-{seed:02}.pth") for seed in SEEDS]
    for seed, path in tqdm(list(zip(SEEDS, paths, strict=True)), unit="network", smoothing=0):
        if not (example / path).exists():
            part = path.with_suffix(".part")
            python(
                example, SCRIPT, "train", str(part), "--seed", str(seed), "--epochs", str(EPOCHS)
            )
            (example / part).rename(example / path)
    sys.path.insert(0, str(example))
    with contextlib.chdir(example), _bar(len(paths)) as bar:
        checks = read_checks(TESTS / "checks.toml")
        network = request_of((), root=Path())
        loaded = [load_model(path, network) for path in paths]
        measured = entries_of(loaded, Recording(TESTS, checks), bar.update)
    distances_of([path.stem for path in paths], measured).write(DIGITS)
    print(DIGITS)


def measure_answers(mutants: Path | None) -> None:
    """Predict the views of consensus with the shipped panel and mutants in a folder.

    The mutants are those of `benchmarks.detection`. Stored answers of other networks stay.
    """
    mutants = (mutants or OF_DETECTION).resolve()
    names = [mutant.id for mutant in MUTANTS if mutant.kind != HEALTHY]
    with contextlib.chdir(ROOT):
        paths = sorted(PANEL.glob("*.safetensors"))[: few(20, 1)]
        paths += [path for name in names if (path := mutants / f"{name}.safetensors").exists()]
        recording = Recording(TESTS, read_checks(TESTS / "checks.toml"))
        with _bar(len(paths)) as bar:
            found = record_predictions(
                [load_checkpoint(path) for path in paths], recording, bar.update
            )
    known = read_answers(ANSWERS) if ANSWERS.exists() else None
    answers = {path.stem: model.predictions for path, model in zip(paths, found, strict=True)}
    with_answers(known, answers).write(ANSWERS)
    print(ANSWERS)


def _lost(measured: Sequence[Sequence[Mapping[str, Any]]], row: str) -> dict[str, Any]:
    """Return how many answers each network gets right that each other gets wrong.

    The shape is (networks, networks).
    """
    texts = [next(entry["each"] for entry in of_one if entry["id"] == row) for of_one in measured]
    right = np.stack([unpacked(text) for text in texts]).astype(np.int64)
    return {"n": right.shape[1], "lost": (right @ (1 - right).T).tolist()}


def _bar(networks: int) -> tqdm[None]:
    return tqdm(total=networks, unit="network", smoothing=0)
