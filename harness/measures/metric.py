"""A metric, a measurement of it, and the contribution of each image to it."""

from __future__ import annotations

import base64
import math
import zlib
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Literal

import numpy as np

from harness.base.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.measures.equivalence import Quantity
    from harness.measures.flips import Flips


Direction = Literal["at_least", "at_most"]
"""On which side of its threshold a measurement must lie: at least a minimum, or at most a maximum."""


Scale = Literal["plain", "root"]
"""The scale that thresholds are calibrated on."""


class Unit(Enum):
    """Units: a share in [0, 1], a difference of shares, images, a severity, a factor or a score."""

    SHARE = "share"
    DIFFERENCE = "difference"
    IMAGES = "images"
    DEGREES = "degrees"
    PIXELS = "pixels"
    FACTOR = "factor"
    SCORE = "score"

    @property
    def range(self) -> tuple[float, float]:
        """Return the least and the greatest value there is."""
        return {Unit.SHARE: (0.0, 1.0), Unit.DIFFERENCE: (-1.0, 1.0)}.get(self, (0.0, math.inf))

    def format(self, value: float, *, decimals: int | None = None) -> str:
        """Return a value as people read it, such as 87.2% or 12 images; with `decimals` as a plain number.

        Images are whole in either form.
        """
        if decimals is not None:
            return f"{value:.0f}" if self is Unit.IMAGES else f"{value:.{decimals}f}"
        return self._written(value, _FORMS[self][1])

    def told_apart(self, value: float, other: float, *, plain: int | None = None) -> tuple[str, str]:
        """Return two values as people read them, different ones in as many digits as it takes to tell them apart.

        With `plain` as plain numbers of at least so many decimals.
        """
        first = _FORMS[self][1] if plain is None else 0 if self is Unit.IMAGES else plain
        for decimals in range(first, _MOST_DECIMALS):
            if plain is None:
                pair = self._written(value, decimals), self._written(other, decimals)
            else:
                pair = f"{value:.{decimals}f}", f"{other:.{decimals}f}"
            if pair[0] != pair[1] or value == other:
                return pair
        return repr(value), repr(other)

    def told_from(self, value: float, other: float) -> str:
        """Return a value as people read it, in as many digits as tell it from another and, if it is not 0, from 0."""
        return max(self.told_apart(value, other)[0], self.told_apart(value, 0.0)[0], key=len)

    def _written(self, value: float, decimals: int) -> str:
        scale, _, form = _FORMS[self]
        return form.format(f"{scale * value:{'+' if self is Unit.DIFFERENCE else ''}.{decimals}f}")


_MOST_DECIMALS = 12

_FORMS: Mapping[Unit, tuple[int, int, str]] = {
    Unit.SHARE: (100, 1, "{}%"),
    Unit.DIFFERENCE: (100, 1, "{} points"),
    Unit.IMAGES: (1, 0, "{} images"),
    Unit.DEGREES: (1, 1, "{}°"),
    Unit.PIXELS: (1, 2, "{} px"),
    Unit.FACTOR: (1, 2, "{} times"),
    Unit.SCORE: (1, 3, "{}"),
}
"""By what a value is multiplied, its decimals, and how it is written, for people."""


@dataclass(frozen=True)
class Metric:
    """A metric: its name in the checks file, its unit, and the direction that is better.

    `range` is that of the unit, if the metric has no narrower one. `words` say what it is to people. `scale` is that on
    which reference models spread evenly: as the values are, or, for counts of rare things, their root. Declare one
    beside the function that computes it; everything else follows from it: on which side of a bound to be, which
    thresholds can fail, and how they are calibrated.
    """

    name: str
    unit: Unit
    better: Literal["more", "less"]
    words: str = ""
    range: tuple[float, float] = (math.nan, math.nan)
    scale: Scale = "plain"

    def __post_init__(self) -> None:
        if self.better not in {"more", "less"}:
            raise InputError(f"metric {self.name}: better is {self.better!r}, expected 'more' or 'less'")
        object.__setattr__(self, "unit", Unit(self.unit))
        if math.isnan(self.range[0]):
            object.__setattr__(self, "range", self.unit.range)

    @property
    def direction(self) -> Direction:
        """Return on which side of its threshold a measurement must lie."""
        return "at_least" if self.better == "more" else "at_most"

    def is_case_of(self, declared: Metric) -> bool:
        """Return whether this is a declared metric, but for what follows from the case: its unit, range and words.

        One that is declared with words has some in each case, and one without has none.
        """
        unsaid = replace(self, unit=declared.unit, range=declared.range, words=declared.words)
        return unsaid == declared and bool(self.words) == bool(declared.words)

    def worst(self, images: int) -> float:
        """Return the worst value that so many images can give."""
        low, high = self.range
        return low if self.better == "more" else images if self.unit is Unit.IMAGES else high


@dataclass(frozen=True, eq=False)
class Measurement:
    """One number about a model, measured on `n` images, with its 95% confidence interval.

    Value and interval are of the images `counted`, where not all n count: those of one group, for instance. Of how many
    that is may depend on the model, n does not.
    `detail` says in a few words what is behind the number. `failures` are the positions, in the predictions, of the
    images to show for it, the most telling first. A comparison of two models has the `p_value` of no difference, and
    the `flips` behind. `each` is what each image contributes, in an order that is the same for every model: their mean
    is the value, their sum if that counts images; from it calibration tells how far chance alone moves the value.
    `rest` is the value on the same images unperturbed, where that was measured too. A distance from an original has the
    `quantity`, which a tolerance needs.
    """

    metric: Metric
    value: float
    n: int
    interval: tuple[float, float]
    detail: str = ""
    failures: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    p_value: float | None = None
    flips: Flips | None = None
    each: np.ndarray | None = None
    rest: float | None = None
    quantity: Quantity | None = None
    counted: int | None = None

    @property
    def unit(self) -> Unit:
        """Return the unit of the value."""
        return self.metric.unit


_KINDS = {"bool": np.bool_, "int8": np.int8, "float32": np.float32}


def contributions(values: np.ndarray, counted: np.ndarray, n: int) -> np.ndarray:
    """Return what each of n images contributes to the mean of `values`, which are those of the images `counted` alone.

    By the delta method (the mean is a ratio of two means): mean + (value - mean) n / m for the m that count.
    """
    each = np.full(n, values.mean())
    each[counted] += (values - values.mean()) * n / len(values)
    return each


def packed(each: np.ndarray) -> str:
    """Return contributions as text: their type, their number, and the values, compressed; reals keep 24 bits."""
    kind = each.dtype.name if each.dtype.name in _KINDS else "float32"
    content = np.packbits(each) if kind == "bool" else each.astype(_KINDS[kind])
    return f"{kind} {len(each)} {base64.b85encode(zlib.compress(content.tobytes(), 1)).decode()}"


def unpacked(text: str) -> np.ndarray:
    """Return the contributions that `packed` wrote, float64; raises `InputError` for another text."""
    try:
        kind, n, packed_values = text.split(" ")
        content = zlib.decompress(base64.b85decode(packed_values))
        values: np.ndarray = np.frombuffer(content, np.uint8 if kind == "bool" else _KINDS[kind])
        if kind == "bool":
            values = np.unpackbits(values, count=int(n))
    except (ValueError, KeyError, zlib.error) as error:
        raise InputError(f"contributions of images: not readable ({error}); measure again") from None
    if len(values) != int(n):
        raise InputError(f"contributions of images: {len(values)} of {n}; measure again")
    return values.astype(np.float64)
