"""Figures as Matplotlib objects, for files, pages and notebooks: curves, dots with intervals, and heat maps.

A model has a color, marker and line of its own. Blue and vermilion are not among the colors: they say good and bad.
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
LOOKS = tuple(
    {"color": color, "marker": marker, "linestyle": line}
    for color, marker, line in (
        ("#7B3294", "o", "-"),
        ("#595959", "s", "--"),
        ("#00806B", "^", ":"),
    )
)
"""Purple, gray and green, which color-blind people tell apart, and anyone can in print."""
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
"""Places from which on the intervals of a curve are a band."""
_LABELED, _NAME = 20, 32
"""Rows of a heat map up to which its cells hold numbers, and characters of a name in a figure."""
_TICKS = 50
"""Names along a side of a square map, at most."""
_MUTED, _MUTED_INK = "#e9ebee", "#50565e"
"""Color of cells that are not of interest, such as the correct predictions of a confusion matrix."""


class Series(NamedTuple):
    """Values at places, with the ends of their intervals, if any; `look` is a look of its own.

    Series of one name are of one model, and look alike.
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
        """Return rates by place, in percent unless there is another scale."""
        known = rates.values()
        values, low, high = (
            [scale * getattr(rate, part) for rate in known] for part in ("value", "low", "high")
        )
        return cls(name, [*rates], values, low, high, look)

    @classmethod
    def of_reference(
        cls,
        at: Sequence[float],
        mean: Sequence[float],
        std: Sequence[float],
        limits: tuple[float, float] = (-np.inf, np.inf),
    ) -> Series:
        """Return the band of the reference models: mean and two standard deviations to either side, within limits."""
        low, high = (
            np.clip(np.add(mean, np.multiply(side, std)), *limits).tolist() for side in (-2.0, 2.0)
        )
        return cls("reference models", [*at], [*mean], low, high)


class Panel(NamedTuple):
    """Axes of a figure with curves over the `band` of the reference models.

    `shaded` is a range along x and `upright` a place, each with its label.
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
    """A table as colors, `values` (R, C) within `limits`, with its names and the texts of its cells.

    Cells that are NaN have no color. A column stands for each of `columns`, by default as the rows.
    """

    title: str
    values: np.ndarray
    rows: Sequence[str]
    colors: str | Sequence[str]
    limits: tuple[float, float]
    texts: Sequence[Sequence[str]]
    columns: Sequence[str] = ()


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Have a function draw in the style of these figures and leave Matplotlib's settings as found."""

    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Figure:
        import matplotlib as mpl

        with mpl.rc_context(STYLE):
            return draw(*args, **kwargs)

    return drawn


def figure(width: float = WIDTH, height: float = 3.3) -> Figure:
    """Return an empty figure of this size in inches, which arranges what is drawn into it."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


@styled
def curves(
    *panels: Panel, width: float = WIDTH, height: float = 3.6, heights: Sequence[float] = ()
) -> Figure:
    """Draw panels of curves side by side, or with `heights` one below the other; intervals are bars or a band."""
    from matplotlib.ticker import NullFormatter

    picture = figure(width, height)
    how: dict[str, Any] = {"ncols": len(panels), "sharey": True}
    if heights:
        how = {"nrows": len(panels), "sharex": True, "height_ratios": heights}
    looks = _looks(each for panel in panels for each in panel.series)
    for axes, panel in zip(picture.subplots(**how, squeeze=False).flat, panels, strict=True):
        if panel.shaded:
            axes.axvspan(
                *panel.shaded[:2], color="0.5", alpha=0.12, linewidth=0, label=panel.shaded[2]
            )
        if (band := panel.band) is not None:
            axes.fill_between(band.at, band.low, band.high, **_REFERENCE)
        for series in panel.series:
            look = {**looks[series.name], "label": series.name, **series.look}
            if len(series.low) > _DENSE:
                axes.fill_between(
                    series.at, series.low, series.high, alpha=0.15, color=look["color"]
                )
                axes.plot(series.at, series.values, **{**look, "marker": ""})
            elif len(series.low):
                axes.errorbar(series.at, series.values, yerr=_reach(series), capsize=2, **look)
            elif len(series.at):
                axes.plot(series.at, series.values, **look)
        if panel.upright:
            axes.axvline(panel.upright[0], color="0.6", linewidth=1, label=panel.upright[1])
        if panel.log:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:,.0f}")
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_title(panel.title, fontsize=10)
        axes.set(xlabel=panel.x, ylabel=panel.y, ylim=panel.limits)
        axes.label_outer()
    _name_all(picture)
    return picture


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
    """Draw values with their intervals as dots in rows, below each other; places are the numbers of the rows.

    Bars would begin at 0 and hide two points. The `band` has places like the series. `thresholds` are by row.
    """
    picture = figure(height=1.0 + len(rows) * (0.16 + 0.1 * len(series)))
    axes = picture.subplots()
    if band is not None and len(band.at):
        widths = np.subtract(band.high, band.low)
        axes.barh(band.at, widths, left=band.low, height=0.8, **_REFERENCE)
    for at, threshold in thresholds.items():
        axes.plot([threshold], [at], "|", color="0.2", markersize=11, markeredgewidth=1.6)
    looks = _looks(series)
    for number, each in enumerate(series):
        if len(each.at):
            places = np.asarray(each.at) + 0.6 * ((number + 0.5) / len(series) - 0.5)
            look = {**looks[each.name], "label": each.name, **each.look, "linestyle": "none"}
            axes.errorbar(each.values, places, xerr=_reach(each), capsize=2, **look)
    if upright:
        axes.axvline(upright[0], color="0.25", linewidth=1.2, linestyle="--", label=upright[1])
    axes.set_yticks(range(len(rows)), short_names(rows))
    axes.set(xlabel=x, xlim=limits, ylim=(len(rows) - 0.4, -0.6))
    axes.grid(visible=False, axis="y")
    _name_all(picture)
    return picture


@styled
def heat_maps(*maps: HeatMap, x: str, y: str, width: float = WIDTH, height: float = 4.7) -> Figure:
    """Draw tables as colors side by side; their cells hold texts if there are few rows."""
    import seaborn
    from matplotlib.colors import LinearSegmentedColormap

    picture = figure(width, height)
    for axes, each in zip(picture.subplots(1, len(maps), squeeze=False).flat, maps, strict=True):
        named = isinstance(each.colors, str)
        colors = each.colors if named else LinearSegmentedColormap.from_list("own", [*each.colors])
        rows, columns = (short_names(names) for names in (each.rows, each.columns or each.rows))
        hidden, (low, high) = np.isnan(each.values), each.limits
        ticks = {"xticklabels": columns, "yticklabels": rows, "square": len(rows) == len(columns)}
        seaborn.heatmap(
            each.values, mask=hidden, vmin=low, vmax=high, cmap=colors, cbar=False, ax=axes, **ticks
        )
        (mesh,) = axes.collections
        axes.set_facecolor(_MUTED)
        if len(rows) <= _LABELED or len(rows) != len(columns):
            inks = mesh.to_rgba(np.ma.array(each.values, mask=hidden))
            for row, column in np.ndindex(each.values.shape):
                ink = _MUTED_INK if hidden[row, column] else ink_on(inks[row, column])
                text, place = (
                    each.texts[row][column],
                    {"ha": "center", "va": "center", "fontsize": 8},
                )
                axes.text(column + 0.5, row + 0.5, text, color=ink, **place)
        axes.tick_params(axis="x", length=0, rotation=90 if max(map(len, columns)) > 2 else 0)  # noqa: PLR2004
        axes.tick_params(axis="y", length=0, rotation=0)
        axes.grid(visible=False)
        axes.set(xlabel=x, ylabel=y, title=each.title)
    return picture


def _looks(series: Iterable[Series]) -> dict[str, dict[str, Any]]:
    return dict(zip(dict.fromkeys(each.name for each in series), itertools.cycle(LOOKS)))


def _reach(series: Series) -> list[np.ndarray] | None:
    """Return the lengths of the intervals to either side; None without any."""
    if not len(series.low):
        return None
    sides = np.subtract(series.values, series.low), np.subtract(series.high, series.values)
    return [np.maximum(side, 0.0) for side in sides]


def _name_all(picture: Figure) -> None:
    """Put one legend above all axes."""
    named: dict[str, Any] = {}
    for axes in picture.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    if named:
        picture.legend(named.values(), [*named], loc="outside upper center", ncols=2, fontsize=9)


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
    """Return names as a figure writes them, each in one short line."""
    return [name if len(name) <= _NAME else f"{name[: _NAME - 1]}…" for name in names]


def as_png(picture: Figure, *, dpi: int = 100) -> bytes:
    """Return a figure as the content of a PNG file, of so many pixels per inch."""
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
