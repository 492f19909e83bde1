"""The hooks of the harness: what a feature can add, and when each hook is called.

A feature is a module. A function of it that is named after a hook implements that hook; it needs no
mark, and may leave out arguments that it does not use. The features that ship and those of
installed packages use the same hooks. A package names its module in the entry-point group
`stress_harness`:

    [project.entry-points.stress_harness]
    contrast = "stress_contrast"

The module is imported in every process of the harness, also where only help is printed. So it
imports NumPy, PyTorch and the harness's own modules, except `harness.base`, inside its functions.
Its stress tests lie in the folder `stress_tests` beside it.
"""


# mypy: disable-error-code="empty-body"

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

from harness.base.features import GROUP

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.base.features import Command, Family
    from harness.base.groups import Settings
    from harness.checks import Check
    from harness.checks.roles import Role
    from harness.data.skews import Skew
    from harness.data.sources import Source
    from harness.inference.backends import Backend
    from harness.inference.predictors.kinds import PredictorKind
    from harness.measures import Metric
    from harness.networks.formats import NetworkFormat
    from harness.perturb.corruptions import CorruptionFunction
    from harness.report.page import Section
    from harness.run.feature_records import FeatureRecord
    from harness.run.mutants import Finding, Judge
    from harness.run.outcome import Outcome
    from harness.run.request import RunRequest
    from harness.run.session import StressSession

hookspec = pluggy.HookspecMarker(GROUP)


# Names in files and command lines; called once in a process, when a name is looked up.


@hookspec
def stress_families() -> Sequence[Family]:
    """Return families of checks.

    A row of the checks file names a family, and the stress tests of the family have its mark,
    `@check("NAME")`.

    Returns:
        The families. One whose `before` names another one stands before it.
    """


@hookspec
def stress_metrics() -> Sequence[Metric]:
    """Return metrics, which rows of the checks file name.

    Returns:
        The metrics, which stand beside the functions that measure.
    """


@hookspec
def stress_corruptions() -> Mapping[str, CorruptionFunction]:
    """Return corruptions, which rows of the checks file name.

    Returns:
        The function and the levels of each corruption, by its name.
    """


@hookspec
def stress_commands() -> Mapping[str, Command]:
    """Return commands of `stress-harness`.

    Returns:
        For each name, the module with the command and a line of help. The module is imported when
        the command runs.
    """


@hookspec
def stress_tables() -> Mapping[str, Callable[[], type]]:
    """Return tables of the checks file that are a feature's own and change no check.

    It is called wherever a checks file is read. `session.checks.tables` has what a file says.

    Returns:
        For each name of a table, a function that returns the type of its record, see
        `harness.base.records.record`. A key that the record does not have is refused. The function
        is called for a file with the table, so the module of the type is imported inside it.
    """


@hookspec
def stress_settings() -> Mapping[type[Settings], str]:
    """Return settings of a run, which stand in the table `[gate]` or follow `--stress-set`.

    It is called when the settings of the harness are defined, before any option is read.

    Returns:
        For each model, whose fields are the settings, the title of the group that lists show it in.
    """


@hookspec
def stress_sources() -> Mapping[str, Source]:
    """Return sources of labeled images.

    Returns:
        The sources by the first word of a specification, such as `folder` of `folder:photos/test`.
    """


@hookspec
def stress_predictors() -> Mapping[str, PredictorKind]:
    """Return kinds of predictors, which can be candidates.

    Returns:
        The kinds by the scheme of a specification, such as `python` of
        `python:package.module:callable`.
    """


@hookspec
def stress_network_formats() -> Mapping[str, NetworkFormat]:
    """Return formats of files that contain a whole network.

    Returns:
        The formats by the suffix of a file, in lower case, such as `.onnx`.
    """


@hookspec
def stress_backends() -> Mapping[str, Backend]:
    """Return backends that run models elsewhere than in this process.

    Returns:
        The backends by the value of the setting `backend`, such as `ray`.
    """


@hookspec
def stress_roles() -> Mapping[str, Role]:
    """Return roles of models besides the candidate, such as the incumbent.

    Returns:
        The roles by name; each has an option and a fixture of this name.
    """


@hookspec
def stress_skews() -> Sequence[Skew]:
    """Return skews: changes of one stage of a serving pipeline.

    Returns:
        The skews, whose names rows of the family `skew` have.
    """


# A run, in the order in which it calls them.


@hookspec
def stress_rows(request: RunRequest) -> Sequence[Check]:
    """Return checks of a run besides those of the checks file, before images are loaded.

    Args:
        request: The settings of the run.

    Returns:
        The checks; none where the request does not ask for them.
    """


@hookspec
def stress_session_opened(session: StressSession, request: RunRequest) -> StressSession | None:
    """Return the session of a run in place of this one, before the tests.

    It is called in each process that runs tests, once images, checks and models are loaded. A later
    feature gets the session of an earlier one.

    Args:
        session: The images, checks and models of the run.
        request: The settings of the run.

    Returns:
        The session with other checks, such as informational ones; None to leave it unchanged.

    Raises:
        InputError: The feature cannot be used with these inputs. The run is then inconclusive.
    """


@hookspec
def stress_certain_failure(
    session: StressSession, request: RunRequest
) -> tuple[str, list[int]] | None:
    """Look for a check that is certain to fail, before the tests; a run stops at the first one.

    It is called in the process that runs the tests or, with several workers, in the one that starts
    them.

    Args:
        session: The images, checks and models of the run.
        request: The settings of the run.

    Returns:
        The id of the check, and the positions of the images that prove its failure; None to run all
        tests.
    """


@hookspec
def stress_self_checks(
    session: StressSession, judge: Judge
) -> Mapping[str, Callable[[], Finding] | None]:
    """Return self-checks, which find out after the tests whether checks of a feature can fail.

    It is called once in a run.

    Args:
        session: The images, checks and models of the run.
        judge: A function that runs the test of a check with other models, and returns its verdict.

    Returns:
        By the name of each self-check, the function that runs it; None for one that does not apply
        to the run.
    """


@hookspec
def stress_record_types() -> Mapping[str, Callable[[], type[FeatureRecord]]]:
    """Return the types of the records that a feature leaves of a run.

    It is called wherever a `stress.json` is written or read.

    Returns:
        For each key of the feature's own in `stress.json`, a function that returns the type of the
        record below it. The function is called when a record is read or described, so the module of
        the type is imported inside it.
    """


@hookspec
def stress_run_records(
    session: StressSession, request: RunRequest, families: frozenset[str]
) -> Mapping[str, FeatureRecord] | None:
    """Measure what a feature records of a run, after the tests.

    It is called once in a run that has not stopped. An error here costs no verdict: the record is
    left out.

    Args:
        session: The images, checks and models of the run.
        request: The settings of the run.
        families: The families of the checks that ran.

    Returns:
        The records by their keys in `stress.json`; none if no family of the feature is among those
        that ran.
    """


# The reports, which are functions of the outcome of a run.


@hookspec
def stress_sections(outcome: Outcome) -> Sequence[Section | None]:
    """Return sections of the HTML report.

    It is called when reports are drawn, also by `stress-harness report` from an old `stress.json`.

    Args:
        outcome: What the run recorded.

    Returns:
        The sections. One whose `before` names a function in `SECTIONS` of `harness.report.html`
        stands before that section, any other at the end. None stands for a section that has nothing
        to show.
    """


@hookspec
def stress_notes(outcome: Outcome) -> Sequence[str]:
    """Return notes on a run, which all reports show at the top.

    Args:
        outcome: What the run recorded.

    Returns:
        The notes, a sentence or two each.
    """


@hookspec
def stress_summary_lines(outcome: Outcome) -> Sequence[str]:
    """Return lines of the Markdown summary, below the table of failing families.

    Args:
        outcome: What the run recorded.

    Returns:
        The lines, as plain text.
    """
