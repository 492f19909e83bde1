"""Pictures decoded once: into memory if they are few, else into a file of the user's cache.

Later runs read that file. Threads or other processes decode the pictures. The key of a cache entry
covers all that determines the pixels: files, sizes, times, pipeline and versions. Each opening
verifies the entry's hash. A damaged entry is made again, and so is one that the user's code would
now make differently.
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
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
    from concurrent.futures import Future

    from harness.data.pictures import File, Pictures
    from harness.data.pipeline import DecodedPicture

SMALL = 16 << 20
"""Bytes, on disk and decoded, up to which each process decodes pictures again, within a second."""
IN_MEMORY = 1 << 30
"""Bytes up to which pictures stay in memory if the cache cannot be written."""
TRIED = 8
"""Number of pictures that the user's code must make twice, with equal pixels."""
_RUN = "STRESS_HARNESS_RUN"
"""Environment variable with the run's name.

The processes of a run share entries of data without a fingerprint.
"""
_own_runs: set[str] = set()
"""The names that this process chose; it inherits others from its parent."""
_BLOCK = 128
"""Pictures that threads of this process decode ahead, and most of a call to another process."""
_SENT = 16 << 20
"""Most bytes of pixels of one call to another process."""
_STRETCHED = 1.05
"""Change of the aspect ratio above which a notice says so."""

T = TypeVar("T")
R = TypeVar("R")
Spread: TypeAlias = "Callable[..., Generator[Any, None, None]]"
"""Makes calls elsewhere, such as on the nodes of a cluster.

A call is `spread(call, things, here=here, what=what)`. It yields the result of `call` for each
thing, in their order; a few calls run ahead of the consumer. `call` and the things must be
picklable. A call that fails elsewhere is repeated `here`, a function that yields the results for
some things, so that its error is that of this process. `what` names the work in messages.
"""


def side_by_side(
    call: Callable[[T], R], things: Iterable[T], *, threads: int
) -> Generator[R, None, None]:
    """Yield the result of a call for each thing, in their order, by threads.

    At most two calls per thread run ahead.
    """
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
    """The pictures from `start` to before `stop`.

    For another process, it also has the files with their stamps, and libraries and machine.
    """

    start: int
    stop: int
    files: tuple[tuple[File, Any], ...] = ()
    made_with: str = ""

    def __str__(self) -> str:
        return f"pictures {self.start} to {self.stop - 1}"


@dataclass(frozen=True)
class Decoder:
    """Pictures to decode, and what decodes them.

    Attributes:
        pictures: The pictures.
        pipeline: Their pipeline.
        shape: The (height, width, channels) that all must have after it.
        encoded: Whether they are the bytes of files.
        spread: Makes the calls in other processes, for example on a cluster; None to decode here.
    """

    pictures: Pictures
    pipeline: Pipeline
    shape: tuple[int, ...]
    encoded: bool = False
    spread: Spread | None = None

    @property
    def pixel_shape(self) -> tuple[int, int, int, int]:
        height, width, channels = self.shape
        return len(self.pictures), channels, height, width

    @property
    def needed(self) -> int:
        """Return the size of pixels and masks in bytes."""
        height, width, bytes_of_pixel = self.shape
        if self.pictures.masks is not None:
            bytes_of_pixel += 1
        return len(self.pictures) * height * width * bytes_of_pixel

    @property
    def is_foreign(self) -> bool:
        """Return whether the user's code reads the pictures or makes their pixels."""
        return self.pictures.foreign or self.pipeline.transform is not None

    def decode(self, position: int) -> DecodedPicture:
        """Return one picture after the pipeline.

        Raises `InputError` for another shape than that of the first picture.
        """
        row = self.pictures.rows[position]
        where = str(row)
        picture = self.pipeline.picture(row.picture(), where=where)
        if picture.pixels.shape != self.shape:
            raise DataError(f"{where}: {self._other_shape(picture.pixels.shape)}")
        return picture

    def _other_shape(self, shape: tuple[int, ...]) -> str:
        """Return how a shape differs from that of the first picture, and a remedy."""
        height, width, channels = shape
        first_height, first_width, first_channels = self.shape
        first = self.pictures.rows[0]
        if (height, width) != (first_height, first_width):
            return (
                f"is {height}x{width} pixels (height x width), {first} is "
                f"{first_height}x{first_width}; expected images of one size. Set size, or resize "
                "and crop to keep their proportions"
            )
        return (
            f"is {_color_in_words(channels)}, {first} is {_color_in_words(first_channels)}; "
            "expected one kind, set channels to 1 or 3"
        )

    def expect_same_again(self) -> None:
        """Raise `InputError` if the user's code gives other pixels for a picture the second time.

        The global random generators stay unchanged, whatever the code draws.
        """
        import random

        import torch

        python_state = random.getstate()
        numpy_state = np.random.get_state()
        try:
            with torch.random.fork_rng(devices=[]):
                differing = self._differing_again()
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)
        if differing is None:
            return

        setting = f"data {self.pictures.whole}"
        if self.pipeline.transform is not None:
            setting = f"transform {self.pipeline.transform.spec}"
        raise PipelineError(
            f"gives other pixels for {self.pictures.rows[differing]} the second time; "
            "remove random steps, as in a pipeline for evaluation",
            setting=setting,
        )

    def _differing_again(self) -> int | None:
        """Return the position of a picture whose pixels are others the second time, if any."""
        for position in range(min(TRIED, len(self.pictures))):
            first = self.decode(position).pixels
            second = self.decode(position).pixels
            if not np.array_equal(first, second):
                return position
        return None

    def run(self, write: Callable[[np.ndarray], object]) -> tuple[str, ...]:
        """Decode all pictures, pass them to `write` in order, and return the notes on them.

        Pixels are passed as (C, H, W) uint8.
        """
        from harness.base.progress import Progress

        noticed = Counter[str]()
        worst = 1.0
        progress = Progress(
            total=len(self.pictures),
            desc="reading images",
            unit="image",
            delay=2,
            leave=False,
            lines=1,
            silence=60,
        )
        with closing(self._parts()) as parts, progress as shown:
            for part in parts:
                for picture in part:
                    write(np.ascontiguousarray(picture.pixels.transpose(2, 0, 1)))
                    noticed["transparent"] += picture.transparent
                    noticed["stretched"] += picture.stretched > _STRETCHED
                    noticed["rounded"] += picture.rounded
                    worst = max(worst, picture.stretched)
                shown.update(len(part))
        return (*self.pictures.notes, *self._notes(noticed, worst))

    def _notes(self, noticed: Mapping[str, int], worst_stretching: float) -> list[str]:
        """Return notes on decoded pictures, by the number of those with each notice."""
        source = "the data"
        if self.pipeline.transform is not None:
            source = self.pipeline.transform.spec
        words = {
            "transparent": "have transparency, which is dropped",
            "stretched": f"are stretched by size, the worst by a factor of {worst_stretching:.2f}; "
            "resize and crop keep their shape",
            "rounded": f"are rounded to 8 bits: {source} gives levels between them",
        }
        count = len(self.pictures)
        notes = []
        for notice, text in words.items():
            if noticed[notice]:
                notes.append(f"{noticed[notice]} of {count} images {text}")
        return notes

    def part(self, span: _Span) -> list[DecodedPicture]:
        """Return the pictures of a span.

        Raises `InputError` if files or libraries differ from those of the sender.
        """
        for file, stamp in span.files:
            if stamp_of(file) != stamp:
                raise DataError(f"{file}: is missing there, or has other content")
        if span.made_with not in {"", self._made_with}:
            raise DataError(
                f"pixels are made with {self._made_with} there, with {span.made_with} here"
            )
        return [self.decode(position) for position in range(span.start, span.stop)]

    def _parts(self) -> Generator[list[DecodedPicture], None, None]:
        """Yield all pictures in parts, decoded by other processes or by this one."""
        if self.spread is None:
            return self._here(self._spans(_BLOCK // (2 * _cores())))
        if self.pictures.rows[0].file is None:
            line = (
                f"{self.pictures.whole}: this process decodes the pictures, "
                "as others cannot read single ones"
            )
            print(printable(line), file=sys.stderr)
            return self._here(self._spans(_BLOCK // (2 * _cores())))

        # Other processes need to read pictures, no more.
        bare = replace(
            self.pictures, labels=range(len(self.pictures)), masks=None, notes=(), groups={}
        )
        sent = replace(self, pictures=bare, spread=None)
        size = min(_BLOCK, _SENT // math.prod(self.shape))
        return self.spread(
            sent.part,
            self._spans(size, self._made_with),
            here=self._here,
            what=self.pictures.whole,
        )

    def _spans(self, size: int, made_with: str = "") -> Iterator[_Span]:
        """Yield spans of at most so many pictures; for another process if `made_with` is set."""
        count = len(self.pictures)
        size = max(1, size)
        for start in range(0, count, size):
            stop = min(start + size, count)
            files: dict[File, None] = {}
            if made_with:
                for row in self.pictures.rows[start:stop]:
                    if row.file:
                        files[row.file] = None
            stamps = tuple((file, stamp_of(file, now=False)) for file in files)
            yield _Span(start, stop, stamps, made_with)

    def _here(self, spans: Iterable[_Span]) -> Generator[list[DecodedPicture], None, None]:
        """Yield the parts of spans, decoded by this process.

        The user's code runs in this thread only.
        """
        own_spans = (_Span(span.start, span.stop) for span in spans)
        if self.pictures.threads and self.pipeline.transform is None:
            return side_by_side(self.part, own_spans, threads=_cores())
        return (self.part(span) for span in own_spans)

    @property
    def _made_with(self) -> str:
        """Return all that determines the pixels on this machine, such as versions of libraries."""
        libraries = {resize.library for resize in self.pipeline.resize}
        if self.pipeline.transform is None and libraries <= {"pillow"}:
            return self.pipeline.identity
        import torch

        # Libraries that most transforms use; another release may round differently.
        versions = installed(
            ("albumentations", "numpy", "opencv-python", "timm", "torch", "torchvision")
        )
        processor = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
        return f"{self.pipeline.identity} {' '.join(versions)} on {processor}"

    def images(self, pixels: Any, masks: Any, facts: Mapping[str, Any]) -> LabelledImages:
        """Return decoded pixels and masks, arrays or tensors, as labeled images.

        `facts` are those of an entry of the cache: labels, classes, and perhaps notes and a hash.
        """
        import torch

        if isinstance(pixels, np.ndarray):
            pixels = torch.from_numpy(pixels)
        if isinstance(masks, np.ndarray):
            masks = torch.from_numpy(masks)
        labels = torch.from_numpy(np.array(facts["labels"], dtype=np.int64))
        pipelines = self.pipeline.references(channels=self.shape[2], encoded=self.encoded)
        normalization = None
        if self.pipeline.transform is not None:
            normalization = self.pipeline.transform.normalization
        hashed = None
        if "sha256" in facts:
            hashed = (pixels, labels, masks, facts["sha256"])
        return LabelledImages(
            pixels=pixels,
            labels=labels,
            classes=tuple(facts["classes"]),
            name=self.pictures.name,
            split=self.pictures.split,
            masks=masks,
            notes=tuple(facts.get("notes", ())),
            pipeline=self.pipeline.steps,
            normalization=normalization,
            groups=self.pictures.groups,
            origin=Origin(self.pictures.rows, pipelines, self.encoded, self.pictures.threads),
            hashed=hashed,
        )


def _color_in_words(channels: int) -> str:
    if channels == 1:
        return "grey"
    return "colour"


def _cores() -> int:
    """Return how many threads decode: the cores that this process may use, at most 8."""
    affinity: Any = getattr(os, "sched_getaffinity", None)  # Linux has it.
    count = os.cpu_count() or 1
    if affinity is not None:
        count = len(affinity(0))
    return min(8, count)


def decoded(
    pictures: Pictures, pipeline: Pipeline, *, spread: Spread | None = None
) -> LabelledImages:
    """Return the pictures as labeled images, each made by the pipeline.

    Args:
        pictures: The pictures.
        pipeline: Their pipeline.
        spread: Decodes many pictures, for example on a cluster; without it, this process does.

    Raises:
        InputError: A picture is unreadable or has another shape than the first, the user's code
            gives other pixels at a second call, or neither memory nor disk has enough room.
    """
    if not pictures.foreign:
        _ = pictures.labelled  # Bad labels are refused before anything is decoded.
    if pictures.array is not None and pipeline == Pipeline():
        return _undecoded(pictures, pictures.array)

    first = pictures.rows[0].picture()
    shape = pipeline.picture(first, where=str(pictures.rows[0])).pixels.shape
    decoder = Decoder(pictures, pipeline, shape, isinstance(first, bytes), spread)
    if decoder.is_foreign:
        decoder.expect_same_again()
    stored = pictures.stored
    if stored is not None:
        needed = math.prod(decoder.pixel_shape)
        expect_proportion(pictures.whole, needed=needed, stored=stored)
    if decoder.needed <= SMALL and (stored or 0) <= SMALL and not pictures.foreign:
        return _in_memory(replace(decoder, spread=None))
    try:
        return _from_disk(decoder)
    except OSError as error:
        is_full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
        if decoder.needed <= IN_MEMORY and not is_full:
            return _in_memory(decoder)
        raise DataError(
            f"{Store.of_user('images').folder}: {len(pictures)} decoded images need "
            f"{decoder.needed / 1e9:.1f} GB there ({error.strerror or error}); free some space, "
            "for example with `stress-harness cache --clear`, or move the user's cache with "
            "XDG_CACHE_HOME"
        ) from None


def _undecoded(pictures: Pictures, array: np.ndarray) -> LabelledImages:
    """Return the images of pictures that are in memory, (N, H, W, C) uint8, unchanged."""
    decoder = Decoder(pictures, Pipeline(), array.shape[1:])
    pixels = np.ascontiguousarray(array.transpose(0, 3, 1, 2))
    labels, classes = pictures.labelled
    images = decoder.images(pixels, pictures.masks, {"labels": labels, "classes": classes})
    return replace(images, origin=None)  # Their pixels are the first stage that is known.


def _in_memory(decoder: Decoder) -> LabelledImages:
    pixels = np.empty(decoder.pixel_shape, dtype=np.uint8)
    free_rows = iter(pixels)
    notes = decoder.run(lambda picture: np.copyto(next(free_rows), picture))
    labels, classes = decoder.pictures.labelled
    masks = decoder.pictures.masks
    if masks is not None:
        masks = decoder.pipeline.masks(masks)
    return decoder.images(pixels, masks, {"labels": labels, "classes": classes, "notes": notes})


def _from_disk(decoder: Decoder) -> LabelledImages:
    """Return the images of the cache entry; raises `OSError`.

    The entry is made if it is missing, damaged or another.
    """
    store = Store.of_user("images")
    key = _key_of(decoder)
    with locked(store.path(key)):
        # Without a fingerprint, the process that began the run decodes anew, and the run's other
        # processes read its entry.
        if decoder.pictures.made_of is not None or os.environ[_RUN] not in _own_runs:
            images = _opened(decoder, key, verified=False)
            if images is not None:
                return images
        _store(decoder, store, key)
        images = _opened(decoder, key, verified=True)
        if images is None:
            raise OSError(errno.EIO, "the new cache entry cannot be read back", str(store.folder))
        return images


def _key_of(decoder: Decoder) -> str:
    """Return the key of the cache entry of decoded pictures."""
    if _RUN not in os.environ:
        os.environ[_RUN] = os.urandom(16).hex()
        _own_runs.add(os.environ[_RUN])
    # The key covers all that determines the entry; for data without a fingerprint it covers the
    # run's name. The first number is the version of the entries' format.
    sources = (
        2,
        decoder.pictures.made_of or f"run {os.environ[_RUN]}",
        decoder.pipeline.identity,
        decoder.pixel_shape,
        decoder.pictures.masks is not None,
    )
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()


def _store(decoder: Decoder, store: Store, key: str) -> None:
    """Decode the pictures into an entry of the cache, pixels first, then masks."""
    pictures = decoder.pictures
    with store.making(key, needed=decoder.needed) as (file, facts):
        digest = hashlib.sha256()

        def write(array: np.ndarray) -> None:
            file.write(array.data)
            digest.update(array.data)

        facts["notes"] = decoder.run(write)
        if decoder.is_foreign:
            facts["code"] = imports.files()
        labels, classes = pictures.labelled
        facts["labels"] = labels.tolist()
        facts["classes"] = classes
        # As `content_sha256`: the labels come between pixels and masks, which the file has not.
        digest.update(labels.astype("<i8").data)
        if pictures.masks is not None:
            write(np.ascontiguousarray(decoder.pipeline.masks(pictures.masks)))
        facts["sha256"] = digest.hexdigest()


def _opened(decoder: Decoder, key: str, *, verified: bool) -> LabelledImages | None:
    """Return the images of an entry, in memory if they are few, else rows of its file.

    Returns None without an entry. Unless it is `verified`, also for a damaged one, and if the
    user's code would now make other pixels. The key of an entry covers the code's own file, but not
    the modules that it imports.
    """
    import torch

    entry = Store.of_user("images").opened(key)
    if entry is None:
        return None
    count, channels, height, width = decoder.pixel_shape
    with closing(entry):
        unchanged = imports.unchanged(entry.facts.get("code", {})) and entry.bytes == decoder.needed
        if not (unchanged or verified):
            return None
        pixels = rows_of_file(entry.file, decoder.pixel_shape, torch.uint8)
        masks = None
        if decoder.pictures.masks is not None:
            offset = count * channels * height * width
            masks = rows_of_file(entry.file, (count, height, width), torch.bool, offset=offset)
        if decoder.needed <= COPIED:
            pixels = pixels[:]
            if masks is not None:
                masks = masks[:]
    images = decoder.images(pixels, masks, entry.facts)
    if verified or _is_intact(decoder, images):
        return images
    return None


def _is_intact(decoder: Decoder, images: LabelledImages) -> bool:
    """Return whether images of an entry have its hash, and their pixels by the user's code."""
    if content_sha256(images.pixels, images.labels, images.masks) != images.sha256:
        return False
    if not decoder.is_foreign:
        return True
    for position in spread_positions(len(images), TRIED):
        pixels = decoder.decode(position).pixels.transpose(2, 0, 1)
        if not np.array_equal(pixels, images.pixels[position].numpy()):
            return False
    return True
