"""State of a training between two epochs: initialized, saved to disk, and resumed to the same bits."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from harness.base.errors import InputError
from harness.base.outputs import EPOCHS, TRAINING_STATE, Output
from harness.networks.architectures import ARCHITECTURES, build

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from harness.networks.training.config import TrainingConfig


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


def epochs_output(checkpoint: Path) -> Output:
    """Return the file of a training's epochs, beside the checkpoint."""
    return Output(checkpoint.with_suffix(".history.json"), EPOCHS)


def state_output(checkpoint: Path) -> Output:
    """Return the file of an unfinished training's state, beside the checkpoint."""
    return Output(checkpoint.parent / f".{checkpoint.name}.resume", TRAINING_STATE)


def write_history(checkpoint: Path, history: tuple[Epoch, ...]) -> Path:
    """Write a training's epochs beside the checkpoint, as JSON, and return the path."""
    output = epochs_output(checkpoint)
    output.write((json.dumps([asdict(epoch) for epoch in history], indent=1) + "\n").encode())
    return output.path


def seconds_of_training(checkpoint: Path) -> float | None:
    """Return the seconds of the training from the history beside the checkpoint; None if unknown."""
    try:
        epochs = json.loads(checkpoint.with_suffix(".history.json").read_bytes())
        return sum(float(epoch["seconds"]) for epoch in epochs) or None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def best_epoch(history: tuple[Epoch, ...] | list[Epoch]) -> Epoch:
    """Return the last epoch with the highest validation accuracy."""
    return max(history, key=lambda epoch: (epoch.validation_accuracy, epoch.epoch))


@dataclass(eq=False)
class State:
    """Everything that the next epoch needs."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    history: list[Epoch]
    best: dict[str, Tensor]


def start(config: TrainingConfig, *, steps: int, device: str = "cpu") -> State:
    """Return the state before the first step of a training with `steps` steps an epoch; seeds the global generator.

    Weights are drawn on the CPU, so they are the same on every device.
    """
    torch.manual_seed(config.seed)
    try:
        model = build(config.architecture, config.arguments).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    except KeyError:
        known = ", ".join(ARCHITECTURES)
        raise InputError(f"training config: architecture is {config.architecture!r}, expected one of {known}") from None
    except (TypeError, ValueError) as error:
        raise InputError(
            f"training config: architecture {config.architecture} rejects its arguments: {error}"
        ) from error
    # Decay pulls weights, not biases and batch norms, towards zero.
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer: torch.optim.Optimizer
    if config.optimizer == "adam":
        optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
    else:
        optimizer = torch.optim.SGD(groups, lr=config.learning_rate, momentum=0.9, nesterov=True)
    scheduler: torch.optim.lr_scheduler.LRScheduler
    if config.schedule == "one-cycle":
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, config.learning_rate, total_steps=config.epochs * steps
        )
    else:
        scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    return State(model, optimizer, scheduler, [], {})


def keep(state: State, output: Output, identity: str) -> None:
    """Write the state atomically, with its hash and the identity of the training."""
    buffer = io.BytesIO()
    torch.save(
        {
            "identity": identity,
            "model": state.model.state_dict(),
            "optimizer": state.optimizer.state_dict(),
            "scheduler": state.scheduler.state_dict(),
            "history": [asdict(epoch) for epoch in state.history],
            "best": state.best,
        },
        buffer,
    )
    content = buffer.getvalue()
    output.write(hashlib.sha256(content).digest() + content)


def resume(state: State, path: Path, identity: str) -> None:
    """Load the state saved at `path` if it is intact and of this identity; else change nothing."""
    if not path.exists():
        return
    try:
        content = path.read_bytes()
        # torch.load does not detect flipped bits in the weights.
        if hashlib.sha256(content[32:]).digest() != content[:32]:
            return
        kept = torch.load(io.BytesIO(content[32:]), map_location="cpu", weights_only=True)
        if kept["identity"] != identity:
            return
    except Exception:  # A damaged state counts as missing: training starts again.
        return
    state.model.load_state_dict(kept["model"])
    state.optimizer.load_state_dict(kept["optimizer"])
    state.scheduler.load_state_dict(kept["scheduler"])
    state.history = [Epoch(**epoch) for epoch in kept["history"]]
    state.best = kept["best"]
