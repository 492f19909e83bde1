"""The command `train`: a classifier of Fashion-MNIST."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from harness.base.groups import Setting
from harness.cli.options import FILE, OK, Command, given, setting_options
from harness.run.settings import SETTINGS

if TYPE_CHECKING:
    from pathlib import Path


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
    _recipe("schedule", "Course of the learning rate", "one-cycle", "constant", "one-cycle"),
    _recipe("weight-decay", "On weights, not on biases and batch norms", 0.0005),
    _recipe("rotation-degrees", "Rotate each image by up to this angle, either way", 0.0),
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
    help="The recipe that options change (default: default).",
)
@click.option(
    "--augment",
    is_flag=True,
    help="Augment: rotation ±10°, shift 10%, flipped half the time (default: none).",
)
@setting_options(
    *RECIPE_SETTINGS,
    Setting(
        "model-arg",
        "An argument of the network, for example conv_channels=[16,32], fc_sizes=[64] or dropout=0.25 "
        "(default recipe: dropout=0.1).",
        "training",
        metavar="KEY=VALUE",
    ),
    SETTINGS["device"],
)
@click.option(
    "--data-dir",
    type=FILE,
    metavar="DIR",
    help="The folder with Fashion-MNIST's training files (default: see fetch-data).",
)
def train_command(destination: Path, preset: str, data_dir: Path | None, *, augment: bool) -> int:
    """Train a checkpoint."""
    from dataclasses import asdict

    from harness.report.plots import training_png
    from harness.run.checkpoint_files import TrainRequest, train_checkpoint, training_config

    found = given()
    fields = {setting.name.replace("-", "_"): found.get(setting.name) for setting in RECIPE_SETTINGS}
    config = training_config(preset, augment=augment, values=fields, arguments=found.get("model-arg", ()))
    request = TrainRequest(destination, config, data_dir, found.get("device", "auto"))
    done = train_checkpoint(request)
    epochs = [asdict(epoch) for epoch in done.epochs]
    request.curves.write(training_png({destination.stem: epochs}, kept=done.best.epoch))
    best = f"best epoch {done.best.epoch} of {len(epochs)}, validation accuracy {done.best.validation_accuracy:.4f}"
    print(f"{destination}: {best}\nhistory: {done.history_path}\ncurves: {request.curves.path}")
    return OK
