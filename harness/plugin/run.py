"""The state of one gate run, and the outcome that it comes to."""

from __future__ import annotations

import platform
import shlex
from contextlib import suppress
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import InputError, NotApplicableError, some_of
from harness.gates import Gate, GatesFile, Verdict, read_gates
from harness.inference.roles import ROLES
from harness.plugin.options import full_gates, is_gate_run, options_of
from harness.plugin.timeout import TimeLimitExceededError, time_limit
from harness.run.evidence import Evidence
from harness.run.outcome import Outcome, SelfCheck
from harness.run.overview import Overview, overview_of
from harness.run.session import StressSession, open_session

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager


PROPERTY = "stress_gate"
"""The name under which a test's verdict travels in its report's properties."""


class NotApplicable(pytest.skip.Exception):  # type: ignore[name-defined,misc]
    """A skip by the harness itself: the gate is not about this model or these data."""

    __module__ = "builtins"  # As of pytest's own: it stands before the reason in pytest's output.


class GateRun:
    """The state of one run; in the controller it also collects what the tests report."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.is_worker = hasattr(config, "workerinput")
        self.active = is_gate_run(config)
        self.options = options_of(config)
        self.gates: GatesFile | None = None
        self.session: StressSession | None = None
        self.evidence = Evidence()
        self.tests: dict[str, pytest.Function] = {}
        self.self_checks: tuple[SelfCheck, ...] = ()
        self.overview: Overview | None = None
        self.overview_missing = ""
        self.examples: dict[str, str] = {}
        self.has_gates = False
        """Whether a test of a gate came up, though it may have been skipped."""
        self.verdicts: dict[str, Verdict] = {}
        self.failures: list[str] = []
        self.errors: list[str] = []
        self.interrupted = False
        self.hung = False
        """Whether a model gave no answer in time; it is then not asked again."""
        self.outcome: Outcome | None = None

    @property
    def rows(self) -> frozenset[str]:
        """Return what the rows of the gates file measure, by their definitions."""
        return frozenset(gate.definition for gate in self.gates.gates) if self.gates else frozenset()

    def prepare(self) -> StressSession:
        """Return images, gates and models, loaded once; in the controller, train shipped models that are missing."""
        if self.session is None:
            workers = None
            if self.is_worker:
                from harness.inference import available_cores

                workers = max(1, available_cores() // self.config.workerinput["workercount"])  # type: ignore[attr-defined]
            else:
                self._expect_candidate()
                self._train_missing()
            try:
                with self.limited("loading the models"):
                    self.session = open_session(self.options, workers=workers)
            except TimeLimitExceededError as error:
                raise InputError(str(error)) from None
        return self.session

    def limited(self, what: str) -> AbstractContextManager[None]:
        """Limit the time of a block to that of one gate."""
        return time_limit(self.options.timeout_seconds, what)

    def _expect_candidate(self) -> None:
        """Raise `InputError` where nothing was named and there is nothing by default, before anything is trained."""
        options = self.options
        if options.shipped and self.gates and self.gates.data.name != options.data.spec:
            raise InputError(
                f"{self.gates.path}: made for the data {self.gates.data.name!r}; name them with --stress-data, on the "
                "command line or in the addopts of your pytest configuration"
            )
        named = getattr(self.config.option, "stress_candidate", None) or "candidate" in options.shipped
        candidate = options.checkpoints["candidate"]
        if not (named or candidate.exists()):
            raise InputError(
                f"{candidate}: there is no such file, and no shipped model is for these data; name the "
                "checkpoint to judge with --candidate"
            )

    def _train_missing(self) -> None:
        options = self.options
        missing = [role for role in options.shipped if not options.checkpoints[role].exists()]
        if not missing:
            return
        from harness.networks.checkpoints import require_file
        from harness.networks.training.shipped import train_or_load

        for role in options.checkpoints.keys() - options.shipped:
            require_file(options.checkpoints[role])

        capture = self.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            for role in sorted(missing):
                # The option, not just this process, so that workers get it too.
                setattr(self.config.option, f"stress_{role}", str(train_or_load(options.checkpoints[role].stem)))
        self.options = options_of(self.config)

    @property
    def command(self) -> list[str]:
        """Return how this run was started."""
        return ["pytest", *map(str, self.config.invocation_params.args)]

    @property
    def checks_itself(self) -> bool:
        """Return whether this process runs the self-checks: the only one, or the first worker."""
        first = not self.is_worker or self.config.workerinput["workerid"] == "gw0"  # type: ignore[attr-defined]
        return first and not self.hung and self.options.record is None and bool(self.tests)

    def check_itself(self) -> None:
        """Run the self-checks with the collected stress tests."""
        from harness.run.selfcheck import self_checks

        try:
            with self.limited("self-checks"):
                self.self_checks = self_checks(self.prepare(), self._judge)
        # A model that fails here, or a test that cannot be run by hand.
        except (Exception, TimeLimitExceededError) as error:
            self.self_checks = (SelfCheck("self-checks", "fail", f"they could not run: {error!r}"),)

    @property
    def compares_models(self) -> bool:
        """Return whether this process measures the overview: the only one, or the second worker, if there is one.

        A run by gates made for a sample, which is to be quick, has none.
        """
        if self.gates and self.gates.data.sample is not None:
            return False
        if not self.is_worker:
            return self.options.record is None and bool(self.tests)
        given = self.config.workerinput  # type: ignore[attr-defined]
        second = given["workerid"] == f"gw{min(1, given['workercount'] - 1)}"
        return second and self.options.record is None and bool(self.tests)

    def compare_models(self, selected: Sequence[Gate]) -> None:
        """Measure the overview; `selected` are the gates of this run, in whichever process."""
        try:
            with self.limited("the overview"):
                self.overview = overview_of(self.prepare(), searched=any(gate.keys.get("path") for gate in selected))
        # A model that fails here; what the gates say of it stands.
        except (Exception, TimeLimitExceededError) as error:
            self.overview_missing = f"The models could not be compared: {error}"

    def _judge(self, session: StressSession, gate: Gate) -> Verdict | None:
        """Run the stress test of the gate's family as a plain function, in another session."""
        test = self.tests.get(gate.id)
        if test is None:
            return None
        evidence, row = Evidence(), test.callspec.params["gate"]
        assert isinstance(row, Gate)
        fixtures: Mapping[str, Any] = {
            **session.roles,
            "images": session.images,
            "search_images": session.search_images,
            "probe_images": session.probe_images,
            "gate": session.scaled(row),
            "evidence": evidence,
            "stress_session": session,
        }
        if not set(test._fixtureinfo.argnames) <= set(fixtures):
            return None
        try:
            with suppress(AssertionError, pytest.fail.Exception):  # The verdict says the same.
                test.obj(**{name: fixtures[name] for name in test._fixtureinfo.argnames})
        except (pytest.skip.Exception, NotApplicableError):
            return None
        return evidence.verdict

    def finish(self) -> Outcome:
        """Return the outcome of the collected verdicts."""
        session = self.prepare()
        omissions = self._unmeasured(session.gates.gates)
        if self.interrupted:
            omissions.append("the run was interrupted, and did not check itself")
        elif not self.self_checks and self.options.record is None:
            omissions.append("the run did not check itself")
        judged = [verdict for verdict in self.verdicts.values() if verdict.status in {"pass", "fail"}]
        if all(ROLES[verdict.gate.role].precondition for verdict in judged):
            omissions.append(f"no bound of {session.gates.path} was held against the candidate")
        if fewer := [verdict.gate.id for verdict in self.verdicts.values() if _on_fewer_images(verdict, session.share)]:
            omissions.append(f"fewer images than their bounds are made for: {some_of(fewer)}; calibrate them anew")
        if session.share != 1:
            made_for, measured = session.gates.data, len(session.images)
            sample = "" if made_for.sample is None else f"; the gates are made for a sample of {made_for.sample}"
            omissions.append(f"{measured} of {made_for.n} images were measured{sample}")
        data = {"name": session.images.name, "split": session.images.split, "sha256": session.gates.data.sha256}
        order = {gate.id: position for position, gate in enumerate(session.gates.gates)}
        return Outcome(
            verdicts=tuple(
                sorted(self.verdicts.values(), key=lambda item: (order.get(item.gate.id, len(order)), item.gate.id))
            ),
            errors=tuple(self.errors),
            self_checks=self.self_checks,
            omissions=tuple(omissions),
            failures=tuple(self.failures),
            profile=self.options.profile,
            scope=self._scope(session.gates),
            models={role: model.as_json() for role, model in session.roles.items()},
            data={**data, "n": len(session.images), "classes": list(session.images.classes)},
            recipe=session.gates.recipe,
            provenance=session.provenance,
            gates_sha256=session.gates.sha256,
            versions={
                "python": platform.python_version(),
                **{name: version(name) for name in ("torch", "hypothesis")},
                "harness": version("stress-harness"),
            },
            command=shlex.join(self.command),
            overview=self.overview,
            overview_missing=self.overview_missing,
            examples=self.examples,
        )

    def _unmeasured(self, gates: Sequence[Gate]) -> list[str]:
        """Say which rows no test measured; a test that has no row may have the name of one of another family."""
        took = {verdict.gate.definition for verdict in self.verdicts.values()}
        rows = [gate for gate in gates if gate.definition not in took]
        if not rows:
            return []
        said = f"{len(rows)} of {len(gates)} gates did not run: {some_of([gate.id for gate in rows])}"
        families = {verdict.gate.family for verdict in self.verdicts.values()}
        without = dict.fromkeys(gate.family for gate in rows if gate.family not in families)
        return [f"{said}; no test ran of family {some_of(list(without))}" if without else said]

    def _scope(self, gates: GatesFile) -> str:
        """Say what gates made for a sample leave out of the default profile; empty for other gates."""
        if gates.data.sample is None:
            return ""
        count = len(gates.gates)
        measured = f"quick profile: {count} gates, made for a sample of {gates.data.sample} of {gates.data.n} images"
        left_out = "the comparison of the models"
        with suppress(InputError):
            full = read_gates(full_gates(self.config)).gates
            others = {gate.id for gate in full} - {gate.id for gate in gates.gates}
            families = [name for name in dict.fromkeys(gate.family for gate in full) if not gates.family(name)]
            among = f" (all of {', '.join(families)})" if families else ""
            left_out = f"{len(others)} of the default profile's {len(full)} gates{among} and {left_out}"
        return f"{measured}; left out are {left_out}"


def _on_fewer_images(verdict: Verdict, share: float) -> bool:
    """Return whether a gate's test left out images that its bound was made for, in a run that left out none."""
    bound = verdict.gate.threshold
    return share == 1 and bound is not None and verdict.limit is not None and verdict.n < (bound.n or 0)


RUN = pytest.StashKey[GateRun]()
