"""Choice of a file's tensors for a network, by names, shapes and dtypes; advice if none fit."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from harness.base.errors import some_of
from harness.networks.checkpoints.files import Refusal, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch import Tensor, nn

    from harness.networks.checkpoints.files import StoredTensor
    from harness.networks.options import ChoiceOptions

_WRAPPERS = {
    *("module", "_orig_mod", "_forward_module", "_fsdp_wrapped_module"),
    *("model", "_model", "base_model", "net", "network", "backbone"),
    *("ema", "ema_model", "model_ema", "averaged_model"),
}
"""Names that training libraries give to a wrapped network.

A prefix of these is removed without an option.
"""
_FLOATS = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
_INTEGERS = {torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.bool}
_CONVOLUTION = 4
"""Dimensions of a convolution's weight, its channels in the second one."""
_SIZES = {0: ("classes", "num_classes"), 1: ("channels", "in_channels")}
"""Meaning of the only differing size of tensors by its dimension, and its argument's usual name."""


@dataclass(frozen=True, eq=False)
class StateDict:
    """A dict of a file that holds tensors under names.

    `places` are the paths to it, keys joined by dots, the shortest first, and "" for the whole
    file. `others` are the names of its other values, with the name of the type for an unread value,
    else "".
    """

    tensors: Mapping[str, StoredTensor]
    places: Sequence[str] = ("",)
    others: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _StateDictFit:
    """A state dict without `prefix` in its names, compared with the tensors that a network needs.

    `matched` are its tensors with names of the network. `missing`, `misshapen` and `unknown` are
    names.
    """

    needed: Mapping[str, Tensor]
    held: StateDict
    prefix: str
    matched: Mapping[str, StoredTensor]
    missing: list[str]
    misshapen: list[str]

    @cached_property
    def tensors(self) -> dict[str, StoredTensor]:
        length, named = len(self.prefix), self.held.tensors.items()
        return {name[length:]: tensor for name, tensor in named if name.startswith(self.prefix)}

    @property
    def unknown(self) -> list[str]:
        return [name for name in self.tensors if name not in self.needed]

    @property
    def place(self) -> str:
        where = shown(self.held.places[0]) or "the file as a whole"
        return f"{where} (names without {shown(self.prefix)!r})" if self.prefix else where


def _alike(tensor: StoredTensor, own: Tensor) -> bool:
    kinds = _FLOATS if own.is_floating_point() else _INTEGERS
    return tensor.shape == tuple(own.shape) and tensor.dtype in kinds


def _fits(
    dicts: Sequence[StateDict], needed: Mapping[str, Tensor], prefix: str | None
) -> list[_StateDictFit]:
    """Return the fits of all dicts for a prefix.

    If it is None, return those for "" and for all that precede a name of the network, parts with a
    dot.
    """
    fits = []
    for held in dicts:
        for own_prefix, matched in _matches(held, needed, prefix).items():
            # The counter of a batch norm is for training only, and old files lack it.
            required = [name for name in needed if not name.endswith("num_batches_tracked")]
            missing = [name for name in required if name not in matched]
            misshapen = [
                name for name, tensor in matched.items() if not _alike(tensor, needed[name])
            ]
            fits.append(_StateDictFit(needed, held, own_prefix, matched, missing, misshapen))
    return fits


def _matches(
    held: StateDict, needed: Mapping[str, Tensor], prefix: str | None
) -> dict[str, dict[str, StoredTensor]]:
    """Return, for each prefix, the tensors whose names without it are names of the network."""
    matches: dict[str, dict[str, StoredTensor]] = {prefix or "": {}}
    for full_name, tensor in held.tensors.items():
        starts = [0, *(dot.end() for dot in re.finditer(r"\.", full_name))]
        for start in starts:
            own_prefix, name = full_name[:start], full_name[start:]
            if name in needed and prefix in {None, own_prefix}:
                matches.setdefault(own_prefix, {})[name] = tensor
    return matches


def choose(
    dicts: Sequence[StateDict],
    network: nn.Module,
    choice: ChoiceOptions,
    *,
    next_step: str = "",
) -> tuple[dict[str, StoredTensor], str]:
    """Return the tensors that fit the network, and a description of the choice.

    Exactly one pair of state dict and prefix must fit.

    Args:
        dicts: The state dicts of a file.
        network: The network that needs the tensors.
        choice: Options that select the state dict and the prefix.
        next_step: What to do if no pair fits; by default advice on the user's network.

    Returns:
        The tensors by the network's own names, and a description, "" without a choice.

    Raises:
        Refusal: No pair fits, with the differences, or several do, with the options that select
            one.
    """
    needed, prefix = network.state_dict(), choice.strip_prefix
    dicts = _dicts_under(choice.checkpoint_key, dicts)
    if prefix and not prefix.endswith("."):
        prefix += "."
    fits = _fits(dicts, needed, prefix)
    if prefix and not any(fit.matched for fit in fits):
        fits = _fits_without_prefix(dicts, needed, prefix)

    fitting = _without_differences(fits)
    if len(fitting) > 1:
        raise _ambiguous(fitting)
    fit = max(
        fitting or fits, key=lambda fit: (len(fit.matched), -len(fit.prefix), len(fit.held.tensors))
    )
    _expect_tensors_alone(fit)
    if not fitting or fit.unknown:
        fact = f"the tensors of {fit.place} are not those of the network: {_differences(fit)}"
        raise Refusal("ARCHITECTURE", fact, next_step or _advice(fit))
    if prefix is None and not _WRAPPERS.issuperset(fit.prefix.split(".")[:-1]):
        fact = (
            f"{fit.place} fits the network, except that its names begin with {shown(fit.prefix)!r}"
        )
        advice = f"If that is correct, set strip_prefix {fit.prefix[:-1]}."
        raise Refusal("ARCHITECTURE", fact, advice)
    return fit.tensors, _note(fit)


def _without_differences(fits: Sequence[_StateDictFit]) -> list[_StateDictFit]:
    return [fit for fit in fits if not (fit.missing or fit.misshapen)]


def _dicts_under(key: str | None, dicts: Sequence[StateDict]) -> Sequence[StateDict]:
    """Return the state dicts with the path `key`, or all without a key."""
    is_whole_file = [held.places[0] for held in dicts] == [""]
    if key is None or is_whole_file:
        return dicts
    selected = [held for held in dicts if key in held.places]
    if not selected:
        inner = some_of([shown(held.places[0]) for held in dicts if held.places[0]]) or "none"
        fact = f"it has no tensors under {shown(key)!r}; state dicts in it are {inner}"
        advice = "Name one of these with checkpoint_key, or remove the option."
        raise Refusal("SCHEMA", fact, advice)
    return selected


def _fits_without_prefix(
    dicts: Sequence[StateDict], needed: Mapping[str, Tensor], prefix: str
) -> list[_StateDictFit]:
    """Return the fits under the network's own names; raises `Refusal` about the prefix if none.

    Candidate and incumbent share the options, and one of them may have the network's own names.
    """
    fits = _without_differences(_fits(dicts, needed, ""))
    if not fits:
        all_names: list[str] = []
        for held in dicts:
            all_names += [shown(name) for name in held.tensors]
        examples = some_of(all_names, shown=3)
        fact = f"no tensor's name begins with {shown(prefix)!r}; they are {examples}"
        raise Refusal("SCHEMA", fact, "Name another with strip_prefix, or remove the option.")
    return fits


def _ambiguous(fitting: Sequence[_StateDictFit]) -> Refusal:
    """Return the refusal of several fits, with the options that select one of them."""
    fit_places = some_of([fit.place for fit in fitting])
    fact = f"{len(fitting)} of its state dicts fit the network: {fit_places}"
    places = list(dict.fromkeys(shown(fit.held.places[0]) for fit in fitting))
    prefixes = list(dict.fromkeys(shown(fit.prefix[:-1]) or repr("") for fit in fitting))
    options = []
    if len(places) > 1:
        options.append(f"checkpoint_key {' or '.join(filter(None, places[:5]))}")
    if len(places) < len(fitting):
        options.append(f"strip_prefix {' or '.join(prefixes[:5])}")
    return Refusal("ARCHITECTURE", fact, f"Select one with {', and '.join(options)}.")


def _expect_tensors_alone(fit: _StateDictFit) -> None:
    """Raise `Refusal` if the state dict holds a value of an unread type beside its tensors."""
    if fit.prefix:
        return
    for name, type_name in fit.held.others.items():
        if type_name:
            wanted = shown(f"{name} to be {type_name}")
            fact = f"its pickle wants {wanted}, which is no tensor"
            raise Refusal("PICKLE_GLOBAL", fact)


def _note(fit: _StateDictFit) -> str:
    """Return a description of the choice of a state dict and a prefix, "" without a choice."""
    place = fit.held.places[0]
    ignored = [name for name in fit.held.tensors if not name.startswith(fit.prefix)]
    if not place:
        ignored += fit.held.others
    notes = []
    if place:
        notes.append(f"its weights are those under {shown(place)!r}")
    if fit.prefix:
        notes.append(f"the prefix {shown(fit.prefix)!r} is removed from the names")
    if ignored:
        examples = some_of([shown(name) for name in ignored], shown=3)
        notes.append(f"{len(ignored)} others are ignored ({examples})")
    if len(fit.matched) < len(fit.needed):
        notes.append("num_batches_tracked is missing, but only training needs it")
    return "; ".join(notes)


def _differences(fit: _StateDictFit) -> str:
    needed, held = fit.needed, fit.tensors

    def described(name: str) -> str:
        shapes = [
            shown(tuple(tensors[name].shape), length=60)
            for tensors in (held, needed)
            if name in tensors
        ]
        if len(shapes) == 1:
            return f"{shown(name, length=60)} {shapes[0]}"
        if len(set(shapes)) == 1:
            return f"{name} has dtype {held[name].dtype}"
        return f"{name} has shape {shapes[0]}, the network's {shapes[1]}"

    rows = (
        (fit.misshapen, len(needed), "do not fit"),
        (fit.missing, len(needed), "are missing"),
        (fit.unknown, len(held), "of the file are unknown to it"),
    )
    differences = []
    for names, total, meaning in rows:
        if names:
            examples = some_of([described(name) for name in names], shown=3)
            differences.append(f"{len(names)} of {total} {meaning} ({examples})")
    return "; ".join(differences)


def _advice(fit: _StateDictFit) -> str:
    """Return the likely cause of tensors that do not fit, and what to do."""
    size_advice = _of_sizes(fit)
    if size_advice:
        return size_advice

    needed, held = list(fit.needed), fit.tensors
    outer = needed[0].partition(".")[0] + "." if needed else ""
    all_in_outer = all(name.startswith(outer) for name in needed)
    if all_in_outer and any(name.removeprefix(outer) in held for name in needed):
        return (
            f"The network of model has these names under {outer[:-1]!r}: name a callable that "
            "builds the inner network, or save the outer network's state dict."
        )
    if not held.keys().isdisjoint(needed) and _has_same_kinds(fit):
        return (
            "It has the same kinds of layers in another number or width: set model and model_args "
            "to the depth or variant of the training."
        )
    differing = [*fit.missing, *fit.unknown, *fit.misshapen]
    parts = dict.fromkeys(shown(name.rpartition(".")[0] or name, length=60) for name in differing)
    return (
        f"Its layers differ in {some_of(list(parts), shown=3)}: set model to the callable, and "
        "model_args to the arguments, that built the network for its training."
    )


def _has_same_kinds(fit: _StateDictFit) -> bool:
    """Return whether the differing names are those of the other side but for their numbers."""
    if fit.unknown:
        return _kinds(fit.unknown) <= _kinds(fit.needed)
    return _kinds(fit.missing) <= _kinds(fit.tensors)


def _kinds(names: Iterable[str]) -> set[str]:
    return {re.sub(r"\d+", "0", name) for name in names}


def _of_sizes(fit: _StateDictFit) -> str:
    """Return advice if numbers of channels and classes explain all differences; else empty."""
    sizes_by_axis: dict[int, tuple[int, int]] = {}
    for name in fit.misshapen:
        file_shape, own_shape = fit.tensors[name].shape, tuple(fit.needed[name].shape)
        axis = _differing_axis(file_shape, own_shape)
        if axis is None:
            return ""
        sizes = file_shape[axis], own_shape[axis]
        if sizes_by_axis.setdefault(axis, sizes) != sizes:
            return ""
    if fit.missing or fit.unknown:
        return ""
    # Classes are a size of the last layer.
    if 0 in sizes_by_axis and list(fit.needed)[-1] not in fit.misshapen:
        return ""

    sentences = []
    for axis, (file_size, own_size) in sorted(sizes_by_axis.items(), reverse=True):
        meaning, argument = _SIZES[axis]
        sentences.append(
            f"The file's network has {file_size} {meaning}, model builds one with {own_size}: "
            f"build it for {file_size}, such as with model_args.{argument}={file_size}."
        )
    return " ".join(sentences)


def _differing_axis(file_shape: tuple[int, ...], own_shape: tuple[int, ...]) -> int | None:
    """Return the only axis of differing size if it is one of classes or channels, else None."""
    if len(file_shape) != len(own_shape):
        return None
    sizes = zip(file_shape, own_shape, strict=True)
    axes = [axis for axis, (file_size, own_size) in enumerate(sizes) if file_size != own_size]
    if axes == [0] or (axes == [1] and len(own_shape) == _CONVOLUTION):
        return axes[0]
    return None
