"""The least rotation and shift that break a model: of one image, or as a survival curve over all."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from harness.base.errors import InputError
from harness.base.progress import Progress
from harness.data.images import unit_range
from harness.inference.search import Breaking, breaking, first_failures
from harness.measures import breaking_severity
from harness.measures.failures import Answer, answers_at
from harness.perturb import IDENTITY, Pose
from harness.perturb.grids import PATHS, SeverityPath, fine_paths
from harness.run.settings import ModelSettings

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class BreakRequest:
    """A search for the least rotation and shift that break a checkpoint, on one `image` or, with None, on all."""

    checkpoint: Path | str
    image: int | None = None
    model: ModelSettings = field(default_factory=ModelSettings)


@dataclass(frozen=True, eq=False)
class Broken:
    """The first pose of a path at which an image fails, the image there, (H, W, C) uint8, and the prediction."""

    pose: Pose
    pixels: np.ndarray
    answer: Answer


@dataclass(frozen=True, eq=False)
class BrokenImage:
    """One image, (H, W, C) uint8: its clean prediction, and how each path breaks it; None where it does not.

    `by` is empty for an image that is misclassified without any perturbation.
    """

    number: int
    clean: Answer
    pixels: np.ndarray
    by: tuple[tuple[SeverityPath, Broken | None], ...]


@dataclass(frozen=True, eq=False)
class Survival:
    """Survival of N `images`: a curve for each path, and its numbers in plain types by its name."""

    images: int
    curves: tuple[Breaking, ...]
    paths: dict[str, dict[str, Any]]


def break_image(request: BreakRequest) -> BrokenImage:
    """Find how little breaks one image; raises `InputError` for a number that no image has."""
    images, number = request.model.all_images(), request.image
    classifier = request.model.open(request.checkpoint, images).classifier
    if number is None or not 0 <= number < len(images):
        raise InputError(f"--image {number}: the data have images 0 to {len(images) - 1}")
    image = images.take(torch.tensor([number]))

    def asked(pose: Pose) -> Answer:
        return answers_at(classifier.predict(image, pose), np.zeros(1, dtype=np.int64))[0]

    clean, pixels = asked(IDENTITY), image.pixels[0].permute(1, 2, 0).numpy()
    found: list[tuple[SeverityPath, Broken | None]] = []
    for path in fine_paths() if clean.predicted == clean.true else ():
        failure = first_failures(classifier, image, path.poses)
        if failure.right_everywhere[0]:
            found.append((path, None))
            continue
        pose = failure.perturbation_of(0)
        seen = pose(unit_range(image.pixels)).mul(255).round().to(torch.uint8)[0].permute(1, 2, 0).numpy()
        found.append((path, Broken(pose, seen, asked(pose))))
    return BrokenImage(number, clean, pixels, tuple(found))


def survival(request: BreakRequest) -> Survival:
    """Find for each image the least severity of each path that breaks it.

    Raises `InputError` where no clean image is classified correctly.
    """
    images = request.model.images()
    classifier = request.model.open(request.checkpoint, images).classifier
    curves: list[Breaking] = []
    poses = [len(path.poses) + 1 for path in PATHS.values()]
    with Progress(total=sum(poses), unit="pose", desc="turning and moving") as bar:
        for path in PATHS.values():
            done = sum(poses[: len(curves)])
            curves.append(breaking(classifier, images, path, on_evaluated=partial(_advance, bar, done)))
            _advance(bar, done, poses[len(curves) - 1])
    return Survival(len(images), tuple(curves), {curve.path.name: _numbers(curve) for curve in curves})


def _advance(bar: Progress, before: int, poses: int) -> None:
    bar.update(before + poses - bar.n)


def _numbers(curve: Breaking) -> dict[str, Any]:
    return {
        "unit": curve.path.unit,
        "median": breaking_severity(curve, share_broken=0.5).value,
        "decile": breaking_severity(curve, share_broken=0.1).value,
        "held_to_the_limit": float((curve.severity == float("inf")).mean()),
        "survival": {f"{at:g}": float(share) for at, share in zip(*curve.survival(), strict=True)},
    }
