"""How far chance alone would move a row: what each image contributes, of some healthy networks, put together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from harness.calibration.panel import Chance
from harness.errors import InputError
from harness.measures import Unit
from harness.measures.contributions import unpacked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ALONE = 0.4
"""The part of the variance between images by which one network's mean would move, were it trained anew.

Between 0.24 and 0.37 for nine of ten rows of yes and no of the shipped panel, 0.29 in the middle."""


def chance_of(measured: Sequence[Mapping[str, Any]]) -> Chance | None:
    """Return how far chance moves a row, by its entries in the reports of K networks; None where they do not say.

    The sum over the images of what the networks' contributions vary, unbiased, over n^2; of a count without the n^2.
    Raises `InputError` when the networks tell of different numbers of images.
    """
    texts = [str(entry.get("each") or "") for entry in measured]
    if not all(texts):
        return None
    each = [unpacked(text) for text in texts]
    if len({len(values) for values in each}) > 1:
        raise InputError(f"row {measured[0]['id']}: networks tell of different numbers of images; measure again")
    n = len(each[0])
    by_image = np.var(each, axis=0, ddof=1).sum() if len(each) > 1 else ALONE * n * np.var(each[0])
    rests = [entry["rest"] for entry in measured if entry.get("rest") is not None]
    return Chance(
        variance=float(by_image if Unit(measured[0]["unit"]) is Unit.IMAGES else by_image / n**2),
        rest=float(np.mean(rests)) if len(rests) == len(measured) else None,
        answers=all(text.startswith("bool") for text in texts),
    )
