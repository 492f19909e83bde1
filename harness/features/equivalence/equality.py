"""An artifact beside its original.

The checks of equivalence on clean images, without a checks file.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.errors import InputError, some_of
from harness.checks.tolerance import (
    TOLERANCE,
    ToleranceTest,
    expect_tolerance,
    overall,
    tolerance_tests,
)
from harness.features.equivalence.normalization import LEAST_CHANGED, fitted_normalization
from harness.measures.accuracy import ACCURACY, accuracy
from harness.measures.changed_predictions import (
    PREDICTIONS_CHANGED,
    changed,
    class_order,
    predictions_changed,
)
from harness.perturb import IDENTITY
from harness.run.history import read_history
from harness.run.settings import HISTORY_FILE
from harness.run.steadiness import expect_steady

if TYPE_CHECKING:
    import numpy as np

    from harness.data import LabelledImages
    from harness.features.equivalence.normalization import Normalization
    from harness.inference import Predictions, RoleModel
    from harness.measures.equivalence import Outcome
    from harness.run.session import StressSession
    from harness.run.settings import ModelSettings

_HINTED = 500
"""Images of the comparison that finds an artifact that normalizes by itself."""


@dataclass(frozen=True, eq=False)
class Equality:
    """An artifact beside its original: their predictions for the same images, and the checks.

    Checks of all predictions come first. `caution` says why equality to this original is worth
    little; empty where nothing is known against it. `hint` names an option that would make the
    artifact equal. `normalization` explains an artifact that differs on many images, if it is the
    cause.
    """

    artifact: RoleModel
    original: RoleModel
    predictions: tuple[Predictions, Predictions]
    checks: tuple[ToleranceTest, ...]
    caution: str = ""
    hint: str = ""
    normalization: Normalization | None = None

    @property
    def images(self) -> LabelledImages:
        return self.predictions[1].images

    @property
    def outcome(self) -> Outcome:
        return overall(check.outcome for check in self.checks)

    @property
    def batches(self) -> tuple[str, ...]:
        """Return the batches for which the outcome holds, as text; empty for any."""
        limits = [model.provides.holds_for for model in (self.artifact, self.original)]
        return tuple(dict.fromkeys(filter(None, limits)))

    @cached_property
    def differ(self) -> np.ndarray:
        """Return the images whose predictions changed, (N,) bool."""
        return changed(*self.predictions)

    @cached_property
    def order(self) -> str:
        """Say which classes have changed places; empty for none."""
        return class_order(*self.predictions)


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

    At most the share `tolerance` of predictions, in (0, 1), may change. `artifact_normalization`
    and `artifact_outputs` are those of the artifact, where they are not those of `model`. The
    normalization "none" leaves its pixels in [0, 1]. `history` is the file of earlier runs. Raises
    `InputError` for a model that is refused, and for a tolerance that is no share.
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
    done = Equality(second, first, predictions, tolerance_tests(*predictions, tolerance))
    hint = ""
    # An artifact may normalize by itself: on some images, unchanged pixels then make it equal.
    declared_facts = second.classifier.predictor.declared
    declared = declared_facts.get("normalization", "none")
    if done.outcome == "different" and declared != "none" and artifact_normalization is None:
        some = images.take(torch.arange(min(len(images), _HINTED)))
        unchanged = own.but(normalization="none").open(artifact, some, ordered=False)
        count = int(changed(unchanged.predict(some), first.predict(some)).sum())
        if count <= tolerance * len(some):
            hint = (
                "The artifact normalizes by itself: without the declared normalization, it "
                f"changes {count} of {len(some)} predictions. Add --artifact-normalization none."
            )
    normalization = None
    if done.outcome == "different" and not done.order and done.differ.mean() >= LEAST_CHANGED:
        normalization = fitted_normalization(predictions[0], first)
    if (
        normalization is not None
        and normalization.kind == "missing"
        and "normalization" in declared_facts
    ):
        hint = f"Add --artifact-normalization {normalization.original_as_option}."
    return replace(
        done, caution=_caution(first, images, history), hint=hint, normalization=normalization
    )


def equality_in(session: StressSession, history: Path | None) -> Equality:
    """Return the comparison of a run's candidate with its original, on its clean images.

    The tolerance is that of its first check on `predictions_changed`, or the threshold that
    replaces it. `history` is the file of earlier runs. An original that fails checks on clean
    accuracy itself gives a caution; they cost no prediction.
    """
    rows = session.checks.checks
    held = [
        check.binding.threshold
        for check in rows
        if check.metric == PREDICTIONS_CHANGED.name and check.binding
    ]
    tolerance = next((threshold for threshold in held if 0 < threshold < 1), TOLERANCE)
    artifact, original, images = (
        session.roles["candidate"],
        session.roles["original"],
        session.images,
    )
    predictions = artifact.predict(images), original.predict(images)
    failing = [
        check.id
        for check in rows
        if check.family in {"clean", "class"}
        and check.metric == ACCURACY.name
        and check.pose == IDENTITY
        if check.role == "candidate" and check.binding
        if session.scaled(check).judge(accuracy(predictions[1], of_class=check.class_name)).status
        == "fail"
    ]
    if failing:
        caution = f"The original itself fails {some_of(failing)}: equal to it is not fit to ship."
    else:
        caution = "" if history is None else _caution(original, images, history)
    checks = (ToleranceTest(predictions_changed(*predictions), tolerance),)
    return Equality(artifact, original, predictions, checks, caution)


def _caution(original: RoleModel, images: LabelledImages, history: Path) -> str:
    """Say what the last whole run of the gate on the original came to, if it did not pass."""
    last = None
    with suppress(InputError):  # An unreadable history says nothing against the original.
        for line in read_history(history).lines:
            if (line.candidate, line.data) == (
                original.sha256,
                images.sha256,
            ) and line.verdict != "partial":
                last = line
    if last is None or last.verdict == "pass":
        return ""
    came_to = "failed its own gate" if last.verdict == "fail" else "has no verdict of its own gate"
    return f"The original {came_to} ({last.date} UTC): equal to it is not fit to ship."
