"""Train the networks of a domain, a hundred at a time, and record their logits; resumable."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from tqdm import tqdm

from benchmarks.alarms.domains import DOMAINS, NetworkDomain, Training, images_of
from benchmarks.alarms.network import Networks
from benchmarks.runner import few
from harness.data.images import LabelledImages

RUNS = Path(__file__).parent / "runs"
"""The recorded batches, no part of the repository."""
HEALTHY = "healthy"
BROKEN = ("label-noise", "class-halved", "no-shifts", "rate-times-3")
"""Kinds of broken networks, see `networks_of`."""
TOGETHER = few(25, 4)
"""Networks of a batch. With more, a layer would not fit into the cache of a core."""
HEALTHY_NETWORKS, NETWORKS_OF_A_KIND = few(2_000, 12), few(125, 4)
"""Numbers of networks in a domain."""
NOISE = 0.1
"""Share of labels of a network with label noise that are those of another class."""
_DECAY = (0.9, 0.999)
"""Decay of the two means of Adam (Kingma & Ba 2015)."""
_TINY = 1e-8
_PART = 200
"""Test images that are predicted together."""


@dataclass(frozen=True)
class Batch:
    """Networks of one kind that are trained together; `number` counts the batches of a kind."""

    domain: str
    kind: str
    number: int

    @property
    def path(self) -> Path:
        """Return the file of the networks' logits."""
        return RUNS / f"{self.domain}-{self.kind}-{self.number:02}.npy"

    @property
    def generator(self) -> torch.Generator:
        """Return the generator of everything that is drawn in the training."""
        position = list(DOMAINS).index(self.domain)
        kinds = (HEALTHY, *BROKEN)
        seed = (position * len(kinds) + kinds.index(self.kind)) * 10_000 + self.number
        return torch.Generator().manual_seed(seed)


def batches_of(domain: str, kind: str) -> list[Batch]:
    """Return the batches of a kind."""
    networks = HEALTHY_NETWORKS if kind == HEALTHY else NETWORKS_OF_A_KIND
    return [Batch(domain, kind, number) for number in range(networks // TOGETHER)]


def train_all(*, domain: str | None) -> None:
    """Train all networks whose logits are not recorded; about 15 minutes on two idle cores."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    RUNS.mkdir(exist_ok=True)
    names = (domain,) if domain else tuple(DOMAINS)
    batches = [
        batch for name in names for kind in (*BROKEN, HEALTHY) for batch in batches_of(name, kind)
    ]
    for batch in tqdm(batches, unit="batch", smoothing=0):
        if not batch.path.exists():
            logits = logits_of(batch)
            part = batch.path.with_suffix(".part.npy")
            np.save(part, logits)
            part.rename(batch.path)


def logits_of(batch: Batch) -> np.ndarray:
    """Train a batch of networks.

    Return their logits, (networks, conditions, images, classes) float16.
    """
    domain = DOMAINS[batch.domain]
    training, test = images_of(batch.domain)
    networks = trained(domain, batch, training)
    return predicted(networks, domain, test)


def trained(domain: NetworkDomain, batch: Batch, training: Training) -> Networks:
    """Return the networks of a batch, trained by the domain's recipe with the fault of their kind.

    All images of a network's epoch are in an order of its own, with augmentation of its own. The
    learning rate falls to zero in a straight line.
    """
    recipe, generator = domain.recipe, batch.generator
    networks = Networks(TOGETHER, training.pixels.shape[-1], 10, generator)
    shifts = 0 if batch.kind == "no-shifts" else 1
    rate = recipe.rate * (3 if batch.kind == "rate-times-3" else 1)
    copies, flips = _copies(training.pixels, shifts=shifts, flip=recipe.flip), 1 + recipe.flip
    labels, chosen = faulty(batch, training.labels, generator)

    images = len(training.labels)
    steps = recipe.epochs * (images // recipe.batch)
    adam = _Adam(networks.parameters)
    step = 0
    for _ in range(recipe.epochs):
        order = torch.rand(TOGETHER, images, generator=generator).argsort(dim=1)
        for start in range(0, images - recipe.batch + 1, recipe.batch):
            places = order[:, start : start + recipe.batch]
            rows = chosen.gather(1, places)
            copy = torch.randint(flips * (2 * shifts + 1) ** 2, rows.shape, generator=generator)
            pixels = copies[copy, rows].flatten(0, 1)
            windows = networks.windows(pixels).unflatten(0, rows.shape)
            logits = networks.logits(windows)
            loss = functional.cross_entropy(
                logits.flatten(0, 1), labels.gather(1, places).flatten(), reduction="sum"
            )
            # A network's gradient is that of its own mean loss.
            (loss / recipe.batch).backward()
            adam.step(rate * (1 - step / steps))
            step += 1
    return networks


def faulty(
    batch: Batch, labels: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return labels and positions of each network's training images, both (networks, images).

    With label noise, a tenth of the labels are those of another class. In a halved class, which
    goes round the classes, other training images stand in for half of the images.
    """
    images, classes = len(labels), int(labels.max()) + 1
    positions = torch.arange(images).expand(TOGETHER, -1).clone()
    if batch.kind == "class-halved":
        for network in range(TOGETHER):
            members = torch.nonzero(labels == network % classes).flatten()
            others = torch.nonzero(labels != network % classes).flatten()
            left_out = members[torch.randperm(len(members), generator=generator)][::2]
            drawn = torch.randint(len(others), left_out.shape, generator=generator)
            positions[network, left_out] = others[drawn]

    own_labels = labels[positions]
    if batch.kind == "label-noise":
        noisy = torch.rand(own_labels.shape, generator=generator) < NOISE
        offsets = torch.randint(1, classes, own_labels.shape, generator=generator)
        own_labels = torch.where(noisy, (own_labels + offsets) % classes, own_labels)
    return own_labels, positions


def _copies(pixels: torch.Tensor, *, shifts: int, flip: bool) -> torch.Tensor:
    """Return all versions of images (N, side, side) that augmentation draws from.

    The shape is (versions, N, side, side).
    """
    side = pixels.shape[-1]
    frame = functional.pad(pixels, (shifts,) * 4)
    views = [frame, frame.flip(-1)] if flip else [frame]
    places = range(2 * shifts + 1)
    return torch.stack(
        [view[:, y : y + side, x : x + side] for view in views for y in places for x in places]
    )


class _Adam:
    """Adam (Kingma & Ba 2015, algorithm 1) for parameters of many networks."""

    def __init__(self, parameters: list[torch.Tensor]) -> None:
        self._parameters = parameters
        self._first = [torch.zeros_like(parameter) for parameter in parameters]
        self._second = [torch.zeros_like(parameter) for parameter in parameters]
        self._steps = 0

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Change the parameters by their gradients, and forget these."""
        self._steps += 1
        first_decay, second_decay = _DECAY
        for parameter, first, second in zip(
            self._parameters, self._first, self._second, strict=True
        ):
            gradient = parameter.grad
            assert gradient is not None
            first.lerp_(gradient, 1 - first_decay)
            second.mul_(second_decay).addcmul_(gradient, gradient, value=1 - second_decay)
            first_part = 1 - first_decay**self._steps
            deviation = (second / (1 - second_decay**self._steps)).sqrt_().add_(_TINY)
            parameter.addcdiv_(first, deviation, value=-rate / first_part)
            parameter.grad = None


@torch.inference_mode()
def predicted(networks: Networks, domain: NetworkDomain, test: LabelledImages) -> np.ndarray:
    """Return the logits of test images, (networks, conditions, images, classes) float16."""
    clean = test.pixels[:].float() / 255
    logits = np.empty(
        (networks.count, len(domain.conditions), len(test), len(test.classes)), np.float16
    )
    for at, perturbation in enumerate(domain.conditions.values()):
        windows = networks.windows(perturbation(clean)[:, 0])
        for start in range(0, len(test), _PART):
            part = networks.logits(windows[start : start + _PART])
            logits[:, at, start : start + _PART] = part.numpy()
    return logits
