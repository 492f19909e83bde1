"""Speed at 224 px.

Predictions in a pose, and Grad-CAM, against plain loops of the same network in the same run.

Run `python -m benchmarks.real.speed` on an idle machine. Pictures are drawn, and nothing is
downloaded. Weights are random except in the last layer. It is fitted to the pictures, so margins
are as wide as a trained network's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from benchmarks.runner import few, keep, load, option, read, run, table, versions, write_between
from benchmarks.speed.stopwatch import cores, peak_memory_mb, timed
from harness.data import LabelledImages
from harness.data.images import unit_range
from harness.inference import Classifier
from harness.inference.attention import attend
from harness.inference.graph import folded
from harness.inference.screening import has_bfloat16, lowered
from harness.networks.declared import DeclaredNetwork
from harness.networks.options import parse_normalization
from harness.perturb import IDENTITY, Pose

HERE = Path(__file__).parent
MODELS: dict[str, Callable[[], nn.Module]] = {
    "resnet18": torchvision.models.resnet18,
    "resnet50": torchvision.models.resnet50,
    "ViT-B/16": torchvision.models.vit_b_16,
}
POSES = (
    Pose(7, 1, 2),
    Pose(-5, 2, 0),
    Pose(10, -1, 1),
    Pose(-8, 0, 2),
    Pose(3, -2, -2),
    Pose(-2, 1, -1),
)
"""One for each repetition, since a model asked again remembers."""
BATCH = 32
SIDE = few(224, 32)
"""Width and height of the pictures."""
FITTED = (IDENTITY, Pose(4, 2, -1), Pose(-7, -2, 1), Pose(9, 0, 2))
"""Poses for the fit of the last layer; none is measured."""
RIDGE = 0.1
"""Penalty on the weights of the last layer, for features of unit variance."""
SHARES = {"ViT-B/16": 3}
"""Networks that are measured on fewer pictures, one in so many, since they take so much longer."""


@dataclass(frozen=True)
class Measured:
    """Median CPU milliseconds an image of each way, all threads together.

    None where it does not run here.
    """

    model: str
    images: int
    right: float
    predict_ms: float
    float32_ms: float
    bfloat16_ms: float | None
    attend_ms: float

    @property
    def ratio(self) -> float:
        """Return how many times the faster plain loop a prediction in a pose takes."""
        return self.predict_ms / min(filter(None, (self.float32_ms, self.bfloat16_ms)))

    @property
    def attention_passes(self) -> float:
        """Return how many plain float32 passes predictions and maps take."""
        return self.attend_ms / self.float32_ms


def pictures(count: int) -> LabelledImages:
    """Return so many smooth color pictures, with a color for each of ten classes."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 10
    coarse = torch.rand(10, 3, 7, 7, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bilinear").mul(200).byte()
    pixels = torch.empty(count, 3, SIDE, SIDE, dtype=torch.uint8)
    for number, label in enumerate(labels.tolist()):
        noise = torch.randint(0, 50, (3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
        pixels[number] = smooth[label] + noise
    return LabelledImages(pixels, labels, tuple("abcdefghij"), "pictures", "test")


def made(name: str, images: LabelledImages) -> DeclaredNetwork:
    """Return the network with ten classes and weights from a fixed seed.

    Its last layer is fitted to images in poses. Pixels are normalized first, as for any network.
    Raw pixels are far from zero and differ little from each other, so bfloat16 would tell few
    classes apart.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = MODELS[name](num_classes=10)
    model = DeclaredNetwork(
        network, normalization=parse_normalization("imagenet"), probabilities=False
    )
    model.eval().requires_grad_(requires_grad=False)
    *_, last = (layer for layer in model.modules() if isinstance(layer, nn.Linear))
    seen: list[Tensor] = []
    handle = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].double()))
    for pose in FITTED:
        plain_loop(model, images, pose)
    handle.remove()
    wanted = 10 * nn.functional.one_hot(images.labels.repeat(len(FITTED)), 10).double()
    features = torch.cat(seen)
    mean, scale = features.mean(0), features.std(0) + 1e-9
    unit = (features - mean) / scale
    # Ridge regression in its dual form, as there are fewer pictures than features.
    gram = unit @ unit.T + RIDGE * len(unit) * torch.eye(len(unit), dtype=torch.float64)
    weights = (unit.T @ torch.linalg.solve(gram, wanted - wanted.mean(0))).T / scale
    last.weight.copy_(weights)
    last.bias.copy_(wanted.mean(0) - weights @ mean)
    return model


def plain_loop(model: nn.Module, images: LabelledImages, pose: Pose = IDENTITY) -> None:
    """Evaluate as a careful script does: channels-last, batch after batch, in inference mode."""
    with torch.inference_mode():
        for part in torch.split(images.pixels, BATCH):
            model(pose(unit_range(part)).contiguous(memory_format=torch.channels_last)).argmax(1)


def measure(name: str, images: LabelledImages, *, repeats: int) -> Measured:
    """Measure all ways one after another, as often as wanted, on one core.

    The first round warms up.
    """
    images = images.take(torch.arange(len(images) // SHARES.get(name, 1)))
    model = made(name, images)
    classifier = Classifier(model, workers=1)
    classifier.measure_precision_on(images)
    eager = model.to(memory_format=torch.channels_last)
    low = lowered(folded(eager)) if has_bfloat16(torch.device("cpu")) else None

    def in_bfloat16() -> None:
        assert low is not None
        with torch.autocast("cpu", torch.bfloat16):
            plain_loop(low, images)

    some = images.take(torch.arange(min(16, len(images))))
    ways: dict[str, tuple[Callable[[Pose], object], int]] = {
        "predict": (lambda pose: classifier.predict(images, pose), len(images)),
        "float32": (lambda _: plain_loop(eager, images), len(images)),
        "attend": (lambda pose: attend(classifier, some, pose), len(some)),
        **({} if low is None else {"bfloat16": (lambda _: in_bfloat16(), len(images))}),
    }
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for pose in POSES[: repeats + 1]:
        for way, (call, count) in ways.items():
            seconds = timed(lambda call=call, pose=pose: call(pose)).cpu_seconds
            taken[way].append(1e3 * seconds / count)
    median = {f"{way}_ms": statistics.median(times[1:]) for way, times in taken.items()}
    right = float(classifier.predict(images, POSES[0]).correct.mean())
    return Measured(name, len(images), right, **{"bfloat16_ms": None, **median})


def peaks_of(count: int) -> tuple[float, float]:
    """Return a process's most memory in MB before and after so many predictions.

    The network is resnet18.
    """
    images = pictures(count)
    classifier = Classifier(made("resnet18", images.take(torch.arange(min(50, count)))), workers=2)
    before = peak_memory_mb()
    classifier.predict(images, POSES[0])
    return before, peak_memory_mb()


def main(
    *,
    images: int,
    repeats: int,
    models: Sequence[str],
    memory: Sequence[int],
    memory_of: int | None,
) -> None:
    """Measure everything and write results and table.

    Networks that are not named keep their earlier results.
    """
    if memory_of is not None:
        print(json.dumps(peaks_of(memory_of)))
        return
    drawn, peaks, machine = pictures(images), dict[int, tuple[float, float]](), load()
    earlier = [
        Measured(**result) for result in read(HERE / "speed.json", {"results": []})["results"]
    ]
    results = [result for result in earlier if result.model not in models]
    for name in models:
        with cores(1):
            results.append(measure(name, drawn, repeats=repeats))
        print(results[-1], f"{results[-1].ratio:.2f} of the faster loop", flush=True)
        # After each, since large networks take long.
        _keep(results, peaks, machine=machine, rounds=repeats)
    for count in memory:
        # A process for each, since a peak does not go down.
        command = [sys.executable, "-m", "benchmarks.real.speed", "--memory-of", str(count)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603  This very file.
        peaks[count] = json.loads(done.stdout)
        print(f"{count} pictures: {peaks[count]} MB", flush=True)
        _keep(results, peaks, machine=machine, rounds=repeats)


def _keep(
    results: Sequence[Measured], peaks: dict[int, tuple[float, float]], *, machine: str, rounds: int
) -> None:
    keep(HERE / "speed.json", {"results": results, "peak_memory_mb": peaks, "machine": machine})
    rows = []
    for each in results:
        low = "none here" if each.bfloat16_ms is None else f"{each.bfloat16_ms:.1f}"
        times = f"{each.predict_ms:.1f}", f"{each.float32_ms:.1f}", low, f"{each.ratio:.2f}"
        attention = f"{each.attend_ms:.1f}", f"{each.attention_passes:.2f}"
        rows.append(
            (
                each.model,
                each.images,
                f"{each.right:.0%}",
                *times,
                f"{1e3 / each.predict_ms:.1f}",
                *attention,
            )
        )
    head = ("network", "images", "right", "`predict` in a pose", "plain float32", "folded bfloat16")
    head = (
        *head,
        "ratio to the faster, ≤ 1.1",
        "images a CPU second",
        "attention",
        "in plain passes, ≤ 3",
    )
    parts = [f"Measured on {machine}; {versions('torch')}, on one core."]
    parts += [f"CPU milliseconds an image, medians of rounds: {rounds}:", table(head, rows)]
    if peaks:
        parts.append(
            "Peak memory of a process in which resnet18 predicts pictures that lie in memory:"
        )
        of_counts = [
            (f"{count:,}", f"{before:.0f}", f"{after:.0f}")
            for count, (before, after) in peaks.items()
        ]
        parts.append(table(("pictures", "before, MB", "after, MB"), of_counts))
    write_between(HERE / "README.md", "results of speed", "\n\n".join(parts))


COMMANDS = {
    "": (
        main,
        option(
            "--images", type=int, default=300, help="pictures of each prediction (default: 300)"
        ),
        option(
            "--repeats",
            type=int,
            default=5,
            choices=range(1, 6),
            help="rounds, after one to warm up",
        ),
        option("--models", nargs="+", default=list(MODELS), choices=MODELS, help="default: all"),
        option(
            "--memory", type=int, nargs="*", default=[500, 2000], metavar="N", help="sizes of sets"
        ),
        option("--memory-of", type=int, help=argparse.SUPPRESS),
    )
}

if __name__ == "__main__":
    sys.exit(run(COMMANDS, "--images 4 --repeats 1 --models resnet18 --memory 4"))
