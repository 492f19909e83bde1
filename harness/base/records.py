"""Records: frozen dataclasses, read and validated from a file or from another process.

The types of a record's annotations are strict: neither text nor a truth value is accepted for a
number. Pydantic validates; the error messages are the harness's own, for the person who corrects
the file.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    TypeVar,
    dataclass_transform,
    get_args,
    get_type_hints,
)

from pydantic import AllowInfNan

from harness.base.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic import TypeAdapter

T = TypeVar("T")

UnboundedFloat = Annotated[float, AllowInfNan()]
"""A number in a record that may be infinite or NaN, also in JSON."""
Unbounded = int | UnboundedFloat
"""The same for values that may be counts."""

_CONFIG: Any = {
    "extra": "forbid",
    "strict": True,
    "allow_inf_nan": False,
    "ser_json_inf_nan": "constants",
}
_EXPECTED = {
    "string_type": "text",
    "string_too_short": "a text that is not empty",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "tuple_type": "a list",
    "dict_type": "a table",
    "too_long": "{max_length} values",
    "too_short": "at least {min_length}",
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "a number of at least {ge:g}",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "a number of at most {le:g}",
}
"""Expectations by pydantic's name of the error; other errors keep pydantic's own text."""
_DIGITS = 19
"""Most digits of a whole number; arithmetic with longer ones may fail."""
_ALTERNATIVES = ("int", "float")
"""Pydantic's names of the two ways to read a number."""


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(kind: type[T]) -> type[T]:
    """Turn a class into a frozen dataclass that `read_record` reads.

    Unknown keys and values of another type are refused. Numbers must be finite, except those of
    type `Unbounded`.
    """
    kind.__pydantic_config__ = _CONFIG  # type: ignore[attr-defined]
    return dataclass(frozen=True)(kind)


def expectation(error: Any) -> str:
    """Return the expectation behind an error of pydantic, such as "a number above 0"."""
    if (form := _EXPECTED.get(error["type"])) is None:
        return str(error["msg"]).removeprefix("Input should be ")
    return form.format(**error.get("ctx", {}))


def _made(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(kind, config=None if is_dataclass(kind) else _CONFIG)


_adapter: Callable[[Any], TypeAdapter[Any]] = cache(_made)


def refusal_of_schema(path: object, found: object, *, expected: int) -> str:
    """Return the message for a file of another schema."""
    return f"{path}: schema {found!r}, and this version reads schema {expected}"


def read_record(
    kind: type[T], plain: Any, *, where: str, name: str = "", error: type[InputError] = InputError
) -> T:
    """Return a table or list of plain values as a record or another type.

    Raises `error` for an invalid one.

    `where` begins the message. The key follows (`name` for a single value), then the value and the
    expectation.
    """
    try:
        # Through JSON, a list may become a tuple and a whole number a float, as in all files of the
        # harness.
        text = json.dumps(plain, default=_refuse)
        json.loads(text, parse_int=_of_64_bits)
        return read_json(kind, text, where=where, name=name, error=error)
    except (TypeError, ValueError, RecursionError) as unreadable:
        raise error(
            f"{where}: {name or 'content'} cannot be read ({unreadable}); expected text, numbers, "
            "lists and tables"
        ) from None


def _refuse(value: Any) -> Any:
    raise TypeError(f"found {value}, a {type(value).__name__}")


def read_json(
    kind: type[T],
    text: str | bytes,
    *,
    where: str,
    name: str = "",
    error: type[InputError] = InputError,
) -> T:
    """Return valid JSON as a record or another type, as `read_record` does."""
    from pydantic import ValidationError

    try:
        value: T = _adapter(kind).validate_json(text)
    except ValidationError as invalid:
        first, *others = invalid.errors(include_url=False)
        # For a number that fits none of several types, an error on finiteness is the most useful
        # one.
        alike: list[Any] = [each for each in others if each["loc"][:-1] == first["loc"][:-1]]
        told = next((each for each in alike if each["type"] == "finite_number"), first)
        raise error(_told(kind, told, [name] * bool(name), where)) from None
    return value


def check_record(value: Any, *, where: str) -> None:
    """Raise `InputError` if a record made in code does not fit its annotations.

    The rules are those of `read_record`.
    """
    from pydantic import ValidationError

    for name, hint in get_type_hints(type(value), include_extras=True).items():
        try:
            _adapter(hint).validate_python(getattr(value, name))
        except ValidationError as invalid:
            raise InputError(
                _told(hint, invalid.errors(include_url=False)[0], [name], where)
            ) from None


def _of_64_bits(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError(f"a whole number of {len(digits)} digits")
    return int(digits)


def as_json(value: Any) -> str:
    """Return a record as JSON that `read_json` turns into an equal one."""
    # pydantic's own JSON has null for an infinite number or NaN in a union, such as `Unbounded`.
    return json.dumps(as_plain(value), separators=(",", ":"), ensure_ascii=False)


def as_plain(value: Any, *, brief: bool = False) -> Any:
    """Return a record in plain types: numbers, text, lists and dicts.

    If `brief`, without fields at their defaults.
    """
    return _adapter(type(value)).dump_python(value, mode="json", exclude_defaults=brief)


def schema_of(kind: type) -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a record as `as_plain` writes it.

    Unlike `read_record`, it accepts unknown keys, because a later version may add some.
    """
    schema: dict[str, Any] = _open(_adapter(kind).json_schema(mode="serialization"))
    return schema


def schemas_of(kinds: Mapping[str, type]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the JSON schemas of several records by name, and the definitions that they share.

    Each schema is as `schema_of` returns it. A record's schema may be a reference to its
    definition. Definitions of one name have their module in it, too.
    """
    from pydantic import TypeAdapter

    inputs: list[Any] = [(name, "serialization", _adapter(kind)) for name, kind in kinds.items()]
    schemas, shared = TypeAdapter.json_schemas(inputs)
    by_name = {name: _open(schema) for (name, _), schema in schemas.items()}
    definitions: dict[str, Any] = _open(shared["$defs"])
    return by_name, definitions


def _open(schema: Any) -> Any:
    """Return a schema that accepts further keys, without the titles that pydantic derives."""
    if isinstance(schema, list):
        return [_open(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    opened = {}
    for name, value in schema.items():
        closed = name == "additionalProperties" and value is False
        derived = name == "title" and isinstance(value, str)
        if not closed and not derived:
            opened[name] = _open(value)
    return opened


def _told(kind: Any, error: Any, path: list[str], where: str) -> str:
    path = path + [str(part) for part in error["loc"] if part not in _ALTERNATIVES]
    *outer, name = path or [""]
    where = ": ".join([where, *outer])
    expected = expectation(error)
    match error["type"]:
        case "unexpected_keyword_argument":
            known = [item.name for item in fields(_within(kind, error["loc"][:-1])) if item.init]
            return f"{where}: unknown key {name!r}; known are {', '.join(sorted(known))}"
        case "missing" if isinstance(error["loc"][-1], int):
            return f"{where} is {error['input']!r}, expected {error['loc'][-1] + 1} values or more"
        case "missing" | "missing_argument":
            return f"{where}: key {name!r} is missing"
        case "dataclass_type" | "dict_type":
            return (
                f"{': '.join([where, name] if name else [where])}: expected a table, found "
                f"{error['input']!r}"
            )
        case "int_type" if not {*_ALTERNATIVES}.isdisjoint(error["loc"]):
            expected = "a number"
    return f"{where}: {name} is {error['input']!r}, expected {expected}"


def _within(kind: Any, path: tuple[Any, ...]) -> Any:
    """Return the type of the record at this path inside another."""
    for name in path:
        if is_dataclass(kind):
            hint = get_type_hints(kind).get(str(name))
            kind = next((each for each in (hint, *get_args(hint)) if is_dataclass(each)), kind)
    return kind
