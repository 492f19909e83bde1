"""Samples that fit into a time, by the loss that each family can then still notice.

The other parts of a run have samples, too. The unit of the latter is an image-pass of the rows of
the checks file, never a clock. Serial runs, runs with workers and runs from the cache therefore use
the same images for self-checks and for the comparison of models.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.base.errors import InputError
from harness.base.records import record

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from harness.checks import Check
    from harness.inference.standins import Asked, Ledger
    from harness.run.session import StressSession

_UNITS = {"s": 1.0, "m": 60.0, "h": 3_600.0}

LEAST = 100
"""Images of any family, if there are so many: fewer would notice gross losses alone."""
CHECKS, OVERVIEW, START = "self-checks", "overview", "start, report"
"""Parts of a run besides its families."""
REPORT_SECONDS = 4.0
"""Time of one core that the page of a run or comparison takes, with its libraries and pictures."""
_ROUNDS, _TOLERANCE = 5, 1.05
"""Number of rounds that choose samples by the cost of the last ones, and their tolerance beyond the
time.
"""


@record
class CostLine:
    """One line of a plan.

    The work of a family, of the self-checks or of the overview, in `seconds` of the clock.

    A family has so many `tests`, which measure `images` out of all that they may measure. `fewest`
    are the images of its check of the smallest class or group. See
    `harness.inference.standins.Asked` for the counts.
    """

    seconds: float
    passes: int
    poses: int
    maps: int
    cached: int
    tests: int = 0
    images: int = 0
    out_of: int = 0
    fewest: int = 0


@record
class Costs:
    """Seconds of one core, or of the accelerator, for an image under a pose, and with its map.

    The peak is in bytes. A run works on so many `cores`. It starts and reports on one, in
    `besides_seconds`.
    """

    seconds_per_pose: float
    map_seconds: float
    peak_bytes: int
    cores: int = 1
    besides_seconds: float = 0.0

    def seconds(self, asked: Asked | CostLine) -> float:
        """Return the seconds of the clock for all that is not cached."""
        return (asked.poses * self.seconds_per_pose + asked.maps * self.map_seconds) / self.cores


@record
class Plan:
    """The costs of a run on so many images.

    A line for each family, then for self-checks and overview.

    Counts of searches, which end early, are the largest possible. A run that does not fit into its
    `budget` measures samples; `whole` is the time of all images, both in seconds of the clock.
    `uncounted` are names of tests that took too long to count. The families `by_hand` have
    thresholds by hand, and keep their images.
    """

    lines: dict[str, CostLine]
    costs: Costs
    uncounted: tuple[str, ...] = ()
    budget: float | None = None
    whole: float = 0.0
    images: int = 0
    by_hand: tuple[str, ...] = ()

    @property
    def total(self) -> CostLine:
        """Return the line of all work."""
        names = ("seconds", "passes", "poses", "maps", "cached")
        return CostLine(
            *(sum(getattr(line, name) for line in self.lines.values()) for name in names)
        )

    @property
    def samples(self) -> dict[str, int]:
        """Return the images of the families that measure only some, as in `[data.samples]`."""
        return {name: line.images for name, line in self.lines.items() if line.images < line.out_of}

    @property
    def fits(self) -> bool:
        """Return whether the samples fit into the time, but for a twentieth."""
        return self.budget is None or self.total.seconds <= self.budget * _TOLERANCE


def plan_from(
    count: Callable[[Mapping[str, int]], Ledger],
    sizes: Mapping[str, int],
    costs: Costs,
    *,
    tests: Mapping[str, int] | None = None,
    shares: Mapping[str, float] | None = None,
    images: int = 0,
    budget: float | None = None,
    kept: Collection[str] = (),
    by_hand: Collection[str] = (),
) -> Plan:
    """Return the plan of a run, with samples where all images exceed the budget.

    The budget, if any, is in seconds. `count` says what a run asks for with samples of these sizes.
    `sizes` are the images that families have without, and those `kept` or with thresholds `by_hand`
    have in any case. `tests` and `images` are numbers for the plan to tell. `shares` are those of
    the smallest class or group that a family has a check of (default: 1).
    """
    samples: dict[str, int] = {}
    ledger = whole = count(samples)
    besides, lines = costs.besides_seconds, {}
    kept = {*kept, *by_hand}
    if budget is not None:
        samples, ledger = _fitted(
            count, whole, sizes, costs, budget=max(budget - besides, 0), kept=kept
        )
    for name, asked in ledger.asked.items():
        size = sizes.get(name, 0)
        measured = samples.get(name, size)
        fewest = round(measured * (shares or {}).get(name, 1))
        counts = asked.passes, asked.poses, asked.maps, asked.cached
        lines[name] = CostLine(
            costs.seconds(asked), *counts, (tests or {}).get(name, 0), measured, size, fewest
        )
    if besides:
        lines[START] = CostLine(besides, 0, 0, 0, 0)
    all_images = besides + sum(map(costs.seconds, whole.asked.values()))
    return Plan(lines, costs, whole.uncounted, budget, all_images, images, tuple(by_hand))


def families_by_hand(checks: Iterable[Check]) -> tuple[str, ...]:
    """Return the families with thresholds by hand, which get no samples for a time limit."""
    return tuple(dict.fromkeys(check.family for check in checks if check.hand))


def _fitted(
    count: Callable[[Mapping[str, int]], Ledger],
    ledger: Ledger,
    sizes: Mapping[str, int],
    costs: Costs,
    *,
    budget: float,
    kept: Collection[str],
) -> tuple[dict[str, int], Ledger]:
    """Return samples that fit, and the requests of a run with them.

    Samples are empty where all images fit. `ledger` is of a run without them.
    """
    samples: dict[str, int] = {}
    asked = ledger.asked
    spent = {name: costs.seconds(each) for name, each in asked.items()}
    # A search has a sample of its own, so a larger sample of the family costs it nothing.
    limits = {
        name: min(size, asked[name].images or size)
        for name, size in sizes.items()
        if name in asked and name not in kept
    }
    # Families that use the predictions of another, and ask for none, have its size, since other
    # images would be new work.
    leaders = {name: name for name in limits}
    for name in limits:
        if spent[name] == 0:
            leaders[name] = next(
                (lead for lead in limits if lead in asked[name].shares and spent[lead] > 0), name
            )
    alike = Counter(leaders.values())
    for _ in range(_ROUNDS):
        besides = sum(spent.get(name, 0.0) for name in (CHECKS, OVERVIEW, *kept))
        each = dict.fromkeys(alike, 0.0)
        for name, lead in leaders.items():
            each[lead] += spent.get(name, 0.0)
        each = {lead: seconds / samples.get(lead, limits[lead]) for lead, seconds in each.items()}
        sized = fitting_samples(each, images=limits, seconds=max(budget - besides, 0), alike=alike)
        found = {}
        for name, lead in leaders.items():
            size = min(sized.get(lead, limits[name]), limits[name])
            step = 10 ** max(
                len(str(size)) - 2, 0
            )  # For people to read, with two digits that count.
            if size < limits[name]:
                found[name] = size // step * step
        if found == samples:
            break
        samples, ledger = found, count(found)
        spent = {name: costs.seconds(each) for name, each in ledger.asked.items()}
        if sum(spent.values()) <= budget * _TOLERANCE:
            break
    return samples, ledger


def fitting_samples(
    seconds_per_image: Mapping[str, float],
    *,
    images: Mapping[str, int],
    seconds: float,
    alike: Mapping[str, int] = {},
) -> dict[str, int]:
    """Return how many images each family may measure so that all fit into the time.

    Families that keep all images are left out. `seconds_per_image` is the cost of one image for a
    family, under all of its perturbations, and `images` the number of its images. `alike` is the
    number of families that share predictions and so have one size, by default one. The sum of the
    families' minimum detectable drops is as small as it can be: each falls with the root of its
    number n. So n is proportional to the cost, by families, to the power of -2/3. No family gets
    less than 100 images, or all of fewer, even if the time does not suffice.
    """
    costs = {family: cost for family, cost in seconds_per_image.items() if cost > 0}
    if sum(cost * images[family] for family, cost in costs.items()) <= seconds:
        return {}
    weights = {family: (cost / alike.get(family, 1)) ** (-2 / 3) for family, cost in costs.items()}

    def sizes(scale: float) -> dict[str, int]:
        return {
            name: max(min(LEAST, images[name]), min(images[name], int(scale * weight)))
            for name, weight in weights.items()
        }

    low, high = 0.0, max(images[name] / weight for name, weight in weights.items())
    for _ in range(60):
        middle = (low + high) / 2
        spent = sum(costs[name] * size for name, size in sizes(middle).items())
        low, high = (middle, high) if spent <= seconds else (low, middle)
    return {name: size for name, size in sizes(low).items() if size < images[name]}


def seconds_in(text: str) -> float:
    """Return the seconds of a time such as 90s, 20m or 1.5h.

    Raises:
        InputError: For any other text.
    """
    if (found := re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)) is None or float(found[1]) == 0:
        raise InputError("expected a time such as 90s, 20m or 1.5h", setting=f"budget {text}")
    return float(found[1]) * _UNITS[found[2]]


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    if seconds < 100:  # noqa: PLR2004
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"  # noqa: PLR2004
    return f"{seconds / 60:.0f} min" if seconds < 6_000 else f"{seconds / 3600:.1f} h"  # noqa: PLR2004


def in_cores(count: int) -> str:
    """Return a number of cores as text; an accelerator counts as one."""
    return "one core" if count == 1 else f"{count} cores"


SHARE = 0.2
"""Share of the image-passes of a whole run that self-checks and overview may take."""
FEWEST, FEW = 20, (16, 32)
"""Images of a sample, and to predict again, at least: 16 large ones, or 32 small ones, which fill a
batch.

If a mutant loses half of 20 images, McNemar's p is below 0.001.
"""
FREE_PASSES, FREE_PIXELS, GROWTH = 160_000, 28 * 28, 1.5
"""Passes that any run may take, for images of so many pixels, and the exponent of their decline
with larger ones.

Networks for larger images are deeper, too. The passes take seconds on one core, for the shipped
network as for a ResNet at 224 pixels.
"""
DAMAGED, SEARCHED, EXPLAINED, ANEW, CORNERS, CONFIDENCES = 3, 10, 6, 6, 9, 2
"""Passes of an image: for a mutant, one that a search must catch, two maps, and the self-checks of
every run.

The last two are of an overview, for accuracy at corners and for confidences in full precision. A
mutant needs clean predictions before and after the damage, and those of the check that catches it.
A search ends early.
"""


@dataclass(frozen=True)
class Extent:
    """Number of images for each kind of work, at least the smallest useful one.

    `anew` is for self-checks that every run repeats. `answers`, over all perturbations, are
    predicted again, `few` at a time. `damaged` is for mutants. The others are for an overview, at
    `corners` and for `confidences`.
    """

    anew: int
    answers: int
    few: int
    damaged: int
    corners: int
    confidences: int


def affordable_passes(session: StressSession) -> int:
    """Return the image-passes that self-checks and overview together may take beside the rows.

    Any run may take some, fewer for larger images.
    """
    height, width = session.images.pixels.shape[-2:]
    free = int(FREE_PASSES * min(1.0, (FREE_PIXELS / (height * width)) ** GROWTH))
    return max(int(rows_passes(session) * SHARE / (1 - SHARE)), free)


def rows_passes(session: StressSession) -> int:
    """Return the image-passes that the rows of the checks file ask for at least.

    One for each image in each case.

    Groups are of the clean images, which are predicted anyway, and rows that features make are of
    few.
    """
    from harness.checks.slices import SLICE

    sizes: dict[object, int] = {}
    for check in session.checks.written:
        if check.family != SLICE:
            case = check.role, check.pose, repr(check.keys)
            sizes[case] = max(sizes.get(case, 0), session.size_of(check.family))
    return sum(sizes.values())


def extent_of(session: StressSession) -> Extent:
    """Return the images that the run can afford.

    Self-checks get half of the passes, and the overview the other half.
    """
    import torch

    from harness.checks.families import damages
    from harness.inference.devices import batch_size

    quarter = affordable_passes(session) // 4
    damaged = [family for family in damages(session.checks) if session.checks.family(family)]
    each = sum(SEARCHED if family == "search" else DAMAGED for family in damaged)
    each += EXPLAINED * bool(session.checks.family("attention"))
    models = len({model.model_sha256 for model in session.roles.values()})
    if not all(model.provides.live for model in session.roles.values()):
        models = 1  # An export does not know which models will be compared.
    batch = batch_size(session.images.pixels.shape[1:], torch.device("cpu"), screening=False)
    few = min(max(batch, FEW[0]), FEW[1])
    return Extent(
        anew=max(few, quarter // 2 // ANEW),
        answers=max(4 * few, quarter // 2),
        few=few,
        damaged=max(FEWEST, quarter // max(each, 1)),
        corners=max(FEWEST, quarter // (CORNERS * models)),
        confidences=max(FEWEST, quarter // (CONFIDENCES * models)),
    )
