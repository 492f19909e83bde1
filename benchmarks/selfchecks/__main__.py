"""Healthy models of several data sets, gated as a user gates them: no self-check may end a run.

`python -m benchmarks.selfchecks` prints the table of what was measured; `measure` is resumable.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.runner import (
    ROOT,
    Goal,
    few,
    goals_table,
    keep,
    many,
    missed,
    python,
    read,
    run,
    status,
    table,
    write_between,
)
from benchmarks.selfchecks.network import Small, trained
from benchmarks.selfchecks.pictures import SIDE, digits, drawn
from harness.base.errors import InputError
from harness.data import load_fashion_mnist, stratified_sample

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
WORK = Path.cwd() / "runs/selfchecks"
"""Projects with their images and networks; no part of the repository."""
FAMILIES = ",".join(
    (
        *(
            "clean",
            "class",
            "class-difference",
            "consensus",
            "soft_confusion",
            "batch_norm",
            "slices",
            "rotation",
        ),
        *(
            "shift",
            "confidence",
            "regression",
            "flips",
            "search",
            "attention",
            "corruption",
            "trigger",
        ),
    )
)
"""Every family with a self-check, besides those that need another model or images without labels.
"""
QUICK = "clean,class,consensus,rotation,confidence,batch_norm"
"""Families of the settings with many images, for which all of them would take too long."""
MODELS = few(50, 2)
"""Healthy models that are wanted."""
_TEST_DIGITS = 800


@dataclass(frozen=True)
class Setting:
    """Test images of a data set, K reference models, and further models that are judged.

    Of `wrong` kinds there is a model each, which must fail. Their names are those of `BROKEN`. A
    `profile` is that of the shipped checks files; they have thresholds already.
    """

    data: str
    images: int
    reference_models: int
    candidates: int
    families: str = FAMILIES
    wrong: tuple[str, ...] = ()
    profile: str = ""

    @property
    def name(self) -> str:
        """Return the name of the folder, and of the results."""
        return "-".join(
            filter(None, (self.data, str(self.images), f"k{self.reference_models}", self.profile))
        )

    @property
    def project(self) -> Path:
        """Return the folder of the project."""
        return WORK / self.name


SETTINGS = few(
    (
        Setting("digits", 800, 4, 10, wrong=("labels", "short", "halved")),
        Setting("digits", 800, 1, 4, families=QUICK),
        Setting("digits", 800, 20, 4, families=QUICK),
        Setting("digits", 300, 3, 4, families=QUICK),
        Setting("digits", 300, 8, 3, families=QUICK),
        Setting("drawn", 300, 2, 4),
        Setting("drawn", 2_000, 5, 5, families=QUICK),
        Setting("drawn", 10_000, 3, 3, families=QUICK),
        Setting("fashion", 300, 3, 3, families=QUICK),
        Setting("fashion", 1_000, 6, 4, families=QUICK),
        Setting("fashion", 10_000, 20, 5, profile="quick"),
        Setting("fashion", 10_000, 20, 1, profile="default"),
    ),
    (Setting("drawn", 300, 1, 1, families="clean,confidence"),),
)
_SEED_OF_CANDIDATES = 100
"""Reference models have seeds from 1; candidates of all settings have others from here."""


# Images and networks.


def images_of(setting: Setting) -> tuple[np.ndarray, np.ndarray]:
    """Return the test images (N, H, W, C) uint8 and their labels."""
    if setting.data == "digits":
        images, labels = digits()
        return images[: setting.images], labels[: setting.images]
    if setting.data == "drawn":
        return drawn(setting.images, seed=1)
    sample = stratified_sample(load_fashion_mnist("test"), setting.images)
    return sample.pixels.permute(0, 2, 3, 1).numpy(), sample.labels.numpy()


def training_of(data: str) -> tuple[np.ndarray, np.ndarray]:
    """Return training images and labels."""
    if data == "digits":
        images, labels = digits()
        return images[_TEST_DIGITS:], labels[_TEST_DIGITS:]
    return drawn(few(3_000, 400), seed=0)


def healthy(data: str, seed: int) -> Path:
    """Return the file of a network of this recipe, trained if it has none yet."""
    path = WORK / "networks" / f"{data}-{seed}.pth"
    if not path.exists():
        _make(path, partial(_healthy, data, seed))
    return path


def _healthy(data: str, seed: int) -> Small:
    images, labels = training_of(data)
    return trained(images, labels, seed=seed, epochs=_epochs(data), shift_px=_shift_px(data))


def broken(data: str, kind: str) -> Path:
    """Return the file of a network that must fail, made if it has none yet."""
    path = WORK / "networks" / f"{data}-{kind}.pth"
    if not path.exists():
        _make(path, partial(BROKEN[kind], data))
    return path


def _with_wrong_labels(data: str) -> Small:
    images, labels = training_of(data)
    rng = np.random.default_rng(0)
    wrong = rng.random(len(labels)) < 0.3
    labels = np.where(wrong, rng.permutation(labels), labels)
    return trained(images, labels, seed=0, epochs=_epochs(data), shift_px=_shift_px(data))


def _trained_for_an_epoch(data: str) -> Small:
    images, labels = training_of(data)
    return trained(images, labels, seed=0, epochs=1, shift_px=_shift_px(data))


def _without_half_of_the_weights(data: str) -> Small:
    network = _healthy(data, 0)
    with torch.no_grad():
        network.conv2.weight[::2] = 0
    return network


BROKEN: dict[str, Callable[[str], Small]] = {
    "labels": _with_wrong_labels,
    "short": _trained_for_an_epoch,
    "halved": _without_half_of_the_weights,
}
"""Functions that make a network which must fail, by kind."""


def _epochs(data: str) -> int:
    return few({"digits": 10, "drawn": 5}[data], 2)


def _shift_px(data: str) -> int:
    return {"digits": 0, "drawn": 1}[data]


def _make(path: Path, make: Callable[[], Small]) -> None:
    """Write the state of a network that is made in another process.

    Raises:
        InputError: If that fails.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")

    def store() -> None:
        torch.save(make().state_dict(), part)

    if _forked(store, log=WORK / "training.log"):
        raise InputError(f"{path}: not trained; {WORK / 'training.log'} says why")
    part.rename(path)


# Projects and their runs.


def prepare(setting: Setting) -> tuple[list[Path], list[Path]]:
    """Make the project of a setting, and return its reference models and healthy candidates.

    The project has thresholds.
    """
    if setting.data == "fashion":
        stored = sorted((ROOT / "models/panel").glob("*.safetensors"))
        first = len(stored) - setting.candidates
        references, candidates = stored[: setting.reference_models], stored[first:]
    else:
        references = [
            healthy(setting.data, seed) for seed in range(1, setting.reference_models + 1)
        ]
        first = _SEED_OF_CANDIDATES + 10 * [one.name for one in SETTINGS].index(setting.name)
        candidates = [
            healthy(setting.data, seed) for seed in range(first, first + setting.candidates)
        ]
    if setting.profile or (setting.project / "calibrated").exists():
        return references, candidates

    shutil.rmtree(setting.project, ignore_errors=True)
    setting.project.mkdir(parents=True)
    images, labels = images_of(setting)
    np.savez(setting.project / "test.npz", images=images, labels=labels)
    python(setting.project, "-m", "harness", "init", *settings_of(setting))
    named = [str(path.resolve()) for path in references]
    python(setting.project, "-m", "harness", "calibrate", "--checkpoints", *named)
    (setting.project / "calibrated").touch()
    return references, candidates


def settings_of(setting: Setting) -> list[str]:
    """Return the options of `init`."""
    options = ["--data", "npz:test.npz", "--families", setting.families, "--budget", "none"]
    if setting.data == "fashion":
        return options
    channels, classes, side = {"digits": (1, 10, 8), "drawn": (3, 8, SIDE)}[setting.data]
    network = {"channels": channels, "classes": classes, "side": side}
    options += ["--model", "benchmarks.selfchecks.network:Small"]
    for name, value in network.items():
        options += ["--set", f"model_args.{name}={value}"]
    return options


def gated(setting: Setting, candidate: Path, incumbent: Path) -> dict[str, Any]:
    """Return the exit status of the gate for a candidate, and its self-checks by status."""
    folder = ROOT if setting.profile else setting.project
    reports = WORK / "reports"
    shutil.rmtree(reports, ignore_errors=True)
    options = [
        "--stress-set=no_overview=true",
        "-p",
        "no:html",
        "-p",
        "no:cacheprovider",
        "--stress-no-cache",
    ]
    options += [f"--stress-reports={reports.resolve()}", f"--candidate={candidate.resolve()}"]
    if setting.profile:
        options.append(f"--stress-profile={setting.profile}")
    else:
        options += ["--baseline=none", f"--incumbent={incumbent.resolve()}"]
    ended = _forked(partial(_gate, folder, ["stress_tests", "-q", *options]), log=WORK / "gate.log")
    record = json.loads((reports / "stress.json").read_text("utf-8"))
    checks = record["self_checks"]
    return {
        "exit_status": ended,
        "failed": [
            f"{check['name']}: {check['detail']}" for check in checks if check["status"] == "fail"
        ],
        "cannot_notice": [check["name"] for check in checks if check["cannot_notice"]],
        "passed": [check["name"] for check in checks if check["status"] == "pass"],
        "errors": record["errors"],
        "failing_checks": [check["id"] for check in record["checks"] if check["status"] == "fail"],
    }


def _gate(folder: Path, arguments: list[str]) -> int:
    import pytest

    os.chdir(folder)
    return int(pytest.main(arguments))


def _forked(step: Callable[[], int | None], *, log: Path) -> int:
    """Return the exit status of a step in a copy of this process, which has loaded PyTorch already.

    The copies keep this process free of threads and of gradients, which do not survive a fork.
    """
    child = os.fork()
    if child == 0:
        status_of_step = 99
        try:
            with log.open("w") as output:
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
                status_of_step = step() or 0
        finally:
            os._exit(status_of_step)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def measure() -> int:
    """Gate every model that has no result yet; results of earlier runs stay."""
    torch.set_num_threads(1)
    results = read(RESULTS, without={})
    for setting in tqdm(SETTINGS, unit="setting", smoothing=0):
        waiting = [
            number for number in range(setting.candidates) if _key(setting, number) not in results
        ]
        wrong = [kind for kind in setting.wrong if _key(setting, kind) not in results]
        if not waiting and not wrong:
            continue
        references, candidates = prepare(setting)
        for number in waiting:
            results[_key(setting, number)] = gated(setting, candidates[number], references[0])
            keep(RESULTS, results)
        for kind in wrong:
            results[_key(setting, kind)] = gated(setting, broken(setting.data, kind), references[0])
            keep(RESULTS, results)
    return report()


def _key(setting: Setting, model: int | str) -> str:
    return f"{setting.name}/{model}"


# The page.


def report() -> int:
    """Print the table of what was measured, and write it into the README."""
    results = read(RESULTS, without={})
    goals = goals_of(results)
    text = f"{goals_table(goals)}\n\n{settings_table(results)}"
    print(text)
    write_between(HERE / "README.md", "results", text)
    for goal in missed(goals):
        print(f"missed: {goal}", file=sys.stderr)
    return status(missed(goals))


def goals_of(results: Mapping[str, Mapping[str, Any]]) -> list[Goal]:
    """Return the goals with what is reached."""
    sound = [result for _, result in _of(results, wrong=False)]
    wrong = [result for _, result in _of(results, wrong=True)]
    ended = sum(bool(result["failed"]) or result["exit_status"] == 4 for result in sound)
    worse = sum(result["exit_status"] == 1 for result in wrong)
    return [
        (f"at least {MODELS} healthy models", str(len(sound)), len(sound) >= MODELS),
        ("0 healthy models that end with 4", str(ended), ended == 0),
        ("all broken models end with 1", f"{worse} of {len(wrong)}", worse == len(wrong)),
    ]


def settings_table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a table with a line for each setting."""
    rows = []
    for setting in SETTINGS:
        sound = [result for one, result in _of(results, wrong=False) if one is setting]
        if not sound:
            continue
        statuses = [result["exit_status"] for result in sound]
        silent = _counted(name for result in sound for name in result["cannot_notice"])
        title = setting.data + (f", {setting.profile} profile" if setting.profile else "")
        counts = [statuses.count(each) for each in (0, 1, 4)]
        rows.append(
            (title, f"{setting.images:,}", setting.reference_models, len(sound), *counts, silent)
        )
    head = (
        "data",
        "images",
        "K",
        "healthy models",
        "end with 0",
        "with 1",
        "with 4",
        "self-checks that cannot notice",
    )
    return table(head, rows)


def _of(
    results: Mapping[str, Mapping[str, Any]], *, wrong: bool
) -> list[tuple[Setting, Mapping[str, Any]]]:
    found: list[tuple[Setting, Mapping[str, Any]]] = []
    for setting in SETTINGS:
        models: Sequence[int | str] = setting.wrong if wrong else range(setting.candidates)
        keys = [_key(setting, model) for model in models]
        found += [(setting, results[key]) for key in keys if key in results]
    return found


def _counted(names: Iterable[str]) -> str:
    listed = list(names)
    return (
        ", ".join(f"{name} ({many(listed.count(name), 'run')})" for name in dict.fromkeys(listed))
        or "–"
    )


COMMANDS = {"": (report,), "measure": (measure,)}

if __name__ == "__main__":
    sys.exit(run(COMMANDS, "measure"))
