"""The plan of a run as the terminal shows it: a table of its costs, and how it fits into a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.base.errors import some_of
from harness.calibration.summary import planned_drop
from harness.report.page import aligned
from harness.run.budget import OVERVIEW, duration, in_cores

if TYPE_CHECKING:
    from harness.run.budget import Plan

_SEARCHING = {"search", "pose", "consensus"}
"""Families of tests that stop asking when they have found what they look for."""

_DROPS = (
    "detectable drop: points of accuracy that every check of a family detects, with 3 reference "
    "models, 90% accuracy and 95% power. Families of other metrics have none. More models detect "
    "smaller drops; under perturbations that cost over 5 points, drops are larger."
)


def plan_lines(plan: Plan, *, drops: bool = True) -> list[str]:
    """Return a plan as the terminal shows it.

    A row for each family, for self-checks and overview, and for all.

    With a budget, the first line after the table says how the run fits into it. Without `drops`,
    the table leaves out what three reference models would detect.
    """
    head = (
        "",
        "images",
        "of",
        "tests",
        "passes",
        "image-poses",
        "maps",
        "cached",
        "time",
        "detectable drop",
    )
    costs = plan.costs
    rows: list[tuple[str, ...]] = [head]
    for name, line in {**plan.lines, "all": plan.total}.items():
        sizes, drop = ("", "", ""), ""
        if line.tests:
            sizes = f"{line.images:,}", f"{line.out_of:,}", f"{line.tests:,}"
            planned = planned_drop(name, line)
            drop = "" if planned is None else f"{100 * planned:.1f}"
        counts = (f"{count:,}" for count in (line.passes, line.poses, line.maps, line.cached))
        rows.append((name, *sizes, *counts, duration(line.seconds), drop))
    free = any(
        line.tests and not (line.poses or line.maps or line.cached) for line in plan.lines.values()
    )
    per_map = f", {costs.map_seconds * 1000:.2g} ms per Grad-CAM map" if plan.total.maps else ""
    memory = f"; memory so far {costs.peak_bytes / 1e9:.1f} GB" if costs.peak_bytes else ""
    if not drops:
        rows = [row[:-1] for row in rows]
    return [
        *aligned(rows),
        *([] if plan.budget is None else [_fit_in_words(plan, plan.budget)]),
        *whole_by_hand(plan),
        *([_DROPS] if drops else []),
        f"measured on one core: {costs.seconds_per_pose * 1000:.2g} ms per image and "
        f"pose{per_map}; times are for {in_cores(costs.cores)}{memory}",
        *(
            f"not counted to the end, since its tests took too long: {name}; it takes more than "
            "the table says"
            for name in plan.uncounted
        ),
        *(
            ["0 s: families above ask for the same predictions, or the family does not apply"]
            if free
            else []
        ),
        *(
            ["searches end early, so their times are upper bounds"]
            if _SEARCHING & plan.lines.keys()
            else []
        ),
    ]


def whole_by_hand(plan: Plan) -> list[str]:
    """Return a line on the families that keep all their images.

    A plan without samples has no such line.
    """
    if plan.budget is None or not plan.by_hand or (plan.fits and not plan.samples):
        return []
    names = some_of(plan.by_hand, shown=20)
    return [f"not sampled, because their checks have thresholds set by hand: {names}"]


def _fit_in_words(plan: Plan, seconds: float) -> str:
    budget, taken, cores = (
        duration(seconds),
        duration(plan.total.seconds),
        in_cores(plan.costs.cores),
    )
    if plan.samples:
        but = (
            ""
            if plan.fits
            else f", which do not fit: no family has fewer than {min(plan.samples.values())}"
        )
        said = (
            f"all images take about {duration(plan.whole)} on {cores}, these samples {taken} of "
            f"{budget}{but}"
        )
    else:
        said = "all images fit into" if plan.fits else "even the fewest images do not fit into"
        said = f"{said} {budget} on {cores}: they take about {taken}"
    if not plan.fits and OVERVIEW in plan.lines:
        said += f"; no_overview saves {duration(plan.lines[OVERVIEW].seconds)}"
    return said
