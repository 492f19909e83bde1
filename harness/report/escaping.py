"""Text made safe for Markdown; it needs the standard library alone."""

from __future__ import annotations

import re

from harness.base.errors import printable


def plain(text: str) -> str:
    """Return text that Markdown shows unchanged: no line, cell, code, element, link or picture of its own."""
    escaped = printable(text.replace("\n", " ")).replace("|", "\\|").replace("`", "\\`").replace("](", "]\\(")
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", escaped)


def code(text: str) -> str:
    """Return text as code in Markdown, in more backticks than it has in a row."""
    line = printable(text)
    ticks = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    return f"{ticks}{line}{ticks}" if len(ticks) == 1 else f"{ticks} {line} {ticks}"
