"""The call of a stress test: its function, and the values that the user's fixtures gave it."""

from __future__ import annotations

import hashlib
import inspect
import pickle
from contextlib import suppress
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from harness.base.errors import NotApplicableError
from harness.checks import Check
from harness.checks.roles import ROLES
from harness.run.arguments import ARGUMENTS, argument
from harness.run.evidence import Evidence
from harness.run.hypothesis_poses import expect_answers_to_draws

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness.checks import Verdict
    from harness.run.session import StressSession

_OF_THE_TEST = frozenset({"stress_session", "stress_check", "evidence"})
_BEHIND_THE_GATES = frozenset({"request", "pytestconfig"})
"""Fixtures of pytest that the gate's own take, so that each stress test has them."""


@dataclass(frozen=True, eq=False)
class StressCall:
    """The function of a stress test, and the values that fixtures of the user's gave it.

    `own` has these values by their names. `state` is a hash of them when the call was kept, see
    `state_now`.
    """

    function: Callable[..., object]
    check: Check
    own: Mapping[str, object] = field(default_factory=dict)
    state: str = ""

    def judge(self, session: StressSession) -> Verdict | None:
        """Return the verdict on the candidate of a session.

        None if the test shows no verdict or does not apply. Raises what the function raises, other
        than an assertion.
        """
        evidence = Evidence()
        try:
            sampled = session.of_check(self.check)
            sampled.scope.expect_answers_for(self.check.family)
            expect_answers_to_draws(self.function, sampled)

            arguments = self._arguments(sampled, evidence)
            if arguments is None:
                return None

            with suppress(AssertionError, pytest.fail.Exception):  # The verdict says the same.
                self.function(**arguments)
        except (pytest.skip.Exception, NotApplicableError):
            return None
        return evidence.verdict

    @property
    def serves_again(self) -> bool:
        """Return whether the user's values are the same as when the call was kept."""
        return bool(self.state) and self.state == self.state_now()

    def state_now(self) -> str:
        """Return a hash of the user's values and of the instance of a test class.

        It changes if a call fills a memo or consumes an iterator. It is empty if they cannot be
        pickled, such as generators and open files.
        """
        digest = hashlib.sha256()
        instance = getattr(self.function, "__self__", None)
        try:
            pickle.dump((instance, dict(self.own)), SimpleNamespace(write=digest.update))
        except Exception:  # Code of the user's classes may raise anything.
            return ""
        return digest.hexdigest()

    def _arguments(self, session: StressSession, evidence: Evidence) -> dict[str, object] | None:
        """Return the arguments of the function in a session; None if it cannot give one."""
        arguments = dict(self.own)
        try:
            for name in gate_arguments().intersection(parameters(self.function)):
                arguments[name] = self._argument(name, session, evidence)
        except Exception:  # A feature's argument may need a network, for example.
            return None
        return arguments

    def _argument(self, name: str, session: StressSession, evidence: Evidence) -> object:
        match name:
            case "stress_session":
                return session
            case "stress_check":
                return session.scaled(self.check)
            case "evidence":
                return evidence
            case _:
                _, make = argument(name)
                return make(session)


def gate_arguments() -> frozenset[str]:
    """Return the names of all arguments that the gate gives to stress tests."""
    return _OF_THE_TEST | ARGUMENTS.keys() | ROLES.keys()


def parameters(function: Callable[..., object]) -> tuple[str, ...]:
    """Return the names of the parameters of a test for which pytest looks up fixtures."""
    by_name = inspect.signature(function).parameters
    return tuple(name for name, parameter in by_name.items() if _is_required(parameter))


def _is_required(parameter: inspect.Parameter) -> bool:
    variadic = parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}
    return parameter.default is parameter.empty and not variadic


def arguments_of(item: pytest.Function) -> dict[str, object]:
    """Return the arguments of a test whose fixtures are set up."""
    return {name: item.funcargs[name] for name in parameters(item.obj) if name in item.funcargs}


def call_of(item: pytest.Function) -> StressCall:
    """Return the call of a test whose fixtures are set up."""
    own = {
        name: value for name, value in arguments_of(item).items() if name not in gate_arguments()
    }
    return StressCall(item.obj, check_of(item), own)


def check_of(item: pytest.Item) -> Check:
    """Return the row of the checks file that a stress test is about."""
    check = check_or_none(item)
    assert check is not None
    return check


def check_or_none(item: pytest.Item | pytest.Collector) -> Check | None:
    """Return the row of the checks file that a stress test is about; None for anything else."""
    callspec = getattr(item, "callspec", None)
    check = callspec.params.get("stress_check") if callspec else None
    return check if isinstance(check, Check) else None


def takes_only_gate_arguments(item: pytest.Function) -> bool:
    """Return whether a test takes no fixture of the user's, of a class or of another plugin."""
    of_gate = gate_arguments()
    no_other_fixtures = set(item.fixturenames) <= of_gate | _BEHIND_THE_GATES
    return item.cls is None and no_other_fixtures and set(parameters(item.obj)) <= of_gate


def twin_of(item: pytest.Function) -> pytest.Function:
    """Return another item of the same test: pytest sets each up once."""
    twin: pytest.Function = type(item).from_parent(
        item.parent, name=item.name, callspec=item.callspec, originalname=item.originalname
    )
    twin.own_markers[:] = item.own_markers
    twin.funcargs |= _parametrized(item)
    return twin


def _parametrized(item: pytest.Function) -> dict[str, object]:
    """Return the arguments that marks give to a test directly, which are no fixtures."""
    values = dict[str, object]()
    for mark in item.iter_markers("parametrize"):
        indirect = mark.kwargs.get("indirect", False)
        if indirect is True:
            continue
        names = mark.args[0] if mark.args else mark.kwargs["argnames"]
        if isinstance(names, str):
            names = names.replace(",", " ").split()
        for name in names:
            if not indirect or name not in indirect:
                values[name] = item.callspec.params[name]
    return values
