"""What a run would cost, as the terminal shows it: a table of the plan, and the samples that fit into a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.report.text import aligned
from harness.run.budget import CHECKS, OVERVIEW, duration, in_cores, noticeable_loss

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.inference.planning import Asked
    from harness.run.budget import Fit
    from harness.run.plan import Plan

_MINIMUM_DETECTABLE_DROP = (
    "detects: the smallest loss of accuracy, in points of 90%, detected with 95% power if chance alone made the spread"
)


def plan_lines(plan: Plan) -> list[str]:
    """Return the plan as the terminal shows it: a row for each family, self-checks and overview, and all of them."""
    head = ("", "tests", "passes", "image-poses", "maps", "cached", "time", "minimum_detectable_drop")

    def cells(name: str, asked: Asked) -> tuple[str, ...]:
        counts = (asked.passes, asked.poses, asked.maps, asked.cached)
        tests, power = "", ""
        if name in plan.rows:
            tests, power = str(plan.rows[name]), _points(plan.sizes[name])
        return (name, tests, *(f"{each:,}" for each in counts), duration(plan.costs.seconds(asked)), power)

    costs = plan.costs
    memory = f"; memory so far {costs.peak_bytes / 1e9:.1f} GB" if costs.peak_bytes else ""
    lines = aligned(
        [head, *(cells(name, asked) for name, asked in plan.counted.asked.items()), cells("all", plan.total)]
    )
    return [
        *lines,
        f"{plan.images:,} images; {costs.seconds_per_pose * 1000:.2g} ms an image and pose, "
        f"{costs.map_seconds * 1000:.2g} ms a map, measured on one batch each, of one core; times are those of "
        f"{in_cores(costs.cores)}{memory}",
        _MINIMUM_DETECTABLE_DROP,
        *_uncounted(plan.counted.uncounted),
        "searches end early, so that theirs is an upper bound; nothing was judged",
    ]


def fit_lines(fit: Fit) -> list[str]:
    """Return how a run fits into a time: a row for each family, with its images, their time and what they detect."""
    what = f"{duration(fit.budget)} on {in_cores(fit.cores)}"
    if not fit.samples:
        said = f"all images fit into {what}" if fit.fits else f"even the fewest images do not fit into {what}"
        said = f"{said}: they take about {duration(fit.fitted)}"
    else:
        but = "" if fit.fits else f", which do not fit: no family has fewer than {min(fit.samples.values())}"
        said = (
            f"all images take about {duration(fit.whole)} on {in_cores(fit.cores)}, these samples "
            f"{duration(fit.fitted)} of {duration(fit.budget)}{but}"
        )
    rows = [("", "images", "of", "time", "minimum_detectable_drop")]
    for name, seconds in fit.after.items():
        took = duration(seconds)
        if name in {CHECKS, OVERVIEW}:
            rows.append((name, "", "", took, ""))
            continue
        size = fit.samples.get(name, fit.sizes[name])
        rows.append((name, f"{size:,}", f"{fit.sizes[name]:,}", took, _points(size)))
    if not fit.fits and fit.after.get(OVERVIEW):
        said += f"; --stress-no-overview saves {duration(fit.after[OVERVIEW])}"
    return [*aligned(rows), said, _MINIMUM_DETECTABLE_DROP, *_uncounted(fit.uncounted)]


def _points(images: int) -> str:
    return f"{100 * noticeable_loss(images):.1f}"


def _uncounted(names: Sequence[str]) -> list[str]:
    if not names:
        return []
    return [f"not counted to the end, since their tests took too long: {', '.join(names)}; they take more than it says"]
