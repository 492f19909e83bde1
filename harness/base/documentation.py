"""Pages of the documentation, of the package or the checkout, with their titles and sections."""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.errors import InputError, some_of

if TYPE_CHECKING:
    from collections.abc import Iterable

_PACKAGE = Path(__file__).parents[1]
_IN_WHEEL, _IN_CHECKOUT = _PACKAGE / "docs", _PACKAGE.parent / "docs"
FOLDER = _IN_WHEEL if _IN_WHEEL.is_dir() else _IN_CHECKOUT
"""The folder of the pages; `setup.py` copies them into a wheel."""
_HEADING = re.compile(r"^(#+) +(.+)$")
_COMMENT = re.compile(r"^<!-- .* -->\n", re.MULTILINE)


def pages() -> dict[str, str]:
    """Return the titles of the pages by name, such as `behaviours/clean`."""
    files = sorted(FOLDER.rglob("*.md"))
    return {path.relative_to(FOLDER).with_suffix("").as_posix(): _title(path) for path in files}


def page(name: str) -> str:
    """Return the Markdown text of a page, or of one of its sections: `PAGE#SECTION`.

    A section is named by its heading in lower case, with hyphens for spaces, as in a link. Raises
    `InputError` for a page or a section that does not exist.
    """
    name, _, section = name.partition("#")
    name = name.removeprefix("docs/").removesuffix(".md")
    known = pages()
    if name not in known:
        raise InputError(
            f"docs {name}: no such page; "
            f"{_nearest(name, known, '`stress-harness docs` prints all')}"
        )

    text = (FOLDER / f"{name}.md").read_text("utf-8")
    text = _COMMENT.sub("", text)  # Marks for the tests of the page.
    return _section(text, section, where=name) if section else text


def _title(path: Path) -> str:
    with path.open(encoding="utf-8") as lines:
        return next(
            (line.lstrip("# ").rstrip() for line in lines if line.startswith("# ")), path.stem
        )


def _section(text: str, anchor: str, *, where: str) -> str:
    """Return a heading with the lines below it, up to the next heading of its level or higher."""
    lines: list[str] = []
    anchors: list[str] = []
    level = 0
    fenced = False
    for line in text.splitlines():
        fenced ^= line.startswith("```")
        heading = None if fenced else _HEADING.match(line)
        if heading and lines and len(heading[1]) <= level:
            break
        if heading and not lines:
            anchors.append(_anchor(heading[2]))
            level = len(heading[1])
            if anchors[-1] == anchor.lower():
                lines.append(line)
        elif lines:
            lines.append(line)
    if not lines:
        sections = f"expected one of {some_of(anchors, shown=len(anchors))}"
        raise InputError(
            f"docs {where}#{anchor}: no such section; {_nearest(anchor, anchors, sections)}"
        )
    return "\n".join(lines).rstrip() + "\n"


def _anchor(heading: str) -> str:
    """Return the anchor of a heading, as in links of Markdown pages."""
    words = re.sub(r"[^\w\s-]", "", heading.lower())
    return re.sub(r"\s", "-", words.strip())


def _nearest(name: str, known: Iterable[str], otherwise: str) -> str:
    near = get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]}?" if near else otherwise
