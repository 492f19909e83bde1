"""Train a model from a config: the images as one tensor, augmented in batches, resumable to the same bits."""

from __future__ import annotations

import hashlib
import io
import json
import math
import platform
import sys
from dataclasses import asdict, dataclass, field, fields, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.allocator import keep_freed_buffers
from harness.architectures import ARCHITECTURES, build
from harness.checkpoints import Record, save_checkpoint
from harness.data import LabelledImages, split_validation
from harness.data.images import unit_range
from harness.errors import InputError
from harness.files import write_atomically
from harness.perturb import pose_each

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

Precision = Literal["auto", "bfloat16", "float32"]


@dataclass(frozen=True)
class TrainingConfig:
    """All that decides the weights, given the training images.

    Augmentation turns each image by up to `rotation_degrees` either way (whole degrees, so that some stay sharp),
    shifts it by up to `shift_fraction` of its height and width (whole pixels), and mirrors it with
    `flip_probability`; zeros turn it off. The optimizer is Adam with decoupled weight decay (Loshchilov & Hutter 2019)
    or SGD with Nesterov momentum. The learning rate is constant, or rises to `learning_rate` and falls to zero in one
    cycle (Smith & Topin 2019). Precision "auto" is bfloat16 where the processor computes in it. `arguments` are those
    of the architecture.
    """

    seed: int = 42
    epochs: int = 20
    batch_size: int = 64
    optimizer: Literal["adam", "sgd"] = "sgd"
    learning_rate: float = 0.05
    schedule: Literal["constant", "one-cycle"] = "one-cycle"
    weight_decay: float = 0.0005
    rotation_degrees: float = 0.0
    shift_fraction: float = 0.0
    flip_probability: float = 0.0
    precision: Precision = "auto"
    validation_size: int = 6_000
    split_seed: int = 42
    architecture: str = "fashion-cnn"
    arguments: Mapping[str, Any] = field(default_factory=lambda: {"dropout": 0.1})

    def __post_init__(self) -> None:
        for name, low, high in (
            ("epochs", 1, None),
            ("batch_size", 2, None),
            ("learning_rate", 0, None),
            ("weight_decay", 0, None),
            ("rotation_degrees", 0, 180),
            ("shift_fraction", 0, 1),
            ("flip_probability", 0, 1),
        ):
            value, whole = getattr(self, name), name in {"epochs", "batch_size"}
            kind = int if whole else (int, float)
            if (
                isinstance(value, bool)
                or not isinstance(value, kind)
                or not low <= value <= (high or sys.float_info.max)
            ):
                expected = f"at least {low}" if high is None else f"{low} to {high}"
                whole_number = "a whole number, " if whole else ""
                raise InputError(f"training config: {name} is {value!r}, expected {whole_number}{expected}")
        for name, choices in (
            ("optimizer", ("adam", "sgd")),
            ("schedule", ("constant", "one-cycle")),
            ("precision", get_args(Precision)),
        ):
            if getattr(self, name) not in choices:
                raise InputError(
                    f"training config: {name} is {getattr(self, name)!r}, expected one of {', '.join(choices)}"
                )

    @property
    def augmented(self) -> bool:
        """Return whether any augmentation is on."""
        return any((self.rotation_degrees, self.shift_fraction, self.flip_probability))

    def resolved(self) -> TrainingConfig:
        """Return the config with precision "auto" replaced by what this machine makes of it."""
        if self.precision != "auto":
            return self
        # oneDNN's own test: true where the processor has bfloat16 dot products, or at least AVX-512 to emulate them.
        native = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
        return replace(self, precision="bfloat16" if native else "float32")

    def sha256(self) -> str:
        """Return a hash of the config, by which a resumed or cached training knows its own."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def augmented(config: TrainingConfig) -> TrainingConfig:
    """Return the config with the study's geometric augmentation, the one difference between the shipped models."""
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


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training images gave; accuracies in [0, 1]."""

    epoch: int
    training_loss: float
    training_accuracy: float
    validation_loss: float
    validation_accuracy: float


@dataclass(eq=False)
class _State:
    """Everything that the next epoch starts from."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    history: list[Epoch]
    best: dict[str, Tensor]


def train(
    config: TrainingConfig,
    images: LabelledImages,
    destination: Path,
    *,
    on_epoch: Callable[[Epoch], None] | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> tuple[Epoch, ...]:
    """Train on `images` less the validation split, and write the best epoch's model to `destination`.

    The best epoch is the last with the highest validation accuracy. After every epoch the state is kept beside the
    destination (`.NAME.resume`), so that a killed run continues from there to the same bits; a state of another
    config or of other data is discarded. Runs on one thread, and leaves the global random state as found. `on_step` is
    called with (steps done, all steps), `on_epoch` with each result. Returns the history.
    """
    keep_freed_buffers()
    config = config.resolved()
    training, validation = split_validation(images, size=config.validation_size, seed=config.split_seed)
    if len(training) < config.batch_size:
        raise InputError(f"{len(training)} training images are fewer than one batch of {config.batch_size}")
    identity = hashlib.sha256(f"{config.sha256()} {images.sha256} {torch.__version__}".encode()).hexdigest()
    resume_path = destination.parent / f".{destination.name}.resume"
    pixels, labels = unit_range(training.pixels), training.labels
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            state = _start(config, steps=len(labels) // config.batch_size)
            _resume(state, resume_path, identity)
            while len(state.history) < config.epochs:
                epoch = _run_epoch(config, state, pixels, labels, validation=validation, on_step=on_step)
                state.history.append(epoch)
                if epoch.validation_accuracy >= max(past.validation_accuracy for past in state.history):
                    state.best = {name: tensor.clone() for name, tensor in state.model.state_dict().items()}
                _keep(state, resume_path, identity)
                if on_epoch:
                    on_epoch(epoch)
    finally:
        torch.set_num_threads(threads)
    state.model.load_state_dict(state.best)
    save_checkpoint(destination, state.model, _record(config, images, state.history))
    resume_path.unlink(missing_ok=True)
    return tuple(state.history)


def best_epoch(history: tuple[Epoch, ...] | list[Epoch]) -> Epoch:
    """Return the last epoch with the highest validation accuracy."""
    return max(history, key=lambda epoch: (epoch.validation_accuracy, epoch.epoch))


def _start(config: TrainingConfig, *, steps: int) -> _State:
    torch.manual_seed(config.seed)
    try:
        model = build(config.architecture, config.arguments).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
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
    return _State(model, optimizer, scheduler, [], {})


def _run_epoch(
    config: TrainingConfig,
    state: _State,
    pixels: Tensor,
    labels: Tensor,
    *,
    validation: LabelledImages,
    on_step: Callable[[int, int], None] | None,
) -> Epoch:
    number = len(state.history)
    # Each epoch has its own seed, so that no generator's state needs to survive a kill; dropout draws globally.
    seed = config.seed * 100_003 + number
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    steps = len(labels) // config.batch_size
    order = torch.randperm(len(labels), generator=generator)[: steps * config.batch_size]
    loss_sum, right = 0.0, 0
    state.model.train()
    for step, chosen in enumerate(torch.split(order, config.batch_size), start=1):
        inputs = _augment(pixels[chosen], config, generator)
        with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bfloat16"):
            logits = state.model(inputs.contiguous(memory_format=torch.channels_last))
            loss = functional.cross_entropy(logits, labels[chosen])
        state.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        state.optimizer.step()
        state.scheduler.step()
        loss_sum += float(loss.detach())
        right += int((logits.argmax(1) == labels[chosen]).sum())
        if on_step:
            on_step(number * steps + step, config.epochs * steps)
    validation_loss, validation_accuracy = _validate(state.model, validation)
    if not math.isfinite(loss_sum + validation_loss):
        raise InputError(f"training diverged in epoch {number + 1}: the loss is not finite; lower the learning rate")
    return Epoch(number + 1, loss_sum / steps, right / len(order), validation_loss, validation_accuracy)


def _augment(images: Tensor, config: TrainingConfig, generator: torch.Generator) -> Tensor:
    if not config.augmented:
        return images
    count, _, height, width = images.shape
    mirrored = torch.rand(count, generator=generator) < config.flip_probability
    images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(-1), images)
    degrees, dx, dy = torch.rand(3, count, generator=generator) * 2 - 1
    dx, dy = (dx * config.shift_fraction * width).round(), (dy * config.shift_fraction * height).round()
    return pose_each(images, (degrees * config.rotation_degrees).round(), dx, dy)


def _validate(model: nn.Module, validation: LabelledImages) -> tuple[float, float]:
    model.eval()
    with torch.inference_mode():
        logits = torch.cat(
            [
                model(unit_range(batch).contiguous(memory_format=torch.channels_last))
                for batch in torch.split(validation.pixels, 125)
            ]
        )
    loss = functional.cross_entropy(logits, validation.labels)
    return float(loss), float((logits.argmax(1) == validation.labels).float().mean())


def _keep(state: _State, path: Path, identity: str) -> None:
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
    write_atomically(path, hashlib.sha256(content).digest() + content)


def _resume(state: _State, path: Path, identity: str) -> None:
    if not path.exists():
        return
    try:
        content = path.read_bytes()
        # torch.load does not notice flipped bits in the weights.
        if hashlib.sha256(content[32:]).digest() != content[:32]:
            return
        kept = torch.load(io.BytesIO(content[32:]), weights_only=True)
        if kept["identity"] != identity:
            return
    except Exception:  # A damaged state is worth no more than none; training starts over.
        return
    state.model.load_state_dict(kept["model"])
    state.optimizer.load_state_dict(kept["optimizer"])
    state.scheduler.load_state_dict(kept["scheduler"])
    state.history = [Epoch(**epoch) for epoch in kept["history"]]
    state.best = kept["best"]


def _record(config: TrainingConfig, images: LabelledImages, history: list[Epoch]) -> Record:
    best = best_epoch(history)
    return Record(
        architecture=config.architecture,
        arguments=config.arguments,
        classes=images.classes,
        training=asdict(config),
        data_sha256=images.sha256,
        validation=asdict(best),
        history=tuple(asdict(epoch) for epoch in history),
        versions={
            "python": platform.python_version(),
            "torch": torch.__version__,
            "harness": version("stress-harness"),
        },
    )


def config_from(settings: Mapping[str, Any]) -> TrainingConfig:
    """Return the config that a checkpoint's record holds; raises `InputError` for settings it does not know."""
    known = {item.name for item in fields(TrainingConfig)}
    if unknown := sorted(set(settings) - known):
        raise InputError(f"training config: unknown setting {unknown[0]!r}; known are {', '.join(sorted(known))}")
    return TrainingConfig(**settings)
