"""Where networks come from: the batches that were trained here, or a file of recorded logits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.alarms.domains import DOMAINS, images_of
from benchmarks.alarms.measure import Checks, Values, checks_of, first_images, joined, values_of
from benchmarks.alarms.train import BROKEN, HEALTHY, RUNS, Batch, batches_of
from harness.base.errors import InputError
from harness.base.records import as_plain, read_record
from harness.data import LabelledImages
from harness.measures.panel.threshold import PanelCheck

VALUES = RUNS / "values"
"""The measured batches, no part of the repository."""
SIZES = (200, 500, 2_000, 10_000)
"""Numbers of images that a file of logits is measured on, if it has more."""
_CONTRIBUTIONS = "contributions of "


class Source(Protocol):
    """Networks of one domain, by their kind.

    Attributes:
        title: The name of the domain for readers.
        images: The test images; those of recorded logits have no pixels.
        checks: The checks.
        sizes: Numbers of test images.
    """

    title: str
    images: LabelledImages
    checks: Checks
    sizes: tuple[int, ...]

    def values(self, size: int) -> Mapping[str, Values]:
        """Return the values of the networks by their kind, with the first images."""


# Networks that were trained here.


@dataclass(frozen=True, eq=False)
class Trained:
    """The networks of a domain that `train` has recorded."""

    domain: str
    title: str
    images: LabelledImages
    checks: Checks
    sizes: tuple[int, ...]

    def values(self, size: int) -> Mapping[str, Values]:
        """Return the values of the networks by their kind, with the first images."""
        by_kind = {}
        for kind in (HEALTHY, *BROKEN):
            batches = [batch for batch in batches_of(self.domain, kind) if batch.path.exists()]
            by_kind[kind] = joined([measured(batch, size) for batch in batches])
        return by_kind


def trained_source(name: str) -> Trained:
    """Return the recorded networks of a domain; raises `InputError` if a kind is missing."""
    domain, (_, images) = DOMAINS[name], images_of(name)
    for kind in (HEALTHY, *BROKEN):
        if not any(batch.path.exists() for batch in batches_of(name, kind)):
            raise InputError(
                f"{RUNS}: has no networks of the kind {kind}; run `python -m benchmarks.alarms "
                "train`"
            )
    checks = checks_of(images, tuple(domain.conditions), augmentation=domain.augmentation)
    return Trained(name, domain.title, images, checks, domain.sizes)


def measure_all(name: str, *, jobs: int) -> None:
    """Measure all recorded batches of a domain that are not measured yet."""
    VALUES.mkdir(parents=True, exist_ok=True)
    tasks = [
        (batch, size)
        for size in DOMAINS[name].sizes
        for kind in (HEALTHY, *BROKEN)
        for batch in batches_of(name, kind)
        if batch.path.exists() and not _values_file(batch, size).exists()
    ]
    if jobs == 1:
        for batch, size in tqdm(tasks, unit="batch", smoothing=0):
            measured(batch, size)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        measuring = [pool.submit(_measure, batch, size) for batch, size in tasks]
        for task in tqdm(measuring, unit="batch", smoothing=0):
            task.result()


def _measure(batch: Batch, size: int) -> None:
    torch.set_num_threads(1)
    measured(batch, size)


def measured(batch: Batch, size: int) -> Values:
    """Return the values of a batch with the first images, from its file or measured now."""
    path = _values_file(batch, size)
    if not path.exists():
        source = trained_source(batch.domain)
        images = first_images(source.images, size)
        _write(path, values_of(np.load(batch.path), source.checks, images))
    return _read(path)


def _values_file(batch: Batch, size: int) -> Path:
    return VALUES / f"{batch.path.stem}-{size}.npz"


def _write(path: Path, values: Values) -> None:
    tables = {f"{_CONTRIBUTIONS}{name}": each for name, each in values.contributions.items()}
    rows = json.dumps([as_plain(row) for row in values.rows])
    part = path.with_suffix(".part.npz")
    np.savez(
        part, rows=rows, values=values.values, rests=values.rests, wrong=values.wrong, **tables
    )
    part.rename(path)


def _read(path: Path) -> Values:
    with np.load(path) as tables:
        rows = json.loads(str(tables["rows"]))
        return Values(
            tuple(read_record(PanelCheck, row, where=f"{path}") for row in rows),
            tables["values"],
            tables["rests"],
            {
                name.removeprefix(_CONTRIBUTIONS): tables[name]
                for name in tables.files
                if name.startswith(_CONTRIBUTIONS)
            },
            tables["wrong"],
        )


# Recorded logits.


@dataclass(frozen=True, eq=False)
class Recorded:
    """Healthy networks of one recipe whose logits someone has recorded."""

    title: str
    images: LabelledImages
    checks: Checks
    sizes: tuple[int, ...]
    logits: np.ndarray

    def values(self, size: int) -> Mapping[str, Values]:
        """Return the values of the networks, with the first images."""
        images = first_images(self.images, size)
        return {HEALTHY: values_of(self.logits[:, :, :size], self.checks, images)}


def read_logits(path: Path) -> Recorded:
    """Return the networks in an npz file.

    It has `labels`, (images,), and `logits` of clean images, (networks, images, classes). With
    names of `conditions`, the first of them clean images, `logits` are (networks, conditions,
    images, classes). Raises `InputError` for a file with other tables.
    """
    try:
        with np.load(path) as tables:
            logits, labels = tables["logits"], tables["labels"].astype(np.int64)
            conditions = ("clean",)
            if "conditions" in tables.files:
                conditions = tuple(str(name) for name in tables["conditions"])
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not an npz file of logits and labels ({error})") from None
    if logits.ndim == 3:
        logits = logits[:, None]
    if logits.ndim != 4 or logits.shape[1:3] != (len(conditions), len(labels)):
        raise InputError(
            f"{path}: logits have the shape {logits.shape}; expected (networks, "
            f"{len(conditions)} conditions, {len(labels)} images, classes)"
        )
    classes = tuple(f"class {number}" for number in range(logits.shape[-1]))
    pixels = torch.zeros((len(labels), 1, 1, 1), dtype=torch.uint8)
    images = LabelledImages(pixels, torch.from_numpy(labels), classes, path.stem, "test")
    sizes = (*(size for size in SIZES if size < len(labels)), len(labels))
    return Recorded(path.stem, images, checks_of(images, conditions), sizes, logits)
