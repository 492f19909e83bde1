"""Searches of poses: the first pose of a sequence at which each image fails.

They are exact, and an image that has failed is not evaluated again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import InputError, NotApplicableError
from harness.perturb import Pose
from harness.perturb.poses import within_border

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from harness.data import LabelledImages
    from harness.inference import Classifier
    from harness.perturb.grids import SeverityPath

_WAVE = 4_000
"""Evaluations between two updates of the failing images.

It is fixed, so that any number of cores evaluates the same images and poses.
"""


@dataclass(frozen=True, eq=False)
class FirstFailures:
    """The first failure of each of N images.

    Attributes:
        images: the N images.
        poses: the poses of the search, in their order.
        first: positions in `poses`, (N,) int64; -1 for an image that is correct in all of them.
    """

    images: LabelledImages
    poses: tuple[Pose, ...]
    first: np.ndarray

    def perturbation_of(self, position: int) -> Pose:
        """Return the pose at which an image fails first; the identity if it never fails."""
        first = int(self.first[position])
        if first < 0:
            return Pose()
        return self.poses[first]

    @property
    def right_everywhere(self) -> np.ndarray:
        """Return whether each image is correct in all poses, (N,) bool."""
        return np.asarray(self.first < 0)


def first_failures(
    classifier: Classifier,
    images: LabelledImages,
    poses: Sequence[Pose],
    *,
    on_evaluated: Callable[[int], object] | None = None,
) -> FirstFailures:
    """Evaluate the poses in order and find the first failure of each image.

    The result equals that of evaluating every image at every pose. The order of the poses
    determines the cost, because an image that has failed is not evaluated again.

    Args:
        classifier: the model.
        images: the N images.
        poses: the poses, at least one.
        on_evaluated: called with the number of poses that are done.

    Raises:
        InputError: without poses.
    """
    if not poses:
        raise InputError("first failures: the sequence of poses is empty")
    bordered = _within_borders(poses, images)

    def compute() -> np.ndarray:
        return _first_failures(classifier, images, bordered, on_evaluated)

    first = classifier.cached(("first failures", bordered), images, (len(images),), compute)
    return FirstFailures(images, bordered, first.astype(np.int64))


def _first_failures(
    classifier: Classifier,
    images: LabelledImages,
    poses: tuple[Pose, ...],
    on_evaluated: Callable[[int], object] | None,
) -> np.ndarray:
    labels = images.labels.numpy()
    first = np.full(len(images), -1, dtype=np.int64)
    correct_so_far = np.arange(len(images))
    done = 0
    while done < len(poses) and len(correct_so_far):
        poses_in_wave = math.ceil(_WAVE / len(correct_so_far))
        wave = np.arange(done, min(len(poses), done + poses_in_wave))
        image_rows = np.tile(correct_so_far, len(wave))
        pose_numbers = np.repeat(wave, len(correct_so_far))
        predicted = classifier.predict_pairs(images, image_rows, poses, pose_numbers)

        failing = predicted != labels[image_rows]
        # Of several assignments to one image the last one stays, so the first failure comes last.
        first[image_rows[failing][::-1]] = pose_numbers[failing][::-1]
        correct_so_far = correct_so_far[first[correct_so_far] < 0]
        done += len(wave)
        if on_evaluated:
            on_evaluated(done)
    return first


def _within_borders(poses: Iterable[Pose], images: LabelledImages) -> tuple[Pose, ...]:
    """Return poses of these images, with the border that the data declare."""
    bordered = [within_border(pose, images.domain.border) for pose in poses]
    return tuple(pose for pose in bordered if isinstance(pose, Pose))


def changes(
    classifier: Classifier, images: LabelledImages, within: Pose, *, seed: int
) -> FirstFailures:
    """Draw poses by Hypothesis, and find the first pose that changes each prediction.

    Hypothesis aims at poses that change many predictions.

    Args:
        classifier: a model that predicts any images, not a recording.
        images: the N images.
        within: the largest degrees and pixels to either side.
        seed: seed of the draws, whose number is `max_examples` of the current profile.

    Returns:
        The drawn poses in their order, and for each image the first that changes its prediction.

    Raises:
        NotApplicableError: for recorded predictions.
    """
    import hypothesis

    from harness.perturb.strategies import poses as poses_within

    expect_live(classifier)
    clean = classifier.predict(images).predicted
    first = np.full(len(images), -1, dtype=np.int64)
    drawn: dict[Pose, int] = {}

    # Whatever the profile says: a model may be slow, and examples that Hypothesis has stored from
    # an earlier search must not come first, because they would change the draws.
    @hypothesis.settings(deadline=None, database=None)
    @hypothesis.seed(seed)
    @hypothesis.given(
        poses_within(max_degrees=within.degrees, max_shift_px=max(within.dx, within.dy))
    )
    def explore(pose: Pose) -> None:
        clamped = pose.clamped(within)
        number = drawn.setdefault(clamped, len(drawn))
        changed = classifier.predict(images, clamped).predicted != clean
        first[changed & (first < 0)] = number
        hypothesis.target(float(changed.sum()))

    explore()
    return FirstFailures(images, _within_borders(drawn, images), first)


def expect_live(classifier: Classifier) -> None:
    """Raise `NotApplicableError` for recorded predictions.

    They cannot have the predictions for poses that are drawn during the run.
    """
    if not classifier.provides.live:
        raise NotApplicableError(
            "recorded predictions do not cover poses that Hypothesis draws during the run"
        )


def correct_at(
    classifier: Classifier, images: LabelledImages, grid: Sequence[Pose], drawn: np.ndarray
) -> np.ndarray:
    """Return whether each image is correct at each of its own poses.

    Args:
        classifier: the model.
        images: the N images.
        grid: the poses that can be drawn.
        drawn: positions in `grid` for each image, (N, count), as `random_poses` returns them.

    Returns:
        (N, count) bool.
    """
    count = drawn.shape[1]
    poses = _within_borders(grid, images)

    def compute() -> np.ndarray:
        image_rows = np.repeat(np.arange(len(images)), count)
        pose_numbers = drawn.ravel()
        # Sorted by pose, a batch has few different poses.
        order = np.argsort(pose_numbers, kind="stable")
        predicted = np.empty(drawn.size, dtype=np.int64)
        predicted[order] = classifier.predict_pairs(
            images, image_rows[order], poses, pose_numbers[order]
        )
        return np.asarray(predicted.reshape(drawn.shape) == images.labels.numpy()[:, None])

    cache_key = ("correct at", poses, drawn.tobytes())
    correct = classifier.cached(cache_key, images, drawn.shape, compute)
    return np.asarray(correct.astype(bool))


@dataclass(frozen=True, eq=False)
class Breaking:
    """The least severity of a path at which each image with a correct clean prediction fails.

    Attributes:
        path: the path of poses.
        severity: severities by image, (n,) float64; inf for an image that never fails.
        images: number of images in the search, including those that are wrong when clean.
    """

    path: SeverityPath
    severity: np.ndarray
    images: int

    def survival(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the severities from 0 on, and the share of images that is correct up to each."""
        severities = np.array([0.0, *self.path.steps])
        shares = [(self.severity > severity).mean() for severity in severities]
        return severities, np.array(shares)

    def quantile(self, share: float) -> float:
        """Return the severity at which this share of the images has failed.

        It is interpolated between two steps. If fewer images fail, it is the last severity.
        """
        severities, surviving = self.survival()
        reached = np.flatnonzero(surviving <= 1 - share)
        if not len(reached):
            return float(severities[-1])
        step = int(reached[0])
        if step == 0:
            return 0.0

        share_before, share_after = surviving[step - 1], surviving[step]
        part = (share_before - (1 - share)) / (share_before - share_after)
        return float(severities[step - 1] + part * (severities[step] - severities[step - 1]))


def breaking(
    classifier: Classifier,
    images: LabelledImages,
    path: SeverityPath,
    *,
    on_evaluated: Callable[[int], object] | None = None,
) -> Breaking:
    """Find the least severity at which each image with a correct clean prediction fails.

    Args:
        classifier: the model.
        images: the images.
        path: poses of growing severity.
        on_evaluated: called with the number of poses that are done.
    """
    poses = (Pose(), *path.poses)
    failures = first_failures(classifier, images, poses, on_evaluated=on_evaluated)
    # The position -1 of an image that never fails selects the last severity, inf.
    severities = np.array([0.0, *path.severities, np.inf])[failures.first]
    return Breaking(path, severities[severities > 0], images=len(images))
