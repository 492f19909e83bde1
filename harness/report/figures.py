"""Figures as Matplotlib objects, for files, pages and notebooks: curves, dots and heat maps.

Each model has a color, a marker and a line of its own. Blue and vermilion are not among these
colors, because they stand for better and worse.
"""

from __future__ import annotations

import functools
import io
import itertools
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    from harness.run.overview import Rate

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
LOOKS: tuple[dict[str, Any], ...] = (
    {"color": "#7B3294", "marker": "o", "linestyle": "-"},
    {"color": "#595959", "marker": "s", "linestyle": "--"},
    {"color": "#00806B", "marker": "^", "linestyle": ":"},
)
"""Purple, gray and green: color-blind readers tell them apart, and so does a print in gray."""
GOOD, BAD = "#0072B2", "#D55E00"
"""Blue and vermilion of Okabe and Ito's colors: better and worse, as on the rest of a page."""
CHANGE = (BAD, "#f7f7f7", GOOD)
"""Colors of a change: worse, none, better."""
_REFERENCE: dict[str, Any] = {
    "color": "#E3C565",
    "alpha": 0.55,
    "linewidth": 0,
    "label": "reference models",
}
_DENSE = 15
"""Points from which on the intervals of a curve are drawn as a band."""
_LABELED = 20
"""Rows of a heat map up to which its cells hold text."""
_LONGEST_NAME = 32
"""Characters of a name in a figure."""
_MUTED, _MUTED_INK = "#e9ebee", "#50565e"
"""Color and ink of cells without a value, such as the correct predictions of a confusion matrix."""


class Series(NamedTuple):
    """Values of one model, drawn as a curve or as dots.

    Series of the same name belong to the same model and look alike.

    Attributes:
        name: the model, as the legend names it.
        at: places along the axis, (N,).
        values: values at these places, (N,).
        low: lower ends of the intervals, (N,), or empty.
        high: upper ends of the intervals, (N,), or empty.
        look: arguments of Matplotlib that replace those of the model's own look.
    """

    name: str
    at: Sequence[float]
    values: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    look: Mapping[str, Any] = MappingProxyType({})

    @classmethod
    def of_rates(
        cls, name: str, rates: Mapping[Any, Rate], *, scale: float = 100, **look: Any
    ) -> Series:
        """Return rates by place, in percent unless another scale is given."""
        values = [scale * rate.value for rate in rates.values()]
        low = [scale * rate.low for rate in rates.values()]
        high = [scale * rate.high for rate in rates.values()]
        return cls(name, [*rates], values, low, high, look)

    @classmethod
    def of_reference(
        cls,
        at: Sequence[float],
        mean: Sequence[float],
        std: Sequence[float],
        limits: tuple[float, float] = (-np.inf, np.inf),
    ) -> Series:
        """Return the band of the reference models: mean ± 2 standard deviations within limits."""
        low = np.clip(np.add(mean, np.multiply(-2.0, std)), *limits)
        high = np.clip(np.add(mean, np.multiply(2.0, std)), *limits)
        return cls("reference models", [*at], [*mean], low.tolist(), high.tolist())


class CurvePlot(NamedTuple):
    """One pair of axes with curves.

    Attributes:
        x: label of the horizontal axis.
        y: label of the vertical axis.
        series: the curves.
        band: the band of the reference models, drawn behind the curves.
        limits: ends of the vertical axis; None follows the data.
        title: title above the axes.
        log: whether the vertical axis is logarithmic.
        shaded: a range along the horizontal axis to shade (from, to, label).
        upright: a vertical line (place, label).
    """

    x: str
    y: str
    series: Sequence[Series]
    band: Series | None = None
    limits: tuple[float | None, float | None] = (0, 101)
    title: str = ""
    log: bool = False
    shaded: tuple[float, float, str] | None = None
    upright: tuple[float, str] | None = None


class HeatMap(NamedTuple):
    """A table as colors.

    Attributes:
        title: title above the table.
        values: the numbers behind the colors, (R, C); cells that are NaN have no color.
        rows: names of the rows, (R,).
        colors: a Matplotlib color map, or colors to interpolate.
        limits: values of the first and the last color.
        texts: texts of the cells, (R, C).
        columns: names of the columns, (C,); empty if they are those of the rows.
    """

    title: str
    values: np.ndarray
    rows: Sequence[str]
    colors: str | Sequence[str]
    limits: tuple[float, float]
    texts: Sequence[Sequence[str]]
    columns: Sequence[str] = ()


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Have a function draw in the style of these figures and leave Matplotlib's settings alone."""

    @functools.wraps(draw)
    def draw_in_style(*args: P.args, **kwargs: P.kwargs) -> Figure:
        import matplotlib as mpl

        with mpl.rc_context(STYLE):
            return draw(*args, **kwargs)

    return draw_in_style


def figure(width: float = WIDTH, height: float = 3.3) -> Figure:
    """Return an empty figure of this size in inches, which arranges what is drawn into it."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


@styled
def curves(
    *plots: CurvePlot, width: float = WIDTH, height: float = 3.6, heights: Sequence[float] = ()
) -> Figure:
    """Draw plots of curves; intervals are bars or a band.

    Args:
        plots: what each pair of axes shows.
        width: width of the figure in inches.
        height: height of the figure in inches.
        heights: relative heights of the plots, which then stand below each other; side by side
            without.
    """
    picture = figure(width, height)
    layout: dict[str, Any] = {"ncols": len(plots), "sharey": True}
    if heights:
        layout = {"nrows": len(plots), "sharex": True, "height_ratios": heights}
    all_axes = picture.subplots(**layout, squeeze=False).flat
    names = [series.name for plot in plots for series in plot.series]
    looks = _looks(names)

    for axes, plot in zip(all_axes, plots, strict=True):
        _draw_background(axes, plot)
        for series in plot.series:
            _draw_curve(axes, series, {**looks[series.name], "label": series.name, **series.look})
        _label_axes(axes, plot)

    _add_legend(picture)
    return picture


def _draw_background(axes: Axes, plot: CurvePlot) -> None:
    """Draw what lies behind the curves: the shaded range and the band of the reference models."""
    if plot.shaded is not None:
        start, end, label = plot.shaded
        axes.axvspan(start, end, color="0.5", alpha=0.12, linewidth=0, label=label)
    if plot.band is not None:
        axes.fill_between(plot.band.at, plot.band.low, plot.band.high, **_REFERENCE)


def _draw_curve(axes: Axes, series: Series, look: dict[str, Any]) -> None:
    has_intervals = len(series.low) > 0
    is_dense = len(series.low) > _DENSE

    if is_dense:
        axes.fill_between(series.at, series.low, series.high, alpha=0.15, color=look["color"])
        axes.plot(series.at, series.values, **{**look, "marker": ""})
    elif has_intervals:
        axes.errorbar(series.at, series.values, yerr=_interval_lengths(series), capsize=2, **look)
    elif len(series.at):
        axes.plot(series.at, series.values, **look)


def _label_axes(axes: Axes, plot: CurvePlot) -> None:
    from matplotlib.ticker import NullFormatter

    if plot.upright is not None:
        place, label = plot.upright
        axes.axvline(place, color="0.6", linewidth=1, label=label)
    if plot.log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_title(plot.title, fontsize=10)
    axes.set(xlabel=plot.x, ylabel=plot.y, ylim=plot.limits)
    axes.label_outer()


@styled
def dots(
    rows: Sequence[str],
    *series: Series,
    x: str,
    band: Series | None = None,
    thresholds: Mapping[int, float] = MappingProxyType({}),
    upright: tuple[float, str] | None = None,
    limits: tuple[float | None, float | None] = (None, None),
) -> Figure:
    """Draw values with their intervals as dots in rows.

    Dots and not bars, since a bar has to begin at 0 and would hide a difference of two points.

    Args:
        rows: names of the rows, from the top.
        series: values by model; their places are numbers of rows.
        x: label of the horizontal axis.
        band: the band of the reference models; its places are numbers of rows.
        thresholds: thresholds by number of the row.
        upright: a vertical line (place, label).
        limits: ends of the horizontal axis; None follows the data.
    """
    picture = figure(height=1.0 + len(rows) * (0.16 + 0.1 * len(series)))
    axes = picture.subplots()

    if band is not None and len(band.at):
        widths = np.subtract(band.high, band.low)
        axes.barh(band.at, widths, left=band.low, height=0.8, **_REFERENCE)
    for row, threshold in thresholds.items():
        axes.plot([threshold], [row], "|", color="0.2", markersize=11, markeredgewidth=1.6)

    looks = _looks(one_series.name for one_series in series)
    for number, model in enumerate(series):
        if not len(model.at):
            continue
        # Models stand below each other within a row, so that their dots do not cover each other.
        offset = 0.6 * ((number + 0.5) / len(series) - 0.5)
        places = np.asarray(model.at) + offset
        look = {**looks[model.name], "label": model.name, **model.look, "linestyle": "none"}
        axes.errorbar(model.values, places, xerr=_interval_lengths(model), capsize=2, **look)

    if upright is not None:
        place, label = upright
        axes.axvline(place, color="0.25", linewidth=1.2, linestyle="--", label=label)
    axes.set_yticks(range(len(rows)), short_names(rows))
    axes.set(xlabel=x, xlim=limits, ylim=(len(rows) - 0.4, -0.6))
    axes.grid(visible=False, axis="y")
    _add_legend(picture)
    return picture


@styled
def heat_maps(*maps: HeatMap, x: str, y: str, width: float = WIDTH, height: float = 4.7) -> Figure:
    """Draw tables as colors side by side; if there are few rows, their cells hold texts."""
    picture = figure(width, height)
    all_axes = picture.subplots(1, len(maps), squeeze=False).flat
    for axes, heat_map in zip(all_axes, maps, strict=True):
        _draw_heat_map(axes, heat_map)
        axes.set(xlabel=x, ylabel=y, title=heat_map.title)
    return picture


def _draw_heat_map(axes: Axes, heat_map: HeatMap) -> None:
    rows = short_names(heat_map.rows)
    columns = short_names(heat_map.columns or heat_map.rows)
    is_square = len(rows) == len(columns)
    lowest, highest = heat_map.limits
    axes.pcolormesh(
        np.ma.masked_invalid(heat_map.values),
        cmap=_color_map(heat_map.colors),
        vmin=lowest,
        vmax=highest,
        linewidth=0,
        edgecolor="white",
    )
    axes.invert_yaxis()
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(len(columns)) + 0.5, columns)
    axes.set_yticks(np.arange(len(rows)) + 0.5, rows, va="center")
    if is_square:
        axes.set_aspect("equal")
    axes.set_facecolor(_MUTED)
    if len(rows) <= _LABELED or not is_square:
        _write_cells(axes, heat_map)
    longest = max(len(name) for name in columns)
    axes.tick_params(axis="x", length=0, rotation=90 if longest > 2 else 0)  # noqa: PLR2004
    axes.tick_params(axis="y", length=0, rotation=0)
    axes.grid(visible=False)


def _color_map(colors: str | Sequence[str]) -> str | LinearSegmentedColormap:
    from matplotlib.colors import LinearSegmentedColormap

    if isinstance(colors, str):
        return colors
    return LinearSegmentedColormap.from_list("own", [*colors])


def _write_cells(axes: Axes, heat_map: HeatMap) -> None:
    """Write the text of each cell in an ink that is readable on the color of the cell."""
    is_empty = np.isnan(heat_map.values)
    (mesh,) = axes.collections
    cell_colors = mesh.to_rgba(np.ma.array(heat_map.values, mask=is_empty))
    for row, column in np.ndindex(heat_map.values.shape):
        ink = _MUTED_INK
        if not is_empty[row, column]:
            ink = ink_on(cell_colors[row, column])
        text = heat_map.texts[row][column]
        axes.text(column + 0.5, row + 0.5, text, color=ink, ha="center", va="center", fontsize=8)


def _looks(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the look of each model by name; after the last look, the first comes again."""
    unique_names = dict.fromkeys(names)
    return dict(zip(unique_names, itertools.cycle(LOOKS)))


def _interval_lengths(series: Series) -> list[np.ndarray] | None:
    """Return the lengths of the intervals below and above the values, or None without intervals."""
    if not len(series.low):
        return None
    below = np.subtract(series.values, series.low)
    above = np.subtract(series.high, series.values)
    # Rounding can put a value a hair outside its interval, and Matplotlib refuses negative lengths.
    return [np.maximum(below, 0.0), np.maximum(above, 0.0)]


def _add_legend(picture: Figure) -> None:
    """Put one legend above all axes, with each label once."""
    handles: dict[str, Any] = {}
    for axes in picture.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if handles:
        picture.legend(
            handles.values(), [*handles], loc="outside upper center", ncols=2, fontsize=9
        )


def ink_on(color: Sequence[float] | np.ndarray) -> str:
    """Return black or white, whichever has more contrast with a color in [0, 1].

    Contrast and relative luminance are those of WCAG 2.1.
    """
    red, green, blue = map(_linear, color[:3])
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05
    contrast_with_black = luminance / 0.05
    contrast_with_white = 1.05 / luminance
    return "#000000" if contrast_with_black >= contrast_with_white else "#ffffff"


def _linear(channel: float) -> float:
    """Return the linear value of a channel of sRGB, as WCAG 2.1 defines it."""
    if channel <= 0.04045:  # noqa: PLR2004  The end of the linear part.
        return channel / 12.92
    return float(((channel + 0.055) / 1.055) ** 2.4)


def short_names(names: Sequence[str]) -> list[str]:
    """Return names as a figure writes them, cut to a length that fits."""
    return [_short(name) for name in names]


def _short(name: str) -> str:
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[: _LONGEST_NAME - 1]}…"


def as_png(picture: Figure, *, dpi: int = 100) -> bytes:
    """Return a figure as the content of a PNG file with `dpi` pixels per inch."""
    content = io.BytesIO()
    picture.savefig(content, dpi=dpi, format="png")
    return content.getvalue()


def as_svg(picture: Figure) -> bytes:
    """Return a figure as SVG; the same figure gives the same bytes."""
    import matplotlib as mpl

    content = io.BytesIO()
    with mpl.rc_context(STYLE):
        picture.savefig(content, format="svg", metadata={"Date": None})
    return content.getvalue()
