"""Pictures decoded once: into memory if they are few, else into a file of the user's cache, which later runs read.

The key of a cache entry covers all that determines the pixels: files, sizes, times, pipeline and versions. Each opening
verifies the entry's hash. A damaged entry is made again, and so is one that the user's code would now make differently.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from harness.base import imports
from harness.base.arrays import ArrayStore
from harness.base.errors import DataError
from harness.data.decoder import TRIED, Decoder
from harness.data.images import Content, LabelledImages
from harness.data.pictures import expect_proportion
from harness.data.pipeline import Pipeline
from harness.data.rows import COPIED, rows_of_file

if TYPE_CHECKING:
    from harness.base.arrays import ArrayEntry
    from harness.data.decoder import Spread
    from harness.data.pictures import Pictures

SMALL = 16 << 20
"""Bytes, on disk and decoded, up to which each process decodes the pictures again, in less than a second."""
IN_MEMORY = 1 << 30
"""Bytes up to which pictures stay in memory if the cache cannot be written."""
_FORMAT = 1
"""Version of the entries' format; a new version makes all entries again."""
_RUN = "STRESS_HARNESS_RUN"
"""Environment variable with the run's name: its processes share entries of data without a fingerprint."""


def decoded(pictures: Pictures, pipeline: Pipeline, *, spread: Spread | None = None) -> LabelledImages:
    """Return the pictures as labeled images, each made by the pipeline.

    `spread`, for example a cluster, decodes many pictures; without it, this process does. Raises `InputError`, which
    names the picture, for an unreadable one and for one of another shape than the first. Also if the user's code gives
    other pixels at a second call, and if neither memory nor disk has enough room.
    """
    import torch

    if not pictures.foreign:
        _ = pictures.labelled  # Bad labels are refused before anything is decoded.
    if pictures.array is not None and pipeline == Pipeline():
        pixels = torch.from_numpy(pictures.array).permute(0, 3, 1, 2).contiguous()
        masks = None if pictures.masks is None else torch.from_numpy(pictures.masks)
        decoder = Decoder(pictures, pipeline, pictures.array.shape[1:])
        # Their pixels are the first stage that is known.
        return replace(decoder.images(pixels, masks, pictures.labelled), origin=None)
    first = pipeline.picture(pictures.picture(0), where=pictures.where(0))
    decoder = Decoder(pictures, pipeline, first.pixels.shape)
    if decoder.is_foreign:
        decoder.expect_same_again()
    if pictures.stored is not None:
        expect_proportion(pictures.whole, needed=decoder.pixel_bytes, stored=pictures.stored)
    if decoder.needed <= SMALL and (pictures.stored or 0) <= SMALL and not pictures.foreign:
        return _in_memory(decoder)
    decoder = replace(decoder, spread=spread)
    try:
        return _from_disk(decoder)
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
        if decoder.needed <= IN_MEMORY and not full:
            return _in_memory(decoder)
        raise DataError(
            f"{ArrayStore.of_user().folder}: {len(pictures)} decoded images need {decoder.needed / 1e9:.1f} GB there "
            f"({error.strerror or error}); free some space, for example with `stress-harness cache --clear`, or move "
            "the user's cache with XDG_CACHE_HOME"
        ) from None


def _in_memory(decoder: Decoder) -> LabelledImages:
    import torch

    pixels, masks = np.empty(decoder.pixel_shape, dtype=np.uint8), decoder.pictures.masks
    rows = iter(pixels)
    notes = decoder.run(lambda picture: np.copyto(next(rows), picture))
    made = None if masks is None else torch.from_numpy(decoder.pipeline.masks(masks))
    return decoder.images(torch.from_numpy(pixels), made, decoder.pictures.labelled, notes=notes)


def _from_disk(decoder: Decoder) -> LabelledImages:
    pictures, store = decoder.pictures, ArrayStore.of_user()
    # The key covers all that determines the entry; for data without a fingerprint it covers the run's name.
    run, is_own = _this_run()
    made_of = pictures.made_of or f"run {run}"
    sources = (_FORMAT, made_of, decoder.pipeline.identity, decoder.pixel_shape, pictures.masks is not None)
    key = hashlib.sha256(json.dumps(sources).encode()).hexdigest()
    with store.locked(key):
        if (pictures.made_of is not None or not is_own) and (found := store.load(key)):
            with closing(found):
                images = _opened(decoder, found)
            if images is not None:
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
        kept = store.load(key)
        if kept is None:
            raise OSError(errno.EIO, "the new cache entry cannot be read back", str(store.folder))
        with closing(kept):
            return _kept(decoder, kept)


def _kept(decoder: Decoder, kept: ArrayEntry) -> LabelledImages:
    """Return the images of an entry: in memory if they are few, else as rows of its file."""
    import torch

    pixels, facts = rows_of_file(kept.file, decoder.pixel_shape, torch.uint8), kept.facts
    masks = None
    if decoder.pictures.masks is not None:
        shape = (decoder.pixel_shape[0], *decoder.pixel_shape[2:])
        masks = rows_of_file(kept.file, shape, torch.bool, offset=decoder.pixel_bytes)
    if decoder.needed <= COPIED:
        pixels, masks = pixels[:], None if masks is None else masks[:]
    labelled = np.array(facts["labels"], dtype=np.int64), tuple(facts["classes"])
    return decoder.images(pixels, masks, labelled, notes=tuple(facts["notes"]), sha256=facts["sha256"])


def _opened(decoder: Decoder, kept: ArrayEntry) -> LabelledImages | None:
    """Return the images of an entry; None if it is damaged, or if the user's code would now make other pixels.

    The key of an entry covers the code's own file, but not the modules that it imports.
    """
    if not imports.unchanged(kept.facts.get("code", {})) or kept.bytes != decoder.needed:
        return None
    images = _kept(decoder, kept)
    if Content(images.pixels, images.labels, images.masks).sha256 != images.sha256:
        return None
    some = np.unique(np.linspace(0, len(images) - 1, TRIED).astype(np.int64)).tolist() if decoder.is_foreign else ()
    same = all(
        np.array_equal(decoder.made(position).pixels.transpose(2, 0, 1), images.pixels[position].numpy())
        for position in some
    )
    return images if same else None


_own_run: str | None = None


def _this_run() -> tuple[str, bool]:
    """Return the name of this run, and whether this process chose it or inherited it from its parent."""
    global _own_run  # noqa: PLW0603  One name for the whole process.
    if _RUN not in os.environ:
        os.environ[_RUN] = _own_run = os.urandom(16).hex()
    return os.environ[_RUN], os.environ[_RUN] == _own_run
