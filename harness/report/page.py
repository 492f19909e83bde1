"""Parts of pages: sections, figures, and markup from templates that escape every text."""

from __future__ import annotations

import base64
import re
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.ext import Extension
from markupsafe import Markup

from harness.base.errors import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from matplotlib.figure import Figure

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Section:
    """A part of a page under a heading, to which the contents lead: its anchor is `report-` and the name.

    `beside` stands to the right of it, where the window is wide enough; with `columns` it leaves the place free.
    """

    name: str
    title: str
    body: Markup | str = ""
    columns: bool = False
    beside: Section | None = None


class Illustration(NamedTuple):
    """A figure to draw: `caption` says how to read it, `alt` what it shows, to those who cannot see it.

    The colors of a map mean something, so they stay the same on a dark page.
    """

    title: str
    caption: str
    alt: str
    draw: Callable[[], Figure]
    is_map: bool = False


def all_of(sections: Sequence[Section]) -> list[Section]:
    """Return the sections and those beside them, in the order of the page: what its contents list."""
    return [each for section in sections for each in (section, section.beside) if each is not None]


def render(part: str, /, **values: object) -> Markup:
    """Return the markup of a macro of the templates: its values are text, and escaped, unless they are markup."""
    return _macros()[part](**values)


def paragraphs(*lines: object, kind: str = "") -> Markup:
    """Return a paragraph for each line that is not empty, of this kind, such as `soft`."""
    return render("paragraphs", lines=[line for line in lines if line], kind=kind)


def table(titles: Sequence[object], rows: Sequence[Sequence[object]], *, numbers: bool = False) -> Markup:
    """Return a table of plain cells; with `numbers`, all columns but the first are aligned as such."""
    return render("table", titles=titles, rows=rows, numbers=numbers)


def aligned(rows: Sequence[Sequence[str]], *, text: Collection[int] = (0,)) -> list[str]:
    """Return the rows as lines of a table for the terminal; columns of `text` are aligned left, all others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if at in text else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def folded(summary: str, body: Markup | str, *, opened: bool = False) -> Markup:
    """Return markup under a summary that unfolds it."""
    return render("folded", summary=summary, body=body, opened=opened)


def figure_html(illustration: Illustration) -> Markup:
    """Return the figure with its title and caption, as an element that carries its data."""
    from harness.report.figures import as_svg

    error = source = ""
    try:
        with warnings.catch_warnings():
            # A letter that the font lacks is the browser's to draw.
            warnings.simplefilter("ignore")
            source = f"data:image/svg+xml;base64,{base64.b64encode(as_svg(illustration.draw())).decode()}"
    except Exception as failed:  # Names from files may be anything; a figure is not worth the report.
        error = repr(failed)
    title, caption, alt, _, is_map = illustration
    return render(
        "figure", title=title, caption=caption, alt=alt, is_map=is_map and not error, source=source, error=error
    )


def figures_html(several: Iterable[Illustration]) -> Markup:
    """Return figures in as many columns as the page has room for; empty without any."""
    return render("figures", drawn=[figure_html(each) for each in several])


def inputs(facts: Iterable[tuple[str, object]], title: str = "Inputs") -> Section:
    """Return the section with what a page is about, by title."""
    return Section("covered", title, render("facts", facts=facts))


def whole_page(title: str, lead: Markup, sections: Iterable[Section | None], *, banner: Markup | str = "") -> str:
    """Return a page of its own with the sections that are not None."""
    shown = [section for section in sections if section is not None]
    return str(render("whole", title=title, banner=banner, lead=lead, sections=shown))


class _Unbroken(Extension):
    """Leaves out of a template the line breaks and the indentation after them, which are there for its reader."""

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:  # noqa: ARG002
        return re.sub(r"\n *", "", source)


@cache
def _macros() -> dict[str, Callable[..., Markup]]:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        extensions=[_Unbroken],
        # Markup is ours; of any other text what cannot be printed is escaped, too, such as what reverses a line.
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    for kind in ("css", "js"):
        source = (TEMPLATES / f"report.{kind}").read_text("utf-8")
        environment.globals[kind] = Markup(source)  # noqa: S704  Ours.
    environment.globals["all_of"] = all_of
    modules = [vars(environment.get_template(f"{name}.html").module) for name in ("page", "parts", "sections")]
    return {name: macro for module in modules for name, macro in module.items() if callable(macro)}
