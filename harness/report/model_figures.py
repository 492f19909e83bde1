"""Figures of the models side by side, as the overview measured them: classes, confusions, reliability and training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.checks.roles import role_title
from harness.measures import Unit
from harness.measures.accuracy import ACCURACY
from harness.measures.confidence import RELIABILITY
from harness.perturb import IDENTITY
from harness.report.check_figures import about_band, band_of, check_figures, of_sample, stated
from harness.report.figures import BAD, GOOD, LOOKS, WIDTH, HeatMap, Panel, Series, as_png, curves, dots, heat_maps
from harness.report.page import Illustration, Section, figures_html, folded, paragraphs
from harness.report.tables import classes, left_out
from harness.report.wording import of_candidate
from harness.run.overview import TELLING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from matplotlib.figure import Figure

    from harness.checks import Verdict
    from harness.measures.metric import Curve
    from harness.run.overview import ModelOverview, Overview

CLASSES_SHOWN = 100
"""Classes that a figure shows at most: if there are more, those with the lowest accuracy."""
_FEW = 10
"""Predictions of a bin of confidence from which on its accuracy says something."""
_MOST_CONFUSED, _LEAST_REACH = 15.0, 5.0
"""Percent at which the color of a confusion is full, and the least change, in points, at which its color is full."""


def figures(
    overview: Overview, verdicts: Sequence[Verdict] = (), reference: Mapping[str, Sequence[Curve]] = {}
) -> Section:
    """Return all figures of a run: of models as the `overview` measured them, of the candidate as its checks did.

    `reference` has curves of the reference models by name.
    """
    if overview.n < TELLING:
        body = paragraphs(f"No curves or maps: {overview.n} images are too few for them.")
    else:
        drawn = [*check_figures(overview, verdicts, reference), *model_figures(overview, verdicts, reference)]
        body = paragraphs(left_out(overview)) + figures_html(drawn)
    return Section("figures", "Figures", body + folded("Accuracy of each class, as a table", classes(overview)))


def model_figures(
    overview: Overview, verdicts: Sequence[Verdict] = (), reference: Mapping[str, Sequence[Curve]] = {}
) -> Iterator[Illustration]:
    """Yield the figures that the overview has numbers for, with the values of the reference models behind them."""
    models, first, other, count = overview.models, overview.models[0], overview.reference, len(overview.classes)
    worst = f" (the {CLASSES_SHOWN} worst of {count:,} classes)" if count > CLASSES_SHOWN else ""
    lowest = {}
    for model in models:
        rates = zip(model.per_class, overview.classes, strict=True)
        value, name = min((rate.value, name) for rate, name in rates if rate)
        lowest[model.name] = f"worst class {name}, {value:.0%}"
    accuracies = (each for each in of_candidate(verdicts, ACCURACY) if each.check.pose == IDENTITY)
    known = {each.check.class_name: each for each in accuracies if each.check.family == "class"}
    yield Illustration(
        f"Clean accuracy by class{worst}",
        "Further right is better; the bars are 95% intervals. The scale does not begin at 0."
        + about_band(any(each.check.reference for each in known.values())),
        f"Clean accuracy by class. {'; '.join(f'{role_title(name)}: {said}' for name, said in lowest.items())}",
        lambda: class_accuracies(overview, known),
    )
    for model in filter(None, (first, other)):
        title = role_title(model.name)
        yield Illustration(
            f"Confusions of the {title}{worst}",
            "Each row is a true class. A colored cell is a confusion, in full color from 15% on. Correct predictions "
            "are gray.",
            f"Confusion matrix of {title}. {lowest[model.name]}",
            lambda model=model: confusion_maps(confusions(overview, model)),  # type: ignore[misc]
            is_map=True,
        )
    if other is not None:
        title = role_title(other.name)
        yield Illustration(
            f"Change of the confusions{worst}",
            f"In orange cells, the {first.name} is worse than the {title}: more confusions, or fewer correct "
            "predictions on the diagonal. In blue cells, it is better.",
            f"Difference of the confusion matrices of {first.name} and {title}, in points.",
            lambda: confusion_maps(confusions(overview, first, other)),
            is_map=True,
        )
    if errors := {model.name: model.calibration_error for model in models if model.calibration_error is not None}:
        sure = max(sum(item.count for item in model.reliability) for model in models)
        said = (f"{role_title(name)}: {Unit.SHARE.format(error)}" for name, error in errors.items())
        yield Illustration(
            f"Reliability diagram{of_sample(sure, overview)}",
            "On the gray line, predictions with 80% confidence are correct 80% of the time. Below it, the model is "
            f"overconfident.{about_band(_reliability_band(reference))}",
            f"Reliability diagram. Expected calibration error: {'; '.join(said)}",
            lambda: reliability_diagrams(overview, reference),
        )
    if any(model.history for model in models):
        yield Illustration(
            "Training curves",
            "Thick lines are validation images, thin lines training images. Where the two part, the model overfits.",
            "Loss and accuracy by epoch of training.",
            lambda: training_curves({model.name: model.history for model in models}),
        )


def _shown(model: ModelOverview) -> list[int]:
    """Return the positions of the classes that a figure shows: all, or the 100 with the model's lowest accuracy."""
    rates = model.per_class
    worst = sorted(range(len(rates)), key=lambda at: (rate.value if (rate := rates[at]) else 2.0, at))
    return sorted(worst[:CLASSES_SHOWN])


def class_accuracies(overview: Overview, known: Mapping[str | None, Verdict] = {}) -> Figure:
    """Draw each class's clean accuracy for each model; `known` has checks, which state reference models, by class."""
    shown = _shown(overview.models[0])
    names = [overview.classes[at] for at in shown]
    series = [
        Series.of_rates(model.name, {at: rate for at, one in enumerate(shown) if (rate := model.per_class[one])})
        for model in overview.models
    ]
    band = stated({at: known[name] for at, name in enumerate(names) if name in known})
    lowest = min([100.0, *(low for each in (*series, band) if each for low in each.low)])
    # Bars would begin at 0 and hide two points.
    return dots(names, *series, x="clean accuracy, %", band=band, limits=(max(5 * int(lowest / 5) - 1, 0), 100.5))


def confusions(overview: Overview, model: ModelOverview, reference: ModelOverview | None = None) -> HeatMap:
    """Return the confusions in percent of the true class, or their change from a reference: blue is better."""
    shown = _shown(model)
    at, diagonal = np.ix_(shown, shown), np.eye(len(shown), dtype=bool)
    values, names = model.confusion_shares[at], [overview.classes[each] for each in shown]
    if reference is None:
        colors, title = ("#ffffff", BAD, "#5e2600"), f"{model.name}, % of the true class"
        return HeatMap(title, values, names, colors, (0.0, _MOST_CONFUSED), _texts(values, "{:.0f}"), muted=diagonal)
    values = values - reference.confusion_shares[at]
    reach = max(float(np.nanmax(np.abs(values), initial=0)), _LEAST_REACH)
    # More is better on the diagonal, where predictions are correct, and worse elsewhere.
    better, title = np.where(diagonal, values, -values), f"{model.name} − {reference.name}, points"
    return HeatMap(title, better, names, (BAD, "#f7f7f7", GOOD), (-reach, reach), _texts(values, "{:+.0f}"))


def _texts(values: np.ndarray, written: str) -> list[list[str]]:
    return [[written.format(value) if abs(value.round()) >= 1 else "" for value in row] for row in values]


def confusion_maps(*maps: HeatMap) -> Figure:
    """Draw confusions, or their changes, side by side."""
    return heat_maps(*maps, x="predicted as", y="true class", width=len(maps) * WIDTH)


def _reliability_band(reference: Mapping[str, Sequence[Curve]]) -> Series | None:
    """Return the band in the bins where every reference model has ten predictions or more."""
    counts = list(zip(*(curve.counts for curve in reference.get(RELIABILITY, ())), strict=True))
    full = [at for at, each in enumerate(counts) if min(each) >= _FEW]
    return band_of(reference.get(RELIABILITY, ()), full, across=100)


def reliability_diagrams(overview: Overview, reference: Mapping[str, Sequence[Curve]] = {}) -> Figure:
    """Draw accuracy against confidence for each model; below, the number of predictions.

    Bins of fewer than ten predictions are left out.
    """
    upper, lower = [], []
    for number, model in enumerate(overview.models):
        if (error := model.calibration_error) is not None:
            bins = [item for item in model.reliability if item.count >= _FEW]
            name, look = f"{model.name} (ECE {100 * error:.1f}%)", LOOKS[number % len(LOOKS)]
            places = [100 * (item.confidence or 0.0) for item in bins]
            upper.append(Series(name, places, [100 * (item.accuracy or 0.0) for item in bins], look=look))
            lower.append(Series(name, places, [item.count for item in bins], look=look))
    line = {"color": "0.5", "linewidth": 1, "marker": "", "linestyle": "-"}
    upper.append(Series("perfectly calibrated", (0, 100), (0, 100), look=line))
    title = "confidence of the prediction, %"
    return curves(
        Panel(title, "accuracy, %", upper, _reliability_band(reference)),
        Panel(title, "predictions", lower, limits=(None, None), log=True),
        height=4.4,
        heights=(3, 1),
    )


def training_curves(histories: Mapping[str, Sequence[Mapping[str, float]]], *, kept: int | None = None) -> Figure:
    """Draw loss and accuracy against the epoch for each model by name: validation thick, training thin.

    An epoch has the fields of `harness.networks.training.Epoch`; `kept` is the number of one to mark.
    """
    panels = []
    for quantity, factor in (("loss", 1), ("accuracy", 100)):
        series = []
        for number, (name, history) in enumerate(histories.items()):
            for split, width in (("training", 0.8), ("validation", 1.8)) if history else ():
                # A line of one point is none.
                marks = {"marker": "o" if len(history) == 1 else "", "fillstyle": "full" if width > 1 else "none"}
                look = {**LOOKS[number % len(LOOKS)], "linewidth": width, **marks}
                values = [factor * epoch[f"{split}_{quantity}"] for epoch in history]
                series.append(Series(f"{name}, {split}", [epoch["epoch"] for epoch in history], values, look=look))
        upright, unit = None if kept is None else (kept, f"kept: epoch {kept}"), ", %" if factor > 1 else ""
        panels.append(Panel("epoch", f"{quantity}{unit}", series, limits=(None, None), upright=upright))
    return curves(*panels, height=4.8, heights=(1, 1))


def training_png(histories: Mapping[str, Sequence[Mapping[str, float]]], *, kept: int) -> bytes:
    """Return the training curves as the content of a PNG file."""
    return as_png(training_curves(histories, kept=kept))
