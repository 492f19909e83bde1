"""From the rows of the checks file to tests: one for each row of a family."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from harness.base.errors import InputError
from harness.checks import Check
from harness.checks.families import FAMILIES
from harness.checks.rows import LONGEST, declared_keys, id_without_check, is_id
from harness.measures.panel.pairing import PANEL_FIXTURES
from harness.plugin.calls import check_or_none
from harness.plugin.packaged import ELSEWHERE, PackagedTests
from harness.plugin.run import RUN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.checks.rows import Key
    from harness.plugin.run import GateRun

MISPLACED = "stress_misplaced"
"""The name under which a worker says that it has stress tests in a run that does not judge them."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Expand a test marked `@check(family, KEY, ..., metric=...)` into one test per row of these.

    A row with other keys than its test declares is an error of collection. So is a test without a
    row, if its family's name is no id.
    """
    marker = metafunc.definition.get_closest_marker("stress_check")
    if marker is None or "stress_check" not in metafunc.fixturenames or not marker.args:
        return  # Another's marker of this name, perhaps.

    run = metafunc.config.stash[RUN]
    test = metafunc.definition.name
    family, *keys = marker.args
    metric = marker.kwargs.get("metric", "")
    try:
        run.expect_same_checks()
        declared = declared_keys(keys, test=test)
        rows = _rows_with_keys(metafunc, run, family, metric, declared)
    except InputError as error:
        raise pytest.Collector.CollectError(str(error)) from None

    if not rows:
        rows = [_row_without_check(test, family, metric, declared)]
    metafunc.parametrize("stress_check", rows, ids=[row.id for row in rows], indirect=True)


def _rows_with_keys(
    metafunc: pytest.Metafunc,
    run: GateRun,
    family: str,
    metric: str,
    declared: Sequence[Key[Any]],
) -> list[Check]:
    """Return the rows of a test, with the keys that it declares; `InputError` for other keys.

    A test that ships leaves rows with other keys to the repository's own test of the family.
    """
    if run.checks is None:
        return []
    test = metafunc.definition.name
    parent = metafunc.definition.parent
    is_beside_own = isinstance(parent, PackagedTests) and parent.is_beside_own(family)

    rows = []
    for row in run.checks.family(family):
        if metric and row.metric != metric:
            continue
        try:
            rows.append(row.with_keys(declared, path=run.request.checks_path, test=test))
        except InputError:
            if not is_beside_own:
                raise
    return rows


def _row_without_check(test: str, family: str, metric: str, declared: Sequence[Key[Any]]) -> Check:
    """Return the row of a test that the checks file has none for; it has no threshold."""
    name = id_without_check(family, metric)
    if not is_id(name):
        raise pytest.Collector.CollectError(
            f"{test}: its family {family!r} gives its row the id {name!r}. Expected at most "
            f"{LONGEST} lower-case ASCII letters, digits, dots and hyphens; rename the family in "
            "@check and in its rows"
        )
    return Check(id=name, family=family, metric=metric, keys={key.name: None for key in declared})


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests of this run, and one test of each row for the self-checks."""
    run = config.stash[RUN]
    if not run.active:
        _expect_no_stress_tests(run, items)
        return

    for item in items:
        row = check_or_none(item)
        if row is not None and isinstance(item, pytest.Function):
            run.collected.tests[row.id] = item

    selection = _Selection(run)
    items[:] = [item for item in items if not selection.lacks_row(item)]

    deselected = {item: None for item in items if selection.leaves_out(item)}
    if deselected:
        config.hook.pytest_deselected(items=[*deselected])
        items[:] = [item for item in items if item not in deselected]


def _expect_no_stress_tests(run: GateRun, items: Sequence[pytest.Item]) -> None:
    """Raise `UsageError` for stress tests in a run of no gate; a worker tells its controller."""
    marked = [item for item in items if item.get_closest_marker("stress_check")]
    has_stress_tests = any("stress_session" in getattr(item, "fixturenames", ()) for item in marked)
    if not has_stress_tests and not run.config.stash.get(ELSEWHERE, False):
        return
    if not run.is_worker:
        raise pytest.UsageError(run.misplaced)
    run.config.workeroutput[MISPLACED] = True  # type: ignore[attr-defined]


def _family_of(item: pytest.Item) -> str | None:
    """Return the family that a test is marked with; None for a test that is no stress test."""
    marker = item.get_closest_marker("stress_check")
    return None if marker is None else str(marker.args[0])


class _Selection:
    """Chooses the tests of a run among all that are collected."""

    def __init__(self, run: GateRun) -> None:
        assert run.checks is not None
        self._request = run.request
        self._data = run.checks.data
        self._definitions = run.definitions
        self._roles = {"", *run.request.checkpoints}

    def lacks_row(self, item: pytest.Item) -> bool:
        """Return whether a test is no check of this run, because a row or a role is missing.

        Its family needs one. Recordings have none of the rows that features make.
        """
        family = FAMILIES.get(_family_of(item) or "")
        if family is None:
            return False
        if self._request.record is not None and family.rows:
            return True
        needs_row = family.needs_row or family.needs_role not in self._roles
        return needs_row and self._is_new(item)

    def leaves_out(self, item: pytest.Item) -> bool:
        """Return whether the run deselects a test."""
        row = check_or_none(item)
        if self._data.sample is not None and self._is_new(item):
            return True  # A checks file for a sample says all that its profile measures.
        if self._request.stopped is not None and (
            row is None or row.id != self._request.stopped[0]
        ):
            return True
        if self._request.record and not self._is_recorded(item):
            return True
        return self._request.answers is not None and not self._asks_panel(item)

    def _is_new(self, item: pytest.Item) -> bool:
        """Return whether a stress test has no row in the checks file."""
        row = check_or_none(item)
        return row is not None and row.definition not in self._definitions

    def _is_recorded(self, item: pytest.Item) -> bool:
        """Return whether a recording names a test's family or row."""
        record = self._request.record or frozenset()
        row = check_or_none(item)
        return _family_of(item) in record or (row is not None and row.id in record)

    def _asks_panel(self, item: pytest.Item) -> bool:
        """Return whether a test needs predictions of reference models."""
        row = check_or_none(item)
        if row is not None and self._data.by_panel(row.family):
            return True
        return not PANEL_FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))
