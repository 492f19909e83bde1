"""Figures over the runs of a history: accuracy, failing checks, and the smallest margin of each family."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.report.figures import WIDTH, figure, styled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from harness.run.history import Line

_TICKS = 5
"""Runs that have their date at the axis, at most."""
_FULL = 6.0
"""Margin, in standard deviations of reference models, at which colors are full."""
_LETTERS = 24
"""Letters of the name of a model, or of a family, that are shown."""
_CURVES = (
    ("clean", "clean", "#333333", "o", "-"),
    ("worst_pose", "at the worst pose of a check", "#009E73", "^", ":"),
    ("robust_accuracy", "robust accuracy", "#CC79A7", "s", "--"),
)
_FAILING, _HOLDING = "#C04A00", "#0072B2"
"""The page's colors of what fails and what passes."""


@styled
def accuracy_over_runs(lines: Sequence[Line]) -> Figure:
    """Plot accuracy, clean and under pose, for each run, oldest first; below, the number of failing checks."""
    from matplotlib.ticker import MaxNLocator

    picture = figure(height=4.0)
    upper, lower = picture.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    places = range(len(lines))
    for name, label, color, marker, style in _CURVES:
        known = [(at, value) for at, line in enumerate(lines) if (value := getattr(line, name)) is not None]
        if known:
            at, values = zip(*known, strict=True)
            upper.plot(at, [100 * value for value in values], color=color, marker=marker, linestyle=style, label=label)
    upper.set_ylabel("accuracy, %")
    picture.legend(loc="outside upper center", ncols=2, fontsize=8)
    lower.bar(places, [len(line.failing) for line in lines], color=_FAILING)
    lower.set_ylabel("failing checks")
    lower.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=3))
    lower.set_ylim(bottom=0, top=max(1, *(len(line.failing) for line in lines)) * 1.05)
    _date(lower, lines)
    return picture


def families_of(lines: Sequence[Line]) -> list[str]:
    """Return the families that some run judged, in the order in which they come up from the latest run back."""
    return list(dict.fromkeys(family for line in reversed(lines) for family in line.margins))


@styled
def margins_over_runs(lines: Sequence[Line]) -> Figure:
    """Draw the smallest margin of each family in each run, a column; see `_margin_map`."""
    picture, axes = _margin_map(families_of(lines), [line.margins for line in lines])
    _date(axes, lines)
    return picture


@styled
def margins_of_models(names: Sequence[str], margins: Sequence[Mapping[str, float]], families: Sequence[str]) -> Figure:
    """Draw the smallest margin of each family, a column for each model; see `_margin_map`."""
    picture, axes = _margin_map(families, margins)
    axes.set_xticks(range(len(names)), [name[:_LETTERS] for name in names], rotation=90, fontsize=8)
    return picture


def _margin_map(names: Sequence[str], margins: Sequence[Mapping[str, float]]) -> tuple[Figure, Axes]:
    """Draw margins by family, a row, in standard deviations of reference models; what fails has a cross."""
    from matplotlib.colors import LinearSegmentedColormap

    values = np.array([[each.get(name, np.nan) for each in margins] for name in names])
    picture = figure(width=WIDTH, height=1.7 + 0.24 * len(names))
    axes = picture.subplots()
    colors = LinearSegmentedColormap.from_list("margins", (_FAILING, "#f7f7f7", _HOLDING))
    shown = axes.imshow(values, cmap=colors, vmin=-_FULL, vmax=_FULL, aspect="auto", interpolation="nearest")
    rows, columns = np.nonzero(values < 0)
    axes.plot(columns, rows, "x", color="#1b1e23", markersize=4, linestyle="none")
    axes.set_yticks(range(len(names)), [name[:_LETTERS] for name in names], fontsize=9)
    axes.grid(visible=False)
    bar = picture.colorbar(shown, ax=axes, location="top", shrink=0.9, aspect=40, extend="both")
    bar.set_label("margin in standard deviations of the reference models; × fails", fontsize=9)
    return picture, axes


def _date(axes: Axes, lines: Sequence[Line]) -> None:
    """Name some of the runs along the axis, the last one among them, by day and candidate."""
    step = -(-len(lines) // _TICKS)
    at = list(range(len(lines) - 1, -1, -step))
    axes.set_xticks(at, [f"{lines[each].date[5:10]}\n{lines[each].candidate[:6]}" for each in at], fontsize=8)
    axes.set_xlabel("run: day, candidate's SHA-256", fontsize=9)
