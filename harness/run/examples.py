"""Images to show.

Those behind a verdict as the models see them, and small ones of all images that a report names.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from harness.base.errors import NotApplicableError
from harness.checks.check import NAMED
from harness.data.images import unit_range
from harness.measures import ACCURACY_GAIN, OF_ORIGINAL
from harness.measures.failures import Answer, answers_at
from harness.measures.selection import likely_most_confident, most_confident
from harness.perturb import IDENTITY, in_words
from harness.perturb.grids import most_dangerous_first
from harness.perturb.poses import within_border

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.checks import Verdict
    from harness.data import LabelledImages
    from harness.inference import Predictions, RoleModel
    from harness.inference.search import FirstFailures
    from harness.measures.failures import FailureKind
    from harness.perturb import Perturbation
    from harness.run.overview import Overview
    from harness.run.session import StressSession

SHOWN, TILES, PICTURED = 3, 12, 48
"""Images that a test shows in pictures of their own, those in a gallery, and small ones of a kind
in a report.
"""
_SEARCHED = 12
"""Images of a failed search that are searched again for the smallest pose that flips them."""


@dataclass(frozen=True, eq=False)
class ModelView:
    """One image as a model sees it.

    Its prediction, and its Grad-CAM map, (H, W) float32, at least 0.

    `attention` is None for a model without a layer to look at.
    """

    answer: Answer
    attention: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Example:
    """One image as two models see it, the candidate and the one compared with it.

    `original` and `seen` are (H, W, C) uint8. `pose` describes how `seen` was made of the original;
    it is empty when they are the same. `at_rest` is the prediction for the original. `other` is
    None without another model; `name` and `against` are the names of the two. An example of the
    consensus set has a `reference`: the number of reference models and their mean prediction.
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
    """A failure in a gallery.

    The image as seen, (H, W, C) uint8, and whether it is new, if there is another model.

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


def telling_examples(
    session: StressSession, verdict: Verdict, seen: PerturbedImages
) -> list[Example]:
    """Return the most telling failures that the verdict names.

    They are as the candidate and the compared model see them. For a search, they are those that
    flip at the smallest pose, each in that pose. For one perturbation of all images, new failures,
    which the other model predicts correctly, come before shared ones. Otherwise the verdict's order
    holds. Images of the consensus set are compared with the mean prediction of the reference
    models, unless the candidate is one of them.
    """
    from harness.inference import Predictions
    from harness.inference.search import FirstFailures

    candidate, other = session.roles["candidate"], held_against(session, verdict.metric)
    named = np.array(verdict.failures, dtype=np.int64)
    if isinstance(seen, FirstFailures):
        chosen = _smallest_flips(candidate, seen, named[:_SEARCHED])
    elif isinstance(seen, Predictions):
        if not len(named):
            # A test of failures by a pose has none at a pose that breaks nothing: then show any
            # wrong prediction.
            named = likely_most_confident(seen, ~seen.correct)[:NAMED]
        positions, _ = _new_first(other, seen.images, named, seen.perturbation)
        chosen = [(int(at), seen.perturbation) for at in positions]
    else:
        chosen = [(int(at), seen.perturbation_of(int(at))) for at in named]
    panel = session.panel_predictions if getattr(seen, "on_consensus_set", False) else None
    panel = (
        None if panel is not None and panel.excluded is not None else panel
    )  # Its own is part of their mean.
    groups: dict[str, list[int]] = {}
    chosen = chosen[:SHOWN]
    for position, perturbation in chosen:  # Each call costs a whole batch.
        groups.setdefault(repr(perturbation), []).append(position)
    poses = {repr(perturbation): perturbation for _, perturbation in chosen}
    examples: dict[int, Example] = {}
    for name, group in groups.items():
        shown = examples_of(
            candidate, None if panel else other, _taken(seen.images, group), poses[name]
        )
        for position, example in zip(group, shown, strict=True):
            examples[position] = example
            if panel is not None:  # All of them predict an image of the consensus set correctly.
                view, at = panel.view(poses[name]), example.index
                probabilities = np.zeros(
                    len(example.classes)
                )  # Those of the likeliest classes, which pictures show.
                probabilities[view.likeliest[at]] = view.shares[at]
                mean = (
                    example.classes[view.likeliest[at, 0]],
                    float(view.shares[at, 0]),
                    tuple(probabilities.tolist()),
                )
                reference = panel.reference_models, Answer(at, example.true, *mean)
                examples[position] = replace(example, reference=reference)
    return [examples[position] for position, _ in chosen]


def held_against(session: StressSession, metric: str = "") -> RoleModel | None:
    """Return the model to show beside the candidate.

    The incumbent if that is another network, or the baseline.

    A gain over the baseline is shown beside the baseline, and a change since the original beside
    that. None where there is no other network.
    """
    candidate = session.roles["candidate"]
    roles = ["baseline", "incumbent"] if metric == ACCURACY_GAIN.name else ["incumbent", "baseline"]
    roles = ["original"] if metric in OF_ORIGINAL else roles
    others = [session.roles[role] for role in roles if role in session.roles]
    return next((other for other in others if other.model_sha256 != candidate.model_sha256), None)


def telling_tiles(
    session: StressSession, predictions: Predictions, kind: FailureKind
) -> tuple[list[Tile], int]:
    """Return the candidate's most telling failures of a kind, and their number.

    New ones come first, then the most confident. The predictions are the candidate's.
    """
    failures, other = most_confident(predictions, kind.among(predictions)), held_against(session)
    positions, new = _new_first(other, predictions.images, failures, predictions.perturbation)
    positions, fresh = positions[:TILES], [None] * TILES if new is None else new[:TILES].tolist()
    if not len(positions):
        return [], 0
    pixels = _pixels(_taken(predictions.images, positions), predictions.perturbation)
    answers, against = answers_at(predictions, positions), other.role if other else ""
    return [Tile(*each, against) for each in zip(pixels, answers, fresh, strict=False)], len(
        failures
    )


def _new_first(
    other: RoleModel | None,
    images: LabelledImages,
    positions: np.ndarray,
    perturbation: Perturbation,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Put those positions first whose images the other model predicts correctly.

    Also return which, if there is one.
    """
    if other is None or not len(positions):
        return positions, None
    right = other.predict(_taken(images, positions), perturbation).correct
    order = np.argsort(~right, kind="stable")
    return positions[order], right[order]


def _smallest_flips(
    candidate: RoleModel, found: FirstFailures, positions: np.ndarray
) -> list[tuple[int, Perturbation]]:
    """Return the positions that lose their correct prediction at the smallest of the poses.

    Each has that pose. The smallest pose comes first. If no clean prediction is correct, the poses
    found stand.
    """
    from harness.inference.search import first_failures

    if not len(positions):
        return []
    right = positions[candidate.classifier.predict(_taken(found.images, positions)).correct]
    if not len(right):
        return [(int(position), found.perturbation_of(int(position))) for position in positions]
    poses = tuple(reversed(most_dangerous_first(found.poses)))
    first = first_failures(candidate.classifier, _taken(found.images, right), poses).first
    return [
        (int(right[at]), poses[first[at]])
        for at in np.argsort(first, kind="stable")
        if first[at] >= 0
    ]


def examples_of(
    candidate: RoleModel,
    other: RoleModel | None,
    images: LabelledImages,
    perturbation: Perturbation = IDENTITY,
) -> list[Example]:
    """Return each image, under the perturbation, as the models see it.

    These are the candidate and the other model, if any.
    """
    moved, none = perturbation != IDENTITY, [None] * len(images)
    others = _views(other, images, perturbation) if other else none
    at_rest = _views(candidate, images, IDENTITY) if moved else none
    pixels = zip(_pixels(images), _pixels(images, perturbation), strict=True)
    views = zip(_views(candidate, images, perturbation), others, at_rest, pixels, strict=True)
    return [
        Example(
            index=view.answer.index,
            original=original,
            seen=seen,
            true=view.answer.true,
            classes=images.classes,
            candidate=view,
            other=beside,
            pose=in_words(perturbation) if moved else "",
            at_rest=clean.answer if clean else None,
            name=candidate.role,
            against=other.role if other else "",
        )
        for view, beside, clean, (original, seen) in views
    ]


def _views(model: RoleModel, images: LabelledImages, perturbation: Perturbation) -> list[ModelView]:
    """Return the images as a model sees them.

    A model without a layer to look at has no attention.
    """
    maps: Iterable[np.ndarray | None] = [None] * len(images)
    try:
        attention = model.attend(images, perturbation)
        predictions, maps = attention.predictions, attention.upsampled()
    except NotApplicableError:
        predictions = model.predict(images, perturbation)
    return [
        ModelView(*each)
        for each in zip(answers_at(predictions, np.arange(len(images))), maps, strict=True)
    ]


def _taken(images: LabelledImages, positions: Sequence[int] | np.ndarray) -> LabelledImages:
    import torch

    return images.take(torch.as_tensor(positions))


def _pixels(images: LabelledImages, perturbation: Perturbation | None = None) -> list[np.ndarray]:
    """Return the images, each (H, W, C) uint8, under the perturbation if there is one."""
    pixels = images.pixels[:]
    if perturbation is not None:
        seen = within_border(perturbation, images.domain.border)
        pixels = seen(unit_range(images.pixels)).mul(255).round().clamp(0, 255).byte()
    return list(pixels.permute(0, 2, 3, 1).numpy())


def thumbnails_of(images: LabelledImages, overview: Overview) -> dict[str, np.ndarray]:
    """Return the images that a report shows, each (H, W, C) uint8, by number.

    They are those of errors, changed and persistent ones, and suspected labels.
    """
    numbers = [each.index for each in overview.mistakes]
    if changes := overview.changes:
        numbers += [each.candidate.index for each in changes.new_failures]
    if persistent := overview.models[0].persistent:
        numbers += [row.index for row in persistent.by_confidence()[:PICTURED]]
    if label_errors := overview.label_errors:
        numbers += [row.index for row in label_errors.rows[:PICTURED]]
    known = images.positions.numpy()
    at = np.flatnonzero(np.isin(known, np.fromiter(set(numbers), dtype=np.int64)))
    return dict(zip(map(str, known[at].tolist()), _pixels(_taken(images, at)), strict=True))
