"""Measure the networks anew, by their own stress tests, into the stored files of this benchmark; resumable."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from benchmarks.detection.mutants import HEALTHY, MUTANTS
from benchmarks.detection.paths import CHECKPOINTS as OF_DETECTION
from benchmarks.few.answers import read_answers, with_answers
from benchmarks.few.distances import distances_of
from benchmarks.few.paths import ANSWERS, CHECKPOINTS, DIGITS, EXAMPLE, FASHION, PAIRS, ROOT
from benchmarks.smoke import few
from harness.base.errors import InputError
from harness.base.files import write_atomically
from harness.calibration.measure import entries_of, record_predictions, with_predictions
from harness.calibration.recording import Recording
from harness.checks import read_checks
from harness.measures.metric import unpacked
from harness.networks.checkpoints import load_checkpoint
from harness.networks.declared import load_model
from harness.run.request import request_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

PANEL, TESTS = Path("models/panel"), Path("stress_tests")
"""Relative to the root, as for `calibrate`: its measurements there are reused."""
PAIRED = {"clean": "clean", "flipped": "flip", "rotated by 15°": "rotate-ccw-015"}
AMONG_NETWORKS = frozenset({"consensus", "flips"})
"""Families with values that depend on the other networks: the values of all say nothing of few."""
SEEDS, EPOCHS = range(1, few(25, 5)), few(10, 1)
"""Epochs of the digits' networks. The example itself trains 25 epochs, so these networks are farther apart."""


def measure_fashion() -> None:
    """Measure the shipped panel: differences of its networks in each row, and predictions that one loses of another's.

    It uses all images of a row, and reuses measurements that a calibration left in the user's cache.
    """
    with contextlib.chdir(ROOT):
        paths, checks = sorted(PANEL.glob("*.safetensors")), read_checks(TESTS / "checks.toml")
        with _bar(2 * len(paths)) as advance:
            assert checks.panel_predictions, "the shipped checks file names panel predictions"
            recording, *_ = with_predictions(
                paths, Recording(TESTS, checks), checks.panel_predictions, on_model=advance
            )
            found = entries_of([load_checkpoint(path) for path in paths], recording, advance)
    measured = [[entry for entry in of_one if entry["family"] not in AMONG_NETWORKS] for of_one in found]
    distances_of([path.stem for path in paths], measured).write(FASHION)
    lines = [f" {json.dumps(words, ensure_ascii=False)}: {_lost(measured, row)}" for words, row in PAIRED.items()]
    write_atomically(PAIRS, ("{\n" + ",\n".join(lines) + "\n}\n").encode())
    print(f"{FASHION}\n{PAIRS}")


def measure_digits(folder: Path = CHECKPOINTS) -> None:
    """Train the networks of the example of digits that are not in `folder`, and measure their differences."""
    example = (folder / "digits").resolve()
    shutil.copytree(EXAMPLE, example, dirs_exist_ok=True)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(example)])  # Of the processes that measure.
    if not (example / "digits.npz").exists():
        _run(example, "data")
    paths = [Path(f"runs/seed-{seed:02}.pth") for seed in SEEDS]
    with _bar(len(paths)) as advance:
        for seed, path in zip(SEEDS, paths, strict=True):
            if not (example / path).exists():
                part = path.with_suffix(".part")
                _run(example, "train", str(part), "--seed", str(seed), "--epochs", str(EPOCHS))
                (example / part).rename(example / path)
            advance()
    sys.path.insert(0, str(example))
    with contextlib.chdir(example), _bar(len(paths)) as advance:
        checks = read_checks(TESTS / "checks.toml")
        network = request_of((), root=Path())
        loaded = [load_model(path, network) for path in paths]
        measured = entries_of(loaded, Recording(TESTS, checks), advance)
    distances_of([path.stem for path in paths], measured).write(DIGITS)
    print(DIGITS)


def measure_answers(mutants: Path = OF_DETECTION) -> None:
    """Predict the views of consensus with the shipped panel and the mutants of `benchmarks.detection` in a folder.

    Stored answers of other networks stay.
    """
    mutants = mutants.resolve()
    names = [mutant.id for mutant in MUTANTS if mutant.kind != HEALTHY]
    with contextlib.chdir(ROOT):
        paths = sorted(PANEL.glob("*.safetensors"))[: few(20, 1)]
        paths += [path for name in names if (path := mutants / f"{name}.safetensors").exists()]
        recording = Recording(TESTS, read_checks(TESTS / "checks.toml"))
        with _bar(len(paths)) as advance:
            found = record_predictions([load_checkpoint(path) for path in paths], recording, advance)
    known = read_answers(ANSWERS) if ANSWERS.exists() else None
    with_answers(known, {path.stem: of_one for path, of_one in zip(paths, found, strict=True)}).write(ANSWERS)
    print(ANSWERS)


def _lost(measured: Sequence[Sequence[Mapping[str, Any]]], row: str) -> str:
    """Return, as JSON, how many answers each network gets right that each other gets wrong, (networks, networks)."""
    texts = [next(entry["each"] for entry in of_one if entry["id"] == row) for of_one in measured]
    right = np.stack([unpacked(text) for text in texts]).astype(np.int64)
    return json.dumps({"n": right.shape[1], "lost": (right @ (1 - right).T).tolist()})


def _run(example: Path, *arguments: str) -> None:
    command = [sys.executable, "digits_on_photos.py", *arguments]
    done = subprocess.run(command, cwd=example, capture_output=True, text=True, check=False)  # noqa: S603  Ours.
    if done.returncode:
        raise InputError(f"{' '.join(command[1:])} ended with {done.returncode}: {done.stderr[-2000:]}")


@contextlib.contextmanager
def _bar(total: int) -> Iterator[Callable[[], None]]:
    with tqdm(total=total, unit="network", smoothing=0) as bar:

        def advance() -> None:
            bar.update()

        yield advance
