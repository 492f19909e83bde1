"""Diagnosis of a served model: the serving pipeline that explains its answers to known images best."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from harness.base.errors import AnswersError
from harness.base.progress import Progress
from harness.checks.equivalence import TOLERANCE, expect_tolerance
from harness.inference.predictors.network import PredictorNetwork
from harness.inference.predictors.recorded import UNDECIDED, answers_to_some
from harness.inference.serving import model_serving
from harness.measures.changed_predictions import changed, class_places, order_in_words
from harness.measures.serving import Explanation, fits_image_before, least_changes
from harness.run.equality import equality_checks
from harness.run.pipeline_search import Diagnosis, explained, finalists
from harness.run.pipeline_trials import Trials
from harness.run.settings import ModelSettings
from harness.run.steadiness import expect_steady

if TYPE_CHECKING:
    from pathlib import Path

    from harness.data import LabelledImages
    from harness.data.serving.served import Serving
    from harness.inference import RoleModel

_MOSTLY = 0.5
"""Share of a class that another order of classes explains at least; a skew may change many of the others."""
_PREDICTOR = "a predictor takes pixels in [0, 1], so no other normalization is tried; name the checkpoint instead"


@dataclass(frozen=True)
class SkewRequest:
    """A question about served predictions: the candidate, and the share of predictions that may change, in (0, 1).

    `served` is the file of the answers, or the SPEC of a served model, which is asked about the images.
    """

    candidate: Path | str
    served: Path | str
    tolerance: float = TOLERANCE
    model: ModelSettings = field(default_factory=ModelSettings)


def skew(request: SkewRequest) -> Diagnosis:
    """Diagnose served predictions; raises `InputError` for a file, model or tolerance that cannot be used."""
    expect_tolerance(request.tolerance)
    if isinstance(request.served, str):
        images = request.model.images()
        model = request.model.open(request.served, images)
        served = model.predict(images).predicted
        expect_steady([model], images)
        return diagnosis(request.model.open(request.candidate, images), images, served, tolerance=request.tolerance)
    whole = request.model.all_images()
    positions, served = answers_to_some(request.served, whole, outputs=request.model.model_outputs)
    if request.model.samples is not None and request.model.samples < len(positions):
        chosen = np.sort(np.random.default_rng(0).permutation(len(positions))[: request.model.samples])
        positions, served = positions[chosen], served[chosen]
    images = whole.take(torch.from_numpy(positions))
    model = request.model.open(request.candidate, images)
    if fits_image_before(positions, served, model.predict(images).predicted):
        raise AnswersError(
            f"{request.served}: the predictions fit the images before theirs, so the numbers in image begin at 1; "
            "expected numbers from 0"
        )
    return diagnosis(model, images, served, tolerance=request.tolerance)


def diagnosis(
    model: RoleModel, images: LabelledImages, served: np.ndarray, *, tolerance: float = TOLERANCE
) -> Diagnosis:
    """Return the diagnosis of the classes (N,) that were served for these images, `UNDECIDED` where these tie."""
    original, classes = model.predict(images), len(images.classes)
    decided = served != UNDECIDED
    some = images if decided.all() else images.take(torch.from_numpy(np.flatnonzero(decided)))
    given, reference = served[decided], original.predicted[decided]
    serving = model_serving(model, some)
    if isinstance(model.classifier.plain, PredictorNetwork):
        serving = replace(serving, note=". ".join(filter(None, (serving.note, _PREDICTOR))))
    if (places := class_places(given, reference, classes=classes, mostly=_MOSTLY)) is not None:
        undone = np.argsort(places)[given]
        regained = int(((undone == reference) & (given != reference)).sum())
        # More images agree once classes are put in place than the choice of a pair of classes explains.
        if regained >= least_changes(classes * (classes - 1) // 2) and (
            (undone != reference).sum() < _least_disagreements(model, serving, given, reference)
        ):
            order = order_in_words(places, images.classes, who="the served model")
            in_order = served.copy()
            in_order[decided] = undone
            return replace(diagnosis(model, images, in_order, tolerance=tolerance), order=order)
    # An undecided prediction is another class than the original's.
    labels = np.where(decided, served, (original.predicted + 1) % classes)
    artifact = replace(original, answers=np.eye(classes, dtype=np.float32)[labels], exact=None, known=0)
    found = Diagnosis(
        serving,
        Explanation(len(served), int(changed(artifact, original).sum()), 0, 0),
        equality_checks(artifact, original, tolerance),
        lost=int(original.correct.sum() - artifact.correct.sum()),
        undecided=int((~decided).sum()),
    )
    count = int((given != reference).sum())
    # Few changes prove nothing, and a difference of undecided predictions alone has no stage.
    if not count or (found.outcome != "different" and count < least_changes(1)):
        return found
    with _progress() as bar:
        done = explained(found, Trials(model, serving, given, reference, bar=bar))
    return done if done.named or found.outcome == "different" else found


def _least_disagreements(model: RoleModel, serving: Serving, served: np.ndarray, reference: np.ndarray) -> int:
    """Return how many served predictions the best pipeline of the catalog does not give."""
    with _progress() as bar:
        trials = Trials(model, serving, served, reference, bar=bar)
        trials.race([*serving.catalog.values()])
        return finalists(trials)[0].explains.disagreements


def _progress() -> Progress:
    return Progress(total=0, desc="pipelines", unit="pipeline", delay=2)
