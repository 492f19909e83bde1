"""The begin and the end of a gate run; options, fixtures, tests and verdicts are in modules beside this one."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.base import imports
from harness.base.codes import coded
from harness.base.errors import InputError, code_of, end_copy, lacking, printable, told
from harness.base.records import as_json
from harness.base.termination import end_with_parent, on_termination
from harness.checks.known import read_known
from harness.plugin.claim import CLAIM, claim, reason_of, refuse
from harness.plugin.collector import Collector, failures_left_out
from harness.plugin.exit_status import concluded, end_at_once, unended
from harness.plugin.looking_back import checks_itself, compares_models, finished, look_back
from harness.plugin.options import ASKED, add_options, expect_own
from harness.plugin.place import handover_to, only_collects, reports_folder
from harness.plugin.progress import tell
from harness.plugin.run import INPUTS, MISPLACED, PICTURED, PREDICTIONS, RUN, GateRun, selected_checks
from harness.plugin.sinks import expect_to_leave, leave
from harness.run.opening import EXAMPLES, checks_of
from harness.run.outcome import Part
from harness.run.settings import option_of_pytest
from harness.run.status import INTERRUPTED, MEANING, NOT_JUDGED, PAGE

if TYPE_CHECKING:
    from collections.abc import Generator

_PARENT = "stress_parent"
"""The name under which the id of the controller's process travels to the workers."""
_REPORT_STACK = (
    *("harness.plugin.pictures", "harness.report.html", "harness.report.text", "harness.run.selfcheck"),
    *("cv2", "jinja2", "matplotlib.backends.backend_svg", "PIL.Image", "scipy.stats", "seaborn", "tqdm"),
)
"""Modules and packages without which a run cannot end."""


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the gate's options."""
    imports.begin()
    config = pluginmanager.get_plugin("pytestconfig")
    assert isinstance(config, pytest.Config)
    expect_own(config)
    add_options(parser, config)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Claim the reports of a run that judges, and name its page; what it reads is opened once the session starts."""
    config.addinivalue_line(
        "markers",
        "stress_check(family, *keys, metric="
        "): a stress test, run once per check of this family, and metric, in "
        "the checks file; `keys` are those that its checks have besides those of all checks.",
    )
    config.stash[RUN] = run = GateRun(config)
    if not run.active:
        return
    if run.is_worker:
        if os.getppid() == (parent := config.workerinput.get(_PARENT)):  # type: ignore[attr-defined]
            end_with_parent(parent)
    elif run.judges:
        claimed = claim(config, reports_folder(config))
        claimed.ending = True
        claimed.hold.enter_context(on_termination(partial(end_at_once, run, claimed)))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> Generator[None, None, None]:
    """Check all inputs in the controller, before workers start; a `UsageError` ends the run with exit status 4."""
    run = session.config.stash[RUN]
    if run.active:
        try:
            _open(run)
        except (InputError, ImportError, MemoryError) as error:
            said_of = told(error, option_of_pytest) if isinstance(error, InputError) else lacking(error)
            raise pytest.UsageError(coded(code_of(error), said_of)) from None
        if not run.is_worker:
            session.config.pluginmanager.register(Collector(run, session))
    yield


def _open(run: GateRun) -> None:
    """Read the checks, and in the controller all else that the run needs; raises `InputError` for what is wrong."""
    if CLAIM in run.config.stash:
        given = {role: printable(path) for role, path in run.request.checkpoints.items()}
        known = {"profile": run.request.profile, "models": given, "data": printable(run.request.data)}
        run.config.stash[CLAIM].known = known
    _limit_hypothesis(run)
    run.checks = checks_of(run.request)
    read_known(run.checks)
    if not run.is_worker and not only_collects(run.config):
        expect_to_leave(run.request)
        if run.judges and run.request.record is None:
            for module in _REPORT_STACK:  # One that is missing is better known before a run than after.
                import_module(module)
        run.start()


def _limit_hypothesis(run: GateRun) -> None:
    """Give Hypothesis the profile's budget; the gate's rows are few, frozen and the same for every example."""
    from hypothesis import HealthCheck, settings

    examples = EXAMPLES[run.request.profile]
    settings.register_profile(
        "stress",
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=False,
        print_blob=False,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    settings.load_profile("stress")


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take a worker's word that it has collected stress tests in a run that is none of their gate."""
    node.config.stash[RUN].misplaced |= MISPLACED in getattr(node, "workeroutput", {})


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell each worker which bytes are judged, and with which process it ends."""
    run = node.config.stash[RUN]
    node.workerinput[_PARENT], node.workerinput[ASKED] = os.getpid(), run.request.plain
    node.workerinput[PICTURED] = run.pictured
    if run.session is not None:
        node.workerinput |= {INPUTS: run.inputs, PREDICTIONS: run.session.foreign_predictions}


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Turn the verdicts into an outcome, write it down, and set the exit status."""
    run = session.config.stash[RUN]
    if run.misplaced or (run.active and run.plans and not run.planned):
        session.exitstatus = NOT_JUDGED
    if not run.judges:
        return
    if run.is_worker:
        look_back(run, selected_checks(session))
        session.config.workeroutput.update(  # type: ignore[attr-defined]
            code=imports.files(), part=as_json(run.reported.part)
        )
        return
    if isinstance(sys.exception(), pytest.UsageError):  # Nothing was run.
        return
    interrupted = run.reported.interrupted
    if run.request.no_overview:
        why = "no_overview" if run.request.stopped is None else "the run stopped"
        run.reported.part += Part(overview_missing=f"The models were not compared ({why}).")
    if not interrupted:
        session.exitstatus = NOT_JUDGED  # Until there is a verdict.
        tell(session.config, checks=checks_itself(run), compares=compares_models(run))
    look_back(run, selected_checks(session))
    run.outcome, run.reports = finished(run)
    if not interrupted:
        session.exitstatus = run.outcome.exit_status


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> Generator[None, Any, Any]:
    """End a run with the exit status that its reports say, whatever other plugins or pytest itself make of it."""
    if hasattr(config, "workerinput"):
        return (yield)
    status = NOT_JUDGED
    if CLAIM in config.stash:
        config.stash[CLAIM].ending = True
    try:
        status = int((yield) or 0)
        if CLAIM in config.stash:
            status = concluded(config.stash[RUN], config.stash[CLAIM], status)
            with suppress(Exception, KeyboardInterrupt, SystemExit):  # No verdict depends on it.
                leave(config.stash[RUN])
    except BaseException as error:
        if CLAIM not in config.stash:
            raise
        status = INTERRUPTED if isinstance(error, KeyboardInterrupt) else NOT_JUDGED
        _unconcluded(config, error)
    finally:
        if CLAIM in config.stash:
            config.stash[CLAIM].release()
        if (asked := handover_to(config)).path is not None:
            asked.answer(status=status, code=imports.files())
    return status


def _unconcluded(config: pytest.Config, error: BaseException) -> None:
    """Refuse a run that an exception ends, and say so on standard error; a `UsageError` is raised again."""
    claimed = config.stash[CLAIM]
    end_copy(claimed.process)
    if isinstance(error, pytest.UsageError):
        refuse(claimed, why := reason_of(error))
        report = f"report: {_relative(claimed.folder) / PAGE}"
        error.args = ("\n".join([why, *_annotations(why), MEANING, report]),)
        raise error
    outcome = run.outcome if (run := config.stash.get(RUN, None)) else None
    refuse(claimed, *(outcome.errors if outcome else ()), why := unended(error))
    with suppress(OSError, ValueError):
        print(why, file=sys.stderr)


def _on_github() -> bool:
    """Return whether this runs on a runner of GitHub's, which takes annotations from what a step prints."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def _annotations(message: str) -> list[str]:
    if not _on_github():
        return []
    from harness.report.text import NOT_JUDGED as KIND
    from harness.report.text import annotation

    return [annotation(KIND, message)]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> Generator[None, None, None]:
    """Print the verdict last; on GitHub's runners also as annotations.

    Below it stand the worst failures. With `-v` all stand above it, too.
    """
    run = config.stash[RUN]
    if run.outcome is not None and config.option.reportchars == "fE":  # Nobody asked.
        terminalreporter.reportchars = terminalreporter.reportchars.replace("f", "")
    brief = run.outcome is not None and config.get_verbosity() <= 0
    with failures_left_out(terminalreporter) if brief else nullcontext():
        yield
    if run.outcome is None:
        return
    from harness.report.text import summary_lines

    colour = {"pass": "green", "partial": "yellow"}.get(run.outcome.verdict, "red")
    terminalreporter.section("model quality gate", **{colour: True})  # type: ignore[arg-type]
    reports = _relative(run.request.reports_folder)
    for line in summary_lines(run.outcome, reports):
        terminalreporter.line(line)
    if run.session and run.session.cluster:
        terminalreporter.line(f"cluster: {run.session.cluster.workers} workers")
    if _on_github():
        from harness.report.text import annotation_lines

        for line in annotation_lines(run.outcome, reports / PAGE):
            terminalreporter.line(line)


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
