"""Keys of a check that its own stress test declares: name, type and words; and values as the checks file has them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, TypeVar

from pydantic import Field

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")

Share = Annotated[float, Field(ge=0, le=1)]
"""Type of a key that holds a number from 0 to 1."""


def one_of(names: Iterable[str]) -> Any:
    """Return the type of a key that holds one of these names."""
    return Literal[tuple(names)]


@dataclass(frozen=True)
class Key(Generic[T]):
    """Key of a family's checks: its name in the checks file, its type, and the words for its value.

    `kind` is a type: `str`, `float`, `tuple[str, str]`, `Literal["wrong"]`, a frozen dataclass such as `Pose`, or one
    with limits as in pydantic, `Annotated[float, Field(ge=0, le=1)]`. `words` are for the report: a format string for
    the value, such as "fog of density {:.0%}", or a function of it. A stress test declares the key in `@check("fog",
    DENSITY)` and reads its value as `stress_check[DENSITY]`.
    """

    name: str
    kind: type[T] | Any
    words: str | Callable[[Any], str] = "{}"

    def said(self, value: Any) -> str:
        """Return the words for a value."""
        return self.words.format(value) if isinstance(self.words, str) else self.words(value)


def in_toml(value: object) -> str:
    """Return text, a number, or a list or table of these in TOML."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {in_toml(each)}" for key, each in value.items()) + " }"
    # TOML writes strings, numbers and lists as JSON does, but escapes unprintable characters differently.
    text = json.dumps(value, ensure_ascii=False)
    return "".join(each if each.isprintable() else f"\\U{ord(each):08x}" for each in text)
