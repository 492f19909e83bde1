"""The families of checks: the meaning of each, its checks in a first checks file, and the mutant that it must catch.

A new family is one entry of the table below, and a test.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.checks import first_checks
from harness.checks.damages import (
    Damage,
    blank,
    blurred,
    confident_errors,
    moved,
    scaled,
    swapped,
    turned,
    without_left_half,
)
from harness.checks.equivalence import EQUIVALENCE, equivalence_checks
from harness.checks.golden import GOLDEN
from harness.checks.slices import CLASS_DIFFERENCE, SKEW, SLICE, UNKNOWN, slice_checks
from harness.measures.changed_predictions import OF_ORIGINAL
from harness.measures.serving import SERVED_CORRECT_PREDICTIONS_LOST, SERVED_PREDICTIONS_CHANGED

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.checks.file import ChecksFile
    from harness.checks.first_checks import Row, StarterData


@dataclass(frozen=True)
class Family:
    """Checks of one behavior.

    `measures` says what the checks measure, and `failure` what a failure means. `metrics` are those that its tests
    measure. `page` is the family's page in docs/, by default the one of its name. `starter_checks` makes the checks of
    a first checks file; `init` does not offer a family without. `damage` makes a mutant of the candidate that a check
    of the family must fail.
    """

    name: str
    title: str
    measures: str
    failure: str
    metrics: tuple[str, ...] = ("accuracy",)
    page: str = ""
    starter_checks: Callable[[StarterData], list[Row]] | None = None
    damage: Damage | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "page", self.page or f"behaviours/{self.name}")


_SHIPPED = (
    Family(
        "clean",
        title="Clean images",
        measures="Accuracy on clean test images.",
        failure="All classes fall a little: the training was cut short, or its preprocessing was different.",
        starter_checks=first_checks.clean,
        damage=Damage("left-half-blanked", without_left_half),
    ),
    Family(
        "class",
        title="Single classes",
        measures="Accuracy on the clean images of a single class, since the mean hides one class that fails.",
        failure="Look at the labels of the class and at its share of the training data.",
        page="behaviours/clean",
        starter_checks=first_checks.of_each_class("clean", "accuracy"),
        damage=Damage("swapped-logits", logits=swapped),
    ),
    Family(
        CLASS_DIFFERENCE,
        title="Single classes against the others",
        measures="The mean probability of the label on the images of a class, less that on all other images.",
        failure="The class itself is worse: look at its labels, and at its share of the training data.",
        page="slices",
        metrics=("class_difference",),
        starter_checks=first_checks.of_each_class("difference", "class_difference", least=2),
    ),
    Family(
        "consensus",
        title="Consensus set",
        measures="Number of images that every reference model predicts correctly and the candidate does not.",
        failure="Errors in all classes mean damaged weights, another precision or other preprocessing. Errors in one "
        "class point to its labels.",
        metrics=("consensus_set_errors", "worst_class_consensus_set_errors"),
        starter_checks=first_checks.always(
            ("consensus-clean", "consensus_set_errors", {"under": ["rest"]}),
            ("consensus-class", "worst_class_consensus_set_errors", {"under": ["rest"]}),
        ),
    ),
    Family(
        "rotation",
        title="Rotated images",
        measures="Accuracy on images rotated by one angle about their center.",
        failure="Both directions fail alike: rotation is missing from the augmentation. One direction fails: the "
        "augmentation rotates in the other only.",
        starter_checks=lambda about: first_checks.poses(about)["rotation"],
        damage=Damage("turned-020", turned),
    ),
    Family(
        "shift",
        title="Translated images",
        measures="Accuracy on images translated by whole pixels; new pixels are black.",
        failure="All directions fail: translation is missing from the augmentation. One direction fails: the pipeline "
        "crops one side.",
        starter_checks=lambda about: first_checks.poses(about)["shift"],
    ),
    Family(
        "flip",
        title="Flipped images",
        measures="Accuracy on images flipped left to right, and the share of images with the same prediction after it.",
        failure="Flips are missing from the augmentation, or all objects of the training data point the same way.",
        metrics=("accuracy", "invariance"),
        starter_checks=first_checks.always(("flip", "accuracy"), ("flip-invariance", "invariance")),
    ),
    Family(
        "pose",
        title="Images rotated and translated at once",
        measures="Accuracy at the corners of the augmentation range: rotation and translation at once.",
        failure="Only the corners fail: the augmentation draws a rotation or a translation, not both.",
        starter_checks=lambda about: first_checks.poses(about)["pose"],
    ),
    Family(
        "confidence",
        title="Confidence and calibration",
        measures="Errors above 90% confidence, and the distance of confidence from accuracy.",
        failure="Accuracy is unchanged: the training was longer, had no weight decay or label smoothing, or the logits "
        "are scaled.",
        page="behaviours/calibration",
        metrics=(
            "confident_errors",
            "calibration_error",
            "negative_log_likelihood",
            "brier_score",
            "confidence_on_errors",
            "risk_coverage_area",
        ),
        starter_checks=first_checks.always(
            ("confident-errors", "confident_errors", {"confidence": 0.9}),
            ("calibration-error-clean", "calibration_error"),
            ("log-loss-clean", "negative_log_likelihood"),
            ("confidence-brier-score", "brier_score"),
            ("confidence-confidence-on-errors", "confidence_on_errors"),
            ("confidence-risk-coverage-area", "risk_coverage_area"),
        ),
        damage=Damage("overconfident", logits=scaled, fails=confident_errors, unmoved="risk_coverage_area"),
    ),
    Family(
        "pairs",
        title="Confusable pairs",
        measures="Number of images of two similar classes that are predicted as the other class of the pair.",
        failure="One direction rises and the other falls: the boundary moved. Both rise: the model no longer sees the "
        "detail that distinguishes them.",
        page="behaviours/confusion-pairs",
        metrics=("pair_failures",),
        starter_checks=first_checks.pairs,
    ),
    Family(
        "gain",
        title="Gain over the baseline under pose",
        measures="Accuracy of the candidate less that of the baseline, on the same images in the same pose.",
        failure="Rotation or translation fails too: the candidate is worse. Neither fails: the baseline is better than "
        "before.",
        page="behaviours/gain-over-baseline",
        metrics=("accuracy_gain",),
        starter_checks=lambda about: first_checks.poses(about)["gain"],
    ),
    Family(
        "baseline",
        title="The baseline itself",
        measures="Accuracy of the baseline; if it is not as expected, no model can be compared with it.",
        failure="Check that the baseline's file is the one that you mean.",
        page="behaviours/gain-over-baseline",
    ),
    Family(
        "regression",
        title="No worse than the incumbent",
        measures="Net loss of correct predictions against the incumbent on the same images, and its significance.",
        failure="Look at the new errors, not at the sum: one class often gets worse while another gets better.",
        metrics=("accuracy_change",),
        starter_checks=first_checks.always(
            (
                "regression-clean",
                "accuracy_change",
                {"significance": 0.001, "hand": {"threshold": -0.01, "reason": "a point of accuracy"}},
            )
        ),
    ),
    Family(
        "flips",
        title="Negative flips against the incumbent",
        measures="Images that the incumbent predicts correctly and the candidate does not.",
        failure="Flips in the consensus set mean a broken model. Many flips at the same accuracy mean another recipe.",
        metrics=("negative_flips",),
        starter_checks=lambda about: [
            ("flips", "negative_flips", {}),
            *first_checks.of_each_class("flips", "negative_flips")(about),
            ("flips-consensus", "negative_flips", {"among": "consensus"}),
        ],
    ),
    Family(
        "search",
        title="Worst-case transformation of each image",
        measures="Share of images that are correct at every pose of a grid, and how far an image can move until its "
        "prediction is wrong.",
        failure="Only the search fails: the augmentation has gaps, for example a few fixed angles.",
        page="behaviours/worst-pose",
        metrics=(
            "robust_accuracy",
            "random_pose_accuracy",
            "worst_of_ten",
            "accuracy",
            "unchanged_share",
            "breaking_severity",
        ),
        starter_checks=first_checks.search,
        damage=Damage("turned-020-searched", turned, metric="robust_accuracy"),
    ),
    Family(
        "attention",
        title="Attention on the object",
        measures="Grad-CAM mass on the object, and predictions that stay the same on another background.",
        failure="A map on the same edge of all images points to padding or a watermark. If predictions change with the "
        "background, vary the background in training.",
        metrics=(
            "attention_ratio",
            "attention_lift",
            "attention_drift",
            "dead_maps",
            "prediction_consistency",
            "object_dependence",
        ),
        starter_checks=first_checks.always(
            ("attention-ratio", "attention_ratio"),
            ("attention-lift", "attention_lift"),
            ("attention-dead", "dead_maps"),
            ("background-swapped", "prediction_consistency", {"background": "swapped"}),
            ("object-erased", "object_dependence"),
        ),
        damage=Damage("blind", blank, metric="object_dependence", costs_accuracy=False),
    ),
    Family(
        "corruption",
        title="Common corruptions",
        measures="Accuracy under noise, blur, light, compression, warps and missing parts, at severity 1 to 5.",
        failure="One kind fails: the augmentation no longer covers it. Noise and blur fail: the model relies on fine "
        "texture.",
        metrics=("accuracy", "confidence_rise", "mean_corruption_error"),
        starter_checks=first_checks.corruption,
        damage=Damage("blurred", blurred, metric="accuracy"),
    ),
    Family(
        SKEW,
        title="Served through another pipeline",
        measures="Predictions that change, and correct ones that are lost, if serving replaces one stage: decoder, "
        "color, resizing, crop, scale or normalization.",
        failure="Serve by the reference pipeline, or train with the variation that costs the most.",
        metrics=(SERVED_CORRECT_PREDICTIONS_LOST.name, SERVED_PREDICTIONS_CHANGED.name),
        starter_checks=first_checks.skew,
    ),
    Family(
        GOLDEN,
        title="Golden images",
        measures="Images of an incident or a complaint; the prediction of each must be correct.",
        failure="If reference models are correct, look for more errors among similar images. If not, the training data "
        "lack such images.",
        metrics=("golden_right",),
        damage=Damage("answers-moved", logits=moved),
    ),
    Family(
        SLICE,
        title="Groups of images, such as cameras and sites",
        measures="Accuracy on the images of each group, its difference to the others, the worst group, and the gap.",
        failure="One group falls: look at its images and at its share of the training data.",
        page="slices",
        metrics=("group_accuracy", "worst_group_accuracy", "group_gap", "group_difference"),
        starter_checks=lambda data: slice_checks(data.images),
    ),
    Family(
        EQUIVALENCE,
        title="Equal to the original",
        measures="Distance of an export, a quantized or a compiled copy from its original.",
        failure="Look at the changed predictions by class. Common causes are calibration images unlike the data, other "
        "preprocessing and too few bits.",
        page="equivalence",
        metrics=tuple(sorted(OF_ORIGINAL)),
        starter_checks=lambda data: equivalence_checks(data.images),
    ),
    Family(
        UNKNOWN,
        title="Images of no class",
        measures="Separation of images of no class from test images, by softmax, energy and largest logit.",
        failure="The model is as confident on images of no class as on test images: look at its calibration and the "
        "training data.",
        metrics=("unknown_auroc", "unknown_fpr95"),
        starter_checks=first_checks.unknown,
    ),
)
FAMILIES = {family.name: family for family in _SHIPPED}
"""The families that ship, by name, in the order of a first checks file. A user's own family has no entry."""


def family_title(name: str) -> str:
    """Return the title of a family; for a family that does not ship, its name."""
    family = FAMILIES.get(name)
    return family.title if family else name.replace("-", " ").replace("_", " ").capitalize()


def damages(checks: ChecksFile) -> dict[str, Damage]:
    """Return by family the mutant that its checks must catch; that of golden images only if the file has some."""
    return {
        family.name: family.damage
        for family in FAMILIES.values()
        if family.damage is not None and (family.name != GOLDEN or checks.golden)
    }
