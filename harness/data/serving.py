"""Images as another pipeline serves them: pixels made of the pictures when they are asked for."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar, cast
from weakref import WeakKeyDictionary

import numpy as np

from harness.base.errors import PipelineError
from harness.data.image_files import format_and_orientation
from harness.data.images import spread_positions
from harness.data.pipeline import Pipeline
from harness.data.rows import Rows
from harness.data.skews import SKEWS, Pictured, catalog
from harness.data.stages import Color, Normalise

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from harness.data.images import LabelledImages
    from harness.data.pictures import Origin

T = TypeVar("T")
_COMPARED = 8
"""Number of pictures for which a reference pipeline must give the pixels of the data."""
_MAX_KEPT = 1 << 28
"""Bytes of decoded pictures that a search keeps."""


@dataclass(frozen=True, eq=False)
class Serving:
    """Images with their reference pipeline, which can be served by other pipelines.

    Attributes:
        images: The images.
        reference: The pipeline that makes them.
        origin: Their pictures; None where the images' own pixels are the first that is known.
        note: Why there are no pictures, empty with some.
        kept: Pictures as the reference pipeline decodes them, by their positions in the full split;
            a search keeps them, others have None.
    """

    images: LabelledImages
    reference: Pipeline
    origin: Origin | None
    note: str = ""
    kept: dict[int, np.ndarray] | None = field(default=None, repr=False)

    def skewed(self, name: str) -> Pipeline:
        """Return the pipeline of a skew.

        Raises:
            InputError: There is no skew of this name.
            NotApplicableError: The skew does not apply to these images.
        """
        if name not in SKEWS:
            raise PipelineError(
                f"unknown; expected one of {', '.join(SKEWS)}", setting=f"skew {name}"
            )
        return SKEWS[name].of(self.reference, self.pictured)

    @property
    def pictured(self) -> Pictured:
        """Return the facts that decide which skews apply, of some pictures."""
        return _once(self.images, "pictured", self._look)

    def _look(self) -> Pictured:
        positions: list[int] = []
        if self.origin is not None and self.origin.encoded:
            # Many, since few of a phone's pictures may be turned.
            positions = spread_positions(len(self.images), 1_000)
        formats = set()
        turned = False
        for position in positions:
            where = self.where(position)
            kind, orientation = format_and_orientation(self.picture(position), where=where)
            formats.add(kind)
            turned = turned or orientation != 1
        channels, height, width = self.images.pixels.shape[1:]
        return Pictured(channels, (height, width), frozenset(formats), turned)

    @cached_property
    def catalog(self) -> dict[str, Pipeline]:
        """Return the skewed pipelines that apply, by the names of their skews."""
        return catalog(self.reference, self.pictured)

    def by(self, pipeline: Pipeline) -> LabelledImages:
        """Return the images as a pipeline serves them, as float32 levels.

        The reference pipeline gives the images themselves. Pixels are made at their use, so none is
        held in memory.
        """
        if pipeline == self.reference:
            return self.images
        import torch

        read = partial(self._serve, pipeline)
        pixels = cast("Tensor", Rows(read, self.images.pixels.shape, torch.float32))
        digest = self.images.sha256
        if self.origin is not None:
            # A hash of the pictures' bytes, since several files may give the same pixels.
            digest = _once(self.images, "digest", self._pictures_sha256)
        facts = f"{digest} {pipeline.identity} {self.reference.normalise}"
        hashed = pixels, self.images.labels, None, hashlib.sha256(facts.encode()).hexdigest()
        return replace(
            self.images, pixels=pixels, masks=None, pipeline=str(pipeline), hashed=hashed
        )

    def picture(self, position: int) -> Any:
        """Return the picture of the image at a position.

        It is the bytes of a file, or pixels (H, W, C) uint8.
        """
        if self.origin is None:
            return self.images.pixels[position].numpy().transpose(1, 2, 0)
        return self.origin.picture(int(self.images.positions[position]))

    def where(self, position: int) -> str:
        """Return the name of the picture of the image at a position, for messages."""
        number = int(self.images.positions[position])
        if self.origin is None:
            return f"image {number}"
        return self.origin.where(number)

    def _picture_for(self, pipeline: Pipeline, position: int) -> Any:
        """Return the picture of the image at a position, for a pipeline.

        It is decoded if decoded pictures are kept and the pipeline decodes it in the same way.
        """
        reference = self.reference
        decoders = (reference.decode, reference.orient)
        if self.kept is None or (pipeline.decode, pipeline.orient) != decoders:
            return self.picture(position)

        number = int(self.images.positions[position])
        if number in self.kept:
            return self.kept[number]
        decoder = Pipeline(decode=reference.decode, orient=reference.orient)
        where = self.where(position)
        pixels = decoder.picture(self.picture(position), where=where).pixels
        if pixels.nbytes * len(self.kept) < _MAX_KEPT:
            self.kept[number] = pixels
        return pixels

    def _serve(self, pipeline: Pipeline, positions: np.ndarray) -> Tensor:
        """Return the images at these positions as a pipeline serves them.

        They are (M, C, H, W) float32, from 0 to 255.
        """
        import torch

        shape = tuple(self.images.pixels.shape[1:])
        levels = np.empty((len(positions), *shape), dtype=np.float32)
        for row, position in enumerate(positions.tolist()):
            where = self.where(position)
            picture = self._picture_for(pipeline, position)
            pixels = pipeline.apply(picture, network=self.reference.normalise, where=where)
            if pixels.shape != shape:
                raise PipelineError(
                    f"{where}: is {pixels.shape} as served by {pipeline}, the images are {shape} "
                    "(channels, height, width); serve them in this size"
                )
            levels[row] = pixels * np.float32(255)
        return torch.from_numpy(levels)

    def _pictures_sha256(self) -> str:
        """Return a SHA-256 over the hash of the images and the content of their pictures."""
        digest = hashlib.sha256(self.images.sha256.encode())
        for position in range(len(self.images)):
            content = self.picture(position)
            if not isinstance(content, bytes):
                content = np.ascontiguousarray(np.asarray(content)).tobytes()
            digest.update(hashlib.sha256(content).digest())
        return digest.hexdigest()


def serving_of(images: LabelledImages, normalise: Normalise | None = None) -> Serving:
    """Return images with their reference pipeline.

    A pipeline is the reference only if it gives the pixels of the data, bit by bit, for some of the
    pictures. Where none does, or the data have no pictures, the images' own pixels are the first
    that is known.
    The normalization of the reference pipeline is the network's, by default none.
    """
    pipeline, origin, note = _once(images, "reference", lambda: _reference_of(images))
    return Serving(images, replace(pipeline, normalise=normalise or Normalise()), origin, note)


_computed: WeakKeyDictionary[LabelledImages, dict[str, Any]] = WeakKeyDictionary()


def _once(images: LabelledImages, what: str, compute: Callable[[], T]) -> T:
    """Return a value of these images, which is computed once while somebody has them."""
    values = _computed.setdefault(images, {})
    if what not in values:
        values[what] = compute()
    return cast("T", values[what])


def _reference_of(images: LabelledImages) -> tuple[Pipeline, Origin | None, str]:
    """Return the reference pipeline without normalization, its pictures, and why it has none."""
    channels: Any = images.pixels.shape[1]
    of_pixels = Pipeline(color=Color(channels), encoded=False)
    origin = images.origin
    if origin is None:
        return of_pixels, None, "the data have pixels, not pictures: decoders do not apply"

    serving = Serving(images, of_pixels, origin)
    for pipeline in origin.pipelines:
        if _gives_pixels(pipeline, serving):
            return pipeline, origin, ""
    note = "no known pipeline gives the pixels of the data, so skews begin at these pixels"
    return of_pixels, None, note


def _gives_pixels(pipeline: Pipeline, serving: Serving) -> bool:
    """Return whether a pipeline gives the pixels of the images for some of their pictures."""
    images = serving.images
    for position in spread_positions(len(images), _COMPARED):
        where = serving.where(position)
        picture = pipeline.picture(serving.picture(position), where=where)
        pixels = picture.pixels.transpose(2, 0, 1)
        if not np.array_equal(pixels, images.pixels[position].numpy()):
            return False
    return True
