"""The stress tests that ship, collected as files of the repository's folder stress_tests, which needs no copy of them.

A file of the repository with the same name replaces the one that ships. So does any other test of the same check.
"""

from __future__ import annotations

import os
import sys
from importlib.util import module_from_spec
from typing import TYPE_CHECKING

import pytest

from harness.checks.shipped import SHIPPED, shipped_tests
from harness.plugin.run import RUN

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence
    from pathlib import Path
    from types import ModuleType

    from harness.checks import Check

_NAMED = pytest.StashKey[dict[str, bool]]()
"""The node ids on the command line, if some are in files that ship; of those, True."""


class PackagedTests(pytest.Module):
    """A file that ships: its node id is that of a file in the repository's folder, and that folder's conftest applies.

    It has the tests of checks in the checks file alone.
    """

    def _getobj(self) -> ModuleType:
        # Under a name of its own, since a module of the repository may have the same. Pytest rewrites assertions.
        path = SHIPPED[self.name]
        name, places = f"packaged_stress_tests.{path.stem}", [str(path.parent)]
        spec = next(found for finder in sys.meta_path if (found := finder.find_spec(name, places)))
        module = sys.modules[name] = module_from_spec(spec)
        assert spec.loader is not None
        spec.loader.exec_module(module)
        return module

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        """Return the tests of the checks file's checks."""
        rows = self.config.stash[RUN].rows
        return [each for each in super().collect() if (check := _check_of(each)) and check.definition in rows]


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, pytest.CollectReport, object]:
    """Add the files that ship, and that it lacks, to the folder of stress tests, or of the checks file."""
    report = yield
    config, folder = collector.config, collector.path
    run = config.stash[RUN]
    if isinstance(collector, pytest.Directory) and run.active and run.checks:
        is_gate = _is_gate(config, folder) or folder.resolve() == run.checks.path.parent.resolve()
        for test in shipped_tests({check.family for check in run.checks.checks}) if is_gate else ():
            path = folder / test.name
            ignored = collector.ihook.pytest_ignore_collect(collection_path=path, config=config)
            if not (ignored or path.exists()):
                report.result.append(packaged := PackagedTests.from_parent(collector, path=path))
                packaged.path = folder  # It is there, so pytest finds the conftest that applies.
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Have the folder's conftest loaded at once when a file that ships is named."""
    named = early_config.known_args_namespace.file_or_dir
    named[:] = _with_folder(early_config, named)


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Have the folder collected where a file that ships is named, since pytest knows places on the disk alone."""
    config = session.config
    if (places := _with_folder(config, config.args)) != config.args:
        named = zip(config.args, places, strict=True)
        config.stash[_NAMED] = {_node_id(config, each): each != place for each, place in named}
        config.args = places


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep what is named, and of each check one test: that of the repository, if it has one."""
    known, left_out = set[str](), set[pytest.Item]()
    for item in sorted(items, key=lambda item: isinstance(item.parent, PackagedTests)):
        if check := _check_of(item):
            if check.id in known and isinstance(item.parent, PackagedTests):
                left_out.add(item)
            known.add(check.id)
    if named := config.stash.get(_NAMED, {}):
        found = {item: [name for name in named if _is_in(item.nodeid, name)] for item in items}
        if missing := {name for name in named if named[name]}.difference(*found.values()):
            raise pytest.UsageError(f"not found: {', '.join(sorted(missing))}")
        left_out |= {item for item in items if not found[item]}
    items[:] = [item for item in items if item not in left_out]


def _check_of(item: pytest.Item | pytest.Collector) -> Check | None:
    found: Check | None = item.callspec.params.get("stress_check") if hasattr(item, "callspec") else None
    return found


def _is_gate(config: pytest.Config, folder: Path) -> bool:
    return folder.resolve() == (config.rootpath / "stress_tests").resolve()


def _with_folder(config: pytest.Config, arguments: Sequence[str]) -> list[str]:
    """Return places of tests, with the folder itself in place of a file that ships and is not there."""
    places = [config.invocation_params.dir / str(each).partition("::")[0] for each in arguments]
    return [
        str(place.parent)
        if _is_gate(config, place.parent) and place.name in SHIPPED and not place.exists()
        else argument
        for place, argument in zip(places, arguments, strict=True)
    ]


def _node_id(config: pytest.Config, argument: str) -> str:
    name, separator, rest = argument.partition("::")
    place = os.path.relpath(config.invocation_params.dir / name, config.rootpath)
    return "" if place == "." else place.replace(os.sep, "/") + separator + rest


def _is_in(node_id: str, name: str) -> bool:
    return not name or (node_id.startswith(name) and node_id[len(name) :][:1] in {"", "/", ":", "["})
