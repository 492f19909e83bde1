"""Groups of settings: each setting is a field of a typed model, with its default, bounds and help in one place."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from harness.base.errors import InputError
from harness.base.records import expectation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence


Part = TypeVar("Part", bound="Settings")
Text = Annotated[str, Field(min_length=1)]
"""A text that is not empty."""


def _place(value: Any) -> Any:
    """Return a path or a text that is not empty; a path may have bytes that are no text, which pydantic refuses."""
    if not isinstance(value, str | Path):
        raise PydanticCustomError("string_type", "a text")
    if not str(value):
        raise PydanticCustomError("string_too_short", "a text that is not empty")
    return value


Place = Annotated[
    Any, PlainValidator(_place), PlainSerializer(str), WithJsonSchema({"type": "string"})
]
"""A path, or a specification of another kind, as a text or a `Path`."""
YES_OR_NO = {"yes": True, "no": False}
"""Words for the values of a setting that is on or off, as lists of settings show them."""
_TYPES: dict[str, type] = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "object": dict,
}


def setting(
    about: str,
    *,
    default: Any = None,
    metavar: str = "",
    line: bool = False,
    reads: bool = False,
    **more: Any,
) -> Any:
    """Return a field with its help, which refers to other settings by name, so one text fits every surface.

    A setting of the command `line` changes from run to run; all others stand in the project's table. One that `reads`
    may name a file or a folder to read.
    """
    extra: Any = {"metavar": metavar, "line": line, "reads": reads}
    return Field(default, description=about, json_schema_extra=extra, **more)


class Settings(BaseModel):
    """Group of settings; raises `InputError` for a value of another type, or beyond its bounds, and an unknown name.

    `given` are the values that were given; all others have their defaults.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=()
    )

    @model_validator(mode="wrap")
    @classmethod
    def _refused_in_one_sentence(cls, values: Any, read: Any) -> Any:
        try:
            return read(_with_booleans(cls, values))
        except ValidationError as invalid:
            raise _refusal(cls, invalid.errors(include_url=False)[0]) from None

    @property
    def given(self) -> dict[str, Any]:
        return {
            name: getattr(self, name)
            for name in type(self).model_fields
            if name in self.model_fields_set
        }

    def but(self, **changes: Any) -> Self:
        """Return the settings with other values of these."""
        return type(self)(**{**self.given, **changes})

    def part(self, group: type[Part]) -> Part:
        """Return the values of one of the groups that these settings are made of."""
        return group(
            **{name: value for name, value in self.given.items() if name in group.model_fields}
        )


@dataclass(frozen=True)
class Setting:
    """A setting as options are made of it; `group` is the class that defines it.

    A `flag` has no value on a command line. `value` is a word for its values, or all of them; empty
    for a flag that stands on the command line alone.
    """

    name: str
    help: str
    group: str
    default: Any = None
    type: type = str
    choices: tuple[Any, ...] = ()
    metavar: str = ""
    line: bool = False
    reads: bool = False

    @property
    def flag(self) -> bool:
        return self.type is bool

    @property
    def value(self) -> str:
        if self.flag:
            return "" if self.line else "|".join(YES_OR_NO)
        return self.metavar or "|".join(map(str, self.choices)) or self.type.__name__


def settings_of(kind: type[Settings]) -> dict[str, Setting]:
    """Return the settings of a model by name, in the order of its groups."""
    schema, found = kind.model_json_schema()["properties"], {}
    for group in (base for base in kind.__mro__ if issubclass(base, Settings)):
        for name in (
            each
            for each in vars(group).get("__annotations__", ())
            if "line" in schema.get(each, ())
        ):
            field = schema[name]
            first = field.get("anyOf", [field])[
                0
            ]  # Of several types, the first is that of the option.
            about, default, choices = (
                field["description"],
                field.get("default"),
                tuple(first.get("enum", ())),
            )
            more = {key: field[key] for key in ("metavar", "line", "reads")}
            found[name] = Setting(
                name, about, group.__name__, default, _TYPES[first["type"]], choices, **more
            )
    return found


def _with_booleans(kind: type[Settings], values: Any) -> Any:
    """Return values with those of settings that are on or off as booleans, though given as yes or no."""
    if not isinstance(values, dict):
        return values
    flags = {name for name, field in kind.model_fields.items() if field.annotation is bool}
    return {
        name: YES_OR_NO.get(value, value) if name in flags and isinstance(value, str) else value
        for name, value in values.items()
    }


def _refusal(kind: type[Settings], error: Any) -> InputError:
    """Return the error for the first thing that pydantic refuses, in one sentence."""
    inside = error["loc"][0] == "roles" and len(error["loc"]) > 1
    name, value = str(error["loc"][1 if inside else 0]), error["input"]
    if error["type"] == "extra_forbidden":
        return unknown(name, settings_of(kind))
    words, shown = expectation(error), f"{value:g}" if isinstance(value, float) else repr(value)
    if error["type"] == "literal_error":
        words = "one of " + error["ctx"]["expected"].replace(" or ", ", ").replace("'", "")
        shown = str(value)
    return InputError(f"expected {words}", setting=f"{name} {shown}")


def unknown(name: str, known: Iterable[str]) -> InputError:
    """Return the error for a name that no setting has, with the nearest one."""
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else "`stress-harness list settings` prints all"
    if name == "mlflow":  # A setting of earlier versions.
        hint = "`stress-harness docs history#mlflow` has a recipe in its place"
    return InputError(f"unknown setting; {hint}", setting=name)


def values_of(pairs: Sequence[str], known: Mapping[str, Setting]) -> dict[str, Any]:
    """Return settings by name from `KEY=VALUE` pairs; `KEY.PART=VALUE` sets one entry of a table.

    Texts do not change, and other values are read as literals. Raises `InputError` for an unknown name and for one
    that is set twice.
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        name, dot, part = key.partition(".")
        if not equals or (dot and not part.isidentifier()):
            raise InputError(f"expected KEY=VALUE, found {pair!r}", setting="set")
        if name not in known:
            raise unknown(name, known)
        table = values.setdefault(name, {}) if dot and known[name].type is dict else values
        entry = part if table is not values else name
        if entry in table:
            raise InputError("it is set twice; leave one of them out", setting=key)
        table[entry] = value if known[name].type is str else literal(value)
    return values


def literal(text: str) -> Any:
    """Return the value of a Python literal, or TOML's `true` and `false`; any other text unchanged."""
    try:
        return (
            {"true": True, "false": False}[text]
            if text in {"true", "false"}
            else ast.literal_eval(text)
        )
    except (ValueError, SyntaxError):
        return text


def pairs_of(values: Mapping[str, Any]) -> list[str]:
    """Return settings as `KEY=VALUE` pairs, which `values_of` reads."""
    pairs: list[str] = []
    for name, value in values.items():
        parts = (
            {f"{name}.{key}": each for key, each in value.items()}
            if isinstance(value, dict)
            else {name: value}
        )
        pairs += [
            f"{key}={str(each).lower() if isinstance(each, bool) else each}"
            for key, each in parts.items()
        ]
    return pairs


def add_settings(
    add: Callable[..., Any], settings: Iterable[Setting], option_of: Callable[[str], str]
) -> None:
    """Add an option for each setting by a parser's `add_argument` or a pytest group's `addoption`; see `values_in`."""
    for each in settings:
        how: dict[str, Any] = {"dest": f"stress_{each.name}", "help": each.help, "default": None}
        if each.flag:
            how |= {"action": "store_true"}
        else:
            how |= {
                "type": each.type,
                "metavar": each.metavar or None,
                "choices": each.choices or None,
            }
        add(option_of(each.name), **how)


def values_in(namespace: object) -> dict[str, Any]:
    """Return the values of the settings that were given, by name, from the result of a parser with `add_settings`."""
    found = vars(namespace).items()
    return {
        name.removeprefix("stress_"): at
        for name, at in found
        if name.startswith("stress_") and at is not None
    }
