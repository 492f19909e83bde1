"""Features: modules that add to the harness by hooks, shipped or of installed packages.

A feature is a module. Each of its functions with the name of a hook, as
`harness.features.hookspecs` specifies them, is called where that hook says. Features that ship are
packages of `harness.features`, found by their folders: no room imports one by its name. An
installed package names its module in the entry-point group `stress_harness`.
"""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

import pluggy

from harness.base.errors import FeatureError, InputError, foreign_code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import ModuleType

GROUP = "stress_harness"
"""The entry-point group in which an installed package names the module of its feature."""
_PREFIX = "stress_"
REMEDY = "repair or remove the package"
"""The remedy for a feature that cannot be used."""


@dataclass(frozen=True)
class Command:
    """A command of the command line: its `module` has it as `NAME_command`.

    Help lists it by its `purpose`, with the `summary`. One that `judges` a model ends with 4 if it
    has no verdict.
    """

    purpose: str
    module: str
    summary: str
    judges: bool = False


@dataclass(frozen=True)
class Family:
    """Checks of one behavior.

    `measures` says what the checks measure, and `failure` what a failure means. `page` is the
    family's page in docs/, by default the one of its name, or an address. `area` is the title under
    which its failures are counted. An area that `explains` is a likely cause if no rule explains
    the other checks that fail. `cause` is a function of a run's verdicts on the candidate. It
    returns the group, evidence and advice of a cause that the family's checks show, or None. It
    comes before the rules of the report. `starter_checks` makes the checks of a first checks file
    from its `StarterData`; `init` does not offer a family without. `damage` returns a mutant of the
    candidate that a check of the family must fail. A family that `needs_row` is no part of a run
    without one. Nor is one that `needs_role` without a model in that role, unless it has a row.

    `rows` makes rows from the path of a checks file and the file's table of the family's name, or
    None. Their files lie in a folder of that name. `images` opens their images from the checks
    file, the images of the run and its request. Every run measures them whole. It returns None for
    a run without. With `rows`, each row has one, in their order. They are an argument of stress
    tests, `NAME_images`. In the list of families it stands `before` another.
    """

    name: str
    title: str
    measures: str
    failure: str
    page: str = ""
    area: str = ""
    explains: bool = False
    cause: Callable[..., Any] | None = None
    starter_checks: Callable[..., Any] | None = None
    damage: Callable[[], Any] | None = None
    needs_row: bool = False
    needs_role: str = ""
    rows: Callable[..., Any] | None = None
    images: Callable[..., Any] | None = None
    before: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "page", self.page or f"behaviours/{self.name}")


@dataclass(frozen=True)
class Feature:
    """A module with hooks; one of an installed package has an `entry_point`."""

    name: str
    module: ModuleType
    entry_point: str = ""
    """The entry point as text, with package and version; empty for a feature that ships."""

    def __str__(self) -> str:
        return self.entry_point or f"feature {self.name}"

    @property
    def installed_files(self) -> list[Path]:
        """Return the Python files of the installed package; none for a feature that ships.

        Any of them may decide a result, so kept results depend on all.
        """
        if not self.entry_point:
            return []
        package = sys.modules[self.module.__name__.partition(".")[0]]
        places = [Path(place) for place in getattr(package, "__path__", ())]
        files = [file for place in places for file in sorted(place.rglob("*.py"))]
        return files or [Path(str(package.__file__))]

    @property
    def stress_tests(self) -> list[Path]:
        """Return the files of stress tests that ship with it; only a package has some."""
        places = getattr(self.module, "__path__", ())
        return sorted(
            file for place in places for file in Path(place).glob("stress_tests/test_*.py")
        )


@dataclass(frozen=True)
class Implementation:
    """The function of a feature for a hook, with some of the hook's arguments."""

    feature: Feature
    hook: str
    function: Callable[..., Any]
    arguments: tuple[str, ...]

    def __call__(self, **arguments: Any) -> Any:
        """Return what the feature's function returns for its arguments.

        Raises `FeatureError`, which names the entry point, for any other error than `InputError`.
        """
        used = {name: arguments[name] for name in self.arguments}
        if not self.feature.entry_point:
            return self.function(**used)
        try:
            with foreign_code():
                return self.function(**used)
        except InputError:
            raise
        except Exception as error:
            raise FeatureError(f"{self.feature}: {self.hook} raises {error!r}; {REMEDY}") from error


class _Manager(pluggy.PluginManager):
    """Manager that knows implementations by their names, as pytest does, without a mark."""

    def parse_hookimpl_opts(self, plugin: object, name: str) -> pluggy.HookimplOpts | None:
        if not name.startswith(_PREFIX) or not inspect.isroutine(getattr(plugin, name)):
            return None
        return pluggy.HookimplOpts(
            wrapper=False,
            hookwrapper=False,
            optionalhook=False,
            tryfirst=False,
            trylast=False,
            specname=None,
        )

    def add(self, feature: Feature) -> None:
        """Register a feature.

        Raises `FeatureError` for a function that is named after no hook, or has other arguments.
        """
        try:
            self.register(feature.module, feature.name)
            self.check_pending()
        except (ValueError, pluggy.PluginValidationError) as error:
            cause = " ".join(str(error).split())
            raise FeatureError(
                f"{feature}: cannot be registered ({cause}); `stress-harness docs reference/hooks` "
                "lists the hooks"
            ) from None


def features() -> tuple[Feature, ...]:
    """Return the features that are there, in the order of their names, those that ship first.

    Raises `FeatureError`, which names the entry point, for one that cannot be used.
    """
    return _loaded()[1]


@cache
def _loaded() -> tuple[_Manager, tuple[Feature, ...]]:
    """Return all features, with their implementations of hooks."""
    manager = _Manager(GROUP)
    manager.add_hookspecs(import_module("harness.features.hookspecs"))
    found = (*_shipped(), *_installed())
    for feature in found:
        manager.add(feature)
    return manager, found


def _shipped() -> Iterator[Feature]:
    folder = Path(__file__).parents[1] / "features"
    packages = [module.name for module in iter_modules([str(folder)]) if module.ispkg]
    for name in sorted(packages):
        yield Feature(name, import_module(f"harness.features.{name}"))


def _installed() -> Iterator[Feature]:
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        words = _in_words(point)
        try:
            with foreign_code():
                module = point.load()
        except Exception as error:  # The import runs a package's code, which may raise anything.
            raise FeatureError(f"{words}: cannot be loaded ({error!r}); {REMEDY}") from error
        if not inspect.ismodule(module):
            raise FeatureError(f"{words}: names no module, but {module!r}; {REMEDY}")
        yield Feature(point.name, module, words)


def _in_words(point: EntryPoint) -> str:
    package = f"{point.dist.name} {point.dist.version}" if point.dist else "an installed package"
    return f"entry point {point.name} = {point.value} of {package}"


def implementations(hook: str) -> list[Implementation]:
    """Return what each feature does for a hook, in the order of features."""
    manager, found = _loaded()
    by_name = {feature.name: feature for feature in found}
    caller = getattr(manager.hook, hook)
    return [
        Implementation(by_name[each.plugin_name], hook, each.function, each.argnames)
        for each in caller.get_hookimpls()
    ]


def results(hook: str, **arguments: Any) -> list[Any]:
    """Return what features return for a hook, in their order, without None."""
    returned = [implementation(**arguments) for implementation in implementations(hook)]
    return [result for result in returned if result is not None]


def listed(hook: str, **arguments: Any) -> list[Any]:
    """Return the items of the lists that features return for a hook, in their order."""
    return [item for items in results(hook, **arguments) for item in items]


@cache
def families_of_features() -> dict[str, Family]:
    """Return the families that features add, by name; `FAMILIES` has all families."""
    return {family.name: family for family in listed("stress_families")}


def missing_feature(family: str) -> str:
    """Return the feature that ships with a family and is not there; empty for any other family."""
    if family in families_of_features():
        return ""
    catalog: dict[str, str] = import_module("harness.features.catalog").FEATURE_OF_FAMILY
    return catalog.get(family, "")


def families_with_rows() -> dict[str, Callable[..., Any]]:
    """Return the functions that make rows of a table of the checks file, by the family's name."""
    return {
        name: family.rows
        for name, family in families_of_features().items()
        if family.rows is not None
    }


def record_tables(taken: Iterable[str]) -> dict[str, Callable[[], type]]:
    """Return the functions that return the types of features' tables of the checks file, by name.

    Raises `FeatureError`, which names the feature, for a table whose name is `taken`.
    """
    tables: dict[str, Callable[[], type]] = {}
    for implementation in implementations("stress_tables"):
        for name, kind in implementation().items():
            if name in tables or name in taken:
                raise FeatureError(
                    f"{implementation.feature}: the table {name!r} is there already; {REMEDY}"
                )
            tables[name] = kind
    return tables


def record_keys() -> set[str]:
    """Return the keys of `stress.json` under which features have a record."""
    return {key for types in results("stress_record_types") for key in types}
