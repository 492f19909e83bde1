"""Figures of tables, as Matplotlib objects: accuracy by shift, confusion matrices and their difference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from harness.report.figures import BAD, GOOD, WIDTH, classes_shown, figure, short_names, styled
from harness.run.overview import Clean, Shifted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from harness.run.overview import ModelOverview, Overview

_LABELED = 20
"""With more classes, cells hold no numbers."""
_LEAST_REACH = 5.0
"""Least difference, in points, at which its color is full: smaller differences must look small."""
_MOST_CONFUSED = 15.0
"""Percent at which the color of a confusion is full."""
_MUTED, _MUTED_INK = "#e9ebee", "#50565e"
"""Color of the diagonal of a confusion matrix: correct predictions, which are not of interest."""


@styled
def shift_maps(overview: Overview) -> Figure:
    """Draw accuracy, in percent, for every shift right (columns) and down (rows), one map for each model."""
    from matplotlib.colors import Normalize

    count = len(overview.models)
    picture = figure(width=WIDTH, height=1.0 + (WIDTH - 0.6) / count)
    columns: Sequence[Axes] = picture.subplots(1, count, sharex=True, sharey=True, squeeze=False)[0]
    names = [f"{shift:+g}" if shift else "0" for shift in overview.shifts]
    for axes, model in zip(columns, overview.models, strict=True):
        values = np.array([[100 * rate.value for rate in row] for row in model[Shifted].shift])
        _draw(axes, values, names, linewidths=0.5, cmap="cividis", norm=Normalize(0, 100))
        _write(axes, np.array([[f"{value:.0f}" for value in row] for row in values]), size=10)
        axes.set(title=model.name)
        axes.tick_params(rotation=0)
    columns[0].set_ylabel("dy, pixels (down is +)")
    columns[count // 2].set_xlabel("dx, pixels (right is +)", loc="left" if count == 2 else "center")  # noqa: PLR2004
    return picture


def shares(model: ModelOverview) -> np.ndarray:
    """Return the confusion matrix in percent of each true class's images, (classes, classes); NaN without images."""
    counts = np.array(model[Clean].confusion, dtype=float)
    totals = counts.sum(axis=1, keepdims=True)
    return np.asarray(np.divide(100 * counts, totals, out=np.full_like(counts, np.nan), where=totals > 0))


@styled
def confusion_matrix(model: ModelOverview, classes: Sequence[str]) -> Figure:
    """Draw the confusion matrix, in percent of the true class's images."""
    return _confusions(model, None, classes)


@styled
def confusion_difference(model: ModelOverview, reference: ModelOverview, classes: Sequence[str]) -> Figure:
    """Draw the confusion matrix of a model minus that of a reference, in percentage points."""
    return _confusions(model, reference, classes)


def _confusions(model: ModelOverview, reference: ModelOverview | None, classes: Sequence[str]) -> Figure:
    picture = figure(height=4.7)
    _draw_confusions(picture.subplots(), model, reference, classes)
    return picture


@styled
def confusion_matrices(overview: Overview) -> Figure:
    """Draw the confusion matrices of the first two models side by side with their difference."""
    model, reference = overview.models[:2]
    picture = figure(width=3 * WIDTH, height=4.7)
    shown = ((model, None), (reference, None), (model, reference))
    for axes, (one, other) in zip(picture.subplots(1, 3), shown, strict=True):
        _draw_confusions(axes, one, other, overview.classes)
    return picture


def _draw_confusions(axes: Axes, model: ModelOverview, reference: ModelOverview | None, classes: Sequence[str]) -> None:
    """Draw confusions, or what changed since a reference: blue is better, orange worse."""
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    shown = classes_shown(model)
    at, diagonal = np.ix_(shown, shown), np.eye(len(shown), dtype=bool)
    values, names = shares(model)[at], short_names(classes, shown)
    if reference is None:
        cmap = LinearSegmentedColormap.from_list("confused", ["#ffffff", BAD, "#5e2600"])
        _draw(axes, values, names, cmap=cmap, norm=Normalize(0, _MOST_CONFUSED), mask=diagonal)
        axes.set_facecolor(_MUTED)
        title, written = f"{model.name}, % of the true class", "{:.0f}"
    else:
        values -= shares(reference)[at]
        reach = max(float(np.nanmax(np.abs(values), initial=0)), _LEAST_REACH)
        # More is better on the diagonal, where predictions are correct, and worse elsewhere.
        better = np.where(diagonal, values, -values)
        cmap = LinearSegmentedColormap.from_list("better", [BAD, "#f7f7f7", GOOD])
        _draw(axes, better, names, cmap=cmap, norm=Normalize(-reach, reach))
        title, written = f"{model.name} − {reference.name}, points", "{:+.0f}"
    if len(shown) <= _LABELED:
        labels = [[written.format(value) if abs(value.round()) >= 1 else "" for value in row] for row in values]
        _write(axes, np.array(labels), size=8)
    axes.tick_params(axis="x", rotation=90)
    axes.tick_params(axis="y", rotation=0)
    axes.set(xlabel="predicted as", ylabel="true class", title=title)


def _draw(axes: Axes, values: np.ndarray, names: Sequence[str], **look: Any) -> None:
    import seaborn

    seaborn.heatmap(values, ax=axes, square=True, cbar=False, xticklabels=names, yticklabels=names, **look)
    axes.tick_params(length=0)


def _write(axes: Axes, labels: np.ndarray, *, size: int) -> None:
    """Write a label into each cell, in black or white: whichever has more contrast with its color, at least 4.5:1."""
    (mesh,) = axes.collections
    values: Any = np.ma.asarray(mesh.get_array())
    colors = np.asarray(mesh.to_rgba(values)).reshape(*labels.shape, 4)
    hidden = np.ma.getmaskarray(values).reshape(labels.shape)
    for row, column in np.ndindex(labels.shape):
        ink = _MUTED_INK if hidden[row, column] else ink_on(colors[row, column])
        axes.text(column + 0.5, row + 0.5, str(labels[row, column]), ha="center", va="center", fontsize=size, color=ink)


def ink_on(color: Sequence[float] | np.ndarray) -> str:
    """Return black or white, whichever has more contrast with a color, in [0, 1]; that is 4.58:1 at the least.

    By the relative luminance of WCAG 2.1.
    """
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in color[:3])  # noqa: PLR2004
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return "#000000" if (luminance + 0.05) / 0.05 >= 1.05 / (luminance + 0.05) else "#ffffff"
