"""Networks in evaluation mode: for as long as it takes, or as a copy."""

from __future__ import annotations

import copy
from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.networks.settings import foreign_network

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Keep a model in evaluation mode as long as the context lasts, in which it is run; see `foreign_network`."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with foreign_network():
            yield
    finally:
        for module in training:
            module.training = True


def evaluation_copy(model: nn.Module) -> nn.Module:
    """Return a copy of the model in evaluation mode, its parameters frozen."""
    with foreign_network():
        copied = copy.deepcopy(model)
    return copied.eval().requires_grad_(requires_grad=False)
