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

ELSEWHERE = pytest.StashKey[bool]()
"""True if a folder of stress tests with a checks file was collected, which is not that of the run."""
_NAMED = pytest.StashKey[dict[str, bool]]()
"""The node ids on the command line, if some are in files that ship; of those, True."""


class PackagedTests(pytest.Module):
    """A file that ships, with the node id of a file in the repository's folder, whose conftest applies.

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

    def is_beside_own(self, family: str) -> bool:
        """Return whether the folder has a test of the repository's own of this family."""
        marks = f"@check('{family}'", f'@check("{family}"'
        return any(
            mark in test.read_text("utf-8", "replace")
            for test in self.path.glob("**/*.py")
            for mark in marks
        )

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        """Return the tests of the checks file's checks."""
        rows = self.config.stash[RUN].rows
        return [each for each in super().collect() if _of_check(each, "definition") in rows]


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, object]:
    """Add the files that ship, and that it lacks, to the folder of stress tests, or of the checks file."""
    report = yield
    config, folder, run = collector.config, collector.path, collector.config.stash[RUN]
    if not isinstance(collector, pytest.Directory):
        return report
    if not run.active and folder.name == "stress_tests" and (folder / "checks.toml").is_file():
        config.stash[ELSEWHERE] = True
    if not (run.active and run.checks):
        return report
    if folder.resolve() in {
        (config.rootpath / "stress_tests").resolve(),
        run.checks.path.parent.resolve(),
    }:
        for test in shipped_tests({check.family for check in run.checks.checks}):
            path = folder / test.name
            if not (
                path.exists()
                or collector.ihook.pytest_ignore_collect(collection_path=path, config=config)
            ):
                report.result.append(packaged := PackagedTests.from_parent(collector, path=path))
                packaged.path = folder  # It is there, so pytest finds the conftest that applies.
    return report


def name_folders(early_config: pytest.Config) -> None:
    """Have the folder's conftest loaded at once when a file that ships is named."""
    named = early_config.known_args_namespace.file_or_dir
    named[:] = _places(early_config, named)


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Have the folder collected where a file that ships is named, since pytest knows places on the disk alone."""
    config = session.config
    if (places := _places(config, config.args)) != config.args:
        config.stash[_NAMED] = {}
        for argument, place in zip(config.args, places, strict=True):
            name, *rest = argument.split("::")
            path = os.path.relpath(config.invocation_params.dir / name, config.rootpath).replace(
                os.sep, "/"
            )
            config.stash[_NAMED]["::".join(["" if path == "." else path, *rest])] = (
                argument != place
            )
        config.args = places


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep what is named, and of each check one test: that of the repository, if it has one."""
    first: dict[str, pytest.Item] = {}
    for item in sorted(items, key=lambda item: isinstance(item.parent, PackagedTests)):
        first.setdefault(_of_check(item), item)
    items[:] = [
        item
        for item in items
        if not isinstance(item.parent, PackagedTests) or item is first[_of_check(item)]
    ]
    if named := config.stash.get(_NAMED, {}):
        found = {item: [name for name in named if _is_in(item.nodeid, name)] for item in items}
        if missing := {name for name in named if named[name]}.difference(*found.values()):
            raise pytest.UsageError(f"not found: {', '.join(sorted(missing))}")
        # pytest itself selects what is named elsewhere, such as a package.
        here = tuple(f"{os.path.relpath(each, config.rootpath)}/" for each in _folders(config))
        items[:] = [item for item in items if found[item] or not item.nodeid.startswith(here)]


def _of_check(item: pytest.Item | pytest.Collector, name: str = "id") -> str:
    check = item.callspec.params.get("stress_check") if hasattr(item, "callspec") else None
    return str(getattr(check, name, ""))


def _places(config: pytest.Config, arguments: Sequence[str]) -> list[str]:
    """Return places of tests, with the folder itself in place of a file that ships and is not there."""
    paths = [config.invocation_params.dir / str(each).partition("::")[0] for each in arguments]
    return [
        str(path.parent)
        if path.name in SHIPPED and not path.exists() and path.parent.resolve() in _folders(config)
        else argument
        for path, argument in zip(paths, arguments, strict=True)
    ]


def _folders(config: pytest.Config) -> set[Path]:
    """Return the folders in which files that ship are collected: that of the project, and that of its checks file."""
    named = getattr(config.known_args_namespace, "checks", None)
    own = {(config.invocation_params.dir / str(named)).resolve().parent} if named else set()
    return {(config.rootpath / "stress_tests").resolve()} | own


def _is_in(node_id: str, name: str) -> bool:
    return not name or (
        node_id.startswith(name) and node_id[len(name) :][:1] in {"", "/", ":", "["}
    )
