"""The shipped models: the config of each, and the training of a missing one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from harness.base import user_folder
from harness.networks.training import PRESETS, Epoch, TrainingConfig, augmented, train

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SHIPPED: Mapping[str, TrainingConfig] = {
    "baseline": PRESETS["default"],
    "augmented": augmented(PRESETS["default"]),
}
"""The config of each shipped model; they differ only in the augmentation."""


def train_or_load(name: str) -> Path:
    """Return a checkpoint of the shipped model `name` from the user's cache, trained now if it is missing.

    The file's name contains the config's hash, so another config never loads an old model. A file lock lets one process
    train while others wait. Progress goes to standard error. Raises `InputError` without training images.
    """
    from filelock import FileLock

    from harness.base.progress import Progress
    from harness.data import load_fashion_mnist

    config = SHIPPED[name]
    path = user_folder("trained") / f"{name}-{config.resolved().sha256()[:16]}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            images = load_fashion_mnist("train")
            print(f"\nThe shipped {name} model is missing: training it into {path}", file=sys.stderr)
            with Progress(total=config.epochs, unit="epoch", desc=f"training {name}", file=sys.stderr) as bar:

                def advance(_: Epoch) -> None:
                    bar.update()

                train(config, images, path, on_epoch=advance)
    return path
