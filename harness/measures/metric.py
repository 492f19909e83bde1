"""Metrics, measurements, and the contribution of each image to a measurement."""

from __future__ import annotations

import base64
import io
import math
import zlib
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from harness.base.errors import InputError
from harness.base.records import record
from harness.measures.statistics import (
    Z95,
    count_interval,
    effective_interval,
    mean_interval,
    proportion_interval,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness.data import LabelledImages
    from harness.data.strata import Strata
    from harness.measures.equivalence import Quantity
    from harness.measures.flips import Flips


Direction = Literal["at_least", "at_most"]
"""The good side of a threshold: at least a minimum, or at most a maximum."""


Scale = Literal["plain", "root"]
"""The scale that thresholds are calibrated on."""


class Unit(Enum):
    """Units: a share in [0, 1], a difference of shares, images, a severity, a factor or a score.

    `range` has the least and the greatest possible value.
    """

    SHARE = "share"
    DIFFERENCE = "difference"
    IMAGES = "images"
    DEGREES = "degrees"
    PIXELS = "pixels"
    FACTOR = "factor"
    SCORE = "score"

    @property
    def range(self) -> tuple[float, float]:
        return {Unit.SHARE: (0.0, 1.0), Unit.DIFFERENCE: (-1.0, 1.0)}.get(self, (0.0, math.inf))

    def format(self, value: float, *, decimals: int | None = None) -> str:
        """Return a value as text, such as 87.2% or 12 images; with `decimals` as a plain number.

        Numbers of images are integers in both forms.
        """
        if decimals is None:
            return self._written(value, _FORMS[self][1], plain=False)
        return self._written(value, 0 if self is Unit.IMAGES else decimals, plain=True)

    def told_apart(
        self, value: float, other: float, *, plain: int | None = None
    ) -> tuple[str, str]:
        """Return two values as text, with enough digits to distinguish different ones.

        With `plain`, they are plain numbers with at least that many decimals.
        """
        least = _FORMS[self][1] if plain is None else 0 if self is Unit.IMAGES else plain
        for decimals in range(least, _MOST_DECIMALS):
            first, second = (
                self._written(each, decimals, plain=plain is not None) for each in (value, other)
            )
            if first != second or value == other:
                return first, second
        return repr(value), repr(other)

    def told_from(self, value: float, other: float) -> str:
        """Return a value as text, with enough digits to distinguish it from another one and, if not 0, from 0."""
        return max(self.told_apart(value, other)[0], self.told_apart(value, 0.0)[0], key=len)

    def _written(self, value: float, decimals: int, *, plain: bool) -> str:
        if plain:
            return f"{value:.{decimals}f}"
        scale, _, form = _FORMS[self]
        sign, comma = "+" if self is Unit.DIFFERENCE else "", "," if self is Unit.IMAGES else ""
        number = f"{scale * value:{sign}{comma}.{decimals}f}"
        return form.format(number).removesuffix(
            "s" if form == "{} images" and number == "1" else ""
        )


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
"""Factor, decimals and format of a value as text."""


@dataclass(frozen=True)
class Metric:
    """A metric: its name in the checks file, its unit, and the direction that is better.

    `range` is by default that of the unit. `words` describe it for readers of a report, unless its name does. `about`
    explains a metric without words to those who choose one. `scale` is the scale on which the spread of reference
    models is uniform: plain, or the root for counts of rare events. A `heavy_tailed` metric, such as the logarithm of
    a small mean, takes no part in the search for outliers. A metric may be `about_one` of several, such as the worst
    class. The detail of one that `names_cause` is the likely cause of its failure. One `of_probabilities` measures
    these and no predictions, so the likely cause counts it as confidence. Pictures of one that `leads`, as
    this noun, are the first of a page. An `informational` metric has no threshold from reference models, for this
    reason, and its pictures are always shown. A `weighted` metric is the mean, or the number, of what each image
    contributes, so a sample with strata estimates it; others need all images. A tolerance on a metric that is
    `tolerated_at_first` counts until reference models give a threshold. `at_chance` returns the value of a model that gives each of so many classes the same probability, whatever the image. Declare a metric beside the
    function that computes it. The `direction` of its thresholds, their validation and their calibration follow from it.
    """

    name: str
    unit: Unit
    better: Literal["more", "less"]
    words: str = ""
    about: str = ""
    range: tuple[float, float] = (math.nan, math.nan)
    scale: Scale = "plain"
    heavy_tailed: bool = False
    about_one: bool = False
    names_cause: bool = False
    of_probabilities: bool = False
    leads: str = ""
    informational: str = ""
    weighted: bool = False
    tolerated_at_first: bool = False
    at_chance: Callable[[int], float] | None = None

    def __post_init__(self) -> None:
        if self.better not in {"more", "less"}:
            raise InputError(
                f"metric {self.name}: better is {self.better!r}, expected 'more' or 'less'"
            )
        if self.weighted and self.scale == "root":
            raise InputError(
                f"metric {self.name}: has weighted=True and scale='root', which exclude each other"
            )
        object.__setattr__(self, "unit", Unit(self.unit))
        if math.isnan(self.range[0]):
            object.__setattr__(self, "range", self.unit.range)

    @property
    def direction(self) -> Direction:
        return "at_least" if self.better == "more" else "at_most"

    @property
    def sentence(self) -> str:
        """Return what the metric measures."""
        text = self.about or self.words or "not described: it is declared without words"
        return f"{text[0].upper()}{text[1:].removesuffix('.')}."

    def is_case_of(self, declared: Metric) -> bool:
        """Return whether this is a declared metric; unit, range and words may depend on the case.

        A metric with words must have some in each case, and one without words none.
        """
        unsaid = replace(self, unit=declared.unit, range=declared.range, words=declared.words)
        return unsaid == declared and bool(self.words) == bool(declared.words)

    def worst(self, images: int) -> float:
        """Return the worst possible value for a number of images."""
        low, high = self.range
        return low if self.better == "more" else images if self.unit is Unit.IMAGES else high


def one_in(classes: int) -> float:
    """Return the share of images that a model at chance level predicts correctly."""
    return 1 / classes


@record
class Curve:
    """The curve that a figure draws: `values` at the places `at`, each of so many images; `counts` may be empty.

    Curves of one `name` have the same places or the same bins, whatever the model. An empty bin has None.
    """

    name: str
    at: tuple[float | None, ...]
    values: tuple[float | None, ...]
    counts: tuple[int, ...] = ()


@record
class Sampling:
    """Error of a value by sampling: the variance that the model's own strata hide, and that of a loss of one unit.

    Reference models define the strata, so their values vary less by sampling than those of a candidate.
    """

    hidden: float
    of_loss: float


@dataclass(frozen=True, eq=False)
class Measurement:
    """One number about a model, measured on `n` images, with its 95% confidence interval.

    `counted` is the number of images behind value and interval, if not all n count, for example only those of one
    group. It may depend on the model; n does not. `detail` is a short explanation of the number. `failures` are the
    positions of its images in the predictions, the most telling first. A comparison of two models has a `p_value` and
    the `flips`. `each` has the contribution of each image, in the same order for every model. The value is their mean,
    or their sum if it counts images; calibration estimates the effect of chance from it. `rest` is the value on the
    same clean images, if it was measured. A distance from an original has a `quantity` for a tolerance. The panel keeps
    the `curve` behind the value, if a figure draws it.
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
    curve: Curve | None = None
    sampling: Sampling | None = None

    @property
    def unit(self) -> Unit:
        return self.metric.unit


def share_of(
    metric: Metric, held: np.ndarray, *, images: LabelledImages | None = None, **more: Any
) -> Measurement:
    """Return the share of images with a property, `held` (N,) bool, in [0, 1], with Wilson's interval (Wilson 1927).

    If the N `images` have strata, the share is weighted.
    """
    if images is not None and images.strata is not None:
        return _weighted(metric, held, images.strata, **more)
    right, n = int(held.sum()), len(held)
    return Measurement(
        metric, right / n, n, proportion_interval(right, n), **{"each": held, **more}
    )


def count_of(
    metric: Metric, count: float, n: int, *, images: LabelledImages | None = None, **more: Any
) -> Measurement:
    """Return a number of images among `n`; the interval is that of its rate (Wilson 1927) times the number.

    If the `images` have strata, it is the number of all images that the sample stands for, by what `each` contributes.
    """
    if images is not None and images.strata is not None:
        return _weighted(metric, more.pop("each"), images.strata, **more)
    return Measurement(metric, count, n, count_interval(count, n), **more)


def mean_of(
    metric: Metric,
    values: np.ndarray,
    *,
    n: int | None = None,
    high: float | None = None,
    ddof: int = 0,
    images: LabelledImages | None = None,
    **more: Any,
) -> Measurement:
    """Return the mean of values, one for each image that counts, with its normal 95% interval, see `mean_interval`.

    The `n` images are by default these, and the greatest possible value, `high`, is that of the metric. If the N
    `images` have strata, there is a value for each of them, and the mean is weighted.
    """
    if images is not None and images.strata is not None:
        return _weighted(metric, values, images.strata, **more)
    low, most = metric.range
    interval = mean_interval(values, (low, most if high is None else high), ddof=ddof)
    return Measurement(
        metric, float(values.mean()), n or len(values), interval, **{"each": values, **more}
    )


def mean_over(images: LabelledImages, values: np.ndarray) -> float:
    """Return the mean of a value of each image, (N,), weighted if the images have strata."""
    return float(values.mean()) if images.strata is None else images.strata.mean(values)


def _weighted(metric: Metric, values: np.ndarray, strata: Strata, **more: Any) -> Measurement:
    """Return the weighted mean of the values of all sampled images, (N,), or for counts their number among all images.

    The variance has two parts: that of all images, as without a sample, and that of sampling. The interval of yes-or-no
    values is Wilson's for as many images as have this variance; others are normal.
    """
    value, sampled, n = strata.mean(values), strata.variance(values), len(values)
    spread = strata.mean(np.square(values - value))
    variance = sampled + spread / strata.images
    if values.dtype == np.bool_:
        # No error at all is as likely as if each image had the largest weight.
        low, high = effective_interval(
            value, spread / variance if spread else strata.images / (1 + strata.heaviest)
        )
    else:
        margin = Z95 * math.sqrt(variance)
        low, high = max(value - margin, metric.range[0]), min(value + margin, metric.range[1])
    hidden = sampled - strata.variance(values, own=True)
    most = (
        metric.range[1] if math.isfinite(metric.range[1]) else 1.0
    )  # An image contributes no more.
    of_loss = float(f"{most * strata.heaviest / strata.images:.4g}")  # A checks file has it.
    each, factor = values * strata.weights * n / strata.images, 1
    detail = f"weighted for {strata.images:,} images"
    more["detail"] = "; ".join(filter(None, (more.get("detail"), detail)))
    if metric.unit is Unit.IMAGES:
        factor, each = strata.images, each * strata.images / n
        more |= {"counted": n}
    return Measurement(
        metric,
        value * factor,
        strata.images if factor > 1 else n,
        (low * factor, high * factor),
        **{**more, "each": each, "sampling": Sampling(hidden * factor**2, of_loss * factor)},
    )


def contributions(values: np.ndarray, counted: np.ndarray, n: int) -> np.ndarray:
    """Return the contribution of each of n images to the mean of `values`, the values of the images `counted`.

    By the delta method for a ratio of two means, it is mean + (value - mean) n / m for the m images that count.
    """
    each = np.full(n, values.mean())
    each[counted] += (values - values.mean()) * n / len(values)
    return each


def packed(each: np.ndarray) -> str:
    """Return contributions as text, compressed, with reals and large numbers as float32."""
    content = io.BytesIO()
    np.save(content, each if each.dtype.name in {"bool", "int8"} else each.astype(np.float32))
    return base64.b85encode(zlib.compress(content.getvalue(), 1)).decode()


def unpacked(text: str) -> np.ndarray:
    """Return the contributions that `packed` wrote; raises `InputError` for another text."""
    try:
        return np.asarray(np.load(io.BytesIO(zlib.decompress(base64.b85decode(text)))))
    except (ValueError, EOFError, zlib.error) as error:
        raise InputError(
            f"contributions of images: not readable ({error}); measure again"
        ) from None
