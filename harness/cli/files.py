"""The commands on files and folders: convert, cache, fetch-data and export-inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from harness.base.groups import settings_of
from harness.cli.options import (
    FILE,
    OK,
    Command,
    checks_option,
    for_gate,
    given,
    project_with,
    run_options,
    setting_options,
)
from harness.networks.options import ChoiceOptions

if TYPE_CHECKING:
    from pathlib import Path


@click.command(
    "convert",
    cls=Command,
    example="convert baseline_best.pth baseline.safetensors",
    help="Turn a state dict of the shipped architecture into the native format.",
)
@click.argument("source", type=FILE, metavar="STATE_DICT")
@click.argument("destination", type=FILE, metavar="CHECKPOINT")
@setting_options(*settings_of(ChoiceOptions).values())
def convert_command(source: Path, destination: Path) -> int:
    """Convert a checkpoint."""
    from harness.run.checkpoint_files import ConvertRequest, convert_checkpoint

    choice = ChoiceOptions(**given()).choice()
    note = convert_checkpoint(ConvertRequest(source, destination, choice))
    print(f"{destination}: written from {source}{f' ({note})' if note else ''}")
    return OK


@click.command(
    "cache",
    cls=Command,
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
    from harness.base import ArrayStore, PredictionCache
    from harness.base.answers import answer_files
    from harness.data.remote import kept_facts

    done = "deleted" if clear else "kept"
    caches = [("predictions", PredictionCache.of_user()), ("sets of decoded images", ArrayStore.of_user())]
    if (facts := kept_facts()).info().entries:
        caches.append(("facts about files at URLs", facts))
    if (answers := answer_files(PredictionCache.of_user())).info().entries:
        caches.append(("files with predictions of servers", answers))
    for what, store in caches:
        found = store.clear() if clear else store.info()
        room = f"{found.bytes / 1e6:.1f} of at most {store.max_bytes / 1e6:.0f} MB"
        print(f"{found.folder}: {found.entries} {what} {done}, {room}")
    return OK


@click.command(
    "fetch-data",
    cls=Command,
    example="fetch-data",
    help="Download Fashion-MNIST, verify it and keep it in the user's cache.",
)
@click.option("--data-dir", type=FILE, metavar="DIR", help="Another folder to keep it in (default: the user's cache).")
def fetch_data_command(data_dir: Path | None) -> int:
    """Download Fashion-MNIST."""
    from harness.data import fetch_fashion_mnist

    print(f"Fashion-MNIST is in {fetch_fashion_mnist(data_dir)}")
    return OK


@click.command(
    "export-inputs",
    cls=Command,
    passes_on=True,
    example="export-inputs inputs --families clean,rotation",
    help="Write the images of the checks into the folder OUT, with every perturbation applied, for predictions in "
    "another system. OUT/README.md says how to write the predictions, OUT/answer.py writes them. `gate "
    "--candidate predictions:FILE` judges them. An export that was interrupted resumes.",
)
@click.argument("folder", metavar="OUT", type=FILE)
@run_options()
@checks_option
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
    from harness.run.export.request import ExportOrder
    from harness.run.export.start import export_inputs

    named = tuple(filter(None, (name.strip() for name in families.split(","))))
    project_with(checks_path)
    order = ExportOrder(str(folder.absolute()), form, named, speed, overview)
    export_inputs(order, checks_path, budget=budget, options=for_gate(), say=print)
    print(f"written: {folder}\nnext: put your model into {folder / 'answer.py'}, run it, and gate the predictions:")
    print(f"  stress-harness gate --candidate predictions:{'answers.npz' if form == 'npz' else 'answers.csv'}")
    return OK
