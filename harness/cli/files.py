"""The commands on files and folders: list, convert, cache, fetch-data and train."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from harness.base.groups import Setting, settings_of
from harness.cli import options
from harness.networks.options import ChoiceOptions
from harness.run.settings import SETTINGS

if TYPE_CHECKING:
    from pathlib import Path


@click.command(
    "convert",
    cls=options.CommandWithExample,
    example="convert baseline_best.pth baseline.safetensors",
    help="Turn a state dict of the shipped architecture into the native format.",
)
@click.argument("source", type=options.FILE, metavar="STATE_DICT")
@click.argument("destination", type=options.FILE, metavar="CHECKPOINT")
@options.setting_options(*settings_of(ChoiceOptions).values())
def convert_command(source: Path, destination: Path) -> int:
    """Convert a checkpoint."""
    from harness.run.checkpoint_files import convert_checkpoint

    note = convert_checkpoint(source, destination, ChoiceOptions(**options.given()))
    options.tell(f"{destination}: written from {source}{f' ({note})' if note else ''}")
    return options.OK


@click.command(
    "cache",
    cls=options.CommandWithExample,
    example="cache --clear",
    help="Show or empty the cache of predictions, decoded images and measurements of reference "
    "models, which makes a second run quick. Beyond the sizes shown, the least recently used "
    "entries are deleted.",
)
@click.option("--info", is_flag=True, help="Show where it is and how much it holds (the default).")
@click.option("--clear", is_flag=True, help="Delete every entry.")
def cache_command(*, info: bool, clear: bool) -> int:
    """Show or empty the cache."""
    if info and clear:
        raise click.UsageError("--info and --clear exclude each other")
    from harness.base.cache import stores_of_user

    always_shown = ("predictions", "sets of decoded images")
    for content, store in stores_of_user().items():
        before = store.clear() if clear else store.info()
        if before.entries or content in always_shown:
            state = "deleted" if clear else "kept"
            sizes = f"{before.bytes / 1e6:.1f} of at most {store.max_bytes / 1e6:.0f} MB"
            options.tell(f"{before.folder}: {before.entries} {content} {state}, {sizes}")
    return options.OK


@click.command(
    "fetch-data",
    cls=options.CommandWithExample,
    example="fetch-data",
    help="Download Fashion-MNIST, verify it and keep it in the user's cache.",
)
@click.option(
    "--data-dir",
    type=options.FILE,
    metavar="DIR",
    help="Another folder to keep it in (default: the user's cache).",
)
def fetch_data_command(data_dir: Path | None) -> int:
    """Download Fashion-MNIST."""
    from harness.data import fetch_fashion_mnist

    options.tell(f"Fashion-MNIST is in {fetch_fashion_mnist(data_dir)}")
    return options.OK


@click.command(
    "list",
    cls=options.CommandWithExample,
    example="list checks",
    help="Print WHAT there is: the checks of the checks file, or all settings, metrics, "
    "corruptions, sources of data or predictors, those of installed packages included.",
)
@click.argument(
    "what",
    metavar="WHAT",
    type=click.Choice(["checks", "settings", "metrics", "corruptions", "sources", "predictors"]),
)
@options.checks_option
def list_command(what: str, checks_path: Path) -> int:
    """Print what there is."""
    from harness.report.page import aligned
    from harness.run.project import table_of

    rows = table_of(what, checks_path)
    options.tell(*aligned(rows, text=tuple(range(len(rows[0])))))
    return options.OK


def _recipe(name: str, about: str, default: float | str, *choices: str) -> Setting:
    """Return the setting of a field of the training config; its `default` is the recipe's."""
    text = f"{about} (default recipe: {default})."
    return Setting(
        name,
        text,
        "training",
        type=type(default),
        choices=choices,
        metavar="" if choices else "N",
    )


RECIPE_SETTINGS = (
    _recipe("seed", "Seed of weights, order, augmentation and dropout", 42),
    _recipe("epochs", "Passes over the training images", 20),
    _recipe("batch-size", "Images per step", 64),
    _recipe(
        "optimizer",
        "Adam (decoupled weight decay) or SGD (Nesterov momentum 0.9)",
        "sgd",
        "adam",
        "sgd",
    ),
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
"""A setting for each field of a training config.

They are written out so that help needs no PyTorch; a test compares them with the config.
"""


@click.command(
    "train",
    cls=options.CommandWithExample,
    example="train runs/new.safetensors --augment --seed 7",
    help="Train a Fashion-MNIST classifier. A killed run is resumable: start it again.",
)
@click.argument("destination", type=options.FILE, metavar="CHECKPOINT")
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
@options.setting_options(
    *RECIPE_SETTINGS,
    Setting(
        "model-arg",
        "An argument of the network, for example conv_channels=[16,32], fc_sizes=[64] or "
        "dropout=0.25 (default recipe: dropout=0.1).",
        "training",
        metavar="KEY=VALUE",
    ),
    SETTINGS["device"],
)
@click.option(
    "--data-dir",
    type=options.FILE,
    metavar="DIR",
    help="The folder with Fashion-MNIST's training files (default: see fetch-data).",
)
def train_command(destination: Path, preset: str, data_dir: Path | None, *, augment: bool) -> int:
    """Train a checkpoint."""
    from dataclasses import asdict

    from harness.networks.training import best_epoch
    from harness.report.figures import as_png
    from harness.report.plots import training_curves
    from harness.run.checkpoint_files import train_checkpoint, training_config

    found = options.given()
    fields = {
        setting.name.replace("-", "_"): found.get(setting.name) for setting in RECIPE_SETTINGS
    }
    config = training_config(
        preset, augment=augment, values=fields, arguments=found.get("model-arg", ())
    )
    device = found.get("device", "auto")
    epochs, history, curves = train_checkpoint(
        destination, config, data_dir=data_dir, device=device
    )
    best = best_epoch(epochs)
    curves.write(
        as_png(training_curves({destination.stem: [*map(asdict, epochs)]}, kept=best.epoch))
    )
    options.tell(
        f"{destination}: best epoch {best.epoch} of {len(epochs)}, validation accuracy "
        f"{best.validation_accuracy:.4f}",
        f"history: {history}",
        f"curves: {curves.path}",
    )
    return options.OK
