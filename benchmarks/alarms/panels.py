"""Thresholds from panels of reference models, and the verdicts about all other networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from benchmarks.alarms.measure import Checks, Values
from benchmarks.transfer.splits import Asked, asked_of, of_panel, regressed
from harness.base.errors import PanelError
from harness.calibration.panel import ALONE, Chance, Panel, ReferenceModel
from harness.calibration.thresholds import check_panel, thresholds_of
from harness.data import LabelledImages
from harness.measures import Unit
from harness.measures.panel.threshold import Calibrated, PanelCheck
from harness.perturb import PROTOCOL

REGRESSION = "regression"
"""The family against the incumbent, whose threshold is by hand. It has no part in the 1%."""
_NET_LOSS = 0.01
"""Net loss of accuracy that `regression-clean` tolerates."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """Networks of one kind that panels judge."""

    kind: str
    values: Values

    @cached_property
    def errors(self) -> np.ndarray:
        """Return the errors on clean images, (networks, images) float32."""
        return self.values.wrong.astype(np.float32)


@dataclass(frozen=True, eq=False)
class Judged:
    """The verdicts of panels of one size.

    Attributes:
        families: The families of the checks, `REGRESSION` last.
        judging: The share of each family's checks with a threshold, (panels, families).
        all_judging: The share of all checks with a threshold, (panels,).
        alarms: Whether a check of the family fails, (panels, networks, families), by kind of
            network
            bool.
        refused: The number of panels that calibration refuses.
    """

    families: tuple[str, ...]
    judging: np.ndarray
    all_judging: np.ndarray
    alarms: Mapping[str, np.ndarray]
    refused: int

    def any_alarm(self, kind: str) -> np.ndarray:
        """Return whether any check with a threshold from the panel fails, (panels, networks)."""
        return np.asarray(self.alarms[kind][..., :-1].any(axis=-1))


def asked_rows(checks: Checks, images: LabelledImages) -> tuple[Asked, ...]:
    """Return the rows of the checks with values that depend on the reference models."""
    labels = images.labels.numpy()
    plain = [
        {
            "id": check.id,
            "family": check.family,
            "metric": check.metric,
            "keys": check.more,
            "class": check.more.get("class"),
        }
        for check in checks.among
    ]
    return tuple(asked_of(row, labels, list(images.classes)) for row in plain)


def applicable(asked: Sequence[Asked], size: int) -> tuple[Asked, ...]:
    """Return the rows that a panel of so many models has values of.

    One model has no other one, and two have none besides a pair. See `harness.measures.panel`.
    """
    if size == 1:
        return ()
    return tuple(
        row for row in asked if size > 2 or not (row.check.family == "flips" and row.consensus)
    )


def judge_all(
    panels: Sequence[Values],
    candidates: Sequence[Candidates],
    asked: Sequence[Asked],
    images: LabelledImages,
) -> Judged:
    """Calibrate by each panel, and judge all candidates."""
    rows = (*panels[0].rows, *(row.check for row in asked))
    families = tuple(dict.fromkeys(row.family for row in rows))
    members = np.array([[row.family == family for family in families] for row in rows])
    labels = images.labels.numpy()
    judging, all_judging, refused = [], [], 0
    alarms: dict[str, list[np.ndarray]] = {group.kind: [] for group in candidates}
    for panel in panels:
        try:
            calibrated = calibrated_by(panel, asked, images)
        except PanelError:
            refused += 1
            continue
        thresholds = np.array([_threshold_of(calibrated.get(row.id)) for row in rows])
        has_threshold = ~np.isnan(thresholds)
        judging.append(has_threshold.astype(float) @ members / members.sum(axis=0))
        all_judging.append(has_threshold.mean())
        signs = np.array([row.sign for row in rows])
        for group in candidates:
            counts = counts_of(group.errors, panel.wrong, asked, labels)
            values = np.hstack([group.values.values, counts])
            # A check without a threshold, or without a value, fails nobody: comparisons with NaN.
            failing = signs * values < signs * thresholds
            against = failing_regression(group.values.wrong, ~panel.wrong[0])
            by_family = failing @ members
            alarms[group.kind].append(np.column_stack([by_family > 0, against]))
    return Judged(
        (*families, REGRESSION),
        np.array(judging),
        np.array(all_judging),
        {kind: np.array(of_panels) for kind, of_panels in alarms.items()},
        refused,
    )


def _threshold_of(calibrated: Calibrated | None) -> float:
    """Return the threshold that judges; NaN for an informational check."""
    if calibrated is None or calibrated.informational:
        return np.nan
    return calibrated.threshold


def calibrated_by(
    panel: Values, asked: Sequence[Asked], images: LabelledImages
) -> dict[str, Calibrated]:
    """Return the thresholds of a panel by the check's id, as `stress-harness calibrate` makes them.

    Raises `InputError` for a panel that it refuses.
    """
    made = panel_of(panel, asked, images)
    check_panel(made)
    return {calibrated.check.id: calibrated for calibrated in thresholds_of(made)}


def panel_of(values: Values, asked: Sequence[Asked], images: LabelledImages) -> Panel:
    """Return the panel of these reference models.

    A check without a value for some has no part in it.
    """
    common = ~np.isnan(values.values).any(axis=0)
    rows = [row for row, has_values in zip(values.rows, common, strict=True) if has_values]
    table = values.values[:, common]
    rests = values.rests[:, common]
    chance = {}
    for at, row in enumerate(rows):
        if row.id in values.contributions:
            rest = None if np.isnan(rests[:, at]).any() else float(rests[:, at].mean())
            chance[row.id] = chance_of(values.contributions[row.id], row, rest)

    by_model = [
        {row.id: float(value) for row, value in zip(rows, of_model, strict=True)}
        for of_model in table
    ]
    labels = images.labels.numpy()
    for row_among in asked:
        for of_model, count in zip(
            by_model, of_panel(row_among, values.wrong, labels), strict=True
        ):
            of_model[row_among.check.id] = count
    models = tuple(
        ReferenceModel(f"model {number}", "", None, of_model)
        for number, of_model in enumerate(by_model)
    )
    checks = (*rows, *(row.check for row in asked))
    panel = Panel("", PROTOCOL, {}, checks, models, chance=chance)
    return replace(panel, classes=len(images.classes))


def chance_of(contributions: np.ndarray, row: PanelCheck, rest: float | None) -> Chance:
    """Return the variance of a check by chance, as `Chance.of` does from the reports of runs.

    `contributions` are those of each model's images, (models, images).
    """
    each = contributions.astype(np.float64)
    images = each.shape[1]
    variance = float(each.var(axis=0, ddof=1).sum()) if len(each) > 1 else 0.0
    if len(each) == 1:
        variance = float(ALONE * images * each[0].var())
    if row.unit is not Unit.IMAGES:
        variance /= images**2
    return Chance(variance, rest, answers=contributions.dtype == np.bool_)


def counts_of(
    errors: np.ndarray, panel_wrong: np.ndarray, asked: Sequence[Asked], labels: np.ndarray
) -> np.ndarray:
    """Return the counts of networks in the rows that depend on the panel, (networks, rows).

    The first model of the panel is the incumbent. `errors` are those of the networks, (networks,
    images) float32, and `panel_wrong` those of the panel, bool. See
    `benchmarks.transfer.splits.count_of`.
    """
    consensus, right = ~panel_wrong.any(axis=0), ~panel_wrong[0]
    one_hot = np.eye(int(labels.max()) + 1, dtype=np.float32)[labels]
    counts = np.empty((len(errors), len(asked)))
    for at, row in enumerate(asked):
        counted = row.counted & (consensus if row.consensus else True)
        counted = counted & (right if row.check.family == "flips" else True)
        if row.worst:
            counts[:, at] = (errors @ (one_hot * counted[:, None])).max(axis=1)
        else:
            counts[:, at] = errors @ counted.astype(np.float32)
    return counts


def failing_regression(wrong: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return whether networks fail the check against their incumbent, (networks,) bool.

    `wrong` are errors of the networks, (networks, images) bool, and `right` correct predictions of
    the incumbent, (images,) bool.
    """
    net_loss = wrong.mean(axis=1) - (~right).mean()
    failing = net_loss > _NET_LOSS
    for network in np.flatnonzero(failing):
        failing[network] = regressed(wrong[network], right)
    return np.asarray(failing)
