"""Figures as Matplotlib objects, for files, reports and notebooks, and their shapes: dots, curves and bands.

A model has a color, marker and line of its own. Blue and vermilion are not among the colors: they say good and bad.
"""

from __future__ import annotations

import functools
from io import BytesIO
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np

from harness.measures.statistics import proportion_interval
from harness.report.reference_values import FEW, NO_VALUES, Band
from harness.run.overview import Clean, Looking, Surviving, Turned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from harness.inference.search import Breaking
    from harness.report.reference_values import ReferenceValues
    from harness.run.overview import ModelOverview, Overview, Rate

P = ParamSpec("P")

STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "lines.markersize": 5,
    "svg.fonttype": "none",
    "text.parse_math": False,
    "svg.hashsalt": "stress",
}
WIDTH = 4.8
"""Inches: as wide as a phone, where ten points of text must stay ten."""
CLASSES_SHOWN = 100
"""Classes that a figure shows at most: if there are more, those with the lowest accuracy."""
_NAME = 32
"""Characters of a class's name in a figure."""
SPREADS = 2.0
"""Standard deviations of the reference models to either side of their mean that a band shows."""
_REFERENCE: dict[str, Any] = {"color": "#E3C565", "alpha": 0.55, "linewidth": 0, "label": "reference models"}
_LOOKS = (("#7B3294", "o", "-"), ("#595959", "s", "--"), ("#00806B", "^", ":"))
"""Purple, gray and green, which color-blind people tell apart, and anyone can in print."""
GOOD, BAD = "#0072B2", "#D55E00"
"""Blue and vermilion of Okabe and Ito's colors: better and worse, as on the rest of a page."""


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Have a function draw in the style of these figures and leave Matplotlib's settings as found."""

    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Figure:
        import matplotlib as mpl

        with mpl.rc_context(STYLE):
            return draw(*args, **kwargs)

    return drawn


def classes_shown(model: ModelOverview) -> list[int]:
    """Return the positions of the classes that a figure shows: all, or the 100 with the model's lowest accuracy."""
    rates = model[Clean].per_class
    worst = sorted(range(len(rates)), key=lambda at: (rate.value if (rate := rates[at]) else 2.0, at))
    return sorted(worst[:CLASSES_SHOWN])


def short_names(classes: Sequence[str], shown: Sequence[int]) -> list[str]:
    """Return the names of the classes at these positions as a figure writes them, each in one short line."""
    return [name if len(name) <= _NAME else f"{name[: _NAME - 1]}…" for name in (classes[at] for at in shown)]


def figure(width: float = WIDTH, height: float = 3.3) -> Figure:
    """Return an empty figure of this size in inches, which arranges what is drawn into it."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _looks(overview: Overview) -> Iterable[tuple[ModelOverview, dict[str, Any]]]:
    for model, (color, marker, line) in zip(overview.models, _LOOKS * len(overview.models), strict=False):
        yield model, {"color": color, "marker": marker, "linestyle": line, "label": model.name}


def dots(axes: Axes, places: Sequence[float], rates: Sequence[Rate], *, across: bool = False, **look: Any) -> None:
    """Plot rates in percent with their 95% intervals, upwards or `across`."""
    values = [100 * rate.value for rate in rates]
    reach = [
        [max(100 * (rate.value - rate.low), 0.0) for rate in rates],
        [max(100 * (rate.high - rate.value), 0.0) for rate in rates],
    ]
    at: dict[str, Any] = (
        {"x": values, "y": places, "xerr": reach} if across else {"x": places, "y": values, "yerr": reach}
    )
    axes.errorbar(**at, capsize=2, **look)


def curve(
    axes: Axes, severities: Sequence[float] | np.ndarray, shares: Sequence[float] | np.ndarray, n: int, **look: Any
) -> None:
    """Plot shares of `n` images, in percent, with their 95% intervals as a band."""
    low, high = 100 * np.array([proportion_interval(round(share * n), n) for share in shares]).T
    axes.fill_between(severities, low, high, alpha=0.15, color=look["color"])
    axes.plot(severities, [100 * share for share in shares], **look)


def band(axes: Axes, of: Band, *, across: float = 1, up: float = 100, limits: tuple[float, float] = (0, 100)) -> None:
    """Draw the band of the reference models within these limits; its places and values are scaled for display."""
    low, high = (np.clip(up * (of.mean + side * of.std), *limits) for side in (-SPREADS, SPREADS))
    axes.fill_between(across * of.at, low, high, **_REFERENCE)


def spread(axes: Axes, at: float, mean: float, std: float, **look: Any) -> None:
    """Draw the band of the reference models in one row of a figure, in percent."""
    axes.barh(at, 200 * SPREADS * std, left=100 * (mean - SPREADS * std), **look)


@styled
def rotation_curves(overview: Overview, known: Mapping[float, tuple[float, float]] | None = None) -> Figure:
    """Plot accuracy against rotation for each model, with 95% intervals; the augmentation range of ±10° is shaded.

    `known` has mean and standard deviation of the reference models by degrees, drawn as a band.
    """
    picture = figure()
    axes = picture.subplots()
    axes.axvspan(-10, 10, color="0.5", alpha=0.12, linewidth=0, label="augmentation range: ±10°")
    if known:
        degrees = np.array(sorted(known))
        mean, std = np.array([known[at] for at in degrees]).T
        band(axes, Band(degrees, mean, std), limits=(-np.inf, np.inf))
    for model, look in _looks(overview):
        dots(axes, overview.degrees, model[Turned].rotation, **look)
    axes.set(xlabel="rotation, degrees (positive is counter-clockwise)", ylabel="accuracy, %", ylim=(0, 101))
    axes.legend(loc="lower center", fontsize=9)
    return picture


@styled
def survival_by_model(overview: Overview, known: Mapping[str, Band] | None = None) -> Figure:
    """Plot, for each path away from the clean image, the share of predictions still correct against the severity.

    A curve for each model, with 95% intervals; a model's number of images stands beside its name. `known` has the bands
    of the reference models by path.
    """
    paths = list(dict.fromkeys(each.path for model in overview.models for each in model[Surviving].survival))
    picture = figure()
    columns: Sequence[Axes] = picture.subplots(1, max(len(paths), 1), sharey=True, squeeze=False)[0]
    for axes, path in zip(columns, paths, strict=True):
        if known and path in known:
            band(axes, known[path])
        for model, look in _looks(overview):
            for each in (each for each in model[Surviving].survival if each.path == path):
                shown = {**look, "marker": "", "label": f"{model.name} (n={each.n:,})"}
                curve(axes, each.severities, each.shares, each.n, **shown)
                axes.set_xlabel(f"{path} up to, {each.unit}")
        axes.set_ylim(0, 101)
    columns[0].set_ylabel("predictions still correct, %")
    named = {label: handle for axes in columns for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    picture.legend(named.values(), named, loc="outside upper center", ncols=2, fontsize=9)
    return picture


@styled
def class_accuracies(overview: Overview, reference: Mapping[str, tuple[float, float]] | None = None) -> Figure:
    """Plot each class's clean accuracy, for each model, with 95% intervals.

    The marks are dots, since bars would begin at 0 and hide two points. `reference` has mean and standard deviation of
    the reference models by class, drawn as bands.
    """
    count, shown = len(overview.models), classes_shown(overview.models[0])
    picture = figure(height=0.8 + len(shown) * (0.16 + 0.1 * count))
    axes = picture.subplots()
    ends = [1.0]
    for at, name in enumerate(overview.classes[position] for position in shown):
        if reference and name in reference:
            mean, std = reference[name]
            label = None if axes.patches else _REFERENCE["label"]
            spread(axes, at, mean, std, height=0.8, **{**_REFERENCE, "label": label})
            ends.append(mean - SPREADS * std)
    for number, (model, look) in enumerate(_looks(overview)):
        rates = {at: rate for at, position in enumerate(shown) if (rate := model[Clean].per_class[position])}
        places = [at + 0.6 * ((number + 0.5) / count - 0.5) for at in rates]
        ends += [rate.low for rate in rates.values()]
        dots(axes, places, [*rates.values()], across=True, **{**look, "linestyle": "none"})
    axes.set_yticks(range(len(shown)), short_names(overview.classes, shown))
    axes.invert_yaxis()
    axes.set(xlabel="clean accuracy, %", xlim=(max(5 * int(20 * min(ends)) - 1, 0), 100.5))
    picture.legend(loc="outside upper center", ncols=count, fontsize=9)
    return picture


@styled
def reliability_diagrams(overview: Overview, known: ReferenceValues = NO_VALUES) -> Figure:
    """Plot accuracy against confidence, for each model; below, the number of predictions.

    Bins of fewer than ten predictions are left out. `known` has the bands of the reference models.
    """
    from matplotlib.ticker import NullFormatter

    picture = figure(height=4.0)
    upper, lower = picture.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 100], [0, 100], color="0.5", linewidth=1, label="perfectly calibrated")
    if known.reliability and known.confidences:
        n = max(sum(item.count for item in model[Clean].reliability) for model in overview.models)
        band(upper, known.reliability, across=100)
        band(lower, known.confidences, across=100, up=n, limits=(1, n))
    for model, look in _looks(overview):
        if (error := model[Clean].calibration_error) is None:
            continue
        bins = [item for item in model[Clean].reliability if item.count >= FEW]
        confidence = [100 * (item.confidence or 0.0) for item in bins]
        label = f"{model.name} (ECE {100 * error:.1f}%)"
        upper.plot(confidence, [100 * (item.accuracy or 0.0) for item in bins], **{**look, "label": label})
        lower.plot(confidence, [item.count for item in bins], **look)
    upper.set(ylabel="accuracy, %", ylim=(0, 101), xlim=(0, 101))
    upper.legend(loc="upper left", fontsize=9)
    lower.set(xlabel="confidence of the prediction, %", ylabel="predictions", yscale="log")
    lower.yaxis.set_major_formatter("{x:,.0f}")
    lower.yaxis.set_minor_formatter(NullFormatter())
    return picture


@styled
def attention_by_class(overview: Overview) -> Figure:
    """Plot the lift by class: Grad-CAM mass on the object over that of a uniform map."""
    shown = [(model, look) for model, look in _looks(overview) if any(model[Looking].on_object)]
    classes, height = classes_shown(overview.models[0]), 0.8 / max(len(shown), 1)
    picture = figure(height=0.8 + len(classes) * (0.12 + 0.14 * len(shown)))
    axes = picture.subplots()
    for number, (model, look) in enumerate(shown):
        lifts = {at: item.lift for at, position in enumerate(classes) if (item := model[Looking].on_object[position])}
        places = [at + 0.8 * ((number + 0.5) / len(shown) - 0.5) for at in lifts]
        axes.barh(places, [*lifts.values()], height=height, color=look["color"], label=look["label"])
    axes.axvline(1, color="0.25", linewidth=1.2, linestyle="--", label="uniform baseline")
    axes.set_yticks(range(len(classes)), short_names(overview.classes, classes))
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("lift: Grad-CAM mass on the object, uniform map = 1")
    picture.legend(loc="outside upper center", ncols=2, fontsize=9)
    return picture


_PATHS = {
    "rotation": ("rotated by up to, degrees", "°", 1),
    "shift": ("translated by up to, pixels", " px", 1),
    "joint": ("rotated and translated by up to, % of ±30° and ±3 px", "%", 100),
}
"""Severity of a path: its name, its unit, and the factor for display."""


@styled
def survival_curves(curves: Sequence[Breaking]) -> Figure:
    """Plot, for each path, the share of predictions still correct against the severity, with 95% intervals.

    Shares are of the images with a correct clean prediction. Marks show where one in ten and where half of them fail.
    """
    picture = figure(width=4 * len(curves), height=3.8)
    for axes, found in zip(picture.subplots(1, len(curves), sharey=True, squeeze=False)[0], curves, strict=True):
        title, unit, factor = _PATHS.get(found.path.name, (f"{found.path.name}, {found.path.unit}", "", 1))
        severities, shares = found.survival()
        n = len(found.severity)
        curve(axes, factor * severities, shares, n, color=_LOOKS[0][0])
        for share, name in ((0.1, "one in ten fails by"), (0.5, "half fail by")):
            if (at := factor * found.quantile(share)) < factor * severities[-1]:
                marker = {"marker": "o", "fillstyle": "none", "linestyle": "none", "color": "0.2"}
                axes.plot([at], [100 * (1 - share)], **marker, label=f"{name} {at:.3g}{unit}")
        axes.set(xlabel=title, ylim=(0, 102), title=f"{n:,} images with a correct clean prediction")
        axes.title.set_fontsize(10)
        if axes.get_legend_handles_labels()[1]:
            axes.legend(loc="best", fontsize=9)
    picture.axes[0].set_ylabel("predictions still correct, %")
    return picture


@styled
def training_curves(histories: Mapping[str, Sequence[Mapping[str, float]]], *, kept: int | None = None) -> Figure:
    """Plot loss and accuracy against the epoch for each model by name: validation thick, training thin.

    An epoch has the fields of `harness.networks.training.Epoch`; `prediction_consistency` is the number of one to mark.
    """
    from matplotlib.ticker import MaxNLocator

    picture = figure(height=4.4)
    for axes, quantity, factor in zip(picture.subplots(2, 1, sharex=True), ("loss", "accuracy"), (1, 100), strict=True):
        for (name, history), (color, _, line) in zip(histories.items(), _LOOKS * len(histories), strict=False):
            for split, thickness in (("training", 0.8), ("validation", 1.8)) if history else ():
                values = [factor * epoch[f"{split}_{quantity}"] for epoch in history]
                look = {"color": color, "linestyle": line, "linewidth": thickness}
                # A line of one point is none.
                look |= {"marker": "o", "fillstyle": "full" if thickness > 1 else "none"} if len(history) == 1 else {}
                axes.plot([epoch["epoch"] for epoch in history], values, label=f"{name}, {split}", **look)
        if kept is not None:
            axes.axvline(kept, color="0.6", linewidth=1, label=f"kept: epoch {kept}")
        axes.set_ylabel(f"{quantity}, %" if factor > 1 else quantity)
    picture.axes[-1].set_xlabel("epoch")
    picture.axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    picture.axes[0].legend(fontsize=9)
    return picture


def as_png(picture: Figure) -> bytes:
    """Return a figure as the content of a PNG file."""
    content = BytesIO()
    picture.savefig(content, dpi=100, format="png")
    return content.getvalue()
