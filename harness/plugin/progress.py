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
_LINES, _SILENCE_S = 4, 20.0
"""Lines of a bar in a log, and the most seconds between two of them."""


def _quiet(config: pytest.Config) -> bool:
    """Return whether a run with `-q` writes to a log."""
    return config.get_verbosity() < 0 and not sys.stderr.isatty()


def tell(config: pytest.Config, *, checks: bool, compares: bool, below: str = "") -> None:
    """Say on the terminal what the run does now, after `below`, which ends the line of the last test where need be."""
    reporter = config.pluginmanager.getplugin("terminalreporter")
    parts = ["checks itself"] * checks + ["compares the models (no_overview skips this)"] * compares
    if reporter is None or not parts or _quiet(config):
        return
    reporter.ensure_newline()
    reporter.write_line(f"{below}tests are done; the run {' and '.join(parts)} …")


@contextmanager
def bar(what: str, config: pytest.Config) -> Iterator[Callable[[int, int, str], None]]:
    """Yield a function of the number of steps done, of all steps, and the current one, which draws a bar.

    The bar has the time spent and left. It moves with each batch, since one step of a large model
    takes minutes. A log gets a few lines instead, and none with `-q`.
    """
    from harness.base.progress import Progress
    from harness.inference.devices import watched

    shown = Progress(
        total=0,
        desc=what,
        unit="step",
        smoothing=0,
        delay=_DELAY,
        leave=False,
        disable=_quiet(config),
        lines=_LINES,
        silence=_SILENCE_S,
    )
    with shown, watched(shown.tick):

        def show(done: int, total: int, step: str) -> None:
            shown.total = total
            shown.set_postfix_str(step, refresh=False)
            shown.update(done - shown.n)

        yield show
