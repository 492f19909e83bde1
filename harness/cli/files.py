"""The commands on files and folders: list, convert, cache, fetch-data, export-inputs and train."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from harness.base.codes import Code
from harness.base.errors import InputError, printable
from harness.base.groups import Setting, settings_of
from harness.cli import options
from harness.networks.options import ChoiceOptions
from harness.run.settings import SETTINGS

if TYPE_CHECKING:
    from pathlib import Path


@click.command(
    "convert",
    cls=options.Command,
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
    print(f"{destination}: written from {source}{f' ({note})' if note else ''}")
    return options.OK


@click.command(
    "cache",
    cls=options.Command,
    example="cache --clear",
    help="Show or empty the cache of predictions and of decoded images, which makes a second run of the gate quick. "
    "Beyond the sizes shown, the least recently used entries are deleted.",
)
@click.option("--info", is_flag=True, help="Show where it is and how much it holds (the default).")
@click.option("--clear", is_flag=True, help="Delete every entry.")
def cache_command(*, info: bool, clear: bool) -> int:
    """Show or empty the cache."""
    if info and clear:
        raise click.UsageError("--info and --clear exclude each other")
    from harness.base.cache import Store

    done = "deleted" if clear else "kept"
    predictions, facts = Store.of_user(), Store.of_user("remote")
    caches = [("predictions", predictions), ("sets of decoded images", Store.of_user("images"))]
    caches += [("facts about files at URLs", facts)] * bool(facts.info().entries)
    caches += [("files with predictions of servers", predictions.answers)] * bool(predictions.answers.info().entries)
    for what, store in caches:
        found = store.clear() if clear else store.info()
        room = f"{found.bytes / 1e6:.1f} of at most {store.max_bytes / 1e6:.0f} MB"
        print(f"{found.folder}: {found.entries} {what} {done}, {room}")
    return options.OK


@click.command(
    "fetch-data",
    cls=options.Command,
    example="fetch-data",
    help="Download Fashion-MNIST, verify it and keep it in the user's cache.",
)
@click.option(
    "--data-dir", type=options.FILE, metavar="DIR", help="Another folder to keep it in (default: the user's cache)."
)
def fetch_data_command(data_dir: Path | None) -> int:
    """Download Fashion-MNIST."""
    from harness.data import fetch_fashion_mnist

    print(f"Fashion-MNIST is in {fetch_fashion_mnist(data_dir)}")
    return options.OK


@click.command(
    "export-inputs",
    cls=options.Command,
    passes_on=True,
    example="export-inputs inputs --families clean,rotation",
    help="Write the images of the checks into the folder OUT, with every perturbation applied, for predictions in "
    "another system. OUT/README.md says how to write the predictions, OUT/answer.py writes them. `gate "
    "--candidate predictions:FILE` judges them. An export that was interrupted resumes.",
)
@click.argument("folder", metavar="OUT", type=options.FILE)
@options.run_options()
@options.checks_option
@click.option(
    "--families",
    default="",
    metavar="NAMES",
    help="Export for these families of checks alone, joined by commas; the verdict is then partial (default: all).",
)
@click.option(
    "--budget",
    metavar="TIME",
    help="The time that the system may take, such as 90s, 30m or 1.5h. Families are exported on samples that fit. The "
    "verdict is then partial (default: all images).",
)
@click.option(
    "--images-per-second",
    "speed",
    type=click.FloatRange(min=0, min_open=True),
    default=100.0,
    metavar="N",
    help="With --budget: how many images the system predicts in a second (default: 100).",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(("npz", "png")),
    default="npz",
    help="npz, float32 without loss, or png, rounded to 8 bits (default: npz).",
)
@click.option("--overview", is_flag=True, help="Also export the images of the report's comparison of models.")
def export_inputs_command(
    folder: Path, checks_path: Path, families: str, budget: str | None, speed: float, form: str, *, overview: bool
) -> int:
    """Export the images."""
    from tempfile import TemporaryDirectory

    from harness.checks import read_checks
    from harness.run.budget import seconds_in
    from harness.run.execute import execute
    from harness.run.export.request import SAID, ExportOrder
    from harness.run.request import RunRequest

    named = tuple(filter(None, (name.strip() for name in families.split(","))))
    options.project_with(checks_path)
    if budget is not None:
        seconds_in(budget)
    with TemporaryDirectory() as reports:
        request = RunRequest(
            checks=checks_path,
            profile="default" if read_checks(checks_path).data.sample is None else "quick",
            plan=True,
            budget=budget,
            reports=reports,
            tests=(str(checks_path.parent),),
            options=("-q", "-s", "-p", "no:cacheprovider", *options.for_gate()),
            export=ExportOrder(str(folder.absolute()), form, named, speed, overview),
        )
        result = execute(request, on_line=lambda line: print(line[len(SAID) :]) if line.startswith(SAID) else None)
    if result.status:
        why = [line.removeprefix("ERROR: ") for line in result.printed if line.startswith("ERROR: ")]
        ended = f"nothing was exported; pytest ended with exit status {result.status}:"
        raise InputError(why[-1]) if why else InputError(ended, below=result.printed, code=Code.PYTEST)
    print(f"written: {folder}\nnext: put your model into {folder / 'answer.py'}, run it, and gate the predictions:")
    print(f"  stress-harness gate --candidate predictions:{'answers.npz' if form == 'npz' else 'answers.csv'}")
    return options.OK


@click.command(
    "list",
    cls=options.Command,
    example="list checks",
    help="Print WHAT there is: the checks of the checks file, or all settings, metrics, corruptions, sources of data "
    "or predictors, those of installed packages included.",
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
    print("\n".join(printable(line) for line in aligned(rows, text=tuple(range(len(rows[0]))))))
    return options.OK


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
    cls=options.Command,
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
        "An argument of the network, for example conv_channels=[16,32], fc_sizes=[64] or dropout=0.25 "
        "(default recipe: dropout=0.1).",
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
    fields = {setting.name.replace("-", "_"): found.get(setting.name) for setting in RECIPE_SETTINGS}
    config = training_config(preset, augment=augment, values=fields, arguments=found.get("model-arg", ()))
    device = found.get("device", "auto")
    epochs, history, curves = train_checkpoint(destination, config, data_dir=data_dir, device=device)
    best = best_epoch(epochs)
    curves.write(as_png(training_curves({destination.stem: [*map(asdict, epochs)]}, kept=best.epoch)))
    print(
        f"{destination}: best epoch {best.epoch} of {len(epochs)}, validation accuracy {best.validation_accuracy:.4f}\n"
        f"history: {history}\ncurves: {curves.path}"
    )
    return options.OK
