"""Normalization of an artifact that differs on many images.

Fitted to its predictions, and named in one sentence.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from harness.data.images import spread_positions
from harness.data.skews import SKEWS
from harness.data.stages import Normalise
from harness.inference.levels import (
    fitted_levels,
    largest_moves,
    levels_of_channels,
    log_likelihood_below_top,
)
from harness.inference.serving import model_serving, served_predictions
from harness.measures.statistics import mcnemar_p

if TYPE_CHECKING:
    from harness.data.pipeline import Pipeline
    from harness.inference import Predictions, RoleModel

Kind = Literal["inside", "twice", "missing", "other"]
LEAST_CHANGED = 0.05
"""Share of predictions that change before a normalization is looked for; int8 changes fewer."""
_EXPLAINED = 0.8
"""Share of the changed predictions that a normalization explains at least, net."""
_ALPHA = 0.001
_COARSE, _FINE, _ALL = 64, 192, 1_000
"""Images that the grid, the refinement and the proof look at."""
_LEAST_LOG = np.log(1e-3)
"""Log-likelihood below which a prediction counts as another, however sure the model is."""
_NEAR = 0.05
"""Difference of means, and relative difference of standard deviations, that the fit does not tell
apart.
"""


@dataclass(frozen=True)
class Normalization:
    """The normalization that an artifact's predictions show, of pixels as the original gets them.

    Of `changed` predictions of `n` images, `explained` ones are explained, net. `mean` and `std`
    are averages over channels: inside the artifact for the kinds "inside" and "twice", else in
    place of the original's.
    """

    kind: Kind
    mean: float
    std: float
    original: Normalise
    changed: int
    explained: int
    n: int

    @property
    def original_as_option(self) -> str:
        """Return the original's normalization as the options of the command take it."""
        numbers = [list(values) for values in (self.original.mean, self.original.std)]
        return ",".join(
            str(values[0] if len(values) == 1 else values).replace(" ", "") for values in numbers
        )

    @property
    def sentence(self) -> str:
        """Return what the predictions show, with the evidence."""
        own = f"about mean {self.mean:.2f}, std {self.std:.2f}"
        said = {
            "inside": f"Normalization inside the export: {own}, and the original normalizes "
            "nothing",
            "twice": f"Normalization applied twice: inside the export, {own}, and before it",
            "missing": f"Normalization missing: the original normalizes with {self.original}, the "
            "artifact does not",
            "other": f"Another normalization: {own}, where the original has {self.original}",
        }[self.kind]
        evidence = (
            f"this explains {self.explained} of {self.changed} changed predictions of {self.n:,} "
            "images, net"
        )
        return f"{said}; {evidence}."


def fitted_normalization(artifact: Predictions, original: RoleModel) -> Normalization | None:
    """Return the normalization that explains the artifact's predictions by the original.

    None if none does.

    Pixels outside of [0, 1] are sent to the original, so there is no answer for a predictor.
    """
    if not original.provides.network:
        return None
    positions = spread_positions(len(artifact.labels), _ALL)
    shuffled = np.random.default_rng(0).permutation(positions)
    fit = _Fit(artifact, original, shuffled)
    pipeline = fit.best()
    if pipeline == fit.reference:
        return None
    before, after = fit.agrees(fit.reference), fit.agrees(pipeline)
    changed, explained = int((~before).sum()), int(after.sum()) - int(before.sum())
    p = mcnemar_p(int((after & ~before).sum()), int((before & ~after).sum()))
    if explained < _EXPLAINED * changed or p > _ALPHA:
        return None
    kind, mean, std = _kind_of(pipeline, fit.reference)
    return Normalization(
        kind, mean, std, fit.reference.normalise, changed, explained, len(positions)
    )


class _Fit:
    """Trials of normalizations: predictions of the original behind them, beside the artifact's."""

    def __init__(self, artifact: Predictions, original: RoleModel, positions: np.ndarray) -> None:
        self.original = original
        self.serving = model_serving(original, artifact.images.take(torch.from_numpy(positions)))
        self.reference = self.serving.reference
        self._predicted = artifact.predicted[positions]
        self._probabilities = artifact.probabilities[positions] if artifact.known is None else None

    def best(self) -> Pipeline:
        """Return the pipeline of least loss.

        A normalization of the catalog, or a fitted gain and offset.
        """
        pixels = self.serving.images.pixels[torch.arange(min(_FINE, len(self._predicted)))]
        fitted = fitted_levels(
            lambda levels: self._loss(levels.of(self.reference), _FINE),
            mean=float(pixels.float().mean()) / 255,
            coarse=lambda levels: self._loss(levels.of(self.reference), _COARSE),
        )
        return min(
            [self.reference, *self._catalog(), fitted.of(self.reference)],
            key=lambda at: self._loss(at, _FINE),
        )

    def agrees(self, pipeline: Pipeline) -> np.ndarray:
        """Return which images artifact and original predict alike behind a pipeline, (N,) bool."""
        return np.asarray(
            self._predictions(pipeline, len(self._predicted)).predicted == self._predicted
        )

    def _catalog(self) -> list[Pipeline]:
        """Return the normalizations with a name, which may differ between channels."""
        by_numbers = {"normalise", "scale"}
        return [
            pipeline
            for name, pipeline in self.serving.catalog.items()
            if SKEWS[name].stage in by_numbers
        ]

    def _loss(self, pipeline: Pipeline, count: int) -> float:
        logits = self._predictions(pipeline, count).logits
        if self._probabilities is not None:
            return float(largest_moves(logits, self._probabilities[:count]).mean())
        behind = log_likelihood_below_top(logits, self._predicted[:count])
        return -float(np.maximum(behind, _LEAST_LOG).mean())

    def _predictions(self, pipeline: Pipeline, count: int) -> Predictions:
        some = self.serving.images.take(torch.arange(min(count, len(self._predicted))))
        return served_predictions(self.original, replace(self.serving, images=some), pipeline)


def _kind_of(pipeline: Pipeline, reference: Pipeline) -> tuple[Kind, float, float]:
    """Return the kind of a normalization, and its mean and standard deviation over channels."""
    gains, offsets = levels_of_channels(pipeline, reference)
    means, stds = np.asarray(reference.normalise.mean), np.asarray(reference.normalise.std)
    inside = float((-offsets / gains).mean()), float((1 / gains).mean())
    whole = float(((means - offsets) / gains).mean()), float((stds / gains).mean())
    if reference.normalise == Normalise():
        return "inside", *inside
    if _is_near(inside, (float(means.mean()), float(stds.mean()))):
        return "twice", *inside
    return ("missing" if _is_near(whole, (0.0, 1.0)) else "other"), *whole


def _is_near(found: tuple[float, float], expected: tuple[float, float]) -> bool:
    return abs(found[0] - expected[0]) < _NEAR and abs(found[1] / expected[1] - 1) < 2 * _NEAR
