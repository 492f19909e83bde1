"""Figures of tables, as Matplotlib objects: accuracy by shift, and which class is taken for which."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.report.figures import WIDTH, figure, styled
from harness.run.overview import Clean, Moved

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from harness.run.overview import ModelOverview, Overview

_LABELLED = 20
"""With more classes, cells hold no numbers."""
_LEAST_REACH = 5.0
"""Points at which the colours of a difference are full, at the least: smaller differences must look small."""


@styled
def shift_maps(overview: Overview) -> Figure:
    """Draw accuracy, in percent, for every shift right (columns) and down (rows), one map for each model."""
    import seaborn

    count = len(overview.models)
    picture = figure(width=WIDTH, height=1.0 + (WIDTH - 0.6) / count)
    columns: Sequence[Axes] = picture.subplots(1, count, sharey=True, squeeze=False)[0]
    labels = [f"{shift:+g}" if shift else "0" for shift in overview.shifts]
    for axes, model in zip(columns, overview.models, strict=True):
        values = np.array([[100 * rate.value for rate in row] for row in model[Moved].shift])
        seaborn.heatmap(
            values,
            ax=axes,
            vmin=0,
            vmax=100,
            cmap="cividis",
            annot=True,
            fmt=".0f",
            square=True,
            cbar=False,
            linewidths=0.5,
            xticklabels=labels,
            yticklabels=labels,
        )
        axes.set(title=model.name, xlabel="dx, pixels (right is +)")
        axes.tick_params(length=0, rotation=0)
    columns[0].set_ylabel("dy, pixels (down is +)")
    return picture


def shares(model: ModelOverview) -> np.ndarray:
    """Return the confusion matrix in percent of each true class's images, (classes, classes); NaN without images."""
    counts = np.array(model[Clean].confusion, dtype=float)
    totals = counts.sum(axis=1, keepdims=True)
    return np.asarray(np.divide(100 * counts, totals, out=np.full_like(counts, np.nan), where=totals > 0))


@styled
def confusion_matrix(model: ModelOverview, classes: Sequence[str]) -> Figure:
    """Draw which class is taken for which, in percent of the true class's images."""
    picture = figure(height=4.7)
    _draw_confusion(picture.subplots(), model, classes)
    return picture


@styled
def confusion_difference(model: ModelOverview, reference: ModelOverview, classes: Sequence[str]) -> Figure:
    """Draw the confusion matrix of a model minus that of a reference, in percentage points."""
    picture = figure(height=4.7)
    _draw_difference(picture.subplots(), model, reference, classes)
    return picture


@styled
def confusion_matrices(overview: Overview) -> Figure:
    """Draw the confusion matrices of the first two models side by side with their difference."""
    model, reference = overview.models[:2]
    picture = figure(width=3 * WIDTH, height=4.7)
    left, middle, right = picture.subplots(1, 3)
    _draw_confusion(left, model, overview.classes)
    _draw_confusion(middle, reference, overview.classes)
    _draw_difference(right, model, reference, overview.classes)
    return picture


def _draw_confusion(axes: Axes, model: ModelOverview, classes: Sequence[str]) -> None:
    from matplotlib.colors import PowerNorm

    # The square root, so that confusions of a few percent stand out beside a diagonal of ninety.
    _draw(axes, shares(model), classes, fmt="{:.0f}", cmap="cividis", norm=PowerNorm(0.5, vmin=0, vmax=100))
    axes.set_title(f"{model.name}, % of the true class")


def _draw_difference(axes: Axes, model: ModelOverview, reference: ModelOverview, classes: Sequence[str]) -> None:
    from matplotlib.colors import Normalize

    difference = shares(model) - shares(reference)
    reach = max(float(np.nanmax(np.abs(difference), initial=0)), _LEAST_REACH)
    _draw(axes, difference, classes, fmt="{:+.0f}", cmap="vlag", norm=Normalize(-reach, reach))
    axes.set_title(f"{model.name} − {reference.name}, points")


def _draw(axes: Axes, values: np.ndarray, classes: Sequence[str], *, fmt: str, cmap: str, norm: object) -> None:
    import seaborn

    labels = np.array([[fmt.format(value) if abs(value.round()) >= 1 else "" for value in row] for row in values])
    seaborn.heatmap(
        values,
        ax=axes,
        cmap=cmap,
        norm=norm,
        annot=labels if len(classes) <= _LABELLED else None,
        fmt="",
        annot_kws={"fontsize": 8},
        square=True,
        cbar=False,
        xticklabels=classes,
        yticklabels=classes,
    )
    axes.tick_params(axis="x", rotation=90, length=0)
    axes.tick_params(axis="y", rotation=0, length=0)
    axes.set(xlabel="taken for", ylabel="true class")
