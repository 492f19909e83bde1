"""From the rows of the checks file to tests: one for each row of a family, with the keys that the test declares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from harness.base.errors import InputError
from harness.checks import Check
from harness.checks.families import FAMILIES
from harness.checks.rows import LONGEST, declared_keys, id_without_check, is_id
from harness.measures.panel.pairing import PANEL_FIXTURES
from harness.plugin.packaged import ELSEWHERE, PackagedTests
from harness.plugin.run import MISPLACED, RUN

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.checks.rows import Key


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Expand a test marked `@check(family, KEY, ..., metric=...)` into one test per row of these.

    A row with other keys than its test declares is an error of collection. So is a test without a row, if its family's
    name is no id.
    """
    marker = metafunc.definition.get_closest_marker("stress_check")
    if marker is None or "stress_check" not in metafunc.fixturenames or not marker.args:
        return  # Another's marker of this name, perhaps.
    run = metafunc.config.stash[RUN]
    checks = run.checks
    family, *keys = marker.args
    metric = marker.kwargs.get("metric", "")
    test, path = metafunc.definition.name, run.request.checks_path
    rows = tuple(
        row for row in (checks.family(family) if checks else ()) if metric in {"", row.metric}
    )
    parent = metafunc.definition.parent
    beside_own = isinstance(parent, PackagedTests) and parent.is_beside_own(family)
    try:
        run.expect_same_checks()
        declared = declared_keys(keys, test=test)
        known = [
            _with_keys(row, declared, beside_own=beside_own, path=path, test=test) for row in rows
        ]
        rows = tuple(row for row in known if row is not None)
    except InputError as error:
        raise pytest.Collector.CollectError(str(error)) from None
    if not rows:
        name = id_without_check(family, metric)
        if not is_id(name):
            raise pytest.Collector.CollectError(
                f"{test}: its family {family!r} gives its row the id {name!r}. Expected at most {LONGEST} lower-case "
                "ASCII letters, digits, dots and hyphens; rename the family in @check and in its rows"
            )
        rows = (
            Check(id=name, family=family, metric=metric, keys={key.name: None for key in declared}),
        )
    metafunc.parametrize("stress_check", rows, ids=[row.id for row in rows], indirect=True)


def _with_keys(
    row: Check, declared: Sequence[Key[Any]], *, beside_own: bool, path: Path, test: str
) -> Check | None:
    """Return a row with the keys that its test declares; None if that ships, and the row has those of the own test."""
    try:
        return row.with_keys(declared, path=path, test=test)
    except InputError:
        if beside_own:
            return None
        raise


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep one test of each row for the self-checks; leave out tests without a row of a file made for a sample.

    Such a file says all that its profile measures. When recording, leave out the families not asked for, too.
    """
    run = config.stash[RUN]
    if not run.active:
        stress_tests = [
            item for item in items if "stress_session" in getattr(item, "fixturenames", ())
        ]
        if config.stash.get(ELSEWHERE, False) or any(
            item.get_closest_marker("stress_check") for item in stress_tests
        ):
            if not run.is_worker:
                raise pytest.UsageError(run.elsewhere)
            config.workeroutput[MISPLACED] = True  # type: ignore[attr-defined]
        return
    marked = {
        item: marker.args[0]
        for item in items
        if (marker := item.get_closest_marker("stress_check"))
    }
    functions = [item for item in marked if isinstance(item, pytest.Function)]
    rows: dict[pytest.Item, Any] = {
        item: item.callspec.params["stress_check"] for item in functions
    }
    run.tests = {rows[item].id: item for item in functions}
    request, unknown = (
        run.request,
        {item for item, row in rows.items() if row.definition not in run.rows},
    )
    # A family that needs a row or a role is no check of this run without one. A panel is not asked about rows that
    # features make.
    roles = {"", *request.checkpoints}
    with_rows = {
        name
        for name, family in FAMILIES.items()
        if family.needs_row or family.needs_role not in roles
    }
    unasked = {item for item in unknown if marked[item] in with_rows}
    if request.record is not None:
        unasked |= {
            item for item, family in marked.items() if family in FAMILIES and FAMILIES[family].rows
        }
    items[:] = [item for item in items if item not in unasked]
    left_out = (
        unknown.copy() if run.checks and run.checks.data.sample is not None else set[pytest.Item]()
    )
    if request.record:
        asked = {item for item, family in marked.items() if family in request.record}
        asked |= {item for item, row in rows.items() if row.id in request.record}
        left_out |= set(items) - asked
    if request.stopped is not None:
        left_out |= {
            item for item in items if item not in rows or rows[item].id != request.stopped[0]
        }
    if request.answers is not None:
        by_panel = {
            item
            for item, row in rows.items()
            if run.checks and run.checks.data.by_panel(row.family)
        }
        asking = {
            item
            for item in items
            if not PANEL_FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))
        }
        left_out |= set(items) - asking - by_panel
    if deselected := [item for item in items if item in left_out]:
        config.hook.pytest_deselected(items=deselected)
        items[:] = [item for item in items if item not in left_out]
