"""Text made safe for Markdown; it needs the standard library alone."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from harness.base.errors import printable

_LINKED = re.compile(r"@(?=\w)|#(?=\d)|:(?=//)|\bwww(?=\.)|\bGH-(?=\d)", re.IGNORECASE)
"""The beginning of a mention, an issue or an address."""


def plain(text: str) -> str:
    """Return text that Markdown shows unchanged.

    No line, cell, code, element, link, picture or mention of its own.

    GitHub finds addresses, mentions and issues even in escaped text; an invisible space ends them.
    """
    escaped = re.sub(r"[\\|`$]|(?<=\])\(", r"\\\g<0>", printable(text.replace("\n", " ")))
    escaped = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", re.sub(r"&(?=#?\w+;)", "&amp;", escaped))
    return _LINKED.sub(r"\g<0>&#8203;", escaped)


def code(text: str) -> str:
    """Return text as code in Markdown, in more backticks than it has in a row."""
    line = printable(text)
    ticks = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    return f"{ticks}{line}{ticks}" if len(ticks) == 1 else f"{ticks} {line} {ticks}"


def relative(text: str, folder: str = "") -> str:
    """Return Markdown with the paths in a folder, by default this one, relative to it.

    A summary is read elsewhere.
    """
    with suppress(OSError):  # The folder may be gone.
        here = folder or str(Path.cwd())
        return (
            re.sub(rf"(?<![\w./~-]){re.escape(here)}/(?=\w|\.)", "", text) if here != "/" else text
        )
    return text
