"""The state of one gate run in this process: its inputs, its tests, and what they report."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import pytest

from harness.base import imports
from harness.base.codes import Code, coded
from harness.base.errors import (
    ChangedError,
    ConfigurationError,
    InputError,
    Interruption,
    printable,
)
from harness.checks.tables import OF_PROJECT, hint_of_project
from harness.plugin.calls import StressCall, check_or_none
from harness.plugin.invocation import handed_request, is_gate_run, only_collects, plans
from harness.plugin.options import request_of_config
from harness.plugin.pictures import PictureBook, PictureMaker
from harness.plugin.refusals import RUN_STATE
from harness.run.budget import REPORT_SECONDS
from harness.run.evidence import Evidence
from harness.run.opening import open_session
from harness.run.session import UNSEEDED
from harness.run.tally import Tally
from harness.run.time_limit import time_limit

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from harness.checks import Check, ChecksFile
    from harness.run.budget import Costs
    from harness.run.outcome import Outcome
    from harness.run.request import RunRequest
    from harness.run.session import StressSession


INPUTS = "stress_inputs"
"""The name under which the hashes of what is judged travel to the workers."""
PREDICTIONS = "stress_predictions"
"""The name under which a few predictions of each model travel to the workers."""
PICTURED = "stress_pictured"
"""The name under which `GateRun.pictured` travels to the workers."""


@dataclass
class CollectedTests:
    """The tests of a run by the ids of their checks, and what replays of them need.

    `calls` are of the tests that ran here; None for a test that depends on the session.
    `dependent_fixtures` has name and base of each of the user's fixtures that depends on it.
    """

    tests: dict[str, pytest.Function] = field(default_factory=dict)
    calls: dict[str, StressCall | None] = field(default_factory=dict)
    dependent_fixtures: set[tuple[str, str]] = field(default_factory=set)


@dataclass
class TestPictures:
    """The pictures of tests: `maker` makes them where a test runs, `book` has all of them."""

    __test__ = False  # pytest collects no test here.
    maker: PictureMaker = field(default_factory=PictureMaker)
    book: PictureBook = field(default_factory=PictureBook)


@dataclass
class RunOutput:
    """The results of a run, for its reports: an outcome, or a plan.

    `report` is the text of `stress.json`, and `pictures` are the files that it names, by their
    paths in the folder of reports. `plan` is the plan as JSON. `replaces_run` is true once a plan,
    or other work, has taken the place of the tests.
    """

    outcome: Outcome | None = None
    report: str = ""
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    plan: str = ""
    replaces_run: bool = False


class GateRun:
    """The state of one run; in the controller it also collects what the tests report."""

    def __init__(self, config: pytest.Config) -> None:
        self._began = time.process_time()
        self.config = config
        self.active = is_gate_run(config)  # Now, because the collection changes `config.args`.
        self.checks: ChecksFile | None = None
        self.session: StressSession | None = None
        self.costs: Costs | None = None
        """Cost of an image, measured by the controller of a run with a budget."""
        self.collected = CollectedTests()
        self.evidence = Evidence()
        self.pictures = TestPictures()
        self.tally = Tally()
        self.hung = False
        """True if a model gave no answer in time, or its backend is lost; none is asked again."""
        self.output = RunOutput()

    @cached_property
    def request(self) -> RunRequest:
        """Return what the options ask for; raises `UsageError` for an invalid one."""
        try:
            return request_of_config(self.config)
        except InputError as error:
            raise pytest.UsageError(coded(error.code, str(error))) from None

    @property
    def is_worker(self) -> bool:
        """Return whether this process is a worker of pytest-xdist."""
        return hasattr(self.config, "workerinput")

    @property
    def plans(self) -> bool:
        """Return whether this is no run, but its plan."""
        return self.active and plans(self.config)

    @property
    def judges(self) -> bool:
        """Return whether this is a run with a verdict or with measurements, no plan or listing."""
        return self.active and not (self.plans or only_collects(self.config))

    @property
    def pictured(self) -> bool:
        """Return whether tests make pictures, and the page has figures.

        Neither is so in a recording, nor with `-p no:html`.
        """
        if self.is_worker:
            return bool(self.config.workerinput[PICTURED])  # type: ignore[attr-defined]
        if self.config.pluginmanager.is_blocked("html"):
            return False
        return self.judges and handed_request(self.config).get("record") is None

    @property
    def fits_a_budget(self) -> bool:
        """Return whether samples are chosen for a time; a recording has its own."""
        if self.plans or self.request.record is not None:
            return False
        return self.request.budget_seconds is not None

    @property
    def has_overview(self) -> bool:
        """Return whether the run measures an overview.

        A run by checks that are made for a sample does not, since it must be quick.
        """
        if self.request.no_overview or self.request.record is not None:
            return False
        made_for_sample = self.checks is not None and self.checks.data.sample is not None
        return bool(self.collected.tests) and not made_for_sample

    @property
    def definitions(self) -> frozenset[str]:
        """Return what the rows of the checks file measure."""
        if self.checks is None:
            return frozenset()
        return frozenset(check.definition for check in self.checks.checks)

    @property
    def misplaced(self) -> str:
        """Return why the collected stress tests cannot run in this project."""
        hint = hint_of_project(self.config.rootpath / OF_PROJECT)
        advice = f"{printable(hint)}." if hint else "Run pytest from the folder of the project."
        return (
            "stress tests were collected, but this is no run of their gate. The root directory "
            f"{printable(self.config.rootpath)} has no stress_tests with a checks file. {advice} "
            "Or name the file with --checks."
        )

    def prepare(self) -> StressSession:
        """Return images, checks and models, loaded once; `InputError` for what cannot be used.

        In a worker also for a file that is not what it was for the controller: all judge the same
        bytes.
        """
        if not self.active:
            raise ConfigurationError(self.misplaced)
        if self.session is None:
            session = self._open_session()
            if self.is_worker:
                self._expect_same_session(session)
            else:
                imports.include({path: imports.digest(path) for path in self._stress_tests()})
            self.session = session
        return self.session

    def _open_session(self) -> StressSession:
        workers = None
        if self.is_worker:
            from harness.inference import available_cores

            processes = self.config.workerinput["workercount"]  # type: ignore[attr-defined]
            workers = max(1, available_cores() // processes)
        try:
            with self.limited("loading the models"):
                return open_session(self.request, checks=self.checks, workers=workers)
        except Interruption as error:
            raise InputError(str(error), code=error.code) from None

    @property
    def inputs(self) -> dict[str, str]:
        """Return the SHA-256 of all that processes of a run share: files, data, the user's code."""
        return self.prepare().inputs | imports.ran()

    def expect_same_checks(self) -> None:
        """Raise `InputError` in a worker whose checks file is not the controller's."""
        if self.is_worker and self.checks is not None:
            path = str(self.checks.path)
            inputs = self.config.workerinput[INPUTS]  # type: ignore[attr-defined]
            _expect_same({path: self.checks.sha256}, {path: inputs.get(path, "")})

    def _expect_same_session(self, session: StressSession) -> None:
        """Raise `InputError` in a worker whose inputs or models are not the controller's."""
        inputs = self.config.workerinput[INPUTS]  # type: ignore[attr-defined]
        _expect_same(session.inputs, inputs)

        of_code = inputs.keys() - session.inputs.keys()
        imports.include({path: inputs[path] for path in of_code})
        self.expect_same_code()

        predictions = self.config.workerinput[PREDICTIONS]  # type: ignore[attr-defined]
        if session.foreign_predictions != predictions:
            raise InputError(
                f"a model differs between processes of the run: {UNSEEDED}", code=Code.SELF_CHECK
            )

    def expect_same_code(self) -> None:
        """Raise `InputError` for code of the user's that has changed since the run began."""
        before = imports.ran()
        now = {path: imports.digest(path) for path in before}
        # Other code may write a module elsewhere, run it and remove it.
        root = f"{self.config.rootpath}{os.sep}"
        here = {path: sha256 for path, sha256 in now.items() if sha256 or path.startswith(root)}
        _expect_same(here, before)

    def _stress_tests(self) -> set[str]:
        """Return the files of stress tests, which workers alone run."""
        folder = self.config.invocation_params.dir
        places = {folder / name.partition("::")[0] for name in self.config.args}
        places.discard(self.config.rootpath)
        paths = set[str]()
        for place in places:
            paths.update(str(path) for path in (place, *place.rglob("test_*.py")) if path.is_file())
        return paths

    @property
    def start_seconds(self) -> float:
        """Return the time of one core that this process has taken so far."""
        return time.process_time() - self._began

    def measured_costs(self) -> Costs:
        """Return what the run costs, by a few batches of the candidate and the time so far."""
        from harness.run.plan import measured_costs

        session = self.prepare()
        besides_s = self.start_seconds + REPORT_SECONDS
        return replace(measured_costs(session), besides_seconds=besides_s)

    def limited(self, name: str) -> AbstractContextManager[None]:
        """Limit the time of a block to that of one check."""
        return time_limit(self.request.timeout_seconds, name)


def selected_checks(session: pytest.Session) -> list[Check]:
    """Return the rows of the tests that run."""
    checks = map(check_or_none, session.items)
    return [check for check in checks if check is not None]


def _expect_same(now: Mapping[str, str], before: Mapping[str, str]) -> None:
    """Raise `InputError` for the first file whose SHA-256 is another than before."""
    for name, sha256 in now.items():
        earlier = before.get(name, "")
        if earlier != sha256:
            raise ChangedError(
                f"{name}: changed while the gate ran: its SHA-256 was {earlier[:12] or 'none'}…, "
                f"and is {sha256[:12] or 'none'}… now; run the gate again when nothing writes to it"
            )


RUN: pytest.StashKey[GateRun] = RUN_STATE
"""The state of the run."""
