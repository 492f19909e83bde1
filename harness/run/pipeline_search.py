"""A search for the serving pipeline that explains what a model answered to known images, and its diagnosis."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from harness.base.errors import InputError
from harness.base.progress import Progress
from harness.data.serving.variations import neighbors, variations
from harness.inference.predictors.network import PredictorNetwork
from harness.inference.serving import model_serving, served_predictions
from harness.measures.equivalence import least_images
from harness.measures.explanation import ALPHA, NOISE, Explanation, better_p, explanation, is_unrelated, noise_p

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.data.serving import ServingPipeline
    from harness.data.serving.served import Serving
    from harness.inference import RoleModel

Outcome = Literal["as judged", "different", "inconclusive"]
AFFINE = "scale or normalise"
"""The cause of numbers that are multiplied and shifted, which both stages do."""
_LOOKED_AT = 750
"""Changed and unchanged images each on which pipelines are searched for; those that explain most see all.

Fewer images than both are all looked at, so a later search finds the predictions in the cache.
"""
_FINALISTS, _STARTS, _TRIALS, _FIRST = 10, 3, 48, 3
"""Pipelines that see all images; starts of each cause, trials from each start, and causes that pairs start with."""
_LEAST = 0.5
"""Net share of the changed predictions that a cause explains at least."""


@dataclass(frozen=True, eq=False)
class Served:
    """A pipeline with its answers to the images, (N,) classes, and how far they explain the served ones.

    `causes` are the stages in which it differs from the reference, `skew` its name in the catalog or empty.
    """

    pipeline: ServingPipeline
    causes: tuple[str, ...]
    skew: str
    answers: np.ndarray
    explains: Explanation


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """The outcome for a served model, and the pipelines that explain its answers.

    `best` explains most; `alike` are others that no test tells from it, `causes` those of all of them. `runner_up` is
    the best of another cause. `p` and `p_next` are of the best against the reference and the runner-up, times the
    number of `comparisons`. `named` says that the cause is proven. `lost` counts correct predictions lost, net. If the
    served model has its classes in another order, `order` says so, and all else is of answers put into the data's.
    `unrelated` answers agree with the reference no more often than by chance.
    """

    outcome: Outcome
    serving: Serving
    reference: Explanation
    tolerance: float
    lost: int
    best: Served | None = None
    alike: tuple[Served, ...] = ()
    runner_up: Served | None = None
    p: float = 1.0
    p_next: float = 1.0
    comparisons: int = 0
    order: str = ""
    unrelated: bool = False

    @property
    def causes(self) -> tuple[tuple[str, ...], ...]:
        """Return the causes that the images do not tell apart, the best one's first."""
        found = [] if self.best is None else [self.best.causes, *(each.causes for each in self.alike)]
        return tuple(dict.fromkeys(found))

    @property
    def named(self) -> bool:
        """Return whether a cause is proven."""
        return self.best is not None and self.p < ALPHA and self.best.explains.net >= _LEAST

    @property
    def needed(self) -> int:
        """Return how many images without a change it takes to say that the model is served as judged."""
        return least_images(self.tolerance)


def causes_of(pipeline: ServingPipeline, reference: ServingPipeline) -> tuple[str, ...]:
    """Return the stages in which a pipeline differs; scaling and normalization by numbers alone are one cause."""
    causes = []
    for stage in pipeline.differing(reference):
        scale, other = pipeline.scale, reference.scale
        rounds = (scale.bits, scale.precision) != (other.bits, other.precision)
        causes.append(AFFINE if stage == "normalise" or (stage == "scale" and not rounds) else stage)
    return tuple(dict.fromkeys(causes))


class Search:
    """A search for the pipeline that explains served predictions: the catalog, other parameters, pairs of stages."""

    def __init__(self, model: RoleModel, serving: Serving, served: np.ndarray, reference: np.ndarray) -> None:
        self.model, self.serving, self.served, self.reference = model, serving, served, reference
        draw = np.random.default_rng(0)
        changed = served != reference
        most = _LOOKED_AT if len(served) > 2 * _LOOKED_AT else len(served)
        parts = [draw.permutation(np.flatnonzero(which))[:most] for which in (changed, ~changed)]
        self.some = np.sort(np.concatenate(parts))
        # Each image that is looked at stands for so many changed or unchanged ones.
        shares = [which.sum() / max(len(part), 1) for which, part in zip((changed, ~changed), parts, strict=True)]
        self.weights = np.where(changed[self.some], *shares)
        self.part = model_serving(model, serving.images.take(torch.from_numpy(self.some)))
        self.size = serving.pictured.size
        self.names = {pipeline.identity: name for name, pipeline in serving.catalog.items()}
        self.scores: dict[str, tuple[float, ServingPipeline]] = {}
        self.comparisons = 0

    def diagnosis(self, tolerance: float, lost: int) -> Diagnosis:
        """Return the diagnosis of answers that differ; `lost` correct predictions are lost, net."""
        reference = explanation(self.served, self.reference, self.reference)
        catalog = [*self.serving.catalog.values()]
        varied = list(variations(self.serving.reference, self.size))
        with Progress(total=len(catalog) + len(varied), desc="pipelines", unit="pipeline", delay=2) as bar:
            self.scored(catalog, bar)
            if not self.is_explained:
                self.scored(varied, bar)
            for start in self.starts():
                if not self.is_explained:
                    self.refined(start, bar)
        tried = max(len(self.scores), len(catalog) + len(varied))
        self.comparisons = tried * (tried + 1) // 2
        best, others = self.finalists()
        if best.explains.net < 1 and noise_p(best.explains.disagreements, best.explains.n) < ALPHA / 2:
            pairs, left = self.best_pairs(), best.explains.disagreements
            if pairs and pairs[0].explains.disagreements <= left / 2 and self.beats(pairs[0], best) < ALPHA:
                best, others = pairs[0], [*pairs[1:], best, *others]
        alike = tuple(each for each in others if self.beats(best, each) >= ALPHA)
        apart = [each for each in others if not {each.causes} & {best.causes, *(other.causes for other in alike)}]
        runner_up = max(apart, key=lambda each: each.explains.agreement, default=None)
        p = min(1.0, better_p(self.served, best.answers, self.reference) * self.comparisons)
        p_next = 1.0 if runner_up is None else self.beats(best, runner_up)
        return Diagnosis(
            "different",
            self.serving,
            reference,
            tolerance,
            lost,
            best,
            alike,
            runner_up,
            p,
            p_next,
            self.comparisons,
            unrelated=is_unrelated(self.served, self.reference),
        )

    def least_disagreements(self) -> int:
        """Return how many served predictions the best pipeline of the catalog does not give."""
        self.scored(self.serving.catalog.values())
        return self.finalists()[0].explains.disagreements

    @property
    def is_explained(self) -> bool:
        """Return whether a pipeline gives all served predictions that were looked at."""
        return any(score == 0 for score, _ in self.scores.values())

    @property
    def ranked(self) -> list[ServingPipeline]:
        """Return the pipelines that were scored, the best first."""
        return [pipeline for _, pipeline in sorted(self.scores.values(), key=lambda scored: -scored[0])]

    def scored(self, pipelines: Iterable[ServingPipeline], bar: Progress | None = None) -> float:
        """Score pipelines on some images; return the best new score."""
        found = -np.inf
        for pipeline in pipelines:
            if (identity := pipeline.identity) not in self.scores and self.applies(pipeline):
                self.scores[identity] = self.score(pipeline), pipeline
                found = max(found, self.scores[identity][0])
            if bar is not None:
                bar.update()
        return found

    def score(self, pipeline: ServingPipeline) -> float:
        """Return the log of the likelihood of the served predictions over that of the pipeline's own, 0 if they agree.

        A pipeline near the true one errs by a little, so scores lead to it where counts do not.
        """
        logits = self.answered(self.part, pipeline)
        if logits is None:
            return -np.inf
        served = logits[np.arange(len(self.some)), self.served[self.some]]
        behind = np.clip(served - logits.max(axis=1), np.log(NOISE), 0)
        return float((self.weights * behind).sum())

    def applies(self, pipeline: ServingPipeline) -> bool:
        """Return whether the model can be asked; a predictor takes pixels in [0, 1] alone."""
        if pipeline == self.serving.reference:
            return False
        moved = pipeline.scale.offset or pipeline.normalise != self.serving.reference.normalise
        return not (moved and isinstance(self.model.classifier.plain, PredictorNetwork))

    def answered(self, serving: Serving, pipeline: ServingPipeline) -> np.ndarray | None:
        """Return the model's logits, (N, classes); None where the pipeline makes no image of some picture."""
        try:
            return served_predictions(self.model, serving, pipeline).answers
        except InputError:  # It is of another size, or cannot be decoded.
            return None

    def best_of_causes(self, *, listed: bool = False) -> list[ServingPipeline]:
        """Return the best pipeline of each cause, the best first; the best of the catalog if `listed`."""
        found: dict[tuple[str, ...], ServingPipeline] = {}
        for pipeline in self.ranked:
            causes = causes_of(pipeline, self.serving.reference)
            if len(causes) == 1 and (pipeline.identity in self.names or not listed):
                found.setdefault(causes, pipeline)
        return list(found.values())

    def starts(self) -> list[ServingPipeline]:
        """Return the three best pipelines of each cause, the best of all causes first."""
        found: dict[tuple[str, ...], list[ServingPipeline]] = {}
        for pipeline in self.ranked:
            found.setdefault(causes_of(pipeline, self.serving.reference), []).append(pipeline)
        single = [pipelines for causes, pipelines in found.items() if len(causes) == 1]
        return [pipelines[rank] for rank in range(_STARTS) for pipelines in single if rank < len(pipelines)]

    def refined(self, pipeline: ServingPipeline, bar: Progress | None = None) -> None:
        """Walk from a pipeline to neighbors that explain more, as long as there are some."""
        score, before = self.scores[pipeline.identity][0], len(self.scores)
        while not self.is_explained and len(self.scores) - before < _TRIALS:
            around = list(neighbors(pipeline, self.serving.reference))
            if bar is not None:
                bar.total = (bar.total or 0) + len(around)
            if self.scored(around, bar) <= score:
                return
            score, pipeline = max(
                (self.scores[each.identity] for each in around if each.identity in self.scores),
                key=lambda scored: scored[0],
            )

    def finalists(self) -> tuple[Served, list[Served]]:
        """Return the pipeline that explains most on all images, and other good ones, with the best of each cause."""
        chosen = {each.identity: each for each in (*self.ranked[:_FINALISTS], *self.best_of_causes())}
        served = [self.on_all(pipeline) for pipeline in chosen.values()]
        # The catalog comes before equal pipelines.
        served.sort(key=lambda each: (-each.explains.agreement, not each.skew))
        return served[0], served[1:]

    def on_all(self, pipeline: ServingPipeline) -> Served:
        """Return a pipeline with its answers to all images."""
        logits = self.answered(self.serving, pipeline)
        answers = np.full(len(self.served), -1) if logits is None else logits.argmax(axis=1)
        explains = explanation(self.served, self.reference, answers)
        causes = causes_of(pipeline, self.serving.reference)
        return Served(pipeline, causes, self.names.get(pipeline.identity, ""), answers, explains)

    def best_pairs(self) -> list[Served]:
        """Return the best pipelines that differ in two stages, one of each two stages, the best first.

        They are made of good single ones and of the catalog.
        """
        reference = self.serving.reference
        single = set(self.scores)
        catalog = [*self.serving.catalog.values(), *self.best_of_causes()]
        firsts = [*self.best_of_causes()[:_FIRST], *self.best_of_causes(listed=True)[:_FIRST]]

        def found() -> list[ServingPipeline]:
            """Return the best pipeline of each two stages that was scored, the best first."""
            best: dict[tuple[str, ...], ServingPipeline] = {}
            for pipeline in self.ranked:
                if pipeline.identity not in single:
                    best.setdefault(causes_of(pipeline, reference), pipeline)
            return list(best.values())

        with Progress(total=len(firsts) * len(catalog), desc="pairs of stages", unit="pipeline", delay=2) as bar:
            for first in firsts:
                pairs = [both for second in catalog if (both := combined(first, second, reference)) is not None]
                self.scored(pairs, bar)
            for start in found()[:_FIRST]:
                if not self.is_explained:
                    self.refined(start, bar)
        served = [self.on_all(pipeline) for pipeline in found()[:_FINALISTS]]
        return sorted(served, key=lambda each: -each.explains.agreement)

    def beats(self, first: Served, second: Served) -> float:
        """Return the p that the first explains the answers better than the second, times the comparisons."""
        return min(1.0, better_p(self.served, first.answers, second.answers) * self.comparisons)


def combined(first: ServingPipeline, second: ServingPipeline, reference: ServingPipeline) -> ServingPipeline | None:
    """Return the pipeline with the changes of both; None where they change the same stage."""
    one, other = first.differing(reference), second.differing(reference)
    if set(one) & set(other) or set(causes_of(first, reference)) & set(causes_of(second, reference)):
        return None
    return replace(first, **{stage: getattr(second, stage) for stage in other})
