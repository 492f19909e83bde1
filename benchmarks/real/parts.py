"""Where the CPU time of a gate on photographs goes, by network, images and precision.

Run `python -m benchmarks.real.parts` on an idle machine. Pictures are drawn, and nothing is
downloaded. Weights are those of `benchmarks.real.speed`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.real.part_times import (
    CHECKS,
    DECODING,
    FOLDER,
    INFERENCE,
    OTHER,
    OVERVIEW,
    PERTURBING,
    REPORT,
    REST,
    SECOND_OPINIONS,
    SELF_CHECKS,
)
from benchmarks.real.speed import MODELS, SIDE, made, pictures
from benchmarks.runner import ROOT, few, load, option, run, table, versions
from harness.base.errors import InputError
from harness.data import LabelledImages

BUILDERS = {
    "resnet18": "torchvision.models:resnet18",
    "resnet50": "torchvision.models:resnet50",
    "ViT-B/16": "torchvision.models:vit_b_16",
}
PRECISIONS: dict[str, dict[str, str]] = {
    "bfloat16": {},
    "float32": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"},
    "AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
}
"""Environment variables of each precision.

bfloat16 screens where the processor has it, and the others use float32 alone. AVX2 stands for a
processor without AVX-512.
"""
AUGMENTATION = "rotate=10,shift_x=6,shift_y=6,flip=true"
FITTED_ON = 100
"""Images that the last layer is fitted to."""
SIDES = (500, 375)
"""Width and height of a stored picture, as of many photographs."""
LINES = {
    "decoding": [(DECODING, None)],
    "perturbing": [(CHECKS, PERTURBING)],
    "inference": [(CHECKS, INFERENCE)],
    "rest of the checks": [(CHECKS, OTHER)],
    "second opinions": [(SECOND_OPINIONS, None)],
    "self-checks": [(SELF_CHECKS, None)],
    "overview": [(OVERVIEW, None)],
    "report": [(REPORT, None)],
    "start and rest": [(REST, None)],
}
"""The lines of the table: parts of a run, with one kind of work in it or all."""


@dataclass(frozen=True)
class GateTimes:
    """CPU seconds of a gate run, by part and kind of work."""

    network: str
    images: int
    precision: str
    cache: str
    seconds: Mapping[tuple[str, str], float]

    @property
    def name(self) -> str:
        """Return what was run."""
        return f"{self.network}, {self.images:,} images, {self.precision}, {self.cache}"

    @property
    def total(self) -> float:
        """Return the CPU seconds of all parts."""
        return sum(self.seconds.values())

    def line(self, name: str) -> float:
        """Return the CPU seconds of a line of the table."""
        total = 0.0
        for part, work in LINES[name]:
            for (timed_part, timed_work), seconds in self.seconds.items():
                if timed_part == part and work in {None, timed_work}:
                    total += seconds
        return total


def main(
    *,
    models: Sequence[str],
    images: Sequence[int],
    precisions: Sequence[str],
    families: str | None,
    work: Path,
) -> None:
    """Time cold and warm gates of each network, and print a table of their parts."""
    print(f"{load()}; {versions('torch')}", flush=True)
    gates: list[GateTimes] = []
    for count in images:
        drawn = pictures(count)
        for network in models:
            with tempfile.TemporaryDirectory(prefix="parts-", dir=work) as folder:
                make_project(Path(folder), network, drawn, families)
                for precision in precisions:
                    gates += time_gates(Path(folder), network, count, precision)
    print(table_of(gates))


def make_project(
    folder: Path, network: str, images: LabelledImages, families: str | None = None
) -> None:
    """Make a repository with pictures, a checkpoint and a gate with thresholds from it."""
    write_pictures(folder / "photos", images)
    fitted_images = images.take(torch.arange(min(FITTED_ON, len(images))))
    model = made(network, fitted_images)
    torch.save(model.network.state_dict(), folder / "model.pth")
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider -q\n")

    command = ["init", "--data", "folder:photos", "--size", str(SIDE), "--budget", "none"]
    command += ["--model", BUILDERS[network], "--checkpoint", "model.pth"]
    command += ["--set", "model_args.num_classes=10", "--set", "normalization=imagenet"]
    command += ["--augmentation", AUGMENTATION]
    if families is not None:
        command += ["--families", families]
    _run(folder, ["-m", "harness", *command], {"XDG_CACHE_HOME": str(folder / "cache-init")})


def write_pictures(folder: Path, images: LabelledImages) -> None:
    """Write images as JPEG files, in a folder for each class, at the size of photographs."""
    for number, (pixels, label) in enumerate(
        zip(images.pixels, images.labels.tolist(), strict=True)
    ):
        path = folder / images.classes[label] / f"{number:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()[..., ::-1])
        cv2.imwrite(str(path), cv2.resize(picture, SIDES, interpolation=cv2.INTER_CUBIC))


def time_gates(folder: Path, network: str, count: int, precision: str) -> list[GateTimes]:
    """Return the times of a gate with an empty cache, and of one that finds all predictions."""
    gates = []
    cache = tempfile.mkdtemp(prefix="cache-", dir=folder)
    for state in ("cold", "warm")[: few(2, 1)]:
        results = Path(tempfile.mkdtemp(prefix="times-", dir=folder))
        environment = {"XDG_CACHE_HOME": cache, FOLDER: str(results), **PRECISIONS[precision]}
        plugin = ["-p", "benchmarks.real.part_times"]
        arguments = ["stress_tests", "--candidate", "model.pth"]
        arguments += ["--baseline", "none", "--incumbent", "none"]
        _run(folder, ["-m", "pytest", *plugin, *arguments], environment)

        gate = GateTimes(network, count, precision, state, read_times(results))
        parts = ", ".join(f"{name} {gate.line(name):.1f}" for name in LINES)
        print(f"{gate.name}: {gate.total:.0f} CPU s: {parts}", flush=True)
        gates.append(gate)
    return gates


def read_times(folder: Path) -> Counter[tuple[str, str]]:
    """Return the seconds that the processes of a run have left, by part and kind of work."""
    seconds: Counter[tuple[str, str]] = Counter()
    for path in folder.glob("*.json"):
        for part, work, part_seconds in json.loads(path.read_text("utf-8")):
            seconds[part, work] += part_seconds
    return seconds


def table_of(gates: Sequence[GateTimes]) -> str:
    """Return a table in Markdown: CPU seconds of each part, and its share, of each gate."""
    head = ["", *(gate.name for gate in gates)]
    rows = []
    for name in LINES:
        cells = [name]
        for gate in gates:
            seconds = gate.line(name)
            cells.append(f"{seconds:.1f} s, {seconds / gate.total:.0%}")
        rows.append(cells)
    rows.append(["all", *(f"{gate.total:.1f} s" for gate in gates)])
    return table(head, rows)


def _run(folder: Path, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run Python in a folder; raises `InputError` unless the gate judged."""
    paths = os.pathsep.join([str(folder), str(ROOT)])
    done = subprocess.run(  # noqa: S603  Our own commands.
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in {0, 1}:
        printed = (done.stdout + done.stderr)[-3000:]
        command = " ".join(arguments)
        raise InputError(f"{command} ended with {done.returncode}:\n{printed}")


COMMANDS = {
    "": (
        main,
        option("--models", nargs="+", default=list(BUILDERS), choices=MODELS, help="default: all"),
        option(
            "--images",
            type=int,
            nargs="+",
            default=[500, 1000, 2000],
            metavar="N",
            help="numbers of pictures (default: 500 1000 2000)",
        ),
        option(
            "--precisions",
            nargs="+",
            default=["bfloat16", "float32"],
            choices=PRECISIONS,
            help="bfloat16 screens where the processor has it; float32 and AVX2 use float32 alone "
            "(default: bfloat16 float32)",
        ),
        option("--families", help="the families of checks, joined by commas (default: as init)"),
        option(
            "--work",
            type=Path,
            default=Path(tempfile.gettempdir()),
            metavar="DIR",
            help="where to work",
        ),
    )
}

if __name__ == "__main__":
    few_parts = "--precisions bfloat16 --families clean"
    sys.exit(run(COMMANDS, f"--images 100 --models resnet18 {few_parts}"))
