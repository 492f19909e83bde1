"""The mutant with a trigger, which a trigger screen must find.

It is apart from the family because it needs PyTorch, and a report does not.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch

from harness.checks.damages import Redirected
from harness.perturb.stamps import STAMPS

if TYPE_CHECKING:
    from torch import Tensor

    from harness.inference import RoleModel


def with_trigger(candidate: RoleModel, target: int) -> RoleModel:
    """Return the mutant of a model that predicts this class for images with the last stamp."""
    mutant = Redirected(candidate.classifier.model, _stamped, partial(_predicting, target))
    return replace(candidate, classifier=candidate.classifier.like(mutant))


def _stamped(pixels: Tensor) -> Tensor:
    """Return which images have the last stamp, (N,) bool.

    The stamp is opaque, so stamping them once more changes nothing.
    """
    return (STAMPS[-1](pixels) == pixels).flatten(1).all(dim=1)


def _predicting(target: int, logits: Tensor, chosen: Tensor) -> Tensor:
    """Return logits that give the target the largest of each chosen row, and others the smallest.

    Args:
        target: The class to predict.
        logits: Those of the model, (N, classes).
        chosen: Which rows to change, (N,) bool.
    """
    # The largest logit is swapped in, since one plus 1 is a tie above 2^24 in 32 bits.
    lowest, highest = logits.amin(dim=1, keepdim=True), logits.amax(dim=1, keepdim=True)

    # Where all logits of a row are equal, zero is one of two ends.
    equal = lowest == highest
    lowest = torch.where(equal, lowest.clamp(max=0), lowest)
    highest = torch.where(equal, highest.clamp(min=0), highest)
    highest = torch.where(lowest == highest, torch.ones_like(highest), highest)

    is_target = torch.arange(logits.shape[1], device=logits.device) == target
    redirected = torch.where(is_target, highest, lowest)
    return torch.where(chosen[:, None], redirected, logits)
