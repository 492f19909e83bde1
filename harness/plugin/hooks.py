"""The begin and the end of a gate run; options, fixtures, tests and verdicts are in modules beside this one."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack, nullcontext, suppress
from functools import partial
from html import escape
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.base import imports
from harness.base.codes import Code, coded
from harness.base.errors import InputError, OutputError, code_of, end_copy, lacking, printable
from harness.base.folder_lock import FolderBusyError, held, is_held
from harness.base.parent import end_with_parent
from harness.base.records import as_json
from harness.base.settings import told
from harness.checks import read_checks
from harness.checks.known import read_known
from harness.plugin.collector import Collector, failures_left_out
from harness.plugin.exit_status import Ending, TimeKeeper, refuse, settled, unended, write_page_whole
from harness.plugin.options import ASKED, add_options, expect_own
from harness.plugin.place import handover_to, only_collects, reports_named
from harness.plugin.printing import stand_in
from harness.plugin.progress import tell
from harness.plugin.run import INPUTS, MISPLACED, PREDICTIONS, RUN, GateRun, command_of, selected_checks
from harness.plugin.sinks import expect_to_leave, with_history
from harness.plugin.termination import end_with_reports
from harness.report.agreement import agreed_verdict
from harness.report.files import alone_in, begin, forget, write_refusal
from harness.report.refusal import Refusal
from harness.run.opening import EXAMPLES
from harness.run.settings import option_of_pytest
from harness.run.status import INTERRUPTED, MEANING, NOT_JUDGED, PAGE

if TYPE_CHECKING:
    from collections.abc import Generator

_HANDLED = pytest.StashKey[BaseException | None]()
"""The exception that is being handled where pytest was called, if any."""
_HOLD = pytest.StashKey[ExitStack]()
"""The hold of this run on the folder of its reports."""
_NESTED = pytest.StashKey[bool]()
"""True where a run that goes on in this process, or in one that started it, has the folder of the reports."""
_LATER = pytest.StashKey[bool]()
"""True where the hold ends with `pytest_cmdline_main`."""
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
    expect_own(config)  # Before anything is written, which would be in another project.
    config.stash[_HOLD] = ExitStack()
    config.add_cleanup(partial(_let_go, config))
    if reports := reports_named(config):
        config.stash[_NESTED] = is_held(reports)
        with suppress(FolderBusyError):
            config.stash[_HOLD].enter_context(held(reports))
        forget(reports)  # Before the command line is parsed, which may be wrong.
    config.stash[_HANDLED] = sys.exception()
    config.add_cleanup(partial(_leave_reports, config, os.getpid()))
    add_options(parser, config)


def _leave_reports(config: pytest.Config, process: int) -> None:
    """Write the reports of a run that pytest ends before there is a verdict, whatever the reason.

    Reasons are a wrong command line, a `conftest.py` that cannot be imported, or a refusal of another plugin.
    """
    end_copy(process)
    run, error = config.stash.get(RUN, None), _raised(config)
    if error and (run or reports_named(config)):
        stand_in(probe="\n")  # Pytest prints there why it refuses, and would end with 1 if it could not.
    said_why = coded(Code.PYTEST, "pytest ended the run before it came to a verdict, and said why")
    reason = _reason(error) if error else said_why
    if run is None and isinstance(error, pytest.UsageError) and reports_named(config):
        error.args = (coded(Code.USAGE, str(error)),)  # Which pytest prints.
    if run is None and error and (reports := reports_named(config)):
        write_refusal(Refusal([reason], command_of(config), handover_to(config).content.get("run_id", "")), reports)
        if _ends_otherwise(error):
            raise pytest.UsageError(reason)
    elif run and (run.unfinished or (run.outcome and error and reason not in run.outcome.errors)):
        refuse(run, reason)


def _ends_otherwise(error: BaseException) -> bool:
    """Return whether pytest ends with another status than 4 on this error, as for a plugin that cannot be imported."""
    return isinstance(error, Exception) and not (
        isinstance(error, pytest.UsageError) or type(error).__name__ == "ConftestImportFailure"
    )


def _let_go(config: pytest.Config) -> None:
    """Let other runs into the folder of the reports, unless `pytest_cmdline_main` does so, which ends later."""
    if not config.stash.get(_LATER, False):
        config.stash[_HOLD].close()


def _begin(run: GateRun) -> None:
    """Keep other runs out of the folder of the reports and remove earlier ones."""
    end_with_reports(run, run.config.stash[_HOLD])
    folder, candidate = run.request.reports_folder, run.request.roles.get("candidate", "the shipped model")
    if run.config.stash.get(_NESTED, False) and run.handover.path is None:
        raise OutputError(f"{folder}: the run that started this one writes there; name another with --stress-reports")
    capture = run.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else nullcontext():
        run.config.stash[_HOLD].enter_context(alone_in(folder, wait=not run.request.no_wait))
    begin(folder, run=run.run_id, candidate=str(candidate))
    run.unfinished = run.begun = True
    run.handover.answer(reports=str(folder))


def _raised(config: pytest.Config) -> BaseException | None:
    """Return what ends the run just now; what was being handled where pytest was called from is no doing of it."""
    error = sys.exception()
    return None if error is config.stash.get(_HANDLED, None) else error


def _reason(error: BaseException) -> str:
    """Return in one line why pytest ends a run; of a wrong command line, without its usage."""
    if isinstance(error.__cause__, ImportError):
        return coded(Code.PACKAGE, lacking(error))
    lines = str(error).splitlines() or [repr(error)]
    line = next((line for line in lines if ": error: " in line), lines[0])
    return coded(Code.USAGE if isinstance(error, pytest.UsageError) else Code.PYTEST, printable(line))


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Check all inputs in the controller, where a `UsageError` ends the run with exit status 4."""
    config.addinivalue_line(
        "markers",
        "stress_check(family, *keys, metric="
        "): a stress test, run once per check of this family, and metric, in "
        "the checks file; `keys` are those that its checks have besides those of all checks.",
    )
    try:
        run = GateRun(config)
    except pytest.UsageError:
        _leave_reports(config, os.getpid())
        raise
    config.stash[RUN] = run
    if not run.active:
        return
    if run.is_worker and os.getppid() == (parent := config.workerinput.get(_PARENT)):  # type: ignore[attr-defined]
        end_with_parent(parent)
    # They have no name, so `-p no:name` cannot keep them out.
    config.pluginmanager.register(TimeKeeper(run))
    config.pluginmanager.register(Ending(run))
    try:
        _limit_hypothesis(run)
        if run.judges and not run.is_worker:
            _begin(run)
        run.checks = read_checks(run.request.checks_path)
        read_known(run.checks)
        if not run.is_worker and not only_collects(config):
            expect_to_leave(run.request)
            if run.judges and run.request.record is None:
                _load_report_stack()
            run.start()
    except (InputError, ImportError, MemoryError) as error:
        said_of = told(error, option_of_pytest) if isinstance(error, InputError) else lacking(error)
        reason = coded(code_of(error), said_of)
        if run.judges and not run.is_worker:
            refuse(run, reason)
        raise pytest.UsageError(_annotated(reason)) from None
    if run.paged and config.pluginmanager.hasplugin("html") and not config.option.htmlpath:
        config.option.htmlpath = str(run.request.reports_folder / PAGE)
        config.option.self_contained_html = True


def _load_report_stack() -> None:
    """Import what reports are made with: a package that is missing is better known before a run than after."""
    for module in _REPORT_STACK:
        import_module(module)


def _on_github() -> bool:
    """Return whether this runs on a runner of GitHub's, which takes annotations from what a step prints."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def _annotated(message: str) -> str:
    if not _on_github():
        return message
    from harness.report.text import NOT_JUDGED, annotation

    return f"{message}\n{annotation(NOT_JUDGED, message)}"


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
    if run.session is not None:
        node.workerinput |= {INPUTS: run.inputs, PREDICTIONS: run.session.foreign_predictions}


def pytest_sessionstart(session: pytest.Session) -> None:
    """Collect reports where they all arrive: in the controller."""
    run = session.config.stash[RUN]
    if run.active and not run.is_worker:
        session.config.pluginmanager.register(Collector(run, session))
        write_page_whole(session.config, run.request.reports_folder)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Turn the verdicts into an outcome, write it down, and set the exit status."""
    run = session.config.stash[RUN]
    if run.misplaced or (run.active and run.plans and not run.planned):
        session.exitstatus = NOT_JUDGED
    if not run.judges:
        return
    if run.is_worker:
        _look_back(run, session)
        session.config.workeroutput.update(  # type: ignore[attr-defined]
            code=imports.files(),
            self_checks=[as_json(check) for check in run.reported.self_checks],
            overview=run.reported.overview and run.reported.overview.as_wire(),
            overview_missing=run.reported.overview_missing,
            differences=run.reported.differences and as_json(run.reported.differences),
        )
        return
    if error := _raised(session.config):
        run.reported.errors.append(_reason(error))
    _conclude(run, session)


def _look_back(run: GateRun, session: pytest.Session) -> None:
    """Check the run itself and compare the models, each in the process that is to."""
    if run.checks_itself and not run.reported.interrupted:
        run.check_itself()
    if run.compares_models and not (run.reported.interrupted or run.hung):
        run.compare_models(selected_checks(session))
    if run.compares_with_original and not (run.reported.interrupted or run.hung):
        run.compare_with_original()


def _conclude(run: GateRun, session: pytest.Session) -> None:
    """Make the outcome in the controller."""
    interrupted = run.reported.interrupted
    if run.request.no_overview:
        run.reported.overview_missing = "The models were not compared (no_overview)."
    if not interrupted:
        session.exitstatus = NOT_JUDGED  # Until there is a verdict.
        tell(session.config, checks=run.checks_itself, compares=run.compares_models)
    _look_back(run, session)
    run.outcome = with_history(run.finish(), run.request)
    if not interrupted:
        session.exitstatus = run.outcome.exit_status


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> Generator[None, Any, Any]:
    """End a run with the exit status that its reports say, whatever other plugins or pytest itself make of it."""
    config.stash[_LATER] = True
    with config.stash.get(_HOLD, nullcontext()):
        return (yield from _main(config))


def _main(config: pytest.Config) -> Generator[None, Any, Any]:
    try:
        status = yield
    except pytest.UsageError as error:  # Ends with 4, and reports have been written when it was raised.
        error.args = (f"{error}{_not_evaluated(config)}",)
        raise
    except BaseException as error:
        run = config.stash.get(RUN, None)
        if run is None or run.is_worker or not run.judges:
            raise
        reason = unended(error)
        refuse(run, reason)
        with suppress(OSError, ValueError):
            print(reason, file=sys.stderr)
        stand_in()
        return INTERRUPTED if isinstance(error, KeyboardInterrupt) else NOT_JUDGED
    run = config.stash.get(RUN, None)
    if run is None or run.is_worker or not run.judges:
        return status
    stand_in()
    return settled(run, int(status or 0))


def _not_evaluated(config: pytest.Config) -> str:
    """Return what exit status 4 means and where the report is; empty where this run wrote none."""
    folder = reports_named(config)
    if folder is None or hasattr(config, "workerinput") or agreed_verdict(folder) != "error":
        return ""
    return f"\n{MEANING}\nreport: {_relative(folder) / PAGE}"


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
        terminalreporter.line(run.session.cluster.summary())
    if _on_github():
        from harness.report.text import annotation_lines

        for line in annotation_lines(run.outcome, reports / PAGE):
            terminalreporter.line(line)


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_html_results_table_row(cells: list[str]) -> None:
    """Show the names of tests as text, since pytest-html takes them for markup."""
    start, end = '<td class="col-testId">', "</td>"
    cells[:] = [
        start + escape(printable(cell.removeprefix(start).removesuffix(end))) + end if cell.startswith(start) else cell
        for cell in cells
    ]
