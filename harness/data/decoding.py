"""Pictures decoded once: into memory when they are few, else into a file of the user's cache that is read from then on.

An entry of the cache is known by all that decides the pixels (files, sizes, times, pipeline, versions), and is
held against its hash whenever it is opened; one that is damaged, or that code of the user's would make otherwise now,
is made again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.data.budget import expect_proportion
from harness.data.images import Content, LabelledImages
from harness.data.pipeline import Pipeline, Seen
from harness.data.rows import COPIED, rows_of_file
from harness.errors import InputError
from harness.store.arrays import ArrayStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from harness.data.pictures import Pictures
    from harness.store.arrays import Kept

SMALL = 16 << 20
"""Bytes, on disk and decoded, up to which pictures are decoded in each process anew: it takes less than a second."""
IN_MEMORY = 1 << 30
"""Bytes up to which pictures are kept in memory where the cache cannot be written."""
_FORMAT = 1
"""Of the entries; another one than theirs is made anew."""
_BLOCK = 128
"""Pictures that are decoded side by side before they are written, in order."""
_TRIED = 8
"""Pictures that code of the user's is asked for twice."""
_STRETCHED = 1.05
"""By how much sides may be stretched against each other before it is said."""
_RUN = "STRESS_HARNESS_RUN"
"""The variable of the environment by which a run's processes know each other's entries of data that nobody can name."""

Write = Callable[[np.ndarray], object]


def decoded(pictures: Pictures, pipeline: Pipeline | None = None) -> LabelledImages:
    """Return the pictures as labelled images, each made by the pipeline.

    Raises `InputError`, which names the picture, for one that cannot be read, that is not like the first, or that code
    of the user's makes otherwise the second time; and where neither memory nor disk has room for them.
    """
    pipeline = pipeline or Pipeline()
    work = _Work(pictures, pipeline, pipeline.apply(pictures.read(0), where=pictures.where(0)).pixels.shape)
    if pictures.foreign or pipeline.transform is not None:
        work.expect_same_again()
    if pictures.stored is not None:
        expect_proportion(pictures.whole, needed=work.pixel_bytes, stored=pictures.stored)
    if work.needed <= SMALL and (pictures.stored or 0) <= SMALL and not pictures.foreign:
        return _in_memory(work)
    try:
        return _from_disk(work)
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
        if work.needed <= IN_MEMORY and not full:
            return _in_memory(work)
        raise InputError(
            f"{ArrayStore.of_user().folder}: {len(pictures)} images take {work.needed / 1e9:.1f} GB there, decoded "
            f"({error.strerror or error}); make room, with `python -m harness cache --clear` for one, or move the "
            "user's cache with XDG_CACHE_HOME"
        ) from None


@dataclass(frozen=True)
class _Work:
    """What is to be decoded, and the (height, width, channels) that all of it must have."""

    pictures: Pictures
    pipeline: Pipeline
    shape: tuple[int, ...]

    @property
    def pixel_shape(self) -> tuple[int, int, int, int]:
        height, width, channels = self.shape
        return len(self.pictures), channels, height, width

    @property
    def pixel_bytes(self) -> int:
        return int(np.prod(self.pixel_shape, dtype=object))

    @property
    def masks(self) -> np.ndarray | None:
        masks = self.pictures.masks
        return None if masks is None else self.pipeline.masks(masks)

    @property
    def needed(self) -> int:
        masks = self.pictures.masks
        return self.pixel_bytes + (0 if masks is None else len(masks) * self.shape[0] * self.shape[1])

    @property
    def key(self) -> str:
        """Return a hash of all that decides the entry; of data that nobody can name, by the run."""
        made_of = self.pictures.made_of or f"run {_this_run()[0]}"
        facts = (_FORMAT, made_of, self.pipeline.identity, self.pixel_shape, self.pictures.masks is not None)
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

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
            for position in range(min(_TRIED, len(self.pictures))):
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

        from tqdm import tqdm

        count, seen = len(self.pictures), _Notes()
        side_by_side = self.pictures.threads and self.pipeline.transform is None
        with (
            ThreadPoolExecutor(_cores() if side_by_side else 1) as pool,
            tqdm(total=count, desc="reading images", unit="image", delay=2, leave=False) as progress,
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


def _in_memory(work: _Work) -> LabelledImages:
    import torch

    pixels, position = np.empty(work.pixel_shape, dtype=np.uint8), 0

    def write(picture: np.ndarray) -> None:
        nonlocal position
        pixels[position] = picture
        position += 1

    notes = work.run(write)
    masks = work.masks
    return work.images(
        torch.from_numpy(pixels),
        None if masks is None else torch.from_numpy(masks),
        work.pictures.labelled(),
        notes=notes,
    )


def _from_disk(work: _Work) -> LabelledImages:
    store, key = ArrayStore.of_user(), work.key
    trusted = work.pictures.made_of is not None or not _this_run()[1]
    with store.locked(key):
        if trusted and (found := store.load(key)):
            with closing(found):
                images = _opened(work, found)
            if images is not None and _still_made_so(work, images):
                return images
        with store.making(key, needed=work.needed) as (file, facts):
            digest = hashlib.sha256()

            def write(array: np.ndarray) -> None:
                file.write(array.data)
                digest.update(array.data)

            facts["notes"] = work.run(write)
            labels, classes = work.pictures.labelled()
            facts["labels"], facts["classes"] = labels.tolist(), classes
            digest.update(labels.astype("<i8").data)
            if (masks := work.masks) is not None:
                write(np.ascontiguousarray(masks))
            facts["sha256"] = digest.hexdigest()
        kept = store.load(key)
        if kept is None:
            raise OSError(errno.EIO, "what was written cannot be read back", str(store.folder))
        with closing(kept):
            return _given(work, kept)


def _given(work: _Work, kept: Kept) -> LabelledImages:
    """Return the images of an entry: those of a few in memory, of more as they stand in the file."""
    import torch

    pixels = rows_of_file(kept.file, work.pixel_shape, torch.uint8)
    masks = None
    if work.pictures.masks is not None:
        shape = (work.pixel_shape[0], *work.pixel_shape[2:])
        masks = rows_of_file(kept.file, shape, torch.bool, offset=work.pixel_bytes)
    if work.needed <= COPIED:
        pixels, masks = pixels[:], None if masks is None else masks[:]
    labelled = np.array(kept.facts["labels"], dtype=np.int64), tuple(kept.facts["classes"])
    return work.images(pixels, masks, labelled, notes=tuple(kept.facts["notes"]), sha256=kept.facts["sha256"])


def _opened(work: _Work, kept: Kept) -> LabelledImages | None:
    """Return the images of an entry; None of one that is damaged."""
    if kept.bytes != work.needed:
        return None
    images = _given(work, kept)
    whole = Content(images.pixels, images.labels, images.masks)
    return images if whole.sha256 == kept.facts["sha256"] else None


def _still_made_so(work: _Work, images: LabelledImages) -> bool:
    """Return whether code of the user's would still make the same of some pictures, spread over all.

    Its own file decides the key of an entry; what it imports does not.
    """
    if not (work.pictures.foreign or work.pipeline.transform):
        return True
    some = np.unique(np.linspace(0, len(images) - 1, _TRIED).astype(np.int64))
    return all(
        np.array_equal(work.made(int(position)).pixels.transpose(2, 0, 1), images.pixels[int(position)].numpy())
        for position in some
    )


_own_run: str | None = None


def _this_run() -> tuple[str, bool]:
    """Return a name of this run, and whether this process gave it, or has it from the process that started it."""
    global _own_run  # noqa: PLW0603  A fact about the process.
    if _RUN not in os.environ:
        os.environ[_RUN] = _own_run = os.urandom(16).hex()
    return os.environ[_RUN], os.environ[_RUN] == _own_run


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
