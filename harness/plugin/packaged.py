"""The stress tests that ship, collected as files of the repository's folder stress_tests.

The repository needs no copy of them. A file of the repository with the same name
replaces the one that ships. So does any other test of the same check.
"""

from __future__ import annotations

import os
import sys
from importlib.util import module_from_spec
from typing import TYPE_CHECKING

import pytest

from harness.checks.shipped import SHIPPED, shipped_tests
from harness.plugin.calls import check_or_none
from harness.plugin.invocation import gate_folder
from harness.plugin.run import RUN

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence
    from importlib.machinery import ModuleSpec
    from pathlib import Path
    from types import ModuleType

ELSEWHERE = pytest.StashKey[bool]()
"""True if a folder of stress tests with a checks file was collected that is not of the run."""
_NAMED = pytest.StashKey[dict[str, bool]]()
"""The node ids on the command line, if some are in files that ship; for those, True."""


class PackagedTests(pytest.Module):
    """A file that ships, with the node id of a file in the repository's folder.

    It has the tests of checks in the checks file alone. The folder's conftest applies.
    """

    def _getobj(self) -> ModuleType:
        # Under a name of its own, since a module of the repository may have the same.
        path = SHIPPED[self.name]
        spec = _spec_of(f"packaged_stress_tests.{path.stem}", str(path.parent))
        module = module_from_spec(spec)
        sys.modules[spec.name] = module
        assert spec.loader is not None
        spec.loader.exec_module(module)
        return module

    def is_beside_own(self, family: str) -> bool:
        """Return whether the folder has a test of the repository's own of this family."""
        marks = (f"@check('{family}'", f'@check("{family}"')
        for test in self.path.glob("**/*.py"):
            text = test.read_text("utf-8", "replace")
            if any(mark in text for mark in marks):
                return True
        return False

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        """Return the tests of the checks file's checks."""
        definitions = self.config.stash[RUN].definitions
        for item in super().collect():
            check = check_or_none(item)
            if check is not None and check.definition in definitions:
                yield item


def _spec_of(name: str, folder: str) -> ModuleSpec:
    """Return how a module of a folder is loaded, by pytest's finder, which rewrites assertions."""
    for finder in sys.meta_path:
        spec = finder.find_spec(name, [folder])
        if spec is not None:
            return spec
    raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, object]:
    """Add the files that ship, and that it lacks, to a folder of the gate."""
    report = yield
    config = collector.config
    folder = collector.path
    run = config.stash[RUN]
    if not isinstance(collector, pytest.Directory):
        return report
    if not run.active:
        if folder.name == "stress_tests" and (folder / "checks.toml").is_file():
            config.stash[ELSEWHERE] = True
        return report
    if run.checks is None:
        return report

    if folder.resolve() in {gate_folder(config), run.checks.path.parent.resolve()}:
        families = {check.family for check in run.checks.checks}
        report.result.extend(_missing_tests(collector, families))
    return report


def _missing_tests(folder: pytest.Directory, families: set[str]) -> list[PackagedTests]:
    """Return the files with tests of these families that ship, and that a folder lacks."""
    modules = []
    for test in shipped_tests(families):
        path = folder.path / test.name
        if path.exists() or folder.ihook.pytest_ignore_collect(
            collection_path=path, config=folder.config
        ):
            continue
        module = PackagedTests.from_parent(folder, path=path)
        module.path = folder.path  # It is there, so pytest finds the conftest that applies.
        modules.append(module)
    return modules


def name_folders(early_config: pytest.Config) -> None:
    """Have the folder's conftest loaded at once when a file that ships is named."""
    arguments = early_config.known_args_namespace.file_or_dir
    arguments[:] = _places_on_disk(early_config, arguments)


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Have the folder collected where a file that ships is named, which pytest does not find."""
    config = session.config
    places = _places_on_disk(config, config.args)
    if places == config.args:
        return

    named = {}
    for argument, place in zip(config.args, places, strict=True):
        named[_node_id_of(config, argument)] = argument != place
    config.stash[_NAMED] = named
    config.args = places


def _node_id_of(config: pytest.Config, argument: str) -> str:
    """Return the node id that an argument names; empty for all tests."""
    name, *names_in_file = argument.split("::")
    path = os.path.relpath(config.invocation_params.dir / name, config.rootpath)
    if path == ".":
        path = ""
    return "::".join([path.replace(os.sep, "/"), *names_in_file])


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep what is named, and of each check one test: that of the repository, if it has one."""
    _leave_out_second_tests(items)
    named = config.stash.get(_NAMED, {})
    if not named:
        return

    names_of = {item: [name for name in named if _is_in(item.nodeid, name)] for item in items}
    shipped_names = {name for name, ships in named.items() if ships}
    missing = shipped_names.difference(*names_of.values())
    if missing:
        raise pytest.UsageError(f"not found: {', '.join(sorted(missing))}")

    # pytest itself selects what is named elsewhere, such as a package.
    folders = _folders_of_gate(config)
    here = tuple(f"{os.path.relpath(folder, config.rootpath)}/" for folder in folders)
    items[:] = [item for item in items if names_of[item] or not item.nodeid.startswith(here)]


def _leave_out_second_tests(items: list[pytest.Item]) -> None:
    """Leave out a test that ships if its check has the repository's own test, or an earlier one."""
    first: dict[str, pytest.Item] = {}
    for item in sorted(items, key=_ships):
        first.setdefault(_check_id(item), item)
    items[:] = [item for item in items if not _ships(item) or item is first[_check_id(item)]]


def _ships(item: pytest.Item) -> bool:
    return isinstance(item.parent, PackagedTests)


def _check_id(item: pytest.Item) -> str:
    check = check_or_none(item)
    return "" if check is None else check.id


def _places_on_disk(config: pytest.Config, arguments: Sequence[str]) -> list[str]:
    """Return places of tests, with the folder in place of a file that ships and is not there."""
    folders = _folders_of_gate(config)
    places = []
    for argument in arguments:
        path = config.invocation_params.dir / str(argument).partition("::")[0]
        if path.name in SHIPPED and not path.exists() and path.parent.resolve() in folders:
            places.append(str(path.parent))
        else:
            places.append(argument)
    return places


def _folders_of_gate(config: pytest.Config) -> set[Path]:
    """Return the folders that get the files that ship: of the gate, and of the checks file."""
    folders = {gate_folder(config)}
    checks = getattr(config.known_args_namespace, "stress_checks", None)
    if checks:
        folders.add((config.invocation_params.dir / str(checks)).resolve().parent)
    return folders


def _is_in(node_id: str, name: str) -> bool:
    """Return whether a node is the named one or a part of it; the empty name is that of all."""
    if not name:
        return True
    return node_id.startswith(name) and node_id[len(name) :][:1] in {"", "/", ":", "["}
