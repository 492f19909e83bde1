"""Domain of the images, as a project declares it.

It is the augmentation range, and the border: the pixels outside an image.
"""

from __future__ import annotations

import math
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from harness.base.errors import PipelineError
from harness.base.records import record

if TYPE_CHECKING:
    from collections.abc import Mapping

BORDERS = ("constant:V", "edge", "reflect", "mean")
"""The forms of a border; V is a gray level from 0, black, to 1, white."""
_CONSTANT = "constant:"


@record
class AugmentationRange:
    """The range in which checks hold a model.

    Each number is a limit on both sides of 0. An axis with the limit 0 is never rotated or shifted
    along.

    Attributes:
        rotate: Degrees.
        shift_x: Pixels to the sides.
        shift_y: Pixels up and down.
        flip: Whether images are flipped horizontally.
    """

    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0
    shift_x: Annotated[float, Field(ge=0)] = 0.0
    shift_y: Annotated[float, Field(ge=0)] = 0.0
    flip: bool = False

    @property
    def shifts(self) -> bool:
        """Return whether images are shifted at all."""
        return bool(self.shift_x or self.shift_y)

    @property
    def moves(self) -> bool:
        """Return whether images are rotated or shifted at all."""
        return bool(self.rotate or self.shifts)

    def in_words(self) -> str:
        """Return the limits of rotation and shift.

        >>> AugmentationRange(10, 2, 2).in_words()
        '±10°, ±2 px'
        >>> AugmentationRange(0, 6, 0).in_words()
        '±6 px to the sides'
        """
        limits = []
        if self.rotate:
            limits.append(f"±{self.rotate:g}°")
        if self.shift_x and self.shift_x == self.shift_y:
            limits.append(f"±{self.shift_x:g} px")
        elif self.shifts:
            limits += self._shifts_by_axis()
        return ", ".join(limits) or "no rotation and no shift"

    def _shifts_by_axis(self) -> list[str]:
        limits = []
        if self.shift_x:
            limits.append(f"±{self.shift_x:g} px to the sides")
        if self.shift_y:
            limits.append(f"±{self.shift_y:g} px up and down")
        return limits


DEFAULT_RANGE = AugmentationRange(rotate=10.0, shift_x=2.0, shift_y=2.0, flip=True)
"""The range of a project that declares none: that of the shipped model."""
DEFAULT_BORDER = "constant:0"


@record
class Domain:
    """The augmentation range and the border, which decide rotated and shifted pixels.

    The border is the text of a setting in its one spelling, see `border_of`.
    """

    augmentation: AugmentationRange = DEFAULT_RANGE
    border: str = DEFAULT_BORDER

    def declared(self) -> dict[str, Any]:
        """Return the entries of a table that say it, without those at their defaults.

        >>> Domain(AugmentationRange(shift_x=6)).declared()
        {'augmentation': {'rotate': 0, 'shift_x': 6, 'shift_y': 0, 'flip': False}}
        """
        entries: dict[str, Any] = {}
        if self.augmentation != DEFAULT_RANGE:
            limits = asdict(self.augmentation)
            entries["augmentation"] = {name: whole(value) for name, value in limits.items()}
        if self.border != DEFAULT_BORDER:
            entries["border"] = self.border
        return entries


def whole(value: float) -> float:
    """Return a number without a fraction as an int, which files show without a point.

    Other numbers, and flags, stay unchanged.
    """
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def border_of(text: str) -> str:
    """Return a border in its one spelling; raises `PipelineError` for any other text.

    >>> border_of("constant:1.0")
    'constant:1'
    """
    if text in BORDERS[1:]:
        return text
    level = constant_level(text)
    if level is None:
        raise PipelineError(
            f"expected {', '.join(BORDERS[:-1])} or {BORDERS[-1]}, "
            "with V from 0 (black) to 1 (white)",
            setting=f"border {text}",
        )
    return f"{_CONSTANT}{whole(level)}"


def constant_level(border: str) -> float | None:
    """Return the gray level of a constant border, from 0 to 1.

    Returns None for another border, and for text that is no such level.
    """
    if not border.startswith(_CONSTANT):
        return None
    try:
        level = float(border.removeprefix(_CONSTANT))
    except ValueError:
        return None
    if not 0 <= level <= 1:
        return None
    return abs(level)  # Without the sign of -0.0.


def range_of(limits: Mapping[str, Any]) -> AugmentationRange:
    """Return the range of a table; a limit that is not named is 0.

    Raises `PipelineError` for an invalid table.

    >>> range_of({"rotate": 10, "flip": True})
    AugmentationRange(rotate=10.0, shift_x=0.0, shift_y=0.0, flip=True)
    """
    names = [item.name for item in fields(AugmentationRange)]
    if not limits:
        raise PipelineError(f"expected some of {', '.join(names)}", setting="augmentation")
    unknown = [name for name in limits if name not in names]
    if unknown:
        raise PipelineError(
            f"unknown key {unknown[0]!r}; expected some of {', '.join(names)}",
            setting=f"augmentation.{unknown[0]}",
        )

    values: dict[str, Any] = {}
    for name, value in limits.items():
        if name == "flip":
            _expect(name, value, "true or false", fits=isinstance(value, bool))
            values[name] = value
            continue
        _expect(name, value, "a number of at least 0", fits=_is_number(value) and value >= 0)
        if name == "rotate":
            _expect(name, value, "at most 180 degrees", fits=value <= 180)  # noqa: PLR2004  Half a turn.
        values[name] = abs(float(value))
    return AugmentationRange(**values)


def _is_number(value: object) -> bool:
    """Return whether a value of a table is a finite number; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value)


def _expect(name: str, value: object, words: str, *, fits: bool) -> None:
    if not fits:
        raise PipelineError(f"expected {words}, found {value!r}", setting=f"augmentation.{name}")


def limits_in(text: str) -> dict[str, Any]:
    """Return the table that a text of pairs stands for, as `init` takes it.

    Raises `PipelineError` for another text.

    >>> limits_in("rotate=10, shift_x=6, flip=false")
    {'rotate': 10, 'shift_x': 6, 'flip': False}
    """
    limits: dict[str, Any] = {}
    for pair in text.split(","):
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not equals or name in limits:
            raise PipelineError(
                'expected each limit once, such as "rotate=10,shift_x=6,flip=false"',
                setting=f"augmentation {text}",
            )
        limits[name] = _value(value)
    range_of(limits)
    return limits


def _value(text: str) -> object:
    if text in {"true", "false"}:
        return text == "true"
    try:
        return whole(float(text))
    except ValueError:
        return text


def domain_in_words(domain: Domain) -> str:
    """Return a domain as text: limits, flips, and the border.

    >>> domain_in_words(Domain())
    'augmentation ±10°, ±2 px, flipped; border constant:0'
    """
    limits = domain.augmentation.in_words()
    if domain.augmentation.flip:
        limits = f"{limits}, flipped"
    return f"augmentation {limits}; border {domain.border}"
