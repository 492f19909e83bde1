"""Figures of what checks measured: the candidate's accuracy by rotation and translation, its survival, its attention.

Behind them lie the values of the reference models that the checks state, and their recorded curves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.checks.roles import role_title
from harness.measures.accuracy import ACCURACY, ACCURACY_CHANGE, ACCURACY_GAIN
from harness.measures.localisation import ATTENTION_LIFT
from harness.measures.statistics import proportion_interval
from harness.measures.worst_poses import survival, survival_name
from harness.perturb import IDENTITY, Pose
from harness.report.figures import WIDTH, HeatMap, Panel, Series, curves, dots, heat_maps
from harness.report.page import Illustration
from harness.report.wording import of_candidate
from harness.run.outcome import SETTLED
from harness.run.overview import Overview, Rate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from matplotlib.figure import Figure

    from harness.checks import Verdict
    from harness.inference.search import Breaking
    from harness.measures.metric import Curve

_FEWEST = 3
"""Places of a figure, at least."""
_DIFFERENCES = {ACCURACY_GAIN.name: "baseline", ACCURACY_CHANGE.name: "incumbent"}
"""Metrics of the candidate's accuracy less that of the model in a role."""
_PATHS = {
    "rotation": ("rotated by up to, degrees", 1),
    "shift": ("translated by up to, pixels", 1),
    "joint": ("rotated and translated by up to, % of ±30° and ±3 px", 100),
}
"""Severity of a path: its name, and the factor for display."""


def check_figures(
    overview: Overview, verdicts: Sequence[Verdict], reference: Mapping[str, Sequence[Curve]]
) -> Iterator[Illustration]:
    """Yield the figures that the verdicts have values for; `reference` has curves of the reference models by name."""
    rates, first = posed_rates(overview, verdicts), overview.models[0].name
    turned = {
        name: {pose.degrees: each[pose] for pose in sorted(each, key=lambda pose: pose.degrees) if _turns(pose)}
        for name, each in rates.items()
    }
    if len(own := turned[first]) >= _FEWEST:
        band = stated({each.check.pose.degrees: each for each in _accuracies(verdicts) if _turns(each.check.pose)})
        said = [
            f"{role_title(name)}: {', '.join(f'{rate.value:.0%} at {degrees:+g}°' for degrees, rate in each.items())}"
            for name, each in turned.items()
            if len(each) >= _FEWEST
        ]
        n = min(rate.n for rate in own.values())
        yield Illustration(
            f"Accuracy against rotation{of_sample(n, overview)}",
            f"Higher and flatter is better. Bars are 95% intervals, of {n:,} images.{about_band(band)}",
            f"Accuracy against rotation. {'; '.join(said)}",
            lambda: rotation_curves(turned, band),
        )
    shifts = {(pose.dx, pose.dy): rate for pose, rate in rates[first].items() if not pose.degrees}
    if len(shifts) >= _FEWEST:
        yield Illustration(
            f"Accuracy by translation{of_sample(min(rate.n for rate in shifts.values()), overview)}",
            "Each cell is the candidate's accuracy, in percent, translated right (columns) and down (rows). The middle "
            "is clean. Checks do not measure the gray cells.",
            f"Accuracy at {len(shifts)} translations, {min(rate.value for rate in shifts.values()):.0%} at the worst.",
            lambda: shift_maps({first: shifts}),
            is_map=True,
        )
    found = {each.curve.name: each for each in verdicts if each.curve is not None and each.check.role == "candidate"}
    panels = []
    for path in ("rotation", "shift"):
        if (verdict := found.get(name := survival_name(path))) is not None and verdict.curve is not None:
            n = verdict.counted or verdict.n
            panels.append(
                survival_panel(path, {f"{first} (n={n:,})": (verdict.curve, n)}, band_of(reference.get(name, ())))
            )
    if panels:
        yield Illustration(
            f"Survival curves of the {role_title(first)}",
            "Share of the correct clean predictions that are still correct at every pose up to this size. Pale: 95% "
            f"intervals.{about_band(any(panel.band for panel in panels))}",
            "Share of predictions still correct against the size of rotation and shift.",
            lambda: curves(*panels),
        )
    lifts = {
        each.check.class_name or "all classes": each
        for each in of_candidate(verdicts, ATTENTION_LIFT)
        if each.check.pose == IDENTITY
    }
    if len(lifts) >= _FEWEST:
        (lift, lowest), n = (
            min((each.value or 0.0, name) for name, each in lifts.items()),
            max(each.n for each in lifts.values()),
        )
        yield Illustration(
            f"Grad-CAM mass on the object{of_sample(n, overview)}",
            "Left of the dashed line, less of the Grad-CAM mass is on the object than with a uniform map. Bars are 95% "
            f"intervals.{about_band(any(each.check.reference for each in lifts.values()))}",
            f"Grad-CAM lift by class. Lowest: {lowest}, {lift:.2f}.",
            lambda: attention_by_class({first: lifts}),
        )


def _accuracies(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Return the verdicts on the candidate's accuracy on clean, rotated and translated images of all classes."""
    families, accuracies = {"clean", "rotation", "shift"}, of_candidate(verdicts, ACCURACY)
    return [each for each in accuracies if each.check.family in families and each.check.class_name is None]


def _turns(pose: Pose) -> bool:
    return pose == Pose(pose.degrees)


def posed_rates(overview: Overview, verdicts: Sequence[Verdict]) -> dict[str, dict[Pose, Rate]]:
    """Return accuracy by model and pose as checks measured it, with that of clean images.

    That of the baseline and of the incumbent is the candidate's less the difference that a check measured on as many
    images.
    """
    rates = {model.name: {IDENTITY: model.accuracy} for model in overview.models}
    own = rates[overview.models[0].name]
    for each in _accuracies(verdicts):
        own[each.check.pose] = Rate(each.value or 0.0, *(each.interval or (0.0, 1.0)), each.n)
    for each in verdicts:
        pose, n, role = each.check.pose, each.n, _DIFFERENCES.get(each.metric)
        other = next((model.name for model in overview.models[1:] if role in model.roles), None)
        if other is not None and each.value is not None and pose in own and own[pose].n == n and pose != IDENTITY:
            right = round((own[pose].value - each.value) * n)
            rates[other][pose] = Rate(right / n, *proportion_interval(right, n), n)
    return rates


def rotation_curves(rates: Mapping[str, Mapping[float, Rate]], band: Series | None = None) -> Figure:
    """Draw accuracy by model and degrees; the augmentation range of ±10° is shaded."""
    series = [Series.of_rates(name, each if len(each) >= _FEWEST else {}) for name, each in rates.items()]
    title = "rotation, degrees (positive is counter-clockwise)"
    return curves(Panel(title, "accuracy, %", series, band, shaded=(-10, 10, "augmentation range: ±10°")))


def shift_maps(rates: Mapping[str, Mapping[tuple[float, float], Rate]]) -> Figure:
    """Draw accuracy by model and shift (dx, dy), in percent."""
    maps = []
    for name, each in rates.items():
        right, down = (sorted({0.0, *places}) for places in zip(*each, strict=True))
        values = np.array([[100 * each[dx, dy].value if (dx, dy) in each else np.nan for dx in right] for dy in down])
        texts = [["" if np.isnan(value) else f"{value:.0f}" for value in row] for row in values]
        columns, rows = ([f"{at:+g}" if at else "0" for at in places] for places in (right, down))
        maps.append(HeatMap(name, values, rows, "cividis", (0, 100), texts, columns=columns))
    height = 1.0 + (WIDTH - 0.6) / len(maps)
    return heat_maps(*maps, x="dx, pixels (right is +)", y="dy, pixels (down is +)", height=height)


def survival_panel(
    path: str, known: Mapping[str, tuple[Curve, int]], band: Series | None = None, *, title: str = ""
) -> Panel:
    """Return axes with survival curves along a path by name, each with its number of images."""
    words, factor = _PATHS.get(path, (path, 1))
    series = []
    for name, (curve, n) in known.items():
        shares = [share or 0.0 for share in curve.values]
        rates = [Rate(share, *proportion_interval(round(share * n), n), n) for share in shares]
        series.append(
            Series.of_rates(name, {factor * (at or 0.0): rate for at, rate in zip(curve.at, rates, strict=True)})
        )
    return Panel(words, "predictions still correct, %", series, band, title=title)


def survival_curves(found: Sequence[Breaking]) -> Figure:
    """Draw survival along each path, of the images with a correct clean prediction."""
    panels = []
    for each in found:
        n, fails = len(each.severity), (each.path.label(each.quantile(share)) for share in (0.1, 0.5))
        title = "{:,} images\none in ten fails by {}\nhalf fail by {}".format(n, *fails)
        panels.append(survival_panel(each.path.name, {"correct when clean": (survival(each), n)}, title=title))
    return curves(*panels, width=4 * len(panels), height=4.2)


def attention_by_class(lifts: Mapping[str, Mapping[str, Verdict]]) -> Figure:
    """Draw the lift by model and class: Grad-CAM mass on the object over that of a uniform map."""
    rows, series = [*next(iter(lifts.values()))], []
    for name, each in lifts.items():
        values = [verdict.value or 0.0 for verdict in each.values()]
        low, high = zip(*(verdict.interval or (0.0, 0.0) for verdict in each.values()), strict=True)
        series.append(Series(name, range(len(values)), values, low, high))
    band = stated(dict(enumerate(next(iter(lifts.values())).values())), scale=1)
    title = "lift: Grad-CAM mass on the object, uniform map = 1"
    return dots(rows, *series, x=title, band=band, upright=(1, "uniform map"))


def stated(verdicts: Mapping[float, Verdict], *, scale: float = 100) -> Series | None:
    """Return the band of the reference models that checks state, by place; None where none does."""
    known = [
        (at, scale * panel.mean, scale * panel.std)
        for at, verdict in sorted(verdicts.items())
        if (panel := verdict.check.reference) and panel.mean is not None and panel.std is not None
    ]
    return Series.of_reference(*zip(*known, strict=True)) if known else None


def band_of(known: Sequence[Curve], places: Sequence[int] | None = None, *, across: float = 1) -> Series | None:
    """Return the band of curves of the reference models, in percent, at all or some places; `across` scales these.

    Fewer than three curves make no band, since their standard deviation says nothing.
    """
    if len(known) < SETTLED or not len(known[0].at if places is None else places):
        return None
    some = slice(None) if places is None else places
    at, values = (
        np.array([getattr(curve, name) for curve in known], dtype=np.float64)[:, some] for name in ("at", "values")
    )
    spread = 100 * values.std(axis=0, ddof=1)
    return Series.of_reference(across * at.mean(axis=0), 100 * values.mean(axis=0), spread, (0.0, 100.0))


def about_band(band: object) -> str:
    """Return the sentence on a band; empty without one."""
    return " The band is the mean of the reference models ± 2 standard deviations." if band else ""


def of_sample(n: int, overview: Overview) -> str:
    """Return the note behind a title that a figure is of a sample, whose values differ from those of all images."""
    return f" ({n:,} of {overview.n:,} images)" if n < overview.n else ""
