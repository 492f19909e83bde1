"""Pictures decoded once: into memory if they are few, else into a file of the user's cache, which later runs read.

Threads or other processes decode them. The key of a cache entry covers all that determines the pixels: files, sizes,
times, pipeline and versions. Each opening verifies the entry's hash. A damaged entry is made again, and so is one that
the user's code would now make differently.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import platform
import sys
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

import numpy as np

from harness.base import imports
from harness.base.cache import Store, installed
from harness.base.errors import DataError, PipelineError, printable
from harness.base.files import locked
from harness.data.images import LabelledImages, content_sha256, spread_positions
from harness.data.pictures import Origin, expect_proportion, stamp_of
from harness.data.pipeline import Pipeline
from harness.data.rows import COPIED, rows_of_file

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from harness.data.pictures import File, Pictures
    from harness.data.pipeline import DecodedPicture

SMALL = 16 << 20
"""Bytes, on disk and decoded, up to which each process decodes the pictures again, in less than a second."""
IN_MEMORY = 1 << 30
"""Bytes up to which pictures stay in memory if the cache cannot be written."""
TRIED = 8
"""Number of pictures that the user's code must make twice, with equal pixels."""
_RUN = "STRESS_HARNESS_RUN"
"""Environment variable with the run's name: its processes share entries of data without a fingerprint."""
_own_runs: set[str] = set()
"""The names that this process chose; it inherits others from its parent."""
_BLOCK = 128
"""Number of pictures that threads of this process decode ahead, and most pictures of one call to another process."""
_SENT = 16 << 20
"""Most bytes of pixels of one call to another process."""
_STRETCHED = 1.05
"""Change of the aspect ratio above which a notice says so."""

T = TypeVar("T")
R = TypeVar("R")
Spread: TypeAlias = "Callable[..., Generator[Any, None, None]]"
"""Makes calls elsewhere, such as on the nodes of a cluster: `spread(call, things, here=here, what=what)`.

It yields the result of `call` for each thing, in their order; a few calls run ahead of the consumer. `call` and the
things must be picklable. A call that fails elsewhere is repeated `here`, a function that yields the results for some
things, so its error is that of this process. `what` names the work in messages.
"""


def side_by_side(
    call: Callable[[T], R], things: Iterable[T], *, threads: int
) -> Generator[R, None, None]:
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


class _Span(NamedTuple):
    """The pictures from `start` to before `stop`; for another process with files, and with libraries and machine."""

    start: int
    stop: int
    files: tuple[tuple[File, Any], ...] = ()
    made_with: str = ""

    def __str__(self) -> str:
        return f"pictures {self.start} to {self.stop - 1}"


@dataclass(frozen=True)
class Decoder:
    """Pictures to decode, and the (height, width, channels) that all must have; `encoded` ones are bytes of files."""

    pictures: Pictures
    pipeline: Pipeline
    shape: tuple[int, ...]
    encoded: bool = False
    spread: Spread | None = None
    """Makes the calls in other processes, for example on a cluster; None to decode here."""

    @property
    def pixel_shape(self) -> tuple[int, int, int, int]:
        height, width, channels = self.shape
        return len(self.pictures), channels, height, width

    @property
    def needed(self) -> int:
        """Return the size of pixels and masks in bytes."""
        return (
            len(self.pictures)
            * math.prod(self.shape[:2])
            * (self.shape[2] + (self.pictures.masks is not None))
        )

    @property
    def is_foreign(self) -> bool:
        """Return whether the user's code reads the pictures or makes their pixels."""
        return self.pictures.foreign or self.pipeline.transform is not None

    def made(self, position: int) -> DecodedPicture:
        """Return one picture after the pipeline; raises `InputError` for another shape than that of the first."""
        where = str(row := self.pictures.rows[position])
        seen = self.pipeline.picture(row.picture(), where=where)
        if seen.pixels.shape != self.shape:
            (*size, kind), (*sizes, kinds), first = (
                seen.pixels.shape,
                self.shape,
                self.pictures.rows[0],
            )
            one, other = (f"{height}x{width}" for height, width in (size, sizes))
            if size != sizes:
                raise DataError(
                    f"{where}: is {one} pixels (height x width), {first} is {other}; expected images of one size. Set "
                    "size, or resize and crop to keep their proportions"
                )
            one, other = ("grey" if each == 1 else "colour" for each in (kind, kinds))
            raise DataError(
                f"{where}: is {one}, {first} is {other}; expected one kind, set channels to 1 or 3"
            )
        return seen

    def expect_same_again(self) -> None:
        """Raise `InputError` if the user's code gives other pixels for a picture the second time.

        The global random generators stay unchanged, whatever the code draws.
        """
        import random

        import torch

        python, numpy, transform = random.getstate(), np.random.get_state(), self.pipeline.transform
        some = range(min(TRIED, len(self.pictures)))
        try:
            with torch.random.fork_rng(devices=[]):
                twice = ((at, self.made(at).pixels, self.made(at).pixels) for at in some)
                differing = next(
                    (at for at, first, second in twice if not np.array_equal(first, second)), None
                )
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
        if differing is not None:
            raise PipelineError(
                f"gives other pixels for {self.pictures.rows[differing]} the second time; remove random steps, as in a "
                "pipeline for evaluation",
                setting=f"transform {transform.spec}"
                if transform
                else f"data {self.pictures.whole}",
            )

    def run(self, write: Callable[[np.ndarray], object]) -> tuple[str, ...]:
        """Decode all pictures, pass each to `write` in order, (C, H, W) uint8, and return the notes on them."""
        from harness.base.progress import Progress

        count, noticed, worst = len(self.pictures), Counter[str](), 1.0
        shown = Progress(
            total=count,
            desc="reading images",
            unit="image",
            delay=2,
            leave=False,
            lines=1,
            silence=60,
        )
        with closing(self._parts()) as parts, shown as progress:
            for part in parts:
                for pixels, transparent, stretched, rounded in part:
                    write(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
                    noticed += Counter(
                        transparent=transparent, stretched=stretched > _STRETCHED, rounded=rounded
                    )
                    worst = max(worst, stretched)
                progress.update(len(part))
        source, factor = (
            self.pipeline.transform.spec if self.pipeline.transform else "the data",
            f"{worst:.2f}",
        )
        about = {
            "transparent": "have transparency, which is dropped",
            "stretched": f"are stretched by size, the worst by a factor of {factor}; resize and crop keep their shape",
            "rounded": f"are rounded to 8 bits: {source} gives levels between them",
        }
        notes = (
            f"{noticed[kind]} of {count} images {words}"
            for kind, words in about.items()
            if noticed[kind]
        )
        return (*self.pictures.notes, *notes)

    def part(self, span: _Span) -> list[DecodedPicture]:
        """Return the pictures of a span; raises `InputError` if files or libraries differ from those of the sender."""
        for file, stamp in span.files:
            if stamp_of(file) != stamp:
                raise DataError(f"{file}: is missing there, or has other content")
        if span.made_with not in {"", self._made_with}:
            raise DataError(
                f"pixels are made with {self._made_with} there, with {span.made_with} here"
            )
        return [self.made(position) for position in range(span.start, span.stop)]

    def _parts(self) -> Generator[list[DecodedPicture], None, None]:
        pictures, count = self.pictures, len(self.pictures)

        def spans(most: int, made_with: str = "") -> Iterator[_Span]:
            for start in range(0, count, max(1, most)):
                stop = min(start + max(1, most), count)
                files = dict.fromkeys(
                    row.file for row in pictures.rows[start:stop] if row.file and made_with
                )
                yield _Span(
                    start,
                    stop,
                    tuple((each, stamp_of(each, now=False)) for each in files),
                    made_with,
                )

        if self.spread is not None and pictures.rows[0].file is not None:
            # Other processes need to read pictures, no more.
            bare = replace(pictures, labels=range(count), masks=None, notes=(), groups={})
            sent = replace(self, pictures=bare, spread=None)
            most = min(_BLOCK, _SENT // math.prod(self.shape))
            return self.spread(
                sent.part, spans(most, self._made_with), here=self._here, what=pictures.whole
            )
        if self.spread is not None:
            line = f"{pictures.whole}: this process decodes the pictures, as others cannot read single ones"
            print(printable(line), file=sys.stderr)
        return self._here(spans(_BLOCK // (2 * _cores())))

    def _here(self, spans: Iterable[_Span]) -> Generator[list[DecodedPicture], None, None]:
        """Yield the parts of spans, decoded by this process; the user's code runs in this thread only."""
        own = (_Span(span.start, span.stop) for span in spans)
        if self.pictures.threads and self.pipeline.transform is None:
            return side_by_side(self.part, own, threads=_cores())
        return (self.part(span) for span in own)

    @property
    def _made_with(self) -> str:
        """Return a text of all that determines the pixels on this machine, such as versions of libraries."""
        if self.pipeline.transform is None and all(
            each.library == "pillow" for each in self.pipeline.resize
        ):
            return self.pipeline.identity
        import torch

        # Libraries that most transforms use; another release may round differently.
        libraries = installed(
            ("albumentations", "numpy", "opencv-python", "timm", "torch", "torchvision")
        )
        on = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
        return f"{self.pipeline.identity} {' '.join(libraries)} on {on}"

    def images(self, held: Sequence[Any], facts: Mapping[str, Any]) -> LabelledImages:
        """Return labeled images of decoded pixels and masks, `held`; `facts` are those of an entry of the cache."""
        import torch

        pixels, masks = (
            torch.from_numpy(each) if isinstance(each, np.ndarray) else each for each in held
        )
        pictures, transform = self.pictures, self.pipeline.transform
        labels = torch.from_numpy(np.array(facts["labels"], dtype=np.int64))
        pipelines = self.pipeline.references(channels=self.shape[2], encoded=self.encoded)
        return LabelledImages(
            pixels=pixels,
            labels=labels,
            classes=tuple(facts["classes"]),
            name=pictures.name,
            split=pictures.split,
            masks=masks,
            notes=tuple(facts.get("notes", ())),
            pipeline=self.pipeline.steps,
            normalization=None if transform is None else transform.normalization,
            groups=pictures.groups,
            origin=Origin(pictures.rows, pipelines, self.encoded, pictures.threads),
            hashed=(pixels, labels, masks, facts["sha256"]) if "sha256" in facts else None,
        )


def _cores() -> int:
    affinity: Any = getattr(os, "sched_getaffinity", None)
    return min(8, len(affinity(0)) if affinity else os.cpu_count() or 1)


def decoded(
    pictures: Pictures, pipeline: Pipeline, *, spread: Spread | None = None
) -> LabelledImages:
    """Return the pictures as labeled images, each made by the pipeline.

    `spread`, for example a cluster, decodes many pictures; without it, this process does. Raises `InputError`, which
    names the picture, for an unreadable one and for one of another shape than the first. Also if the user's code gives
    other pixels at a second call, and if neither memory nor disk has enough room.
    """
    if not pictures.foreign:
        _ = pictures.labelled  # Bad labels are refused before anything is decoded.
    if pictures.array is not None and pipeline == Pipeline():
        pixels = np.ascontiguousarray(pictures.array.transpose(0, 3, 1, 2))
        whole = Decoder(pictures, pipeline, pictures.array.shape[1:])
        labels, classes = pictures.labelled
        images = whole.images((pixels, pictures.masks), {"labels": labels, "classes": classes})
        return replace(images, origin=None)  # Their pixels are the first stage that is known.
    first = pictures.rows[0].picture()
    shape = pipeline.picture(first, where=str(pictures.rows[0])).pixels.shape
    decoder = Decoder(pictures, pipeline, shape, isinstance(first, bytes), spread)
    if decoder.is_foreign:
        decoder.expect_same_again()
    if pictures.stored is not None:
        expect_proportion(
            pictures.whole, needed=math.prod(decoder.pixel_shape), stored=pictures.stored
        )
    if decoder.needed <= SMALL and (pictures.stored or 0) <= SMALL and not pictures.foreign:
        return _in_memory(replace(decoder, spread=None))
    try:
        return _from_disk(decoder)
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
        if decoder.needed <= IN_MEMORY and not full:
            return _in_memory(decoder)
        raise DataError(
            f"{Store.of_user('images').folder}: {len(pictures)} decoded images need {decoder.needed / 1e9:.1f} GB "
            f"there ({error.strerror or error}); free some space, for example with `stress-harness cache --clear`, or "
            "move the user's cache with XDG_CACHE_HOME"
        ) from None


def _in_memory(decoder: Decoder) -> LabelledImages:
    pixels, masks = np.empty(decoder.pixel_shape, dtype=np.uint8), decoder.pictures.masks
    rows = iter(pixels)
    notes = decoder.run(lambda picture: np.copyto(next(rows), picture))
    labels, classes = decoder.pictures.labelled
    made = None if masks is None else decoder.pipeline.masks(masks)
    return decoder.images((pixels, made), {"labels": labels, "classes": classes, "notes": notes})


def _from_disk(decoder: Decoder) -> LabelledImages:
    """Return the images of the cache entry, which is made if it is missing, damaged or another; raises `OSError`."""
    pictures, store = decoder.pictures, Store.of_user("images")
    # The key covers all that determines the entry; for data without a fingerprint it covers the run's name.
    if _RUN not in os.environ:
        os.environ[_RUN] = os.urandom(16).hex()
        _own_runs.add(os.environ[_RUN])
    made_of = pictures.made_of or f"run {os.environ[_RUN]}"
    # The first number is the version of the entries' format.
    sources = (
        2,
        made_of,
        decoder.pipeline.identity,
        decoder.pixel_shape,
        pictures.masks is not None,
    )
    key = hashlib.sha256(json.dumps(sources).encode()).hexdigest()
    with locked(store.path(key)):
        known = pictures.made_of is not None or os.environ[_RUN] not in _own_runs
        if known and (images := _opened(decoder, key, verified=False)) is not None:
            return images
        with store.making(key, needed=decoder.needed) as (file, facts):
            digest = hashlib.sha256()

            def write(array: np.ndarray) -> None:
                file.write(array.data)
                digest.update(array.data)

            facts["notes"] = decoder.run(write)
            if decoder.is_foreign:
                facts["code"] = imports.files()
            labels, classes = pictures.labelled
            facts["labels"], facts["classes"] = labels.tolist(), classes
            digest.update(labels.astype("<i8").data)
            if pictures.masks is not None:
                write(np.ascontiguousarray(decoder.pipeline.masks(pictures.masks)))
            facts["sha256"] = digest.hexdigest()
        if (images := _opened(decoder, key, verified=True)) is None:
            raise OSError(errno.EIO, "the new cache entry cannot be read back", str(store.folder))
        return images


def _opened(decoder: Decoder, key: str, *, verified: bool) -> LabelledImages | None:
    """Return the images of an entry, of memory if they are few, else rows of its file; None without an entry.

    Unless it is `verified`, also None for a damaged one, and if the user's code would now make other pixels. The key of
    an entry covers the code's own file, but not the modules that it imports.
    """
    import torch

    if (kept := Store.of_user("images").opened(key)) is None:
        return None
    count, channels, *size = decoder.pixel_shape
    with closing(kept):
        unchanged = imports.unchanged(kept.facts.get("code", {})) and kept.bytes == decoder.needed
        if not (unchanged or verified):
            return None
        held: list[Any] = [rows_of_file(kept.file, decoder.pixel_shape, torch.uint8), None]
        if decoder.pictures.masks is not None:
            offset = count * channels * math.prod(size)
            held[1] = rows_of_file(kept.file, (count, *size), torch.bool, offset=offset)
        if decoder.needed <= COPIED:
            held = [each if each is None else each[:] for each in held]
    images = decoder.images(held, kept.facts)
    if verified:
        return images
    same = content_sha256(images.pixels, images.labels, images.masks) == images.sha256 and all(
        np.array_equal(
            decoder.made(position).pixels.transpose(2, 0, 1), images.pixels[position].numpy()
        )
        for position in (spread_positions(count, TRIED) if decoder.is_foreign else ())
    )
    return images if same else None
