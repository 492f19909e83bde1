"""Progress after the last test of a run: self-checks and the comparison of the models."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest

_DELAY = 2.0
"""Seconds until a bar appears."""


def tell(config: pytest.Config, *, checks: bool, compares: bool, below: str = "") -> None:
    """Say on the terminal what the run does now, after `below`, which ends the line of the last test where need be."""
    reporter = config.pluginmanager.getplugin("terminalreporter")
    parts = ["the run checks itself"] * checks + ["the models are compared (--stress-no-overview: not)"] * compares
    if reporter is None or not parts or (config.get_verbosity() < 0 and not sys.stderr.isatty()):
        return
    reporter.ensure_newline()
    reporter.write_line(f"{below}tests are done; {', '.join(parts)} …")


@contextmanager
def bar(what: str) -> Iterator[Callable[[int, int, str], None]]:
    """Yield what takes steps done, all of them, and the step at hand, and shows them as a bar on a terminal.

    With the time spent and left; where no terminal is, as under workers and in logs, there is none.
    """
    from tqdm import tqdm

    shown: tqdm[NoReturn] = tqdm(total=0, desc=what, delay=_DELAY, leave=False, disable=None, file=sys.stderr)

    def show(done: int, total: int, step: str) -> None:
        shown.total = total
        shown.set_postfix_str(step, refresh=False)
        shown.update(done - shown.n)

    try:
        yield show
    finally:
        shown.close()
