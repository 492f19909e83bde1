"""Figures of a run, of its models side by side, and of a training: what each shows, and how it is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.checks.roles import role_title
from harness.data.domain import DEFAULT_RANGE
from harness.measures import Unit
from harness.measures.accuracy import ACCURACY
from harness.measures.confidence import RELIABILITY
from harness.measures.localisation import ATTENTION_LIFT
from harness.measures.statistics import proportion_interval
from harness.measures.worst_poses import survival, survival_name
from harness.perturb import IDENTITY, Pose
from harness.report.figures import (
    BAD,
    CHANGE,
    LOOKS,
    WIDTH,
    HeatMap,
    Panel,
    Series,
    curves,
    dots,
    heat_maps,
)
from harness.report.page import Illustration, Section, figures_html, paragraphs
from harness.report.tables import left_out
from harness.report.wording import of_candidate
from harness.run.outcome import SETTLED
from harness.run.overview import TELLING, Rate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from matplotlib.figure import Figure

    from harness.checks import Verdict
    from harness.inference.search import Breaking
    from harness.measures.metric import Curve
    from harness.run.overview import ModelOverview, Overview

CLASSES_SHOWN = 100
"""Classes that a figure shows at most: if there are more, those with the lowest accuracy."""
_FEWEST, _FEW = 3, 10
"""Places of a figure, and predictions of a bin of confidence, from which on they say something."""
_MOST_CONFUSED, _LEAST_REACH = 15.0, 5.0
"""Percent at which the color of a confusion is full, and the least change, in points, at which its color is full."""
_PATHS = {
    "rotation": ("rotated by up to, degrees", 1),
    "shift": ("translated by up to, pixels", 1),
    "joint": ("rotated and translated by up to, % of ±30° and ±3 px", 100),
}
"""Severity of a path: its name, and the factor for display."""
_BAND = "A yellow band is the mean of the reference models ± 2 standard deviations. Other bars are 95% intervals."
_INTERVALS = "Bars are 95% intervals."


def figures(
    overview: Overview,
    verdicts: Sequence[Verdict] = (),
    reference: Mapping[str, Sequence[Curve]] = {},
) -> Section:
    """Return all figures of a run; `reference` has curves of the reference models by name."""
    if overview.n < TELLING:
        body = paragraphs(f"No curves or maps: {overview.n} images are too few for them.")
        return Section("figures", "Figures", body)
    of_checks = _of_checks(overview, verdicts, reference)
    drawn = (*of_checks, *_of_models(overview, verdicts, reference))
    banded = bool(reference) or any(stated({0: verdict}) for verdict in verdicts)
    body = paragraphs(left_out(overview), _BAND if banded else _INTERVALS) + figures_html(drawn)
    return Section("figures", "Figures", body, drawn)


def _of_checks(
    overview: Overview, verdicts: Sequence[Verdict], reference: Mapping[str, Sequence[Curve]]
) -> Iterator[Illustration]:
    def of_sample(measured: Iterable[Rate | Verdict]) -> str:
        """Return the note behind a title that a figure is of a sample, whose values differ from those of all images."""
        n = min(each.n for each in measured)
        return f" ({n:,} of {overview.n:,} images)" if n < overview.n else ""

    first, families = overview.models[0].name, {"clean", "rotation", "shift"}
    own = {
        each.check.pose: each
        for each in of_candidate(verdicts, ACCURACY)
        if each.check.family in families and each.check.class_name is None
    }
    posed = {IDENTITY: overview.models[0].accuracy} | {
        pose: rate_of(each) for pose, each in own.items()
    }
    turned = {
        pose.degrees: posed[pose]
        for pose in sorted(posed, key=lambda pose: pose.degrees)
        if _turns(pose)
    }
    if len(turned) >= _FEWEST:
        band = stated({pose.degrees: each for pose, each in own.items() if _turns(pose)})
        said = ", ".join(f"{rate.value:.0%} at {degrees:+g}°" for degrees, rate in turned.items())
        yield Illustration(
            f"Accuracy against rotation{of_sample(turned.values())}",
            "Higher and flatter is better.",
            f"Accuracy against rotation: {said}.",
            lambda: rotation_curves({first: turned}, band, within=overview.augmentation.rotate),
        )
    shifts = {(pose.dx, pose.dy): rate for pose, rate in posed.items() if not pose.degrees}
    if len(shifts) >= _FEWEST:
        cells = len({0.0, *(dx for dx, _ in shifts)}) * len({0.0, *(dy for _, dy in shifts)})
        unmeasured = " Checks do not measure the gray cells." if cells > len(shifts) else ""
        yield Illustration(
            f"Accuracy by translation{of_sample(shifts.values())}",
            "Each cell is the candidate's accuracy, in percent, translated right (columns) and down (rows). The middle "
            f"is clean.{unmeasured}",
            f"Accuracy at {len(shifts)} translations, {min(rate.value for rate in shifts.values()):.0%} at the worst.",
            lambda: shift_maps({first: shifts}),
            is_map=True,
        )
    found = {
        each.curve.name: each
        for each in verdicts
        if each.curve is not None and each.check.role == "candidate"
    }
    panels = []
    for path in ("rotation", "shift"):
        if (
            verdict := found.get(name := survival_name(path))
        ) is not None and verdict.curve is not None:
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
    attended = (
        each for each in of_candidate(verdicts, ATTENTION_LIFT) if each.check.pose == IDENTITY
    )
    lifts = {each.check.class_name or "all classes": each for each in attended}
    if len(lifts) >= _FEWEST:
        lift, lowest = min((each.value or 0.0, name) for name, each in lifts.items())
        yield Illustration(
            f"Grad-CAM mass on the object{of_sample(lifts.values())}",
            "Left of the dashed line, less of the Grad-CAM mass is on the object than with a uniform map.",
            f"Grad-CAM lift by class. Lowest: {lowest}, {lift:.2f}.",
            lambda: attention_by_class({first: lifts}),
        )


def _turns(pose: Pose) -> bool:
    return pose == Pose(pose.degrees)


def _of_models(
    overview: Overview, verdicts: Sequence[Verdict], reference: Mapping[str, Sequence[Curve]]
) -> Iterator[Illustration]:
    models, first, other, count = (
        overview.models,
        overview.models[0],
        overview.reference,
        len(overview.classes),
    )
    worst = f" (the {CLASSES_SHOWN} worst of {count:,} classes)" if count > CLASSES_SHOWN else ""
    rates = zip(first.per_class, overview.classes, strict=True)
    value, lowest = min((rate.value, name) for rate, name in rates if rate)
    own = (each for each in of_candidate(verdicts, ACCURACY) if each.check.pose == IDENTITY)
    known = {each.check.class_name: each for each in own if each.check.family == "class"}
    said = f"{role_title(first.name)}: worst class {lowest}, {value:.0%}."
    begins = " The scale does not begin at 0." if _class_scale(overview, known)[0] > 0 else ""
    yield Illustration(
        f"Clean accuracy by class{worst}",
        f"Further right is better.{begins}",
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
    if errors := {
        model.name: model.calibration_error
        for model in models
        if model.calibration_error is not None
    }:
        sure = max(sum(item.count for item in model.reliability) for model in models)
        sample = f" ({sure:,} of {overview.n:,} images)" if sure < overview.n else ""
        of_each = (
            f"{role_title(name)}: {Unit.SHARE.format(error)}" for name, error in errors.items()
        )
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


def rotation_curves(
    rates: Mapping[str, Mapping[float, Rate]],
    band: Series | None = None,
    *,
    within: float = DEFAULT_RANGE.rotate,
) -> Figure:
    """Draw accuracy by model and degrees; the augmentation range, ± so many degrees `within`, is shaded."""
    series = [Series.of_rates(name, each) for name, each in rates.items()]
    title = "rotation, degrees (positive is counter-clockwise)"
    shaded = (-within, within, f"augmentation range: ±{within:g}°") if within else None
    return curves(Panel(title, "accuracy, %", series, band, shaded=shaded))


def shift_maps(rates: Mapping[str, Mapping[tuple[float, float], Rate]]) -> Figure:
    """Draw accuracy by model and shift (dx, dy), in percent."""
    maps = []
    for name, each in rates.items():
        right, down = (sorted({0.0, *places}) for places in zip(*each, strict=True))
        values = np.array(
            [
                [100 * each[dx, dy].value if (dx, dy) in each else np.nan for dx in right]
                for dy in down
            ]
        )
        texts = [["" if np.isnan(value) else f"{value:.0f}" for value in row] for row in values]
        columns, rows = ([f"{at:+g}" if at else "0" for at in places] for places in (right, down))
        maps.append(HeatMap(name, values, rows, "cividis", (0, 100), texts, columns=columns))
    height = 1.0 + (WIDTH - 0.6) / len(maps)
    return heat_maps(*maps, x="dx, pixels (right is +)", y="dy, pixels (down is +)", height=height)


def survival_panel(
    path: str,
    known: Mapping[str, tuple[Curve, int]],
    band: Series | None = None,
    *,
    title: str = "",
) -> Panel:
    """Return axes with survival curves along a path by name, each with its number of images."""
    words, factor = _PATHS.get(path, (path, 1))
    series = []
    for name, (curve, n) in known.items():
        counts = (round((share or 0.0) * n) for share in curve.values)
        rates = [
            Rate(share or 0.0, *proportion_interval(count, n), n)
            for share, count in zip(curve.values, counts)  # noqa: B905
        ]
        places = (factor * (at or 0.0) for at in curve.at)
        series.append(Series.of_rates(name, dict(zip(places, rates, strict=True))))
    return Panel(words, "predictions still correct, %", series, band, title=title)


def survival_curves(found: Sequence[Breaking]) -> Figure:
    """Draw survival along each path, of the images with a correct clean prediction."""
    panels = []
    for each in found:
        n, fails = (
            len(each.severity),
            (each.path.label(each.quantile(share)) for share in (0.1, 0.5)),
        )
        title = "{:,} images\none in ten fails by {}\nhalf fail by {}".format(n, *fails)
        panels.append(
            survival_panel(each.path.name, {"correct when clean": (survival(each), n)}, title=title)
        )
    return curves(*panels, width=4 * len(panels), height=4.2)


def verdict_dots(
    models: Mapping[str, Mapping[str, Verdict]],
    *,
    x: str,
    scale: float = 100,
    upright: tuple[float, str] | None = None,
) -> Figure:
    """Draw what checks measured by model and row, with interval, threshold and reference models; failures are orange.

    Rows, thresholds and reference models are those of the first model.
    """
    first, series = next(iter(models.values())), []
    for name, each in models.items():
        for label, fails, look in (
            (name, False, {}),
            (f"{name}, fails", True, {"color": BAD, "marker": "X"}),
        ):
            of = {
                at: rate_of(one)
                for at, one in enumerate(each.values())
                if (one.status == "fail") == fails
            }
            series.append(Series.of_rates(label, of, scale=scale, **look))
    thresholds = {
        at: scale * one.threshold
        for at, one in enumerate(first.values())
        if one.threshold is not None
    }
    band = stated(dict(enumerate(first.values())), scale=scale)
    return dots([*first], *series, x=x, band=band, thresholds=thresholds, upright=upright)


def attention_by_class(lifts: Mapping[str, Mapping[str, Verdict]]) -> Figure:
    """Draw the lift by model and class: Grad-CAM mass on the object over that of a uniform map."""
    title = "lift: Grad-CAM mass on the object, uniform map = 1"
    return verdict_dots(lifts, x=title, scale=1, upright=(1, "uniform map"))


def _shown(model: ModelOverview) -> list[int]:
    """Return the positions of the classes that a figure shows: all, or the 100 with the model's lowest accuracy."""
    rates = model.per_class
    worst = sorted(
        range(len(rates)), key=lambda at: (rate.value if (rate := rates[at]) else 2.0, at)
    )
    return sorted(worst[:CLASSES_SHOWN])


def class_accuracies(overview: Overview, known: Mapping[str | None, Verdict] = {}) -> Figure:
    """Draw each class's clean accuracy for each model; `known` has checks, which state reference models, by class."""
    names, series, band = _class_series(overview, known)
    return dots(
        names, *series, x="clean accuracy, %", band=band, limits=_class_scale(overview, known)
    )


def _class_series(
    overview: Overview, known: Mapping[str | None, Verdict]
) -> tuple[list[str], list[Series], Series | None]:
    """Return the classes that a figure shows, their accuracy for each model, and the band of reference models."""
    shown = _shown(overview.models[0])
    names = [overview.classes[at] for at in shown]
    series = []
    for model in overview.models:
        rates = {at: rate for at, label in enumerate(shown) if (rate := model.per_class[label])}
        series.append(Series.of_rates(model.name, rates))
    return (
        names,
        series,
        stated({at: known[name] for at, name in enumerate(names) if name in known}),
    )


def _class_scale(overview: Overview, known: Mapping[str | None, Verdict]) -> tuple[float, float]:
    """Return the ends of the scale of accuracy by class, in percent: just below the lowest interval, but at least 0."""
    _, series, band = _class_series(overview, known)
    drawn = [*series, *([band] if band else [])]
    lowest = min([100.0, *(low for each in drawn for low in each.low)])
    return max(5 * int(lowest / 5) - 1, 0), 100.5


def confusions(
    overview: Overview, model: ModelOverview, reference: ModelOverview | None = None
) -> HeatMap:
    """Return the confusions in percent of the true class, or their change from a reference: blue is better."""
    shown = _shown(model)
    at, diagonal = np.ix_(shown, shown), np.eye(len(shown), dtype=bool)
    values, names = model.confusion_shares[at], [overview.classes[each] for each in shown]
    written = "{:.0f}"
    if reference is not None:
        values, written = values - reference.confusion_shares[at], "{:+.0f}"
    texts = [
        [written.format(value) if abs(value.round()) >= 1 else "" for value in row]
        for row in values
    ]
    if reference is None:
        colors, title = ("#ffffff", BAD, "#5e2600"), f"{model.name}, % of the true class"
        return HeatMap(
            title, np.where(diagonal, np.nan, values), names, colors, (0.0, _MOST_CONFUSED), texts
        )
    reach = max(float(np.nanmax(np.abs(values), initial=0)), _LEAST_REACH)
    # More is better on the diagonal, where predictions are correct, and worse elsewhere.
    better, title = np.where(diagonal, values, -values), f"{model.name} − {reference.name}, points"
    return HeatMap(title, better, names, CHANGE, (-reach, reach), texts)


def confusion_maps(*maps: HeatMap) -> Figure:
    """Draw confusions, or their changes, side by side."""
    return heat_maps(*maps, x="predicted as", y="true class", width=len(maps) * WIDTH)


def reliability_diagrams(
    overview: Overview, reference: Mapping[str, Sequence[Curve]] = {}
) -> Figure:
    """Draw accuracy against confidence for each model; below, the number of predictions.

    Bins of fewer than ten predictions are left out, and from the band those of any reference model.
    """
    known = reference.get(RELIABILITY, ())
    full = [
        at
        for at, each in enumerate(zip(*(curve.counts for curve in known), strict=True))
        if min(each) >= _FEW
    ]
    upper, lower = [], []
    for number, model in enumerate(overview.models):
        if (error := model.calibration_error) is not None:
            bins = [item for item in model.reliability if item.count >= _FEW]
            name, look = f"{model.name} (ECE {100 * error:.1f}%)", LOOKS[number % len(LOOKS)]
            places = [100 * (item.confidence or 0.0) for item in bins]
            upper.append(
                Series(name, places, [100 * (item.accuracy or 0.0) for item in bins], look=look)
            )
            lower.append(Series(name, places, [item.count for item in bins], look=look))
    line = {"color": "0.5", "linewidth": 1, "marker": "", "linestyle": "-"}
    upper.append(Series("perfectly calibrated", (0, 100), (0, 100), look=line))
    return curves(
        Panel("", "accuracy, %", upper, band_of(known, full, across=100)),
        Panel(
            "confidence of the prediction, %", "predictions", lower, limits=(None, None), log=True
        ),
        height=4.4,
        heights=(3, 1),
    )


def training_curves(
    histories: Mapping[str, Sequence[Mapping[str, float]]], *, kept: int | None = None
) -> Figure:
    """Draw loss and accuracy against the epoch for each model by name: validation thick, training thin.

    An epoch has the fields of `harness.networks.training.Epoch`; `kept` is the number of one to mark.
    """
    panels = []
    upright = None if kept is None else (kept, f"kept: epoch {kept}")
    for quantity, factor, unit in (("loss", 1, ""), ("accuracy", 100, ", %")):
        series = []
        for number, (name, history) in enumerate(histories.items()):
            for split, width in (("training", 0.8), ("validation", 1.8)) if history else ():
                # A line of one point is none.
                marks = {
                    "marker": "o" if len(history) == 1 else "",
                    "fillstyle": "full" if width > 1 else "none",
                }
                look = {**LOOKS[number % len(LOOKS)], "linewidth": width, **marks}
                values = [factor * epoch[f"{split}_{quantity}"] for epoch in history]
                series.append(
                    Series(
                        f"{name}, {split}", [epoch["epoch"] for epoch in history], values, look=look
                    )
                )
        panels.append(
            Panel("epoch", f"{quantity}{unit}", series, limits=(None, None), upright=upright)
        )
    return curves(*panels, height=4.8, heights=(1, 1))


def rate_of(verdict: Verdict) -> Rate:
    """Return what a check measured with its interval."""
    return Rate(verdict.value or 0.0, *(verdict.interval or (0.0, 1.0)), verdict.n)


def stated(verdicts: Mapping[float, Verdict], *, scale: float = 100) -> Series | None:
    """Return the band of the reference models that checks state, by place; None where none does."""
    known = [
        (at, scale * panel.mean, scale * panel.std)
        for at, verdict in sorted(verdicts.items())
        if (panel := verdict.check.reference) and panel.mean is not None and panel.std is not None
    ]
    return Series.of_reference(*zip(*known, strict=True)) if known else None


def band_of(
    known: Sequence[Curve], places: Sequence[int] | None = None, *, across: float = 1
) -> Series | None:
    """Return the band of curves of the reference models, in percent, at all or some places; `across` scales these.

    Fewer than three curves make no band, since their standard deviation says nothing.
    """
    if len(known) < SETTLED or not len(known[0].at if places is None else places):
        return None
    some = slice(None) if places is None else places
    at, values = (
        np.array([getattr(curve, name) for curve in known], dtype=np.float64)[:, some]
        for name in ("at", "values")
    )
    spread = 100 * values.std(axis=0, ddof=1)
    return Series.of_reference(
        across * at.mean(axis=0), 100 * values.mean(axis=0), spread, (0.0, 100.0)
    )
