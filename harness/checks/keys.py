"""The keys that a stress test's rows have besides those of all rows: declared by the test, with type and words."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from harness.base.records import read_record
from harness.checks.check import COMMON_KEYS, Check, ChecksError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path


Share = Annotated[float, Field(ge=0, le=1)]
"""The type of a key that holds a number from 0 to 1."""


def one_of(names: Iterable[str]) -> Any:
    """Return the type of a key that holds one of these names, such as those of a table."""
    return Literal[tuple(names)]


@dataclass(frozen=True)
class Key:
    """What a row's own key may be, and what it says.

    `kind` is a type: `str`, `float`, `tuple[str, str]`, `Literal["wrong"]`, a frozen dataclass such as `Pose`, or one
    with limits as pydantic knows them, `Annotated[float, Field(ge=0, le=1)]`. `words` say in the report what a value
    means: text with a place for it, such as "fog of density {:.0%}", or a function of it.
    """

    kind: Any
    words: str | Callable[[Any], str] = "{}"

    def said(self, value: Any) -> str:
        """Return what a value means in words."""
        return self.words.format(value) if isinstance(self.words, str) else self.words(value)


def declared_keys(keys: Mapping[str, Any], *, test: str) -> dict[str, Key]:
    """Return what a test declares, by name; a type alone stands for a key of this type.

    Raises `ChecksError`, which names the test, for a name that means something else of every row.
    """
    if taken := sorted(set(keys) & {*COMMON_KEYS, *(item.name for item in fields(Check)), *dir(Check)}):
        raise ChecksError(
            f"{test} declares a key {taken[0]!r}, but every row has something of this name; name the key otherwise"
        )
    return {name: key if isinstance(key, Key) else Key(key) for name, key in keys.items()}


def with_keys(check: Check, declared: Mapping[str, Key], *, path: Path, test: str) -> Check:
    """Return a row with the keys that its test declares read; one that it leaves out is None.

    Raises `ChecksError`, which names file, row and test, for a key of another type, and for one that is not declared.
    """
    where = f"{path}: check {check.id!r} of {test}"
    if unknown := sorted(set(check.keys) - set(declared)):
        names = ", ".join(sorted(declared)) or "none"
        raise ChecksError(
            f"{where}: unknown key {unknown[0]!r}; known are {', '.join(sorted(COMMON_KEYS))}, and what the test "
            f"declares: {names}"
        )
    values, words = {}, []
    for name, key in declared.items():
        given = check.keys.get(name)
        values[name] = (
            None if given is None else read_record(key.kind, given, where=where, name=name, error=ChecksError)
        )
        if given is not None:
            words.append(key.said(values[name]))
    return replace(check, keys=values, words=tuple(words))
