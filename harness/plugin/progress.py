"""Progress after the last test of a run: self-checks and the comparison of the models."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest

_DELAY = 2.0
"""Seconds until a bar appears."""


def tell(config: pytest.Config, *, checks: bool, compares: bool, below: str = "") -> None:
    """Say on the terminal what the run does now, after `below`, which ends the line of the last test where need be."""
    reporter = config.pluginmanager.getplugin("terminalreporter")
    parts = ["checks itself"] * checks + ["compares the models (no_overview skips this)"] * compares
    if reporter is None or not parts or (config.get_verbosity() < 0 and not sys.stderr.isatty()):
        return
    reporter.ensure_newline()
    reporter.write_line(f"{below}tests are done; the run {' and '.join(parts)} …")


@contextmanager
def bar(what: str) -> Iterator[Callable[[int, int, str], None]]:
    """Yield a function of the number of steps done, of all steps, and the current one, which draws a bar.

    The bar has the time spent and left. Without a terminal, as under workers and in logs, nothing is drawn.
    """
    from harness.base.progress import Progress

    with Progress(total=0, desc=what, delay=_DELAY, leave=False, disable=None) as shown:

        def show(done: int, total: int, step: str) -> None:
            shown.total = total
            shown.set_postfix_str(step, refresh=False)
            shown.update(done - shown.n)

        yield show
