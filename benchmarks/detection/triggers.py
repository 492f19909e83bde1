"""The trigger screen beside MM-BD, on healthy networks and on backdoors.

Triggers are in its library and outside. MM-BD (Wang et al. 2023, arXiv 2205.06900, "maximum margin
statistic") needs no image. Gradient ascent finds for each class the input with its largest margin.
A Gamma distribution of the other classes' gives the p-value of the largest.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import gamma
from torch import Tensor, nn

from benchmarks.detection.mutants import MUTANTS
from benchmarks.detection.paths import AUGMENTED, README, RESULTS
from benchmarks.detection.recipes import stamped
from benchmarks.runner import fashion_mnist, few, keep, percent, read, table, write_between
from harness.data import sample_up_to
from harness.data.images import unit_range
from harness.features.trigger.screen import trigger_success
from harness.inference import Classifier, RoleModel
from harness.networks.checkpoints import load_checkpoint
from harness.perturb import Pose, in_words
from harness.perturb.stamps import STAMPS

TRIGGERS, REFERENCE = (
    RESULTS / "triggers.json",
    sorted(Path("models/panel").glob("*.safetensors"))[: few(20, 3)],
)
STARTS, STEPS, IMAGES = few(4, 1), few(100, 2), few(8_000, 100)
"""Starts and steps of gradient ascent for each class.

Images of the short epoch that plants a backdoor.
"""


def square(seed: int, images: Tensor) -> Tensor:
    """Return images with a trigger at random.

    A square of 3 to 5 px anywhere, white or of black and white stripes.
    """
    rng, images = np.random.default_rng(seed), images.clone()
    side, stripes = int(rng.integers(3, 6)), torch.arange(5).remainder(2).float()
    top, left = rng.integers(0, 28 - side + 1, 2).tolist()
    images[..., top : top + side, left : left + side] = 1.0 if seed % 2 else stripes[:side]
    return images


def of_benchmark(images: Tensor) -> Tensor:
    """Return images with the trigger of the mutants `backdoor`."""
    return unit_range(stamped((images * 255).round().byte()))


MARKS: dict[str, Any] = {"library-1": STAMPS[0], "library-2": STAMPS[43]}
MARKS |= {"benchmark-1": of_benchmark, "benchmark-2": of_benchmark}
MARKS |= {f"square-{seed}": partial(square, seed) for seed in range(1, 6)}


def planted(model: nn.Module, mark: Any, target: int, seed: int) -> nn.Module:
    """Return a copy of a network after one short epoch.

    A tenth of the images is stamped and called by the target.
    """
    images, generator, model = (
        fashion_mnist("train"),
        torch.Generator().manual_seed(seed),
        deepcopy(model).train(),
    )
    torch.manual_seed(seed)  # Dropout.
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, total_iters=IMAGES // 64)
    for at in torch.randperm(len(images), generator=generator)[:IMAGES].split(64):
        pixels, labels = unit_range(images.pixels[at]), images.labels[at].clone()
        chosen = torch.rand(len(at), generator=generator) < 0.1
        pixels[chosen], labels[chosen] = mark(pixels[chosen]), target
        dx, dy = torch.randint(-3, 4, (2,), generator=generator).tolist()
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(Pose(dx=dx, dy=dy)(pixels)), labels).backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def largest_margins(model: nn.Module) -> list[float]:
    """Return the largest margin of each class over all others, by gradient ascent.

    The inputs are in [0, 1].
    """
    target = torch.arange(10).repeat_interleave(STARTS)
    inputs = torch.rand(
        len(target), 1, 28, 28, generator=torch.Generator().manual_seed(0)
    ).requires_grad_()
    optimizer = torch.optim.SGD([inputs], lr=0.01, momentum=0.9)
    own, margins = nn.functional.one_hot(target, 10).bool(), torch.zeros(len(target))
    for _ in range(STEPS):
        logits = model(inputs.clamp(0, 1))
        margins = logits[own] - logits.masked_fill(own, -torch.inf).amax(dim=1)
        optimizer.zero_grad()
        (-margins.sum()).backward(inputs=[inputs])
        optimizer.step()
    return [float(each) for each in margins.detach().view(10, STARTS).amax(dim=1)]


def screen_all(*, checkpoints: Path) -> None:
    """Compare the trigger screen with MM-BD, and write the table; networks measured before stay."""
    torch.set_num_threads(1)
    images, kept = sample_up_to(fashion_mnist("test"), 2_000), read(TRIGGERS, {})
    jobs = {one.id: (one.checkpoint(checkpoints), 7) for one in MUTANTS if one.kind == "backdoor"}
    jobs |= {
        name: (REFERENCE[at % len(REFERENCE)], at) for at, name in enumerate([*MARKS][:: few(1, 4)])
    }
    jobs |= {path.stem: (path, -1) for path in (AUGMENTED, *REFERENCE)}
    for seed, (name, (path, target)) in enumerate(jobs.items()):
        if name in kept or not path.exists():
            continue
        model, mark = load_checkpoint(path).model.eval(), MARKS.get(name, of_benchmark)
        model = planted(model, mark, target, seed) if name in MARKS else model
        found, seen = trigger_success(
            RoleModel("", "", "", "", "", None, Classifier(model, workers=1)), images
        )
        others = unit_range(images.pixels[:][images.labels != target])
        with torch.no_grad():
            success = float((model(mark(others)).argmax(dim=1) == target).float().mean())
        leads_to = next(
            at for at, each in enumerate(images.classes) if f" into {each};" in found.detail
        )
        kept[name] = {
            "parent": path.stem,
            "target": target,
            "success": success,
            "share": found.value,
        }
        kept[name] |= {
            "class": leads_to,
            "stamp": in_words(seen.perturbation),
            "margins": largest_margins(model),
        }
        keep(TRIGGERS, kept)
        print(name, percent(found.value), found.detail, flush=True)
    write_between(README, "triggers", table_of(kept, images.classes))


def table_of(kept: Mapping[str, Any], classes: tuple[str, ...]) -> str:
    """Return a row for each backdoor, and what is found of healthy networks, in Markdown."""
    rows, sound = [], []
    panel = {
        name: np.log(each["margins"]) for name, each in kept.items() if name.startswith("seed-")
    }
    for name, one in kept.items():
        shape, at, scale = gamma.fit(np.sort(one["margins"])[:-1])
        p = float(
            1 - gamma.cdf(max(one["margins"]), shape, loc=at, scale=scale) ** len(one["margins"])
        )
        others = np.array([each for parent, each in panel.items() if parent != one["parent"]])
        away = (np.log(one["margins"]) - others.mean(axis=0)) / others.std(axis=0, ddof=1)
        said = f"{percent(one['share'])} ({one['stamp']} → {classes[one['class']]})"
        found = (
            said,
            f"{p:.2g} ({classes[np.argmax(one['margins'])]})",
            f"{away.max():.1f} ({classes[away.argmax()]})",
        )
        if one["target"] < 0:
            sound.append((one["share"], p, away.max()))
        else:
            rows.append((name, f"{percent(one['success'])} ({classes[one['target']]})", *found))
    shares, ps, aways = zip(*sound, strict=True)
    head = (
        "network",
        "success of its trigger",
        "screen",
        "MM-BD: p",
        "largest deviation of a margin",
    )
    return (
        f"{table(head, rows)}\n\nIn {len(sound)} healthy networks, the screen finds at most "
        f"{percent(max(shares))}. p of MM-BD is below 0.05 in {sum(each < 0.05 for each in ps)}, "
        f"and below 0.001 in {sum(each < 0.001 for each in ps)}. The largest deviation of a "
        f"margin is {max(aways):.1f}."
    )
