"""Skews: single changes of a serving pipeline, and when they apply; features add them."""

from __future__ import annotations

import importlib.util
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.base.errors import NotApplicableError
from harness.base.registry import Registry
from harness.data.image_files import CODECS
from harness.data.stages import COLOR, NORMALISATIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.data.pipeline import Pipeline

    Change = Callable[["Pipeline", "Pictured"], "Pipeline"]


@dataclass(frozen=True)
class Pictured:
    """Facts about the pictures of some data that decide which skews apply.

    Attributes:
        channels: The channels of the images.
        size: The (height, width) of the images.
        formats: The formats of the files, empty for pictures without bytes.
        turned: Whether the EXIF data of some picture turn it.
    """

    channels: int
    size: tuple[int, int]
    formats: frozenset[str] = frozenset()
    turned: bool = False


@dataclass(frozen=True)
class Skew:
    """A single change of a serving pipeline.

    Attributes:
        name: Its name.
        stage: The stage that it changes.
        change: Makes another pipeline of the reference.
        needs: The names of the facts of `_unmet_needs` that must hold.
    """

    name: str
    stage: str
    change: Change
    needs: tuple[str, ...] = ()

    def of(self, reference: Pipeline, pictured: Pictured) -> Pipeline:
        """Return the skewed pipeline; raises `NotApplicableError` if it changes nothing."""
        unmet = _unmet_needs(reference, pictured)
        for need in self.needs:
            if unmet[need]:
                raise NotApplicableError(unmet[need])
        skewed = self.change(reference, pictured)
        if self.stage == "decode":
            _expect_decoder(skewed.decode.library, pictured.formats)
        if self.stage == "normalise":
            count = len(skewed.normalise.mean)
            if count not in {1, pictured.channels}:
                raise NotApplicableError(
                    f"{skewed.normalise} are of {count} channels, "
                    f"the images have {pictured.channels}"
                )
        if skewed == reference:
            raise NotApplicableError(
                f"the reference pipeline is served so already: {reference.words[self.stage]}"
            )
        return skewed


def _expect_decoder(library: str, formats: frozenset[str]) -> None:
    """Raise `NotApplicableError` unless a library is installed and decodes these formats."""
    codec = CODECS[library]
    if importlib.util.find_spec(codec.module) is None:
        raise NotApplicableError(f"{codec.module} is not installed")
    others = formats - set(codec.formats)
    if others:
        raise NotApplicableError(f"{library} does not decode {', '.join(sorted(others))}")


def _unmet_needs(reference: Pipeline, pictured: Pictured) -> dict[str, str]:
    """Return why a skew with each need does not apply; empty where the need is met."""
    files = "there are no files"
    if pictured.formats:
        files = f"the files are {', '.join(sorted(pictured.formats))}"
    opaque = ""
    if reference.transform is not None:
        opaque = (
            f"transform {reference.transform.spec} is one opaque stage, which resizes and crops"
        )
    height, width = pictured.size
    reasons = {
        "jpeg": f"decoders differ on JPEG, and {files}",
        "turned": "no picture looked at has an EXIF orientation",
        "color": "the images are gray",
        "square": "the images are no squares",
        "stages": opaque,
        "resize": opaque or "the reference pipeline resizes nothing",
        "normalized": "the network normalizes nothing",
        "not half": "the reference pipeline normalizes with mean 0.5 and std 0.5, "
        "which is the same",
    }
    met = {
        "jpeg": "JPEG" in pictured.formats,
        "turned": pictured.turned,
        "color": pictured.channels == COLOR,
        "square": height == width,
        "stages": reference.transform is None,
        "resize": bool(reference.resize),
        "normalized": reference.normalise != NORMALISATIONS["no normalization"],
        "not half": reference.normalise != NORMALISATIONS["mean 0.5 and std 0.5"],
    }
    for need, holds in met.items():
        if holds:
            reasons[need] = ""
    return reasons


SKEWS = Registry("skew", Skew, {}, hook="stress_skews")
"""The skews by name."""


def catalog(reference: Pipeline, pictured: Pictured) -> dict[str, Pipeline]:
    """Return the skewed pipelines that apply to a reference pipeline and some data.

    They are by the names of their skews; of equal pipelines, the first one counts.
    """
    names: dict[Pipeline, str] = {}
    for name, skew in SKEWS.items():
        with suppress(NotApplicableError):
            names.setdefault(skew.of(reference, pictured), name)
    return {name: pipeline for pipeline, name in names.items()}
