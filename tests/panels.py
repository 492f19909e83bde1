"""Panels of healthy retrains for tests, made of a matrix of values."""

import numpy as np

from harness.calibration.panel import Member, Panel, Row
from harness.measures import Unit


def row(name: str, *, family: str = "rotation", unit: str = "share", n: int = 10_000, direction: str = "") -> Row:
    """Return a row that a metric of this unit has; failures are counted up to a ceiling."""
    metric = {"share": "accuracy", "difference": "accuracy_gain", "images": "pair_failures"}[unit]
    return Row(name, family, metric, Unit(unit), direction or ("at_most" if unit == "images" else "at_least"), n)


def panel_of(values, rows=None, **facts) -> Panel:
    """Return the panel of these values, (members, rows); rows default to accuracies r0, r1, … of one family."""
    values = np.asarray(values, dtype=float)
    values = values[:, None] if values.ndim == 1 else values
    rows = tuple(rows or (row(f"r{number}", **facts) for number in range(values.shape[1])))
    members = tuple(
        Member(f"seed-{seed:03}.safetensors", f"{seed:064x}", seed, dict(zip((r.id for r in rows), line, strict=True)))
        for seed, line in enumerate(values.tolist(), start=1)
    )
    return Panel("abc", 1, {"epochs": 20, "augment": True}, rows, members)


def spread_evenly(mean: float, std: float, count: int = 20) -> np.ndarray:
    """Return values with exactly this mean and standard deviation, as regular as a healthy panel can be."""
    steps = np.linspace(-1, 1, count)
    return mean + std * steps / steps.std(ddof=1)
