"""Native checkpoints made: trained on Fashion-MNIST, or converted from a state dict."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from harness.base.errors import InputError, OutputError
from harness.base.groups import literal
from harness.base.outputs import CHECKPOINT, CURVES, Inputs, Output
from harness.base.progress import Progress
from harness.data.fashion_mnist import CLASSES
from harness.inference import pick_device
from harness.networks import training
from harness.networks.checkpoints import Record, load_checkpoint, save_checkpoint
from harness.networks.training import PRESETS, Epoch, TrainingConfig, augmented, write_history

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from harness.networks.options import ChoiceOptions


def training_config(
    preset: str = "default",
    *,
    augment: bool = False,
    values: Mapping[str, Any] | None = None,
    arguments: Sequence[str] = (),
) -> TrainingConfig:
    """Return a preset with the study's augmentation if asked for, and `values` of its fields.

    None for the preset's.

    `arguments` of the network are written KEY=VALUE. Raises `InputError` for values that no
    training can have.
    """
    config = augmented(PRESETS[preset]) if augment else PRESETS[preset]
    names = {item.name for item in fields(TrainingConfig)}
    given = {
        name: value for name, value in (values or {}).items() if name in names and value is not None
    }
    pairs = [argument.partition("=") for argument in arguments]
    if wrong := next(
        ("".join(pair) for pair in pairs if not (pair[0].isidentifier() and pair[1])), None
    ):
        raise InputError("expected KEY=VALUE", setting=f"model-arg {wrong}")
    own = {key: literal(value) for key, _, value in pairs}
    return replace(config, **given, arguments={**config.arguments, **own})


def train_checkpoint(
    destination: Path, config: TrainingConfig, *, data_dir: Path | None = None, device: str = "auto"
) -> tuple[tuple[Epoch, ...], Path, Output]:
    """Train a checkpoint with a progress bar.

    Return its epochs, the file with them, and the output of their curves.

    `data_dir` is the folder of the training files, None for the usual one. A killed training is
    resumable. Raises `InputError` for a name without .safetensors, without training images, and for
    a config that does not fit them.
    """
    from harness.data import load_fashion_mnist

    _expect_native(destination)
    place, curves = pick_device(device), Output(destination.with_suffix(".curves.png"), CURVES)
    # Their data are of another kind, and refused as such.
    for output in (Output(destination, CHECKPOINT), curves, training.epochs_output(destination)):
        output.expect_own()
    images = load_fashion_mnist("train", data_dir=data_dir)
    with Progress(
        total=None, unit="step", desc=f"training {destination.name}", mininterval=0.5
    ) as bar:

        def show_step(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        def show_epoch(epoch: Epoch) -> None:
            loss, accuracy = f"{epoch.training_loss:.3f}", f"{epoch.validation_accuracy:.4f}"
            bar.set_postfix(epoch=epoch.epoch, loss=loss, val=accuracy)

        epochs = training.train(
            config, images, destination, device=place, on_epoch=show_epoch, on_step=show_step
        )
    return epochs, write_history(destination, epochs), curves


def convert_checkpoint(source: Path, destination: Path, choice: ChoiceOptions) -> str:
    """Write a state dict of the shipped architecture in the native format.

    Return an aside on it, if there is any.

    `choice` says where its weights are. Raises `InputError` for a name without .safetensors.
    """
    _expect_native(destination)
    Output(destination, CHECKPOINT, Inputs((source,))).expect_own()
    checkpoint = load_checkpoint(source, choice=choice)
    record = checkpoint.record or Record(
        architecture=checkpoint.architecture, arguments={}, classes=CLASSES
    )
    save_checkpoint(destination, checkpoint.model, record)
    return checkpoint.note


def _expect_native(destination: Path) -> None:
    if destination.suffix != ".safetensors":
        raise OutputError(
            f"{destination}: checkpoints are written as .safetensors; name the file so"
        )
