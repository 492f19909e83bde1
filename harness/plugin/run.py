"""The state of one gate run: what it is asked, its inputs, and its start."""

from __future__ import annotations

import os
import time
from contextlib import nullcontext
from dataclasses import replace
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
    NoModelError,
    NotApplicableError,
    NotRecordedError,
    printable,
)
from harness.base.features import features, resolve
from harness.checks.tables import OF_PROJECT, hint_of_project
from harness.plugin.options import request_of_config
from harness.plugin.pictures import PictureBook, PictureMaker
from harness.plugin.place import handed_request, is_gate_run, only_collects, plans
from harness.plugin.refusing import RUN_STATE
from harness.run.budget import REPORT_SECONDS
from harness.run.evidence import Evidence
from harness.run.opening import expect_candidate, open_session, train_missing
from harness.run.reported import Reported
from harness.run.session import UNSEEDED
from harness.run.time_limit import time_limit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from harness.checks import Check, ChecksFile
    from harness.plugin.calls import StressCall
    from harness.run.budget import Costs
    from harness.run.outcome import Outcome
    from harness.run.request import RunRequest
    from harness.run.session import StressSession


PROPERTY = "stress_gate"
"""The name under which a test's verdict travels in its report's properties."""
SECONDS = "stress_cpu_seconds"
"""The name of the seconds of all cores that a test took, there."""
MISPLACED = "stress_misplaced"
"""The name under which a worker says that stress tests have come into a run that is none of their gate."""
INPUTS, PREDICTIONS, PICTURED = "stress_inputs", "stress_predictions", "stress_pictured"
"""The names under which the hashes of what is judged, a few predictions, and `pictured` travel to the workers."""


class NotApplicable(pytest.skip.Exception):  # type: ignore[name-defined,misc]
    """A skip by the harness itself: the gate is not about this model or these data."""

    __module__ = "builtins"  # As of pytest's own: it stands before the reason in pytest's output.
    lacking = False
    """True if it is because panel predictions are missing."""
    without = ""
    """The role without a model, where the test does not apply for want of one."""

    @classmethod
    def because(cls, error: NotApplicableError) -> NotApplicable:
        """Return the skip for this reason."""
        skip = cls(str(error))
        skip.lacking = isinstance(error, NotRecordedError)
        skip.without = error.role if isinstance(error, NoModelError) else ""
        return skip


class GateRun:
    """The state of one run; in the controller it also collects what the tests report."""

    def __init__(self, config: pytest.Config) -> None:
        self._began = time.process_time()
        self.config = config
        self.is_worker = hasattr(config, "workerinput")
        self.active = is_gate_run(config)
        self.checks: ChecksFile | None = None
        self.session: StressSession | None = None
        self.evidence = Evidence()
        self.pictures, self.book = PictureMaker(), PictureBook()
        self.tests: dict[str, pytest.Function] = {}
        self.calls: dict[str, StressCall | None] = {}
        """Calls of tests by their checks, for the self-checks; None for a test that depends on the session."""
        self.dependent_fixtures: set[tuple[str, str]] = set()
        """Name and base of each fixture of the user's that depends on the session."""
        self.reported = Reported()
        self.hung = False
        """True if a model gave no answer in time, or its backend is lost; it is then not asked again."""
        self.outcome: Outcome | None = None
        self.report, self.report_pictures = "", dict[str, bytes]()
        """The text of `stress.json`, and the pictures that it names by their paths in the folder of reports."""
        self.planned, self.plan = False, ""
        """True if a plan, or other work, replaced the run; and the plan as JSON."""
        self.costs: Costs | None = None
        """Cost of an image, measured by the controller of a run with a budget."""
        self.misplaced = False
        """True if workers have stress tests although this is no run of a gate."""

    @cached_property
    def request(self) -> RunRequest:
        """Return what the options ask for; raises `UsageError` for one that is none."""
        try:
            return request_of_config(self.config)
        except InputError as error:
            raise pytest.UsageError(coded(error.code, str(error))) from None

    @property
    def rows(self) -> frozenset[str]:
        """Return what the rows of the checks file measure, by their definitions."""
        return (
            frozenset(check.definition for check in self.checks.checks)
            if self.checks
            else frozenset()
        )

    def prepare(self) -> StressSession:
        """Return images, checks and models, loaded once; raises `InputError` for what cannot be used.

        In a worker also for a file that is not what it was for the controller: all judge the same bytes.
        """
        if not self.active:
            raise ConfigurationError(self.elsewhere)
        if self.session is None:
            workers = None
            if self.is_worker:
                from harness.inference import available_cores

                workers = max(1, available_cores() // self.config.workerinput["workercount"])  # type: ignore[attr-defined]
            try:
                with self.limited("loading the models"):
                    session = open_session(self.request, checks=self.checks, workers=workers)
            except Interruption as error:
                raise InputError(str(error), code=error.code) from None
            if self.is_worker:
                given = self.config.workerinput[INPUTS]  # type: ignore[attr-defined]
                _expect_same(session.inputs, given)
                imports.include(
                    {path: given[path] for path in given.keys() - session.inputs.keys()}
                )
                self.expect_same_code()
                if session.foreign_predictions != self.config.workerinput[PREDICTIONS]:  # type: ignore[attr-defined]
                    raise InputError(
                        f"a model differs between processes of the run: {UNSEEDED}",
                        code=Code.SELF_CHECK,
                    )
            else:
                imports.include({path: imports.digest(path) for path in self._stress_tests()})
            self.session = session
        return self.session

    @property
    def inputs(self) -> dict[str, str]:
        """Return the SHA-256 of all that every process of the run must share: files, data and the user's own code."""
        return self.prepare().inputs | imports.ran()

    def expect_same_code(self) -> None:
        """Raise `InputError` for code of the user's own that is not what it was when the run began."""
        before, root = imports.ran(), f"{self.config.rootpath}{os.sep}"
        now = {path: imports.digest(path) for path in before}
        # Other code may write a module elsewhere, run it and remove it.
        _expect_same(
            {path: each for path, each in now.items() if each or path.startswith(root)}, before
        )

    def _stress_tests(self) -> set[str]:
        """Return the files of stress tests, which workers alone run."""
        given = {
            self.config.invocation_params.dir / name.partition("::")[0] for name in self.config.args
        }
        folders = given - {self.config.rootpath}
        return {
            str(path)
            for place in folders
            for path in (place, *place.rglob("test_*.py"))
            if path.is_file()
        }

    @property
    def elsewhere(self) -> str:
        """Return why the collected stress tests cannot run in this project."""
        hint = hint_of_project(self.config.rootpath / OF_PROJECT)
        advice = f"{printable(hint)}." if hint else "Run pytest from the folder of the project."
        return (
            "stress tests were collected, but this is no run of their gate. The root directory "
            f"{printable(self.config.rootpath)} has no stress_tests with a checks file. {advice} Or name the file "
            "with --checks."
        )

    def start(self) -> None:
        """Check everything in the controller, before the tests, and train shipped models that are missing."""
        self._expect_alone()
        assert self.checks is not None
        if self.request.instead is None:
            expect_candidate(self.request, self.checks)
            if self.request.record is None and self.request.answers is None:
                from harness.calibration.record import expect_rows_of_panel

                self.checks.expect_rows_as_calibrated()
                expect_rows_of_panel(self.checks, self.request.root)
            self.request.expect_incumbent()
            self._train_missing()
        self.prepare()
        if self.fits_a_budget:
            self.costs = self.measured_costs()
        for feature in features() if self.judges else ():
            if feature.begun:
                self._stop_where(resolve(feature.begun))

    def _stop_where(
        self, found: Callable[[StressSession, RunRequest], tuple[str, list[int]] | None]
    ) -> None:
        """Have all processes stop at the check and the images that a feature names, if any."""
        session = self.prepare()
        try:
            stopped = found(session, self.request)
        except Interruption as error:
            raise InputError(str(error), code=error.code) from None
        if stopped is not None:
            self.request = self.request.but(stopped=stopped, no_overview=True)
            self.session = session.stopped_at(*stopped)

    @property
    def start_seconds(self) -> float:
        """Return the time of one core that this process has taken so far."""
        return time.process_time() - self._began

    def measured_costs(self) -> Costs:
        """Return what the run costs, by a few batches of the candidate and the time of its start."""
        from harness.run.plan import measured_costs

        session, besides = self.prepare(), self.start_seconds + REPORT_SECONDS
        return replace(measured_costs(session), besides_seconds=besides)

    def expect_same_checks(self) -> None:
        """Raise `InputError` in a worker whose checks file is not the controller's, before rows become tests."""
        if self.is_worker and self.checks:
            path, given = str(self.checks.path), self.config.workerinput[INPUTS]  # type: ignore[attr-defined]
            _expect_same({path: self.checks.sha256}, {path: given.get(path, "")})

    def limited(self, what: str) -> AbstractContextManager[None]:
        """Limit the time of a block to that of one check."""
        return time_limit(self.request.timeout_seconds, what)

    def _expect_alone(self) -> None:
        """Raise `InputError` for what divides work, or counts it, beside a cluster, and for less than no worker."""
        if (workers := getattr(self.config.option, "numprocesses", None) or 0) < 0:
            raise InputError(f"-n {workers}: expected a number of workers from 0")
        if not self.request.on_ray:
            return
        if getattr(self.config.option, "dist", "no") != "no":
            raise InputError(
                "divides the work itself; leave out -n and --dist", setting="backend ray"
            )
        if self.plans or self.fits_a_budget:
            raise InputError(
                "what a run costs is measured on this machine alone; plan, and choose samples for a budget, without it",
                setting="backend ray",
            )

    def _train_missing(self) -> None:
        capture = self.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled() if capture else nullcontext():
            trained = train_missing(self.request)
        self.request = self.request.but(roles={**self.request.roles, **trained})

    @property
    def plans(self) -> bool:
        """Return whether this is no run, but its plan."""
        return self.active and plans(self.config)

    @property
    def judges(self) -> bool:
        """Return true for a run with a verdict, or with measurements for calibration; false for a plan or a listing."""
        return self.active and not (self.plans or only_collects(self.config))

    @property
    def pictured(self) -> bool:
        """Return whether tests make pictures, and the page has figures: not in a recording, nor with `-p no:html`."""
        if self.is_worker:
            return bool(self.config.workerinput[PICTURED])  # type: ignore[attr-defined]
        blocked = self.config.pluginmanager.is_blocked("html")
        return self.judges and not blocked and handed_request(self.config).get("record") is None

    @property
    def fits_a_budget(self) -> bool:
        """Return whether samples are chosen for a time; a recording has those of its checks file."""
        return (
            self.request.budget_seconds is not None
            and not self.plans
            and self.request.record is None
        )

    @property
    def has_overview(self) -> bool:
        """Return whether the run measures an overview; one by checks made for a sample, to be quick, does not."""
        made_for_sample = self.checks is not None and self.checks.data.sample is not None
        return (
            not self.request.no_overview
            and not made_for_sample
            and self.request.record is None
            and bool(self.tests)
        )


def selected_checks(session: pytest.Session) -> list[Check]:
    """Return the rows of the tests that run."""
    items = [item for item in session.items if item.get_closest_marker("stress_check")]
    return [item.callspec.params["stress_check"] for item in items]  # type: ignore[attr-defined]


def _expect_same(inputs: Mapping[str, str], before: Mapping[str, str]) -> None:
    for name, sha256 in inputs.items():
        if (was := before.get(name, "")) != sha256:
            raise ChangedError(
                f"{name}: changed while the gate ran: its SHA-256 was {was[:12] or 'none'}…, and is "
                f"{sha256[:12] or 'none'}… now; run the gate again when nothing writes to it"
            )


RUN: pytest.StashKey[GateRun] = RUN_STATE
"""The state of the run."""
