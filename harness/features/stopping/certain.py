"""The search for a certain failure: checks of accuracy ask for the hardest images first, and as few as can decide.

This is curtailment, as in sampling inspection: a failure is certain once the errors so far are more than the threshold
allows among all images. No statistics are involved, so a whole run gives the check the same status.
"""

from __future__ import annotations

from contextlib import suppress
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
"""Least number of images whose share of errors says whether to go on."""
_ORDERED, _OF_A_CLASS = 500, 50
"""Numbers of clean images, in all and for each class, that show the order of the candidate's classes."""


def certain_failure(session: StressSession, request: RunRequest) -> tuple[str, list[int]] | None:
    """Return a check of the candidate that fails for certain, by its id, and the positions of the images that show it.

    Checks that allow the fewest errors are tried first. None if no failure is certain, for recorded predictions,
    which cost nothing, and for scores of images. Nor does a run stop that may be inconclusive, since the candidate's classes seem to have another
    order or the baseline may fail its check. Raises `InputError` for a run of samples, and where the model fails.
    """
    if not request.stop or request.record is not None or request.answers is not None:
        return None
    candidate = session.roles["candidate"]
    if not candidate.provides.live or candidate.provides.scored:
        return None
    if session.share != 1 or request.budget is not None:
        raise InputError(
            "needs all images that the checks are made for; leave out samples and budget",
            setting="stop",
        )
    preconditions = [each for each in session.checks.checks if ROLES[each.role].precondition]
    with time_limit(request.timeout_seconds, "the baseline"), foreign_code():
        if not all(_holds(each, session) for each in preconditions):
            return None
    checks = sorted(
        (each for each in session.checks.checks if _can_stop(each, session)),
        key=_least,
        reverse=True,
    )
    for check in Progress(checks, desc="looking for a certain failure", unit="check", delay=2):
        with time_limit(request.timeout_seconds, check.id), foreign_code():
            order = hardest_first(session, check.pose)

            def correct(part: slice, check: Check = check, order: np.ndarray = order) -> np.ndarray:
                images = session.images.take(torch.from_numpy(order[part]))
                return candidate.classifier.predict(images, check.pose, keep=False).correct

            if (
                asked := images_until_failure(correct, len(order), least=_least(check))
            ) is not None:
                some = sample_up_to(
                    session.images, max(_ORDERED, _OF_A_CLASS * len(session.images.classes))
                )
                if other_order(candidate.predict(some)) is not None:
                    return None
                return check.id, order[:asked].tolist()
    return None


def images_until_failure(
    correct: Callable[[slice], np.ndarray], images: int, *, least: float
) -> int | None:
    """Return how many of the images, in their order, make sure that less than `least` of all are correct.

    `correct` returns for some of them whether each is correct, (M,) bool. It is called for as few as can decide. None
    where no failure is certain: all images are asked, or the others are likely to have too few errors. Their share of
    errors is taken to be that of the last quarter of those asked, of `FEW` at least.
    """
    allowed = int((np.arange(images + 1) / images >= least).sum()) - 1  # As a run divides.
    wrong = np.empty(0, dtype=bool)
    while (asked := len(wrong)) < images:
        more = max(allowed + 1 - int(wrong.sum()), LEAST)
        wrong = np.concatenate([wrong, ~correct(slice(asked, min(asked + more, images)))])
        if wrong.sum() > allowed:
            return len(wrong)
        if (
            wrong.sum() + (images - len(wrong)) * wrong[-max(len(wrong) // 4, FEW) :].mean()
            <= allowed
        ):
            break
    return None


def hardest_first(session: StressSession, pose: Pose) -> np.ndarray:
    """Return the positions of the images, (N,) int64, those that most reference models err on first.

    Their predictions in this pose count, or else of clean images. Without panel predictions, those images are first to
    which the incumbent, a network, gives the least probability of their class. Without it, the order is random.
    """
    images, panel, incumbent = (
        session.images,
        session.panel_predictions,
        session.roles.get(INCUMBENT),
    )
    for view in (pose, IDENTITY):
        with suppress(
            NotApplicableError
        ):  # Its predictions are of other images, or of the candidate alone.
            if panel is not None and repr(view) in panel.views:
                return np.argsort(-panel.clean(images, view).wrong.astype(np.int64), kind="stable")
    if incumbent is not None and incumbent.provides.network:
        probabilities = incumbent.predict(images).probabilities
        return np.argsort(
            probabilities[np.arange(len(images)), images.labels.numpy()], kind="stable"
        )
    return np.random.default_rng(0).permutation(len(images))


def _can_stop(check: Check, session: StressSession) -> bool:
    """Return whether a check compares the accuracy over all images of the run with a plain threshold."""
    threshold = check.binding  # A test of the user's may take fewer images than the threshold says.
    whole = threshold is not None and threshold.n == len(session.images)
    return (
        check.role == "candidate"
        and check.family in FAMILIES
        and whole
        and _is_plain(check, session)
    )


def _holds(check: Check, session: StressSession) -> bool:
    """Return whether a model in another role certainly has the accuracy that its check wants."""
    if check.binding is None:
        return True
    if (
        check.role not in session.roles
        or check.family != "baseline"
        or not _is_plain(check, session)
    ):
        return False
    return bool(session.roles[check.role].predict(session.images).correct.mean() >= _least(check))


def _is_plain(check: Check, session: StressSession) -> bool:
    threshold = check.binding
    return (
        check.metric == ACCURACY.name
        and (
            check.pose == IDENTITY or check.family not in {"clean", "baseline"}
        )  # Their tests take clean images.
        and threshold is not None
        and threshold.n in {None, len(session.images)}
        and not threshold.sample
        and (check.tolerance, check.significance, check.class_name) == (None, None, None)
        and not any(value is not None for value in check.keys.values())
        and session.of_check(check) is session
    )


def _least(check: Check) -> float:
    assert check.binding is not None
    return check.binding.threshold
