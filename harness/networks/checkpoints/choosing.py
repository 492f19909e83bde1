"""Choice of a file's tensors for a network, by their names or by options, never by a guess."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.base.errors import some_of
from harness.networks.checkpoints.files import SAVE_WEIGHTS_ALONE, CheckpointRefused, shown
from harness.networks.checkpoints.fitting import Needed, TensorFit, fits_of, misfit
from harness.networks.checkpoints.state_dicts import no_state_dict, paths_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import nn

    from harness.networks.checkpoints.state_dicts import StateDict
    from harness.networks.checkpoints.tensors import StoredTensor

_WRAPPERS = {
    *("module", "_orig_mod", "_forward_module", "_fsdp_wrapped_module"),
    *("model", "_model", "base_model", "net", "network", "backbone"),
    *("ema", "ema_model", "model_ema", "averaged_model"),
}
"""Names that training libraries give to a wrapped network; a prefix of these is removed without an option."""

_OFFERED = 5


@dataclass(frozen=True)
class Choice:
    """The user's choice of the weights within a file; None without a choice.

    `key` is the path of a state dict, keys joined by dots. `prefix` precedes the network's own names in the file.
    """

    key: str | None = None
    prefix: str | None = None

    @property
    def before(self) -> str | None:
        """Return the prefix with its last dot, which the user may omit."""
        return f"{self.prefix}." if self.prefix and not self.prefix.endswith(".") else self.prefix


def choose(
    dicts: Sequence[StateDict], network: nn.Module, choice: Choice, path: Path, *, builder: Callable[..., object] | None
) -> tuple[dict[str, StoredTensor], str]:
    """Return the tensors that fit the network, by its own names, and a description of the choice, empty without one.

    Exactly one pair of state dict and prefix must fit. If none does, the `CheckpointRefused` states the differences and
    the likely cause. If several do, it states the options that select one.
    """
    needed = Needed.by(network)
    if needed.tensors and not any(each.tensors for each in dicts):
        raise no_state_dict({}, path)
    among = _named(dicts, choice, path)
    fits = [fit for held in among for fit in fits_of(held, needed, prefix=choice.before)]
    if choice.before and not any(fit.matched for fit in fits):
        fits = _as_they_are(among, needed, choice.before, path)
    covering = [fit for fit in fits if fit.covers]
    if len(covering) > 1:
        raise _undecided(covering, path)
    if not covering:
        raise misfit(_nearest(fits, among, needed, choice), path, builder=builder)
    (fit,) = covering
    if fit.unknown:
        raise misfit(fit, path, builder=builder)
    if strange := next((f"{name} to be {of}" for name, of in fit.held.others.items() if of and not fit.prefix), None):
        raise CheckpointRefused("PICKLE_GLOBAL", path, f"its pickle wants {shown(strange)}", SAVE_WEIGHTS_ALONE)
    if choice.prefix is None and not _WRAPPERS.issuperset(fit.prefix.split(".")[:-1]):
        fact = f"{_place(fit)} fits the network, except that its names begin with {shown(fit.prefix)!r}"
        raise CheckpointRefused("ARCHITECTURE", path, fact, f"If that is correct, set strip_prefix {fit.prefix[:-1]}.")
    return fit.tensors, _in_words(fit)


def _named(dicts: Sequence[StateDict], choice: Choice, path: Path) -> Sequence[StateDict]:
    """Return the state dict of the chosen key; all without a key, or if the whole file is one state dict."""
    if choice.key is None or [each.places for each in dicts] == [("",)]:
        return dicts
    if named := [each for each in dicts if choice.key in each.places]:
        return named
    inner = paths_of(dicts)
    fact = f"it has no tensors under {shown(choice.key)!r}; state dicts in it are {inner or 'none'}"
    raise CheckpointRefused("SCHEMA", path, fact, "Name one of these with checkpoint_key, or remove the option.")


def _as_they_are(among: Sequence[StateDict], needed: Needed, prefix: str, path: Path) -> list[TensorFit]:
    """Return the fits of a file that already has the network's own names, without the prefix; else raise."""
    plain = [fit for held in among for fit in fits_of(held, needed, prefix="") if fit.covers]
    if not plain:
        named = some_of([shown(name) for held in among for name in held.tensors], shown=3)
        fact = f"no tensor's name begins with {shown(prefix)!r}; they are {named}"
        raise CheckpointRefused("SCHEMA", path, fact, "Name another with strip_prefix, or remove the option.")
    return plain


def _nearest(fits: Sequence[TensorFit], among: Sequence[StateDict], needed: Needed, choice: Choice) -> TensorFit:
    """Return the fit with the most equal names; that of the largest state dict if no name is equal."""
    largest = max(among, key=lambda held: len(held.tensors))
    known = [*fits, TensorFit(needed, largest, choice.before or "", {})]
    return max(known, key=lambda fit: (len(fit.matched), -len(fit.prefix)))


def _undecided(covering: Sequence[TensorFit], path: Path) -> CheckpointRefused:
    fact = f"{len(covering)} of its state dicts fit the network: {some_of([_place(fit) for fit in covering])}"
    places = list(dict.fromkeys(fit.held.place for fit in covering))
    prefixes = list(dict.fromkeys(fit.prefix for fit in covering))
    ways = []
    if len(places) > 1:
        ways.append(f"checkpoint_key {_either(list(filter(None, places)))}")
    if len(places) < len(covering):
        ways.append(f"strip_prefix {_either([prefix[:-1] or repr('') for prefix in prefixes])}")
    return CheckpointRefused("ARCHITECTURE", path, fact, f"Select one with {', and '.join(ways)}.")


def _either(words: Sequence[str]) -> str:
    return " or ".join(map(shown, words[:_OFFERED])) + (" or another" if len(words) > _OFFERED else "")


def _place(fit: TensorFit) -> str:
    where = shown(fit.held.place) or "the file as a whole"
    return f"{where} (names without {shown(fit.prefix)!r})" if fit.prefix else where


def _in_words(fit: TensorFit) -> str:
    """Return a description of the choice; empty if the whole file fits unchanged."""
    said = []
    if fit.held.place:
        said.append(f"its weights are those under {shown(fit.held.place)!r}")
    if fit.prefix:
        said.append(f"the prefix {shown(fit.prefix)!r} is removed from the names")
    if left_out := [*fit.left_out, *(fit.held.others if not fit.held.place else ())]:
        said.append(f"{len(left_out)} others are ignored ({some_of([shown(name) for name in left_out], shown=3)})")
    if fit.uncounted:
        said.append("num_batches_tracked is missing, but only training needs it")
    return "; ".join(said)
