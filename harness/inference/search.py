"""Search of poses: the first pose of a sequence at which each image fails, found exactly and with early exit."""

from __future__ import annotations

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
"""Evaluations between two updates of the broken images; fixed, so any number of cores does the same work."""


@dataclass(frozen=True, eq=False)
class FirstFailures:
    """The first failure of each of N images: its position in `poses`, -1 if the image is correct at all."""

    images: LabelledImages
    poses: tuple[Pose, ...]
    first: np.ndarray

    def perturbation_of(self, position: int) -> Pose:
        """Return the pose at which the image at this position fails first; the identity if it never fails."""
        first = int(self.first[position])
        return self.poses[first] if first >= 0 else Pose()

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

    A broken image is not evaluated again, so the order determines the cost, but not the surviving images. The result
    equals that of evaluating every image at every pose. `on_evaluated` is called with the number of poses done.
    """
    if not poses:
        raise InputError("first failures: the sequence of poses is empty")
    poses = _within_borders(poses, images)

    def compute() -> np.ndarray:
        first, alive, done = np.full(len(images), -1, dtype=np.int64), np.arange(len(images)), 0
        while done < len(poses) and len(alive):
            wave = np.arange(done, min(len(poses), done + -(-_WAVE // len(alive))))
            chosen, which = np.tile(alive, len(wave)), np.repeat(wave, len(alive))
            wrong = (
                classifier.predict_pairs(images, chosen, poses, which)
                != images.labels.numpy()[chosen]
            )
            # Assignment in reverse order keeps the first failure.
            first[chosen[wrong][::-1]] = which[wrong][::-1]
            alive, done = alive[first[alive] < 0], done + len(wave)
            if on_evaluated:
                on_evaluated(done)
        return first

    first = classifier.cached(("first failures", poses), images, (len(images),), compute)
    return FirstFailures(images, poses, first.astype(np.int64))


def _within_borders(poses: Iterable[Pose], images: LabelledImages) -> tuple[Pose, ...]:
    """Return poses of these images, with their border."""
    bordered = (within_border(pose, images.domain.border) for pose in poses)
    return tuple(pose for pose in bordered if isinstance(pose, Pose))


def changes(
    classifier: Classifier, images: LabelledImages, within: Pose, *, seed: int
) -> FirstFailures:
    """Draw poses within ± each axis of `within` by Hypothesis, and find the first change of each prediction.

    Hypothesis targets poses that change many predictions, and draws `max_examples` of its current profile. The result
    has the drawn poses in their order.
    """
    import hypothesis

    from harness.perturb.strategies import poses as poses_within

    expect_live(classifier)
    clean = classifier.predict(images).predicted
    first = np.full(len(images), -1, dtype=np.int64)
    drawn: dict[Pose, int] = {}

    # Whatever the profile says, a model may be slow, and examples of an earlier search must not come first.
    @hypothesis.settings(deadline=None, database=None)
    @hypothesis.seed(seed)
    @hypothesis.given(
        poses_within(max_degrees=within.degrees, max_shift_px=max(within.dx, within.dy))
    )
    def explore(pose: Pose) -> None:
        number = drawn.setdefault(pose.clamped(within), len(drawn))
        changed = classifier.predict(images, pose.clamped(within)).predicted != clean
        first[changed & (first < 0)] = number
        hypothesis.target(float(changed.sum()))

    explore()
    return FirstFailures(images, _within_borders(drawn, images), first)


def expect_live(classifier: Classifier) -> None:
    """Raise `NotApplicableError` for recorded predictions, since drawn poses depend on earlier predictions."""
    if not classifier.provides.live:
        raise NotApplicableError(
            "recorded predictions do not cover poses that Hypothesis draws during the run"
        )


def correct_at(
    classifier: Classifier, images: LabelledImages, grid: Sequence[Pose], drawn: np.ndarray
) -> np.ndarray:
    """Return whether each image is correct at each of its own poses, (N, count) bool; `drawn` as of `random_poses`."""
    count, poses = drawn.shape[1], _within_borders(grid, images)

    def compute() -> np.ndarray:
        chosen = np.repeat(np.arange(len(images)), count)
        order = np.argsort(
            drawn.ravel(), kind="stable"
        )  # Sorted by pose, so a batch has few different poses.
        predicted = np.empty(drawn.size, dtype=np.int64)
        predicted[order] = classifier.predict_pairs(
            images, chosen[order], poses, drawn.ravel()[order]
        )
        return np.asarray(predicted.reshape(drawn.shape) == images.labels.numpy()[:, None])

    correct = classifier.cached(
        ("correct at", poses, drawn.tobytes()), images, drawn.shape, compute
    )
    return np.asarray(correct.astype(bool))


@dataclass(frozen=True, eq=False)
class Breaking:
    """The least severity of a path at which each clean-correct image is wrong; inf if it is correct at all."""

    path: SeverityPath
    severity: np.ndarray
    images: int
    """Number of images in the search, including those that are wrong without a perturbation."""

    def survival(self) -> tuple[np.ndarray, np.ndarray]:
        """Return severities from 0 on, and the share of the images that are correct at all poses up to each."""
        severities = np.array([0.0, *self.path.steps])
        return severities, np.array([(self.severity > severity).mean() for severity in severities])

    def quantile(self, share: float) -> float:
        """Return the severity that breaks this share of the images, interpolated between two steps.

        If fewer break, it is the path's last severity.
        """
        severities, surviving = self.survival()
        reached = np.flatnonzero(surviving <= 1 - share)
        if not len(reached):
            return float(severities[-1])
        after = int(reached[0])
        if after == 0:
            return 0.0
        high, low = surviving[after - 1], surviving[after]
        part = (high - (1 - share)) / (high - low)
        return float(severities[after - 1] + part * (severities[after] - severities[after - 1]))


def breaking(
    classifier: Classifier,
    images: LabelledImages,
    path: SeverityPath,
    *,
    on_evaluated: Callable[[int], object] | None = None,
) -> Breaking:
    """Find the least severity that breaks each image with a correct clean prediction."""
    found = first_failures(classifier, images, (Pose(), *path.poses), on_evaluated=on_evaluated)
    severities = np.array([0.0, *path.severities, np.inf])[found.first]
    return Breaking(path, severities[severities > 0], images=len(images))
