"""Which models a test asked: by itself, or through the fixtures that it takes."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

    from harness.run.session import StressSession


class Questions:
    """Counts what is asked of the models, by role, in the running test and in the fixtures of the user's own.

    A model that is one network in two roles counts for both.
    """

    def __init__(self) -> None:
        self._before: Counter[str] = Counter()
        self._of_fixtures: WeakKeyDictionary[pytest.FixtureDef[Any], frozenset[str]] = WeakKeyDictionary()
        self._through_fixtures: frozenset[str] = frozenset()

    @contextmanager
    def within(self, fixture: pytest.FixtureDef[Any], session: StressSession | None) -> Iterator[None]:
        """Note the roles that are asked while a fixture is set up; opening the models is no question of it."""
        before = _questions(session)
        try:
            yield
        finally:
            self._of_fixtures[fixture] = frozenset((_questions(session) - before).keys())

    def begin(self, item: pytest.Function, session: StressSession) -> None:
        """Begin to count for the call of a test, whose fixtures are set up."""
        definitions = [each for found in item._fixtureinfo.name2fixturedefs.values() for each in found]
        asked = (self._of_fixtures.get(definition, frozenset()) for definition in definitions)
        self._through_fixtures = frozenset[str]().union(*asked)
        self._before = _questions(session)

    def asked(self, role: str, session: StressSession | None) -> bool:
        """Return whether the test asked the model of a role, by itself or through a fixture."""
        return role in self._through_fixtures or bool((_questions(session) - self._before)[role])


def _questions(session: StressSession | None) -> Counter[str]:
    """Return how much was asked of each role so far; nothing before the models are opened."""
    return Counter({role: model.classifier.questions for role, model in session.roles.items()} if session else {})
