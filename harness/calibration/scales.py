"""The scale that a row's bound is calibrated on: values as they are, or the root of a count of rare things."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.calibration.panel import Row
    from harness.measures.metric import Scale


def on_scale(values: np.ndarray, scale: Scale) -> np.ndarray:
    """Return values on a scale; on that of roots 2 sqrt(x + 3/8), x at least 0 (Anscombe 1948, equation 1.1).

    Counts are skewed to the right, the more so the rarer what they count; their roots are not, and those of Poisson's
    counts have a standard deviation of 1, whatever their mean.
    """
    return 2 * np.sqrt(np.maximum(values, 0) + 3 / 8) if scale == "root" else values


def off_scale(value: float, scale: Scale) -> float:
    """Return the value that is this on the scale; on that of roots the least is 0."""
    return max((max(value, 0.0) / 2) ** 2 - 3 / 8, 0.0) if scale == "root" else value


def on_scales(values: np.ndarray, rows: Sequence[Row]) -> np.ndarray:
    """Return the values of rows, (..., rows), each on its row's scale."""
    return np.stack([on_scale(values[..., at], row.scale) for at, row in enumerate(rows)], axis=-1)
