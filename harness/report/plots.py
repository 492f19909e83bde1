"""Figures of a run, of its models side by side, and of a training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
    CurvePlot,
    HeatMap,
    Series,
    curves,
    dots,
    heat_maps,
)
from harness.report.page import Illustration, Section, figures_html, paragraphs
from harness.report.tables import left_out
from harness.report.wording import of_candidate
from harness.run.overview import TELLING, Rate
from harness.run.results import SETTLED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from matplotlib.figure import Figure

    from harness.checks import Verdict
    from harness.inference.search import Breaking
    from harness.measures.metric import Curve
    from harness.run.overview import ModelOverview, Overview

CLASSES_SHOWN = 100
"""Classes that a figure shows at most: if there are more, those with the lowest accuracy."""
_FEWEST_PLACES = 3
"""Places of a figure from which on it shows a trend."""
_FEWEST_PREDICTIONS = 10
"""Predictions of a bin of confidence from which on its accuracy is drawn."""
_FULL_CONFUSION = 15.0
"""Percent of a class at which the color of a confusion is full."""
_SMALLEST_FULL_CHANGE = 5.0
"""Points: if no confusion changes by more, the color is full from this change on."""
_PATHS = {
    "rotation": ("rotated by up to, degrees", 1),
    "shift": ("translated by up to, pixels", 1),
    "joint": ("rotated and translated by up to, % of ±30° and ±3 px", 100),
}
"""Severity of a path: its name, and the factor for display."""
_BAND = (
    "A yellow band is the mean of the reference models ± 2 standard deviations. "
    "Other bars are 95% intervals."
)
_INTERVALS = "Bars are 95% intervals."


def figures(
    overview: Overview,
    verdicts: Sequence[Verdict] = (),
    reference: Mapping[str, Sequence[Curve]] = {},
) -> Section:
    """Return the section with all figures of a run.

    Args:
        overview: what the run measured of its models.
        verdicts: the verdicts of the run.
        reference: curves of the reference models, by name of the curve.
    """
    if overview.n < TELLING:
        body = paragraphs(f"No curves or maps: {overview.n} images are too few for them.")
        return Section("figures", "Figures", body)

    illustrations = (
        *_of_checks(overview, verdicts, reference),
        *_of_models(overview, verdicts, reference),
    )
    has_band = bool(reference) or any(stated({0: verdict}) for verdict in verdicts)
    explanation = _BAND if has_band else _INTERVALS
    body = paragraphs(left_out(overview), explanation) + figures_html(illustrations)
    return Section("figures", "Figures", body, illustrations)


def _of_checks(
    overview: Overview, verdicts: Sequence[Verdict], reference: Mapping[str, Sequence[Curve]]
) -> Iterator[Illustration]:
    """Yield the figures of what checks measured of the candidate."""
    candidate = overview.models[0]
    by_pose = _accuracy_verdicts_by_pose(verdicts)
    rates = {IDENTITY: candidate.accuracy}
    rates |= {pose: rate_of(verdict) for pose, verdict in by_pose.items()}

    yield from _rotation_figure(overview, by_pose, rates)
    yield from _shift_figure(overview, rates)
    yield from _survival_figure(candidate.name, verdicts, reference)
    yield from _attention_figure(overview, verdicts)


def _accuracy_verdicts_by_pose(verdicts: Sequence[Verdict]) -> dict[Pose, Verdict]:
    """Return the verdicts on the candidate's accuracy over all classes, by pose."""
    by_pose = {}
    for verdict in of_candidate(verdicts, ACCURACY):
        check = verdict.check
        if check.family in {"clean", "rotation", "shift"} and check.class_name is None:
            by_pose[check.pose] = verdict
    return by_pose


def _sample_note(overview: Overview, measured: Iterable[Rate | Verdict]) -> str:
    """Return the note behind a title if a figure shows a sample, whose values differ from all."""
    n = min(rate.n for rate in measured)
    if n == overview.n:
        return ""
    return f" ({n:,} of {overview.n:,} images)"


def _rotation_figure(
    overview: Overview, by_pose: Mapping[Pose, Verdict], rates: Mapping[Pose, Rate]
) -> Iterator[Illustration]:
    rotations = sorted(filter(_is_rotation, rates), key=lambda pose: pose.degrees)
    if len(rotations) < _FEWEST_PLACES:
        return

    rotated = {pose.degrees: rates[pose] for pose in rotations}
    band = stated({pose.degrees: by_pose[pose] for pose in by_pose if _is_rotation(pose)})
    values = ", ".join(f"{rate.value:.0%} at {degrees:+g}°" for degrees, rate in rotated.items())
    name = overview.models[0].name
    yield Illustration(
        f"Accuracy against rotation{_sample_note(overview, rotated.values())}",
        "Higher and flatter is better.",
        f"Accuracy against rotation: {values}.",
        lambda: rotation_curves({name: rotated}, band, within=overview.augmentation.rotate),
    )


def _is_rotation(pose: Pose) -> bool:
    """Return whether a pose is a rotation alone, by 0° too."""
    return pose == Pose(pose.degrees)


def _shift_figure(overview: Overview, rates: Mapping[Pose, Rate]) -> Iterator[Illustration]:
    shifted = {(pose.dx, pose.dy): rate for pose, rate in rates.items() if not pose.degrees}
    if len(shifted) < _FEWEST_PLACES:
        return

    columns = {0.0, *(dx for dx, _ in shifted)}
    rows = {0.0, *(dy for _, dy in shifted)}
    unmeasured = ""
    if len(columns) * len(rows) > len(shifted):
        unmeasured = " Checks do not measure the gray cells."
    lowest = min(rate.value for rate in shifted.values())
    name = overview.models[0].name
    yield Illustration(
        f"Accuracy by translation{_sample_note(overview, shifted.values())}",
        "Each cell is the candidate's accuracy, in percent, translated right (columns) and down "
        f"(rows). The middle is clean.{unmeasured}",
        f"Accuracy at {len(shifted)} translations, {lowest:.0%} at the worst.",
        lambda: shift_maps({name: shifted}),
        is_map=True,
    )


def _survival_figure(
    candidate: str, verdicts: Sequence[Verdict], reference: Mapping[str, Sequence[Curve]]
) -> Iterator[Illustration]:
    by_curve = {}
    for verdict in verdicts:
        if verdict.curve is not None and verdict.check.role == "candidate":
            by_curve[verdict.curve.name] = verdict

    plots = []
    for path in ("rotation", "shift"):
        curve_name = survival_name(path)
        measured = by_curve.get(curve_name)
        if measured is None or measured.curve is None:
            continue
        n = measured.counted or measured.n
        curve = {f"{candidate} (n={n:,})": (measured.curve, n)}
        plots.append(survival_plot(path, curve, band_of(reference.get(curve_name, ()))))
    if not plots:
        return

    yield Illustration(
        f"Survival curves of the {role_title(candidate)}",
        "Share of the correct clean predictions that are still correct at every pose up to this "
        "size.",
        "Share of predictions still correct against the size of rotation and shift.",
        lambda: curves(*plots),
    )


def _attention_figure(overview: Overview, verdicts: Sequence[Verdict]) -> Iterator[Illustration]:
    lifts = {}
    for verdict in of_candidate(verdicts, ATTENTION_LIFT):
        if verdict.check.pose == IDENTITY:
            lifts[verdict.check.class_name or "all classes"] = verdict
    if len(lifts) < _FEWEST_PLACES:
        return

    lift, lowest = min((verdict.value or 0.0, name) for name, verdict in lifts.items())
    candidate = overview.models[0].name
    yield Illustration(
        f"Grad-CAM mass on the object{_sample_note(overview, lifts.values())}",
        "Left of the dashed line, less of the Grad-CAM mass is on the object than with a uniform "
        "map.",
        f"Grad-CAM lift by class. Lowest: {lowest}, {lift:.2f}.",
        lambda: attention_by_class({candidate: lifts}),
    )


def _of_models(
    overview: Overview, verdicts: Sequence[Verdict], reference: Mapping[str, Sequence[Curve]]
) -> Iterator[Illustration]:
    """Yield the figures that show the models of the run side by side."""
    yield from _class_figures(overview, verdicts)
    yield from _reliability_figure(overview, reference)

    if any(model.history for model in overview.models):
        yield Illustration(
            "Training curves",
            "Thick lines are validation images, thin lines training images. Where the two part, "
            "the model overfits.",
            "Loss and accuracy by epoch of training.",
            lambda: training_curves({model.name: model.history for model in overview.models}),
        )


def _class_figures(overview: Overview, verdicts: Sequence[Verdict]) -> Iterator[Illustration]:
    """Yield accuracy by class, the candidate's confusions, and their change from a reference."""
    candidate, other = overview.models[0], overview.reference
    title = role_title(candidate.name)
    count = len(overview.classes)
    part = f" (the {CLASSES_SHOWN} worst of {count:,} classes)" if count > CLASSES_SHOWN else ""

    by_class = {}
    for verdict in of_candidate(verdicts, ACCURACY):
        if verdict.check.pose == IDENTITY and verdict.check.family == "class":
            by_class[verdict.check.class_name] = verdict
    class_rates = zip(candidate.per_class, overview.classes, strict=True)
    value, lowest = min((rate.value, name) for rate, name in class_rates if rate)
    worst_class = f"{title}: worst class {lowest}, {value:.0%}."
    scale_note = ""
    if _class_scale(overview, by_class)[0] > 0:
        scale_note = " The scale does not begin at 0."
    yield Illustration(
        f"Clean accuracy by class{part}",
        f"Further right is better.{scale_note}",
        f"Clean accuracy by class. {worst_class}",
        lambda: class_accuracies(overview, by_class),
    )

    yield Illustration(
        f"Confusions of the {title}{part}",
        "Each row is a true class. A colored cell is a confusion, in full color from 15% on. "
        "Correct predictions are gray.",
        f"Confusion matrix. {worst_class}",
        lambda: confusion_maps(confusions(overview, candidate)),
        is_map=True,
    )
    if other is None:
        return
    other_title = role_title(other.name)
    yield Illustration(
        f"Change of the confusions{part}",
        f"In orange cells, the {candidate.name} is worse than the {other_title}: more confusions, "
        "or fewer correct predictions on the diagonal. In blue cells, it is better.",
        f"Difference of the confusion matrices of {candidate.name} and {other_title}, in points.",
        lambda: confusion_maps(confusions(overview, candidate, other)),
        is_map=True,
    )


def _reliability_figure(
    overview: Overview, reference: Mapping[str, Sequence[Curve]]
) -> Iterator[Illustration]:
    errors = []
    for model in overview.models:
        if model.calibration_error is not None:
            error = Unit.SHARE.format(model.calibration_error)
            errors.append(f"{role_title(model.name)}: {error}")
    if not errors:
        return

    n = max(sum(item.count for item in model.reliability) for model in overview.models)
    sample = f" ({n:,} of {overview.n:,} images)" if n < overview.n else ""
    yield Illustration(
        f"Reliability diagram{sample}",
        "On the gray line, predictions with 80% confidence are correct 80% of the time. Below it, "
        "the model is overconfident.",
        f"Reliability diagram. Expected calibration error: {'; '.join(errors)}",
        lambda: reliability_diagrams(overview, reference),
    )


def rotation_curves(
    rates: Mapping[str, Mapping[float, Rate]],
    band: Series | None = None,
    *,
    within: float = DEFAULT_RANGE.rotate,
) -> Figure:
    """Draw accuracy against rotation.

    Args:
        rates: accuracy by model and degrees.
        band: the band of the reference models.
        within: degrees of the augmentation range to either side, which is shaded.
    """
    series = [Series.of_rates(name, model_rates) for name, model_rates in rates.items()]
    title = "rotation, degrees (positive is counter-clockwise)"
    shaded = (-within, within, f"augmentation range: ±{within:g}°") if within else None
    return curves(CurvePlot(title, "accuracy, %", series, band, shaded=shaded))


def shift_maps(rates: Mapping[str, Mapping[tuple[float, float], Rate]]) -> Figure:
    """Draw accuracy, in percent, by model and shift (dx, dy) in pixels."""
    maps = [_shift_map(name, model_rates) for name, model_rates in rates.items()]
    height = 1.0 + (WIDTH - 0.6) / len(maps)
    return heat_maps(*maps, x="dx, pixels (right is +)", y="dy, pixels (down is +)", height=height)


def _shift_map(name: str, rates: Mapping[tuple[float, float], Rate]) -> HeatMap:
    right = sorted({0.0, *(dx for dx, _ in rates)})
    down = sorted({0.0, *(dy for _, dy in rates)})
    values = np.full((len(down), len(right)), np.nan)
    for row, dy in enumerate(down):
        for column, dx in enumerate(right):
            if (dx, dy) in rates:
                values[row, column] = 100 * rates[dx, dy].value

    texts = [["" if np.isnan(value) else f"{value:.0f}" for value in row] for row in values]
    return HeatMap(
        name,
        values,
        _signed(down),
        "cividis",
        (0, 100),
        texts,
        columns=_signed(right),
    )


def _signed(places: Sequence[float]) -> list[str]:
    """Return places with their sign; 0 has none."""
    return [f"{place:+g}" if place else "0" for place in places]


def survival_plot(
    path: str,
    curves_by_name: Mapping[str, tuple[Curve, int]],
    band: Series | None = None,
    *,
    title: str = "",
) -> CurvePlot:
    """Return axes with survival curves along a path.

    Args:
        path: name of the path, such as "rotation".
        curves_by_name: the curves, each with its number of images.
        band: the band of the reference models.
        title: title above the axes.
    """
    label, factor = _PATHS.get(path, (path, 1))
    series = []
    for name, (curve, n) in curves_by_name.items():
        rates = {}
        for place, value in zip(curve.at, curve.values, strict=False):
            share = value or 0.0
            interval = proportion_interval(round(share * n), n)
            rates[factor * (place or 0.0)] = Rate(share, *interval, n)
        series.append(Series.of_rates(name, rates))
    return CurvePlot(label, "predictions still correct, %", series, band, title=title)


def survival_curves(searches: Sequence[Breaking]) -> Figure:
    """Draw survival along each path, of the images with a correct clean prediction."""
    plots = []
    for search in searches:
        n = len(search.severity)
        tenth = search.path.label(search.quantile(0.1))
        half = search.path.label(search.quantile(0.5))
        title = f"{n:,} images\none in ten fails by {tenth}\nhalf fail by {half}"
        curve = {"correct when clean": (survival(search), n)}
        plots.append(survival_plot(search.path.name, curve, title=title))
    return curves(*plots, width=4 * len(plots), height=4.2)


def verdict_dots(
    models: Mapping[str, Mapping[str, Verdict]],
    *,
    x: str,
    scale: float = 100,
    upright: tuple[float, str] | None = None,
) -> Figure:
    """Draw values of checks with interval, threshold and reference models; failures are orange.

    Args:
        models: verdicts by model and name of the row. Rows, thresholds and reference models are
            those of the first model.
        x: label of the horizontal axis.
        scale: factor from a value to its place on the axis.
        upright: a vertical line (place, label).
    """
    series = []
    for name, verdicts in models.items():
        passing: dict[int, Rate] = {}
        failing: dict[int, Rate] = {}
        for row, verdict in enumerate(verdicts.values()):
            rates = failing if verdict.status == "fail" else passing
            rates[row] = rate_of(verdict)
        series.append(Series.of_rates(name, passing, scale=scale))
        series.append(
            Series.of_rates(f"{name}, fails", failing, scale=scale, color=BAD, marker="X")
        )

    first = next(iter(models.values()))
    thresholds = {}
    for row, verdict in enumerate(first.values()):
        if verdict.threshold is not None:
            thresholds[row] = scale * verdict.threshold
    band = stated(dict(enumerate(first.values())), scale=scale)
    return dots([*first], *series, x=x, band=band, thresholds=thresholds, upright=upright)


def attention_by_class(lifts: Mapping[str, Mapping[str, Verdict]]) -> Figure:
    """Draw the lift by model and class: Grad-CAM mass on the object over that of a uniform map."""
    title = "lift: Grad-CAM mass on the object, uniform map = 1"
    return verdict_dots(lifts, x=title, scale=1, upright=(1, "uniform map"))


def _classes_shown(model: ModelOverview) -> list[int]:
    """Return the positions of the classes that a figure shows, in order.

    If there are more than 100, those are the ones with the model's lowest accuracy.
    """

    def accuracy_and_position(position: int) -> tuple[float, int]:
        rate = model.per_class[position]
        if rate is None:  # A class without images comes last.
            return 2.0, position
        return rate.value, position

    worst_first = sorted(range(len(model.per_class)), key=accuracy_and_position)
    return sorted(worst_first[:CLASSES_SHOWN])


def class_accuracies(overview: Overview, by_class: Mapping[str | None, Verdict] = {}) -> Figure:
    """Draw clean accuracy by model and class; verdicts `by_class` state the reference models."""
    names, series, band = _class_series(overview, by_class)
    limits = _class_scale(overview, by_class)
    return dots(names, *series, x="clean accuracy, %", band=band, limits=limits)


def _class_series(
    overview: Overview, by_class: Mapping[str | None, Verdict]
) -> tuple[list[str], list[Series], Series | None]:
    """Return the classes that a figure shows, their accuracies, and the reference band."""
    shown = _classes_shown(overview.models[0])
    names = [overview.classes[position] for position in shown]

    series = []
    for model in overview.models:
        rates = {}
        for row, position in enumerate(shown):
            rate = model.per_class[position]
            if rate is not None:
                rates[row] = rate
        series.append(Series.of_rates(model.name, rates))

    verdicts: dict[float, Verdict] = {}
    for row, name in enumerate(names):
        if name in by_class:
            verdicts[row] = by_class[name]
    return names, series, stated(verdicts)


def _class_scale(overview: Overview, by_class: Mapping[str | None, Verdict]) -> tuple[float, float]:
    """Return the ends of the scale of accuracy by class, in percent.

    It begins just below the lowest interval, but not below 0.
    """
    _, series, band = _class_series(overview, by_class)
    drawn = [*series, band] if band else series
    lowest = min([100.0, *(low for model in drawn for low in model.low)])
    return max(5 * int(lowest / 5) - 1, 0), 100.5


def confusions(
    overview: Overview, model: ModelOverview, reference: ModelOverview | None = None
) -> HeatMap:
    """Return the confusions in percent of the true class, or their change from a reference."""
    shown = _classes_shown(model)
    cells = np.ix_(shown, shown)
    names = [overview.classes[position] for position in shown]
    is_diagonal = np.eye(len(shown), dtype=bool)
    shares = model.confusion_shares[cells]

    if reference is None:
        errors = np.where(is_diagonal, np.nan, shares)
        title = f"{model.name}, % of the true class"
        colors = ("#ffffff", BAD, "#5e2600")
        limits = (0.0, _FULL_CONFUSION)
        return HeatMap(title, errors, names, colors, limits, _cell_texts(shares, "{:.0f}"))

    change = shares - reference.confusion_shares[cells]
    # More is better on the diagonal, where predictions are correct, and worse elsewhere.
    improvement = np.where(is_diagonal, change, -change)
    largest = max(float(np.nanmax(np.abs(change), initial=0)), _SMALLEST_FULL_CHANGE)
    title = f"{model.name} − {reference.name}, points"
    texts = _cell_texts(change, "{:+.0f}")
    return HeatMap(title, improvement, names, CHANGE, (-largest, largest), texts)


def _cell_texts(values: np.ndarray, pattern: str) -> list[list[str]]:
    """Return the values as texts; a cell that rounds to 0 stays empty."""
    return [
        [pattern.format(value) if abs(value.round()) >= 1 else "" for value in row]
        for row in values
    ]


def confusion_maps(*maps: HeatMap) -> Figure:
    """Draw confusions, or their changes, side by side."""
    return heat_maps(*maps, x="predicted as", y="true class", width=len(maps) * WIDTH)


def reliability_diagrams(
    overview: Overview, reference: Mapping[str, Sequence[Curve]] = {}
) -> Figure:
    """Draw accuracy against confidence by model and, below, the number of predictions.

    Bins of fewer than ten predictions are left out. The band leaves out bins in which any
    reference model has fewer.
    """
    upper, lower = [], []
    for number, model in enumerate(overview.models):
        if model.calibration_error is None:
            continue
        bins = [item for item in model.reliability if item.count >= _FEWEST_PREDICTIONS]
        confidences = [100 * (item.confidence or 0.0) for item in bins]
        accuracies = [100 * (item.accuracy or 0.0) for item in bins]
        counts = [item.count for item in bins]
        name = f"{model.name} (ECE {100 * model.calibration_error:.1f}%)"
        look = LOOKS[number % len(LOOKS)]
        upper.append(Series(name, confidences, accuracies, look=look))
        lower.append(Series(name, confidences, counts, look=look))
    diagonal = {"color": "0.5", "linewidth": 1, "marker": "", "linestyle": "-"}
    upper.append(Series("perfectly calibrated", (0, 100), (0, 100), look=diagonal))

    reference_curves = reference.get(RELIABILITY, ())
    counts_by_bin = zip(*(curve.counts for curve in reference_curves), strict=True)
    full_bins = [
        number for number, counts in enumerate(counts_by_bin) if min(counts) >= _FEWEST_PREDICTIONS
    ]
    band = band_of(reference_curves, full_bins, across=100)

    accuracy = CurvePlot("", "accuracy, %", upper, band)
    predictions = CurvePlot(
        "confidence of the prediction, %", "predictions", lower, limits=(None, None), log=True
    )
    return curves(accuracy, predictions, height=4.4, heights=(3, 1))


def training_curves(
    histories: Mapping[str, Sequence[Mapping[str, float]]], *, kept: int | None = None
) -> Figure:
    """Draw loss and accuracy against the epoch: validation thick, training thin.

    Args:
        histories: for each model by name its epochs, each with the fields of
            `harness.networks.training.Epoch`.
        kept: the epoch whose weights were kept, which is marked.
    """
    upright = None if kept is None else (kept, f"kept: epoch {kept}")
    plots = []
    for quantity, factor, unit in (("loss", 1, ""), ("accuracy", 100, ", %")):
        series = []
        for number, (name, history) in enumerate(histories.items()):
            look = LOOKS[number % len(LOOKS)]
            series += _training_series(name, history, quantity, factor, look)
        plots.append(
            CurvePlot("epoch", f"{quantity}{unit}", series, limits=(None, None), upright=upright)
        )
    return curves(*plots, height=4.8, heights=(1, 1))


def _training_series(
    name: str,
    history: Sequence[Mapping[str, float]],
    quantity: str,
    factor: float,
    look: Mapping[str, Any],
) -> list[Series]:
    """Return a quantity of a training on training and validation images."""
    if not history:
        return []
    epochs = [epoch["epoch"] for epoch in history]
    marker = "o" if len(history) == 1 else ""  # A line through one point is invisible.
    styles = {
        "training": {"linewidth": 0.8, "marker": marker, "fillstyle": "none"},
        "validation": {"linewidth": 1.8, "marker": marker, "fillstyle": "full"},
    }
    series = []
    for split, style in styles.items():
        values = [factor * epoch[f"{split}_{quantity}"] for epoch in history]
        series.append(Series(f"{name}, {split}", epochs, values, look={**look, **style}))
    return series


def rate_of(verdict: Verdict) -> Rate:
    """Return what a check measured, with its interval."""
    low, high = verdict.interval or (0.0, 1.0)
    return Rate(verdict.value or 0.0, low, high, verdict.n)


def stated(verdicts: Mapping[float, Verdict], *, scale: float = 100) -> Series | None:
    """Return the band of the reference models that checks state, by place; None without any."""
    places, means, stds = [], [], []
    for place, verdict in sorted(verdicts.items()):
        reference = verdict.check.reference
        if reference is None or reference.mean is None or reference.std is None:
            continue
        places.append(place)
        means.append(scale * reference.mean)
        stds.append(scale * reference.std)
    if not places:
        return None
    return Series.of_reference(places, means, stds)


def band_of(
    reference_curves: Sequence[Curve], points: Sequence[int] | None = None, *, across: float = 1
) -> Series | None:
    """Return the band of the reference models' curves, in percent; None without a band.

    Fewer than three curves make no band, because they cannot show how much models differ.

    Args:
        reference_curves: one curve for each reference model, all at the same places.
        points: positions of the points to use; all without.
        across: factor from a place to its place on the axis.
    """
    if len(reference_curves) < SETTLED:
        return None
    places = np.array([curve.at for curve in reference_curves], dtype=np.float64)
    shares = np.array([curve.values for curve in reference_curves], dtype=np.float64)
    if points is not None:
        places = places[:, list(points)]
        shares = shares[:, list(points)]
    if not places.size:
        return None

    spread = 100 * shares.std(axis=0, ddof=1)
    return Series.of_reference(
        across * places.mean(axis=0), 100 * shares.mean(axis=0), spread, (0.0, 100.0)
    )
