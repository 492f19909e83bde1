"""The command `train`: a classifier of Fashion-MNIST."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING

import click

from harness.base.settings import Setting
from harness.cli.files import native
from harness.cli.options import FILE, OK, Command, setting_options, values
from harness.run.model_settings import device_setting

if TYPE_CHECKING:
    from pathlib import Path

    from harness.networks.training import Epoch, TrainingConfig


def _recipe(name: str, about: str, default: float | str, *choices: str) -> Setting:
    """Return the setting of a field of the training config; `default` is that of the default recipe."""
    text = f"{about} (default recipe: {default})."
    return Setting(name, text, "training", type=type(default), choices=choices, metavar=type(default).__name__.upper())


RECIPE_SETTINGS = (
    _recipe("seed", "Seed of weights, order, augmentation and dropout", 42),
    _recipe("epochs", "Passes over the training images", 20),
    _recipe("batch-size", "Images per step", 64),
    _recipe("optimizer", "Adam (decoupled weight decay) or SGD (Nesterov momentum 0.9)", "sgd", "adam", "sgd"),
    _recipe("learning-rate", "The peak, when the schedule is one-cycle", 0.05),
    _recipe("schedule", "How the learning rate goes", "one-cycle", "constant", "one-cycle"),
    _recipe("weight-decay", "On weights, not on biases and batch norms", 0.0005),
    _recipe("rotation-degrees", "Rotate each image by up to so much, either way", 0.0),
    _recipe("shift-fraction", "Shift each image by up to this share of its size", 0.0),
    _recipe("flip-probability", "Flip an image with this probability", 0.0),
    _recipe("precision", "Precision of the forward pass", "auto", "auto", "bfloat16", "float32"),
    _recipe("validation-size", "Images held out to choose the best epoch", 6_000),
    _recipe("split-seed", "Seed of the validation split", 42),
)
"""A setting for each field of a training config, written out so that help needs no torch; a test compares them."""


@click.command(
    "train",
    cls=Command,
    example="train runs/new.safetensors --augment --seed 7",
    help="Train a Fashion-MNIST classifier. A killed run is resumable: start it again.",
)
@click.argument("destination", type=FILE, metavar="CHECKPOINT")
@click.option(
    "--preset",
    type=click.Choice(["default", "notebook"]),
    default="default",
    help="Where settings start from (default: default).",
)
@click.option(
    "--augment",
    is_flag=True,
    help="The study's augmentation: rotation ±10°, shift 10%, flipped half the time (default: none).",
)
@setting_options(
    *RECIPE_SETTINGS,
    Setting(
        "model-arg",
        "An argument of the network, for example conv_channels=[16,32], fc_sizes=[64] or dropout=0.25 "
        "(default recipe: dropout=0.1).",
        "training",
        metavar="KEY=VALUE",
        multiple=True,
    ),
    device_setting("Where to train; the weights are the same bits again on the same device alone"),
)
@click.option(
    "--data-dir",
    type=FILE,
    metavar="DIR",
    help="The folder with Fashion-MNIST's training files (default: see fetch-data).",
)
def train_command(destination: Path, preset: str, data_dir: Path | None, *, augment: bool) -> int:
    """Train a checkpoint."""
    from harness.base.progress import Progress
    from harness.data import load_fashion_mnist
    from harness.inference import pick_device
    from harness.networks.training import best_epoch, train, write_history
    from harness.report.figures import training_curves

    config, device = _config(preset, augment=augment), pick_device(values()["device"])
    native(destination)
    images = load_fashion_mnist("train", data_dir=data_dir)
    with Progress(total=None, unit="step", desc=f"training {destination.name}", mininterval=0.5) as bar:

        def show_step(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        def show_epoch(epoch: Epoch) -> None:
            bar.set_postfix(
                epoch=epoch.epoch, loss=f"{epoch.training_loss:.3f}", val=f"{epoch.validation_accuracy:.4f}"
            )

        history = train(config, images, destination, device=device, on_epoch=show_epoch, on_step=show_step)
    epochs, best = [asdict(epoch) for epoch in history], best_epoch(history)
    history_path = write_history(destination, history)
    curves_path = destination.with_suffix(".curves.png")
    training_curves({destination.stem: epochs}, kept=best.epoch).savefig(curves_path, dpi=100)
    print(
        f"{destination}: best epoch {best.epoch} of {len(history)}, validation accuracy {best.validation_accuracy:.4f}"
    )
    print(f"history: {history_path}\ncurves: {curves_path}")
    return OK


def _config(preset: str, *, augment: bool) -> TrainingConfig:
    from harness.networks.builders import parse_arguments
    from harness.networks.training import PRESETS, TrainingConfig, augmented

    config, found = augmented(PRESETS[preset]) if augment else PRESETS[preset], values()
    names = {item.name: item.name.replace("_", "-") for item in fields(TrainingConfig)}
    given = {name: found[option] for name, option in names.items() if found.get(option) is not None}
    arguments = {**config.arguments, **parse_arguments(found["model-arg"])}
    return replace(config, **given, arguments=arguments)
