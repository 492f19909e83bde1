"""Things by name: those that ship, and those that user code declares, by itself or through an installed package."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

from harness.base.errors import InputError, foreign_code

T = TypeVar("T")


@dataclass(frozen=True)
class _Declared(Generic[T]):
    thing: T
    by: str
    file: Path | None


class Registry(Mapping[str, T]):
    """A table of things by name, which user code adds to.

    `what` says in messages what the things are. An installed package names the modules that declare some in its entry
    point group `group`; they are imported when a name is looked up that does not ship, or all names are asked for.
    """

    def __init__(self, what: str, shipped: Mapping[str, T], *, group: str) -> None:
        self.what, self.group, self.shipped = what, group, shipped
        self._added: dict[str, _Declared[T]] = {}
        self._loaded = False

    def add(self, name: str, thing: T, *, declared_by: object) -> None:
        """Add a thing under a name; `declared_by` is the function or class that it stands for.

        Raises `InputError` for a name that something else has, and names both. The same code may say it again.
        """
        new = _Declared(thing, _said_of(declared_by), _file_of(declared_by))
        if name in self.shipped:
            raise InputError(
                f"{self.what} {name!r} is declared by {new.by}, and one of this name ships with the harness; name "
                "yours otherwise"
            )
        if (old := self._added.get(name)) and (old.by, old.file) != (new.by, new.file):
            raise InputError(
                f"{self.what} {name!r} is declared twice, by {old.by} and by {new.by}; name one of them otherwise"
            )
        self._added[name] = new

    def sources(self) -> tuple[Path, ...]:
        """Return the files of code of the packages that declare some of these through an entry point, and their own.

        All of a package, since any of its modules may decide.
        """
        self._load()
        files: set[Path] = set()
        for point in entry_points(group=self.group):
            top = sys.modules.get(point.module.partition(".")[0])
            for place in map(Path, [getattr(top, "__file__", None) or "", *getattr(top, "__path__", ())]):
                files |= {place} if place.is_file() else set(place.rglob("*.py"))
        return tuple(sorted(files | {each.file for each in self._added.values() if each.file}))

    def __getitem__(self, name: str) -> T:
        """Return the thing of this name; raises `KeyError` where there is none."""
        if name in self.shipped:
            return self.shipped[name]
        if name not in self._added:
            self._load()
        return self._added[name].thing

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names: those that ship, then those added."""
        self._load()
        yield from (*self.shipped, *self._added)

    def __len__(self) -> int:
        """Return how many there are."""
        self._load()
        return len(self.shipped) + len(self._added)

    def _load(self) -> None:
        """Import the modules that installed packages name, once; raises `InputError` for one that cannot be."""
        if self._loaded:
            return
        self._loaded = True
        for point in entry_points(group=self.group):
            _import(point)


def _import(point: EntryPoint) -> None:
    try:
        with foreign_code():
            point.load()
    except InputError:
        raise
    except Exception as error:
        package = point.dist.name if point.dist else "an installed package"
        raise InputError(
            f"entry point {point.name} = {point.value} of {package} ({point.group}): cannot be loaded ({error!r}); "
            "mend or remove the package"
        ) from None


def _file_of(declared_by: Any) -> Path | None:
    try:
        return Path(inspect.getfile(declared_by)).resolve()
    except TypeError:  # What has no file of its own.
        return None


def _said_of(declared_by: Any) -> str:
    name = f"{declared_by.__module__}.{declared_by.__qualname__}"
    file = _file_of(declared_by)
    return f"{name} ({file})" if file else name
