"""Settings: one table defines the options of pytest and of the commands, and the arguments in Python."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from numbers import Integral, Real
from os import PathLike
from typing import TYPE_CHECKING, Any

from harness.base.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence


@dataclass(frozen=True)
class Setting:
    """One setting: its `name`, such as `model-arg`, and the properties of its option.

    `help` refers to other settings by name, without dashes, so one text fits pytest, the commands and Python. `group`
    is its topic. A `multiple` setting may be repeated and has a list of values; a `flag` has no value. A setting that
    `reads` may name a file or a folder to read. The value of a `blank` one may be empty.
    """

    name: str
    help: str
    group: str
    default: Any = None
    type: Callable[[str], Any] = str
    choices: tuple[Any, ...] = ()
    metavar: str = ""
    multiple: bool = False
    flag: bool = False
    reads: bool = False
    blank: bool = False

    @property
    def argument(self) -> str:
        """Return the name of the argument in Python, such as `model_arg`."""
        return self.name.replace("-", "_")


_KINDS: dict[Any, Any] = {bool: bool, int: Integral, float: Real, list: list | tuple}
_WORDS = {bool: "True or False", int: "an integer", float: "a number", list: "a list of texts"}
"""The types in Python of a setting's value, and their names in messages; all others are texts or paths."""


def expect_typed(values: Mapping[str, Any], settings: Iterable[Setting]) -> None:
    """Raise `InputError` for a value of another type than its setting's, an empty text, and one that is no choice."""
    for setting in settings:
        kind: Any = list if setting.multiple else bool if setting.flag else setting.type
        value = values[setting.name]
        right = isinstance(value, _KINDS.get(kind, str | PathLike)) and isinstance(value, bool) == setting.flag
        if (value == "" and not setting.blank) or not (right or value is setting.default is None):
            words = _WORDS.get(kind, "a text that is not empty")
            raise InputError(f"expected {words}, found {value!r}", setting=setting.name)
        if setting.choices and value is not None and value not in setting.choices:
            known = ", ".join(map(str, setting.choices))
            raise InputError(f"expected one of {known}", setting=f"{setting.name} {value}")


def option_of_command(name: str) -> str:
    """Return the option of the commands for a setting: `--size`."""
    return f"--{name}"


def value_behind(arguments: Sequence[str], option: str) -> str | None:
    """Return the last value of an option on a possibly invalid command line; None without one."""
    found = None
    for each, following in pairwise((*arguments, "")):
        given, equals, value = each.partition("=")
        if given == option:
            found = (value if equals else following) or found
    return found


def told(error: InputError, option: Callable[[str], str]) -> str:
    """Return the message of an error, with the option of its setting in front."""
    name, space, value = error.setting.partition(" ")
    return f"{option(name)}{space}{value}: {error.message}" if name else error.message


def options_of(
    values: Mapping[str, Any], settings: Iterable[Setting], option_of: Callable[[str], str]
) -> list[tuple[str, ...]]:
    """Return options with their values for the settings that differ from the default."""
    given: list[tuple[str, ...]] = []
    for setting in settings:
        value, option = values.get(setting.name, setting.default), option_of(setting.name)
        if setting.multiple:
            given += [(option, str(each)) for each in value or ()]
        elif setting.flag:
            given += [(option,)] if value else []
        elif value != setting.default:
            given.append((option, str(value)))
    return given


def with_defaults(values: Mapping[str, Any], settings: Iterable[Setting]) -> dict[str, Any]:
    """Return the value of each setting by its name: the given one, or else its default."""
    return {setting.name: values.get(setting.name, setting.default) for setting in settings}


def add_settings(add: Callable[..., Any], settings: Iterable[Setting], option_of: Callable[[str], str]) -> None:
    """Add an option for each setting, by a parser's `add_argument` or a pytest group's `addoption`.

    The parser stores its value as `stress_` and the name; see `values_in`.
    """
    for setting in settings:
        how: dict[str, Any] = {"dest": f"stress_{setting.argument}", "help": setting.help, "default": setting.default}
        if setting.flag:
            how |= {"action": "store_true", "default": False}
        else:
            how |= {"type": setting.type, "metavar": setting.metavar or None, "choices": setting.choices or None}
        if setting.multiple:
            how |= {"action": "append", "default": list(setting.default or ())}
        add(option_of(setting.name), **how)


def values_in(namespace: object) -> dict[str, Any]:
    """Return the values of the settings by name, from the result of a parser with `add_settings`."""
    found = vars(namespace).items()
    return {name.removeprefix("stress_").replace("_", "-"): at for name, at in found if name.startswith("stress_")}
