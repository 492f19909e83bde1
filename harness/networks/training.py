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
from contextlib import contextmanager
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
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from torch import Tensor, nn

VALIDATION_BATCH = 125
"""Number of validation images in a batch."""

NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


@record
class TrainingConfig:
    """All settings that determine the weights, given the training images.

    Zeros turn the augmentation off. The defaults are those of the shipped baseline.

    Attributes:
        seed: Seed of the initial weights, the order of images, dropout, and augmentation.
        epochs: Number of passes through the training images.
        batch_size: Number of images a step; a last, smaller batch is left out.
        optimizer: Adam with decoupled weight decay (Loshchilov & Hutter 2019), or SGD with Nesterov
            momentum.
        learning_rate: The constant learning rate, or the largest of the cycle.
        schedule: A constant rate, or one cycle that rises to `learning_rate` and falls to zero
            (Smith & Topin 2019).
        weight_decay: Decay of weights; biases and batch norms have none.
        rotation_degrees: Largest rotation either way. Angles are whole degrees, so that some images
            stay sharp.
        shift_fraction: Largest shift as a fraction of height and width, in whole pixels.
        flip_probability: Probability of a horizontal flip.
        precision: Precision of the forward pass; "auto" is bfloat16 if the device supports it.
        validation_size: Number of images that choose the best epoch.
        split_seed: Seed of the validation split.
        architecture: Name of the architecture.
        arguments: Arguments of the architecture.
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
        """Return the config with precision "auto" replaced by a device's own precision."""
        if self.precision != "auto":
            return self
        if _has_bfloat16(device):
            return replace(self, precision="bfloat16")
        return replace(self, precision="float32")

    def sha256(self) -> str:
        """Return a hash of the config, which identifies a resumed or cached training."""
        settings = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(settings.encode()).hexdigest()


def _has_bfloat16(device: str) -> bool:
    """Return whether a device computes in bfloat16 at a useful speed."""
    if device == "cpu":
        # oneDNN's own test: the processor has dot products in bfloat16, or at least AVX-512 to
        # emulate them. Builds of PyTorch for other processors lack the function.
        supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    elif device.startswith("cuda"):
        supported = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        supported = False
    return bool(supported)


def augmented(config: TrainingConfig) -> TrainingConfig:
    """Return the config with the study's geometric augmentation.

    It is the only difference between the shipped models.
    """
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
    """Results of one epoch; losses in nats, accuracies in [0, 1].

    Attributes:
        epoch: Number of the epoch, from 1.
        training_loss: Mean cross-entropy of the training images, in training mode.
        training_accuracy: Their accuracy, in training mode.
        validation_loss: Mean cross-entropy of the validation images.
        validation_accuracy: Their accuracy.
        seconds: Seconds of a core on the CPU, or of the clock on another device. Trainings to the
            same bits differ in it, so it stands in the history beside a checkpoint, and not in the
            checkpoint's record.
    """

    epoch: int
    training_loss: float
    training_accuracy: float
    validation_loss: float
    validation_accuracy: float
    seconds: float | None = field(default=None, compare=False)

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
    epochs = [asdict(epoch) for epoch in history]
    text = json.dumps(epochs, indent=1) + "\n"
    output.write(text.encode())
    return output.path


def seconds_of_training(checkpoint: Path) -> float | None:
    """Return the seconds of a training by the history beside its checkpoint; None if unknown."""
    try:
        epochs = json.loads(epochs_output(checkpoint).path.read_bytes())
        seconds = sum(float(epoch["seconds"]) for epoch in epochs)
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return seconds or None


def train(
    config: TrainingConfig,
    images: LabelledImages,
    destination: Path,
    *,
    device: str = "cpu",
    on_epoch: Callable[[Epoch], object] | None = None,
    on_step: Callable[[int, int], object] | None = None,
) -> tuple[Epoch, ...]:
    """Train a model, and write the weights of its best epoch to `destination`.

    The best epoch is the last with the highest validation accuracy. The training runs on one
    thread; order and augmentation are the same on every device.

    The state after each epoch is saved beside the destination (`.NAME.resume`). A training that was
    killed resumes from it, on the CPU to the same bits. A state of another config, of other data or
    of another device is discarded.

    Args:
        config: The settings.
        images: Images for training and validation; the config says how they are split.
        destination: The checkpoint to write.
        device: The device that trains.
        on_epoch: Is called with the results of each epoch.
        on_step: Is called with the number of steps done and of all steps.

    Returns:
        The results of all epochs, also of those before a resumption.

    Raises:
        InputError: There are fewer images than one batch, the architecture is unknown, or the loss
            is not finite.
    """
    keep_freed_buffers()
    config = config.resolved(device)
    training, validation = split_validation(
        images, size=config.validation_size, seed=config.split_seed
    )
    if len(training) < config.batch_size:
        raise InputError(
            f"{len(training)} training images are fewer than one batch of {config.batch_size}; "
            "lower the batch size",
            code=Code.TRAINING,
        )

    saved_state = Output(destination.parent / f".{destination.name}.resume", TRAINING_STATE)
    saved_state.expect_own()
    identity = _identity(config, images, device)

    with _one_thread(), _own_random_state(device):
        run = _Run.start(config, training, validation, device=device)
        run.resume(_read_state(saved_state.path, identity))
        while len(run.history) < config.epochs:
            epoch = run.train_epoch(on_step)
            saved_state.write(run.state(identity))
            if on_epoch:
                on_epoch(epoch)

    run.model.load_state_dict(run.best)
    save_checkpoint(destination, run.model, _record_of(config, images, run.history, device))
    saved_state.remove()
    return tuple(run.history)


def _identity(config: TrainingConfig, images: LabelledImages, device: str) -> str:
    """Return a hash of everything that determines the bits of a training."""
    parts = [config.sha256(), images.sha256, torch.__version__]
    if device != "cpu":
        parts.append(device)
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Train on one thread: the number of threads changes the order of sums, and so the bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _own_random_state(device: str) -> AbstractContextManager[None]:
    """Return a context that restores the global random state at its end."""
    kind = torch.device(device).type
    devices = []
    if kind != "cpu":
        devices.append(torch.device(device))
    return torch.random.fork_rng(devices, device_type=kind)


def _record_of(
    config: TrainingConfig, images: LabelledImages, history: Sequence[Epoch], device: str
) -> Record:
    """Return what a checkpoint records about its training."""
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "harness": version("stress-harness"),
    }
    if device != "cpu":
        versions["device"] = device
    return Record(
        architecture=config.architecture,
        arguments=config.arguments,
        classes=images.classes,
        training=asdict(config),
        data_sha256=images.sha256,
        validation=best_epoch(history).measured(),
        history=tuple(epoch.measured() for epoch in history),
        versions=versions,
    )


_DIGEST_BYTES = hashlib.sha256().digest_size


def _read_state(path: Path, identity: str) -> dict[str, Any] | None:
    """Return the saved state of a training with this identity; None without an intact one."""
    try:
        content = path.read_bytes()
        digest, saved = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        # torch.load does not detect flipped bits in the weights.
        if hashlib.sha256(saved).digest() != digest:
            return None
        state: dict[str, Any] = torch.load(io.BytesIO(saved), map_location="cpu", weights_only=True)
        same = state["identity"] == identity
    except Exception:  # A damaged state counts as missing: training starts again.
        return None
    return state if same else None


@dataclass
class _Run:
    """A training under way.

    Attributes:
        config: The settings, with the precision of the device.
        pixels: Training images, (N, C, H, W) float32 in [0, 1], on the device.
        labels: Their labels, (N,) int64, on the device.
        validation: The validation images, on the CPU.
        model: The network.
        optimizer: Its optimizer.
        scheduler: The schedule of the learning rate.
        history: The epochs so far.
        best: The weights of the best epoch so far.
    """

    config: TrainingConfig
    pixels: Tensor
    labels: Tensor
    validation: LabelledImages
    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    history: list[Epoch] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def start(
        cls,
        config: TrainingConfig,
        training: LabelledImages,
        validation: LabelledImages,
        *,
        device: str,
    ) -> _Run:
        """Return a training before its first step; seeds the global generator."""
        pixels = unit_range(training.pixels).to(device)
        labels = training.labels.to(device)

        torch.manual_seed(config.seed)
        # Weights are drawn on the CPU, so that they are the same on every device.
        model = _build(config).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = _optimizer(config, model)
        scheduler = _scheduler(config, optimizer, steps=len(labels) // config.batch_size)
        return cls(config, pixels, labels, validation, model, optimizer, scheduler)

    @property
    def _stateful(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer, "scheduler": self.scheduler}

    def state(self, identity: str) -> bytes:
        """Return the state as bytes, a SHA-256 digest first."""
        state: dict[str, Any] = {"identity": identity}
        for name, part in self._stateful.items():
            state[name] = part.state_dict()
        state["history"] = [asdict(epoch) for epoch in self.history]
        state["best"] = self.best

        buffer = io.BytesIO()
        torch.save(state, buffer)
        saved = buffer.getvalue()
        return hashlib.sha256(saved).digest() + saved

    def resume(self, state: Mapping[str, Any] | None) -> None:
        """Continue from a saved state, if there is one."""
        if state is None:
            return
        for name, part in self._stateful.items():
            part.load_state_dict(state[name])
        self.history = [Epoch(**epoch) for epoch in state["history"]]
        self.best = state["best"]

    def train_epoch(self, on_step: Callable[[int, int], object] | None) -> Epoch:
        """Train for one more epoch, and return its results."""
        clock = time.perf_counter
        if self.pixels.device.type == "cpu":
            clock = time.process_time
        start = clock()

        training_loss, training_accuracy = self._fit(on_step)
        validation_loss, validation_accuracy = self._validate()
        number = len(self.history) + 1
        if not math.isfinite(training_loss + validation_loss):
            raise InputError(
                f"training diverged in epoch {number}: the loss is not finite; lower the learning "
                "rate",
                code=Code.TRAINING,
            )

        epoch = Epoch(
            number,
            training_loss,
            training_accuracy,
            validation_loss,
            validation_accuracy,
            clock() - start,
        )
        self.history.append(epoch)
        if epoch is best_epoch(self.history):
            weights = self.model.state_dict()
            self.best = {name: tensor.clone() for name, tensor in weights.items()}
        return epoch

    def _fit(self, on_step: Callable[[int, int], object] | None) -> tuple[float, float]:
        """Train on all batches of an epoch; return the mean loss and the accuracy."""
        config, device = self.config, self.pixels.device
        epochs_done = len(self.history)
        # Each epoch has its own seed, so no generator's state must survive a kill. Dropout draws
        # from the global generator.
        seed = config.seed * 100_003 + epochs_done
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)

        steps = len(self.labels) // config.batch_size
        order = torch.randperm(len(self.labels), generator=generator)
        order = order[: steps * config.batch_size]
        half_precision = config.precision == "bfloat16"
        loss_sum = 0.0
        correct = 0
        self.model.train()
        for step, positions in enumerate(torch.split(order, config.batch_size), start=1):
            inputs = _augment(self.pixels[positions], config, generator)
            labels = self.labels[positions]
            with torch.autocast(device.type, torch.bfloat16, enabled=half_precision):
                logits = self.model(inputs.contiguous(memory_format=torch.channels_last))
                loss = functional.cross_entropy(logits, labels)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self.scheduler.step()

            loss_sum += float(loss.detach())
            correct += int((logits.argmax(1) == labels).sum())
            if on_step:
                on_step(epochs_done * steps + step, config.epochs * steps)
        return loss_sum / steps, correct / len(order)

    def _validate(self) -> tuple[float, float]:
        """Return the loss and the accuracy of the validation images."""
        self.model.eval()
        logits_of_batches = []
        with torch.inference_mode():
            for batch in torch.split(self.validation.pixels, VALIDATION_BATCH):
                inputs = unit_range(batch.to(self.pixels.device))
                logits = self.model(inputs.contiguous(memory_format=torch.channels_last))
                logits_of_batches.append(logits.cpu())
            logits = torch.cat(logits_of_batches)

        labels = self.validation.labels
        loss = float(functional.cross_entropy(logits, labels))
        accuracy = float((logits.argmax(1) == labels).float().mean())
        return loss, accuracy


def _build(config: TrainingConfig) -> nn.Module:
    """Return the network of a config; raises `InputError` for an unknown one."""
    name = config.architecture
    try:
        return build(name, config.arguments)
    except KeyError:
        names = ", ".join(ARCHITECTURES)
        raise InputError(
            f"training config: architecture is {name!r}, expected one of {names}"
        ) from None
    except (TypeError, ValueError) as error:
        raise InputError(
            f"training config: architecture {name} rejects its arguments: {error}"
        ) from error


def _optimizer(config: TrainingConfig, model: nn.Module) -> torch.optim.Optimizer:
    # Decay pulls weights towards zero, but not biases and batch norms.
    parameters = list(model.parameters())
    weights = [parameter for parameter in parameters if parameter.ndim > 1]
    others = [parameter for parameter in parameters if parameter.ndim <= 1]
    groups = [
        {"params": weights, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    if config.optimizer == "adam":
        return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
    return torch.optim.SGD(groups, lr=config.learning_rate, momentum=0.9, nesterov=True)


def _scheduler(
    config: TrainingConfig, optimizer: torch.optim.Optimizer, *, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """Return the schedule of the learning rate, with so many steps an epoch."""
    schedules = torch.optim.lr_scheduler
    if config.schedule == "one-cycle":
        return schedules.OneCycleLR(
            optimizer, config.learning_rate, total_steps=config.epochs * steps
        )
    return schedules.ConstantLR(optimizer, factor=1.0)


def _augment(images: Tensor, config: TrainingConfig, generator: torch.Generator) -> Tensor:
    """Return images (N, C, H, W), each flipped, rotated and shifted at random."""
    if not config.augmented:
        return images

    count, _, height, width = images.shape
    flipped = torch.rand(count, generator=generator) < config.flip_probability
    flipped = flipped.view(-1, 1, 1, 1).to(images.device)
    images = torch.where(flipped, images.flip(-1), images)

    fractions = torch.rand(3, count, generator=generator) * 2 - 1
    degrees, dx, dy = fractions.to(images.device)
    return pose_each(
        images,
        (degrees * config.rotation_degrees).round(),
        (dx * config.shift_fraction * width).round(),
        (dy * config.shift_fraction * height).round(),
    )


def train_or_load(name: str) -> Path:
    """Return a checkpoint of a shipped model from the user's cache, trained now if it is missing.

    Progress goes to standard error.

    Args:
        name: The name of a shipped model, a key of `SHIPPED`.

    Raises:
        InputError: The training images are missing.
    """
    config = SHIPPED[name]
    # The config's hash is in the name, so that another config never loads an old model.
    path = user_folder("trained") / f"{name}-{config.resolved().sha256()[:16]}.safetensors"
    # One process trains while others wait.
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
