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
_LINES = 4
"""Lines of a bar in a log."""
_SILENCE_S = 20.0
"""Most seconds between two lines of a bar in a log."""


def announce(config: pytest.Config, *, checks: bool, compares: bool, below: str = "") -> None:
    """Say on the terminal what the run does after its tests.

    The line stands after `below`, which ends the line of the last test where need be.
    """
    reporter = config.pluginmanager.getplugin("terminalreporter")
    steps = []
    if checks:
        steps.append("checks itself")
    if compares:
        steps.append("compares the models (no_overview skips this)")
    if reporter is None or not steps or _is_quiet_log(config):
        return
    reporter.ensure_newline()
    reporter.write_line(f"{below}tests are done; the run {' and '.join(steps)} …")


@contextmanager
def bar(title: str, config: pytest.Config) -> Iterator[Callable[[int, int, str], None]]:
    """Yield a function that draws a bar.

    It takes the number of steps done, of all steps, and the name of the current one. The bar
    has the time spent and left. It moves with each batch, since one step of a large model takes
    minutes. A log gets a few lines instead, and none with `-q`.
    """
    from harness.base.progress import Progress
    from harness.inference.devices import watched

    progress = Progress(
        total=0,
        desc=title,
        unit="step",
        smoothing=0,
        delay=_DELAY,
        leave=False,
        disable=_is_quiet_log(config),
        lines=_LINES,
        silence=_SILENCE_S,
    )
    with progress, watched(progress.tick):

        def show(done: int, total: int, step: str) -> None:
            progress.total = total
            progress.set_postfix_str(step, refresh=False)
            progress.update(done - progress.n)

        yield show


def _is_quiet_log(config: pytest.Config) -> bool:
    """Return whether a run with `-q` writes to a log."""
    return config.get_verbosity() < 0 and not sys.stderr.isatty()
