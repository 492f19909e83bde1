"""The command that starts a gate for data of one's own: new-gates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.models import add_device_option, load_all_images, open_chosen
from harness.cli.status import OK
from harness.data.options import add_data_options
from harness.errors import InputError
from harness.networks import add_network_options

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable


def add_commands(add: Callable[[str, object, str, str], argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    command = add(
        "new-gates",
        _new_gates,
        "Write the first gates file for data of your own: their fingerprint, and rows without bounds for accuracy, "
        "each class, rotation, shift and confidence; with a checkpoint, for the classes that it confuses most, too.",
        "new-gates stress_tests/gates.toml --data folder:photos/test --stress-size 64",
    )
    command.add_argument("gates", type=Path, metavar="GATES", help="the file to write, .toml")
    add_data_options(command.add_argument, name="--data")
    command.add_argument("--checkpoint", type=Path, metavar="FILE", help="a model whose confusions become rows")
    add_network_options(command.add_argument)
    add_device_option(command, "Where the model of --checkpoint runs")


def _new_gates(options: argparse.Namespace) -> int:
    from harness.gates.starter import starter
    from harness.measures.mistakes import confused_pairs
    from harness.store import write_atomically

    if options.gates.exists():
        raise InputError(f"{options.gates}: is there already; name another file, or move it away")
    images = load_all_images(options)
    pairs = []
    if options.checkpoint is not None:
        pairs = confused_pairs(open_chosen(options.checkpoint, images, options).predict(images))
    write_atomically(options.gates, starter(images, pairs).encode())
    print(f"{options.gates}: written for {len(images)} images of {len(images.classes)} classes")
    print("next: stress tests beside it, and `python -m harness calibrate` with 8 healthy retrains or more")
    return OK
