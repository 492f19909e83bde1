"""The pytest plugin: its hooks; options, fixtures and what the hooks do live in the modules beside it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import InputError, NotApplicableError, foreign_code
from harness.gates import Gate, read_gates
from harness.gates.keys import declared_keys, with_keys
from harness.plugin.collector import Collector
from harness.plugin.options import add_options, reports_named
from harness.plugin.output import PAGE, begin, confirm, forget, write_files, write_page_whole, write_refusal
from harness.plugin.pictures import PICTURES, take_pictures
from harness.plugin.run import INPUTS, MISPLACED, PROPERTY, RUN, GateRun, NotApplicable
from harness.plugin.shrunk import with_smallest_pose
from harness.plugin.timeout import TimeKeeper, TimeLimitExceededError
from harness.run.outcome import NOT_JUDGED
from harness.run.reported import refusal_of
from harness.run.session import EXAMPLES
from harness.store.records import as_json

if TYPE_CHECKING:
    from collections.abc import Generator

pytest_plugins = ("harness.plugin.fixtures",)

_sessions: list[bool] = []
"""Whether pytest has taken this module for a plugin; stress tests mean nothing where it has not."""


def gate(family: str, *, metric: str = "", **keys: object) -> pytest.MarkDecorator:
    """Mark a stress test: it runs once per row of this family, and metric, in the gates file.

    `keys` are those that its rows have besides those of all rows, each a type or a `harness.gates.Key`. In a run of
    pytest that has switched this plugin off the run ends, with 4.
    """
    if "PYTEST_VERSION" in os.environ and not _sessions:
        pytest.exit(
            "stress tests need the plugin harness.plugin, which is switched off (-p no:harness.plugin) or not "
            "installed; nothing was judged",
            returncode=NOT_JUDGED,
        )
    return pytest.mark.gate(family, metric=metric, **keys)


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the gate's options."""
    _sessions.append(True)
    config = pluginmanager.get_plugin("pytestconfig")
    assert isinstance(config, pytest.Config)
    if reports := reports_named(config):
        forget(reports)  # Before the command line is parsed, which may be wrong.
    add_options(parser, config)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Check all inputs in the controller, where a `UsageError` ends the run with exit status 4."""
    config.addinivalue_line(
        "markers",
        "gate(family, metric=None, **keys): a stress test, run once per row of this family, and metric, in the gates "
        "file; `keys` are those that its rows have besides those of all rows, each with its type.",
    )
    run = GateRun(config)
    config.stash[RUN] = run
    if not run.active:
        return
    _limit_hypothesis(run)
    config.pluginmanager.register(TimeKeeper(run), "stress-time-keeper")
    try:
        if not run.is_worker:
            begin(run.options.reports, marked=not config.option.collectonly)
        run.gates = read_gates(run.options.gates)
        if not run.is_worker and not config.option.collectonly:
            run.start()
    except InputError as error:
        if not run.is_worker:
            write_refusal(refusal_of(run.options, [str(error)], command=run.command), run.options.reports)
        raise pytest.UsageError(_annotated(str(error))) from None
    pages = run.options.record is None and not config.option.collectonly
    if not run.is_worker and pages and config.pluginmanager.hasplugin("html") and not config.option.htmlpath:
        config.option.htmlpath = str(run.options.reports / PAGE)
        config.option.self_contained_html = True


def _on_github() -> bool:
    """Return whether this runs on a runner of GitHub's, which takes annotations from what a step prints."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def _annotated(message: str) -> str:
    if not _on_github():
        return message
    from harness.report.annotations import NOT_JUDGED, annotation

    return f"{message}\n{annotation(NOT_JUDGED, message)}"


def _limit_hypothesis(run: GateRun) -> None:
    """Give Hypothesis the profile's budget; the gate's rows are few, frozen and the same for every example."""
    from hypothesis import HealthCheck, settings

    examples = EXAMPLES[run.options.profile]
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


# Hooks: from rows to tests, from tests to an outcome.


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep one test of each row for the self-checks; leave out tests without a row of a file made for a sample.

    Such a file says all that its profile measures. When recording, leave out the families not asked for, too.
    """
    run = config.stash[RUN]
    if not run.active:
        stress_tests = [item for item in items if "stress_session" in getattr(item, "fixturenames", ())]
        if any(item.get_closest_marker("gate") for item in stress_tests):
            if not run.is_worker:
                raise pytest.UsageError(run.elsewhere)
            config.workeroutput[MISPLACED] = run.elsewhere  # type: ignore[attr-defined]
        return
    families = {item: marker.args[0] for item in items if (marker := item.get_closest_marker("gate"))}
    functions = [item for item in families if isinstance(item, pytest.Function)]
    rows: dict[pytest.Function, Any] = {item: item.callspec.params["gate"] for item in functions}
    run.tests = {row.id: item for item, row in rows.items()}
    left_out: set[pytest.Item] = set()
    if run.gates and run.gates.data.sample is not None:
        left_out |= {item for item, row in rows.items() if row.definition not in run.rows}
    if run.options.record:
        asked = {item for item, row in rows.items() if row.id in run.options.record}
        left_out |= {item for item in items if families.get(item) not in run.options.record and item not in asked}
    if left_out:
        config.hook.pytest_deselected(items=[item for item in items if item in left_out])
        items[:] = [item for item in items if item not in left_out]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Expand a test marked `@gate(family, metric=..., key=type, ...)` into one test per row of these.

    A row whose keys are not those that the test declares is an error of collection.
    """
    marker = metafunc.definition.get_closest_marker("gate")
    if marker is None or "gate" not in metafunc.fixturenames or len(marker.args) != 1:
        return  # Another's marker of this name, perhaps.
    run = metafunc.config.stash[RUN]
    gates = run.gates
    (family,), keys = marker.args, dict(marker.kwargs)
    metric = keys.pop("metric", "")
    test, path = metafunc.definition.name, run.options.gates
    rows = tuple(row for row in (gates.family(family) if gates else ()) if metric in {"", row.metric})
    try:
        run.expect_same_gates()
        declared = declared_keys(keys, test=test)
        rows = tuple(with_keys(row, declared, path=path, test=test) for row in rows)
    except InputError as error:
        raise pytest.Collector.CollectError(str(error)) from None
    if not rows:
        name = f"{family}-{metric.replace('_', '-')}" if metric else family
        rows = (Gate(id=name, family=family, metric=metric, keys=dict.fromkeys(declared)),)
    metafunc.parametrize("gate", rows, ids=[row.id for row in rows], indirect=True)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Start each test with no evidence."""
    item.config.stash[RUN].evidence.clear()


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Leave out a stress test that does not apply to this model or data, or that needs a row and has none."""
    run = pyfuncitem.config.stash[RUN]
    row = getattr(pyfuncitem, "callspec", None) and pyfuncitem.callspec.params.get("gate")
    if not (run.active and run.gates and isinstance(row, Gate)):
        return (yield)
    try:
        return (yield)
    except NotApplicableError as error:
        raise NotApplicable(str(error)) from None
    except (TypeError, AttributeError, KeyError, ValueError) as error:
        if row.definition in run.rows:
            raise
        why = f"{run.gates.path} has no row for it, and it cannot run without one ({error!r})"
        raise NotApplicable(why) from None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach the test's verdict and pictures to its report; one that is skipped, or may fail (xfail), has none."""
    report = yield
    run = item.config.stash[RUN]
    if not run.active or item.get_closest_marker("gate") is None or (report.when != "call" and report.passed):
        return report
    skip = call.excinfo.value if call.excinfo else None
    if report.skipped and not isinstance(skip, NotApplicable):
        return report
    row: Gate = item.callspec.params["gate"]  # type: ignore[attr-defined]
    verdict = run.evidence.verdict
    if isinstance(skip, NotApplicable):
        verdict = row.unjudged("not_applicable", skip.msg)
    elif run.hung:
        verdict = row.unjudged("error", str(call.excinfo.value) if call.excinfo else "the model hangs")
    elif report.failed and (verdict is None or verdict.passed or not _asserted(call)):
        what = call.excinfo.exconly() if call.excinfo else str(report.longrepr)
        verdict = row.unjudged("error", what.splitlines()[0])
    elif verdict is None:
        verdict = row.unjudged("error", "the test judged nothing; end it with `gate.judge` and `evidence.show`")
    # What a test or a model raises when it is asked once more adds nothing to what was measured.
    with suppress(Exception, TimeLimitExceededError), run.limited(row.id), foreign_code():
        verdict = with_smallest_pose(item, verdict, run.evidence)
    if report.failed and verdict.status == "fail":
        # The measurement is what a reader needs; how the test came by it is the same for each row.
        report.longrepr = verdict.explain()
    report.user_properties.append((PROPERTY, verdict.as_wire()))
    # JUnit takes its properties from the reports after this one, which copy the item's.
    item.user_properties += [(name, getattr(verdict, name)) for name in ("status", "metric", "value", "limit", "n")]
    if item.config.pluginmanager.hasplugin("html") and run.options.record is None and not run.hung:
        with suppress(Exception, TimeLimitExceededError), run.limited(row.id), foreign_code():
            report.user_properties.append((PICTURES, take_pictures(run.evidence, run.prepare())))
    return report


def _asserted(call: pytest.CallInfo[None]) -> bool:
    """Return whether a test failed by what it asserts; Hypothesis groups several failures of one test."""
    error = call.excinfo.value if call.excinfo else None
    return isinstance(error, (AssertionError, pytest.fail.Exception, BaseExceptionGroup))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take a worker's word that it has collected stress tests in a run that is none of their gate."""
    node.config.stash[RUN].misplaced |= MISPLACED in getattr(node, "workeroutput", {})


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell each worker which bytes are judged."""
    run = node.config.stash[RUN]
    if run.session is not None:
        node.workerinput[INPUTS] = run.session.inputs


def pytest_sessionstart(session: pytest.Session) -> None:
    """Collect reports where they all arrive: in the controller."""
    run = session.config.stash[RUN]
    if run.active and not run.is_worker:
        session.config.pluginmanager.register(Collector(run), "stress-collector")
        write_page_whole(session.config, run.options.reports)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Turn the verdicts into an outcome, write it down, and set the exit status."""
    run = session.config.stash[RUN]
    if run.misplaced:
        session.exitstatus = NOT_JUDGED
    if not run.active or session.config.option.collectonly:
        return
    reported = run.reported
    if not (run.is_worker or reported or exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED):
        return  # Other tests alone.
    if not (run.is_worker or reported.interrupted):
        session.exitstatus = NOT_JUDGED  # Unless what follows comes to a verdict.
    if run.checks_itself and not reported.interrupted:
        run.check_itself()
    if run.compares_models and not (reported.interrupted or run.hung):
        run.compare_models([item.callspec.params["gate"] for item in session.items if item.get_closest_marker("gate")])  # type: ignore[attr-defined]
    if run.is_worker:
        session.config.workeroutput.update(  # type: ignore[attr-defined]
            self_checks=[as_json(check) for check in reported.self_checks],
            overview=reported.overview and reported.overview.as_wire(),
            overview_missing=reported.overview_missing,
        )
        return
    run.outcome = run.finish()
    write_files(run.outcome, run.options.reports)
    if not reported.interrupted:
        session.exitstatus = run.outcome.exit_status
    confirm(session.exitstatus)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """End the run with the verdict, and one line per failure; on GitHub's runners also as annotations."""
    run = config.stash[RUN]
    if run.outcome is None:
        return
    from harness.report.text import summary_lines

    colour = {"pass": "green", "partial": "yellow"}.get(run.outcome.verdict, "red")
    terminalreporter.section("model quality gate", **{colour: True})  # type: ignore[arg-type]
    reports = _relative(run.options.reports)
    for line in summary_lines(run.outcome, reports):
        terminalreporter.line(line)
    if _on_github():
        from harness.report.annotations import annotation_lines

        for line in annotation_lines(run.outcome, reports / PAGE):
            terminalreporter.line(line)


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


@pytest.hookimpl(optionalhook=True)
def pytest_html_report_title(report: Any) -> None:
    """Name the report after what it is."""
    report.title = "Model quality gate"


@pytest.hookimpl(optionalhook=True)
def pytest_html_results_summary(prefix: list[str], session: pytest.Session) -> None:
    """Put the scorecard on top of the report."""
    run = session.config.stash[RUN]
    if run.outcome is not None:
        from harness.report.html import scorecard

        prefix.append(scorecard(run.outcome))
