"""`--stress-plan`: what a run would cost, in place of the run; and the line on it with which a run begins."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout, suppress
from typing import TYPE_CHECKING

import pytest

from harness.errors import foreign_code
from harness.plugin.run import RUN
from harness.plugin.timeout import TimeLimitExceededError, time_limit
from harness.run.budget import noticeable_loss

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.inference.planning import Asked
    from harness.run.plan import Plan

_PATIENCE = 30.0
"""Seconds that a run may take to say how long it will take."""


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Plan in one process: workers would run nothing."""
    if config.option.stress_plan and config.pluginmanager.hasplugin("xdist"):
        config.option.numprocesses, config.option.dist, config.option.tx = None, "no", []


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say how much a run is about to do."""
    run = config.stash[RUN]
    if run.session is None or run.is_worker or run.plans or config.get_verbosity() < 0:
        return None
    from harness.run.plan import in_brief

    # Whatever a model raises, or that it hangs, is told by the tests; no line is worth ending a run, or a long wait.
    seconds = min(run.options.timeout_seconds or _PATIENCE, _PATIENCE)
    with (
        suppress(Exception, TimeLimitExceededError),
        time_limit(seconds, "a first batch"),
        # Nothing captures output here, and what a model prints would be the terminal's.
        redirect_stdout(io.StringIO()),
        redirect_stderr(io.StringIO()),
        foreign_code(),
    ):
        return f"stress: {in_brief(run.session)}"
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Plan in place of running the tests."""
    run = session.config.stash[RUN]
    if not run.plans or session.testsfailed or not session.items:
        return None
    from harness.run.budget import samples_of
    from harness.run.plan import plan_of

    selected = [item.callspec.params["gate"] for item in session.items if item.get_closest_marker("gate")]  # type: ignore[attr-defined]
    with foreign_code():
        plan = plan_of(run.prepare(), selected, run.judge, overview=run.compares_models)
    reporter = session.config.pluginmanager.getplugin("terminalreporter")
    reporter.ensure_newline()
    reporter.section("what a run would cost")
    for line in lines_of(plan):
        reporter.write_line(line)
    if (seconds := run.options.budget_seconds) is not None:
        workers = run.prepare().roles["candidate"].classifier.workers
        for line in samples_in_toml(samples_of(plan, seconds=seconds, cores=workers)):
            reporter.write_line(line)
    run.planned = True
    return True


def samples_in_toml(samples: Mapping[str, int]) -> list[str]:
    """Return samples as lines of a gates file, each with the loss that its family then notices."""
    if not samples:
        return ["all images fit into the time"]
    width = max(map(len, samples))
    return [
        "to fit, calibrate anew with these lines in the gates file:",
        "[data.samples]",
        *(
            f"{name:{width}} = {size}  # notices {100 * noticeable_loss(size):.1f} points of 90% with 95% power"
            for name, size in samples.items()
        ),
    ]


def lines_of(plan: Plan) -> list[str]:
    """Return the plan as the terminal shows it: a row for each family, self-checks and overview, and all of them."""
    from harness.run.plan import in_words

    head = ("", "tests", "passes", "image-poses", "maps", "cached", "time", "notices")

    def cells(name: str, asked: Asked) -> tuple[str, ...]:
        counts = (asked.passes, asked.poses, asked.maps, asked.cached)
        tests, power = "", ""
        if name in plan.rows:
            tests, power = str(plan.rows[name]), f"{100 * noticeable_loss(plan.sizes[name]):.1f}"
        return (name, tests, *(f"{each:,}" for each in counts), in_words(plan.seconds(asked)), power)

    table = [head, *(cells(name, asked) for name, asked in plan.asked.items())]
    table.append(cells("all", plan.total))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if at else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in table
    ]
    costs = plan.costs
    memory = f"; memory so far {costs.peak_bytes / 1e9:.1f} GB" if costs.peak_bytes else ""
    return [
        *lines,
        f"{plan.images:,} images; {costs.seconds * 1000:.2g} ms an image and pose, {costs.map_seconds * 1000:.2g} ms a "
        f"map, measured on one batch each, of one core{memory}",
        "notices: the loss of accuracy, in points of 90%, noticed with 95% power if chance alone made the spread",
        "searches end early, so that theirs is an upper bound; nothing was judged",
    ]
