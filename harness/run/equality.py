"""Comparison of an artifact with its original by the rule of equivalence, without a checks file."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.errors import InputError, some_of
from harness.checks.equivalence import OF_A_PART, TOLERANCE, expect_tolerance
from harness.measures.accuracy import ACCURACY, accuracy
from harness.measures.changed_predictions import (
    CORRECT_PREDICTIONS_LOST,
    PREDICTIONS_CHANGED,
    changed,
    class_order,
    correct_predictions_lost,
    order_in_words,
    predictions_changed,
    worst_class_predictions_changed,
    worst_group_predictions_changed,
)
from harness.measures.equivalence import CONFIDENCE, outcomes_of, overall
from harness.perturb import IDENTITY
from harness.run.history import read_history
from harness.run.selfcheck import expect_steady
from harness.run.settings import HISTORY_FILE

if TYPE_CHECKING:
    import numpy as np

    from harness.data import LabelledImages
    from harness.inference import Predictions, RoleModel
    from harness.measures.equivalence import Outcome, Quantity
    from harness.measures.metric import Measurement
    from harness.run.layers import LayerDifferences
    from harness.run.session import StressSession
    from harness.run.settings import ModelSettings

_HINTED = 500
"""Images of the comparison that finds an artifact that normalizes by itself."""


@dataclass(frozen=True, eq=False)
class EqualityCheck:
    """One distance from the original, its tolerance, and their comparison by exact bounds.

    An `implied` check follows from the check of all predictions: no more predictions are lost than change.
    """

    title: str
    measurement: Measurement
    tolerance: float
    outcome: Outcome
    implied: bool = False

    @property
    def quantity(self) -> Quantity:
        """Return the quantity with its bounds."""
        assert self.measurement.quantity is not None
        return self.measurement.quantity

    @property
    def limits(self) -> tuple[float, float]:
        """Return the one-sided bounds of 99% confidence, within the range of the metric."""
        low, high = self.measurement.metric.range
        lower, upper = self.quantity.limits(CONFIDENCE)
        return max(lower, low), min(upper, high)


@dataclass(frozen=True, eq=False)
class Equality:
    """An artifact beside its original on the same images: the checks, all predictions first, and their outcome.

    `caution` says why equality to this original is worth little; empty where nothing is known against it. `layers` says
    where the difference begins, if that was asked for. `hint` names an option that would make the artifact equal.
    """

    images: LabelledImages
    artifact: RoleModel
    original: RoleModel
    predictions: tuple[Predictions, Predictions]
    checks: tuple[EqualityCheck, ...]
    caution: str = ""
    layers: LayerDifferences | None = None
    hint: str = ""

    @property
    def outcome(self) -> Outcome:
        """Return what all checks say together."""
        return overall([check.outcome for check in self.checks])

    @cached_property
    def differ(self) -> np.ndarray:
        """Return the images whose predictions changed, (N,) bool."""
        return changed(*self.predictions)

    @property
    def order(self) -> str:
        """Say which classes have changed places; empty for none."""
        places = class_order(*self.predictions)
        return "" if places is None else order_in_words(places, self.images.classes)


def equal(
    artifact: Path | str,
    original: Path | str,
    model: ModelSettings,
    *,
    tolerance: float = TOLERANCE,
    history: Path = Path("reports", HISTORY_FILE),
    artifact_normalization: str | None = None,
    artifact_outputs: str | None = None,
) -> Equality:
    """Compare an artifact with its original on clean images: two passes, one for each.

    At most the share `tolerance` of predictions, in (0, 1), may change. `artifact_normalization` and `artifact_outputs`
    are those of the artifact, where they are not those of `model`. The normalization "none" leaves its pixels in
    [0, 1]. `history` is the file of earlier runs. Raises `InputError` for a model that is refused, and for a tolerance
    that is no share.
    """
    import torch

    expect_tolerance(tolerance)
    images = model.images()
    first = replace(model.open(original, images), role="original")
    given = {"normalization": artifact_normalization, "model_outputs": artifact_outputs}
    own = model.but(**{name: value for name, value in given.items() if value is not None})
    try:
        second = own.open(artifact, images, others=[first], ordered=False)
    except InputError as error:
        if "model_outputs" not in str(error):
            raise
        message = f"{error.message}; set --artifact-outputs for outputs of the artifact alone"
        raise InputError(message, setting=error.setting, code=error.code) from error
    predictions = second.predict(images), first.predict(images)
    expect_steady([second, first], images)
    checks, hint = equality_checks(*predictions, tolerance), ""
    done = Equality(images, second, first, predictions, checks, _caution(first, images, history))
    # An artifact may normalize by itself: on some images, unchanged pixels then make it equal.
    declared = second.classifier.predictor.declared.get("normalization", "none")
    if done.outcome == "different" and declared != "none" and artifact_normalization is None:
        some = images.take(torch.arange(min(len(images), _HINTED)))
        unchanged = own.but(normalization="none").open(artifact, some, ordered=False)
        count = int(changed(unchanged.predict(some), first.predict(some)).sum())
        if count <= tolerance * len(some):
            hint = (
                f"The artifact normalizes by itself: without the declared normalization, it changes {count} of "
                f"{len(some)} predictions. Add --artifact-normalization none."
            )
    return replace(done, hint=hint)


def equality_in(session: StressSession, history: Path | None) -> Equality:
    """Return the comparison of a run's candidate with its original, on its clean images.

    The tolerance is that of its first check on `predictions_changed`, or the threshold that replaces it. `history` is
    the file of earlier runs. An original that fails checks on clean accuracy itself gives a caution; they cost no
    prediction.
    """
    rows = session.checks.checks
    held = [check.binding.threshold for check in rows if check.metric == PREDICTIONS_CHANGED.name and check.binding]
    tolerance = next((threshold for threshold in held if 0 < threshold < 1), TOLERANCE)
    artifact, original, images = session.roles["candidate"], session.roles["original"], session.images
    predictions = artifact.predict(images), original.predict(images)
    on_clean = [
        session.scaled(check)
        for check in rows
        if check.family in {"clean", "class"} and check.metric == ACCURACY.name and check.pose == IDENTITY
        if check.role == "candidate" and check.binding
    ]
    verdicts = [check.judge(accuracy(predictions[1], of_class=check.class_name)) for check in on_clean]
    if failing := [verdict.check.id for verdict in verdicts if verdict.status == "fail"]:
        caution = f"The original itself fails {some_of(failing)}: equal to it is not fit to ship."
    else:
        caution = "" if history is None else _caution(original, images, history)
    return Equality(images, artifact, original, predictions, equality_checks(*predictions, tolerance), caution)


def equality_checks(artifact: Predictions, original: Predictions, tolerance: float) -> tuple[EqualityCheck, ...]:
    """Return the distances of an artifact from its original with their outcomes, that of all predictions first."""
    of_a_part = max(OF_A_PART, tolerance)
    measured = [
        ("all predictions", predictions_changed(artifact, original), tolerance),
        ("the worst class", worst_class_predictions_changed(artifact, original, tolerance=of_a_part), of_a_part),
        ("correct predictions, net", correct_predictions_lost(artifact, original), tolerance),
    ]
    for column in original.images.groups:
        worst = worst_group_predictions_changed(artifact, original, by=column, tolerance=of_a_part)
        measured.append((f"the worst group by {column}", worst, of_a_part))
    outcomes = outcomes_of([(each.quantity, held) for _, each, held in measured if each.quantity is not None])
    checks = []
    for (title, each, held), outcome in zip(measured, outcomes, strict=True):
        # Where all predictions are equal, no more are lost than change.
        implied = outcome == "inconclusive" and each.metric == CORRECT_PREDICTIONS_LOST
        found: Outcome = "equal" if implied and outcomes[0] == "equal" else outcome
        checks.append(EqualityCheck(title, each, held, found, implied))
    return tuple(checks)


def _caution(original: RoleModel, images: LabelledImages, history: Path) -> str:
    """Say what the last whole run of the gate on the original came to, if it did not pass."""
    last = None
    with suppress(InputError):  # An unreadable history says nothing against the original.
        for line in read_history(history).lines:
            if (line.candidate, line.data) == (original.sha256, images.sha256) and line.verdict != "partial":
                last = line
    if last is None or last.verdict == "pass":
        return ""
    came_to = "failed its own gate" if last.verdict == "fail" else "has no verdict of its own gate"
    return f"The original {came_to} ({last.date} UTC): equal to it is not fit to ship."
