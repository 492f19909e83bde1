"""Diagnosis of a served model.

The serving pipeline that explains its answers to known images best.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from harness.base.errors import AnswersError
from harness.checks.tolerance import TOLERANCE, expect_tolerance, overall, tolerance_tests
from harness.features.skew.explanation import (
    ALPHA,
    Explanation,
    better_p,
    fits_image_before,
    is_unrelated,
    least_changes,
    noise_p,
)
from harness.features.skew.probabilities import ServedProbabilities, moves_of, noise_of, rounding
from harness.features.skew.trials import AFFINE, FEW, FIRST, Trials, causes_of, of_each_cause
from harness.features.skew.variations import variations
from harness.inference.predictors.recorded import UNDECIDED, answers_to_some
from harness.inference.serving import model_serving
from harness.measures.changed_predictions import changed, class_places, order_in_words
from harness.run.steadiness import expect_steady

if TYPE_CHECKING:
    from pathlib import Path

    from harness.checks.tolerance import ToleranceTest
    from harness.data import LabelledImages
    from harness.data.pipeline import Pipeline
    from harness.data.serving import Serving
    from harness.features.skew.probabilities import Moves
    from harness.features.skew.trials import Trial
    from harness.inference import RoleModel
    from harness.inference.precision import Precision
    from harness.measures.equivalence import Outcome
    from harness.run.settings import ModelSettings

_FINALISTS, _STARTS, _PAIRED = 10, 3, 3
"""Pipelines that see all images; starts of each cause, and causes that pairs start with."""
_LEAST = 0.5
"""Net share of the changed predictions that a cause explains at least, and share of a class that
another order does.
"""
_PREDICTOR = (
    "a predictor takes pixels in [0, 1], so no other normalization is tried; name the checkpoint "
    "instead"
)

_NO_NOISE = (
    "probabilities are not compared, since the model has no layers to measure the noise of a "
    "precision on; if the same weights are served in float32, add --served-precision float32"
)


@dataclass(frozen=True, eq=False)
class SkewDiagnosis:
    """The outcome for a served model, and the pipelines that explain its answers.

    `checks` compare it with the reference as an artifact with its original. `lost` counts correct
    predictions lost, net. `undecided` ones, whose leading classes tie, count as changed. `best`
    explains most; `alike` are others that no test tells from it, `causes` those of all of them.
    `runner_up` is the best of another cause. `p` and `p_next` are of the best against the reference
    and the runner-up, times the number of `comparisons`. `named` says that the cause is proven,
    `probable` that only the proof is missing. If the served model has its classes in another order,
    `order` says so, and all else is of answers put into the data's. `unrelated` answers agree no
    more often than by chance. `moves` compares probabilities, where both have some. If
    `by_probabilities`, the pipelines explain these, so counts of changed predictions in `best` are
    of images whose probabilities moved.
    """

    serving: Serving
    reference: Explanation
    checks: tuple[ToleranceTest, ...]
    lost: int = 0
    undecided: int = 0
    best: Trial | None = None
    alike: tuple[Trial, ...] = ()
    runner_up: Trial | None = None
    p: float = 1.0
    p_next: float = 1.0
    comparisons: int = 0
    order: str = ""
    unrelated: bool = False
    moves: Moves | None = None
    by_probabilities: bool = False

    @property
    def causes(self) -> tuple[tuple[str, ...], ...]:
        """Return the causes that the images do not tell apart, the best one's first."""
        return tuple(
            dict.fromkeys(each.causes for each in (self.best, *self.alike) if each is not None)
        )

    @property
    def named(self) -> bool:
        """Return whether a cause is proven."""
        return self.best is not None and self.p < ALPHA and self.best.explains.net >= _LEAST

    @property
    def probable(self) -> bool:
        """Return whether an unproven cause explains more than half of the changed predictions."""
        if self.best is None or self.named:
            return False
        found = self.best.explains
        return found.net > _LEAST or (found.explained > _LEAST * found.changed and self.p < ALPHA)

    @property
    def outcome(self) -> Outcome:
        """Return the outcome of all checks.

        Another order of classes and probabilities that moved are differences.
        """
        if self.order or self.is_moved:
            return "different"
        return overall(check.outcome for check in self.checks)

    @property
    def is_moved(self) -> bool:
        """Return whether probabilities moved beyond the noise of the precision."""
        return self.moves is not None and self.moves.proven


def skew(
    candidate: Path | str,
    served: Path | str,
    model: ModelSettings,
    *,
    tolerance: float = TOLERANCE,
    served_precision: Precision | None = None,
) -> SkewDiagnosis:
    """Diagnose served predictions.

    The share `tolerance`, in (0, 1), may differ from the candidate's.

    `served` is the file of the predictions, or the SPEC of a served model, which is asked about the
    images. `served_precision` states that the candidate's own weights are served, in this
    precision. By default, weights and precision are unknown, unless the served model has the
    candidate's hash. Raises `InputError` for a file, model or tolerance that cannot be used.
    """
    expect_tolerance(tolerance)
    if isinstance(served, str):
        return _of_served_model(candidate, served, model, tolerance, served_precision)
    whole = model.all_images()
    recorded = answers_to_some(served, whole, outputs=model.model_outputs)
    if model.samples is not None and model.samples < len(recorded.positions):
        shuffled = np.random.default_rng(0).permutation(len(recorded.positions))
        recorded = recorded.take(np.sort(shuffled[: model.samples]))
    images = whole.take(torch.from_numpy(recorded.positions))
    known = model.open(candidate, images)
    if fits_image_before(recorded.positions, recorded.classes, known.predict(images).predicted):
        raise AnswersError(
            f"{served}: the predictions fit the images before theirs, so the numbers in image "
            "begin at 1; expected numbers from 0"
        )
    return diagnosis(
        known,
        images,
        recorded.classes,
        tolerance=tolerance,
        probabilities=recorded.probabilities,
        precision=served_precision,
    )


def _of_served_model(
    candidate: Path | str,
    served: str,
    model: ModelSettings,
    tolerance: float,
    precision: Precision | None,
) -> SkewDiagnosis:
    images = model.images()
    other = model.open(served, images)
    predictions = other.predict(images)
    expect_steady([other], images)
    known = model.open(candidate, images)
    if precision is None and known.model_sha256 == other.model_sha256:
        precision = "float32"
    return diagnosis(
        known,
        images,
        predictions.predicted,
        tolerance=tolerance,
        probabilities=predictions.probabilities if predictions.known is None else None,
        precision=precision,
    )


def diagnosis(
    model: RoleModel,
    images: LabelledImages,
    served: np.ndarray,
    *,
    tolerance: float = TOLERANCE,
    probabilities: np.ndarray | None = None,
    precision: Precision | None = None,
) -> SkewDiagnosis:
    """Return the diagnosis of the classes (N,) served for these images.

    They are `UNDECIDED` where two classes tie. `probabilities` are those served, (N, classes), if
    they are known. `precision` is the one in which the weights of `model` are served; None if
    either is unknown.
    """
    original, classes = model.predict(images), len(images.classes)
    decided = served != UNDECIDED
    given, reference = served[decided], original.predicted[decided]
    serving = model_serving(
        model, images if decided.all() else images.take(torch.from_numpy(np.flatnonzero(decided)))
    )
    if not model.provides.network:
        serving = replace(serving, note=". ".join(filter(None, (serving.note, _PREDICTOR))))
    # A skew may change many of the other predictions of a class.
    if (places := class_places(given, reference, classes=classes, mostly=_LEAST)) is not None:
        undone = np.argsort(places)[given]
        regained = int(((undone == reference) & (given != reference)).sum())
        # More images agree once classes are put in place than the choice of a pair of classes
        # explains.
        if regained >= least_changes(classes * (classes - 1) // 2):
            trials = Trials(model, serving, given, reference)
            trials.race([*serving.catalog.values()])
            if (undone != reference).sum() < _finalists(trials)[0].explains.disagreements:
                in_order = served.copy()
                in_order[decided] = undone
                moved = None if probabilities is None else probabilities[:, list(places)]
                order = order_in_words(places, images.classes, who="the served model")
                found = diagnosis(
                    model,
                    images,
                    in_order,
                    tolerance=tolerance,
                    probabilities=moved,
                    precision=precision,
                )
                return replace(found, order=order)
    # An undecided prediction is another class than the original's.
    labels = np.where(decided, served, (original.predicted + 1) % classes)
    artifact = replace(
        original, answers=np.eye(classes, dtype=np.float32)[labels], exact=None, known=0
    )
    compared = (
        None
        if probabilities is None
        else _compared(model, images, probabilities[decided], precision)
    )
    if compared is None and probabilities is not None and not model.provides.layers:
        serving = replace(serving, note=". ".join(filter(None, (serving.note, _NO_NOISE))))
    found = SkewDiagnosis(
        serving,
        Explanation(len(served), int(changed(artifact, original).sum()), 0, 0),
        tolerance_tests(artifact, original, tolerance),
        lost=int(original.correct.sum() - artifact.correct.sum()),
        undecided=int((~decided).sum()),
        moves=None if compared is None else moves_of(compared, original.logits[decided]),
    )
    count = int((given != reference).sum())
    if (
        compared is not None
        and found.moves is not None
        and found.is_moved
        and found.moves.beyond > count
    ):
        trials = Trials(model, serving, given, reference, probabilities=compared)
        return replace(explained(found, trials), by_probabilities=True)
    # Few changes prove nothing, and a difference of undecided predictions alone has no stage.
    if not count or (found.outcome != "different" and count < least_changes(1)):
        return found
    done = explained(found, Trials(model, serving, given, reference))
    done = replace(done, unrelated=is_unrelated(given, reference))
    return done if done.named or found.outcome == "different" else found


def _compared(
    model: RoleModel, images: LabelledImages, probabilities: np.ndarray, precision: Precision | None
) -> ServedProbabilities | None:
    """Return served probabilities with the noise of the precision.

    None if nothing can be told from them.
    """
    step = rounding(probabilities)
    noise = (
        noise_of(model, images, precision) if model.provides.known is None and step < 1 else None
    )
    return None if noise is None else ServedProbabilities(probabilities, noise, step)


def explained(found: SkewDiagnosis, trials: Trials) -> SkewDiagnosis:
    """Return the diagnosis of answers that differ, with the pipelines that explain them.

    The catalog comes first, then other parameters, then pairs of stages.
    """
    catalog = [*trials.serving.catalog.values()]
    varied = [*variations(trials.serving.reference, trials.serving.pictured.size)]
    trials.race(catalog)
    if not trials.is_explained:
        trials.race(varied)
        # Probabilities tell a gain and an offset from other curves, so these may end the search.
        if trials.of_probabilities and trials.ranked()[0].causes == (AFFINE,):
            trials.fit_levels()
    if not trials.is_explained:
        least = trials.score(trials.reference, FEW)
        better = (each for each in trials.ranked(FEW, causes=1) if trials.score(each, FEW) > least)
        trials.refine(of_each_cause(better, _STARTS))
        # By classes, a gain and an offset fit other changes, too, so these come last.
        if not trials.is_explained or trials.ranked()[0].causes == (AFFINE,):
            trials.fit_levels()
    tried = max(len(trials), len(catalog) + len(varied))

    def beats(first: Trial, other: np.ndarray) -> float:
        # Pipelines of one stage take half of the probability of a wrong statement, pairs of stages
        # the other half.
        comparisons = 2 * tried if len(first.causes) == 1 else tried**2
        return min(1.0, better_p(trials.served, first.answers, other) * comparisons)

    first = _finalists(trials)
    best, others = first[0], first[1:]
    left = best.explains.disagreements
    # A pair is better where the best is wrong, so too few of these prove nothing.
    if left >= least_changes(tried**2) and noise_p(left, best.explains.n) < ALPHA / 2:
        pairs = _pairs(trials)
        if (
            pairs
            and pairs[0].explains.disagreements <= left / 2
            and beats(pairs[0], best.answers) < ALPHA
        ):
            best, others = pairs[0], [*pairs[1:], *first]
    alike = tuple(each for each in others if beats(best, each.answers) >= ALPHA)
    causes = {best.causes, *(each.causes for each in alike)}
    apart = [each for each in others if each.causes not in causes]
    runner_up = max(apart, key=lambda each: each.explains.agreement, default=None)
    return replace(
        found,
        best=best,
        alike=alike,
        runner_up=runner_up,
        p=beats(best, trials.known),
        p_next=1.0 if runner_up is None else beats(best, runner_up.answers),
        comparisons=2 * tried if len(best.causes) == 1 else tried**2,
    )


def _finalists(trials: Trials) -> list[Trial]:
    """Return good pipelines after all images, with the best of each cause.

    The one that explains most comes first.
    """
    chosen = dict.fromkeys([*trials.ranked()[:_FINALISTS], *of_each_cause(trials.ranked(causes=1))])
    # The catalog comes before equal pipelines.
    return sorted(
        map(trials.advance, chosen), key=lambda each: (-each.explains.agreement, not each.skew)
    )


def _pairs(trials: Trials) -> list[Trial]:
    """Return the best pipelines that differ in two stages, one of each two stages, the best first.

    They are made of good single ones and of the catalog.
    """
    reference, single = trials.serving.reference, set(trials.ranked(FIRST))
    best = of_each_cause(trials.ranked(causes=1))
    listed = of_each_cause(trial for trial in trials.ranked(causes=1) if trial.skew)
    firsts = [trial.pipeline for trial in (*best[:_PAIRED], *listed[:_PAIRED])]
    seconds = [*trials.serving.catalog.values(), *(trial.pipeline for trial in best)]
    pairs = [combined(first, second, reference) for first in firsts for second in seconds]
    trials.race([pair for pair in pairs if pair is not None])
    trials.refine(
        of_each_cause(trial for trial in trials.ranked() if trial not in single)[:_PAIRED]
    )
    found = of_each_cause(trial for trial in trials.ranked() if trial not in single)
    return sorted(
        map(trials.advance, found[:_FINALISTS]), key=lambda each: -each.explains.agreement
    )


def combined(first: Pipeline, second: Pipeline, reference: Pipeline) -> Pipeline | None:
    """Return the pipeline with the changes of both; None where they change the same stage."""
    stages, other = first.differing(reference), second.differing(reference)
    if set(stages) & set(other) or set(causes_of(first, reference)) & set(
        causes_of(second, reference)
    ):
        return None
    return replace(first, **{stage: getattr(second, stage) for stage in other})
