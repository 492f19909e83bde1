"""Rendered letters in color, a small network for them, and cases of broken training.

`python -m benchmarks.causes.rendered FOLDER` trains and measures everything in FOLDER and writes
`measured/` beside this file. It takes about 30 minutes of one core and is resumable. The first
three alphabets chose rules, the fourth tests them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import nn
from torch.nn import functional

from benchmarks.runner import by_line, few, option, python, run, write
from benchmarks.transfer.measure import measurement_of
from harness import measures
from harness.features.batch_norm.distance import (
    batch_norm_distance,
    batch_norm_distance_minimum,
    find_batch_norm_distances,
)
from harness.features.consensus.measures import (
    consensus_set_errors,
    find_consensus_set_errors,
    worst_class_consensus_set_errors,
)
from harness.features.consensus.soft import (
    find_known_images,
    largest_soft_confusion,
    lost_probability,
    panel_divergence,
)
from harness.perturb import HorizontalFlip
from harness.report.cause_rules import CLASSES, DRIFT, GROUP, LABELS, MISSING, PIPELINE, WEIGHTS
from harness.run.input_faults import input_faults
from harness.run.opening import open_session
from harness.run.request import RunRequest

if TYPE_CHECKING:
    from harness.checks import Check
    from harness.inference.predictions import Predictions
    from harness.measures import Measurement
    from harness.measures.panel.predictions import PanelPredictions
    from harness.run.session import StressSession

MEASURED = Path(__file__).parent / "measured"
ALPHABETS = {
    "rules": "ABEFGHKMQR",
    "test": "CDIJLOPTUV",
    "third": "NSWXYZ2347",
    "fourth": "abdefghnqr",
}
"""The classes of each alphabet. The first three chose rules, the fourth was measured after that."""
FIRST_SEEDS = {"rules": 100, "test": 200, "third": 300, "fourth": 400}
"""Seed of the first broken network of each alphabet; each further one has the next seed."""
FAMILIES = (
    "clean,class,class-difference,slice,consensus,soft_confusion,"
    "rotation,shift,flip,confidence,batch_norm"
)
BATCH_NORMS, RECIPE = "batch norms", "training recipe"
"""The group of causes that the feature of batch norms adds."""
FONTS = {
    "sans": "DejaVuSans",
    "serif": "DejaVuSerif",
    "typewriter": "cmtt10",
    "handwriting": "STIXGeneralItalic",
}
MODEL = "benchmarks.causes.rendered:Net"
SIDE, TRAINING, TEST = 24, few(4_000, 1_000), few(2_000, 200)
EPOCHS, REFERENCES = few(6, 2), few(8, 3)
_DIGITS = 9
RELABELLED = 4, 7
"""A class, and the one that some of its pictures are labeled as."""


@dataclass(frozen=True)
class Case:
    """A broken training: its right causes, and what it changes.

    `wrong_labels` is the share of random labels, and `relabelled` that of one class with another
    label. Of the class at `starved` only a share stays, of all images `share`, and `without` names
    the group that training lacks. Pixels in [0, 1] become `scale * pixels + offset`, in BGR with
    `bgr`. The weights get `noise` of a share of their standard deviation. The batch norm
    `stale_layer` keeps its running statistics of the first epoch.
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
    share: float = 1.0
    stale_layer: int | None = None


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
    "half-of-the-images": Case((DRIFT,), share=0.5),
    "a-quarter-of-the-images": Case((DRIFT,), share=0.25),
    "stale-middle-layer": Case((BATCH_NORMS, WEIGHTS), stale_layer=1),
    "stale-late-layer": Case((BATCH_NORMS, WEIGHTS), stale_layer=2),
}


class Net(nn.Module):
    """Three convolutions for pixels in [0, 1], (N, 3, 24, 24), to logits, (N, 10)."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 16, 32, 64)
        blocks = [
            nn.Sequential(
                nn.Conv2d(before, after, 3, padding=1),
                nn.BatchNorm2d(after),
                nn.ReLU(),
                nn.MaxPool2d(2),
            )
            for before, after in pairwise(widths)
        ]
        self.layers = nn.Sequential(
            *blocks, nn.Flatten(), nn.Dropout(0.2), nn.Linear(9 * widths[-1], 10)
        )

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the logits, (N, 10)."""
        found: torch.Tensor = self.layers(pixels)
        return found


def pictures(alphabet: str, count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return letters (N, 24, 24, 3) uint8, labels (N,) and groups (N,).

    Each class prefers a hue.
    """
    from matplotlib import get_data_path

    rng = np.random.default_rng(seed)
    labels, groups = rng.integers(len(alphabet), size=count), rng.choice(list(FONTS), size=count)
    fonts = {
        name: ImageFont.truetype(f"{get_data_path()}/fonts/ttf/{file}.ttf", 19)
        for name, file in FONTS.items()
    }
    made = np.empty((count, SIDE, SIDE, 3), np.uint8)
    for row, (label, group) in enumerate(zip(labels, groups, strict=True)):
        cover = Image.new("L", (SIDE, SIDE))
        ImageDraw.Draw(cover).text(
            (SIDE / 2, SIDE / 2), alphabet[label], 255, fonts[str(group)], anchor="mm"
        )
        warp = 3.5 if group == "handwriting" else 2.0
        corners = np.array([0, 0, 0, SIDE, SIDE, SIDE, SIDE, 0]) + rng.normal(scale=warp, size=8)
        ink = (
            np.asarray(cover.transform(cover.size, Image.Transform.QUAD, corners.tolist(), 2))[
                ..., None
            ]
            / 255
        )
        hue = 2 * np.pi * (label / len(alphabet) + rng.normal(scale=0.12))
        color = 128 + 90 * np.cos(hue - np.array([0, 2, 4]) * np.pi / 3)
        paper = rng.uniform(60, 200) + rng.normal(scale=12, size=3)
        noise = rng.normal(scale=30, size=(SIDE, SIDE, 3))
        made[row] = (paper * (1 - ink) + color * ink + noise).round().clip(0, 255)
    return made, labels, groups


def trained(case: Case, alphabet: str, seed: int) -> nn.Module:
    """Return the network of a case."""
    pixels, labels = _training_data(case, alphabet, seed)
    torch.manual_seed(seed)
    network = Net().train()
    _train(network, pixels, labels, case)
    if case.noise:
        _add_noise(network, case.noise)
    return network.eval()


def _training_data(case: Case, alphabet: str, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the pixels, (N, 3, 24, 24), and labels, (N,), that a case trains on."""
    images, labels, groups = pictures(alphabet, TRAINING, 1)
    rng = np.random.default_rng(seed)
    starved_class, starved_share = case.starved
    stays = (labels != starved_class) | (rng.random(len(labels)) < starved_share)
    stays &= groups != case.without

    is_wrong = rng.random(len(labels)) < case.wrong_labels
    other_labels = (labels + rng.integers(1, len(alphabet), len(labels))) % len(alphabet)
    labels = np.where(is_wrong, other_labels, labels)
    is_relabelled = (labels == RELABELLED[0]) & (rng.random(len(labels)) < case.relabelled)
    labels = np.where(is_relabelled, RELABELLED[1], labels)
    if case.share < 1:
        stays &= rng.random(len(labels)) < case.share

    ordered = images[..., ::-1] if case.bgr else images
    pixels = torch.from_numpy(ordered[stays].copy()).permute(0, 3, 1, 2).float() / 255
    return pixels * case.scale + case.offset, torch.from_numpy(labels[stays])


def _train(network: nn.Module, pixels: torch.Tensor, labels: torch.Tensor, case: Case) -> None:
    batch_norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    optimizer = torch.optim.AdamW(network.parameters(), 4e-3, weight_decay=0.02)
    steps = case.epochs * -(-len(pixels) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for epoch in range(case.epochs):
        if epoch and case.stale_layer is not None:
            batch_norms[case.stale_layer].momentum = 0.0
        for batch in torch.randperm(len(pixels)).split(64):  # type: ignore[no-untyped-call]
            optimizer.zero_grad()
            functional.cross_entropy(network(pixels[batch]), labels[batch]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()


@torch.no_grad()
def _add_noise(network: nn.Module, share: float) -> None:
    for weights in network.parameters():
        weights.add_(share * weights.std(correction=0) * torch.randn_like(weights))


def measure(half: str, folder: Path) -> None:
    """Train, calibrate and measure the cases of an alphabet; write its checks file and results."""
    folder.mkdir(parents=True, exist_ok=True)
    alphabet, first_seed = ALPHABETS[half], FIRST_SEEDS[half]
    if not (folder / "test.npz").exists():
        images, labels, groups = pictures(alphabet, TEST, 0)
        fonts = groups.astype([("font", groups.dtype)])
        np.savez(
            folder / "test.npz",
            images=images,
            labels=labels,
            groups=fonts,
            classes=np.array(list(alphabet)),
        )

    healthy = [
        _checkpoint(folder, f"reference-{seed}", Case(()), alphabet, seed)
        for seed in range(REFERENCES)
    ]
    broken = {}
    for number, (name, case) in list(enumerate(CASES.items()))[:: few(1, 10)]:
        broken[name] = _checkpoint(folder, name, case, alphabet, first_seed + number)

    if not (folder / "panel.json").exists():
        model = ("--data", "npz:test.npz", "--model", MODEL, "--budget", "none")
        python(folder, "-m", "harness", "init", "--families", FAMILIES, *model, allowed=(0, 1))
        calibrate = (
            "-m",
            "harness",
            "calibrate",
            "--checkpoints",
            *healthy,
            "--panel",
            "panel.json",
        )
        # All images of a smoke run, since fonts divide them.
        python(folder, *calibrate, allowed=(0, 1), PYTEST_ADDOPTS="")

    results = {name: _measured(folder, candidate) for name, candidate in broken.items()}
    write(MEASURED / f"{half}.toml", (folder / "stress_tests/checks.toml").read_text("utf-8"))
    write(MEASURED / f"{half}.json", by_line(results) + "\n")


def _measured(folder: Path, candidate: str) -> dict[str, Any]:
    """Return what the gate measures of a network.

    The value of each check, and what input faults mend.
    """
    roles: dict[str, str | Path] = {
        "candidate": folder / candidate,
        "baseline": "none",
        "incumbent": "none",
    }
    request = RunRequest(
        roles=roles, data=f"npz:{folder}/test.npz", model=MODEL, root=folder, no_cache=True
    )
    session = open_session(request)
    values = {check.id: round(_value(session, check), _DIGITS) for check in session.checks.checks}
    faults = input_faults(session)
    return {"rows": values, "faults": faults and asdict(faults)}


def _value(session: StressSession, check: Check) -> float:
    """Return the value of a check, by the functions that its stress test calls."""
    candidate, images, panel = session.roles["candidate"], session.images, session.panel_predictions
    assert panel is not None, "calibration has recorded them"
    predictions = candidate.predict(images, check.pose)
    match check.family:
        case "consensus" | "soft_confusion":
            measurement = _on_consensus_set(check, predictions, panel)
        case "batch_norm":
            distance = {
                "batch_norm_distance": batch_norm_distance,
                "batch_norm_distance_minimum": batch_norm_distance_minimum,
            }[check.metric]
            measurement = distance(
                find_batch_norm_distances(candidate, images), str(check.keys["layers"])
            )
        case "confidence" if check.metric != "confident_errors":
            measurement = getattr(measures, check.metric)(predictions)
        case _:
            measurement = measurement_of(
                check, predictions, candidate.predict(images, HorizontalFlip())
            )
    return float(measurement.value)


def _on_consensus_set(
    check: Check, predictions: Predictions, panel: PanelPredictions
) -> Measurement:
    errors = {
        "consensus_set_errors": consensus_set_errors,
        "worst_class_consensus_set_errors": worst_class_consensus_set_errors,
    }
    if check.metric in errors:
        return errors[check.metric](find_consensus_set_errors([predictions], panel))
    soft = {
        "panel_divergence": panel_divergence,
        "lost_probability": lost_probability,
        "largest_soft_confusion": largest_soft_confusion,
    }
    return soft[check.metric](find_known_images(predictions, panel))


def _checkpoint(folder: Path, name: str, case: Case, alphabet: str, seed: int) -> str:
    """Return the name of the file of a network, which is trained unless it is there."""
    path = folder / f"{name}.pth"
    if not path.exists():
        torch.save(trained(case, alphabet, seed).state_dict(), path.with_suffix(".part"))
        path.with_suffix(".part").rename(path)
    return path.name


def main(*, folder: Path, alphabets: Sequence[str]) -> None:
    """Train and measure everything in a folder, and write what the alphabets measure, or all.

    Resumable.
    """
    for alphabet in alphabets or ALPHABETS:
        measure(alphabet, folder.resolve() / alphabet)


COMMANDS = {
    "": (
        main,
        option("folder", type=Path),
        option("alphabets", nargs="*", metavar=" | ".join(ALPHABETS)),
    )
}

if __name__ == "__main__":
    sys.exit(run(COMMANDS, "runs/causes rules"))
