"""Figures of a run: of the candidate as its checks measured it, and of the models side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.checks.roles import role_title
from harness.measures import Unit
from harness.measures.accuracy import ACCURACY
from harness.measures.localisation import ATTENTION_LIFT
from harness.measures.worst_poses import survival_name
from harness.perturb import IDENTITY, Pose
from harness.report.figures import curves
from harness.report.page import Illustration, Section, figures_html, paragraphs
from harness.report.plots import (
    CLASSES_SHOWN,
    attention_by_class,
    band_of,
    class_accuracies,
    confusion_maps,
    confusions,
    rate_of,
    reliability_diagrams,
    rotation_curves,
    shift_maps,
    stated,
    survival_panel,
    training_curves,
)
from harness.report.tables import left_out
from harness.report.wording import of_candidate
from harness.run.overview import TELLING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from harness.checks import Verdict
    from harness.measures.metric import Curve
    from harness.run.overview import Overview, Rate

_FEWEST = 3
"""Places of a figure, at least."""
BAND = "A yellow band is the mean of the reference models ± 2 standard deviations. Other bars are 95% intervals."


def figures(
    overview: Overview, verdicts: Sequence[Verdict] = (), reference: Mapping[str, Sequence[Curve]] = {}
) -> Section:
    """Return all figures of a run; `reference` has curves of the reference models by name."""
    if overview.n < TELLING:
        body = paragraphs(f"No curves or maps: {overview.n} images are too few for them.")
    else:
        body = paragraphs(left_out(overview), BAND) + figures_html(
            [*_of_checks(overview, verdicts, reference), *_of_models(overview, verdicts, reference)]
        )
    return Section("figures", "Figures", body)


def _of_checks(
    overview: Overview, verdicts: Sequence[Verdict], reference: Mapping[str, Sequence[Curve]]
) -> Iterator[Illustration]:
    first = overview.models[0].name
    posed = {IDENTITY: overview.models[0].accuracy}
    posed |= {each.check.pose: rate_of(each) for each in _accuracies(verdicts)}
    turned = {pose.degrees: posed[pose] for pose in sorted(posed, key=lambda pose: pose.degrees) if _turns(pose)}
    if len(turned) >= _FEWEST:
        band = stated({each.check.pose.degrees: each for each in _accuracies(verdicts) if _turns(each.check.pose)})
        said = ", ".join(f"{rate.value:.0%} at {degrees:+g}°" for degrees, rate in turned.items())
        yield Illustration(
            f"Accuracy against rotation{_of_sample(turned.values(), overview)}",
            "Higher and flatter is better.",
            f"Accuracy against rotation: {said}.",
            lambda: rotation_curves({first: turned}, band),
        )
    shifts = {(pose.dx, pose.dy): rate for pose, rate in posed.items() if not pose.degrees}
    if len(shifts) >= _FEWEST:
        yield Illustration(
            f"Accuracy by translation{_of_sample(shifts.values(), overview)}",
            "Each cell is the candidate's accuracy, in percent, translated right (columns) and down (rows). The middle "
            "is clean. Checks do not measure the gray cells.",
            f"Accuracy at {len(shifts)} translations, {min(rate.value for rate in shifts.values()):.0%} at the worst.",
            lambda: shift_maps({first: shifts}),
            is_map=True,
        )
    found = {each.curve.name: each for each in verdicts if each.curve is not None and each.check.role == "candidate"}
    panels = []
    for path in ("rotation", "shift"):
        if (verdict := found.get(name := survival_name(path))) is not None and verdict.curve is not None:
            n = verdict.counted or verdict.n
            known = {f"{first} (n={n:,})": (verdict.curve, n)}
            panels.append(survival_panel(path, known, band_of(reference.get(name, ()))))
    if panels:
        yield Illustration(
            f"Survival curves of the {role_title(first)}",
            "Share of the correct clean predictions that are still correct at every pose up to this size.",
            "Share of predictions still correct against the size of rotation and shift.",
            lambda: curves(*panels),
        )
    attended = (each for each in of_candidate(verdicts, ATTENTION_LIFT) if each.check.pose == IDENTITY)
    lifts = {each.check.class_name or "all classes": each for each in attended}
    if len(lifts) >= _FEWEST:
        lift, lowest = min((each.value or 0.0, name) for name, each in lifts.items())
        yield Illustration(
            f"Grad-CAM mass on the object{_of_sample(lifts.values(), overview)}",
            "Left of the dashed line, less of the Grad-CAM mass is on the object than with a uniform map.",
            f"Grad-CAM lift by class. Lowest: {lowest}, {lift:.2f}.",
            lambda: attention_by_class({first: lifts}),
        )


def _of_models(
    overview: Overview, verdicts: Sequence[Verdict], reference: Mapping[str, Sequence[Curve]]
) -> Iterator[Illustration]:
    models, first, other, count = overview.models, overview.models[0], overview.reference, len(overview.classes)
    worst = f" (the {CLASSES_SHOWN} worst of {count:,} classes)" if count > CLASSES_SHOWN else ""
    rates = zip(first.per_class, overview.classes, strict=True)
    value, lowest = min((rate.value, name) for rate, name in rates if rate)
    accuracies = (each for each in of_candidate(verdicts, ACCURACY) if each.check.pose == IDENTITY)
    known = {each.check.class_name: each for each in accuracies if each.check.family == "class"}
    said = f"{role_title(first.name)}: worst class {lowest}, {value:.0%}."
    yield Illustration(
        f"Clean accuracy by class{worst}",
        "Further right is better. The scale does not begin at 0.",
        f"Clean accuracy by class. {said}",
        lambda: class_accuracies(overview, known),
    )
    yield Illustration(
        f"Confusions of the {role_title(first.name)}{worst}",
        "Each row is a true class. A colored cell is a confusion, in full color from 15% on. Correct predictions are "
        "gray.",
        f"Confusion matrix. {said}",
        lambda: confusion_maps(confusions(overview, first)),
        is_map=True,
    )
    if other is not None:
        yield Illustration(
            f"Change of the confusions{worst}",
            f"In orange cells, the {first.name} is worse than the {role_title(other.name)}: more confusions, or fewer "
            "correct predictions on the diagonal. In blue cells, it is better.",
            f"Difference of the confusion matrices of {first.name} and {role_title(other.name)}, in points.",
            lambda: confusion_maps(confusions(overview, first, other)),
            is_map=True,
        )
    if errors := {model.name: model.calibration_error for model in models if model.calibration_error is not None}:
        sure = max(sum(item.count for item in model.reliability) for model in models)
        sample = f" ({sure:,} of {overview.n:,} images)" if sure < overview.n else ""
        of_each = (f"{role_title(name)}: {Unit.SHARE.format(error)}" for name, error in errors.items())
        yield Illustration(
            f"Reliability diagram{sample}",
            "On the gray line, predictions with 80% confidence are correct 80% of the time. Below it, the model is "
            "overconfident.",
            f"Reliability diagram. Expected calibration error: {'; '.join(of_each)}",
            lambda: reliability_diagrams(overview, reference),
        )
    if any(model.history for model in models):
        yield Illustration(
            "Training curves",
            "Thick lines are validation images, thin lines training images. Where the two part, the model overfits.",
            "Loss and accuracy by epoch of training.",
            lambda: training_curves({model.name: model.history for model in models}),
        )


def _of_sample(measured: Iterable[Rate | Verdict], overview: Overview) -> str:
    """Return the note behind a title that a figure is of a sample, whose values differ from those of all images."""
    n = min(each.n for each in measured)
    return f" ({n:,} of {overview.n:,} images)" if n < overview.n else ""


def _accuracies(verdicts: Sequence[Verdict]) -> list[Verdict]:
    families, accuracies = {"clean", "rotation", "shift"}, of_candidate(verdicts, ACCURACY)
    return [each for each in accuracies if each.check.family in families and each.check.class_name is None]


def _turns(pose: Pose) -> bool:
    return pose == Pose(pose.degrees)
