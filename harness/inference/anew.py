"""The same questions asked otherwise: again, in other batches, and in other processes."""

from __future__ import annotations

import io
import sys
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.base.errors import InputError, UnusableModelError
from harness.base.launcher import ChildError, call_in_child
from harness.data.pictures import Item, Origin
from harness.inference.role import open_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness.data import LabelledImages
    from harness.inference.classifier import Classifier
    from harness.inference.predictors.protocol import Provides

ALONE = 16
"""Most images to predict one by one, which takes seconds with a large network."""
SEEDS = "10", "74"
"""Hash seeds of the other processes, the same in each run, so that the verdict is the same, too.

Hashes of most short words differ in parity between these two.
"""
_APART = 3
"""Distance of images that share no batch in a run as they do side by side."""
_STATE = "it keeps state between calls, or answers at random"
_MIXED = "it mixes up predictions, or its prediction for an image depends on others"
_ACROSS = (
    "a served model would give other predictions than those judged. Let no step work across the "
    "batch, such as `.squeeze()` without a dimension, a branch on its size, or a norm over it"
)


@dataclass(frozen=True)
class Way:
    """A way to ask the given model, neither traced nor folded.

    `why` is the reason if it gives other logits.

    Images are `step` apart, in reverse order if it is negative. Their batches are of `size` without
    padding, or padded as in a run.
    """

    how: str
    why: str
    step: int = 1
    size: int | None = None

    def reason(self, provides: Provides) -> str:
        """Return why a model of this kind gives other logits, and what to do about its batches."""
        if self.why == _STATE:
            return self.why
        advice = provides.batch_advice
        return advice if provides.dynamic else f"{self.why}. {advice}"

    def positions(self, count: int) -> np.ndarray:
        """Return the positions that are asked about of so many images, (M,) int64."""
        return np.arange(count if self.size is None else min(ALONE, count))[:: self.step]

    def logits(self, classifier: Classifier, images: LabelledImages) -> np.ndarray:
        """Return the logits of the images at `positions`, (M, classes).

        Raises `ModelError` as `predict` does.
        """
        return classifier.asked_anew(images, self.positions(len(images)), size=self.size)


WAYS = (
    Way("as it was given", _STATE),
    Way("a second time", _STATE),
    Way("one by one, without padding", _ACROSS, size=1),
    Way("by threes, without padding", _ACROSS, step=-1, size=3),
    Way("in another order", _MIXED, step=-1),
    # Another order within a batch does not change the ranges of its activations.
    Way("beside other images", _ACROSS, step=_APART),
)


def ways_for(classifier: Classifier, *, elsewhere: bool = False) -> tuple[Way, ...]:
    """Return the ways to ask a model here, or in another process.

    There, a network is asked only as it was given.

    A predictor may crash in smaller batches than it was promised, which must happen elsewhere. If
    it is judged in batches of one size, no other is tried. Other sizes already put a network's
    images beside other ones.
    """
    if classifier.provides.network:
        return WAYS[:1] if elsewhere else WAYS[:-1]
    batch = classifier.provides.batch
    padded = tuple(way for way in WAYS if way.size is None)
    if not elsewhere:
        return padded
    return padded + tuple(way for way in WAYS if way.size and batch in {None, way.size})


def asked_elsewhere(
    openings: Sequence[Mapping[str, Any]], images: LabelledImages
) -> Iterator[list[dict[Way, np.ndarray]]]:
    """Yield the logits of each model by the way of asking, of one process after the other.

    Each process takes seconds.

    Raises `InputError` if a model cannot be opened or asked there.
    """
    pictures = None
    if images.origin is not None and images.origin.encoded:
        pictures = {
            position: images.origin.picture(position) for position in images.positions.tolist()
        }
    images = replace(images, pixels=images.pixels[:], masks=None, origin=None)

    for seed in SEEDS if openings else ():
        try:
            answer = call_in_child(
                answer_otherwise, openings, images, pictures, path=sys.path, hash_seed=seed
            )
        except (InputError, ChildError) as error:
            raise UnusableModelError(
                f"in another process, the model cannot be opened or asked: {error}"
            ) from None
        with np.load(io.BytesIO(answer["logits"])) as archive:
            yield [_logits_by_way(archive, number) for number in range(len(openings))]


def _logits_by_way(archive: Mapping[str, np.ndarray], number: int) -> dict[Way, np.ndarray]:
    """Return the logits of a model, by its number, from the archive of a process."""
    logits = {}
    for way in WAYS:
        key = _key(number, way)
        if key in archive:
            logits[way] = archive[key]
    return logits


def _key(number: int, way: Way) -> str:
    return f"{number} {way.how}"


def answer_otherwise(
    openings: Sequence[Mapping[str, Any]],
    images: LabelledImages,
    pictures: Mapping[int, bytes] | None,
) -> dict[str, Any]:
    """Open models and ask them in all ways; `asked_elsewhere` calls it in a child process.

    Returns:
        An archive of NumPy with the `logits` by `_key`. A model need not answer in batches of other
        sizes.
    """
    if pictures is not None:
        items = {position: Item(pictures.get, position) for position in pictures}
        images = replace(images, origin=Origin(items, (), encoded=True))

    logits: dict[str, Any] = {}
    for number, opening in enumerate(openings):
        classifier = open_model(images=images, ordered=False, workers=1, **opening).classifier
        for way in ways_for(classifier, elsewhere=True):
            with suppress(InputError) if way.size else nullcontext():
                logits[_key(number, way)] = way.logits(classifier, images)

    archive = io.BytesIO()
    np.savez(archive, **logits)
    return {"logits": archive.getvalue()}
