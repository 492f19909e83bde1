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
    """Roles of the models that the running test asks, and that each fixture asked when it was set up.

    A model that is one network in two roles counts for both.
    """

    def __init__(self) -> None:
        self._before: Counter[str] = Counter()
        self._of_fixtures: WeakKeyDictionary[pytest.FixtureDef[Any], set[str]] = WeakKeyDictionary()
        self._through_fixtures: set[str] = set()

    @contextmanager
    def within(self, fixture: pytest.FixtureDef[Any], session: StressSession | None) -> Iterator[None]:
        """Note the roles that are asked while a fixture is set up; opening the models is no question of it."""
        before = _questions(session)
        try:
            yield
        finally:
            self._of_fixtures[fixture] = set(_questions(session) - before)

    def begin(self, item: pytest.Function, session: StressSession) -> None:
        """Begin to count for the call of a test, whose fixtures are set up."""
        definitions = [each for found in item._fixtureinfo.name2fixturedefs.values() for each in found]
        self._through_fixtures = set().union(*(self._of_fixtures.get(each, ()) for each in definitions))
        self._before = _questions(session)

    def asked(self, role: str, session: StressSession | None) -> bool:
        """Return whether the test asked the model of a role, by itself or through a fixture."""
        return role in self._through_fixtures or bool((_questions(session) - self._before)[role])


def _questions(session: StressSession | None) -> Counter[str]:
    return Counter({role: model.classifier.questions for role, model in session.roles.items()} if session else {})
