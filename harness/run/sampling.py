"""Number of images for self-checks and for the comparison of models, as a share of the run's own work.

The unit is an image-pass of the rows of the checks file, never a clock. Serial runs, runs with workers and runs from
the cache therefore use the same images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.checks.golden import GOLDEN
from harness.checks.slices import SLICE

if TYPE_CHECKING:
    from harness.run.session import StressSession

SHARE = 0.2
"""Share of the image-passes of a whole run that self-checks and overview may take."""
LEAST, FEW = 20, (16, 32)
"""Images of a sample, and to predict again, at least: 16 large ones, or 32 small ones, which fill a batch.

If a mutant loses half of 20 images, McNemar's p is below 0.001.
"""
FREE_PASSES, FREE_PIXELS, GROWTH = 160_000, 28 * 28, 1.5
"""Passes that any run may take, for images of so many pixels, and the exponent of their decline with larger ones.

Networks for larger images are deeper, too. The passes take seconds on one core, for the shipped network as for a
ResNet at 224 pixels.
"""
DAMAGED, SEARCHED, EXPLAINED, ANEW, CORNERS, CONFIDENCES = 3, 10, 6, 6, 9, 2
"""Passes of an image for a mutant, one that a search must catch, two maps, the self-checks that every run repeats, and
an overview's accuracy at corners and confidences.

A mutant needs clean predictions before and after the damage, and those of the check that catches it. A search ends
early. Confidences need full precision.
"""


@dataclass(frozen=True)
class Extent:
    """Number of images for each kind of work, at least the smallest useful one.

    `anew` is for self-checks that every run repeats. `answers`, over all perturbations, are predicted again, `few` at
    a time. `damaged` is for mutants. The others are for an overview, at `corners` and for `confidences`.
    """

    anew: int
    answers: int
    few: int
    damaged: int
    corners: int
    confidences: int


def affordable_passes(session: StressSession) -> int:
    """Return the image-passes that self-checks and overview together may take besides those of the rows.

    Any run may take some, fewer for larger images.
    """
    height, width = session.images.pixels.shape[-2:]
    free = int(FREE_PASSES * min(1.0, (FREE_PIXELS / (height * width)) ** GROWTH))
    return max(int(rows_passes(session) * SHARE / (1 - SHARE)), free)


def rows_passes(session: StressSession) -> int:
    """Return the image-passes that the rows of the checks file ask for at least: one for each image in each case.

    Golden images are few, and groups are of the clean images, which are predicted anyway.
    """
    sizes: dict[object, int] = {}
    for check in session.checks.checks:
        if check.family not in {GOLDEN, SLICE}:
            case = check.role, check.pose, repr(check.keys)
            sizes[case] = max(sizes.get(case, 0), session.size_of(check.family))
    return sum(sizes.values())


def extent_of(session: StressSession) -> Extent:
    """Return the images that the run can afford, half of the passes for self-checks and half for the overview."""
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
        damaged=max(LEAST, quarter // max(each, 1)),
        corners=max(LEAST, quarter // (CORNERS * models)),
        confidences=max(LEAST, quarter // (CONFIDENCES * models)),
    )
