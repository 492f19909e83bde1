"""Configuration of a training, which determines the weights together with the images, and its epochs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from pydantic import Field

from harness.base.outputs import EPOCHS, Output
from harness.base.records import check_record, record

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


@record
class TrainingConfig:
    """All settings that determine the weights, given the training images.

    Augmentation rotates each image by up to `rotation_degrees` either way, in whole degrees, so some images stay sharp.
    It translates it by up to `shift_fraction` of height and width, in whole pixels, and flips it with
    `flip_probability`. Zeros turn it off. The optimizer is Adam with decoupled weight decay (Loshchilov & Hutter 2019)
    or SGD with Nesterov momentum. The learning rate is constant, or rises to `learning_rate` and falls to zero in one
    cycle (Smith & Topin 2019). Precision "auto" is bfloat16 if the processor supports it. `arguments` are those of the
    architecture.
    """

    seed: int = 42
    epochs: Annotated[int, Field(ge=1)] = 20
    batch_size: Annotated[int, Field(ge=2)] = 64
    optimizer: Literal["adam", "sgd"] = "sgd"
    learning_rate: NotNegative = 0.05
    schedule: Literal["constant", "one-cycle"] = "one-cycle"
    weight_decay: NotNegative = 0.0005
    rotation_degrees: Annotated[float, Field(ge=0, le=180)] = 0.0
    shift_fraction: Share = 0.0
    flip_probability: Share = 0.0
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    validation_size: int = 6_000
    split_seed: int = 42
    architecture: str = "fashion-cnn"
    arguments: Mapping[str, Any] = field(default_factory=lambda: {"dropout": 0.1})

    def __post_init__(self) -> None:
        check_record(self, where="training config")

    @property
    def augmented(self) -> bool:
        """Return whether any augmentation is on."""
        return any((self.rotation_degrees, self.shift_fraction, self.flip_probability))

    def resolved(self, device: str = "cpu") -> TrainingConfig:
        """Return the config with precision "auto" replaced by this machine's precision on a device."""
        if self.precision != "auto":
            return self
        if device == "cpu":
            # oneDNN's own test: true if the processor has bfloat16 dot products, or at least AVX-512 to emulate them.
            native = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
        else:
            native = device.startswith("cuda") and torch.cuda.is_bf16_supported(including_emulation=False)
        return replace(self, precision="bfloat16" if native else "float32")

    def sha256(self) -> str:
        """Return a hash of the config, which identifies a resumed or cached training."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def augmented(config: TrainingConfig) -> TrainingConfig:
    """Return the config with the study's geometric augmentation, the only difference between the shipped models."""
    return replace(config, rotation_degrees=10.0, shift_fraction=0.1, flip_probability=0.5)


PRESETS: Mapping[str, TrainingConfig] = {
    "default": TrainingConfig(),
    "notebook": TrainingConfig(
        epochs=30,
        batch_size=128,
        optimizer="adam",
        learning_rate=0.001,
        schedule="constant",
        weight_decay=0.0,
        arguments={"dropout": 0.25},
    ),
}
SHIPPED: Mapping[str, TrainingConfig] = {
    "baseline": PRESETS["default"],
    "augmented": augmented(PRESETS["default"]),
}
"""The config of each shipped model; they differ only in the augmentation."""


@dataclass(frozen=True)
class Epoch:
    """Results of one epoch; accuracies in [0, 1]."""

    epoch: int
    training_loss: float
    training_accuracy: float
    validation_loss: float
    validation_accuracy: float
    seconds: float | None = field(default=None, compare=False)
    """Seconds of a core on the CPU, or of the clock on another device. Trainings to the same bits differ in it, so it
    is in the history beside a checkpoint, and not in its record."""

    def measured(self) -> dict[str, Any]:
        """Return the reproducible measurements."""
        return {name: getattr(self, name) for name in CURVES}


CURVES = tuple(name for name in Epoch.__dataclass_fields__ if name != "seconds")
"""Measurements of each epoch."""


def best_epoch(history: Sequence[Epoch]) -> Epoch:
    """Return the last epoch with the highest validation accuracy."""
    return max(history, key=lambda epoch: (epoch.validation_accuracy, epoch.epoch))


def epochs_output(checkpoint: Path) -> Output:
    """Return the file of a training's epochs, beside the checkpoint."""
    return Output(checkpoint.with_suffix(".history.json"), EPOCHS)


def write_history(checkpoint: Path, history: Sequence[Epoch]) -> Path:
    """Write a training's epochs beside the checkpoint, as JSON, and return the path."""
    output = epochs_output(checkpoint)
    output.write((json.dumps([asdict(epoch) for epoch in history], indent=1) + "\n").encode())
    return output.path


def seconds_of_training(checkpoint: Path) -> float | None:
    """Return the seconds of the training from the history beside the checkpoint; None if unknown."""
    try:
        epochs = json.loads(epochs_output(checkpoint).path.read_bytes())
        return sum(float(epoch["seconds"]) for epoch in epochs) or None
    except (OSError, ValueError, TypeError, KeyError):
        return None
