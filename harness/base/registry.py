"""Tables of what a file or a command line names: own entries, those of features, and the user's."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from harness.base.errors import FeatureError, UserCodeError
from harness.base.features import REMEDY, implementations

if TYPE_CHECKING:
    from harness.base.features import Feature, Implementation

T = TypeVar("T")


@dataclass(frozen=True)
class _OfFeature(Generic[T]):
    """An entry that a feature adds."""

    entry: T
    feature: Feature


@dataclass(frozen=True)
class _Declared(Generic[T]):
    """An entry that the user's code declares, by a function or class in a file."""

    entry: T
    by: str
    file: Path | None


class Registry(Mapping[str, T]):
    """A table of entries by name: the harness's `own`, those of features, and the user's.

    Features add entries of this `kind` by the `hook`, which returns a list of them, or a table of
    them by name. The user's code adds them by `add`. `what` names an entry in messages. An entry of
    a feature whose `before` names another one stands before it.

    Looking up a name, and listing all, raises `FeatureError` where features add entries of the same
    name.
    """

    def __init__(self, what: str, kind: type[T], own: Mapping[str, T], *, hook: str) -> None:
        self.what, self.own, self._kind, self._hook = what, dict(own), kind, hook
        self._declared: dict[str, _Declared[T]] = {}

    @cached_property
    def _of_features(self) -> dict[str, _OfFeature[T]]:
        """Return the entries of features, which are made when a name is first looked up.

        Then all rooms are imported, and a hook may import any of them.
        """
        found: dict[str, _OfFeature[T]] = {}
        for implementation in implementations(self._hook):
            feature = implementation.feature
            for name, entry in self._entries_of(implementation):
                if not isinstance(entry, self._kind):
                    raise FeatureError(
                        f"{feature}: {self._hook} returns {entry!r}, expected a "
                        f"{self._kind.__name__}; {REMEDY}"
                    )
                taken_by = found[name].feature if name in found else None
                if name in self.own or taken_by:
                    other = taken_by or "the harness itself"
                    raise FeatureError(
                        f"{feature}: the {self.what} {name!r} is there already, of {other}; "
                        "rename one of them"
                    )
                found[name] = _OfFeature(entry, feature)
        return found

    def _entries_of(self, implementation: Implementation) -> list[tuple[str, T]]:
        returned = implementation()
        if returned is None:
            return []
        if isinstance(returned, Mapping):
            return [*returned.items()]
        if not isinstance(returned, Iterable):
            raise FeatureError(
                f"{implementation.feature}: {self._hook} returns {returned!r}, expected a list"
            )
        return [(getattr(entry, "name", ""), entry) for entry in returned]

    def add(self, name: str, entry: T, *, declared_by: Any) -> None:
        """Add an entry under a name; `declared_by` is the function or class of the declaration.

        Raises `InputError`, which names both, if the name is taken. The same code may declare it
        again.
        """
        try:
            file = Path(inspect.getfile(declared_by)).resolve()
        except TypeError:  # An object without a file.
            file = None
        by = f"{declared_by.__module__}.{declared_by.__qualname__}" + (f" ({file})" if file else "")
        if self.ships(name):
            raise UserCodeError(
                f"{self.what} {name!r} is declared by {by}, but one of this name ships with the "
                "harness; choose another name"
            )
        if name in self._of_features:
            raise UserCodeError(
                f"{self.what} {name!r} is declared by {by}, and added by "
                f"{self._of_features[name].feature}; choose another name"
            )
        if (old := self._declared.get(name)) and old.by != by:
            raise UserCodeError(
                f"{self.what} {name!r} is declared twice, by {old.by} and by {by}; rename one of "
                "them"
            )
        self._declared[name] = _Declared(entry, by, file)

    def sources(self) -> tuple[Path, ...]:
        """Return the files of code of all declarations."""
        return tuple(sorted({each.file for each in self._declared.values() if each.file}))

    def ships(self, name: str) -> bool:
        """Return whether the entry of this name is the harness's, or of a feature that ships."""
        if name in self.own:
            return True
        added = self._of_features.get(name)
        return added is not None and not added.feature.entry_point

    def __getitem__(self, name: str) -> T:
        """Return the entry of this name; raises `KeyError` for an unknown name."""
        if name in self.own:
            return self.own[name]
        if name in self._of_features:
            return self._of_features[name].entry
        return self._declared[name].entry

    def __iter__(self) -> Iterator[str]:
        names = [*self.own]
        for name, added in self._of_features.items():
            before = getattr(added.entry, "before", "")
            place = names.index(before) if before in names else len(names)
            names.insert(place, name)
        yield from (*names, *self._declared)

    def __len__(self) -> int:
        return len(self.own) + len(self._of_features) + len(self._declared)
