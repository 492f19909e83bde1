"""Networks of the benchmark: reference models, and mutants that need no training.

Clean logits and batch norms.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from benchmarks.detection import weights
from benchmarks.runner import fashion_mnist, few
from harness.data import sample_up_to
from harness.data.images import unit_range
from harness.features.batch_norm.distance import find_batch_norm_distances
from harness.inference import open_model
from harness.networks.checkpoints import load_checkpoint, save_checkpoint
from harness.perturb.augmentation import Augmentation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness.data import LabelledImages
    from harness.networks.checkpoints import Checkpoint

MODELS = Path("models/panel")
PARENTS = range(1, few(10, 1) + 1)
"""Seeds of the reference models that mutants are made from, one of each strength."""
TRAINED = Augmentation(rotation_degrees=10.0, shift_fraction=0.1, flip_probability=0.5)
"""The augmentation of the reference models' training."""
_FEW_IMAGES, _SEED, _MEASURED = 256, 1000, 2_000


@torch.no_grad()
def reestimated(checkpoint: Checkpoint, amount: int, generator: torch.Generator) -> Checkpoint:
    """Estimate the statistics of batch norms anew.

    They see so many training images without augmentation.
    """
    images = fashion_mnist("train")
    chosen = torch.randperm(len(images), generator=generator)[:amount]
    norms = [each for each in checkpoint.model.modules() if isinstance(each, nn.BatchNorm2d)]
    checkpoint.model.eval()
    momenta = [each.momentum for each in norms]
    for each in norms:
        each.reset_running_stats()
        each.momentum = None
        each.train()
    checkpoint.model(unit_range(images.pixels[chosen]))
    for each, momentum in zip(norms, momenta, strict=True):
        each.momentum = momentum
    return checkpoint


MUTATIONS: Mapping[str, tuple[Callable[..., Checkpoint], float | int, bool]] = {
    "noise-0.05": (weights.weight_noise, 0.05, True),
    "noise-0.1": (weights.weight_noise, 0.1, True),
    "stale-40": (weights.stale_statistics, 40, True),
    "stale-30": (weights.stale_statistics, 30, True),
    "reest-256": (reestimated, _FEW_IMAGES, False),
    "pruned-0.1": (weights.pruned_channels, 0.1, False),
    "quant-4": (weights.quantised, 4, True),
    "quant-3": (weights.quantised, 3, True),
    "sign-0.002": (weights.sign_flips, 0.002, False),
    "sign-0.005": (weights.sign_flips, 0.005, False),
    "mixed-0.2": (weights.swapped_logits, 0.2, False),
    "mixed-0.4": (weights.swapped_logits, 0.4, False),
}
"""Mutation and amount by name, and whether its kind is in the half that constants were chosen on.
"""


def measure(*, folder: Path) -> None:
    """Write logits and batch-norm distances of each network that has no file yet."""
    folder.mkdir(parents=True, exist_ok=True)
    images = fashion_mnist("test")
    made: dict[str, tuple[int, str]] = {
        f"panel-{seed:02}": (seed, "") for seed in range(1, few(21, 11))
    }
    made |= {f"{name}-{seed:02}": (seed, name) for name in MUTATIONS for seed in PARENTS}
    for name, (seed, mutation) in made.items():
        if not (folder / f"{name}.npz").exists():
            path = MODELS / f"seed-{seed:03}.safetensors"
            if mutation:
                mutate, amount, _ = MUTATIONS[mutation]
                mutant = mutate(
                    load_checkpoint(path), amount, torch.Generator().manual_seed(_SEED + seed)
                )
                path = folder / "mutant.safetensors"
                path.unlink(missing_ok=True)
                assert mutant.record is not None, "a shipped checkpoint has a record"
                save_checkpoint(path, mutant.model, mutant.record)
            np.savez(folder / f"{name}.npz", **_measured(path, images))
            print(name, flush=True)


def _measured(path: Path, images: LabelledImages) -> dict[str, np.ndarray]:
    model, some = open_model(path, images, ordered=False), sample_up_to(images, _MEASURED)
    clean, augmented = (
        np.array(list(find_batch_norm_distances(model, some, each).of_all.values()))
        for each in (None, TRAINED)
    )
    return {"logits": model.predict(images).computed, "norms": clean, "augmented": augmented}
