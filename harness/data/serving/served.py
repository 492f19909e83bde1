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
from harness.data.serving.catalog import SKEWS, Pictured, catalog
from harness.data.stages import Color, Normalise

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from harness.data.images import LabelledImages
    from harness.data.pictures import Origin

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Serving:
    """Images with their reference pipeline, which can be served by other pipelines.

    `origin` is None where the images' own pixels are the first that is known; `note` then says why. A search keeps
    pictures as the reference pipeline decodes them, `kept` by their positions in the full split.
    """

    images: LabelledImages
    reference: Pipeline
    origin: Origin | None
    note: str = ""
    kept: dict[int, np.ndarray] | None = field(default=None, repr=False)

    def skewed(self, name: str) -> Pipeline:
        """Return the pipeline of a skew; raises `InputError` for no skew, `NotApplicableError` where none applies."""
        if name not in SKEWS:
            raise PipelineError(
                f"unknown; expected one of {', '.join(SKEWS)}", setting=f"skew {name}"
            )
        return SKEWS[name].of(self.reference, self.pictured)

    @property
    def pictured(self) -> Pictured:
        """Return the facts that decide which skews apply, of some pictures."""
        # Few of a phone's pictures may be turned.
        some = (
            spread_positions(len(self.images), 1_000)
            if self.origin is not None and self.origin.encoded
            else ()
        )

        def look() -> Pictured:
            facts = [format_and_orientation(self.picture(at), where=self.where(at)) for at in some]
            turned = any(orientation != 1 for _, orientation in facts)
            channels, height, width = self.images.pixels.shape[1:]
            return Pictured(channels, (height, width), frozenset(kind for kind, _ in facts), turned)

        return _once(self.images, "pictured", look)

    @cached_property
    def catalog(self) -> dict[str, Pipeline]:
        """Return the skewed pipelines that apply, by the names of their skews."""
        return catalog(self.reference, self.pictured)

    def by(self, pipeline: Pipeline) -> LabelledImages:
        """Return the images as a pipeline serves them, as float32 levels; the reference gives the pixels themselves.

        Pixels are made when they are asked for, so none is held in memory.
        """
        if pipeline == self.reference:
            return self.images
        import torch

        pixels = cast(
            "Tensor", Rows(partial(self._made, pipeline), self.images.pixels.shape, torch.float32)
        )
        # A hash of the pictures' bytes, since several files may give the same pixels.
        digest = (
            self.images.sha256
            if self.origin is None
            else _once(self.images, "digest", self._hashed)
        )
        known = f"{digest} {pipeline.identity} {self.reference.normalise}"
        hashed = pixels, self.images.labels, None, hashlib.sha256(known.encode()).hexdigest()
        return replace(
            self.images, pixels=pixels, masks=None, pipeline=str(pipeline), hashed=hashed
        )

    def picture(self, position: int) -> Any:
        """Return the picture of the image at a position: bytes of a file, or pixels (H, W, C) uint8."""
        if self.origin is None:
            return self.images.pixels[position].numpy().transpose(1, 2, 0)
        return self.origin.picture(int(self.images.positions[position]))

    def where(self, position: int) -> str:
        """Return the name of the picture of the image at a position, for messages."""
        number = int(self.images.positions[position])
        return f"image {number}" if self.origin is None else self.origin.where(number)

    def _picture_for(self, pipeline: Pipeline, position: int) -> Any:
        """Return the picture of the image at a position, decoded if it is kept so and the pipeline decodes it so."""
        first, number = self.reference, int(self.images.positions[position])
        if self.kept is None or (pipeline.decode, pipeline.orient) != (first.decode, first.orient):
            return self.picture(position)
        if (known := self.kept.get(number)) is None:
            as_decoded = Pipeline(decode=first.decode, orient=first.orient)
            known = as_decoded.picture(self.picture(position), where=self.where(position)).pixels
            if known.nbytes * len(self.kept) < 2**28:
                self.kept[number] = known
        return known

    def _made(self, pipeline: Pipeline, positions: np.ndarray) -> Tensor:
        """Return the images at these positions as a pipeline serves them, (M, C, H, W) float32, from 0 to 255."""
        import torch

        shape = tuple(self.images.pixels.shape[1:])
        made = np.empty((len(positions), *shape), dtype=np.float32)
        for row, position in enumerate(positions.tolist()):
            where, picture = self.where(position), self._picture_for(pipeline, position)
            seen = pipeline.apply(picture, network=self.reference.normalise, where=where)
            if seen.shape != shape:
                raise PipelineError(
                    f"{where}: is {seen.shape} as served by {pipeline}, the images are {shape} (channels, height, "
                    "width); serve them in this size"
                )
            made[row] = seen * np.float32(255)
        return torch.from_numpy(made)

    def _hashed(self) -> str:
        digest = hashlib.sha256(self.images.sha256.encode())
        for position in range(len(self.images)):
            picture = self.picture(position)
            content = (
                picture
                if isinstance(picture, bytes)
                else np.ascontiguousarray(np.asarray(picture)).tobytes()
            )
            digest.update(hashlib.sha256(content).digest())
        return digest.hexdigest()


def serving_of(images: LabelledImages, normalise: Normalise | None = None) -> Serving:
    """Return images with their reference pipeline, whose normalization is the network's, by default none.

    A pipeline is the reference only if it gives the pixels of the data, bit by bit, for some of the pictures. Where
    none does, or the data have no pictures, the images' own pixels are the first that is known.
    """
    pipeline, origin, note = _once(images, "reference", lambda: _reference_of(images))
    return Serving(images, replace(pipeline, normalise=normalise or Normalise()), origin, note)


_known: WeakKeyDictionary[LabelledImages, dict[str, Any]] = WeakKeyDictionary()


def _once(images: LabelledImages, what: str, compute: Callable[[], T]) -> T:
    """Return what `compute` gave for these images first, while somebody has them."""
    known = _known.setdefault(images, {})
    if what not in known:
        known[what] = compute()
    return cast("T", known[what])


def _reference_of(images: LabelledImages) -> tuple[Pipeline, Origin | None, str]:
    """Return the reference pipeline without normalization, where its pictures come from, and why from nowhere."""
    kind: Any = images.pixels.shape[1]
    of_pixels = Pipeline(color=Color(kind), encoded=False)
    if (origin := images.origin) is None:
        return of_pixels, None, "the data have pixels, not pictures: decoders do not apply"
    serving = Serving(images, of_pixels, origin)
    for pipeline in origin.pipelines:
        some = spread_positions(len(images), 8)
        made = ((at, pipeline.picture(serving.picture(at), where=serving.where(at))) for at in some)
        if all(
            np.array_equal(each.pixels.transpose(2, 0, 1), images.pixels[at].numpy())
            for at, each in made
        ):
            return pipeline, origin, ""
    return (
        of_pixels,
        None,
        "no known pipeline gives the pixels of the data, so skews begin at these pixels",
    )
