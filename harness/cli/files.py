"""The commands on files and folders: convert, cache and fetch-data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from harness.base.groups import settings_of
from harness.cli.options import FILE, OK, Command, given, setting_options
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
    from harness.base.answers import AnswerStore
    from harness.data.remote import kept_facts

    done = "deleted" if clear else "kept"
    caches = [("predictions", PredictionCache.of_user()), ("sets of decoded images", ArrayStore.of_user())]
    if (facts := kept_facts()).info().entries:
        caches.append(("facts about files at URLs", facts))
    if (answers := AnswerStore.beside(PredictionCache.of_user())).info().entries:
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
