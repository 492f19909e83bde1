"""Records of the models of a run side by side, as `stress.json` has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness.base import records
from harness.base.records import record
from harness.data.domain import DEFAULT_RANGE, AugmentationRange
from harness.measures.failures import Comparison
from harness.measures.panel.label_errors import LabelErrors, WithoutLabelErrors
from harness.measures.worst_poses import PersistentFailures

if TYPE_CHECKING:
    import numpy as np

CONFIDENT = 0.9
"""Errors above this confidence are counted as confident, as in the study."""
EXPECTED = 5
"""Correct predictions of a class that are expected, at least, if chance does not explain none."""
TELLING = 200
"""Images of a figure, at least, or all: of fewer, a share of 90% is known to within 4 points or
worse.
"""


@record
class Rate:
    """A share in [0, 1] of `n` images, with its 95% interval."""

    value: float
    low: float
    high: float
    n: int


@record
class ReliabilityBin:
    """Predictions with a confidence in one bin: their number, mean confidence and accuracy."""

    count: int
    confidence: float | None
    accuracy: float | None


@record
class KindCount:
    """Failures of one kind.

    Their number on all clean images, and their share, in [0, 1], on a sample `moved`.

    Moved means all corners of the augmentation range; None where these were left out.
    """

    kind: str
    count: int
    moved: float | None


@record
class ModelOverview:
    """One model, in one role or several.

    `per_class` follows the classes' order, None for a class without images. `confusion` counts
    images, a row for each true class and a column for each predicted one. A predictor of labels has
    no values of confidence. The expected `calibration_error` is that over the bins of
    `reliability`, of all images or fewer, or left out. `corners` is the mean accuracy at the
    corners of the augmentation range. `persistent` has the images that are wrong at most of them.
    Both are None where the corners were left out. `history` has the epochs of training, named as
    those of `harness.networks.training.Epoch`; it is empty where the model's record does not tell
    them.
    """

    name: str
    roles: tuple[str, ...]
    path: str
    accuracy: Rate
    per_class: tuple[Rate | None, ...]
    confusion: tuple[tuple[int, ...], ...]
    failures: tuple[KindCount, ...]
    confident_errors: int | None = None
    calibration_error: float | None = None
    reliability: tuple[ReliabilityBin, ...] = ()
    corners: Rate | None = None
    persistent: PersistentFailures | None = None
    without_label_errors: WithoutLabelErrors | None = None
    history: tuple[Mapping[str, float], ...] = ()

    @property
    def confusion_shares(self) -> np.ndarray:
        """Return the confusions in percent of each true class's images, (classes, classes).

        NaN without images.
        """
        import numpy as np

        counts = np.array(self.confusion, dtype=float)
        totals = counts.sum(axis=1, keepdims=True)
        return np.asarray(
            np.divide(100 * counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)
        )


@record
class KindChange:
    """Number of images that fail in one kind for this model only, the other only, and both."""

    kind: str
    new: int
    fixed: int
    shared: int


@record
class Changes:
    """Differences between two models' failures on clean images.

    The other model is `against`. `new_failures` are of any kind, the most confident first, and only
    the first few; so are `fixed_failures`, which only the model before makes.
    """

    against: str
    by_kind: tuple[KindChange, ...]
    new_failures: tuple[Comparison, ...]
    fixed_failures: tuple[Comparison, ...] = ()


@record
class Reference:
    """Predictions of `models` reference models for an image: `wrong` of them err.

    Their mean has a class and share.
    """

    models: int
    wrong: int
    predicted: str
    confidence: float


@record
class Mistake:
    """An image whose class is `true` and is predicted as `predicted`.

    None without confidence or reference models.
    """

    index: int
    true: str
    predicted: str
    confidence: float | None = None
    reference: Reference | None = None


@record
class Overview:
    """The models of a run side by side, the candidate first, on `n` images.

    Corners use a `sample` of them.

    `mistakes` are those of the first model on clean images, a few of each confusion. `label_errors`
    are images whose labels reference models agree against; if reference models exist and do not
    tell, `label_errors_missing` says why. `left_out` names what would have been of too few images.
    If the images are too small for the corners, or the range of the `augmentation` has none, the
    `sample` is 0 and `left_out` does not name them.
    """

    data: str
    n: int
    sample: int
    classes: tuple[str, ...]
    models: tuple[ModelOverview, ...]
    changes: Changes | None = None
    mistakes: tuple[Mistake, ...] = ()
    label_errors: LabelErrors | None = None
    label_errors_missing: str = ""
    left_out: tuple[str, ...] = ()
    augmentation: AugmentationRange = DEFAULT_RANGE

    @property
    def reference(self) -> ModelOverview | None:
        """Return the model that the first is compared with.

        The incumbent if it is another, else the next.
        """
        others = self.models[1:]
        return next(
            (model for model in others if "incumbent" in model.roles), others[0] if others else None
        )

    @property
    def of_recipe(self) -> ModelOverview | None:
        """Return the model whose values may alarm.

        The reference, unless it is the baseline, of another recipe.
        """
        found = self.reference
        return (
            None
            if found is None or ("baseline" in found.roles and "incumbent" not in found.roles)
            else found
        )

    @property
    def never_predicted(self) -> dict[str, int]:
        """Return the classes that the candidate never predicts, with the number of images of each.

        Chance explains a class that few images have or that is rarely correct. So the reference
        model must be expected to predict at least `EXPECTED` images of the class correctly.
        Without a reference model, it counts as correct for half of them.
        """
        candidate, other = self.models[0], self.reference
        missing: dict[str, int] = {}
        for position, name in enumerate(self.classes):
            images = sum(candidate.confusion[position])
            predictions = sum(row[position] for row in candidate.confusion)
            usual = None if other is None else other.per_class[position]
            usual_accuracy = 0.5 if usual is None else usual.value
            if predictions == 0 and images * usual_accuracy >= EXPECTED:
                missing[name] = images
        return missing

    def as_plain(self) -> dict[str, Any]:
        """Return the overview in plain types, as `stress.json` has it."""
        plain: dict[str, Any] = records.as_plain(self)
        return plain
