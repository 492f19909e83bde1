"""Number of images for self-checks and for the comparison of models, as a share of the run's own work.

Counted in image-passes, of what the rows of the checks file ask for, and never by a clock: serial runs, runs with
workers and runs from the cache look at the same images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.checks.golden import GOLDEN
from harness.checks.slices import SLICE

if TYPE_CHECKING:
    from harness.data import LabelledImages
    from harness.run.session import StressSession

SHARE = 0.2
"""Of the image-passes of a whole run, how many may be for what is not the checks themselves."""
LEAST = 20
"""Images that are always looked at: half of them lost by damage is beyond chance (McNemar's p below 0.001)."""
FEW = 16, 32
"""Images that are always asked for again, at least: the first for large ones, and as many as fill a batch of small
ones, of which fewer would cost as much, since batches are padded."""
FREE_PASSES, FREE_PIXELS, GROWTH = 160_000, 28 * 28, 1.5
"""Passes that any run may take for it, of images of so many pixels, and how fewer they are of larger ones: networks for
larger images are deeper, too. They take seconds on one core, the shipped network's as a ResNet's at 224 pixels."""
DAMAGED, SEARCHED, EXPLAINED = 3, 10, 6
"""Passes of an image for a damage (at rest before and after, and in the check that notices), for one that a search must
notice, which ends early, and for two of its maps."""
ANEW = 6
"""Passes of an image for the checks that nothing is remembered of: identity, a second time, and twice as given."""
CURVES, SURVIVED = 42, 120
"""Passes of an image for an overview's curves and maps, and for its searches, which end early."""


@dataclass(frozen=True)
class Extent:
    """Number of images, at least the smallest useful one.

    For checks that are always made `anew`, and, over all perturbations, for `answers` that are asked for again, `few`
    at a time; for `damaged` copies; for an overview's `curves`, `searches` of models other than the candidate, and
    `confidences`.
    """

    anew: int
    answers: int
    few: int
    damaged: int
    curves: int
    searches: int
    confidences: int


def affordable_passes(session: StressSession) -> int:
    """Return the image-passes that self-checks and overview together may take beside what the rows ask for."""
    beside = rows_passes(session) * SHARE / (1 - SHARE)
    return max(int(beside), free_passes(session.images))


def rows_passes(session: StressSession) -> int:
    """Return the image-passes that the rows of the checks file ask for at least: one for each image in each case."""
    sizes: dict[object, int] = {}
    for check in session.checks.checks:
        if check.family in {GOLDEN, SLICE}:
            continue  # One image each, and what is predicted anyway: images as they are.
        case, size = (check.role, check.pose, repr(check.keys)), session.size_of(check.family)
        sizes[case] = max(sizes.get(case, 0), size)
    return sum(sizes.values())


def free_passes(images: LabelledImages) -> int:
    """Return the image-passes of images of this size that any run may take."""
    height, width = images.pixels.shape[-2:]
    return int(FREE_PASSES * min(1.0, (FREE_PIXELS / (height * width)) ** GROWTH))


def extent_of(session: StressSession) -> Extent:
    """Return what the run can afford, half of it for self-checks and half for the overview."""
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
        curves=max(LEAST, quarter // (CURVES * models)),
        searches=max(LEAST, quarter // (SURVIVED * models)),
        confidences=max(LEAST, quarter // (2 * models)),
    )
