"""Text made safe for Markdown; it needs the standard library alone."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from harness.base.errors import printable

_LINKED = re.compile(r"@(?=\w)|#(?=\d)|:(?=//)|\bwww(?=\.)|\bGH-(?=\d)", re.IGNORECASE)
"""The beginning of a mention, an issue or an address."""


def plain(text: str) -> str:
    """Return text that Markdown shows unchanged: no line, cell, code, element, link, picture or mention of its own.

    GitHub finds addresses, mentions and issues even in escaped text; an invisible space ends them.
    """
    escaped = re.sub(r"[\\|`$]|(?<=\])\(", r"\\\g<0>", printable(_from_here(text).replace("\n", " ")))
    escaped = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", re.sub(r"&(?=#?\w+;)", "&amp;", escaped))
    return _LINKED.sub(r"\g<0>&#8203;", escaped)


def code(text: str) -> str:
    """Return text as code in Markdown, in more backticks than it has in a row."""
    line = printable(_from_here(text))
    ticks = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    return f"{ticks}{line}{ticks}" if len(ticks) == 1 else f"{ticks} {line} {ticks}"


def _from_here(text: str) -> str:
    """Return text with the paths in this folder relative to it: a summary is read elsewhere."""
    with suppress(OSError):  # The folder may be gone.
        here = str(Path.cwd())
        return re.sub(rf"(?<![\w./~-]){re.escape(here)}/(?=\w|\.)", "", text) if here != "/" else text
    return text
