"""Pixels made of pictures, one by one: all like the first, the same each time, and what was noticed of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.data.images import Content, LabelledImages
from harness.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from harness.data.pictures import Pictures
    from harness.data.pipeline import Pipeline, Seen

TRIED = 8
"""Pictures that code of the user's is asked for twice."""
_BLOCK = 128
"""Pictures that are decoded side by side before they are written, in order."""
_STRETCHED = 1.05
"""By how much sides may be stretched against each other before it is said."""

Write = Callable[[np.ndarray], object]


@dataclass(frozen=True)
class Work:
    """What is to be decoded, and the (height, width, channels) that all of it must have."""

    pictures: Pictures
    pipeline: Pipeline
    shape: tuple[int, ...]

    @property
    def pixel_shape(self) -> tuple[int, int, int, int]:
        """Return the shape of all pixels, (N, C, H, W)."""
        height, width, channels = self.shape
        return len(self.pictures), channels, height, width

    @property
    def pixel_bytes(self) -> int:
        """Return how many bytes these are."""
        return int(np.prod(self.pixel_shape, dtype=object))

    @property
    def masks(self) -> np.ndarray | None:
        """Return the masks as the pipeline makes them, (N, H, W) bool, if there are any."""
        masks = self.pictures.masks
        return None if masks is None else self.pipeline.masks(masks)

    @property
    def needed(self) -> int:
        """Return how many bytes pixels and masks are."""
        masks = self.pictures.masks
        return self.pixel_bytes + (0 if masks is None else len(masks) * self.shape[0] * self.shape[1])

    def made(self, position: int) -> Seen:
        """Return one picture as the pipeline makes it, which must be like the first."""
        where = self.pictures.where(position)
        seen = self.pipeline.apply(self.pictures.read(position), where=where)
        found, expected = seen.pixels.shape, self.shape
        if found[:2] != expected[:2]:
            raise InputError(
                f"{where}: is {found[0]}x{found[1]} pixels (height x width), {self.pictures.where(0)} is "
                f"{expected[0]}x{expected[1]}; expected images of one size, say which with --stress-size, or with "
                "--stress-resize and --stress-crop, which keep their shape"
            )
        if found[2] != expected[2]:
            kinds = {1: "grey", 3: "colour"}
            raise InputError(
                f"{where}: is {kinds[found[2]]}, {self.pictures.where(0)} is {kinds[expected[2]]}; expected images of "
                "one kind, say which with --stress-channels 1 or 3"
            )
        return seen

    def expect_same_again(self) -> None:
        """Raise `InputError` when code of the user's makes something else of a picture the second time."""
        with _generators_as_found():
            for position in range(min(TRIED, len(self.pictures))):
                first, second = self.made(position).pixels, self.made(position).pixels
                if not np.array_equal(first, second):
                    transform = self.pipeline.transform
                    what = f"transform {transform.spec}" if transform else f"data {self.pictures.whole}"
                    raise InputError(
                        f"--stress-{what}: gives other pixels for {self.pictures.where(position)} the second time; "
                        "leave out what is drawn at random, as in the pipeline that is used to evaluate"
                    )

    def run(self, write: Write) -> tuple[str, ...]:
        """Decode all pictures, hand them on in order, (C, H, W) uint8 each, and return the notes on them."""
        from concurrent.futures import ThreadPoolExecutor

        from harness.store.progress import Progress

        count, seen = len(self.pictures), _Notes()
        side_by_side = self.pictures.threads and self.pipeline.transform is None
        with (
            ThreadPoolExecutor(_cores() if side_by_side else 1) as pool,
            Progress(total=count, desc="reading images", unit="image", delay=2, leave=False) as progress,
        ):
            for start in range(0, count, _BLOCK):
                block = range(start, min(start + _BLOCK, count))
                # Code of the user's runs in this thread, as it would anywhere else.
                for each in pool.map(self.made, block) if side_by_side else map(self.made, block):
                    seen.take(each)
                    write(np.ascontiguousarray(each.pixels.transpose(2, 0, 1)))
                    progress.update()
        return (*self.pictures.notes, *seen.said(count, self.pipeline))

    def images(
        self,
        pixels: Tensor,
        masks: Tensor | None,
        labelled: tuple[np.ndarray, tuple[str, ...]],
        *,
        notes: tuple[str, ...],
        sha256: str | None = None,
    ) -> LabelledImages:
        """Return labelled images of decoded pixels, whose content has this SHA-256 if that is known."""
        import torch

        labels, classes = torch.from_numpy(labelled[0]), labelled[1]
        transform = self.pipeline.transform
        return LabelledImages(
            pixels=pixels,
            labels=labels,
            classes=classes,
            name=self.pictures.name,
            split=self.pictures.split,
            masks=masks,
            notes=notes,
            pipeline=self.pipeline.in_words,
            normalisation=None if transform is None else transform.normalisation,
            content=Content(pixels, labels, masks, known=sha256),
        )


class _Notes:
    """What was noticed of the pictures."""

    def __init__(self) -> None:
        self.transparent = self.stretched = self.rounded = 0
        self.worst = 1.0

    def take(self, seen: Seen) -> None:
        self.transparent += seen.transparent
        self.stretched += seen.stretched > _STRETCHED
        self.rounded += seen.rounded
        self.worst = max(self.worst, seen.stretched)

    def said(self, count: int, pipeline: Pipeline) -> Iterator[str]:
        if self.transparent:
            yield f"{self.transparent} of {count} images have transparency, which is dropped"
        if self.stretched:
            yield (
                f"{self.stretched} of {count} images are stretched by --stress-size, the worst by a factor of "
                f"{self.worst:.2f}; --stress-resize and --stress-crop keep their shape"
            )
        if self.rounded:
            source = f"{pipeline.transform.spec}" if pipeline.transform else "the data"
            yield f"{self.rounded} of {count} images are rounded to 8 bits: {source} gives levels between them"


@contextmanager
def _generators_as_found() -> Iterator[None]:
    """Leave the global generators of random numbers as they are found, whatever the user's code draws."""
    import random

    import torch

    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def _cores() -> int:
    affinity: Any = getattr(os, "sched_getaffinity", None)
    return min(8, len(affinity(0)) if affinity else os.cpu_count() or 1)
