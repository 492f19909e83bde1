"""Samples that fit into a time: per family, by the loss that it can then still notice, and what that costs."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from harness.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.run.plan import Plan

DEFAULT = 1_800.0
"""Seconds that the gate of a new gates file may take where nobody says otherwise."""
_UNITS = {"s": 1.0, "m": 60.0, "h": 3_600.0}

FALSE_ALARM, POWER, TYPICAL = 0.005 / 12, 0.95, 0.9
"""A family's share of false alarms, the power with which a loss is noticed, and the accuracy it is told for."""
LEAST = 100
"""Images of any family, if there are so many: fewer would notice gross losses alone."""


def noticeable_loss(images: int) -> float:
    """Return the loss of accuracy that a family notices with 95% power on so many images, by the binomial alone.

    (z of the false alarm + z of the power) · sqrt(p (1 - p) / n) at an accuracy p of 90%: what calibration's bounds
    notice when retrains differ by chance only (`harness.calibration.bounds.Calibrated.detects`).
    """
    from scipy.stats import norm

    spread = math.sqrt(TYPICAL * (1 - TYPICAL) / images)
    return float((norm.isf(FALSE_ALARM) + norm.ppf(POWER)) * spread)


def fitting_samples(seconds_per_image: Mapping[str, float], *, images: int, seconds: float) -> dict[str, int]:
    """Return how many images each family may measure so that all fit into the time, without those that keep all.

    `seconds_per_image` is what one image costs a family, under all of its perturbations. The sum of the losses that
    the families notice is as small as it can be: each falls with the root of its number n, so that n goes with the
    cost to the power of -2/3. No family gets more images than there are, nor less than a hundred, though the time may
    then not suffice.
    """
    costs = {family: cost for family, cost in seconds_per_image.items() if cost > 0}
    if sum(costs.values()) * images <= seconds:
        return {}

    def sizes(scale: float) -> dict[str, int]:
        return {
            name: max(min(LEAST, images), min(images, int(scale * cost ** (-2 / 3)))) for name, cost in costs.items()
        }

    low, high = 0.0, images * max(costs.values()) ** (2 / 3)
    for _ in range(60):
        middle = (low + high) / 2
        spent = sum(costs[name] * size for name, size in sizes(middle).items())
        low, high = (middle, high) if spent <= seconds else (low, middle)
    return {name: size for name, size in sizes(low).items() if size < images}


def samples_of(plan: Plan, *, seconds: float, cores: int) -> dict[str, int]:
    """Return the samples with which the planned run fits into so many seconds of this machine, for `[data.samples]`.

    What is cached counts as if it were not, and what self-checks and overview take is set aside.
    """
    from harness.run.plan import CHECKS, OVERVIEW

    costs = plan.costs

    def whole(name: str) -> float:
        asked = plan.asked[name]
        return (asked.poses + asked.cached) * costs.seconds + asked.maps * costs.map_seconds

    besides = sum(whole(name) for name in (CHECKS, OVERVIEW) if name in plan.asked)
    each = {name: whole(name) / plan.images for name in plan.asked if name not in {CHECKS, OVERVIEW}}
    return fitting_samples(each, images=plan.images, seconds=max(seconds * cores - besides, 0))


def seconds_in(text: str, *, name: str) -> float:
    """Return the seconds of a time such as 90s, 20m or 1.5h; raises `InputError`, which names the option."""
    if (found := re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)) is None or float(found[1]) == 0:
        raise InputError(f"{name} {text}: expected a time such as 90s, 20m or 1.5h")
    return float(found[1]) * _UNITS[found[2]]
