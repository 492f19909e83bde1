"""The figures of a report as files of their own, for slides and papers."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Literal

from harness.report.figures import as_png, as_svg
from harness.report.html import all_sections

if TYPE_CHECKING:
    from harness.report.page import Illustration
    from harness.run.outcome import Outcome

DPI = 200
"""Pixels per inch of a PNG file: 960 pixels across, enough for a slide."""


def figure_files(
    outcome: Outcome, form: Literal["svg", "png"] = "svg"
) -> tuple[dict[str, bytes], list[str]]:
    """Return the files of the report's figures, and the names of figures that cannot be drawn.

    A name follows from the title of the figure, such as `survival-curves-of-the-candidate.svg`.
    """
    contents: dict[str, bytes] = {}
    missing = []
    for name, illustration in _named(outcome).items():
        content = _drawn(illustration, form)
        if content:
            contents[f"{name}.{form}"] = content
        else:
            missing.append(name)
    return contents, missing


def _named(outcome: Outcome) -> dict[str, Illustration]:
    """Return the figures by a name from their title; a second one of a name has a number."""
    figures: dict[str, Illustration] = {}
    for section in all_sections(outcome):
        if section is None:
            continue
        for illustration in section.figures:
            name = start = _slug(illustration.title) or _slug(section.title)
            number = 2
            while name in figures:
                name = f"{start}-{number}"
                number += 1
            figures[name] = illustration
    return figures


def _slug(title: str) -> str:
    """Return a title as the name of a file, without its note in brackets."""
    words = re.findall(r"[a-z0-9]+", title.partition(" (")[0].lower())
    return "-".join(words)


def _drawn(illustration: Illustration, form: str) -> bytes:
    """Return the content of a figure's file; empty if it cannot be drawn."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # A letter that the font lacks.
            picture = illustration.draw()
            return as_png(picture, dpi=DPI) if form == "png" else as_svg(picture)
    except Exception:  # Names from files may be anything.
        return b""
