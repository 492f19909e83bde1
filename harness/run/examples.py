"""Images to show: those behind a verdict as the models see them, and small ones of all images that a report names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from harness.base.errors import NotApplicableError
from harness.measures.accuracy import ACCURACY_GAIN, likely_most_confident, most_confident
from harness.measures.changed_predictions import OF_ORIGINAL
from harness.measures.failures import Answer, answers_at
from harness.measures.panel.consensus import ConsensusErrors
from harness.perturb import IDENTITY, in_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor

    from harness.checks import Verdict
    from harness.data import LabelledImages
    from harness.inference import Predictions, RoleModel
    from harness.inference.search import FirstFailures
    from harness.measures.failures import FailureKind
    from harness.measures.panel.predictions import PanelPredictions
    from harness.perturb import Perturbation
    from harness.run.overview import Overview
    from harness.run.session import StressSession


SHOWN, TILES = 3, 12
"""Number of images that a test shows in pictures of their own, and number in a gallery."""

_SEARCHED = 12
"""Images of a failed search that are searched again for the smallest pose that flips them."""


@dataclass(frozen=True, eq=False)
class ModelView:
    """One image as a model sees it: its prediction, and its Grad-CAM map, (H, W) float32, at least 0.

    `attention` is None for a model without a layer to look at.
    """

    answer: Answer
    attention: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Example:
    """One image as two models see it, the candidate and the one compared with it.

    `original` and `seen` are (H, W, C) uint8. `pose` describes how `seen` was made of the original; it is empty when
    they are the same. `at_rest` is the prediction for the original. `other` is None without another model; `name` and
    `against` are the names of the two. An example of the consensus set has a `reference`: the number of reference
    models and their mean prediction.
    """

    index: int
    original: np.ndarray
    seen: np.ndarray
    true: str
    classes: tuple[str, ...]
    candidate: ModelView
    other: ModelView | None = None
    pose: str = ""
    at_rest: Answer | None = None
    name: str = "candidate"
    against: str = "baseline"
    reference: tuple[int, Answer] | None = None


@dataclass(frozen=True, eq=False)
class Tile:
    """A failure in a gallery: the image as seen, (H, W, C) uint8, and whether it is new, if there is another model.

    New is what the candidate gets wrong and the model named `against` gets right.
    """

    pixels: np.ndarray
    answer: Answer
    new: bool | None
    against: str = ""


class PerturbedImages(Protocol):
    """Images of a measurement, and the perturbation of each."""

    @property
    def images(self) -> LabelledImages:
        """Return the images."""

    def perturbation_of(self, position: int) -> Perturbation:
        """Return the perturbation under which the image at this position was seen."""


def telling_examples(session: StressSession, verdict: Verdict, seen: PerturbedImages) -> list[Example]:
    """Return the most telling failures that the verdict names, as the candidate and the compared model see them.

    For a search, they are those that flip at the smallest pose, each in that pose. For one perturbation of all images,
    new failures, which the other model predicts correctly, come before shared ones. Otherwise the verdict's order
    holds. Images of the consensus set are compared with the mean prediction of the reference models, unless the
    candidate is one of them.
    """
    from harness.checks.check import NAMED
    from harness.inference import Predictions
    from harness.inference.search import FirstFailures

    candidate, other = session.roles["candidate"], held_against(session, verdict.metric)
    named = np.array(verdict.failures, dtype=np.int64)
    if isinstance(seen, FirstFailures):
        chosen = _smallest_flips(session, seen, named[:_SEARCHED])
    elif isinstance(seen, Predictions):
        if not len(named):
            # A test of failures by a pose has none at a pose that breaks nothing: then show any wrong prediction.
            named = likely_most_confident(seen, ~seen.correct)[:NAMED]
        positions, _ = _new_first(other, seen.images, named, seen.perturbation)
        chosen = [(int(at), seen.perturbation) for at in positions]
    else:
        chosen = [(int(at), seen.perturbation_of(int(at))) for at in named]
    chosen, panel_predictions = chosen[:SHOWN], session.panel_predictions if isinstance(seen, ConsensusErrors) else None
    if panel_predictions is not None and panel_predictions.excluded is not None:
        panel_predictions = None  # Its own prediction is part of their mean.
    shown_at = [position for position, _ in chosen]
    at_rest: dict[int, Answer] = {}
    if any(perturbation != IDENTITY for _, perturbation in chosen):  # Together, since each call costs a whole batch.
        at_rest = dict(zip(shown_at, _at_rest(candidate, _taken(seen.images, shown_at)), strict=True))
    groups: dict[str, tuple[Perturbation, list[int]]] = {}
    for position, perturbation in chosen:
        groups.setdefault(repr(perturbation), (perturbation, []))[1].append(position)
    examples: dict[int, Example] = {}
    for perturbation, together in groups.values():
        images, rest = _taken(seen.images, together), [at_rest[position] for position in together if at_rest]
        shown = examples_of(candidate, None if panel_predictions else other, images, perturbation, at_rest=rest)
        if panel_predictions is not None:
            shown = [_beside(panel_predictions, example, perturbation) for example in shown]
        examples.update(zip(together, shown, strict=True))
    return [examples[position] for position in shown_at]


def held_against(session: StressSession, metric: str = "") -> RoleModel | None:
    """Return the model to show beside the candidate: the incumbent if that is another network, or the baseline.

    A gain over the baseline is shown beside the baseline, and a change since the original beside that. None where there
    is no other network.
    """
    candidate = session.roles["candidate"]
    roles = ["baseline", "incumbent"] if metric == ACCURACY_GAIN.name else ["incumbent", "baseline"]
    roles = ["original"] if metric in OF_ORIGINAL else roles
    others = [session.roles[role] for role in roles if role in session.roles]
    return next((other for other in others if other.model_sha256 != candidate.model_sha256), None)


def _beside(panel_predictions: PanelPredictions, example: Example, perturbation: Perturbation) -> Example:
    """Return the example with the mean prediction of the reference models, which all predict it correctly.

    Probabilities are those of the likeliest classes, which pictures show; the others are 0.
    """
    view, at = panel_predictions.view(perturbation), example.index
    probabilities = np.zeros(len(example.classes))
    probabilities[view.likeliest[at]] = view.shares[at]
    predicted = example.classes[view.likeliest[at, 0]]
    answer = Answer(at, example.true, predicted, float(view.shares[at, 0]), tuple(probabilities.tolist()))
    return replace(example, reference=(panel_predictions.reference_models, answer))


def telling_tiles(session: StressSession, predictions: Predictions, kind: FailureKind) -> tuple[list[Tile], int]:
    """Return the candidate's most telling failures of a kind, new ones first, then by confidence, and their number.

    The predictions are the candidate's.
    """
    failures = most_confident(predictions, kind.among(predictions))
    if not len(failures):
        return [], 0
    other = held_against(session)
    positions, new = _new_first(other, predictions.images, failures, predictions.perturbation)
    positions = positions[:TILES]
    pixels = _pixels(_taken(predictions.images, positions), predictions.perturbation)
    answers = answers_at(predictions, positions)
    against = other.role if other else ""
    tiles = [
        Tile(_picture(image), answer, None if new is None else bool(fresh), against)
        for image, answer, fresh in zip(pixels, answers, new if new is not None else [None] * TILES, strict=False)
    ]
    return tiles, len(failures)


def _new_first(
    other: RoleModel | None, images: LabelledImages, positions: np.ndarray, perturbation: Perturbation
) -> tuple[np.ndarray, np.ndarray | None]:
    """Put those positions first whose images the other model predicts correctly; also return which, if there is one."""
    if other is None or not len(positions):
        return positions, None
    right = other.predict(_taken(images, positions), perturbation).correct
    order = np.argsort(~right, kind="stable")
    return positions[order], right[order]


def _smallest_flips(
    session: StressSession, found: FirstFailures, positions: np.ndarray
) -> list[tuple[int, Perturbation]]:
    """Return the positions that lose their correct prediction at the smallest of the poses, each with that pose.

    The smallest pose comes first. If no clean prediction is correct, the poses found stand.
    """
    from harness.inference.search import first_failures
    from harness.perturb.grids import most_dangerous_first

    if not len(positions):
        return []
    classifier, images = session.roles["candidate"].classifier, _taken(found.images, positions)
    right = positions[classifier.predict(images).correct]
    if not len(right):
        return [(int(position), found.perturbation_of(int(position))) for position in positions]
    poses = tuple(reversed(most_dangerous_first(found.poses)))
    first = first_failures(classifier, _taken(found.images, right), poses).first
    return [(int(right[at]), poses[first[at]]) for at in np.argsort(first, kind="stable") if first[at] >= 0]


def examples_of(
    candidate: RoleModel,
    other: RoleModel | None,
    images: LabelledImages,
    perturbation: Perturbation = IDENTITY,
    *,
    at_rest: Sequence[Answer] | None = None,
) -> list[Example]:
    """Return each of the images, under the perturbation, as the candidate and the other model, if there is one, see it.

    `at_rest` has the candidate's predictions for the clean images; without them, the candidate is asked.
    """
    candidates = _views(candidate, images, perturbation)
    others: Sequence[ModelView | None] = _views(other, images, perturbation) if other else [None] * len(images)
    seen, moved = _pixels(images, perturbation), perturbation != IDENTITY
    at_rest = (at_rest or _at_rest(candidate, images)) if moved else ()
    return [
        Example(
            index=candidates[at].answer.index,
            original=_picture(images.pixels[at]),
            seen=_picture(seen[at]),
            true=candidates[at].answer.true,
            classes=images.classes,
            candidate=candidates[at],
            other=others[at],
            pose=in_words(perturbation) if moved else "",
            at_rest=at_rest[at] if moved else None,
            name=candidate.role,
            against=other.role if other else "",
        )
        for at in range(len(images))
    ]


def _views(model: RoleModel, images: LabelledImages, perturbation: Perturbation) -> list[ModelView]:
    """Return the images as a model sees them, without attention where the model has no layer to look at."""
    try:
        attention = model.attend(images, perturbation)
    except NotApplicableError:
        answers = answers_at(model.predict(images, perturbation), np.arange(len(images)))
        return [ModelView(answer) for answer in answers]
    answers, maps = answers_at(attention.predictions, np.arange(len(images))), attention.upsampled()
    return [ModelView(answer, looked) for answer, looked in zip(answers, maps, strict=True)]


def _at_rest(model: RoleModel, images: LabelledImages) -> list[Answer]:
    return [view.answer for view in _views(model, images, IDENTITY)]


def _taken(images: LabelledImages, positions: Sequence[int] | np.ndarray) -> LabelledImages:
    import torch

    return images.take(torch.as_tensor(positions))


def _pixels(images: LabelledImages, perturbation: Perturbation) -> Tensor:
    """Return the images under the perturbation, (N, C, H, W) uint8."""
    import torch

    from harness.data.images import unit_range

    return perturbation(unit_range(images.pixels)).mul(255).round().clamp(0, 255).to(torch.uint8)


def _picture(image: Tensor) -> np.ndarray:
    return np.asarray(image.permute(1, 2, 0).numpy())


PICTURED = 48
"""Images of a kind that a report shows small pictures of, at most."""


def spoken_of(overview: Overview) -> list[int]:
    """Return the numbers of the images that a report shows: errors, changed and persistent ones, suspected labels."""
    numbers: list[int] = []
    if changes := overview.changes:
        numbers += [each.candidate.index for each in (*changes.new_failures, *changes.fixed_failures)]
    if persistent := overview.models[0].persistent:
        numbers += [row.index for row in persistent.by_confidence()[:PICTURED]]
    numbers += [each.index for each in overview.mistakes]
    if label_errors := overview.label_errors:
        numbers += [row.index for row in label_errors.rows[:PICTURED]]
    return numbers


def thumbnails_of(images: LabelledImages, numbers: Iterable[int]) -> dict[int | str, np.ndarray]:
    """Return the images of these numbers, each (H, W, C) uint8; numbers that the images have not are left out."""
    import torch

    known = images.positions.numpy()
    at = np.flatnonzero(np.isin(known, np.fromiter(set(numbers), dtype=np.int64)))
    pixels = images.take(torch.from_numpy(at)).pixels[:].permute(0, 2, 3, 1).numpy()
    return dict(zip(known[at].tolist(), pixels, strict=True))
