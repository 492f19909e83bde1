"""A stress test run as a plain function, in another session than that of the run."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from inspect import isgenerator
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import pytest

from harness.base.errors import NotApplicableError
from harness.checks import Check, Verdict
from harness.run.evidence import Evidence
from harness.run.hypothesis_poses import expect_answers_to_draws

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.run.session import StressSession

_INDEPENDENT: WeakKeyDictionary[pytest.FixtureDef[Any], tuple[Any, Any]] = WeakKeyDictionary()
"""Fixtures of a project that need none of the gate, with the generators that end them with the process."""


def judge(test: pytest.Function, session: StressSession) -> Verdict | None:
    """Return what a stress test says of the session's candidate, on its row.

    None where it shows no verdict, does not apply, or takes a fixture that only pytest can make; see `_arguments`.
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
    """Return the arguments of a test: the gate's `fixtures`, and the project's own, which are made from these.

    None for one with parameters, one that asks pytest for `request`, and one that fails. `opened` ends generators.
    """
    made = dict(fixtures)
    try:
        known = test._fixtureinfo.name2fixturedefs
        return {name: _fixture(name, known, made, opened) for name in test._fixtureinfo.argnames}
    except NotApplicableError:
        raise
    except Exception:  # It may expect a network, or what else a stand-in has not.
        return None


def _fixture(name: str, known: Mapping[str, Any], made: dict[str, Any], opened: ExitStack) -> Any:
    """Return the value of a fixture, and add it to those that are `made`; raises `LookupError` for pytest's own.

    One that needs no fixture of the gate is made once for all replays, since it may take long.
    """
    if name in made:
        return made[name]
    definition = known[name][-1]
    if definition in _INDEPENDENT:
        return _INDEPENDENT[definition][0]
    if definition.params or name in definition.argnames:
        raise LookupError(name)
    value = source = definition.func(**{each: _fixture(each, known, made, opened) for each in definition.argnames})
    if isgenerator(source):
        value = next(source)
    if all(each not in made for each in definition.argnames):
        _INDEPENDENT[definition] = value, source
        return value
    if isgenerator(source):
        opened.callback(source.close)
    made[name] = value
    return value
