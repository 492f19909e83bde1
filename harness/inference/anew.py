"""The same questions asked otherwise: again, in other batches, and in other processes."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from harness.base.errors import InputError, UnusableModelError
from harness.base.termination import end_with_parent
from harness.data.pictures import Item, Origin
from harness.inference.role import open_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness.data import LabelledImages
    from harness.inference.classifier import Classifier
    from harness.inference.predictors.protocol import Provides

ALONE = 16
"""Images that the model predicts one by one, at most: milliseconds for a small network, seconds for a large one."""
SEEDS = "10", "74"
"""Hash seeds of the other processes, the same in each run: no model passes with one seed and fails with another.

Hashes of most short words differ in parity between these two.
"""
_APART = 3
"""Distance of images that share no batch in a run as they do side by side."""
_STATE = "it keeps state between calls, or answers at random"
_MIXED = "it mixes up predictions, or its prediction for an image depends on others"
_ACROSS = (
    "a served model would give other predictions than those judged. Let no step work across the batch, such as "
    "`.squeeze()` without a dimension, a branch on its size, or a norm over it"
)


@dataclass(frozen=True)
class Way:
    """A way to ask the given model, neither traced nor folded; `why` is the reason if it gives other logits.

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
        """Return the logits of the images at `positions`, (M, classes); raises `ModelError` as `predict` does."""
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
    """Return the ways to ask a model here, or in another process: there, a network only as it was given.

    A predictor may crash in smaller batches than it was promised, which must happen elsewhere. If it
    is judged in batches of one size, no other is tried. Other sizes already put a network's images
    beside other ones.
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
    """Return the logits of each model by the way of asking, from one process after the other; each takes seconds.

    Raises `InputError` if a model cannot be opened or asked there.
    """
    pictures = None
    if images.origin is not None and images.origin.encoded:
        pictures = {at: images.origin.picture(at) for at in images.positions.tolist()}
    images = replace(images, pixels=images.pixels[:], masks=None, origin=None)
    for seed in SEEDS if openings else ():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "answers.npz")
            done = subprocess.run(  # noqa: S603  Our own module.
                [sys.executable, "-P", "-m", __name__],
                input=pickle.dumps((os.getpid(), path, openings, images, pictures)),
                env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
                capture_output=True,
                check=False,
            )
            if done.returncode:
                told = [
                    each
                    for each in done.stderr.decode(errors="replace").splitlines()
                    if ": " in each
                ]
                said = (
                    told[-1] if told else f"status {done.returncode}"
                )  # An error's last line may be its note.
                raise UnusableModelError(
                    f"in another process, the model cannot be opened or asked: {said}"
                )
            with np.load(path) as found:
                numbers = range(len(openings))
                yield [
                    {way: found[key] for way in WAYS if (key := f"{at} {way.how}") in found}
                    for at in numbers
                ]


def answer(source: IO[bytes]) -> None:
    """Answer an order of `asked_elsewhere` in another process."""
    parent, path, openings, images, pictures = pickle.load(source)  # noqa: S301  Written by the parent process.
    end_with_parent(parent)
    if pictures is not None:
        images = replace(
            images, origin=Origin({at: Item(pictures.get, at) for at in pictures}, (), encoded=True)
        )
    found: dict[str, Any] = {}
    for number, opening in enumerate(openings):
        classifier = open_model(images=images, ordered=False, workers=1, **opening).classifier
        for way in ways_for(classifier, elsewhere=True):
            with suppress(InputError) if way.size else nullcontext():
                found[f"{number} {way.how}"] = way.logits(classifier, images)
    np.savez(path, **found)


if __name__ == "__main__":
    answer(sys.stdin.buffer)
