"""Settings in messages and on command lines that may be wrong; `harness.base.groups` defines them."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.base.errors import InputError


def value_behind(arguments: Sequence[str], option: str) -> str | None:
    """Return the last value of an option on a possibly invalid command line; None without one."""
    return next(filter(None, reversed(values_behind(arguments, option))), None)


def values_behind(arguments: Sequence[str], option: str) -> list[str]:
    """Return all values of an option on a possibly invalid command line."""
    parts = [(*each.partition("="), following) for each, following in pairwise((*arguments, ""))]
    return [value if equals else following for given, equals, value, following in parts if given == option]


def told(error: InputError, option: Callable[[str], str]) -> str:
    """Return the message of an error, with the option of its setting in front."""
    name, space, value = error.setting.partition(" ")
    return f"{option(name)}{space}{value}: {error.message}" if name else error.message
