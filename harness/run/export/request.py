"""An order for an export, and what ties an export to a checks file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.records import record
from harness.data.exported import FORMATS, Export
from harness.perturb.poses import PROTOCOL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.checks import Check, ChecksFile

_DIGITS = 12
"""Digits of a definition that tell checks apart."""


@record
class ExportOrder:
    """The `folder` that images go to, their `format`, and the families asked about, none for all.

    With a budget, `images_per_second` is the speed of the system that answers. An `overview` adds the images of the
    report's comparison of models.
    """

    folder: str
    format: str = "npz"
    families: tuple[str, ...] = ()
    images_per_second: float = 100.0
    overview: bool = False

    @property
    def path(self) -> Path:
        """Return the folder."""
        return Path(self.folder)

    @property
    def pixels(self) -> str:
        """Return how pixels are stored."""
        return FORMATS[self.format]


def asked_by(checks: Sequence[Check]) -> tuple[str, ...]:
    """Return the beginning of the definition of each check; thresholds are no part of it."""
    return tuple(sorted({check.definition[:_DIGITS] for check in checks}))


def scope_of(checks: ChecksFile, asked: Sequence[Check], *, pixels: str, profile: str, measured: int | None) -> Export:
    """Return the scope of an export for these checks of a file, without its images."""
    sizes = repr((checks.data.measured, sorted(checks.data.samples.items()), checks.data.pixels))
    return Export(
        PROTOCOL,
        pixels,
        checks.data.sha256,
        asked_by(asked),
        hashlib.sha256(sizes.encode()).hexdigest()[:_DIGITS],
        profile,
        measured or 0,
    )
