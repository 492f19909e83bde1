"""Registry of things by name: shipped ones, and those that the user's code or an installed package declares."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar

from harness.base.errors import InputError, UserCodeError, foreign_code

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """A table of things by name, first those that ship, to which the user's code may add.

    `what` names the kind of things in messages. An installed package lists its declaring modules in the entry point
    group `group`. The registry imports them for a name that does not ship, and for a list of all names.
    """

    def __init__(self, what: str, shipped: Mapping[str, T], *, group: str) -> None:
        self.what, self.group, self.shipped = what, group, shipped
        self._added: dict[str, tuple[T, str, Path | None]] = {}
        self._loaded = False

    def add(self, name: str, thing: T, *, declared_by: Any) -> None:
        """Add a thing under a name; `declared_by` is the function or class of the declaration.

        Raises `InputError`, which names both, if the name is taken. The same code may declare it again.
        """
        try:
            file = Path(inspect.getfile(declared_by)).resolve()
        except TypeError:  # An object without a file.
            file = None
        by = f"{declared_by.__module__}.{declared_by.__qualname__}" + (f" ({file})" if file else "")
        if name in self.shipped:
            raise UserCodeError(
                f"{self.what} {name!r} is declared by {by}, but one of this name ships with the harness; choose "
                "another name"
            )
        if (old := self._added.get(name)) and old[1] != by:
            raise UserCodeError(f"{self.what} {name!r} is declared twice, by {old[1]} and by {by}; rename one of them")
        self._added[name] = thing, by, file

    def sources(self) -> tuple[Path, ...]:
        """Return the files of code of all declarations, including whole packages with an entry point.

        Any module of such a package may affect the declared things.
        """
        self._load()
        files = {file for _, _, file in self._added.values() if file}
        for point in entry_points(group=self.group):
            top = sys.modules.get(point.module.partition(".")[0])
            for place in map(Path, [getattr(top, "__file__", None) or "", *getattr(top, "__path__", ())]):
                files |= {place} if place.is_file() else set(place.rglob("*.py"))
        return tuple(sorted(files))

    def __getitem__(self, name: str) -> T:
        """Return the thing of this name; raises `KeyError` for an unknown name."""
        if name in self.shipped:
            return self.shipped[name]
        if name not in self._added:
            self._load()
        return self._added[name][0]

    def __iter__(self) -> Iterator[str]:
        self._load()
        yield from (*self.shipped, *self._added)

    def __len__(self) -> int:
        self._load()
        return len(self.shipped) + len(self._added)

    def _load(self) -> None:
        """Import the modules of installed packages once; raises `InputError` if an import fails."""
        if self._loaded:
            return
        self._loaded = True
        for point in entry_points(group=self.group):
            try:
                with foreign_code():
                    point.load()
            except InputError:
                raise
            except Exception as error:
                package = point.dist.name if point.dist else "an installed package"
                raise UserCodeError(
                    f"entry point {point.name} = {point.value} of {package} ({self.group}): cannot be loaded "
                    f"({error!r}); repair or remove the package"
                ) from None
