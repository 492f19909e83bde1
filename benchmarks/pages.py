"""Tables that a benchmark writes into a page of Markdown, between two markers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.base.errors import InputError
from harness.base.files import write_atomically

if TYPE_CHECKING:
    from pathlib import Path


def write_between(page: Path, begin: str, end: str, body: str) -> None:
    """Replace what stands between the markers by `body`; raises `InputError` when one of them is missing."""
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise InputError(f"{page}: the markers {begin} and {end} are missing; put them where the tables go")
    write_atomically(page, f"{before}{begin}\n\n{body}\n\n{end}{after}".encode())
