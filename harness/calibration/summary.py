"""Tables of a calibration for the terminal.

Thresholds by family, false alarms, power, and drops before measuring.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.calibration.moderated_variance import (
    CHECK_DF,
    INDEPENDENT,
    INFLATION_DF,
    ModeratedVariances,
)
from harness.calibration.shares import share_of
from harness.calibration.thresholds import (
    false_alarms,
    shared_thresholds,
    thresholds_of,
    variances_of,
)
from harness.checks.edits import ends
from harness.checks.families import FAMILIES
from harness.checks.tables import UNTIL_CALIBRATED
from harness.measures import Unit, never_judged
from harness.measures.panel.threshold import FEW, POWER_DEVIATIONS, PROVISIONAL, SHARES, widened
from harness.networks.training import seconds_of_training
from harness.run.budget import duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from harness.calibration.panel import Panel
    from harness.checks import Threshold
    from harness.measures.panel.threshold import Calibrated, PanelCheck
    from harness.run.budget import CostLine


TYPICAL = 0.9
"""Accuracy behind a promised drop."""
_ACCURACIES = {
    "baseline",
    "class",
    "clean",
    "corruption",
    "flip",
    "pose",
    "rotation",
    "search",
    "shift",
    "slice",
}
"""Shipped families with accuracies, which a promise holds for."""
DOUBT = 0.05
"""Probability of a larger spread of reference models than a promise for more of them assumes."""


def detectable_drop(family: str, *, images: int, checks: int) -> float:
    """Return the minimum detectable drop of each check of accuracy, with three reference models.

    Chance alone makes reference models differ by 0.4 of the binomial variance. With the inflation
    of `moderated_variance` that is 0.64, and more for some checks. The whole binomial variance
    covers 95 of 100 measured checks, where the perturbation costs up to five points
    (`benchmarks.few`). More models detect smaller drops.
    """
    inflation_df = INFLATION_DF + min(checks, INDEPENDENT) * (PROVISIONAL - 1)
    moderated = ModeratedVariances(
        np.ones(checks), np.full(checks, CHECK_DF), np.ones(checks), inflation_df
    )
    shares = np.full(checks, share_of(family, (family,)) / checks)
    k = float(moderated.multipliers(shares, PROVISIONAL, range(checks))[0])
    return (
        (k + POWER_DEVIATIONS) * widened(PROVISIONAL) * math.sqrt(TYPICAL * (1 - TYPICAL) / images)
    )


def planned_drop(family: str, line: CostLine) -> float | None:
    """Return the minimum detectable drop of a family's line in a plan.

    The smallest class or group decides it. None for no detectable drop, and for a shipped family of
    other metrics than accuracies, such as counts. Any other family counts as one of accuracies.
    """
    if not line.fewest or (family in FAMILIES and family not in _ACCURACIES):
        return None
    drop = detectable_drop(family, images=line.fewest, checks=max(line.tests, 1))
    return drop if drop < TYPICAL else None


def cautious(panel: Panel, planned: Sequence[Calibrated]) -> list[Calibrated]:
    """Return thresholds planned for another number of models.

    The spread is the largest that this panel allows. That is the upper 95% confidence limit of the
    standard deviation. Few models may agree by chance, so more models have a larger spread in half
    of the checks.
    """
    from scipy.stats import chi2

    wider: dict[str, float] = {}
    for family in dict.fromkeys(item.check.family for item in planned):
        checks = panel.family(family)
        df = np.maximum(variances_of(panel, checks, panel.values(checks)).df(len(panel.models)), 1)
        wider |= zip(
            (check.id for check in checks),
            map(float, np.sqrt(df / chi2.ppf(DOUBT, df))),
            strict=True,
        )
    return [replace(item, spread=item.spread * wider[item.check.id]) for item in planned]


_PANEL_SIZES = (3, 5, 8, 10, 12, 15, 20, 25, 30, 40, 60)
_PLANNED_SIZES = (3, 5, 8, 20)
_SEEING_THE_SAME = {
    "clean": "clean",
    "class": "class",
    "flip": "mirrored",
    "pose": "corners",
    "corruption": "damaged",
}
"""End of the name of the shipped consensus check with the same images as the checks of a family."""
_LOSS = attrgetter("minimum_detectable_drop")


def _by_drop(items: Iterable[Calibrated]) -> list[Calibrated]:
    """Return the checks whose drops compare, the best first.

    Checks that detect no possible drop come last.

    Drops compare in one unit only, so checks in another unit than most of a family's are left out.
    """
    by_unit: dict[Unit, list[Calibrated]] = {}
    for item in items:
        unit = Unit.SHARE if item.check.unit in SHARES else item.check.unit
        by_unit.setdefault(unit, []).append(item)

    comparable = max(by_unit.values(), key=len, default=[])
    return sorted(comparable, key=lambda item: (not item.can_detect, _LOSS(item)))


def calibration_lines(
    panel: Panel,
    calibrated: Sequence[Calibrated],
    hands: Mapping[str, Threshold],
    *,
    reasons: bool = False,
    by_hand: frozenset[str] = frozenset(),
) -> list[str]:
    """Return the summary of a calibration, optionally with the `reasons` of informational checks.

    `hands` has thresholds by hand, by check; the panel's replace those until calibrated. The
    summary says how many checks have a threshold with more reference models; for `by_hand` see
    `expected`.
    """
    wide, have = max(12, *map(len, panel.families)), len(panel.models)
    models = f"{have} reference model{'' if have == 1 else 's'}"
    drops = f"minimum detectable drop with {models}, best and worst check"
    lines = [f"{'family':<{wide}} {'checks':>6} {'threshold':>9} {'k':>5}  {drops}"]
    for family, items in _by_family(panel, calibrated).items():
        with_threshold = [item for item in items if not item.informational]
        judged = _by_drop(with_threshold)
        span = (
            " to ".join(dict.fromkeys(map(_drop, judged[:1] + judged[-1:])))
            or "none has a threshold"
        )
        k = f"{judged[0].k:.2f}" if judged else ""
        lines.append(f"{family:<{wide}} {len(items):>6} {len(with_threshold):>9} {k:>5}  {span}")
    informational = [item for item in calibrated if item.informational]
    if informational and not reasons:
        kinds = "; ".join(
            f"{count} with {kind}"
            for kind, count in Counter(map(_kind, informational)).most_common()
        )
        lines.append(
            f"informational: {len(informational)} of {len(calibrated)} checks: {kinds} (-v prints "
            "all reasons)"
        )
    sizes = [size for size in _PLANNED_SIZES if size > have][-2:]
    if informational and sizes and have >= PROVISIONAL:
        planned = [(size, expected(panel, size, by_hand=by_hand)) for size in sizes]
        counts = [(size, sum(map(len, by_family.values()))) for size, by_family in planned]
        lines.append(
            "for more thresholds: "
            f"{', '.join(f'{size} reference models for about {count}' for size, count in counts)} "
            f"of {len(panel.checks)} checks (calibrate --plan: by family), or more test images. "
            "Four times as many halve the part of a drop that chance causes."
        )
    lines += [
        f"informational: {item.check.id}: {item.informational}" for item in informational if reasons
    ]
    lines += _hand_lines(calibrated, hands)
    alarms = false_alarms(panel, calibrated)
    if have >= PROVISIONAL:
        lines.append(f"leave-one-out false alarms: {len(alarms)} of {have} networks")
    return lines + [f"  {alarm}" for alarm in alarms]


def _by_family(panel: Panel, items: Iterable[Calibrated]) -> dict[str, list[Calibrated]]:
    found: dict[str, list[Calibrated]] = {family: [] for family in panel.families}
    for item in items:
        found[item.check.family].append(item)
    return found


def _kind(item: Calibrated) -> str:
    if never_judged(item.check.metric):
        return "a metric that never has a threshold"
    if item.outlier:
        return "a reference model that contradicts the others"
    if not item.prior and item.reference_models < FEW:
        return f"fewer than {FEW} reference models, which cannot show how these differ"
    return (
        "a threshold that cannot fail"
        if item.cannot_fail
        else "a threshold that a model at chance level keeps"
    )


def _hand_lines(calibrated: Sequence[Calibrated], hands: Mapping[str, Threshold]) -> list[str]:
    lines, alone, winning, lenient = list[str](), list[str](), list[str](), list[str]()
    for item in sorted(
        (each for each in calibrated if each.check.id in hands), key=lambda each: each.check.id
    ):
        name, hand = item.check.id, hands[item.check.id]
        if ends(item, hand.reason):
            lines.append(
                f"{name}: the panel's threshold, {item.threshold:g}, replaces the one by hand, "
                f"{hand.threshold:g}, that was {UNTIL_CALIBRATED}"
            )
            continue
        (alone if item.informational else winning).append(name)
        if not item.informational and (item.threshold - hand.threshold) * item.check.sign > 0:
            lenient.append(
                f"warning: {name}: the threshold by hand, {hand.threshold:g}, is more lenient "
                f"than the panel's, {item.threshold:g}; remove `hand` from the check unless you "
                "mean it"
            )
    if alone:
        lines.append(f"thresholds set by hand stay, as the panel has none: {', '.join(alone)}")
    if winning:
        lines.append(f"thresholds set by hand win over the panel's: {', '.join(winning)}")
    return lines + lenient


def power_lines(
    panel: Panel, calibrated: Sequence[Calibrated], *, drop: float | None = None
) -> list[str]:
    """Return minimum detectable drops, and the number of models for smaller ones.

    They are by family and check. The wanted drop is `drop`, in the unit of the metric, or else half
    of the detectable drop. A family's best accuracy check stands beside the consensus check on the
    same images.
    """
    lines = [
        f"{'check':<34} {'panel mean':>13} {'± std':>8} {'k':>5} {'drop':>8} {'wanted':>8}  "
        "reference models needed"
    ]
    by_id = {item.check.id: item for item in calibrated}
    for family, items in _by_family(panel, calibrated).items():
        judged, every = (
            tuple(item.check for item in items if not item.informational),
            panel.family(family),
        )
        values = panel.values(every)
        planned = {
            n: shared_thresholds(panel, every, judged or every, values, reference_models=n)
            for n in _PANEL_SIZES
        }
        able = _by_drop(item for item in items if item.shows_spread and item.can_detect)
        best = f"the best detects {_drop(able[0], points=False)}" if able else "none detects a drop"
        lines.append(f"{family}: {len(judged)} of {len(items)} checks have a threshold, {best}")
        same = by_id.get(f"consensus-{_SEEING_THE_SAME.get(family)}")
        if same and (accuracies := [item for item in items if item.check.metric == "accuracy"]):
            most = min(accuracies, key=_LOSS)
            lines.append(
                f"  beside it {same.check.id} detects {same.minimum_detectable_drop:.0f} images "
                f"lost of those that every reference model gets right, {most.check.id} "
                f"{most.minimum_detectable_drop * most.check.n:.0f} of {most.check.n} lost net"
            )
        for at, item in enumerate(items):
            wanted = item.minimum_detectable_drop / 2 if drop is None else drop
            enough = [
                n
                for n, thresholds in planned.items()
                if (item.prior or n >= FEW)
                and item.minimum_detectable_drop_with(thresholds[at].k, n) <= wanted
            ]
            needed = str(enough[0]) if enough else f"more than {_PANEL_SIZES[-1]}"
            if not item.shows_spread:
                needed = f"{FEW} show how much models differ"
            if item.informational:
                needed += " (informational)"
            mean = _value(item.check, item.mean)
            lines.append(
                f"  {item.check.id:<32} {mean:>13} {_spread_cells(item, wanted=drop)}  {needed}"
            )
    return lines


def _spread_cells(item: Calibrated, *, wanted: float | None) -> str:
    """Return standard deviation, k, and drops.

    Models that do not show how much models differ have none of these.

    The wanted drop is by default half of the detectable drop.
    """
    std = k = drop = half = "-"
    if item.shows_spread:
        std, k = _value(item.check, item.std, digits=1), f"{item.k:.2f}"
        drop = _value(item.check, item.minimum_detectable_drop) if item.can_detect else "none"
        half = _value(item.check, item.minimum_detectable_drop / 2)
    asked = half if wanted is None else _value(item.check, wanted)
    return f"{std:>8} {k:>5} {drop:>8} {asked:>8}"


def _drop(item: Calibrated, *, points: bool = True) -> str:
    if not item.can_detect:
        return "none"
    if points and item.check.unit in SHARES:
        return f"{100 * item.minimum_detectable_drop:.1f} points"
    return _value(item.check, item.minimum_detectable_drop) + (
        " images" if item.check.unit is Unit.IMAGES else ""
    )


def _range_of(items: Sequence[Calibrated]) -> str:
    """Return the drops of one check as a range, with the unit once."""
    first, *others = dict.fromkeys(map(_drop, items))
    for last in others:
        unit = last.partition(" ")[2]
        first = f"{first.removesuffix(unit).rstrip()} to {last}"
    return first


def _value(check: PanelCheck, value: float, *, digits: int = 0) -> str:
    return (
        f"{value:.{digits}f}" if check.unit is Unit.IMAGES else check.unit.format(value, decimals=4)
    )


def expected(
    panel: Panel, reference_models: int, *, by_hand: frozenset[str] = frozenset()
) -> dict[str, list[Calibrated]]:
    """Return, by family, the checks that have a threshold with this number of models.

    The spread is that of the panel. Checks with a threshold `by_hand` have no part in the false
    alarms, as in the calibration. Checks without an estimate from one or two models do not count.
    """
    items = thresholds_of(panel, by_hand=by_hand, reference_models=reference_models)
    known = len(panel.models) >= PROVISIONAL
    return _by_family(
        panel, (item for item in items if not item.informational and (item.prior or known))
    )


def plan_lines(panel: Panel, *, by_hand: frozenset[str] = frozenset()) -> list[str]:
    """Return a table of the checks with a threshold, by family and number of models.

    It has the drop of the best of them. For more models than the panel has, it shows the expected
    drop and that of `cautious`. For `by_hand` see `expected`. The times of training come from the
    histories beside the checkpoints of the panel.
    """
    have, epochs = len(panel.models), panel.recipe.get("epochs")
    found = {count: expected(panel, count, by_hand=by_hand) for count in _PLANNED_SIZES}

    def cell(family: str, count: int) -> str:
        if not (checks := found[count][family]):
            return "none"
        best = _by_drop(checks)[0]
        drops = [best] if count == have else [best, *cautious(panel, [best])]
        return f"{len(checks)}, {_range_of(drops)}"

    rows = [
        (
            "checks, detectable drop of the best",
            [f"{count} reference models" for count in _PLANNED_SIZES],
        )
    ]
    names = max(16, *(len(family) + 2 for family in panel.families))
    for family in panel.families:
        start = f"{f'  {family}':<{names}} of {len(panel.family(family)):>3}"
        rows.append((start, [cell(family, count) for count in _PLANNED_SIZES]))
    totals = [sum(map(len, by_family.values())) for by_family in found.values()]
    rows.append((f"{'all':<{names}} of {len(panel.checks):>3}", [str(total) for total in totals]))
    more = [max(count - have, 0) for count in _PLANNED_SIZES]
    training = (
        f"to train besides the {have} at hand{f', of {epochs} epochs each' if epochs else ''}"
    )
    rows.append((training, [str(count) for count in more]))
    times = [
        time
        for model in panel.models
        if (time := seconds_of_training(Path(model.path))) is not None
    ]
    if times:
        each = sum(times) / len(times)
        costs = [duration(count * each) if count else "-" for count in more]
        rows.append((f"which takes, at {duration(each)} each", costs))

    wide = max(len(start) for start, _ in rows)
    widths = [max(map(len, column)) for column in zip(*(cells for _, cells in rows), strict=True)]
    lines = []
    for start, cells in rows:
        padded = [f"{text:>{width}}" for text, width in zip(cells, widths, strict=True)]
        lines.append("  ".join([f"{start:<{wide}}", *padded]))
    lines.append(
        "Drops are detected with 95% power. Ranges run from the expected value to a 95% upper "
        "bound."
    )
    if have < PROVISIONAL:
        lines.append("Checks that need more reference models are not counted.")
    return lines
