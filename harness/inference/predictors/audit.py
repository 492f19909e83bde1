"""Answers asked for again: a few images of each call, in another order, must be answered as before."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

SAME = 0.02
"""The largest difference of scores of an image between two answers, as a share of the range of all scores compared."""
ANCHORS = 16
"""Images of earlier audits that stay to be asked about again."""
RAREST = 32
"""Batches after which images are asked about again at the latest; the first time is after one."""


class Audit:
    """Images for a second request: one of each batch since the last audit, drawn at random.

    They go out in an order drawn at random. A server that changes the order of its predictions then gives other
    answers. With them goes an image of an earlier audit, which a server with another model than then answers otherwise.
    The first such images are `probes`. Threads may share an audit.
    """

    def __init__(self, probes: np.ndarray, answers: np.ndarray) -> None:
        self._anchors = list(zip(probes, answers, strict=True))
        self._random = random.Random(0)  # noqa: S311  Any order will do.
        self._lock = threading.Lock()
        self._drawn: list[tuple[np.ndarray, np.ndarray]] = []
        self._new: set[bytes] = set()
        self._unconfirmed: set[bytes] = set()
        self._after = 1

    def note(self, images: np.ndarray, answers: np.ndarray, keys: Iterable[bytes]) -> bool:
        """Draw from the answers of a batch, under their keys; returns whether an audit is due."""
        with self._lock:
            at = self._random.randrange(len(images))
            self._drawn.append((images[at], answers[at]))
            self._new |= {*keys}
            self._unconfirmed |= self._new
            return len(self._drawn) >= self._after

    def begin(self) -> tuple[np.ndarray, np.ndarray, set[bytes]] | None:
        """Return images in another order, their answers, and the keys of all that they stand for; None without any."""
        with self._lock:
            if not self._drawn:
                return None
            drawn, keys = self._drawn, self._new
            self._drawn, self._new, self._after = [], set(), min(RAREST, 2 * self._after)
            anchor = self._random.choice(self._anchors)
            if len(self._anchors) < ANCHORS:
                self._anchors.append(drawn[0])
            drawn = [*drawn, anchor]
            self._random.shuffle(drawn)
        images, answers = zip(*drawn, strict=True)
        return np.stack(images), np.stack(answers), keys

    def passed(self, keys: set[bytes]) -> None:
        """Trust the answers under these keys."""
        with self._lock:
            self._unconfirmed -= keys

    @property
    def unconfirmed(self) -> list[bytes]:
        """Return the keys of all answers that no audit has passed."""
        with self._lock:
            return list(self._unconfirmed)


def differing(before: np.ndarray, again: np.ndarray) -> np.ndarray:
    """Return which images are answered otherwise than before, (N,) bool: another label, or scores beyond `SAME`."""
    if before.shape != again.shape or before.dtype != again.dtype:
        return np.ones(len(before), dtype=bool)
    if np.issubdtype(before.dtype, np.integer):
        return np.asarray(before != again)
    return np.asarray(np.abs(before - again).max(axis=1, initial=0) > SAME * np.ptp(before))
