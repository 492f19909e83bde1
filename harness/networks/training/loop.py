"""The training loop: augmentation in batches, and a saved state after each epoch, resumed to the same bits."""

from __future__ import annotations

import hashlib
import io
import math
import platform
import sys
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from harness.base import user_folder
from harness.base.codes import Code
from harness.base.errors import InputError
from harness.base.outputs import TRAINING_STATE, Output
from harness.data import LabelledImages, split_validation
from harness.data.images import unit_range
from harness.networks.architectures import ARCHITECTURES, build
from harness.networks.checkpoints import Record, save_checkpoint
from harness.networks.process import keep_freed_buffers
from harness.networks.training.config import SHIPPED, Epoch, TrainingConfig, best_epoch
from harness.perturb import pose_each

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor, nn


def train(
    config: TrainingConfig,
    images: LabelledImages,
    destination: Path,
    *,
    device: str = "cpu",
    on_epoch: Callable[[Epoch], None] | None = None,
    on_step: Callable[[int, int], None] | None = None,
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
    training, validation = split_validation(images, size=config.validation_size, seed=config.split_seed)
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
            [] if kind == "cpu" else [torch.device(device)], device_type="cuda" if kind == "cpu" else kind
        ):
            state = _start(config, steps=len(labels) // config.batch_size, device=device)
            if kept := _kept(output.path, identity):
                for name, part in vars(state).items():
                    part.load_state_dict(kept[name])
                history, best = [Epoch(**epoch) for epoch in kept["history"]], kept["best"]
            while len(history) < config.epochs:
                epoch = _run_epoch(
                    config, state, pixels, labels, number=len(history), validation=validation, on_step=on_step
                )
                history.append(epoch)
                if epoch is best_epoch(history):
                    best = {name: tensor.clone() for name, tensor in state.model.state_dict().items()}
                buffer = io.BytesIO()
                parts = {name: part.state_dict() for name, part in vars(state).items()}
                epochs = [asdict(each) for each in history]
                torch.save({"identity": identity, **parts, "history": epochs, "best": best}, buffer)
                output.write(hashlib.sha256(buffer.getvalue()).digest() + buffer.getvalue())
                if on_epoch:
                    on_epoch(epoch)
    finally:
        torch.set_num_threads(threads)
    state.model.load_state_dict(best)
    versions = {"python": platform.python_version(), "torch": torch.__version__, "harness": version("stress-harness")}
    record = Record(
        architecture=config.architecture,
        arguments=config.arguments,
        classes=images.classes,
        training=asdict(config),
        data_sha256=images.sha256,
        validation=best_epoch(history).measured(),
        history=tuple(epoch.measured() for epoch in history),
        versions=versions | ({} if device == "cpu" else {"device": device}),
    )
    save_checkpoint(destination, state.model, record)
    output.remove()
    return tuple(history)


@dataclass(frozen=True, eq=False)
class _State:
    """The parts of a training with a state from epoch to epoch."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler


def _start(config: TrainingConfig, *, steps: int, device: str) -> _State:
    """Return the parts before the first step of a training with `steps` steps an epoch; seeds the global generator.

    Weights are drawn on the CPU, so they are the same on every device.
    """
    torch.manual_seed(config.seed)
    name, rate = config.architecture, config.learning_rate
    try:
        model = build(name, config.arguments).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    except KeyError:
        known = ", ".join(ARCHITECTURES)
        raise InputError(f"training config: architecture is {name!r}, expected one of {known}") from None
    except (TypeError, ValueError) as error:
        raise InputError(f"training config: architecture {name} rejects its arguments: {error}") from error
    # Decay pulls weights, not biases and batch norms, towards zero.
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer: torch.optim.Optimizer
    if config.optimizer == "adam":
        optimizer = torch.optim.AdamW(groups, lr=rate, fused=True)
    else:
        optimizer = torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True)
    scheduler: torch.optim.lr_scheduler.LRScheduler
    if config.schedule == "one-cycle":
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=config.epochs * steps)
    else:
        scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    return _State(model, optimizer, scheduler)


def _kept(path: Path, identity: str) -> dict[str, Any] | None:
    """Return the saved state of a training with this identity, None without an intact one."""
    try:
        content = path.read_bytes()
        # torch.load does not detect flipped bits in the weights.
        if hashlib.sha256(content[32:]).digest() != content[:32]:
            return None
        kept: dict[str, Any] = torch.load(io.BytesIO(content[32:]), map_location="cpu", weights_only=True)
        return kept if kept["identity"] == identity else None
    except Exception:  # A damaged state counts as missing: training starts again.
        return None


def _run_epoch(
    config: TrainingConfig,
    state: _State,
    pixels: Tensor,
    labels: Tensor,
    *,
    number: int,
    validation: LabelledImages,
    on_step: Callable[[int, int], None] | None,
) -> Epoch:
    clock = time.process_time if pixels.device.type == "cpu" else time.perf_counter
    start = clock()
    # Each epoch has its own seed, so no generator's state must survive a kill. Dropout draws from the global one.
    seed = config.seed * 100_003 + number
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    steps = len(labels) // config.batch_size
    order = torch.randperm(len(labels), generator=generator)[: steps * config.batch_size]
    loss_sum, right = 0.0, 0
    state.model.train()
    for step, chosen in enumerate(torch.split(order, config.batch_size), start=1):
        inputs = _augment(pixels[chosen], config, generator)
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
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
    validation_loss, validation_accuracy = _validate(state.model, validation, pixels.device)
    if not math.isfinite(loss_sum + validation_loss):
        raise InputError(
            f"training diverged in epoch {number + 1}: the loss is not finite; lower the learning rate",
            code=Code.TRAINING,
        )
    accuracy = right / len(order)
    return Epoch(number + 1, loss_sum / steps, accuracy, validation_loss, validation_accuracy, clock() - start)


def _augment(images: Tensor, config: TrainingConfig, generator: torch.Generator) -> Tensor:
    if not config.augmented:
        return images
    count, _, height, width = images.shape
    mirrored = torch.rand(count, generator=generator) < config.flip_probability
    images = torch.where(mirrored.view(-1, 1, 1, 1).to(images.device), images.flip(-1), images)
    degrees, dx, dy = (torch.rand(3, count, generator=generator) * 2 - 1).to(images.device)
    dx, dy = (dx * config.shift_fraction * width).round(), (dy * config.shift_fraction * height).round()
    return pose_each(images, (degrees * config.rotation_degrees).round(), dx, dy)


def _validate(model: nn.Module, validation: LabelledImages, device: torch.device) -> tuple[float, float]:
    model.eval()
    with torch.inference_mode():
        logits = torch.cat(
            [
                model(unit_range(batch.to(device)).contiguous(memory_format=torch.channels_last)).cpu()
                for batch in torch.split(validation.pixels, 125)
            ]
        )
    loss = functional.cross_entropy(logits, validation.labels)
    return float(loss), float((logits.argmax(1) == validation.labels).float().mean())


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
