"""The training loop: augmentation in batches, and a saved state after each epoch."""

from __future__ import annotations

import hashlib
import math
import platform
import time
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from harness.base.codes import Code
from harness.base.errors import InputError
from harness.data import LabelledImages, split_validation
from harness.data.images import unit_range
from harness.networks.checkpoints import Record, save_checkpoint
from harness.networks.process import keep_freed_buffers
from harness.networks.training.state import Epoch, State, best_epoch, keep, resume, start, state_output
from harness.perturb import pose_each

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from torch import Tensor, nn

    from harness.networks.training.config import TrainingConfig


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
    kept = state_output(destination)
    kept.expect_own()
    pixels, labels = unit_range(training.pixels).to(device), training.labels.to(device)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with _random_state_kept(torch.device(device)):
            state = start(config, steps=len(labels) // config.batch_size, device=device)
            resume(state, kept.path, identity)
            while len(state.history) < config.epochs:
                epoch = _run_epoch(config, state, pixels, labels, validation=validation, on_step=on_step)
                state.history.append(epoch)
                if epoch.validation_accuracy >= max(past.validation_accuracy for past in state.history):
                    state.best = {name: tensor.clone() for name, tensor in state.model.state_dict().items()}
                keep(state, kept, identity)
                if on_epoch:
                    on_epoch(epoch)
    finally:
        torch.set_num_threads(threads)
    state.model.load_state_dict(state.best)
    save_checkpoint(destination, state.model, _record(config, images, state.history, device=device))
    kept.remove()
    return tuple(state.history)


def _run_epoch(
    config: TrainingConfig,
    state: State,
    pixels: Tensor,
    labels: Tensor,
    *,
    validation: LabelledImages,
    on_step: Callable[[int, int], None] | None,
) -> Epoch:
    number, clock = len(state.history), time.process_time if pixels.device.type == "cpu" else time.perf_counter
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


@contextmanager
def _random_state_kept(device: torch.device) -> Iterator[None]:
    """Restore the global random generators of the CPU and of the device at the end."""
    devices = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(devices, device_type="cuda" if device.type == "cpu" else device.type):
        yield


def _record(config: TrainingConfig, images: LabelledImages, history: list[Epoch], *, device: str) -> Record:
    best = best_epoch(history)
    return Record(
        architecture=config.architecture,
        arguments=config.arguments,
        classes=images.classes,
        training=asdict(config),
        data_sha256=images.sha256,
        validation=best.measured(),
        history=tuple(epoch.measured() for epoch in history),
        versions={
            "python": platform.python_version(),
            "torch": torch.__version__,
            "harness": version("stress-harness"),
            **({} if device == "cpu" else {"device": device}),
        },
    )
