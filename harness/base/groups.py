"""Groups of settings.

Each setting is a field of a typed model, with its default, bounds and help in one place.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    Self,
    TypeVar,
    Union,
    get_args,
    get_origin,
)

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from harness.base.errors import InputError
from harness.base.records import expectation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pydantic.fields import FieldInfo


_PREFIX = "stress_"
"""Beginning of the names of settings in the result of a parser."""
Part = TypeVar("Part", bound="Settings")
Text = Annotated[str, Field(min_length=1)]
"""A text that is not empty."""


def _place(value: Any) -> Any:
    """Return a path, or a text that is not empty."""
    # Pydantic's own type of a path refuses one with bytes that are no text.
    if not isinstance(value, str | Path):
        raise PydanticCustomError("string_type", "a text")
    if not str(value):
        raise PydanticCustomError("string_too_short", "a text that is not empty")
    return value


Place = Annotated[Any, PlainValidator(_place), PlainSerializer(str)]
"""A path, or a specification of another kind, as a text or a `Path`."""
YES_OR_NO = {"yes": True, "no": False}
"""Words for the values of a setting that is on or off, as lists of settings show them."""


def setting(
    about: str,
    *,
    default: Any = None,
    metavar: str = "",
    line: bool = False,
    reads: bool = False,
    **more: Any,
) -> Any:
    """Return a field with its help, which names other settings without dashes, as in every option.

    A setting of the command `line` changes from run to run; all others stand in the project's
    table. A setting that `reads` may name a file or a folder to read.
    """
    extra: Any = {"metavar": metavar, "line": line, "reads": reads}
    return Field(default, description=about, json_schema_extra=extra, **more)


class Settings(BaseModel):
    """Group of settings; raises `InputError` for an unknown name and an invalid value.

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
        names = [name for name in type(self).model_fields if name in self.model_fields_set]
        return {name: getattr(self, name) for name in names}

    def but(self, **changes: Any) -> Self:
        """Return the settings with other values of these."""
        return type(self)(**{**self.given, **changes})

    def part(self, group: type[Part]) -> Part:
        """Return the values of one of the groups that these settings are made of."""
        values = self.given
        return group(**{name: values[name] for name in values if name in group.model_fields})


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
        return self.metavar or "|".join(map(str, self.choices))


def settings_of(kind: type[Settings]) -> dict[str, Setting]:
    """Return the settings of a model by name, in the order of its groups."""
    settings: dict[str, Setting] = {}
    for group in kind.__mro__:
        if not issubclass(group, Settings):
            continue
        for name in vars(group).get("__annotations__", ()):
            field = kind.model_fields.get(name)
            if field is not None and isinstance(field.json_schema_extra, dict):
                settings[name] = _setting_of(name, field, group)
    return settings


def _setting_of(name: str, field: FieldInfo, group: type[Settings]) -> Setting:
    """Return the setting of a field that `setting` made."""
    extra: Any = field.json_schema_extra
    annotation = _plain_type(field.annotation)
    choices = get_args(annotation) if get_origin(annotation) is Literal else ()
    kind = type(choices[0]) if choices else get_origin(annotation) or annotation
    return Setting(
        name,
        field.description or "",
        group.__name__,
        field.default,
        str if kind is Any else kind,
        choices,
        **extra,
    )


def _plain_type(annotation: Any) -> Any:
    """Return the type behind an annotation; of several types, the first is that of the option."""
    while get_origin(annotation) in {Annotated, Union, UnionType}:
        annotation = get_args(annotation)[0]
    return annotation


def _with_booleans(kind: type[Settings], values: Any) -> Any:
    """Return values with `yes` and `no` of settings that are on or off as booleans."""
    if not isinstance(values, dict):
        return values
    converted = dict(values)
    for name, field in kind.model_fields.items():
        value = values.get(name)
        if field.annotation is bool and isinstance(value, str):
            converted[name] = YES_OR_NO.get(value, value)
    return converted


def _refusal(kind: type[Settings], error: Any) -> InputError:
    """Return the error for the first thing that pydantic refuses, in one sentence."""
    place = error["loc"]
    is_role = place[0] == "roles" and len(place) > 1
    name = str(place[1] if is_role else place[0])
    if error["type"] == "extra_forbidden":
        return unknown(name, settings_of(kind))

    value = error["input"]
    if error["type"] == "literal_error":
        choices = error["ctx"]["expected"].replace(" or ", ", ").replace("'", "")
        return InputError(f"expected one of {choices}", setting=f"{name} {value}")
    shown = f"{value:g}" if isinstance(value, float) else repr(value)
    return InputError(f"expected {expectation(error)}", setting=f"{name} {shown}")


def unknown(name: str, known: Iterable[str]) -> InputError:
    """Return the error for a name that no setting has, with the nearest one."""
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else "`stress-harness list settings` prints all"
    return InputError(f"unknown setting; {hint}", setting=name)


def values_of(pairs: Sequence[str], known: Mapping[str, Setting]) -> dict[str, Any]:
    """Return settings by name from `KEY=VALUE` pairs; `KEY.PART=VALUE` sets one entry of a table.

    Texts do not change, and other values are read as literals. Raises `InputError` for an unknown
    name, and for a name that is set twice.
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        name, dot, part = key.partition(".")
        if not equals or (dot and not part.isidentifier()):
            raise InputError(f"expected KEY=VALUE, found {pair!r}", setting="set")
        if name not in known:
            raise unknown(name, known)

        kind = known[name].type
        table, entry = values, name
        if dot and kind is dict:
            table, entry = values.setdefault(name, {}), part
        if entry in table:
            raise InputError("it is set twice; leave one of them out", setting=key)
        table[entry] = value if kind is str else literal(value)
    return values


def literal(text: str) -> Any:
    """Return the value of a Python literal, or TOML's `true` and `false`; other text unchanged."""
    if text in {"true", "false"}:
        return text == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def pairs_of(values: Mapping[str, Any]) -> list[str]:
    """Return settings as `KEY=VALUE` pairs, which `values_of` reads."""
    pairs: list[str] = []
    for name, value in values.items():
        if isinstance(value, dict):
            pairs += [_pair(f"{name}.{part}", entry) for part, entry in value.items()]
        else:
            pairs.append(_pair(name, value))
    return pairs


def _pair(key: str, value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"{key}={text}"


def add_settings(
    add: Callable[..., Any], settings: Iterable[Setting], option_of: Callable[[str], str]
) -> None:
    """Add an option for each setting to a parser; `values_in` reads the values.

    Args:
        add: `add_argument` of a parser, or `addoption` of a group of pytest's options.
        settings: The settings.
        option_of: Returns the option for the name of a setting.
    """
    for setting in settings:
        details: dict[str, Any] = {"action": "store_true"}
        if not setting.flag:
            details = {
                "type": setting.type,
                "metavar": setting.value,
                "choices": setting.choices or None,
            }
        dest = f"{_PREFIX}{setting.name}"
        add(option_of(setting.name), dest=dest, help=setting.help, default=None, **details)


def values_in(namespace: object) -> dict[str, Any]:
    """Return the given settings by name, from the result of a parser with `add_settings`."""
    return {
        name.removeprefix(_PREFIX): value
        for name, value in vars(namespace).items()
        if name.startswith(_PREFIX) and value is not None
    }
