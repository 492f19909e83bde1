"""The parts of an ONNX file at any depth, such as its nodes and its tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def parts_of(message: Any, name: str) -> Iterator[Any]:
    """Yield every part of a message of protocol buffers that has this type, at any depth."""
    for field, value in message.ListFields():
        if field.message_type is None:  # A number or a text.
            continue
        parts: Iterable[Any] = value
        if hasattr(value, "ListFields"):  # One message, not a list of them.
            parts = [value]
        for part in parts:
            if field.message_type.name == name:
                yield part
            yield from parts_of(part, name)
