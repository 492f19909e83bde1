"""The options that name images, shared by pytest and `python -m harness`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.data.sources import load_images, specs_in_words
from harness.errors import InputError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from harness.data.images import LabelledImages


@dataclass(frozen=True)
class DataOptions:
    """Which labelled images, and in what (height, width) and with how many channels; None for as they are."""

    spec: str = "fashion-mnist"
    size: tuple[int, int] | None = None
    channels: int | None = None

    @staticmethod
    def of(options: argparse.Namespace) -> DataOptions:
        """Return the options as parsed; raises `InputError` for a size that is none."""
        size = None if options.stress_size is None else parse_size(options.stress_size)
        return DataOptions(options.stress_data, size, options.stress_channels)

    def load(self) -> LabelledImages:
        """Load the images; see `load_images`."""
        return load_images(self.spec, size=self.size, channels=self.channels)


def parse_size(text: str) -> tuple[int, int]:
    """Return (height, width) from `64` or `64x96`; raises `InputError` for anything else."""
    if not (found := re.fullmatch(r"([1-9]\d{0,3})(?:x([1-9]\d{0,3}))?", text)):
        raise InputError(f"--stress-size {text}: expected a number of pixels, or HEIGHTxWIDTH, such as 64 or 64x96")
    return int(found[1]), int(found[2] or found[1])


def add_data_options(add: Callable[..., Any], *, name: str = "--stress-data") -> None:
    """Add the options of `DataOptions`, by a parser's `add_argument` or a pytest group's `addoption`."""
    add(
        name,
        dest="stress_data",
        metavar="SPEC",
        default="fashion-mnist",
        help=f"The labelled test images: {specs_in_words(explained=True)} (default: fashion-mnist).",
    )
    add(
        "--stress-size",
        metavar="HEIGHTxWIDTH",
        help="The size that images are resized to, such as 64 or 64x96; needed when they are of several sizes, and not "
        "for fashion-mnist (default: as they are).",
    )
    add(
        "--stress-channels",
        type=int,
        choices=(1, 3),
        help="Load images as grey, 1, or as colour, 3; not for fashion-mnist (default: as they are).",
    )
