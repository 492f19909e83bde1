"""Whether tensors fit a network: their names, with a prefix taken away, their shapes and their kinds of numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from harness.networks.checkpoints.members import StateDict
    from harness.networks.checkpoints.tensors import StoredTensor

_FLOATS = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
_INTEGERS = {torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.bool}
_OF_TRAINING = "num_batches_tracked"
"""The last part of the name of what a batch norm counts when it is trained; files of old have none."""


@dataclass(frozen=True)
class Needed:
    """The tensors that a network is filled with: of each its shape, and whether its numbers have fractions."""

    tensors: Mapping[str, tuple[tuple[int, ...], bool]]

    @staticmethod
    def by(network: nn.Module) -> Needed:
        """Return what a network needs."""
        own = network.state_dict()
        return Needed({name: (tuple(tensor.shape), tensor.is_floating_point()) for name, tensor in own.items()})

    @cached_property
    def required(self) -> tuple[str, ...]:
        """Return the names of those without which it does not compute what it was trained for."""
        return tuple(name for name in self.tensors if name.rpartition(".")[2] != _OF_TRAINING)

    def matches(self, tensors: Mapping[str, StoredTensor]) -> dict[str, dict[str, StoredTensor]]:
        """Return the tensors of a file by what stands before the network's names in theirs, and by the latter.

        Either nothing or whole parts of a name, its dot included.
        """
        found: dict[str, dict[str, StoredTensor]] = {}
        parts = 1 + max((name.count(".") for name in self.tensors), default=0)
        for name, tensor in tensors.items():
            at = len(name)
            for _ in range(parts):
                at = name.rfind(".", 0, max(at - 1, 0)) + 1
                if name[at:] in self.tensors:
                    found.setdefault(name[:at], {})[name[at:]] = tensor
                if not at:
                    break
        return found


@dataclass(frozen=True, eq=False)
class Fit:
    """How the tensors of a state dict fit a network when `prefix` is taken from their names; `matched` are those."""

    needed: Needed
    held: StateDict
    prefix: str
    matched: Mapping[str, StoredTensor]

    @cached_property
    def tensors(self) -> dict[str, StoredTensor]:
        """Return those whose name begins with the prefix, without it."""
        length, named = len(self.prefix), self.held.tensors.items()
        return {name[length:]: tensor for name, tensor in named if name.startswith(self.prefix)}

    @cached_property
    def missing(self) -> list[str]:
        """Return what the network needs and the file lacks."""
        return [name for name in self.needed.required if name not in self.matched]

    @cached_property
    def misshapen(self) -> list[str]:
        """Return what has another shape, or another kind of numbers, than the network needs."""
        return [name for name, tensor in self.matched.items() if not self._fits(name, tensor)]

    @cached_property
    def unknown(self) -> list[str]:
        """Return what the network has no place for."""
        return [name for name in self.tensors if name not in self.needed.tensors]

    @property
    def left_out(self) -> list[str]:
        """Return the names of the file's other tensors, which stand beside the network's; with a prefix alone."""
        return [name for name in self.held.tensors if not name.startswith(self.prefix)]

    @property
    def uncounted(self) -> bool:
        """Return whether what batch norms count in training is missing, which evaluation does not use."""
        return len(self.matched) < len(self.needed.tensors)

    @property
    def covers(self) -> bool:
        """Return whether all that the network needs is there, whatever else is."""
        return not (self.missing or self.misshapen)

    def _fits(self, name: str, tensor: StoredTensor) -> bool:
        shape, fractions = self.needed.tensors[name]
        return tensor.shape == shape and tensor.dtype in (_FLOATS if fractions else _INTEGERS)


def fits_of(held: StateDict, needed: Needed, *, prefix: str | None) -> list[Fit]:
    """Return how a state dict fits a network: with this prefix, or for None with each under which a name fits."""
    found = needed.matches(held.tensors) if needed.tensors else {"": {}}
    if prefix is not None:
        found = {prefix: found.get(prefix, {})}
    return [Fit(needed, held, before, matched) for before, matched in found.items()]
