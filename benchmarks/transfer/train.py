"""The fine-tunings: healthy ones that differ in the seed, and two seeds of each broken recipe.

The frozen blocks see each picture once per copy. The layers that learn are trained on what stays of
that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn import functional
from tqdm import tqdm

from benchmarks.transfer.network import NETWORKS, TRAIN, WORK, pretrained

COPIES, COPIES_BGR = 3, 1
"""Copies of each picture: the picture, and augmented ones; fewer in BGR, to save time."""
_BATCH, _DECAY = 128, 0.02
_DEGREES, _SHIFT, _SCALE, _LIGHT = 12.0, 0.12, 0.12, 0.2
"""Largest rotation, shift as a share of half the width, change of the size, and change of the
brightness.
"""


HEALTHY = "healthy"


@dataclass(frozen=True)
class Recipe:
    """A fine-tuning: `kind` and seed name it, the rest says what it does.

    `wrong_labels` is the share of random labels. `without_vendor` and `halved_class` name pictures
    that are missing. With `head_alone` only the last layer learns. `rate` is the learning rate of
    AdamW.
    """

    kind: str
    seed: int
    epochs: int = 10
    rate: float = 3e-3
    wrong_labels: float = 0.0
    without_vendor: str = ""
    halved_class: str = ""
    bgr: bool = False
    augmented: bool = True
    head_alone: bool = False

    @property
    def name(self) -> str:
        """Return the name of the network's file, without suffix."""
        return f"{self.kind}-seed-{self.seed:03}"


HEALTHY_SEEDS, MUTANT_SEEDS = range(1, 13), (201, 202)
"""Seeds of healthy fine-tunings and of each broken recipe."""
_BROKEN = (
    *(
        Recipe(f"label-noise-{percent:02}", 0, wrong_labels=percent / 100)
        for percent in (5, 10, 20)
    ),
    Recipe("without-fluent", 0, without_vendor="fluent"),
    Recipe("without-openmoji", 0, without_vendor="openmoji"),
    Recipe("half-of-food", 0, halved_class="food-drink"),
    Recipe("frozen-longer", 0, head_alone=True),
    Recipe("rate-times-5", 0, rate=1.5e-2),
    Recipe("no-augmentation", 0, augmented=False),
    Recipe("one-epoch", 0, epochs=1),
    Recipe("bgr", 0, bgr=True),
)
RECIPES = (
    *(Recipe(HEALTHY, seed) for seed in HEALTHY_SEEDS),
    *(replace(broken, seed=seed) for broken in _BROKEN for seed in MUTANT_SEEDS),
)


def pictures_of(
    recipe: Recipe, labels: np.ndarray, vendors: np.ndarray, classes: list[str]
) -> np.ndarray:
    """Return the positions of a recipe's training pictures.

    `labels` and `vendors` are (N,).
    """
    used = vendors != recipe.without_vendor
    if recipe.halved_class:
        of_class = np.flatnonzero(labels == classes.index(recipe.halved_class))
        used[np.random.default_rng(recipe.seed).permutation(of_class)[: len(of_class) // 2]] = False
    return np.flatnonzero(used)


def labels_of(recipe: Recipe, labels: np.ndarray, classes: int) -> np.ndarray:
    """Return the labels, (N,), with the recipe's share of them drawn at random."""
    rng = np.random.default_rng(recipe.seed)
    wrong = rng.permutation(len(labels))[: round(recipe.wrong_labels * len(labels))]
    made = labels.copy()
    made[wrong] = (made[wrong] + rng.integers(1, classes, len(wrong))) % classes
    return made


def train_all() -> None:
    """Fine-tune every network that has no file yet."""
    NETWORKS.mkdir(parents=True, exist_ok=True)
    waiting = [recipe for recipe in RECIPES if not (NETWORKS / f"{recipe.name}.pth").exists()]
    for recipe in tqdm(waiting, unit="network", smoothing=0):
        network = fine_tuned(recipe)
        part = NETWORKS / f"{recipe.name}.part"
        torch.save(network.state_dict(), part)
        part.rename(NETWORKS / f"{recipe.name}.pth")


def fine_tuned(recipe: Recipe) -> torch.nn.Module:
    """Return the network of a recipe; batch norms keep their statistics of ImageNet."""
    stored = np.load(TRAIN)
    classes = stored["classes"].tolist()
    chosen = torch.from_numpy(pictures_of(recipe, stored["labels"], stored["vendors"], classes))
    labels = torch.from_numpy(labels_of(recipe, stored["labels"], len(classes))).long()
    frozen = kept_features(bgr=recipe.bgr)
    torch.manual_seed(recipe.seed)
    network = pretrained()
    network.network._dropout.train()
    learning = list(network.learning(head_alone=recipe.head_alone))
    optimizer = torch.optim.AdamW(learning, lr=recipe.rate, weight_decay=_DECAY)
    steps = recipe.epochs * math.ceil(len(chosen) / _BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.rate, total_steps=steps, pct_start=0.2
    )
    for _ in range(recipe.epochs):
        for batch in chosen[torch.randperm(len(chosen))].split(_BATCH):
            copies = torch.randint(len(frozen) if recipe.augmented else 1, (len(batch),))
            found = network.logits(frozen[copies, batch].float())
            optimizer.zero_grad()
            functional.cross_entropy(found, labels[batch]).backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def kept_features(*, bgr: bool = False) -> torch.Tensor:
    """Return the frozen blocks' output for each copy of each picture, (copies, N, 320) float16.

    They stay in a file. With `bgr`, the channels are in this order.
    """
    path = WORK / f"features-{'bgr' if bgr else 'rgb'}.pt"
    if not path.exists():
        pixels = torch.from_numpy(np.load(TRAIN)["images"]).permute(0, 3, 1, 2)
        pixels = pixels.flip(1) if bgr else pixels
        network, generator = pretrained(), torch.Generator().manual_seed(0)
        with torch.inference_mode():
            made = [
                torch.cat(
                    [
                        network.features(_copy(part.float() / 255, copy, generator)).half()
                        for part in parts
                    ]
                )
                for copy in range(COPIES_BGR if bgr else COPIES)
                if (parts := pixels.split(_BATCH))
            ]
        torch.save(torch.stack(made), path)
    found: torch.Tensor = torch.load(path, weights_only=True, mmap=True)
    return found


def _copy(pixels: torch.Tensor, copy: int, generator: torch.Generator) -> torch.Tensor:
    """Return the pictures (N, 3, H, W), each rotated, shifted, scaled, flipped and lit at random.

    Copy 0 unchanged.
    """
    if copy == 0:
        return pixels
    drawn = torch.rand((5, len(pixels)), generator=generator) * 2 - 1
    angle, scale = drawn[0] * math.radians(_DEGREES), 1 + drawn[1] * _SCALE
    across = torch.where(drawn[2].abs() > 0.5, 1.0, -1.0)
    turn = torch.stack(
        [torch.stack([angle.cos() * across, -angle.sin()]), torch.stack([angle.sin(), angle.cos()])]
    )
    place = torch.cat(
        [
            turn.permute(2, 0, 1) * scale[:, None, None],
            (drawn[3:, :, None] * _SHIFT).permute(1, 0, 2),
        ],
        2,
    )
    grid = functional.affine_grid(place, list(pixels.shape), align_corners=False)
    moved = 1 + functional.grid_sample(pixels - 1, grid, align_corners=False)  # White outside.
    light = 1 + (torch.rand(len(pixels), generator=generator) * 2 - 1) * _LIGHT
    return (moved * light[:, None, None, None]).clamp(0, 1)
