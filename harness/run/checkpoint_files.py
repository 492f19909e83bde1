"""Native checkpoints made: trained on Fashion-MNIST, or converted from a state dict."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from harness.base.errors import InputError, OutputError
from harness.base.groups import literal
from harness.base.outputs import CHECKPOINT, CURVES, Inputs, Output
from harness.base.progress import Progress
from harness.data.fashion_mnist import CLASSES
from harness.inference import pick_device
from harness.networks import training
from harness.networks.checkpoints import Record, load_checkpoint, save_checkpoint
from harness.networks.options import ChoiceOptions
from harness.networks.training import PRESETS, Epoch, TrainingConfig, augmented, best_epoch, write_history

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class TrainRequest:
    """A checkpoint to train on Fashion-MNIST; `data_dir` is the folder of its training files, None for the usual ones.

    Raises `InputError` unless the name of `destination` ends with .safetensors.
    """

    destination: Path
    config: TrainingConfig = PRESETS["default"]
    data_dir: Path | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        """Raise `InputError` for a name that is not of the native format."""
        _expect_native(self.destination)

    @property
    def output(self) -> Output:
        """Return the checkpoint as an output."""
        return Output(self.destination, CHECKPOINT)  # Its data are of another kind, and refused as such.

    @property
    def curves(self) -> Output:
        """Return the picture of the training's curves as an output."""
        return Output(self.destination.with_suffix(".curves.png"), CURVES)


@dataclass(frozen=True)
class Trained:
    """A training: its epochs, the one whose weights are kept, and the file with its history."""

    epochs: tuple[Epoch, ...]
    best: Epoch
    history_path: Path


def training_config(
    preset: str = "default",
    *,
    augment: bool = False,
    values: Mapping[str, Any] | None = None,
    arguments: Sequence[str] = (),
) -> TrainingConfig:
    """Return a preset with the study's augmentation if asked for, and `values` of its fields, None for the preset's.

    `arguments` of the network are written KEY=VALUE. Raises `InputError` for values that no training can have.
    """
    config = augmented(PRESETS[preset]) if augment else PRESETS[preset]
    names = {item.name for item in fields(TrainingConfig)}
    given = {name: value for name, value in (values or {}).items() if name in names and value is not None}
    pairs = [argument.partition("=") for argument in arguments]
    if wrong := next(("".join(pair) for pair in pairs if not (pair[0].isidentifier() and pair[1])), None):
        raise InputError("expected KEY=VALUE", setting=f"model-arg {wrong}")
    own = {key: literal(value) for key, _, value in pairs}
    return replace(config, **given, arguments={**config.arguments, **own})


def train_checkpoint(request: TrainRequest) -> Trained:
    """Train a checkpoint with a progress bar; a killed training is resumable.

    Raises `InputError` without training images, and for a config that does not fit them.
    """
    from harness.data import load_fashion_mnist

    device, destination = pick_device(request.device), request.destination
    for output in (request.output, request.curves, training.epochs_output(destination)):
        output.expect_own()
    images = load_fashion_mnist("train", data_dir=request.data_dir)
    with Progress(total=None, unit="step", desc=f"training {destination.name}", mininterval=0.5) as bar:

        def show_step(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        def show_epoch(epoch: Epoch) -> None:
            bar.set_postfix(
                epoch=epoch.epoch, loss=f"{epoch.training_loss:.3f}", val=f"{epoch.validation_accuracy:.4f}"
            )

        history = training.train(
            request.config, images, destination, device=device, on_epoch=show_epoch, on_step=show_step
        )
    return Trained(tuple(history), best_epoch(history), write_history(destination, history))


@dataclass(frozen=True)
class ConvertRequest:
    """A state dict of the shipped architecture to write in the native format; `choice` says where its weights are."""

    source: Path
    destination: Path
    choice: ChoiceOptions = field(default_factory=ChoiceOptions)

    def __post_init__(self) -> None:
        """Raise `InputError` for a name that is not of the native format."""
        _expect_native(self.destination)


def convert_checkpoint(request: ConvertRequest) -> str:
    """Write a checkpoint in the native format, and return an aside on its file, if there is any."""
    Output(request.destination, CHECKPOINT, Inputs((request.source,))).expect_own()
    checkpoint = load_checkpoint(request.source, choice=request.choice)
    record = checkpoint.record or Record(architecture=checkpoint.architecture, arguments={}, classes=CLASSES)
    save_checkpoint(request.destination, checkpoint.model, record)
    return checkpoint.note


def _expect_native(destination: Path) -> None:
    if destination.suffix != ".safetensors":
        raise OutputError(f"{destination}: checkpoints are written as .safetensors; name the file so")
