"""A stress test run as a plain function, in another session than that of the run."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import dataclass
from inspect import isgenerator
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import pytest

from harness.base.errors import NotApplicableError
from harness.checks import Check, Verdict
from harness.run.evidence import Evidence
from harness.run.hypothesis_poses import expect_answers_to_draws

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from harness.run.session import StressSession

_INDEPENDENT: WeakKeyDictionary[pytest.FixtureDef[Any], tuple[Any, Any]] = WeakKeyDictionary()
"""Fixtures of a project that need none of the gate, with the generators that end them with the process."""


def judge(test: pytest.Function, session: StressSession) -> Verdict | None:
    """Return what a stress test says of the session's candidate, on its row.

    None where it shows no verdict, does not apply, or takes a fixture that cannot be made; see `_arguments`.
    """
    evidence, row = Evidence(), test.callspec.params["stress_check"]
    assert isinstance(row, Check)
    session = session.of_family(row.family)
    fixtures: Mapping[str, Any] = {
        **session.roles,
        "images": session.images,
        "search_images": session.search_images,
        "panel_images": session.panel_images,
        "probe_images": session.probe_images,
        "golden_images": session.golden,
        "unknown_images": session.elsewhere,
        "paired_incumbent": session.paired_incumbent,
        "stress_check": session.scaled(row),
        "evidence": evidence,
        "stress_session": session,
        **({"panel_predictions": session.panel_predictions} if session.panel_predictions else {}),
    }
    try:
        session.expect_answers_for(row.family)
        expect_answers_to_draws(test.obj, session)
        with ExitStack() as opened:
            if (arguments := _arguments(test, fixtures, opened)) is None:
                return None
            with suppress(AssertionError, pytest.fail.Exception):  # The verdict says the same.
                test.obj(**arguments)
    except (pytest.skip.Exception, NotApplicableError):
        return None
    return evidence.verdict


def _arguments(test: pytest.Function, fixtures: Mapping[str, Any], opened: ExitStack) -> dict[str, Any] | None:
    """Return the arguments of a test: the gate's `fixtures`, and those of the project and of pytest, made anew.

    None where one of them cannot be made. `opened` ends those that are generators.
    """
    maker = _Maker(test, dict(fixtures), opened)
    try:
        return {name: maker.value_of(name, "") for name in test._fixtureinfo.argnames}
    except NotApplicableError:
        raise
    except Exception:  # It may expect a network, or what else a stand-in has not.
        return None


@dataclass(frozen=True)
class _Maker:
    """Makes the fixtures that a test takes, from those that are `made`."""

    test: pytest.Function
    made: dict[str, Any]
    opened: ExitStack

    def value_of(self, name: str, taker: str) -> Any:
        """Return the value of a fixture that the fixture `taker`, or the test itself, takes; keep it in `made`.

        One that needs neither a fixture of the gate nor pytest's is made once for all replays, since it may take long.
        Raises `LookupError` for one that does not exist or takes another of its own name.
        """
        if name == "request":
            return _Request(self, taker)
        if name in self.made:
            return self.made[name]
        definition = self.test._fixtureinfo.name2fixturedefs[name][-1]
        if definition in _INDEPENDENT:
            return _INDEPENDENT[definition][0]
        if name in definition.argnames:
            raise LookupError(name)
        value = source = definition.func(**{each: self.value_of(each, name) for each in definition.argnames})
        if isgenerator(source):
            value = next(source)
        of_pytest = definition.func.__module__.startswith("_pytest.")
        if not of_pytest and all(each not in self.made and each != "request" for each in definition.argnames):
            _INDEPENDENT[definition] = value, source
            return value
        if isgenerator(source):
            self.opened.callback(_end, source)
        self.made[name] = value
        return value


def _end(source: Iterator[object]) -> None:
    """Run the rest of a fixture, after its `yield`; what it raises changes no verdict."""
    with suppress(Exception):
        next(source, None)


class _Request:
    """The fixture `request` of a replay, as far as pytest documents it for fixtures and tests."""

    def __init__(self, maker: _Maker, fixturename: str) -> None:
        test = maker.test
        self._maker, self.fixturename, self.scope = maker, fixturename or None, "function"
        self.node, self.config, self.session, self.path = test, test.config, test.session, test.path
        self.function, self.module, self.cls, self.instance = test.obj, test.module, test.cls, test.instance
        self.keywords, self.fixturenames = test.keywords, test.fixturenames

    @property
    def param(self) -> Any:
        """Return the parameter of the fixture in this test; raises `AttributeError` where it has none."""
        parameters = self._maker.test.callspec.params
        if self.fixturename not in parameters:
            raise AttributeError(self.fixturename)
        return parameters[self.fixturename]

    def getfixturevalue(self, argname: str) -> Any:
        """Return the value of another fixture."""
        return self._maker.value_of(argname, self.fixturename or "")

    def addfinalizer(self, finalizer: Callable[[], object]) -> None:
        """Call a function at the end of the replay."""
        self._maker.opened.callback(finalizer)
