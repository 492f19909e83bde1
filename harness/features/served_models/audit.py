"""The audit of a server: some of its predictions are requested a second time, in another order."""

from __future__ import annotations

import random
import threading

import numpy as np

SAME = 0.02
"""Largest difference of an image's scores between two predictions, as a share of the range of all
compared scores.
"""
ANCHORS = 16
"""Number of images from earlier audits that are repeated again."""
RAREST = 32
"""Most batches between two audits; the first audit comes after one batch."""


class Audit:
    """Images for a second request.

    One of each batch since the last audit, drawn at random, or all of a larger batch.

    Each image has another place than before. A server that mixes up its predictions, or errs at one
    place of its batches, therefore gives different ones. An image of an earlier audit is among
    them, so a change of the server's model also gives a different prediction. The first such images
    are `probes`. Threads may share an audit.
    """

    def __init__(self, probes: np.ndarray, answers: np.ndarray) -> None:
        self._anchors = list(zip(probes, answers, strict=True))
        self._random = random.Random(0)  # noqa: S311  Not for cryptography.
        self._lock = threading.Lock()
        self._drawn: list[tuple[np.ndarray, np.ndarray]] = []
        self._after, self.largest = 1, 1

    def note(self, images: np.ndarray, answers: np.ndarray) -> bool:
        """Draw one image of a batch; returns whether an audit is due."""
        with self._lock:
            larger = len(images) > self.largest
            at = range(len(images)) if larger else [self._random.randrange(len(images))]
            self._drawn += [(images[place], answers[place]) for place in at]
            self.largest = max(self.largest, len(images))
            return len(self._drawn) >= self._after

    def begin(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the drawn images in another order, and their predictions; None without any."""
        with self._lock:
            if not (drawn := self._drawn):
                return None
            self._drawn, self._after = [], min(RAREST, 2 * self._after)
            anchor = self._random.choice(self._anchors)
            if len(self._anchors) < ANCHORS:
                self._anchors.append(drawn[0])
            first = self._random.randrange(1, len(drawn) + 1)
            drawn = [*drawn[first:], anchor, *drawn[:first]]
        images, answers = zip(*drawn, strict=True)
        return np.stack(images), np.stack(answers)


def differing(before: np.ndarray, again: np.ndarray) -> np.ndarray:
    """Return which predictions differ, (N,) bool.

    Another label, or a difference of scores beyond `SAME`.
    """
    if before.shape != again.shape or before.dtype != again.dtype:
        return np.ones(len(before), dtype=bool)
    if np.issubdtype(before.dtype, np.integer):
        return np.asarray(before != again)
    return np.asarray(np.abs(before - again).max(axis=1, initial=0) > SAME * np.ptp(before))
