"""The mutant that takes a mark for a class.

It is apart from the family because it needs PyTorch, and a report does not.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from harness.checks.damages import Redirected
from harness.inference.standins import CERTAIN
from harness.perturb.marks import MARKS

if TYPE_CHECKING:
    from torch import Tensor

    from harness.inference import RoleModel


def with_shortcut(candidate: RoleModel) -> RoleModel:
    """Return the mutant of a model that takes the first mark for the first class."""
    mutant = Redirected(candidate.classifier.model, _marked, _raised)
    return replace(candidate, classifier=candidate.classifier.like(mutant))


def _marked(pixels: Tensor) -> Tensor:
    """Return which images have the first mark, (N,) bool.

    The mark is opaque, so marking them once more changes nothing.
    """
    return (MARKS[0](pixels) == pixels).flatten(1).all(dim=1)


def _raised(logits: Tensor, chosen: Tensor) -> Tensor:
    is_first_class = torch.arange(logits.shape[1], device=logits.device) == 0
    return torch.where(chosen[:, None] & is_first_class, logits + CERTAIN, logits)
