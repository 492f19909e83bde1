"""Letters in color that the benchmark renders itself, a small network for them, and cases of broken training.

`python -m benchmarks.causes.rendered FOLDER` trains and gates everything in FOLDER and writes `measured/` beside this
file. It takes about ten minutes of one core and is resumable. The first alphabet chose the rules, the second tests
them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import nn
from torch.nn import functional

from benchmarks.runner import by_line, few, option, python, run, write
from benchmarks.transfer.measure import measurement_of
from harness import measures
from harness.features.consensus.measures import (
    CONSENSUS_SET_ERRORS,
    consensus_set_errors,
    find_consensus_set_errors,
    worst_class_consensus_set_errors,
)
from harness.report.causes import CLASSES, DRIFT, GROUP, LABELS, MISSING, PIPELINE, WEIGHTS
from harness.run.input_faults import input_faults
from harness.run.opening import open_session
from harness.run.request import RunRequest

MEASURED = Path(__file__).parent / "measured"
ALPHABETS = {"rules": "ABEFGHKMQR", "test": "CDIJLOPTUV"}
"""The classes of either half."""
FONTS = {"sans": "DejaVuSans", "serif": "DejaVuSerif", "typewriter": "cmtt10", "handwriting": "STIXGeneralItalic"}
MODEL = "benchmarks.causes.rendered:Net"
SIDE, TRAINING, TEST = 24, few(4_000, 1_000), few(2_000, 200)
EPOCHS, REFERENCES = few(6, 2), few(8, 3)
RELABELLED = 4, 7
"""A class, and the one that some of its pictures are labeled as."""


@dataclass(frozen=True)
class Case:
    """A broken training: its right causes, and what it changes.

    `wrong_labels` is the share of random labels, and `relabelled` that of one class with another label. Of the class at
    `starved` only a share stays, and `without` names the group that training lacks. Pixels in [0, 1] become
    `scale * pixels + offset`, in BGR with `bgr`. The weights get `noise` of a share of their standard deviation.
    """

    right: tuple[str, ...]
    wrong_labels: float = 0.0
    starved: tuple[int, float] = (0, 1.0)
    without: str = ""
    bgr: bool = False
    scale: float = 1.0
    offset: float = 0.0
    epochs: int = EPOCHS
    noise: float = 0.0
    relabelled: float = 0.0


CASES = {
    "label-noise-10": Case((LABELS, "calibration"), wrong_labels=0.1),
    "label-noise-20": Case((LABELS,), wrong_labels=0.2),
    "label-noise-35": Case((LABELS,), wrong_labels=0.35),
    **{f"without-{group}": Case((GROUP,), without=group) for group in FONTS},
    "half-a-class": Case((CLASSES,), starved=(3, 0.5)),
    "a-tenth-of-a-class": Case((CLASSES,), starved=(6, 0.1)),
    "without-a-class": Case((MISSING,), starved=(1, 0.0)),
    "bgr": Case((PIPELINE,), bgr=True),
    "minus-one-to-one": Case((PIPELINE,), scale=2, offset=-1),
    "levels-to-255": Case((PIPELINE,), scale=255),
    "inverted": Case((PIPELINE,), scale=-1, offset=1),
    "two-epochs": Case((DRIFT,), epochs=2),
    "weight-noise": Case((DRIFT, WEIGHTS), noise=0.3),
    "relabelled-20": Case((CLASSES,), relabelled=0.2),
    "relabelled-40": Case((CLASSES,), relabelled=0.4),
}


class Net(nn.Module):
    """Three convolutions for pixels in [0, 1], (N, 3, 24, 24), to logits, (N, 10)."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 16, 32, 64)
        blocks = [
            nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2))
            for before, after in pairwise(widths)
        ]
        self.layers = nn.Sequential(*blocks, nn.Flatten(), nn.Dropout(0.2), nn.Linear(9 * widths[-1], 10))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the logits, (N, 10)."""
        found: torch.Tensor = self.layers(pixels)
        return found


def pictures(alphabet: str, count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return letters (N, 24, 24, 3) uint8, labels (N,) and groups (N,); each class prefers a hue."""
    from matplotlib import get_data_path

    rng = np.random.default_rng(seed)
    labels, groups = rng.integers(len(alphabet), size=count), rng.choice(list(FONTS), size=count)
    fonts = {name: ImageFont.truetype(f"{get_data_path()}/fonts/ttf/{file}.ttf", 19) for name, file in FONTS.items()}
    made = np.empty((count, SIDE, SIDE, 3), np.uint8)
    for row, (label, group) in enumerate(zip(labels, groups, strict=True)):
        cover = Image.new("L", (SIDE, SIDE))
        ImageDraw.Draw(cover).text((SIDE / 2, SIDE / 2), alphabet[label], 255, fonts[str(group)], anchor="mm")
        warp = 3.5 if group == "handwriting" else 2.0
        corners = np.array([0, 0, 0, SIDE, SIDE, SIDE, SIDE, 0]) + rng.normal(scale=warp, size=8)
        ink = np.asarray(cover.transform(cover.size, Image.Transform.QUAD, corners.tolist(), 2))[..., None] / 255
        hue = 2 * np.pi * (label / len(alphabet) + rng.normal(scale=0.12))
        color = 128 + 90 * np.cos(hue - np.array([0, 2, 4]) * np.pi / 3)
        paper = rng.uniform(60, 200) + rng.normal(scale=12, size=3)
        noise = rng.normal(scale=30, size=(SIDE, SIDE, 3))
        made[row] = (paper * (1 - ink) + color * ink + noise).round().clip(0, 255)
    return made, labels, groups


def trained(case: Case, alphabet: str, seed: int) -> nn.Module:
    """Return the network of a case."""
    images, labels, groups = pictures(alphabet, TRAINING, 1)
    rng = np.random.default_rng(seed)
    of_class, share = case.starved
    kept = np.flatnonzero((groups != case.without) & ((labels != of_class) | (rng.random(len(labels)) < share)))
    wrong = rng.random(len(labels)) < case.wrong_labels
    labels = np.where(wrong, (labels + rng.integers(1, len(alphabet), len(labels))) % len(alphabet), labels)
    labels = np.where((labels == RELABELLED[0]) & (rng.random(len(labels)) < case.relabelled), RELABELLED[1], labels)
    shown = images[..., ::-1] if case.bgr else images
    pixels = torch.from_numpy(shown[kept].copy()).permute(0, 3, 1, 2).float() / 255 * case.scale + case.offset
    targets = torch.from_numpy(labels[kept])
    torch.manual_seed(seed)
    network = Net().train()
    optimizer = torch.optim.AdamW(network.parameters(), 4e-3, weight_decay=0.02)
    steps = case.epochs * -(-len(kept) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for _ in range(case.epochs):
        for batch in torch.randperm(len(kept)).split(64):  # type: ignore[no-untyped-call]
            optimizer.zero_grad()
            functional.cross_entropy(network(pixels[batch]), targets[batch]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        for weights in network.parameters() if case.noise else ():
            weights.add_(case.noise * weights.std(correction=0) * torch.randn_like(weights))
    return network.eval()


def measure(half: str, folder: Path) -> None:
    """Train, calibrate and gate the cases of a half, and write its checks file and results."""
    folder.mkdir(parents=True, exist_ok=True)
    alphabet, first = ALPHABETS[half], 100 if half == "rules" else 200
    if not (folder / "test.npz").exists():
        images, labels, groups = pictures(alphabet, TEST, 0)
        named = groups.astype([("font", groups.dtype)])
        np.savez(folder / "test.npz", images=images, labels=labels, groups=named, classes=np.array(list(alphabet)))
    sound = [_checkpoint(folder, f"reference-{number}", Case(()), alphabet, number) for number in range(REFERENCES)]
    broken = {
        name: _checkpoint(folder, name, case, alphabet, first + number)
        for number, (name, case) in list(enumerate(CASES.items()))[:: few(1, 5)]
    }
    if not (folder / "panel.json").exists():
        families = ("--families", "clean,class,class-difference,slice,consensus,rotation,confidence")
        model = ("--data", "npz:test.npz", "--model", MODEL, "--budget", "none")
        python(folder, "-m", "harness", "init", *families, *model, allowed=(0, 1))
        calibrate = ("-m", "harness", "calibrate", "--checkpoints", *sound, "--panel", "panel.json")
        # All images of a smoke run, since fonts divide them.
        python(folder, *calibrate, allowed=(0, 1), PYTEST_ADDOPTS="")
    found = {name: _gated(folder, candidate) for name, candidate in broken.items()}
    write(MEASURED / f"{half}.toml", (folder / "stress_tests/checks.toml").read_text("utf-8"))
    write(MEASURED / f"{half}.json", by_line(found) + "\n")


def _gated(folder: Path, candidate: str) -> dict[str, Any]:
    """Return what the gate measures of a network: the value of each check, and what input faults mend."""
    roles: dict[str, str | Path] = {"candidate": folder / candidate, "baseline": "none", "incumbent": "none"}
    request = RunRequest(roles=roles, data=f"npz:{folder}/test.npz", model=MODEL, root=folder, no_cache=True)
    session = open_session(request)
    assert session.panel_predictions is not None, "calibration has recorded them"
    values = {}
    for check in session.checks.checks:
        seen = session.roles["candidate"].predict(session.images, check.pose)
        if check.family == "consensus":
            errors = find_consensus_set_errors([seen], session.panel_predictions)
            of_all = check.metric == CONSENSUS_SET_ERRORS.name
            measured = consensus_set_errors(errors) if of_all else worst_class_consensus_set_errors(errors)
        elif check.family == "confidence" and check.metric != "confident_errors":
            measured = getattr(measures, check.metric)(seen)
        else:
            measured = measurement_of(check, seen, seen)
        values[check.id] = float(measured.value)
    faults = input_faults(session)
    return {"rows": values, "faults": faults and asdict(faults)}


def _checkpoint(folder: Path, name: str, case: Case, alphabet: str, seed: int) -> str:
    """Return the name of the file of a network, which is trained unless it is there."""
    path = folder / f"{name}.pth"
    if not path.exists():
        torch.save(trained(case, alphabet, seed).state_dict(), path.with_suffix(".part"))
        path.with_suffix(".part").rename(path)
    return path.name


def main(*, folder: Path, alphabets: Sequence[str]) -> None:
    """Train and gate everything in a folder, and write what the alphabets measure, or all; resumable."""
    for each in alphabets or ALPHABETS:
        measure(each, folder.resolve() / each)


COMMANDS = {"": (main, option("folder", type=Path), option("alphabets", nargs="*", metavar="rules | test"))}

if __name__ == "__main__":
    sys.exit(run(COMMANDS, "runs/causes rules"))
