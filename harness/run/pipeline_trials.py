"""Trials of serving pipelines: each is scored on few images first, and the best alone on all."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from harness.base.errors import InputError
from harness.data.serving.variations import neighbors
from harness.inference.predictors.network import PredictorNetwork
from harness.inference.serving import served_predictions
from harness.measures.serving import NOISE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.base.progress import Progress
    from harness.data.pipeline import Pipeline
    from harness.data.serving.served import Serving
    from harness.inference import RoleModel

AFFINE = "scale or normalise"
"""The cause of numbers that are multiplied and shifted, which both stages do."""
_LOOKED_AT = 750
"""Changed and unchanged images each on which pipelines are searched for; those that explain most see all."""
_ROUNDS = (32, 96)
"""Images of the first rounds, half of them changed: whole batches of a network on a processor."""
_KEPT = ((3, 12), (1, 8))
"""Trials that a round leaves: the best of each cause, and the best of all."""
FIRST, FEW, MANY, WHOLE = range(4)
"""Rounds of a trial: a part of the images that are looked at, all of these, and all images."""


@dataclass(eq=False)
class Trial:
    """A pipeline, the stages in which it differs, and its answers to the images that it was asked about so far.

    `behind` has, for each image, the log of the likelihood of the served prediction over that of the pipeline's own; 0
    if they agree. Both arrays follow the order of `Trials`.
    """

    pipeline: Pipeline
    causes: tuple[str, ...]
    answers: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    behind: np.ndarray = field(default_factory=lambda: np.empty(0))


class Trials:
    """Trials of pipelines against served predictions, (N,) classes, in rounds of more images each."""

    def __init__(self, model: RoleModel, serving: Serving, served: np.ndarray, reference: np.ndarray) -> None:
        self.model, self.serving, self.served = model, replace(serving, kept={}), served
        draw = np.random.default_rng(0)
        changed = served != reference
        most = _LOOKED_AT if len(served) > 2 * _LOOKED_AT else len(served)
        drawn = [draw.permutation(np.flatnonzero(which)) for which in (changed, ~changed)]
        # Changed and unchanged images take turns, so each part has as many of both as there are.
        turns = np.argsort(np.concatenate([np.arange(len(part[:most])) for part in drawn]), kind="stable")
        looked_at = np.concatenate([part[:most] for part in drawn])[turns]
        self.order = np.concatenate([looked_at, *(part[most:] for part in drawn)])
        self.ends = (*(min(end, len(looked_at)) for end in _ROUNDS), len(looked_at), len(served))
        # Each image that is looked at stands for so many changed or unchanged ones.
        shares = [len(part) / max(len(part[:most]), 1) for part in drawn]
        self.weights = np.where(changed[looked_at], *shares)
        starts = (0, *self.ends[:-1])
        self._parts = [self._part(slice(*ends)) for ends in zip(starts, self.ends, strict=True)]
        self._trials: dict[str, Trial] = {}
        self.reference = Trial(serving.reference, ())
        self._answered(self.reference, model.predict(serving.images).answers[self.order], self.order)

    def __len__(self) -> int:
        return len(self._trials)

    def _part(self, which: slice) -> Serving:
        return replace(self.serving, images=self.serving.images.take(torch.from_numpy(self.order[which])))

    @property
    def is_explained(self) -> bool:
        """Return whether a pipeline gives all served predictions that were looked at."""
        return any(self.score(trial) == 0 for trial in self._trials.values() if self._came(trial, MANY))

    def ranked(self, until: int = MANY) -> list[Trial]:
        """Return the trials that came as far as a round, the best of it first; of equal ones, the earliest."""
        came = [trial for trial in self._trials.values() if self._came(trial, until)]
        return sorted(came, key=lambda trial: -self.score(trial, until))

    def score(self, trial: Trial, until: int = MANY) -> float:
        """Return the log of the likelihood of the served predictions over that of the pipeline's own, 0 if they agree.

        A pipeline near the true one errs by a little, so scores lead to it where counts do not.
        """
        behind = trial.behind[: self.ends[min(until, MANY)]]
        return float((self.weights * behind).sum() if until >= MANY else behind.sum())

    def applies(self, pipeline: Pipeline) -> bool:
        """Return whether the model can be asked; a predictor takes pixels in [0, 1] alone."""
        reference = self.serving.reference
        if pipeline == reference:
            return False
        moved = pipeline.scale.offset or pipeline.normalise != reference.normalise
        return not (moved and isinstance(self.model.classifier.plain, PredictorNetwork))

    def entered(self, pipeline: Pipeline, until: int = 0) -> Trial:
        """Return the trial of a pipeline after a round."""
        causes = causes_of(pipeline, self.serving.reference)
        trial = self._trials.setdefault(pipeline.identity, Trial(pipeline, causes))
        self.advance(trial, until)
        return trial

    def advance(self, trial: Trial, until: int = WHOLE) -> None:
        """Ask about the images of all rounds up to this one that the trial has not seen."""
        for part, end in zip(self._parts[: until + 1], self.ends, strict=False):
            if len(trial.answers) < end:
                self._ask(trial, part, self.order[len(trial.answers) : end])

    def _ask(self, trial: Trial, part: Serving, positions: np.ndarray) -> None:
        try:
            logits = served_predictions(self.model, part, trial.pipeline).answers
        except InputError:  # A picture is of another size, or cannot be decoded.
            trial.answers = np.concatenate([trial.answers, np.full(len(positions), -1)])
            trial.behind = np.concatenate([trial.behind, np.full(len(positions), -np.inf)])
        else:
            self._answered(trial, logits, positions)

    def _answered(self, trial: Trial, logits: np.ndarray, positions: np.ndarray) -> None:
        behind = logits[np.arange(len(positions)), self.served[positions]] - logits.max(axis=1)
        trial.answers = np.concatenate([trial.answers, logits.argmax(axis=1)])
        trial.behind = np.concatenate([trial.behind, np.maximum(behind, np.log(NOISE))])

    def _came(self, trial: Trial, until: int) -> bool:
        return len(trial.answers) >= self.ends[until]

    def race(self, pipelines: Iterable[Pipeline], bar: Progress) -> None:
        """Score pipelines in rounds; each round leaves the best of each cause and of all, and the last has them all."""
        entered = []
        for pipeline in pipelines:
            if pipeline.identity not in self._trials and self.applies(pipeline):
                entered.append(self.entered(pipeline))
            bar.update()
        for until, (each, most) in enumerate(_KEPT):
            ranked = self.ranked(until)
            left = [*ranked[:most], *of_each_cause(ranked, each)]
            entered = [trial for trial in entered if trial in left]
            bar.total = (bar.total or 0) + len(entered)
            for trial in entered:
                self.advance(trial, until + 1)
                bar.update()

    def climbed(self, trial: Trial, until: int, *, most: int, bar: Progress) -> Trial:
        """Walk from a trial to neighbors with a better score, for so many trials at most; return the last.

        A step that helps is tried again first.
        """
        self.advance(trial, until)
        around, before = self._around(trial), len(self)
        bar.total = max(bar.total or 0, bar.n + most)
        turn = at = 0
        while at < len(around) and self.score(trial, until) < 0 and len(self) - before < most:
            bar.update()
            found = self.entered(around[at], until)
            if self.score(found, until) > self.score(trial, until):
                trial, turn, at = found, turn + at, 0
                around = self._around(trial)
                turn %= max(len(around), 1)
                around = around[turn:] + around[:turn]
            else:
                at += 1
        return trial

    def _around(self, trial: Trial) -> list[Pipeline]:
        return [each for each in neighbors(trial.pipeline, self.serving.reference) if self.applies(each)]


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
    """Return the stages in which a pipeline differs; scaling and normalization by numbers alone are one cause.

    A crop of another size belongs to resizing, which makes the picture that it crops.
    """
    scale = reference.scale
    crop, merged = reference.crop, {"normalise": AFFINE}
    if (pipeline.scale.bits, pipeline.scale.precision) == (scale.bits, scale.precision):
        merged["scale"] = AFFINE
    if (pipeline.crop.right, pipeline.crop.down) == (crop.right, crop.down):
        merged["crop"] = "resize"
    return tuple(dict.fromkeys(merged.get(stage, stage) for stage in pipeline.differing(reference)))
