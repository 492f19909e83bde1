"""Panels of reference models for tests, made of a matrix of values."""

import tomllib

import numpy as np

from harness.base.records import read_record
from harness.calibration.panel import Panel, ReferenceModel
from harness.calibration.thresholds import check_panel, thresholds_of
from harness.checks import Check
from harness.checks.rows import COMMON_KEYS
from harness.measures import METRICS, Unit
from harness.measures.panel.predictions import LIKELIEST, NOT_ASKED, PanelView
from harness.measures.panel.threshold import Calibrated, PanelCheck, least_of, on_scale


def check(
    name: str,
    *,
    family: str = "rotation",
    unit: str = "share",
    n: int = 10_000,
    direction: str = "",
) -> PanelCheck:
    """Return a check that a metric of this unit has; failures are counted up to a threshold."""
    direction = direction or ("at_most" if unit == "images" else "at_least")
    metric = {"share": "accuracy", "difference": "accuracy_gain", "images": "pair_failures"}[unit]
    metric = "calibration_error" if (unit, direction) == ("share", "at_most") else metric
    return PanelCheck(name, family, metric, Unit(unit), direction, n)


def panel_of(values, checks=None, **facts) -> Panel:
    """Return the panel of these values, (models, checks).

    Checks default to accuracies r0, r1, … of one family.
    """
    values = np.asarray(values, dtype=float)
    values = values[:, None] if values.ndim == 1 else values
    checks = tuple(checks or (check(f"r{number}", **facts) for number in range(values.shape[1])))
    models = tuple(
        ReferenceModel(
            f"seed-{seed:03}.safetensors",
            f"{seed:064x}",
            seed,
            dict(zip((r.id for r in checks), line, strict=True)),
        )
        for seed, line in enumerate(values.tolist(), start=1)
    )
    return Panel("abc", 1, {"epochs": 20, "augment": True}, checks, models)


def with_panel(
    row: str,
    *,
    std: float = 0.01,
    mean: float = 0.9,
    k: float = 3.0,
    models: int = 20,
    n: int = 400,
) -> str:
    """Return a row of a checks file with the panel threshold of so many models, by the rule."""
    (found,) = tomllib.loads(row)["check"]
    keys = {name: value for name, value in found.items() if name not in COMMON_KEYS}
    common = {
        "class_name" if name == "class" else name: found[name]
        for name in found
        if name in COMMON_KEYS
    }
    definition = read_record(Check, {**common, "keys": keys}, where="row").definition
    metric = METRICS[found["metric"]]
    about = PanelCheck(
        found["id"],
        found["family"],
        metric.name,
        metric.unit,
        metric.direction,
        n,
        scale=metric.scale,
    )
    numbers = Calibrated(about, mean, std, mean, std, k, models, prior=True).written
    entries = {**numbers, "definition": f'"{definition[:12]}"'}
    return (
        f"{row.rstrip()}\npanel = {{ "
        f"{', '.join(f'{name} = {value}' for name, value in entries.items())} }}\n"
    )


def threshold(about: PanelCheck, values: np.ndarray, *, k: float) -> Calibrated:
    """Return the threshold of a check from values (K,) and this multiplier.

    The values are those of reference models.
    """
    scaled = on_scale(values, about.scale)
    spread = float(np.maximum(scaled.std(ddof=1), least_of(scaled[:, None], (about,))[0]))
    centre, std = float(scaled.mean()), float(values.std(ddof=1))
    return Calibrated(about, float(values.mean()), std, centre, spread, k, len(values))


def calibrate(panel: Panel, *, by_hand=frozenset()) -> list[Calibrated]:
    """Return what a calibration does with a panel: checked, then a threshold for each check."""
    check_panel(panel)
    return thresholds_of(panel, by_hand=by_hand)


def spread_evenly(mean: float, std: float, count: int = 20) -> np.ndarray:
    """Return values with exactly this mean and standard deviation.

    They are as regular as a healthy panel can be.
    """
    steps = np.linspace(-1, 1, count)
    return mean + std * steps / steps.std(ddof=1)


def view_of(wrong, mean, labels, each=None) -> PanelView:
    """Return what reference models say of images.

    How many are wrong, and all mean probabilities, (N, classes).
    """
    wrong, mean = np.asarray(wrong, dtype=np.int16), np.array(mean, dtype=np.float32)
    likeliest = np.argsort(-mean, axis=1, kind="stable")[:, :LIKELIEST].astype(np.int32)
    shares, of_label = (
        np.take_along_axis(mean, likeliest, axis=1),
        mean[np.arange(len(mean)), labels],
    )
    nobody = wrong == NOT_ASKED
    likeliest[nobody], shares[nobody], of_label[nobody] = NOT_ASKED, np.nan, np.nan
    return PanelView(wrong, of_label, likeliest, shares, each)
