"""Slices of a split: k-means of the reference models' mean probabilities, the same bits on each machine.

The groups follow from the panel predictions alone, so they are the same for each model and each sample. The code
depends on no thread, no BLAS and no version of a library: a check that names a slice must find the same images later.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from harness.base.errors import NotApplicableError
from harness.measures.panel.predictions import NOT_ASKED

if TYPE_CHECKING:
    from harness.measures.panel.predictions import PanelView

IMAGES, FEWEST, MOST, LEAST = 200, 30, 60, 20
"""Images of the split for each slice, the fewest and the most slices at first, and the least images of one."""
_ROUNDS = 30


class Slices(NamedTuple):
    """Slices by `names`, and the number of that of each of N images of the split, `of` (N,) int64; -1 for none.

    A name is a hash of the numbers of the slice's images.
    """

    names: tuple[str, ...]
    of: np.ndarray


@lru_cache(maxsize=2)
def slices_of(view: PanelView) -> Slices:
    """Return the slices of the images with clean predictions of the reference models.

    There is a slice for each `IMAGES`, between `FEWEST` and `MOST`. Those with fewer than `LEAST` images are dissolved,
    the smallest first: their images go to the nearest other one. Raises `NotApplicableError` for fewer than two.
    """
    from scipy.spatial.distance import cdist

    assert view.mean is not None
    at = np.flatnonzero(view.wrong != NOT_ASKED)
    points = view.mean[at].astype(np.float64)
    count = min(max(len(at) // IMAGES, FEWEST), MOST, len(at) // LEAST)
    far = cdist(points, _centers(points, count), "sqeuclidean")
    while far.shape[1]:
        chosen = far.argmin(axis=1)
        sizes = np.bincount(chosen, minlength=far.shape[1])
        if sizes.min() >= LEAST:
            break
        far = np.delete(far, sizes.argmin(), axis=1)
    if far.shape[1] < 2:  # noqa: PLR2004  A single slice is all images.
        raise NotApplicableError(f"{len(at)} images make fewer than two slices of at least {LEAST}")
    of = np.full(len(view.wrong), -1)
    of[at] = chosen
    members = [at[chosen == number].astype("<i8").tobytes() for number in range(len(sizes))]
    return Slices(tuple(hashlib.sha256(each).hexdigest()[:12] for each in members), of)


def _centers(points: np.ndarray, count: int) -> np.ndarray:
    """Return the centers of Lloyd's algorithm (1982) from a start by k-means++ (Arthur & Vassilvitskii 2007)."""
    from scipy.spatial.distance import cdist

    rng, near, first = np.random.RandomState(0), np.ones(len(points)), []  # Its stream is frozen.  # noqa: NPY002
    for _ in range(count):
        total = np.cumsum(near)
        if not total[-1]:  # Each point is a center.
            break
        first.append(int(np.searchsorted(total, rng.random_sample() * total[-1], side="right")))
        near = np.minimum(near, cdist(points, points[first[-1:]], "sqeuclidean")[:, 0])
    centers, before = points[first], None
    for _ in range(_ROUNDS):
        of = cdist(points, centers, "sqeuclidean").argmin(axis=1)
        if before is not None and (of == before).all():
            break
        sizes, before = np.bincount(of, minlength=len(centers)), of
        sums = np.stack([np.bincount(of, weights=column, minlength=len(centers)) for column in points.T], axis=1)
        centers = np.where(sizes[:, None], sums / np.maximum(sizes, 1)[:, None], centers)
    return centers
