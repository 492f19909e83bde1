"""Fit of tensors to a network, by names without a prefix, shapes and dtypes, and their differences."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from harness.base.errors import some_of
from harness.networks.builders import Builder
from harness.networks.checkpoints.files import CheckpointRefused, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from torch import nn

    from harness.networks.checkpoints.state_dicts import StateDict
    from harness.networks.checkpoints.tensors import StoredTensor

_FLOATS = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
_INTEGERS = {torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.bool}
_OF_TRAINING = "num_batches_tracked"
"""The last part of the name of a batch norm's counter in training; old files lack it."""
_LISTED = 3
_MOST = 0.6
"""Least share of equal names for a file of almost the same network."""
_CLASSES = ("num_classes", "classes", "n_classes", "num_labels", "nb_classes")
_CHANNELS = ("in_channels", "in_chans", "channels", "num_channels", "input_channels")
OF_ANOTHER = "For a network that is not the shipped architecture name the callable that builds it as model."


@dataclass(frozen=True)
class Needed:
    """The tensors that a network needs: the shape of each, and whether it is of floating point."""

    tensors: Mapping[str, tuple[tuple[int, ...], bool]]

    @staticmethod
    def by(network: nn.Module) -> Needed:
        """Return the tensors that a network needs."""
        own = network.state_dict()
        return Needed({name: (tuple(tensor.shape), tensor.is_floating_point()) for name, tensor in own.items()})

    @cached_property
    def required(self) -> tuple[str, ...]:
        """Return the names of the tensors that inference needs."""
        return tuple(name for name in self.tensors if name.rpartition(".")[2] != _OF_TRAINING)

    def matches(self, tensors: Mapping[str, StoredTensor]) -> dict[str, dict[str, StoredTensor]]:
        """Return the tensors of a file by prefix, and by the network's own name behind the prefix.

        A prefix is empty, or whole parts of a name with the last dot.
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
class TensorFit:
    """Fit of a state dict to a network without `prefix` in its names; `matched` are the fitting tensors."""

    needed: Needed
    held: StateDict
    prefix: str
    matched: Mapping[str, StoredTensor]

    @cached_property
    def tensors(self) -> dict[str, StoredTensor]:
        """Return the file's tensors with the prefix, by their names without it."""
        length, named = len(self.prefix), self.held.tensors.items()
        return {name[length:]: tensor for name, tensor in named if name.startswith(self.prefix)}

    @cached_property
    def missing(self) -> list[str]:
        """Return the names of required tensors that the file lacks."""
        return [name for name in self.needed.required if name not in self.matched]

    @cached_property
    def misshapen(self) -> list[str]:
        """Return the names of tensors with another shape or kind of numbers than the network needs."""
        return [name for name, tensor in self.matched.items() if not self._fits(name, tensor)]

    @cached_property
    def unknown(self) -> list[str]:
        """Return the names of tensors that the network does not have."""
        return [name for name in self.tensors if name not in self.needed.tensors]

    @property
    def left_out(self) -> list[str]:
        """Return the names of the file's tensors without the prefix."""
        return [name for name in self.held.tensors if not name.startswith(self.prefix)]

    @property
    def uncounted(self) -> bool:
        """Return whether the counters of batch norms are missing, which inference does not use."""
        return len(self.matched) < len(self.needed.tensors)

    @property
    def covers(self) -> bool:
        """Return whether the file has all required tensors in their shapes; it may have more."""
        return not (self.missing or self.misshapen)

    def _fits(self, name: str, tensor: StoredTensor) -> bool:
        shape, fractions = self.needed.tensors[name]
        return tensor.shape == shape and tensor.dtype in (_FLOATS if fractions else _INTEGERS)


def fits_of(held: StateDict, needed: Needed, *, prefix: str | None) -> list[TensorFit]:
    """Return the fits of a state dict to a network: for one prefix, or if None for each prefix with a known name."""
    found = needed.matches(held.tensors) if needed.tensors else {"": {}}
    if prefix is not None:
        found = {prefix: found.get(prefix, {})}
    return [TensorFit(needed, held, before, matched) for before, matched in found.items()]


def misfit(
    fit: TensorFit, path: Path, *, builder: Callable[..., object] | None, next_step: str = ""
) -> CheckpointRefused:
    """Return the refusal of tensors that do not fit a network, with the differences and advice, or else `next_step`.

    `builder` built the network; None stands for the notebook's network.
    """
    of = {name: value for name, value in fit.held.others.items() if value and name in fit.missing}
    if of:
        name, wanted = next(iter(of.items()))
        fact = f"its pickle wants {shown(wanted)} for {shown(name)}, which is no tensor"
        return CheckpointRefused(
            "PICKLE_GLOBAL", path, fact, "Save the weights alone: torch.save(model.state_dict(), path)."
        )
    where = f" under {shown(fit.held.place)!r}" if fit.held.place else ""
    without = f", with {shown(fit.prefix)!r} removed from their names," if fit.prefix else ""
    fact = f"its tensors{where}{without} are not those of the network: {'; '.join(_differences(fit))}"
    return CheckpointRefused("ARCHITECTURE", path, fact, next_step or _advice(fit, builder))


def _differences(fit: TensorFit) -> list[str]:
    needed, held, said = fit.needed.tensors, fit.tensors, []
    if fit.misshapen:
        said.append(_listed(fit.misshapen, len(needed), "do not fit", (_other(fit, name) for name in fit.misshapen)))
    if fit.missing:
        shapes = (f"{name} {needed[name][0]}" for name in fit.missing)
        said.append(_listed(fit.missing, len(needed), "are missing", shapes))
    if fit.unknown:
        shapes = (f"{_name(name)} {shown(held[name].shape, length=60)}" for name in fit.unknown)
        said.append(_listed(fit.unknown, len(held), "of the file are unknown to it", shapes))
    return said


def _listed(names: list[str], total: int, what: str, described: Iterable[str]) -> str:
    some = [each for each, _ in zip(described, range(_LISTED), strict=False)]
    more = f" and {len(names) - len(some)} more" if len(names) > len(some) else ""
    return f"{len(names)} of {total} {what} ({', '.join(some)}{more})"


def _other(fit: TensorFit, name: str) -> str:
    stored, (shape, _) = fit.tensors[name], fit.needed.tensors[name]
    if stored.shape != shape:
        return f"{name} has shape {shown(stored.shape, length=60)}, the network's {shape}"
    return f"{name} has dtype {stored.dtype}"


def _name(name: str) -> str:
    return shown(name, length=60)


def _advice(fit: TensorFit, builder: Callable[..., object] | None) -> str:
    if builder is None:
        return OF_ANOTHER
    if fit.misshapen and not (fit.missing or fit.unknown):
        first = [name for name in fit.misshapen if _is_of_channels(fit, name)][:1]
        last = [name for name in fit.misshapen if name not in first]
        sizes = [_first_sizes(fit, name) for name in last]
        of_classes = len(set(sizes)) == 1 and fit.needed.required[-1] in last and sizes[0]
        if of_classes or (first and not last):
            said = [_of_channels(fit, first[0], builder)] if first else []
            return " ".join([*said, *([_of_classes(*of_classes, builder)] if of_classes else [])])
    return _of_names(fit)


def _first_sizes(fit: TensorFit, name: str) -> tuple[int, int] | None:
    """Return a tensor's first size in the file and in the network, if that alone differs."""
    stored, own = fit.tensors[name].shape, fit.needed.tensors[name][0]
    return (stored[0], own[0]) if stored and len(stored) == len(own) and stored[1:] == own[1:] else None


def _of_classes(theirs: int, ours: int, builder: Callable[..., object]) -> str:
    name = _parameter(builder, _CLASSES, otherwise="num_classes")
    how = f"add model_args.{name}={theirs}" if name else f"change the callable to build it for {theirs}"
    return f"The file's network has {theirs} classes, model builds one with {ours}: {how}."


def _is_of_channels(fit: TensorFit, name: str) -> bool:
    """Return whether a tensor is a convolution's weight for another number of channels."""
    stored, own = fit.tensors[name].shape, fit.needed.tensors[name][0]
    return len(stored) == len(own) == 4 and stored[1] != own[1] and (stored[0], stored[2:]) == (own[0], own[2:])  # noqa: PLR2004


def _of_channels(fit: TensorFit, name: str, builder: Callable[..., object]) -> str:
    theirs, ours = fit.tensors[name].shape[1], fit.needed.tensors[name][0][1]
    known = _parameter(
        builder,
        _CHANNELS,
        otherwise="in_chans" if isinstance(builder, Builder) and builder.spec.startswith("timm") else "",
    )
    how = f"add model_args.{known}={theirs}" if known else f"change the callable to build it for {theirs}"
    return f"The file's {name} takes {theirs} channels, the network's {ours}: {how}."


def _parameter(builder: Callable[..., object], names: tuple[str, ...], *, otherwise: str) -> str:
    """Return the first of these names that the user's callable takes; `otherwise` if it takes any name, else empty."""
    if not isinstance(builder, Builder):
        return ""
    return next((name for name in names if name in builder.parameters), otherwise if builder.takes_any else "")


def _of_names(fit: TensorFit) -> str:
    """Return advice from the pattern of differing names."""
    needed, held = list(fit.needed.tensors), fit.tensors
    first = needed[0].partition(".")[0] + "." if needed else ""
    if all(name.startswith(first) for name in needed) and any(name.removeprefix(first) in held for name in needed):
        return (
            f"The network of model has these names under {first[:-1]!r}: name a callable that builds the inner "
            "network, or save the outer network's state dict."
        )
    agreeing = sum(name in held for name in needed)
    differing = [*fit.missing, *fit.unknown, *fit.misshapen]
    if not agreeing:
        return "The file is of another network: set model to the callable that built it for its training."
    numbered = {_numberless(name) for name in (needed if fit.unknown else held)}
    if differing and all(_numberless(name) in numbered for name in (fit.unknown or fit.missing)):
        return (
            "It has the same kinds of layers in another number or width: set model and model_args to the depth or "
            "variant of the training."
        )
    if agreeing >= _MOST * len(needed):
        parts = some_of(
            list(dict.fromkeys(_name(name.rpartition(".")[0] or name) for name in differing)), shown=_LISTED
        )
        return (
            f"Most names agree, but {parts} do not: build the same layers there, with model_args or a callable of "
            "your own."
        )
    return "Few names agree: set model to the callable that built the network for its training."


def _numberless(name: str) -> str:
    return re.sub(r"\d+", "0", name)
