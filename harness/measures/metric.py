"""Metrics, measurements, and the contribution of each image to a measurement."""

from __future__ import annotations

import base64
import io
import math
import zlib
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from harness.base.errors import InputError
from harness.base.records import record
from harness.measures.statistics import (
    Z95,
    count_interval,
    effective_interval,
    mean_interval,
    proportion_interval,
    score_interval,
)

if TYPE_CHECKING:
    from collections.abc import Callable

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

    >>> Unit.SHARE.format(0.8716), Unit.DIFFERENCE.format(-0.012), Unit.IMAGES.format(1)
    ('87.2%', '-1.2 points', '1 image')
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
        if self is Unit.SHARE:
            return 0.0, 1.0
        if self is Unit.DIFFERENCE:
            return -1.0, 1.0
        return 0.0, math.inf

    def format(self, value: float, *, decimals: int | None = None) -> str:
        """Return a value as text, such as 87.2% or 12 images; with `decimals` as a plain number.

        Numbers of images are integers in both forms.
        """
        return self._as_text(value, self._fewest_decimals(decimals), plain=decimals is not None)

    def told_apart(
        self, value: float, other: float, *, plain: int | None = None
    ) -> tuple[str, str]:
        """Return two values as text, with enough digits to distinguish different ones.

        With `plain`, they are plain numbers with at least that many decimals.

        >>> Unit.SHARE.told_apart(0.87214, 0.87211)
        ('87.214%', '87.211%')
        """
        as_plain_numbers = plain is not None
        for decimals in range(self._fewest_decimals(plain), _MOST_DECIMALS):
            first = self._as_text(value, decimals, plain=as_plain_numbers)
            second = self._as_text(other, decimals, plain=as_plain_numbers)
            if first != second or value == other:
                return first, second
        return repr(value), repr(other)

    def told_from(self, value: float, other: float) -> str:
        """Return a value as text, with enough digits to distinguish it from another value.

        They also distinguish it from 0, unless it is 0.
        """
        from_other, _ = self.told_apart(value, other)
        from_zero, _ = self.told_apart(value, 0.0)
        return max(from_other, from_zero, key=len)

    def _fewest_decimals(self, plain: int | None) -> int:
        """Return the decimals of a value with its unit, or of a plain number with so many."""
        if plain is None:
            return _FORMS[self].decimals
        if self is Unit.IMAGES:
            return 0
        return plain

    def _as_text(self, value: float, decimals: int, *, plain: bool) -> str:
        if plain:
            return f"{value:.{decimals}f}"
        form = _FORMS[self]
        number = f"{form.factor * value:{form.flag}.{decimals}f}"
        if self is Unit.IMAGES and number == "1":
            return "1 image"
        return form.text.format(number)


_MOST_DECIMALS = 12


class _Form(NamedTuple):
    """Form of a value as text; `flag` is that of the format specification before the decimals."""

    factor: int
    decimals: int
    text: str
    flag: str = ""


_FORMS = {
    Unit.SHARE: _Form(100, 1, "{}%"),
    Unit.DIFFERENCE: _Form(100, 1, "{} points", flag="+"),
    Unit.IMAGES: _Form(1, 0, "{} images", flag=","),
    Unit.DEGREES: _Form(1, 1, "{}°"),
    Unit.PIXELS: _Form(1, 2, "{} px"),
    Unit.FACTOR: _Form(1, 2, "{} times"),
    Unit.SCORE: _Form(1, 3, "{}"),
}


@dataclass(frozen=True)
class Metric:
    """A metric: its name in the checks file, its unit, and the direction that is better.

    Declare a metric beside the function that computes it. The `direction` of its thresholds, their
    validation and their calibration follow from it.

    >>> CLOSE_CALLS = Metric("close_calls", Unit.SHARE, better="less")
    >>> CLOSE_CALLS.direction, CLOSE_CALLS.range
    ('at_most', (0.0, 1.0))

    Attributes:
        name: The name in the checks file.
        unit: The unit of its values.
        better: Whether more or less is better.
        words: A description for readers of a report, unless the name describes the metric.
        about: An explanation of a metric without words, for those who choose one.
        range: The least and the greatest possible value; by default those of the unit.
        scale: The scale on which the spread of reference models is uniform: plain, or the root for
            counts of rare events.
        heavy_tailed: Whether the metric takes no part in the search for outliers, such as the
            logarithm of a small mean.
        about_one: Whether the value describes one of several, such as the worst class.
        names_cause: Whether the detail is the likely cause of a failure.
        of_probabilities: Whether it measures probabilities and no predictions, so that the likely
            cause counts it as confidence.
        leads: The noun for its pictures, if they are the first of a page.
        informational: The reason why the metric has no threshold from reference models. Its
            pictures are then always shown.
        weighted: Whether the value is the mean, or the number, of what each image contributes, so
            that a sample with strata estimates it. Other metrics need all images.
        tolerated_at_first: Whether a tolerance counts until reference models give a threshold.
        at_chance: Returns, for a number of classes, the value of a model that gives each of them
            the same probability, whatever the image.
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
        if self.better == "more":
            return "at_least"
        return "at_most"

    @property
    def sentence(self) -> str:
        """Return what the metric measures."""
        text = self.about or self.words or "not described: it is declared without words"
        return f"{text[0].upper()}{text[1:].removesuffix('.')}."

    def is_case_of(self, declared: Metric) -> bool:
        """Return whether this is a declared metric; unit, range and words may depend on the case.

        A metric with words must have some in each case, and one without words none.
        """
        alike = replace(self, unit=declared.unit, range=declared.range, words=declared.words)
        return alike == declared and bool(self.words) == bool(declared.words)

    def worst(self, images: int) -> float:
        """Return the worst possible value for a number of images."""
        low, high = self.range
        if self.better == "more":
            return low
        if self.unit is Unit.IMAGES:
            return images
        return high


def one_in(classes: int) -> float:
    """Return the share of images that a model at chance level predicts correctly.

    >>> one_in(10)
    0.1
    """
    return 1 / classes


@record
class Curve:
    """The curve that a figure draws.

    Curves of one `name` have the same places or the same bins, whatever the model.

    Attributes:
        name: The name of the curve.
        at: The places; None for an empty bin.
        values: The value at each place; None for an empty bin.
        counts: The number of images behind each value; may be empty.
    """

    name: str
    at: tuple[float | None, ...]
    values: tuple[float | None, ...]
    counts: tuple[int, ...] = ()


@record
class Sampling:
    """Error of a value by sampling.

    Reference models define the strata, so their values vary less by sampling than those of a
    candidate.

    Attributes:
        hidden: The variance that the model's own strata hide.
        of_loss: The variance of a loss of one unit.
    """

    hidden: float
    of_loss: float


@dataclass(frozen=True, eq=False)
class Measurement:
    """One number about a model, measured on `n` images, with its 95% confidence interval.

    Attributes:
        metric: The metric.
        value: The value, in the unit of the metric.
        n: The number of images, the same for every model.
        interval: The lower and the upper end of the 95% interval.
        detail: A short explanation of the number.
        failures: The positions of its images in the predictions, (M,) int64, the most telling
            first.
        p_value: The p-value of a comparison of two models.
        flips: The changed images of a comparison of two models.
        each: The contribution of each image, (N,), in the same order for every model. The value is
            their mean, or their sum if it counts images; calibration estimates the effect of
            chance from them.
        rest: The value on the same clean images, if it was measured.
        quantity: The quantity that a tolerance judges, for a distance from an original.
        counted: The number of images behind value and interval, if not all n count, for example
            only those of one group. It may depend on the model.
        curve: The curve behind the value, if a figure draws it; the panel keeps it.
        sampling: The error of the value by sampling, for a sample with strata.
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
    """Return the share of images with a property, in [0, 1], with Wilson's interval (Wilson 1927).

    >>> import numpy as np
    >>> CLOSE_CALLS = Metric("close_calls", Unit.SHARE, better="less")
    >>> measured = share_of(CLOSE_CALLS, np.array([True, False, False, False]))
    >>> measured.value, measured.n
    (0.25, 4)

    Args:
        metric: The metric that the share is a value of.
        held: Whether each image has the property, (N,) bool.
        images: The N images; if they have strata, the share is weighted.
        more: Further fields of the measurement; `each` is by default `held`.
    """
    if images is not None and images.strata is not None:
        return _weighted(metric, held, images.strata, **more)
    more.setdefault("each", held)
    count = int(held.sum())
    n = len(held)
    return Measurement(metric, count / n, n, proportion_interval(count, n), **more)


def count_of(
    metric: Metric, count: float, n: int, *, images: LabelledImages | None = None, **more: Any
) -> Measurement:
    """Return a number of images among `n`; the interval is that of its share, times `n`.

    The interval of the share is Wilson's (Wilson 1927).

    Args:
        metric: The metric that the number is a value of.
        count: The number of images; a corrected one need not be whole.
        n: The number of all images.
        images: The n images. If they have strata, the value is the number of all images that the
            sample stands for, by what `each` contributes.
        more: Further fields of the measurement.
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
    """Return the mean of values, one for each image that counts, with its normal 95% interval.

    >>> import numpy as np
    >>> measured = mean_of(Metric("margin", Unit.SCORE, better="more"), np.array([1.0, 2.0]))
    >>> measured.value, measured.n
    (1.5, 2)

    Args:
        metric: The metric that the mean is a value of.
        values: The values, (M,), one for each of the N `images` if these have strata.
        n: The number of images, M by default.
        high: The greatest possible value, that of the metric by default.
        ddof: 1 for the standard deviation of a sample, 0 for that of the population, see
            `mean_interval`.
        images: The images; if they have strata, the mean is weighted.
        more: Further fields of the measurement; `each` is by default `values`.
    """
    if images is not None and images.strata is not None:
        return _weighted(metric, values, images.strata, **more)
    low, greatest = metric.range
    if high is not None:
        greatest = high
    interval = mean_interval(values, (low, greatest), ddof=ddof)
    more.setdefault("each", values)
    return Measurement(metric, float(values.mean()), n or len(values), interval, **more)


def mean_score_of(
    metric: Metric, scores: np.ndarray, *, images: LabelledImages | None = None, **more: Any
) -> Measurement:
    """Return the mean of a score of each image, with the interval of `score_interval`.

    >>> import numpy as np
    >>> measured = mean_score_of(Metric("dice", "share", better="more"), np.array([0.5, 1.0]))
    >>> measured.value, measured.n
    (0.75, 2)

    Args:
        metric: The metric that the mean is a value of.
        scores: The scores, (N,) in [0, 1].
        images: The N images; if they have strata, the mean is weighted.
        more: Further fields of the measurement; `each` is by default `scores`.
    """
    if images is not None and images.strata is not None:
        return _weighted(metric, scores, images.strata, **more)
    more.setdefault("each", scores)
    return Measurement(metric, float(scores.mean()), len(scores), score_interval(scores), **more)


def mean_over(images: LabelledImages, values: np.ndarray) -> float:
    """Return the mean of a value of each image, (N,), weighted if the images have strata."""
    if images.strata is None:
        return float(values.mean())
    return images.strata.mean(values)


def _weighted(metric: Metric, values: np.ndarray, strata: Strata, **more: Any) -> Measurement:
    """Return the weighted mean of the values of all sampled images, (N,).

    For counts, it is their number among all images.
    """
    value = strata.mean(values)
    low, high = _weighted_interval(metric, values, strata)
    hidden = strata.variance(values) - strata.variance(values, own=True)
    of_loss = _sampling_variance_of_loss(metric, strata)

    n = len(values)
    total = n
    factor = 1
    each = values * strata.weights * n / strata.images
    if metric.unit is Unit.IMAGES:
        total = strata.images
        factor = strata.images
        each = each * strata.images / n
        more["counted"] = n

    weighting = f"weighted for {strata.images:,} images"
    if more.get("detail"):
        weighting = f"{more['detail']}; {weighting}"
    more["detail"] = weighting
    more["each"] = each
    more["sampling"] = Sampling(hidden * factor**2, of_loss * factor)
    return Measurement(metric, value * factor, total, (low * factor, high * factor), **more)


def _weighted_interval(metric: Metric, values: np.ndarray, strata: Strata) -> tuple[float, float]:
    """Return the 95% interval of a weighted mean of values, (N,).

    That of yes-or-no values is Wilson's for as many images as have the variance of the mean; others
    are normal.
    """
    mean = strata.mean(values)
    spread = strata.mean(np.square(values - mean))
    # The variance has two parts: that of sampling, and that of all images, as without a sample.
    variance = strata.variance(values) + spread / strata.images

    if values.dtype == np.bool_:
        if spread:
            effective_images = spread / variance
        else:
            # No error at all is as likely as if each image had the largest weight.
            effective_images = strata.images / (1 + strata.heaviest)
        return effective_interval(mean, effective_images)

    margin = Z95 * math.sqrt(variance)
    return max(mean - margin, metric.range[0]), min(mean + margin, metric.range[1])


def _sampling_variance_of_loss(metric: Metric, strata: Strata) -> float:
    """Return the largest variance by sampling of a loss of one unit."""
    most_per_image = 1.0
    if math.isfinite(metric.range[1]):
        most_per_image = metric.range[1]
    exact = most_per_image * strata.heaviest / strata.images
    # A checks file has it, in four digits.
    return float(f"{exact:.4g}")


def contributions(values: np.ndarray, counted: np.ndarray, n: int) -> np.ndarray:
    """Return the contribution of each of n images to a mean over some of them, (n,).

    >>> import numpy as np
    >>> contributions(np.array([1.0, 0.0]), np.array([True, False, True]), 3)
    array([ 1.25,  0.5 , -0.25])

    Args:
        values: The values of the m images that count, (m,).
        counted: The images that count, (n,) bool.
        n: The number of images.
    """
    each = np.full(n, values.mean())
    # The delta method for a ratio of two means: mean + (value - mean) n / m for images that count.
    each[counted] += (values - values.mean()) * n / len(values)
    return each


def packed(each: np.ndarray) -> str:
    """Return contributions as text, compressed, with reals and large numbers as float32."""
    if each.dtype.name not in {"bool", "int8"}:
        each = each.astype(np.float32)
    content = io.BytesIO()
    np.save(content, each)
    return base64.b85encode(zlib.compress(content.getvalue(), 1)).decode()


def unpacked(text: str) -> np.ndarray:
    """Return the contributions that `packed` wrote, (N,).

    >>> import numpy as np
    >>> unpacked(packed(np.array([True, False])))
    array([ True, False])

    Raises:
        InputError: The text is another one.
    """
    try:
        content = zlib.decompress(base64.b85decode(text))
        return np.asarray(np.load(io.BytesIO(content)))
    except (ValueError, EOFError, zlib.error) as error:
        raise InputError(
            f"contributions of images: not readable ({error}); measure again"
        ) from None
