"""Parts of pages: sections, figures, and markup from templates that escape every text."""

from __future__ import annotations

import base64
import re
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from harness.base.errors import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from matplotlib.figure import Figure

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Section:
    """A part of a page under a heading, to which the contents lead.

    Its anchor is `report-` and the name.

    `figures` are those of its body, for files of their own. A feature's section stands `before` the
    one that a function of `harness.report.html.SECTIONS` returns, by default at the end.
    """

    name: str
    title: str
    body: Markup | str = ""
    figures: tuple[Illustration, ...] = ()
    before: str = ""


class Illustration(NamedTuple):
    """A figure to draw.

    `caption` explains how to read it; `alt` describes it to those who cannot see it. The colors of
    a map mean something, so they stay the same on a dark page.
    """

    title: str
    caption: str
    alt: str
    draw: Callable[[], Figure]
    is_map: bool = False


def render(part: str, /, **values: object) -> Markup:
    """Return the markup of a macro of the templates.

    Its values are text, and escaped, unless they are markup.
    """
    macro: Callable[..., Markup] = getattr(_macros(), part)
    return macro(**values)


def in_lines(text: str) -> Markup:
    """Return a text for an attribute that keeps its line breaks."""
    return Markup("&#10;").join(text.split("\n"))


def paragraphs(*lines: object, kind: str = "") -> Markup:
    """Return a paragraph for each line that is not empty, of this kind, such as `soft`."""
    return render("paragraphs", lines=[line for line in lines if line], kind=kind)


def table(
    titles: Sequence[object], rows: Sequence[Sequence[object]], *, numbers: bool = False
) -> Markup:
    """Return a table of plain cells.

    With `numbers`, all columns but the first are aligned as such.
    """
    return render("table", titles=titles, rows=rows, numbers=numbers)


def aligned(rows: Sequence[Sequence[object]], *, text: Collection[int] = (0,)) -> list[str]:
    """Return the rows as lines of a table for the terminal.

    Columns of `text` are aligned left, all others right.
    """
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    sides = ["<" if at in text else ">" for at in range(len(widths))]
    return [
        "  ".join(
            f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True)
        ).rstrip()
        for row in cells
    ]


def folded(summary: str, body: Markup | str, *, opened: bool = False) -> Markup:
    """Return markup under a summary that unfolds it."""
    return render("folded", summary=summary, body=body, opened=opened)


def figures_html(several: Iterable[Illustration]) -> Markup:
    """Return figures with their titles and captions, in as many columns as fit on the page."""
    return render("figures", drawn=[(each, *_drawn(each)) for each in several])


def _drawn(illustration: Illustration) -> tuple[str, str]:
    """Return the address of a figure, or else why it could not be drawn."""
    from harness.report.figures import as_svg

    try:
        with warnings.catch_warnings():
            # A letter that the font lacks is the browser's to draw.
            warnings.simplefilter("ignore")
            return (
                f"data:image/svg+xml;base64,{base64.b64encode(as_svg(illustration.draw())).decode()}",
                "",
            )
    except (
        Exception
    ) as failed:  # Names from files may be anything; a figure is not worth the report.
        return "", repr(failed)


def inputs(facts: Iterable[tuple[str, object]], title: str = "Inputs") -> Section:
    """Return the section with what a page is about, by title."""
    return Section("covered", title, render("facts", facts=facts))


def whole_page(
    title: str,
    lead: Markup,
    sections: Iterable[Section | None],
    *,
    banner: Markup | str = "",
    first: Section | None = None,
) -> str:
    """Return a page of its own with the sections that are not None.

    The `first` section stands between the banner and the contents, on the first screen of a reader.
    """
    shown = [section for section in sections if section is not None]
    return str(render("whole", title=title, banner=banner, first=first, lead=lead, sections=shown))


@cache
def _macros() -> object:
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        # Markup is ours; of any other text what cannot be printed is escaped, too, such as what
        # reverses a line.
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    css, js, page = (
        (TEMPLATES / name).read_text("utf-8") for name in ("report.css", "report.js", "page.html")
    )
    environment.globals |= {"css": Markup(css), "js": Markup(js)}  # noqa: S704  Ours.
    # Line breaks and the indentation after them are there for the reader of the template.
    return environment.from_string(re.sub(r"\n *", "", page)).module
