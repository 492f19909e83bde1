"""Training of a model from a config, with augmentation in batches, resumable to the same bits."""

from __future__ import annotations

import hashlib
import io
import json
import math
import platform
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from pydantic import Field
from torch.nn import functional

from harness.base.codes import Code
from harness.base.errors import InputError
from harness.base.files import locked, user_folder
from harness.base.outputs import EPOCHS, TRAINING_STATE, Output
from harness.base.progress import Progress
from harness.base.records import check_record, record
from harness.data import LabelledImages, load_fashion_mnist, split_validation
from harness.data.images import unit_range
from harness.networks.architectures import ARCHITECTURES, build
from harness.networks.checkpoints import Record, save_checkpoint
from harness.networks.process import keep_freed_buffers
from harness.perturb import pose_each

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import Tensor

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
            native = device.startswith("cuda") and torch.cuda.is_bf16_supported(
                including_emulation=False
            )
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


def train(
    config: TrainingConfig,
    images: LabelledImages,
    destination: Path,
    *,
    device: str = "cpu",
    on_epoch: Callable[[Epoch], object] | None = None,
    on_step: Callable[[int, int], object] | None = None,
) -> tuple[Epoch, ...]:
    """Train on `images` less the validation split, and write the best epoch's model to `destination`.

    The best epoch is the last with the highest validation accuracy. After every epoch the state is saved beside the
    destination (`.NAME.resume`). A killed run continues from it, on the CPU to the same bits. A state of another
    config, of other data or of another device is discarded. The training runs on one thread and on `device`; order and
    augmentation are the same on every device. The global random state is restored. `on_step` is called with (steps
    done, all steps), `on_epoch` with each result. Returns the history.
    """
    keep_freed_buffers()
    config = config.resolved(device)
    training, validation = split_validation(
        images, size=config.validation_size, seed=config.split_seed
    )
    if len(training) < config.batch_size:
        raise InputError(
            f"{len(training)} training images are fewer than one batch of {config.batch_size}; lower the batch size",
            code=Code.TRAINING,
        )
    elsewhere = "" if device == "cpu" else f" {device}"
    named = f"{config.sha256()} {images.sha256} {torch.__version__}{elsewhere}"
    identity = hashlib.sha256(named.encode()).hexdigest()
    output = Output(destination.parent / f".{destination.name}.resume", TRAINING_STATE)
    output.expect_own()
    pixels, labels = unit_range(training.pixels).to(device), training.labels.to(device)
    history: list[Epoch] = []
    best: dict[str, Tensor] = {}
    threads, kind = torch.get_num_threads(), torch.device(device).type
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(
            [] if kind == "cpu" else [torch.device(device)], device_type=kind
        ):
            state = _start(config, steps=len(labels) // config.batch_size, device=device)
            if kept := _kept(output.path, identity):
                for name, part in state.items():
                    part.load_state_dict(kept[name])
                history, best = [Epoch(**epoch) for epoch in kept["history"]], kept["best"]
            while len(history) < config.epochs:
                epoch = _run_epoch(
                    config,
                    state,
                    pixels,
                    labels,
                    number=len(history),
                    validation=validation,
                    on_step=on_step,
                )
                history.append(epoch)
                if epoch is best_epoch(history):
                    best = {
                        name: tensor.clone() for name, tensor in state["model"].state_dict().items()
                    }
                buffer = io.BytesIO()
                parts = {name: part.state_dict() for name, part in state.items()}
                epochs = [asdict(each) for each in history]
                torch.save({"identity": identity, **parts, "history": epochs, "best": best}, buffer)
                output.write(hashlib.sha256(buffer.getvalue()).digest() + buffer.getvalue())
                if on_epoch:
                    on_epoch(epoch)
    finally:
        torch.set_num_threads(threads)
    state["model"].load_state_dict(best)
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "harness": version("stress-harness"),
    }
    about = Record(
        architecture=config.architecture,
        arguments=config.arguments,
        classes=images.classes,
        training=asdict(config),
        data_sha256=images.sha256,
        validation=best_epoch(history).measured(),
        history=tuple(epoch.measured() for epoch in history),
        versions=versions | ({} if device == "cpu" else {"device": device}),
    )
    save_checkpoint(destination, state["model"], about)
    output.remove()
    return tuple(history)


def _start(config: TrainingConfig, *, steps: int, device: str) -> dict[str, Any]:
    """Return model, optimizer and scheduler before the first of `steps` steps an epoch; seeds the global generator.

    Weights are drawn on the CPU, so they are the same on every device.
    """
    torch.manual_seed(config.seed)
    name, rate = config.architecture, config.learning_rate
    try:
        model = build(name, config.arguments).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    except KeyError:
        known = ", ".join(ARCHITECTURES)
        raise InputError(
            f"training config: architecture is {name!r}, expected one of {known}"
        ) from None
    except (TypeError, ValueError) as error:
        raise InputError(
            f"training config: architecture {name} rejects its arguments: {error}"
        ) from error
    # Decay pulls weights, not biases and batch norms, towards zero.
    groups = [
        {
            "params": [p for p in model.parameters() if p.ndim > 1],
            "weight_decay": config.weight_decay,
        },
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if config.optimizer == "adam":
        optimizer: torch.optim.Optimizer = torch.optim.AdamW(groups, lr=rate, fused=True)
    else:
        optimizer = torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True)
    rates = torch.optim.lr_scheduler
    if config.schedule == "one-cycle":
        scheduler: Any = rates.OneCycleLR(optimizer, rate, total_steps=config.epochs * steps)
    else:
        scheduler = rates.ConstantLR(optimizer, factor=1.0)
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler}


def _kept(path: Path, identity: str) -> dict[str, Any] | None:
    """Return the saved state of a training with this identity, None without an intact one."""
    try:
        content = path.read_bytes()
        # torch.load does not detect flipped bits in the weights.
        if hashlib.sha256(content[32:]).digest() != content[:32]:
            return None
        kept: dict[str, Any] = torch.load(
            io.BytesIO(content[32:]), map_location="cpu", weights_only=True
        )
        return kept if kept["identity"] == identity else None
    except Exception:  # A damaged state counts as missing: training starts again.
        return None


def _run_epoch(
    config: TrainingConfig,
    state: Mapping[str, Any],
    pixels: Tensor,
    labels: Tensor,
    *,
    number: int,
    validation: LabelledImages,
    on_step: Callable[[int, int], object] | None,
) -> Epoch:
    model, device = state["model"], pixels.device
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    start = clock()
    # Each epoch has its own seed, so no generator's state must survive a kill. Dropout draws from the global one.
    seed = config.seed * 100_003 + number
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    steps = len(labels) // config.batch_size
    order = torch.randperm(len(labels), generator=generator)[: steps * config.batch_size]
    loss_sum, right = 0.0, 0
    model.train()
    for step, chosen in enumerate(torch.split(order, config.batch_size), start=1):
        inputs = _augment(pixels[chosen], config, generator)
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
            logits = model(inputs.contiguous(memory_format=torch.channels_last))
            loss = functional.cross_entropy(logits, labels[chosen])
        state["optimizer"].zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        state["optimizer"].step()
        state["scheduler"].step()
        loss_sum += float(loss.detach())
        right += int((logits.argmax(1) == labels[chosen]).sum())
        if on_step:
            on_step(number * steps + step, config.epochs * steps)
    model.eval()
    with torch.inference_mode():
        batches = (unit_range(batch.to(device)) for batch in torch.split(validation.pixels, 125))
        logits = torch.cat(
            [model(batch.contiguous(memory_format=torch.channels_last)).cpu() for batch in batches]
        )
    validation_loss = float(functional.cross_entropy(logits, validation.labels))
    validation_accuracy = float((logits.argmax(1) == validation.labels).float().mean())
    if not math.isfinite(loss_sum + validation_loss):
        raise InputError(
            f"training diverged in epoch {number + 1}: the loss is not finite; lower the learning rate",
            code=Code.TRAINING,
        )
    accuracy = right / len(order)
    return Epoch(
        number + 1,
        loss_sum / steps,
        accuracy,
        validation_loss,
        validation_accuracy,
        clock() - start,
    )


def _augment(images: Tensor, config: TrainingConfig, generator: torch.Generator) -> Tensor:
    if not config.augmented:
        return images
    count, _, height, width = images.shape
    mirrored = torch.rand(count, generator=generator) < config.flip_probability
    images = torch.where(mirrored.view(-1, 1, 1, 1).to(images.device), images.flip(-1), images)
    degrees, dx, dy = (torch.rand(3, count, generator=generator) * 2 - 1).to(images.device)
    dx, dy = (
        (dx * config.shift_fraction * width).round(),
        (dy * config.shift_fraction * height).round(),
    )
    return pose_each(images, (degrees * config.rotation_degrees).round(), dx, dy)


def train_or_load(name: str) -> Path:
    """Return a checkpoint of the shipped model `name` from the user's cache, trained now if it is missing.

    The file's name contains the config's hash, so another config never loads an old model. A file lock lets one process
    train while others wait. Progress goes to standard error. Raises `InputError` without training images.
    """
    config = SHIPPED[name]
    path = user_folder("trained") / f"{name}-{config.resolved().sha256()[:16]}.safetensors"
    with locked(path):
        if not path.exists():
            images = load_fashion_mnist("train")
            print(
                f"\nThe shipped {name} model is missing: training it into {path}", file=sys.stderr
            )
            with Progress(
                total=config.epochs, unit="epoch", desc=f"training {name}", file=sys.stderr
            ) as bar:
                train(config, images, path, on_epoch=lambda _: bar.update())
    return path
