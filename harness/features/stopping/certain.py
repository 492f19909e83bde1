"""The search for a certain failure: accuracy checks ask for the hardest images first.

This is curtailment, as in sampling inspection: a failure is certain once the errors so far are more
than the threshold allows among all images. No statistics are involved, so a whole run gives the
check the same status.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from harness.base.errors import InputError, NotApplicableError, foreign_code
from harness.base.progress import Progress
from harness.checks.roles import INCUMBENT, ROLES
from harness.data import sample_up_to
from harness.inference.predictors.answers import other_order
from harness.measures.accuracy import ACCURACY
from harness.perturb import IDENTITY
from harness.run.time_limit import time_limit

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.checks import Check
    from harness.perturb import Pose
    from harness.run.request import RunRequest
    from harness.run.session import StressSession

FAMILIES = frozenset({"clean", "rotation", "shift", "pose"})
"""Families whose checks of accuracy ask for all images of the run in the pose of the check."""
LEAST = 32
"""Least number of images that are asked for at a time: a request to a server has as many."""
FEW = 100
"""Least number of images whose share of errors decides whether to go on."""
_ORDERED = 500
"""Least number of clean images that show the order of the candidate's classes."""
_OF_A_CLASS = 50
"""Number of these images for each class, if that makes more."""


def certain_failure(session: StressSession, request: RunRequest) -> tuple[str, list[int]] | None:
    """Return the id of a check that fails for certain, and the positions of images that prove it.

    Checks of the candidate that allow the fewest errors are tried first.

    Returns:
        None if no failure is certain, for recorded predictions, which cost nothing, and for scores
        of images. None also for a run that may be inconclusive: the candidate's classes seem to
        have another order, or the baseline may fail its check.

    Raises:
        InputError: The run takes samples of images, or the model fails.
    """
    if not request.stop or request.record is not None or request.answers is not None:
        return None
    provides = session.roles["candidate"].provides
    if not provides.live or provides.scored:
        return None
    if session.share != 1 or request.budget is not None:
        raise InputError(
            "needs all images that the checks are made for; leave out samples and budget",
            setting="stop",
        )
    if not _preconditions_hold(session, request):
        return None

    checks = [check for check in session.checks.checks if _can_stop(check, session)]
    checks.sort(key=_threshold, reverse=True)
    for check in Progress(checks, desc="looking for a certain failure", unit="check", delay=2):
        with time_limit(request.timeout_seconds, check.id), foreign_code():
            positions = _proof_of_failure(check, session)
            if positions is None:
                continue
            if _has_other_order(session):
                return None
            return check.id, positions
    return None


def _preconditions_hold(session: StressSession, request: RunRequest) -> bool:
    """Return whether no check of another model can make the run inconclusive."""
    preconditions = [check for check in session.checks.checks if ROLES[check.role].precondition]
    with time_limit(request.timeout_seconds, "the baseline"), foreign_code():
        return all(_holds(check, session) for check in preconditions)


def _proof_of_failure(check: Check, session: StressSession) -> list[int] | None:
    """Return positions of images on which the candidate has more errors than a check allows."""
    order = hardest_first(session, check.pose)
    correct = partial(_correct, session, check, order)
    count = images_until_failure(correct, len(order), least=_threshold(check))
    if count is None:
        return None
    return [int(position) for position in order[:count]]


def _correct(session: StressSession, check: Check, order: np.ndarray, part: slice) -> np.ndarray:
    """Return whether each image in this part of an order is predicted correctly, (M,) bool."""
    images = session.images.take(torch.from_numpy(order[part]))
    classifier = session.roles["candidate"].classifier
    return classifier.predict(images, check.pose, keep=False).correct


def _has_other_order(session: StressSession) -> bool:
    """Return whether the candidate's classes seem to have another order than the images'."""
    count = max(_ORDERED, _OF_A_CLASS * len(session.images.classes))
    sample = sample_up_to(session.images, count)
    return other_order(session.roles["candidate"].predict(sample)) is not None


def images_until_failure(
    correct: Callable[[slice], np.ndarray], images: int, *, least: float
) -> int | None:
    """Return how many images, in their order, prove that less than `least` of all are correct.

    Args:
        correct: Returns for a part of the order whether each image is correct, (M,) bool. It is
            called for as few images as can decide.
        images: Number of images in the order.
        least: The threshold of the accuracy, in [0, 1].

    Returns:
        None where no failure is certain: all images are asked for, or the others are likely to have
        too few errors.
    """
    # The same division as a run's, so that rounding decides alike.
    passing_counts = np.arange(images + 1) / images >= least
    allowed = int(passing_counts.sum()) - 1

    wrong = np.empty(0, dtype=bool)
    while len(wrong) < images:
        step = max(allowed + 1 - int(wrong.sum()), LEAST)
        end = min(len(wrong) + step, images)
        wrong = np.concatenate([wrong, ~correct(slice(len(wrong), end))])
        if wrong.sum() > allowed:
            return len(wrong)

        # The order is from hard to easy, so the last images stand best for the others.
        last = wrong[-max(len(wrong) // 4, FEW) :]
        expected_errors = wrong.sum() + (images - len(wrong)) * last.mean()
        if expected_errors <= allowed:
            return None
    return None


def hardest_first(session: StressSession, pose: Pose) -> np.ndarray:
    """Return the positions of the images, (N,) int64, the hardest first.

    These are the images that most reference models predict wrongly in this pose, or else without
    it. Without panel predictions, they are those to whose class the incumbent, a network, gives the
    least probability. Without an incumbent, the order is random.
    """
    images = session.images
    panel = session.panel_predictions
    for view in (pose, IDENTITY):
        if panel is None or repr(view) not in panel.views:
            continue
        # The panel's predictions may be of other images, or of the candidate alone.
        with suppress(NotApplicableError):
            errors = panel.clean(images, view).wrong.astype(np.int64)
            return np.argsort(-errors, kind="stable")

    incumbent = session.roles.get(INCUMBENT)
    if incumbent is not None and incumbent.provides.network:
        rows = np.arange(len(images))
        of_label = incumbent.predict(images).probabilities[rows, images.labels.numpy()]
        return np.argsort(of_label, kind="stable")
    return np.random.default_rng(0).permutation(len(images))


def _can_stop(check: Check, session: StressSession) -> bool:
    """Return whether a check compares the accuracy over all images with a plain threshold."""
    if check.role != "candidate" or check.family not in FAMILIES or check.binding is None:
        return False
    # A test of the user's may take fewer images than the threshold is for.
    return check.binding.n == len(session.images) and _is_plain(check, session)


def _holds(check: Check, session: StressSession) -> bool:
    """Return whether a model in another role certainly has the accuracy that its check wants."""
    if check.binding is None:
        return True
    if check.role not in session.roles or check.family != "baseline":
        return False
    if not _is_plain(check, session):
        return False
    accuracy = session.roles[check.role].predict(session.images).correct.mean()
    return bool(accuracy >= _threshold(check))


def _is_plain(check: Check, session: StressSession) -> bool:
    """Return whether a check compares the accuracy with its threshold, and nothing else."""
    threshold = check.binding
    if check.metric != ACCURACY.name or threshold is None:
        return False
    # The tests of these two families take clean images.
    if check.pose != IDENTITY and check.family in {"clean", "baseline"}:
        return False
    if threshold.n not in {None, len(session.images)} or threshold.sample:
        return False
    if (check.tolerance, check.significance, check.class_name) != (None, None, None):
        return False
    has_keys = any(value is not None for value in check.keys.values())
    return not has_keys and session.of_check(check) is session


def _threshold(check: Check) -> float:
    assert check.binding is not None
    return check.binding.threshold
