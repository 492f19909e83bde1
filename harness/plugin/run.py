"""The state of one gate run, and its outcome."""

from __future__ import annotations

import itertools
import os
import time
from contextlib import nullcontext, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from harness.base import imports
from harness.base.codes import Code
from harness.base.errors import (
    ChangedError,
    ConfigurationError,
    InputError,
    Interruption,
    NoModelError,
    NotApplicableError,
    NotRecordedError,
    foreign_code,
    lacking,
    printable,
    reason,
    without_secrets,
)
from harness.checks import Check, ChecksFile, Verdict, read_checks
from harness.checks.equivalence import EQUIVALENCE
from harness.plugin import replay
from harness.plugin.options import request_of_config
from harness.plugin.pictures import PictureMaker
from harness.plugin.place import handover_to, is_gate_run, only_collects
from harness.plugin.progress import bar
from harness.plugin.questions import Questions
from harness.run.budget import REPORT_SECONDS
from harness.run.evidence import Evidence
from harness.run.inputs import inputs_of_run
from harness.run.opening import expect_candidate, open_session, train_missing
from harness.run.outcome import Outcome, SelfCheck
from harness.run.overview import overview_of
from harness.run.reported import Reported, outcome_of
from harness.run.request import RunRequest, command_line, new_run_id
from harness.run.session import UNSEEDED
from harness.run.time_limit import time_limit
from harness.run.unchanged import expect_unchanged, state_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from harness.measures.metric import Curve
    from harness.run.budget import Costs
    from harness.run.input_faults import InputFaults
    from harness.run.session import StressSession


PROPERTY = "stress_gate"
"""The name under which a test's verdict travels in its report's properties."""
MISPLACED = "stress_misplaced"
"""The name under which a worker says that stress tests have come into a run that is none of their gate."""
INPUTS, PREDICTIONS = "stress_inputs", "stress_predictions"
"""The names under which the hashes of what is judged, and a few predictions, travel to the workers."""


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
        self.handover = handover_to(config)
        self.request = request_of_config(config)
        self.run_id = self.request.run_id or new_run_id()
        """The id of this run, which its parent process knows, too, if that waits for it."""
        self.checks: ChecksFile | None = None
        self.session: StressSession | None = None
        self.evidence = Evidence()
        self.files: dict[Path, str] = {}
        """The state of each file that the settings name, before the controller loads any."""
        self.pictures = PictureMaker()
        self.questions = Questions()
        self.tests: dict[str, pytest.Function] = {}
        self.reported = Reported()
        self.hung = False
        """True if a model gave no answer in time, or its backend is lost; it is then not asked again."""
        self.outcome: Outcome | None = None
        self.unfinished = False
        """True in a run that has begun and has written no reports yet."""
        self.begun = False
        """True once the folder of reports is this run's, which has removed all reports there."""
        self.settled_status: int | None = None
        """The exit status of the run, once its reports say the same."""
        self.planned = False
        """True if a plan replaced the run."""
        self.costs: Costs | None = None
        """Cost of an image, measured by the controller of a run with a budget."""
        self.misplaced = False
        """True if workers have stress tests although this is no run of a gate."""

    @property
    def rows(self) -> frozenset[str]:
        """Return what the rows of the checks file measure, by their definitions."""
        return frozenset(check.definition for check in self.checks.checks) if self.checks else frozenset()

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
                imports.include({path: given[path] for path in given.keys() - session.inputs.keys()})
                self._expect_same_code()
                if session.foreign_predictions != self.config.workerinput[PREDICTIONS]:  # type: ignore[attr-defined]
                    raise InputError(f"a model differs between processes of the run: {UNSEEDED}", code=Code.SELF_CHECK)
            else:
                imports.include({path: imports.digest(path) for path in self._stress_tests()})
            self.session = session
        return self.session

    @property
    def inputs(self) -> dict[str, str]:
        """Return the SHA-256 of all that every process of the run must share: files, data and the user's own code."""
        return self.prepare().inputs | imports.ran()

    def expect_same_inputs(self) -> None:
        """Raise `InputError` for a file, or code of the user's own, that is not what it was when the run began."""
        expect_unchanged(self.files)
        self._expect_same_code()

    def _expect_same_code(self) -> None:
        before, root = imports.ran(), f"{self.config.rootpath}{os.sep}"
        now = {path: imports.digest(path) for path in before}
        # Other code may write a module elsewhere, run it and remove it.
        _expect_same({path: each for path, each in now.items() if each or path.startswith(root)}, before)

    def _stress_tests(self) -> set[str]:
        """Return the files of stress tests, which workers alone run."""
        given = {self.config.invocation_params.dir / name.partition("::")[0] for name in self.config.args}
        folders = given - {self.config.rootpath}
        return {str(path) for place in folders for path in (place, *place.rglob("test_*.py")) if path.is_file()}

    @property
    def elsewhere(self) -> str:
        """Return why the collected stress tests cannot run in this project."""
        return (
            f"stress tests were collected, but this is no run of their gate: the root directory "
            f"{printable(self.config.rootpath)} has no stress_tests with a checks file. Run pytest from the folder of "
            "the project, or name the file with --checks."
        )

    def start(self) -> None:
        """Check everything in the controller, before the tests, and train shipped models that are missing."""
        self._expect_alone()
        assert self.checks is not None
        if self.request.export is None:
            expect_candidate(self.request, self.checks)
            self._expect_thresholds()
            self.request.expect_incumbent()
            self._train_missing()
        self.files = state_of(inputs_of_run(self.request))
        self.prepare()
        if self.fits_a_budget:
            self.costs = self.measured_costs()

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
            raise InputError("divides the work itself; leave out -n and --dist", setting="backend ray")
        if self.plans or self.fits_a_budget:
            raise InputError(
                "what a run costs is measured on this machine alone; plan, and choose samples for a budget, without it",
                setting="backend ray",
            )

    def _expect_thresholds(self) -> None:
        """Raise `InputError` for panel thresholds that are not the panel's; a calibration makes them anew."""
        from harness.calibration.record import expect_thresholds_of_record

        if self.request.record is None and self.request.answers is None and self.checks is not None:
            self.checks.expect_rows_as_calibrated()
            expect_thresholds_of_record(self.checks, self.request.root)

    def _train_missing(self) -> None:
        capture = self.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled() if capture else nullcontext():
            trained = train_missing(self.request)
        self.request = self.request.but(roles={**self.request.roles, **trained})

    @property
    def command(self) -> list[str]:
        """Return how this run was started."""
        return command_of(self.config)

    @property
    def checks_itself(self) -> bool:
        """Return whether this process runs the self-checks: the only one, or the first worker."""
        first = not self.is_worker or self.config.workerinput["workerid"] == "gw0"  # type: ignore[attr-defined]
        return first and not self.hung and self.request.record is None and bool(self.tests)

    @property
    def plans(self) -> bool:
        """Return whether this is no run, but its plan."""
        return self.active and self.request.plan

    @property
    def judges(self) -> bool:
        """Return true for a run with a verdict, or with measurements for calibration; false for a plan or a listing."""
        return self.active and not (self.plans or only_collects(self.config))

    @property
    def paged(self) -> bool:
        """Return whether this process writes a page: the controller of a run that judges."""
        return self.judges and not self.is_worker and self.request.record is None

    @property
    def fits_a_budget(self) -> bool:
        """Return whether samples are chosen for a time; a recording has those of its checks file."""
        return self.request.budget_seconds is not None and not self.plans and self.request.record is None

    @property
    def awaits_workers(self) -> bool:
        """Return whether workers check the run, and compare its models, at its end."""
        return not self.is_worker and not self.tests and self.request.record is None

    def check_itself(self) -> None:
        """Run the self-checks with the collected stress tests."""
        from harness.run.remembered import memory_of
        from harness.run.selfcheck import self_checks

        try:
            with self.limited("self-checks"), foreign_code(), bar("self-checks") as show:
                session = self.prepare()
                memory = memory_of(session, self.tests)
                steps = itertools.count()
                self.reported.self_checks = self_checks(
                    session, self.judge, memory=memory, on_check=lambda name, total: show(next(steps), total, name)
                )
        # A model that fails here, or a test that cannot be run by hand.
        except (Exception, Interruption) as error:
            self.reported.self_checks = (SelfCheck("self-checks", "fail", f"they could not run: {lacking(error)}"),)

    @property
    def has_overview(self) -> bool:
        """Return whether the run measures an overview; one by checks made for a sample, to be quick, does not."""
        made_for_sample = self.checks is not None and self.checks.data.sample is not None
        return not self.request.no_overview and not made_for_sample and self.request.record is None and bool(self.tests)

    @property
    def compares_models(self) -> bool:
        """Return whether this process measures the overview."""
        return self.has_overview and self._looks_at_models

    @property
    def _looks_at_models(self) -> bool:
        """Return whether this process is that which compares models: the only one, or the second worker, if any."""
        if not self.is_worker:
            return True
        given = self.config.workerinput  # type: ignore[attr-defined]
        return bool(given["workerid"] == f"gw{min(1, given['workercount'] - 1)}")

    @property
    def compares_with_original(self) -> bool:
        """Return whether this process says what differs from the original."""
        named = self.checks is not None and self.checks.family(EQUIVALENCE) and "original" in self.request.checkpoints
        return bool(named) and self._looks_at_models and self.request.record is None and bool(self.tests)

    def compare_with_original(self) -> None:
        """Say what differs from the original; where that fails, the checks say all."""
        from harness.report.equality import differences_of
        from harness.run.equality import equality_in

        with suppress(Exception, Interruption), self.limited("the original"), foreign_code():
            self.reported.differences = differences_of(equality_in(self.prepare(), self.request.history_path))

    def compare_models(self, selected: Sequence[Check]) -> None:
        """Measure the overview; `selected` are the checks of this run, in whichever process."""
        from harness.inference.predictors import UnknownPixelsError

        try:
            with self.limited("the overview"), foreign_code(), bar("comparing the models") as show:
                self.reported.overview = overview_of(
                    self.prepare(),
                    searched=any(check.keys.get("path") for check in selected),
                    on_measured=lambda done, total: show(done, total, ""),
                )
        except UnknownPixelsError:
            self.reported.overview_missing = (
                "The models were not compared: the recorded predictions have none for the images of this comparison. "
                "`stress-harness export-inputs --overview` exports these, too."
            )
        # A model that fails here; what the checks say of it stands.
        except (Exception, Interruption) as error:
            self.reported.overview_missing = f"The models could not be compared: {error}"

    def judge(self, session: StressSession, check: Check) -> Verdict | None:
        """Run the stress test of a check as a plain function, in another session; None where none ran here."""
        test = self.tests.get(check.id)
        return None if test is None else replay.judge(test, session)

    def finish(self) -> Outcome:
        """Return the outcome of what the tests reported; an input that has changed meanwhile is an error."""
        try:
            self.expect_same_inputs()
        except InputError as error:
            self.reported.errors.append(reason(error))
        session, default = self.prepare(), None
        if session.checks.data.sample is not None:
            with suppress(InputError):
                default = read_checks(self.request.default_checks_path)
        outcome = outcome_of(
            self.reported,
            session,
            profile=self.request.profile,
            command=self.command,
            run=self.run_id,
            default=default,
        )
        return replace(outcome, reference_curves=self._reference_curves(), input_faults=self._input_faults(outcome))

    def _input_faults(self, outcome: Outcome) -> InputFaults | None:
        """Return what other pixels mend after a failure on clean images; where that fails, the checks say all."""
        from harness.run.input_faults import ON_CLEAN_IMAGES, input_faults

        session, failed = self.prepare(), {verdict.check.family for verdict in outcome.failed}
        able = session.roles["candidate"].provides.live and not (self.reported.interrupted or self.hung)
        if able and failed & ON_CLEAN_IMAGES and self.request.record is None:
            with suppress(Exception, Interruption), self.limited("input faults"), foreign_code():
                return input_faults(session)
        return None

    def _reference_curves(self) -> Mapping[str, Sequence[Curve]]:
        """Return the curves of the reference models for the figures; a panel that cannot be read leaves bands out."""
        from harness.calibration.record import recorded_curves

        assert self.checks is not None
        if self.reported.overview is not None:
            with suppress(InputError):
                return recorded_curves(self.checks, self.request.root)
        return {}


def selected_checks(session: pytest.Session) -> list[Check]:
    """Return the rows of the tests that run."""
    return [item.callspec.params["stress_check"] for item in session.items if item.get_closest_marker("stress_check")]  # type: ignore[attr-defined]


def command_of(config: pytest.Config) -> list[str]:
    """Return how a run was started, for everyone to read."""
    asked, typed = handover_to(config).content.get("request", {}), list(map(str, config.invocation_params.args))
    line = [*command_line(RunRequest(**asked).but(tests=(), options=()))] if asked else []
    return ["pytest", *map(without_secrets, [*typed, *line])]


def _expect_same(inputs: Mapping[str, str], before: Mapping[str, str]) -> None:
    """Raise `InputError` for an input whose hash is another than it was."""
    for name, sha256 in inputs.items():
        if (was := before.get(name, "")) != sha256:
            raise ChangedError(
                f"{name}: changed while the gate ran: its SHA-256 was {was[:12] or 'none'}…, and is "
                f"{sha256[:12] or 'none'}… now; run the gate again when nothing writes to it"
            )


RUN = pytest.StashKey[GateRun]()
