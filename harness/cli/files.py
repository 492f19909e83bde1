"""The commands on files and folders: convert, cache and fetch-data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.errors import InputError
from harness.base.settings import add_settings
from harness.cli.status import OK
from harness.networks.options import CHOICE_SETTINGS

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable


def add_commands(add: Callable[[str, object, str, str], argparse.ArgumentParser]) -> None:
    """Add the commands' parsers."""
    convert = add(
        "convert",
        _convert,
        "Turn a state dict of the shipped architecture into the native format.",
        "convert baseline_best.pth baseline.safetensors",
    )
    convert.add_argument("source", type=Path, metavar="STATE_DICT")
    convert.add_argument("destination", type=Path, metavar="CHECKPOINT")
    add_settings(convert.add_argument, CHOICE_SETTINGS)

    cache = add(
        "cache",
        _cache,
        "Show or empty the cache of predictions and of decoded images, which makes a second run of the gate quick. "
        "What was used the longest ago is deleted beyond the sizes shown.",
        "cache --clear",
    )
    action = cache.add_mutually_exclusive_group()
    action.add_argument("--info", action="store_true", help="show where it is and how much it holds (the default)")
    action.add_argument("--clear", action="store_true", help="delete every entry")

    fetch = add(
        "fetch-data", _fetch_data, "Download Fashion-MNIST, verify it and keep it in the user's cache.", "fetch-data"
    )
    fetch.add_argument("--data-dir", type=Path, metavar="DIR", help="another folder to keep it in")


def native(destination: Path) -> Path:
    """Return the path of a checkpoint to write; raises `InputError` unless its name says in which format."""
    if destination.suffix != ".safetensors":
        raise InputError(f"{destination}: checkpoints are written as .safetensors; name the file so")
    return destination


def _convert(options: argparse.Namespace) -> int:
    from harness.data.fashion_mnist import CLASSES
    from harness.networks.checkpoints import Choice, Record, load_checkpoint, save_checkpoint

    destination = native(options.destination)
    choice = Choice(options.stress_checkpoint_key, options.stress_strip_prefix)
    checkpoint = load_checkpoint(options.source, choice=choice)
    record = checkpoint.record or Record(architecture=checkpoint.architecture, arguments={}, classes=CLASSES)
    save_checkpoint(destination, checkpoint.model, record)
    print(f"{destination}: written from {options.source}{f' ({checkpoint.note})' if checkpoint.note else ''}")
    return OK


def _cache(options: argparse.Namespace) -> int:
    from harness.base import ArrayStore, PredictionCache
    from harness.data.remote import kept_facts

    done = "deleted" if options.clear else "kept"
    caches = [("predictions", PredictionCache.of_user()), ("sets of decoded images", ArrayStore.of_user())]
    if (facts := kept_facts()).info().entries:
        caches.append(("facts about files at URLs", facts))
    for what, store in caches:
        info = store.clear() if options.clear else store.info()
        room = f"{info.bytes / 1e6:.1f} of at most {store.max_bytes / 1e6:.0f} MB"
        print(f"{info.folder}: {info.entries} {what} {done}, {room}")
    return OK


def _fetch_data(options: argparse.Namespace) -> int:
    from harness.data import fetch_fashion_mnist

    print(f"Fashion-MNIST is in {fetch_fashion_mnist(options.data_dir)}")
    return OK
