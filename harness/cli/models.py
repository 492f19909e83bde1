"""What commands on models share: the options that name data and networks, and loading both."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.data.options import DataOptions, add_data_options
from harness.networks.options import NetworkOptions, add_network_options

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from harness.data import LabelledImages
    from harness.networks.checkpoints import Checkpoint


def add_model_options(command: argparse.ArgumentParser) -> None:
    """Add the options that say on which images, and how networks that are not the shipped one are built."""
    add_data_options(command.add_argument, name="--data")
    command.add_argument("--samples", type=int, metavar="N", help="a stratified sample of N images (default: all)")
    add_network_options(command.add_argument)


def load_chosen_images(options: argparse.Namespace) -> LabelledImages:
    """Return the images that the options name."""
    from harness.data import stratified_sample

    images = DataOptions.of(options).load()
    return images if options.samples is None else stratified_sample(images, options.samples)


def load_model(path: Path, options: argparse.Namespace) -> Checkpoint:
    """Return a checkpoint, its network built as the options say."""
    from harness.networks import declared as networks

    return networks.load_model(path, NetworkOptions.of(options))
