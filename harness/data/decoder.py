"""Decoder of pictures to pixels, by threads or other processes: all of one shape, the same each time, with notices."""

from __future__ import annotations

import math
import os
import platform
import sys
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from harness.base.cache import installed
from harness.base.errors import DataError, PipelineError, printable
from harness.data.images import Content, LabelledImages
from harness.data.pictures import Origin, stamp_of
from harness.data.remote import RemoteFile

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from concurrent.futures import Future

    from torch import Tensor

    from harness.data.pictures import File, Pictures
    from harness.data.pipeline import DecodedPicture, Pipeline

TRIED = 8
"""Number of pictures that the user's code must make twice, with equal pixels."""
_BLOCK = 128
"""Number of pictures that threads of this process decode ahead, and most pictures of one call to another process."""
_SENT = 16 << 20
"""Most bytes of pixels of one call to another process."""
_LIBRARIES = ("albumentations", "numpy", "opencv-python", "timm", "torch", "torchvision")
"""Libraries that most transforms use; another release may round differently."""
_STRETCHED = 1.05
"""Change of the aspect ratio above which a notice says so."""

T = TypeVar("T")
R = TypeVar("R")


class Spread(Protocol):
    """Makes calls elsewhere, such as on the nodes of a cluster."""

    def __call__(
        self,
        call: Callable[[T], R],
        things: Iterable[T],
        *,
        here: Callable[[Iterable[T]], Generator[R, None, None]],
        what: str,
    ) -> Generator[R, None, None]:
        """Yield the result of `call` for each thing, in their order; a few calls run ahead of the consumer.

        `call` and the things must be picklable. A call that fails elsewhere is repeated `here`, so its error is that of
        this process. `what` names the work in messages.
        """


def side_by_side(call: Callable[[T], R], things: Iterable[T], *, threads: int) -> Generator[R, None, None]:
    """Yield the result of a call for each thing, in their order, by threads; at most two calls per thread run ahead."""
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for thing in things:
                waiting.append(pool.submit(call, thing))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class Span:
    """The pictures from `start` to before `stop`, and their files with stamps as the sender has them.

    `made_with` names the libraries and machine of the sender, which determine the pixels.
    """

    start: int
    stop: int
    files: tuple[tuple[File, Any], ...] = ()
    made_with: str | None = None

    def __str__(self) -> str:
        return f"pictures {self.start} to {self.stop - 1}"


@dataclass(frozen=True)
class Decoder:
    """Pictures to decode, and the (height, width, channels) that all must have."""

    pictures: Pictures
    pipeline: Pipeline
    shape: tuple[int, ...]
    spread: Spread | None = None
    """Makes the calls in other processes, for example on a cluster; None to decode here."""

    @property
    def pixel_shape(self) -> tuple[int, int, int, int]:
        """Return the shape of all pixels, (N, C, H, W)."""
        height, width, channels = self.shape
        return len(self.pictures), channels, height, width

    @property
    def pixel_bytes(self) -> int:
        """Return the size of all pixels in bytes."""
        return math.prod(self.pixel_shape)

    @property
    def needed(self) -> int:
        """Return the size of pixels and masks in bytes."""
        return self.pixel_bytes + (0 if self.pictures.masks is None else self.pixel_bytes // self.shape[2])

    @property
    def is_foreign(self) -> bool:
        """Return whether the user's code reads the pictures or makes their pixels."""
        return self.pictures.foreign or self.pipeline.transform is not None

    def made(self, position: int) -> DecodedPicture:
        """Return one picture after the pipeline; raises `InputError` for another shape than that of the first."""
        where = self.pictures.where(position)
        seen = self.pipeline.picture(self.pictures.picture(position), where=where)
        found, expected, first = seen.pixels.shape, self.shape, self.pictures.where(0)
        if found[:2] != expected[:2]:
            raise DataError(
                f"{where}: is {found[0]}x{found[1]} pixels (height x width), {first} is {expected[0]}x{expected[1]}; "
                "expected images of one size. Set size, or resize and crop to keep their proportions"
            )
        if found[2] != expected[2]:
            kinds = {1: "grey", 3: "colour"}
            raise DataError(
                f"{where}: is {kinds[found[2]]}, {first} is {kinds[expected[2]]}; expected images of one kind, set "
                "channels to 1 or 3"
            )
        return seen

    def expect_same_again(self) -> None:
        """Raise `InputError` if the user's code gives other pixels for a picture the second time."""
        with _generators_as_found():
            for position in range(min(TRIED, len(self.pictures))):
                if not np.array_equal(self.made(position).pixels, self.made(position).pixels):
                    transform = self.pipeline.transform
                    raise PipelineError(
                        f"gives other pixels for {self.pictures.where(position)} the second time; remove random "
                        "steps, as in a pipeline for evaluation",
                        setting=f"transform {transform.spec}" if transform else f"data {self.pictures.whole}",
                    )

    def run(self, write: Callable[[np.ndarray], object]) -> tuple[str, ...]:
        """Decode all pictures, pass each to `write` in order, (C, H, W) uint8, and return the notes on them."""
        from harness.base.progress import Progress

        count, noticed, worst = len(self.pictures), Counter[str](), 1.0
        with (
            closing(self._parts()) as parts,
            Progress(
                total=count, desc="reading images", unit="image", delay=2, leave=False, lines=1, silence=60
            ) as progress,
        ):
            for part in parts:
                for seen in part:
                    write(np.ascontiguousarray(seen.pixels.transpose(2, 0, 1)))
                    stretched = seen.stretched > _STRETCHED
                    noticed += Counter(transparent=seen.transparent, stretched=stretched, rounded=seen.rounded)
                    worst = max(worst, seen.stretched)
                progress.update(len(part))
        source = self.pipeline.transform.spec if self.pipeline.transform else "the data"
        about = {
            "transparent": "have transparency, which is dropped",
            "stretched": f"are stretched by size, the worst by a factor of {worst:.2f}; "
            "resize and crop keep their shape",
            "rounded": f"are rounded to 8 bits: {source} gives levels between them",
        }
        notes = (f"{noticed[kind]} of {count} images {words}" for kind, words in about.items() if noticed[kind])
        return (*self.pictures.notes, *notes)

    def part(self, span: Span) -> list[DecodedPicture]:
        """Return the pictures of a span; raises `InputError` if files or libraries differ from those of the sender."""
        for file, stamp in span.files:
            if stamp_of(file) != stamp:
                raise DataError(f"{file}: is missing there, or has other content")
        if span.made_with not in {None, self._made_with}:
            raise DataError(f"pixels are made with {self._made_with} there, with {span.made_with} here")
        return [self.made(position) for position in range(span.start, span.stop)]

    def _parts(self) -> Generator[list[DecodedPicture], None, None]:
        """Yield all parts in order, decoded here or by `spread`."""
        if self.spread is None:
            return self._here(self._spans(most=max(1, _BLOCK // (2 * _cores()))))
        if self.pictures.file is None:
            line = f"{self.pictures.whole}: this process decodes the pictures, as others cannot read single ones"
            print(printable(line), file=sys.stderr)
            return replace(self, spread=None)._parts()
        # Other processes need to read pictures, no more.
        bare = replace(self.pictures, labels=range(len(self.pictures)), masks=None, notes=(), groups={})
        sent = replace(self, pictures=bare, spread=None)
        return self.spread(sent.part, self._to_send(), here=self._here, what=self.pictures.whole)

    def _here(self, spans: Iterable[Span]) -> Generator[list[DecodedPicture], None, None]:
        """Yield the parts of spans, decoded by this process; the user's code runs in this thread only."""
        own = (Span(span.start, span.stop) for span in spans)
        if self.pictures.threads and self.pipeline.transform is None:
            return side_by_side(self.part, own, threads=_cores())
        return (self.part(span) for span in own)

    def _spans(self, *, most: int) -> Iterator[Span]:
        count = len(self.pictures)
        return (Span(start, min(start + most, count)) for start in range(0, count, most))

    def _to_send(self) -> Iterator[Span]:
        made_with, file = self._made_with, self.pictures.file
        for span in self._spans(most=max(1, min(_BLOCK, _SENT // math.prod(self.shape)))):
            files = dict.fromkeys(file(position) for position in range(span.start, span.stop)) if file else {}
            stamps = tuple((one, one if isinstance(one, RemoteFile) else stamp_of(one)) for one in files)
            yield replace(span, files=stamps, made_with=made_with)

    @property
    def _made_with(self) -> str:
        """Return a text of all that determines the pixels on this machine, such as versions of libraries."""
        if self.pipeline.transform is None and all(each.library == "pillow" for each in self.pipeline.resize):
            return self.pipeline.identity
        import torch

        on = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
        return f"{self.pipeline.identity} {' '.join(installed(_LIBRARIES))} on {on}"

    def images(
        self,
        pixels: Tensor,
        masks: Tensor | None,
        labelled: tuple[np.ndarray, tuple[str, ...]],
        *,
        notes: tuple[str, ...] = (),
        sha256: str | None = None,
    ) -> LabelledImages:
        """Return labeled images of decoded pixels; `sha256` is the hash of their content, None if unknown."""
        import torch

        labels, pictures, transform = torch.from_numpy(labelled[0]), self.pictures, self.pipeline.transform
        pipelines = self.pipeline.references(channels=self.shape[2], encoded=pictures.encoded)
        return LabelledImages(
            pixels=pixels,
            labels=labels,
            classes=labelled[1],
            name=pictures.name,
            split=pictures.split,
            masks=masks,
            notes=notes,
            pipeline=self.pipeline.steps,
            normalization=None if transform is None else transform.normalization,
            groups=pictures.groups,
            origin=Origin(pictures.read, pictures.where, pipelines, pictures.encoded, pictures.threads),
            content=Content(pixels, labels, masks, known=sha256),
        )


@contextmanager
def _generators_as_found() -> Iterator[None]:
    """Restore the global random generators at the end, whatever the user's code draws."""
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
