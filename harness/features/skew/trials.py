"""Trials of serving pipelines: each is scored on few images first, and the best alone on all."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from harness.base.errors import InputError
from harness.base.progress import Progress
from harness.features.skew.explanation import NOISE, Explanation, explanation
from harness.features.skew.variations import neighbors
from harness.inference.levels import fitted_levels, log_likelihood_below_top
from harness.inference.serving import served_predictions

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.data.pipeline import Pipeline
    from harness.data.serving import Serving
    from harness.features.skew.probabilities import ServedProbabilities
    from harness.inference import Predictions, RoleModel
    from harness.inference.levels import Levels

AFFINE = "scale or normalise"
"""The cause of numbers that are multiplied and shifted, which both stages do."""
_LOOKED_AT = 750
"""Changed and unchanged images each on which pipelines are searched for.

Those that explain most see all.
"""
_ROUNDS = (32, 96)
"""Images of the first rounds, half of them changed: whole batches of a network on a processor."""
_KEPT = ((3, 12), (1, 8))
"""Trials that a round leaves: the best of each cause, and the best of all."""
FIRST, FEW, MANY, WHOLE = range(4)
"""Rounds of a trial: a part of the images that are looked at, all of these, and all images."""
_STEPS = 24
"""Most trials of a walk."""


@dataclass(eq=False)
class Trial:
    """A pipeline, the stages in which it differs, and its answers to images so far.

    `skew` is its name in the catalog or empty. `behind` has, for each image, the log of the
    likelihood of the served prediction over that of the pipeline's own; 0 if they agree. Both
    arrays follow the order of `Trials`. `explains` counts all images, once they have all been asked
    about. Where probabilities are explained, an answer is 0 if the probabilities agree and 1 if
    not, and `behind` is by how much they disagree, below 0.
    """

    pipeline: Pipeline
    causes: tuple[str, ...]
    skew: str = ""
    answers: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    behind: np.ndarray = field(default_factory=lambda: np.empty(0))
    explains: Explanation = field(default_factory=lambda: Explanation(0, 0, 0, 0))


class Trials:
    """Trials of pipelines against served predictions, (N,) classes, in rounds of more images each.

    `order` has the images in the order in which they are asked about; `served` and `known`, the
    reference's predictions, follow it. With `probabilities` of the same images, these are explained
    instead of the classes.
    """

    def __init__(
        self,
        model: RoleModel,
        serving: Serving,
        served: np.ndarray,
        known: np.ndarray,
        *,
        probabilities: ServedProbabilities | None = None,
    ) -> None:
        self.model, self.serving, draw = model, serving, np.random.default_rng(0)
        if probabilities is not None:
            moved = probabilities.excess(model.predict(serving.images).logits) > 0
            served, known = np.zeros(len(moved), dtype=np.int64), moved.astype(np.int64)
        changed = served != known
        most = _LOOKED_AT if len(served) > 2 * _LOOKED_AT else len(served)
        drawn = [draw.permutation(np.flatnonzero(which)) for which in (changed, ~changed)]
        # Changed and unchanged images take turns, so each part has as many of both as there are.
        turns = np.argsort(
            np.concatenate([np.arange(len(part[:most])) for part in drawn]), kind="stable"
        )
        looked_at = np.concatenate([part[:most] for part in drawn])[turns]
        self.order = np.concatenate([looked_at, *(part[most:] for part in drawn)])
        self.served, self.known = served[self.order], known[self.order]
        self._probabilities = None if probabilities is None else probabilities.take(self.order)
        self._ends = (*(min(end, len(looked_at)) for end in _ROUNDS), len(looked_at), len(served))
        # Each image that is looked at stands for so many changed or unchanged ones.
        self._weights = np.where(
            changed[looked_at], *(len(part) / max(len(part[:most]), 1) for part in drawn)
        )
        kept = replace(serving, kept={})
        self._parts = [
            replace(kept, images=serving.images.take(torch.from_numpy(self.order[at:end])))
            for at, end in zip((0, *self._ends), self._ends, strict=False)
        ]
        self._trials: dict[Pipeline, Trial] = {}
        self._names = {pipeline: name for name, pipeline in serving.catalog.items()}
        self.reference = Trial(serving.reference, ())
        self._add(self.reference, self._logits(model.predict(serving.images))[self.order])

    def __len__(self) -> int:
        return len(self._trials)

    @property
    def of_probabilities(self) -> bool:
        """Return whether probabilities are explained, not classes."""
        return self._probabilities is not None

    @property
    def is_explained(self) -> bool:
        """Return whether a pipeline gives all served predictions that were looked at."""
        return any(self.score(trial) == 0 for trial in self.ranked())

    def ranked(self, until: int = MANY, *, causes: int | None = None) -> list[Trial]:
        """Return the trials that came as far as a round, the best of it first.

        The earliest of equal trials stands first.

        `causes` is the number of causes that they have, by default any.
        """
        came = [trial for trial in self._trials.values() if len(trial.answers) >= self._ends[until]]
        of_causes = [trial for trial in came if causes in {None, len(trial.causes)}]
        return sorted(of_causes, key=lambda trial: -self.score(trial, until))

    def score(self, trial: Trial, until: int = MANY) -> float:
        """Return the log likelihood ratio of the served predictions, 0 if they agree.

        It compares them with the pipeline's own. A pipeline near the true one errs by a little, so
        scores lead to it where counts do not.
        """
        behind = trial.behind[: self._ends[min(until, MANY)]]
        return float((self._weights * behind).sum() if until >= MANY else behind.sum())

    def _applies(self, pipeline: Pipeline) -> bool:
        """Return whether the model can be asked; a predictor takes pixels in [0, 1] alone."""
        reference = self.serving.reference
        moved = pipeline.scale.offset or pipeline.normalise != reference.normalise
        return pipeline != reference and not (moved and not self.model.provides.network)

    def entered(self, pipeline: Pipeline, until: int = FIRST) -> Trial:
        """Return the trial of a pipeline after a round."""
        if (trial := self._trials.get(pipeline)) is None:
            trial = Trial(
                pipeline, causes_of(pipeline, self.serving.reference), self._names.get(pipeline, "")
            )
            self._trials[pipeline] = trial
        return self.advance(trial, until)

    def advance(self, trial: Trial, until: int = WHOLE) -> Trial:
        """Ask about the images of all rounds up to this one that the trial has not seen."""
        for part, end in zip(self._parts[: until + 1], self._ends, strict=False):
            if len(trial.answers) < end:
                try:
                    self._add(
                        trial, self._logits(served_predictions(self.model, part, trial.pipeline))
                    )
                except InputError:  # A picture is of another size, or cannot be decoded.
                    trial.answers = np.append(trial.answers, np.full(len(part.images), -1))
                    trial.behind = np.append(trial.behind, np.full(len(part.images), -np.inf))
        if until == WHOLE:
            trial.explains = explanation(self.served, self.known, trial.answers)
        return trial

    def _logits(self, predictions: Predictions) -> np.ndarray:
        """Return logits, in float32 where probabilities are compared.

        Classes need less precision.
        """
        return predictions.answers if self._probabilities is None else predictions.logits

    def _add(self, trial: Trial, logits: np.ndarray) -> None:
        rows = slice(len(trial.answers), len(trial.answers) + len(logits))
        if self._probabilities is None:
            answers = logits.argmax(axis=1)
            behind = log_likelihood_below_top(logits, self.served[rows])
        else:
            excess = self._probabilities.take(rows).excess(logits)
            answers = (excess > 0).astype(np.int64)
            behind = -excess
        trial.answers = np.append(trial.answers, answers)
        trial.behind = np.append(trial.behind, np.maximum(behind, np.log(NOISE)))

    def race(self, pipelines: Sequence[Pipeline]) -> None:
        """Score pipelines in rounds.

        Each round leaves the best of each cause and of all, and the last has them all.
        """
        new = [
            each
            for each in dict.fromkeys(pipelines)
            if each not in self._trials and self._applies(each)
        ]
        entered = [
            self.entered(each) for each in Progress(new, desc="pipelines", unit="pipeline", delay=2)
        ]
        for until, (each, most) in enumerate(_KEPT):
            ranked = self.ranked(until)
            left = [*ranked[:most], *of_each_cause(ranked, each)]
            entered = [self.advance(trial, until + 1) for trial in entered if trial in left]

    def refine(self, starts: Iterable[Trial]) -> None:
        """Walk from each start on a part of the images, and on from the best.

        The walk ends when a pipeline explains all. A walk that explains this part goes on at once,
        so few others are tried where one cause is the true one.
        """
        reached: dict[tuple[str, ...], Trial] = {}
        for start in starts:
            trial = self._walk(start, FEW)
            if self.score(trial, FEW) == 0:
                trial = self._walk(trial, MANY)
            if self.is_explained:
                return
            best = reached.get(trial.causes, trial)
            reached[trial.causes] = max(best, trial, key=lambda each: self.score(each, FEW))
        if reached:
            self._walk(
                max([self.advance(trial, MANY) for trial in reached.values()], key=self.score), MANY
            )

    def fit_levels(self) -> None:
        """Enter the pipeline with the gain and offset that fit a part of the images best."""
        if not self.model.provides.network:
            return
        reference = self.serving.reference

        def loss(levels: Levels, until: int = FEW) -> float:
            pipeline = levels.of(reference)
            trial = self.reference if pipeline == reference else self.entered(pipeline, until)
            return -self.score(trial, until)

        looked_at = self._parts[0].images.pixels
        mean = float(looked_at.float().mean()) / 255
        fitted = fitted_levels(loss, mean=mean, coarse=lambda levels: loss(levels, FIRST))
        self.entered(fitted.of(reference), MANY)

    def _walk(self, trial: Trial, until: int) -> Trial:
        """Walk from a trial to neighbors with a better score, for 24 trials at most.

        Return the last.

        A step that helps is tried again first.
        """
        around, before, turn, at = self._around(self.advance(trial, until)), len(self), 0, 0
        while at < len(around) and self.score(trial, until) < 0 and len(self) - before < _STEPS:
            found = self.entered(around[at], until)
            at += 1
            if self.score(found, until) > self.score(trial, until):
                trial, around, turn, at = found, self._around(found), turn + at - 1, 0
                turn %= max(len(around), 1)
                around = around[turn:] + around[:turn]
        return trial

    def _around(self, trial: Trial) -> list[Pipeline]:
        return [
            each
            for each in neighbors(trial.pipeline, self.serving.reference)
            if self._applies(each)
        ]


def of_each_cause(ranked: Iterable[Trial], most: int = 1) -> list[Trial]:
    """Return the first trials of each cause, at most so many, in their order."""
    found: Counter[tuple[str, ...]] = Counter()
    chosen = []
    for trial in ranked:
        found[trial.causes] += 1
        if found[trial.causes] <= most:
            chosen.append(trial)
    return chosen


def causes_of(pipeline: Pipeline, reference: Pipeline) -> tuple[str, ...]:
    """Return the stages in which a pipeline differs.

    Scaling and normalization by numbers alone are one cause.

    A crop of another size belongs to resizing, which makes the picture that it crops.
    """
    merged = {"normalise": AFFINE}
    if (pipeline.scale.bits, pipeline.scale.precision) == (
        reference.scale.bits,
        reference.scale.precision,
    ):
        merged["scale"] = AFFINE
    if (pipeline.crop.right, pipeline.crop.down) == (reference.crop.right, reference.crop.down):
        merged["crop"] = "resize"
    return tuple(dict.fromkeys(merged.get(stage, stage) for stage in pipeline.differing(reference)))
