"""What commands on models share: the options that name data and networks, and loading both."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from harness.checkpoints import Checkpoint
    from harness.data import LabelledImages


def add_model_options(command: argparse.ArgumentParser) -> None:
    """Add the options that say on which images, and how networks that are not the shipped one are built."""
    command.add_argument(
        "--data", default="fashion-mnist", metavar="SPEC", help="fashion-mnist, npz:PATH or folder:PATH"
    )
    command.add_argument("--samples", type=int, metavar="N", help="a stratified sample of N images (default: all)")
    command.add_argument(
        "--stress-model", metavar="SPEC", help="package.module:callable, for networks that are not the shipped one"
    )
    command.add_argument(
        "--stress-model-arg", action="append", default=[], metavar="KEY=VALUE", help="an argument of the callable"
    )


def load_chosen_images(options: argparse.Namespace) -> LabelledImages:
    """Return the images that the options name."""
    from harness.data import load_images, stratified_sample

    images = load_images(options.data)
    return images if options.samples is None else stratified_sample(images, options.samples)


def load_model(path: Path, options: argparse.Namespace) -> Checkpoint:
    """Return a checkpoint, its network built as the options say."""
    from harness.builders import import_builder
    from harness.checkpoints import load_checkpoint

    builder = import_builder(options.stress_model, options.stress_model_arg) if options.stress_model else None
    return load_checkpoint(path, builder=builder)
