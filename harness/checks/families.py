"""The families of checks: what each measures, how a first checks file has it, and the damage that it must notice.

A new family is one entry of the table here, and its test.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from harness.checks.check import UNTIL_CALIBRATED
from harness.checks.damages import (
    BlankAll,
    BlankLeftHalf,
    Blur,
    Damage,
    MoveLogits,
    OnPixels,
    ScaleLogits,
    SwapLogits,
    Turn,
    confident_errors,
    on_logits,
)
from harness.checks.equivalence import EQUIVALENCE, equivalence_checks
from harness.checks.golden import GOLDEN
from harness.checks.skew import SKEW, skew_checks
from harness.checks.slices import SLICE, slice_checks
from harness.checks.starter_check import StarterCheck, in_toml, slugs
from harness.checks.unknown import UNKNOWN, unknown_checks
from harness.measures.changed_predictions import OF_ORIGINAL
from harness.measures.serving import SERVED_CORRECT_PREDICTIONS_LOST, SERVED_PREDICTIONS_CHANGED
from harness.perturb.corruptions import SHIPPED

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.checks.file import ChecksFile
    from harness.data import LabelledImages

_DEGREES = (-10, -5, 5, 10)
_SHARE = 0.07
"""Translation as a share of the image size: 2 of 28 pixels."""
_SEVERITY = 3
"""Of corruptions, the middle of five."""


@dataclass(frozen=True)
class StarterData:
    """The images and wishes that the checks of a first checks file depend on."""

    images: LabelledImages
    pairs: tuple[tuple[str, str], ...]
    min_accuracy: float | None

    @property
    def slugs(self) -> dict[str, str]:
        """Return how ids name each class; of classes whose names come to one spelling, with a number."""
        return slugs(self.images.classes)

    @property
    def shift(self) -> tuple[int, int]:
        """Return how far images are moved, right and down, in pixels."""
        height, width = self.images.pixels.shape[2:]
        return max(1, round(_SHARE * width)), max(1, round(_SHARE * height))


@dataclass(frozen=True)
class Family:
    """Checks of one behavior.

    `measures` and `failure` are a sentence each: what is measured, and what a failure means. `page` is the page of
    docs/ that says more, and `metrics` are those of its tests. `starter_checks` makes the checks of a first checks
    file; a family without is not offered. `damage` breaks a candidate so that a check of the family must fail.
    """

    name: str
    title: str
    measures: str
    failure: str
    page: str
    metrics: tuple[str, ...]
    starter_checks: Callable[[StarterData], list[StarterCheck]] | None = None
    damage: Damage | None = None


def _clean(about: StarterData) -> list[StarterCheck]:
    by_hand = f'hand = {{ threshold = {about.min_accuracy}, reason = "{UNTIL_CALIBRATED}" }}'
    return [StarterCheck("clean", "clean", "accuracy", () if about.min_accuracy is None else (by_hand,))]


def _class(about: StarterData) -> list[StarterCheck]:
    return [
        StarterCheck(f"clean-{slug}", "class", "accuracy", (f"class = {in_toml(name)}",))
        for name, slug in about.slugs.items()
    ]


def _consensus(_: StarterData) -> list[StarterCheck]:
    rest = ('under = ["rest"]',)
    return [
        StarterCheck("consensus-clean", "consensus", "consensus_set_errors", rest),
        StarterCheck("consensus-class", "consensus", "worst_class_consensus_set_errors", rest),
    ]


def _rotation(_: StarterData) -> list[StarterCheck]:
    return [StarterCheck(f"rotate-{_way(at)}", "rotation", "accuracy", (_pose(degrees=at),)) for at in _DEGREES]


def _shift(about: StarterData) -> list[StarterCheck]:
    right, down = about.shift
    poses = {
        f"shift-right-{right}": _pose(dx=right),
        f"shift-left-{right}": _pose(dx=-right),
        f"shift-down-{down}": _pose(dy=down),
        f"shift-up-{down}": _pose(dy=-down),
    }
    return [StarterCheck(name, "shift", "accuracy", (pose,)) for name, pose in poses.items()]


def _flip(_: StarterData) -> list[StarterCheck]:
    return [StarterCheck("flip", "flip", "accuracy"), StarterCheck("flip-invariance", "flip", "invariance")]


def _corners(about: StarterData) -> list[StarterCheck]:
    right, down = about.shift
    return [
        StarterCheck(
            f"pose-{_way(degrees)}-{'down' if dy > 0 else 'up'}-{'right' if dx > 0 else 'left'}",
            "pose",
            "accuracy",
            (_pose(degrees=degrees, dx=dx, dy=dy),),
        )
        for degrees in (_DEGREES[-1], _DEGREES[0])
        for dy in (down, -down)
        for dx in (right, -right)
    ]


def _confidence(_: StarterData) -> list[StarterCheck]:
    return [
        StarterCheck("confident-errors", "confidence", "confident_errors", ("confidence = 0.9",)),
        StarterCheck("calibration-error-clean", "confidence", "calibration_error"),
        StarterCheck("log-loss-clean", "confidence", "negative_log_likelihood"),
    ]


def _pairs(about: StarterData) -> list[StarterCheck]:
    return [
        StarterCheck(
            f"pair-{about.slugs[first]}-{about.slugs[second]}",
            "pairs",
            "pair_failures",
            (f"pair = {in_toml([first, second])}",),
        )
        for first, second in about.pairs
    ]


def _gain(_: StarterData) -> list[StarterCheck]:
    at = (_DEGREES[-1], _DEGREES[0])
    return [StarterCheck(f"gain-{_way(each)}", "gain", "accuracy_gain", (_pose(degrees=each),)) for each in at]


def _regression(_: StarterData) -> list[StarterCheck]:
    by_hand = 'hand = { threshold = -0.01, reason = "a point of accuracy" }'
    return [StarterCheck("regression-clean", "regression", "accuracy_change", ("significance = 0.001", by_hand))]


def _flips(about: StarterData) -> list[StarterCheck]:
    return [
        StarterCheck("flips", "flips", "negative_flips"),
        *(
            StarterCheck(f"flips-{slug}", "flips", "negative_flips", (f"class = {in_toml(name)}",))
            for name, slug in about.slugs.items()
        ),
        StarterCheck("flips-consensus", "flips", "negative_flips", ('among = "consensus"',)),
    ]


def _search(about: StarterData) -> list[StarterCheck]:
    right, down = about.shift
    within = _pose("within", degrees=_DEGREES[-1], dx=right, dy=down)
    return [
        StarterCheck("drawn-pose", "search", "accuracy", (within,)),
        StarterCheck("drawn-pose-unchanged", "search", "unchanged_share", (within,)),
        StarterCheck("worst-pose-augmentation-range", "search", "robust_accuracy", ('grid = "augmentation-range"',)),
        StarterCheck(
            "break-rotation-median", "search", "breaking_severity", ('path = "rotation"', "share_broken = 0.5")
        ),
    ]


def _attention(_: StarterData) -> list[StarterCheck]:
    return [
        StarterCheck("attention-ratio", "attention", "attention_ratio"),
        StarterCheck("attention-lift", "attention", "attention_lift"),
        StarterCheck("attention-dead", "attention", "dead_maps"),
        StarterCheck("background-swapped", "attention", "prediction_consistency", ('background = "swapped"',)),
        StarterCheck("object-erased", "attention", "object_dependence"),
    ]


def _corruption(_: StarterData) -> list[StarterCheck]:
    return [
        StarterCheck(
            f"corrupt-{name}-{_SEVERITY}",
            "corruption",
            "accuracy",
            (f"corruption = {in_toml(name)}", f"severity = {_SEVERITY}"),
        )
        for name in SHIPPED
    ]


def _way(degrees: int) -> str:
    return f"{'ccw' if degrees > 0 else 'cw'}-{abs(degrees):03}"


def _pose(key: str = "pose", *, degrees: int = 0, dx: int = 0, dy: int = 0) -> str:
    named = {"degrees": degrees, "dx": dx, "dy": dy}
    return f"{key} = {{ {', '.join(f'{name} = {value}' for name, value in named.items() if value)} }}"


_SHIPPED = (
    Family(
        "clean",
        title="Images as they are",
        measures="The share of right answers on untouched test images.",
        failure="All classes fall a little: the training was cut short, or preprocessing differs from that of the "
        "training.",
        page="behaviours/clean",
        metrics=("accuracy",),
        starter_checks=_clean,
        damage=Damage("left-half-blanked", OnPixels(BlankLeftHalf)),
    ),
    Family(
        "class",
        title="Single classes",
        measures="The share of right answers on untouched images of a single class, since the mean hides one that "
        "is given up.",
        failure="Look at the labels of the class and at its share of the training data.",
        page="behaviours/clean",
        metrics=("accuracy",),
        starter_checks=_class,
        damage=Damage("swapped-logits", lambda model, watched: nn.Sequential(model, SwapLogits(watched))),
    ),
    Family(
        "consensus",
        title="What every reference model knows",
        measures="How many images, none of them hard, the model loses of what every reference model gets right.",
        failure="Losses in all classes mean damaged weights, another precision or preprocessing; in one, its labels.",
        page="behaviours/consensus",
        metrics=("consensus_set_errors", "worst_class_consensus_set_errors"),
        starter_checks=_consensus,
    ),
    Family(
        "rotation",
        title="Turned images",
        measures="Accuracy on images turned by one angle about their centre.",
        failure="Both ways fail alike: rotation is missing from the augmentation. One way fails: it turns one way "
        "only.",
        page="behaviours/rotation",
        metrics=("accuracy",),
        starter_checks=_rotation,
        damage=Damage("turned-020", OnPixels(Turn)),
    ),
    Family(
        "shift",
        title="Moved images",
        measures="Accuracy on images moved by whole pixels; what comes in is black.",
        failure="All directions fail: shifts are missing from the augmentation. One fails: something is cropped on "
        "one side.",
        page="behaviours/shift",
        metrics=("accuracy",),
        starter_checks=_shift,
    ),
    Family(
        "flip",
        title="Mirrored images",
        measures="Accuracy on images mirrored left to right, and the share of images with the same answer after "
        "mirroring.",
        failure="Mirroring is missing from the augmentation, or the training data all point one way.",
        page="behaviours/flip",
        metrics=("accuracy", "invariance"),
        starter_checks=_flip,
    ),
    Family(
        "pose",
        title="Images turned and moved at once",
        measures="Accuracy at the corners of the augmentation range, where images are turned and moved at once.",
        failure="Only the corners fail: the augmentation draws a turn or a shift, not both.",
        page="behaviours/pose",
        metrics=("accuracy",),
        starter_checks=_corners,
    ),
    Family(
        "confidence",
        title="Wrong at high confidence",
        measures="Whether confidence means something: wrong answers over 90% confidence, and its distance from "
        "accuracy.",
        failure="Accuracy as before: trained longer, without weight decay or label smoothing, or with scaled logits.",
        page="behaviours/calibration",
        metrics=(
            "confident_errors",
            "calibration_error",
            "negative_log_likelihood",
            "brier_score",
            "confidence_on_errors",
            "risk_coverage_area",
        ),
        starter_checks=_confidence,
        damage=Damage("overconfident", on_logits(ScaleLogits), confident_errors, unmoved="risk_coverage_area"),
    ),
    Family(
        "pairs",
        title="Telling similar classes apart",
        measures="How many images of two classes that look alike are taken for each other.",
        failure="One way rises and the other falls: the boundary moved. Both rise: the detail that tells them apart "
        "is lost.",
        page="behaviours/confusion-pairs",
        metrics=("pair_failures",),
        starter_checks=_pairs,
    ),
    Family(
        "gain",
        title="Better than the baseline under pose",
        measures="Accuracy of the candidate less that of the baseline, on the same images in the same pose.",
        failure="Rotation or shift fails, too: the candidate is worse. Neither does: the baseline is better than it "
        "was.",
        page="behaviours/gain-over-baseline",
        metrics=("accuracy_gain",),
        starter_checks=_gain,
    ),
    Family(
        "baseline",
        title="The baseline itself",
        measures="Whether the baseline is what it should be; if not, nothing can be judged against it.",
        failure="Look whether the file is the one that you mean.",
        page="behaviours/gain-over-baseline",
        metrics=("accuracy",),
    ),
    Family(
        "regression",
        title="No worse than the currently shipped model",
        measures="The net loss against the currently shipped model (incumbent), image by image, and whether chance "
        "explains it.",
        failure="Look at what is new, not at the sum: a class that got worse is often another that got better.",
        page="behaviours/regression",
        metrics=("accuracy_change",),
        starter_checks=_regression,
    ),
    Family(
        "flips",
        title="Keeping what the currently shipped model gets right",
        measures="Images that the currently shipped model (incumbent) gets right and the candidate gets wrong.",
        failure="Flips among what every reference model gets right are damage; many over all, with the same accuracy, "
        "another recipe.",
        page="behaviours/flips",
        metrics=("negative_flips",),
        starter_checks=_flips,
    ),
    Family(
        "search",
        title="The worst turn and shift for each image",
        measures="Whether an image is right at every turn and shift of a grid, and how far it can go until it is "
        "wrong.",
        failure="Only the search fails: the augmentation has gaps, few angles or none between them.",
        page="behaviours/worst-pose",
        metrics=(
            "robust_accuracy",
            "random_pose_accuracy",
            "worst_of_ten",
            "accuracy",
            "unchanged_share",
            "breaking_severity",
        ),
        starter_checks=_search,
        damage=Damage("turned-020-searched", OnPixels(Turn), metric="robust_accuracy"),
    ),
    Family(
        "attention",
        title="Looking at the object, and deciding by it",
        measures="Whether the model looks at the object (Grad-CAM), and whether its answer stays without the "
        "background.",
        failure="A map on one edge of all images points at padding or a watermark; an answer that goes with the "
        "background, at what should vary in training.",
        page="behaviours/attention",
        metrics=(
            "attention_ratio",
            "attention_lift",
            "attention_drift",
            "dead_maps",
            "prediction_consistency",
            "object_dependence",
        ),
        starter_checks=_attention,
        damage=Damage("blind", OnPixels(BlankAll, costs_accuracy=False), metric="object_dependence"),
    ),
    Family(
        "corruption",
        title="Damaged images",
        measures="Accuracy on images damaged by noise, blur, light, compression, warps and missing parts, severity "
        "1 to 5.",
        failure="One kind fails: augmentation no longer does what looks like it. Noise and blur: it relies on fine "
        "texture.",
        page="behaviours/corruption",
        metrics=("accuracy", "confidence_rise", "mean_corruption_error"),
        starter_checks=_corruption,
        damage=Damage("blurred", OnPixels(Blur), metric="accuracy"),
    ),
    Family(
        SKEW,
        title="Served through another pipeline",
        measures="Predictions that change, and correct ones that are lost, when one stage of serving is another: "
        "decoder, color, resizing, crop, scale or normalization.",
        failure="Serve by the reference pipeline, or train with the variation that costs the most.",
        page="behaviours/skew",
        metrics=(SERVED_CORRECT_PREDICTIONS_LOST.name, SERVED_PREDICTIONS_CHANGED.name),
        starter_checks=lambda data: skew_checks(data.images),
    ),
    Family(
        GOLDEN,
        title="Images that must never be wrong again",
        measures="Images of an incident or a complaint, each of which must be right.",
        failure="Reference models get it right: look at what else was lost among such images. They do not: the "
        "training data lack it.",
        page="behaviours/golden",
        metrics=("golden_right",),
        damage=Damage("answers-moved", on_logits(MoveLogits)),
    ),
    Family(
        SLICE,
        title="Groups of images, such as cameras and sites",
        measures="Accuracy on the images of one camera, site or batch, the worst of these, and the gap between best "
        "and worst.",
        failure="One group falls: look at what is special about its images, and at its share of the training data.",
        page="slices",
        metrics=("group_accuracy", "worst_group_accuracy", "group_gap"),
        starter_checks=lambda data: slice_checks(data.images),
    ),
    Family(
        EQUIVALENCE,
        title="Equal to the original",
        measures="The distance of an export, a quantized or a compiled copy from the model that it was made from "
        "(original).",
        failure="Look at the changes from class to class: calibration images that differ from the data, another "
        "preprocessing, or too few bits.",
        page="equivalence",
        metrics=tuple(sorted(OF_ORIGINAL)),
        starter_checks=lambda data: equivalence_checks(data.images),
    ),
    Family(
        UNKNOWN,
        title="Images of no class",
        measures="Whether images of no class look less familiar than test images: by softmax, energy and largest "
        "logit.",
        failure="The model is as sure of images of no class as of its own: look at its confidence and the training "
        "data.",
        page="behaviours/unknown",
        metrics=("unknown_auroc", "unknown_fpr95"),
        starter_checks=lambda _: unknown_checks(),
    ),
)
FAMILIES = {family.name: family for family in _SHIPPED}
"""The families that ship, by name, in the order of a first checks file. A user's own have no entry."""


def family_title(name: str) -> str:
    """Return what a family is about; one that does not ship goes by its own name."""
    family = FAMILIES.get(name)
    return family.title if family else name.replace("-", " ").replace("_", " ").capitalize()


def damages(checks: ChecksFile) -> dict[str, Damage]:
    """Return by family the damage that its checks must notice; that of golden images only where there are some."""
    return {
        family.name: family.damage
        for family in FAMILIES.values()
        if family.damage is not None and (family.name != GOLDEN or checks.golden)
    }
