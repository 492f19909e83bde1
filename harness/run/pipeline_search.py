"""A search for the serving pipeline that explains what a model answered to known images, and its diagnosis."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from harness.base.progress import Progress
from harness.data.serving.variations import variations
from harness.measures.equivalence import overall
from harness.measures.serving import (
    ALPHA,
    Explanation,
    better_p,
    explanation,
    is_unrelated,
    least_changes,
    noise_p,
)
from harness.run.pipeline_trials import FEW, FIRST, MANY, Trials, causes_of, of_each_cause

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.data.pipeline import Pipeline
    from harness.data.serving.served import Serving
    from harness.inference import RoleModel
    from harness.measures.equivalence import Outcome
    from harness.run.equality import EqualityCheck
    from harness.run.pipeline_trials import Trial

_FINALISTS, _STARTS, _TRIALS, _FIRST = 10, 3, 24, 3
"""Pipelines that see all images; starts of each cause, trials from each start, and causes that pairs start with."""
_LEAST = 0.5
"""Net share of the changed predictions that a cause explains at least."""


@dataclass(frozen=True, eq=False)
class Served:
    """A pipeline with its answers to the images, (N,) classes, and how far they explain the served ones.

    `causes` are the stages in which it differs from the reference, `skew` its name in the catalog or empty.
    """

    pipeline: Pipeline
    causes: tuple[str, ...]
    skew: str
    answers: np.ndarray
    explains: Explanation


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """The outcome for a served model, and the pipelines that explain its answers.

    `checks` compare it with the reference as an artifact with its original. `lost` counts correct predictions lost,
    net. `undecided` ones, whose leading classes tie, count as changed. `best` explains most; `alike` are others that no
    test tells from it, `causes` those of all of them. `runner_up` is the best of another cause. `p` and `p_next` are of
    the best against the reference and the runner-up, times the number of `comparisons`. `named` says that the cause is
    proven, `probable` that only the proof is missing. If the served model has its classes in another order, `order`
    says so, and all else is of answers put into the data's. `unrelated` answers agree no more often than by chance.
    """

    serving: Serving
    reference: Explanation
    checks: tuple[EqualityCheck, ...]
    lost: int = 0
    undecided: int = 0
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
    def probable(self) -> bool:
        """Return whether a cause that is not proven gives more than half of the changed predictions."""
        if self.best is None or self.named:
            return False
        found = self.best.explains
        return found.net > _LEAST or (found.explained > _LEAST * found.changed and self.p < ALPHA)

    @property
    def outcome(self) -> Outcome:
        """Return what the checks say together; another order of classes is a difference."""
        return "different" if self.order else overall([check.outcome for check in self.checks])


class Search:
    """A search for the pipeline that explains served predictions: the catalog, other parameters, pairs of stages."""

    def __init__(self, model: RoleModel, serving: Serving, served: np.ndarray, reference: np.ndarray) -> None:
        self.serving, self.served, self.reference = serving, served, reference
        self.trials = Trials(model, serving, served, reference)
        self.names = {pipeline.identity: name for name, pipeline in serving.catalog.items()}
        self.tried = 0

    def diagnosis(self, found: Diagnosis) -> Diagnosis:
        """Return the diagnosis of answers that differ, with what explains them."""
        catalog = [*self.serving.catalog.values()]
        varied = list(variations(self.serving.reference, self.serving.pictured.size))
        with Progress(total=len(catalog) + len(varied), desc="pipelines", unit="pipeline", delay=2) as bar:
            self.trials.race(catalog, bar)
            if not self.trials.is_explained:
                self.trials.race(varied, bar)
                self.refined(self.starts(), bar)
        self.tried = max(len(self.trials), len(catalog) + len(varied))
        best, others = self.finalists()
        left = best.explains.disagreements
        # A pair is better where the best is wrong, so too few of these prove nothing.
        if left >= least_changes(self.tried**2) and noise_p(left, best.explains.n) < ALPHA / 2:
            pairs = self.best_pairs()
            if pairs and pairs[0].explains.disagreements <= left / 2 and self.beats(pairs[0], best) < ALPHA:
                best, others = pairs[0], [*pairs[1:], best, *others]
        alike = tuple(each for each in others if self.beats(best, each) >= ALPHA)
        apart = [each for each in others if not {each.causes} & {best.causes, *(other.causes for other in alike)}]
        runner_up = max(apart, key=lambda each: each.explains.agreement, default=None)
        p = min(1.0, better_p(self.served, best.answers, self.reference) * self.comparisons(best))
        p_next = 1.0 if runner_up is None else self.beats(best, runner_up)
        return replace(
            found,
            best=best,
            alike=alike,
            runner_up=runner_up,
            p=p,
            p_next=p_next,
            comparisons=self.comparisons(best),
            unrelated=is_unrelated(self.served, self.reference),
        )

    def least_disagreements(self) -> int:
        """Return how many served predictions the best pipeline of the catalog does not give."""
        with Progress(total=len(self.serving.catalog), desc="pipelines", unit="pipeline", delay=2) as bar:
            self.trials.race(self.serving.catalog.values(), bar)
        return self.finalists()[0].explains.disagreements

    def best_of_causes(self, *, listed: bool = False) -> list[Trial]:
        """Return the best trial of each cause, the best first; the best of the catalog if `listed`."""
        single = [trial for trial in self.trials.ranked() if len(trial.causes) == 1]
        return of_each_cause(trial for trial in single if not listed or trial.pipeline.identity in self.names)

    def starts(self) -> list[Trial]:
        """Return the three best trials of each cause, if they are better than the reference, the best first."""
        least = self.trials.score(self.trials.reference, FEW)
        single = [trial for trial in self.trials.ranked(FEW) if len(trial.causes) == 1]
        return of_each_cause((trial for trial in single if self.trials.score(trial, FEW) > least), _STARTS)

    def refined(self, starts: Iterable[Trial], bar: Progress) -> None:
        """Walk from each start on a part of the images, and on from the best until a pipeline explains all.

        A walk that explains this part goes on at once, so few others are tried where one cause is the true one.
        """
        reached: dict[tuple[str, ...], Trial] = {}
        for start in starts:
            trial = self.trials.climbed(start, FEW, most=_TRIALS, bar=bar)
            if self.trials.score(trial, FEW) == 0:
                trial = self.trials.climbed(trial, MANY, most=_TRIALS, bar=bar)
            if self.trials.is_explained:
                return
            best = reached.get(trial.causes, trial)
            reached[trial.causes] = max(best, trial, key=lambda each: self.trials.score(each, FEW))
        for trial in reached.values():
            self.trials.advance(trial, MANY)
        if reached:
            self.trials.climbed(max(reached.values(), key=self.trials.score), MANY, most=_TRIALS, bar=bar)

    def finalists(self) -> tuple[Served, list[Served]]:
        """Return the pipeline that explains most on all images, and other good ones, with the best of each cause."""
        chosen = {each.pipeline.identity: each for each in (*self.trials.ranked()[:_FINALISTS], *self.best_of_causes())}
        served = [self.on_all(trial) for trial in chosen.values()]
        # The catalog comes before equal pipelines.
        served.sort(key=lambda each: (-each.explains.agreement, not each.skew))
        return served[0], served[1:]

    def on_all(self, trial: Trial) -> Served:
        """Return a pipeline with its answers to all images."""
        self.trials.advance(trial)
        answers = np.empty_like(self.served)
        answers[self.trials.order] = trial.answers
        explains = explanation(self.served, self.reference, answers)
        return Served(trial.pipeline, trial.causes, self.names.get(trial.pipeline.identity, ""), answers, explains)

    def best_pairs(self) -> list[Served]:
        """Return the best pipelines that differ in two stages, one of each two stages, the best first.

        They are made of good single ones and of the catalog.
        """
        reference, single = self.serving.reference, set(self.trials.ranked(FIRST))
        firsts = [*self.best_of_causes()[:_FIRST], *self.best_of_causes(listed=True)[:_FIRST]]
        seconds = [*self.serving.catalog.values(), *(trial.pipeline for trial in self.best_of_causes())]
        pairs = [combined(first.pipeline, second, reference) for first in firsts for second in seconds]

        def found() -> list[Trial]:
            """Return the best trial of each two stages, the best first."""
            return of_each_cause(trial for trial in self.trials.ranked() if trial not in single)

        with Progress(total=len(pairs), desc="pairs of stages", unit="pipeline", delay=2) as bar:
            self.trials.race([pair for pair in pairs if pair is not None], bar)
            self.refined(found()[:_FIRST], bar)
        served = [self.on_all(trial) for trial in found()[:_FINALISTS]]
        return sorted(served, key=lambda each: -each.explains.agreement)

    def beats(self, first: Served, second: Served) -> float:
        """Return the p that the first explains the answers better than the second, times the comparisons."""
        return min(1.0, better_p(self.served, first.answers, second.answers) * self.comparisons(first))

    def comparisons(self, winner: Served) -> int:
        """Return the number that the p of a winner is multiplied by: twice that of the pipelines of its kind.

        Pipelines of one stage take half of the probability of a wrong statement, pairs of stages the other half.
        """
        return 2 * self.tried if len(winner.causes) == 1 else self.tried**2


def combined(first: Pipeline, second: Pipeline, reference: Pipeline) -> Pipeline | None:
    """Return the pipeline with the changes of both; None where they change the same stage."""
    one, other = first.differing(reference), second.differing(reference)
    if set(one) & set(other) or set(causes_of(first, reference)) & set(causes_of(second, reference)):
        return None
    return replace(first, **{stage: getattr(second, stage) for stage in other})
