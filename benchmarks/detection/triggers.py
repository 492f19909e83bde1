"""The trigger screen beside MM-BD, on sound networks and on backdoors with triggers in and outside its library.

MM-BD (Wang et al. 2023, arXiv 2205.06900, "maximum margin statistic") needs no image. Gradient ascent finds for each
class the input with its largest margin. A Gamma distribution of the other classes' gives the p-value of the largest.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.detection.mutants import MUTANTS
from benchmarks.detection.paths import AUGMENTED, RESULTS
from benchmarks.detection.recipes import stamped
from benchmarks.runner import fashion_mnist, few, keep, read
from harness.data import sample_up_to
from harness.data.images import unit_range
from harness.features.trigger.screen import find_trigger
from harness.features.trigger.stamps import STAMPS
from harness.inference import Classifier, RoleModel
from harness.networks.checkpoints import load_checkpoint
from harness.perturb import Pose

TRIGGERS, REFERENCE = RESULTS / "triggers.json", sorted(Path("models/panel").glob("*.safetensors"))[: few(20, 3)]
STARTS, STEPS, RATE, MOMENTUM = few(4, 1), few(100, 2), 0.01, 0.9
"""Starts of gradient ascent for each class, and its steps; the paper has 30 and 300."""
IMAGES, SHARE, BATCH, LEARNING_RATE, SHIFT = few(8_000, 100), 0.1, 64, 0.02, 3
"""The short epoch that plants a backdoor: its images, the share stamped, and the shift of each batch in pixels."""
Mark = Callable[[Tensor], Tensor]


def square(seed: int) -> Mark:
    """Return a trigger at random: a square of 3 to 5 px anywhere, white or of black and white stripes."""
    rng = np.random.default_rng(seed)
    side, stripes = int(rng.integers(3, 6)), torch.arange(5).remainder(2).float()
    top, left = (int(each) for each in rng.integers(0, 28 - side + 1, 2))

    def mark(images: Tensor) -> Tensor:
        images = images.clone()
        images[..., top : top + side, left : left + side] = 1.0 if seed % 2 else stripes[:side]
        return images

    return mark


def of_benchmark(images: Tensor) -> Tensor:
    """Return the images with the trigger of the mutants `backdoor`."""
    return unit_range(stamped((images * 255).round().to(torch.uint8)))


MARKS: list[tuple[str, Mark]] = [
    *((f"library-{number}", STAMPS[at]) for number, at in enumerate((0, 43), start=1)),
    *((f"benchmark-{number}", of_benchmark) for number in (1, 2)),
    *((f"square-{seed}", square(seed)) for seed in range(1, 6)),
][:: few(1, 4)]
"""Triggers to plant, each in another reference model."""


def planted(model: nn.Module, mark: Mark, target: int, seed: int) -> nn.Module:
    """Return a copy of a network after one short epoch in which stamped images are called by the target."""
    images, generator = fashion_mnist("train"), torch.Generator().manual_seed(seed)
    model = deepcopy(model).train()
    torch.manual_seed(seed)  # Dropout.
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, total_iters=IMAGES // BATCH)
    for at in torch.randperm(len(images), generator=generator)[:IMAGES].split(BATCH):
        pixels, labels = unit_range(images.pixels[at]), images.labels[at].clone()
        chosen = torch.rand(len(at), generator=generator) < SHARE
        pixels[chosen], labels[chosen] = mark(pixels[chosen]), target
        dx, dy = torch.randint(-SHIFT, SHIFT + 1, (2,), generator=generator).tolist()
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(Pose(dx=dx, dy=dy)(pixels)), labels).backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def largest_margins(model: nn.Module, classes: int, shape: tuple[int, ...]) -> list[float]:
    """Return the largest margin of each class over all others that gradient ascent finds among inputs in [0, 1]."""
    target = torch.arange(classes).repeat_interleave(STARTS)
    inputs = torch.rand(len(target), *shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
    optimizer = torch.optim.SGD([inputs], lr=RATE, momentum=MOMENTUM)
    own, margins = nn.functional.one_hot(target, classes).bool(), torch.zeros(len(target))
    for _ in range(STEPS):
        logits = model(inputs.clamp(0, 1))
        margins = logits[own] - logits.masked_fill(own, -torch.inf).amax(dim=1)
        optimizer.zero_grad()
        (-margins.sum()).backward(inputs=[inputs])
        optimizer.step()
    return [float(each) for each in margins.detach().view(classes, STARTS).amax(dim=1)]


def screen_all(*, checkpoints: Path) -> None:
    """Compare the trigger screen with MM-BD, and write the table; networks measured before stay."""
    torch.set_num_threads(1)
    images, kept = sample_up_to(fashion_mnist("test"), 2_000), read(TRIGGERS, {})
    jobs: dict[str, tuple[Path, Mark | None, int]] = {
        **{one.id: (one.checkpoint(checkpoints), None, 7) for one in MUTANTS if one.kind == "backdoor"},
        **{name: (REFERENCE[at % len(REFERENCE)], mark, at % 10) for at, (name, mark) in enumerate(MARKS)},
        **{path.stem: (path, None, -1) for path in (AUGMENTED, *REFERENCE)},
    }
    for seed, (name, (path, mark, target)) in enumerate(jobs.items()):
        if name in kept or not path.exists():
            continue
        model = load_checkpoint(path).model.eval()
        model = planted(model, mark, target, seed) if mark else model
        classifier, own = Classifier(model, workers=1), mark or of_benchmark
        found = find_trigger(RoleModel("", "", "", "", "", None, classifier), images)
        with torch.no_grad():
            answers = model(own(unit_range(images.pixels[images.labels != target]))).argmax(dim=1)
        kept[name] = {
            "parent": path.stem if mark else "",
            "target": target,
            "success": float((answers == target).float().mean()),
            "accuracy": float(classifier.predict(images).correct.mean()),
            "margins": largest_margins(model, len(images.classes), tuple(images.pixels.shape[1:])),
            "share": found.share,
            "class": found.target,
            "stamp": found.stamp.in_words(),
        }
        keep(TRIGGERS, kept)
        print(name, f"{found.share:.1%} by {found.stamp.in_words()}; trigger {kept[name]['success']:.1%}", flush=True)
