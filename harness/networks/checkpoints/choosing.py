"""Which of a file's tensors a network is filled with: recognised by their names, told by options, never guessed."""

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
"""Names that trainings give to the network within a wrapper; a prefix of these is removed unasked."""

_OFFERED = 5


@dataclass(frozen=True)
class Choice:
    """The user's choice of the weights within a file; None without a choice.

    `key` is the path of a state dict, keys joined by dots, and `prefix` what stands before the network's own names.
    """

    key: str | None = None
    prefix: str | None = None

    @property
    def before(self) -> str | None:
        """Return the prefix as it stands before names: its dot is the user's to leave out."""
        return f"{self.prefix}." if self.prefix and not self.prefix.endswith(".") else self.prefix


def choose(
    dicts: Sequence[StateDict], network: nn.Module, choice: Choice, path: Path, *, builder: Callable[..., object] | None
) -> tuple[dict[str, StoredTensor], str]:
    """Return the tensors that fit the network, by its own names, and in words what was chosen of the file, if anything.

    Of all state dicts and prefixes exactly one must fit. Raises `CheckpointRefused` when none does, with what differs
    and the likely cause, and when several do, with the options that tell them apart.
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
        fact = f"{_place(fit)} fits the network, but for the names, which begin with {shown(fit.prefix)!r}"
        raise CheckpointRefused("ARCHITECTURE", path, fact, f"Say strip-prefix {fit.prefix[:-1]}, if that is it.")
    return fit.tensors, _in_words(fit)


def _named(dicts: Sequence[StateDict], choice: Choice, path: Path) -> Sequence[StateDict]:
    """Return the state dict that was named; all without a name, and the only one of a file that is nothing else."""
    if choice.key is None or [each.places for each in dicts] == [("",)]:
        return dicts
    if named := [each for each in dicts if choice.key in each.places]:
        return named
    inner = paths_of(dicts)
    fact = f"it has no tensors under {shown(choice.key)!r}; state dicts in it are {inner or 'none'}"
    raise CheckpointRefused("SCHEMA", path, fact, "Name one of these with checkpoint-key, or leave it out.")


def _as_they_are(among: Sequence[StateDict], needed: Needed, prefix: str, path: Path) -> list[TensorFit]:
    """Return the fits of a file whose names lack the prefix, since they are the network's own; else raise."""
    plain = [fit for held in among for fit in fits_of(held, needed, prefix="") if fit.covers]
    if not plain:
        named = some_of([shown(name) for held in among for name in held.tensors], shown=3)
        fact = f"no tensor's name begins with {shown(prefix)!r}; they are {named}"
        raise CheckpointRefused("SCHEMA", path, fact, "Name another with strip-prefix, or leave it out.")
    return plain


def _nearest(fits: Sequence[TensorFit], among: Sequence[StateDict], needed: Needed, choice: Choice) -> TensorFit:
    """Return the fit in which most names agree; that of the largest state dict if none does."""
    largest = max(among, key=lambda held: len(held.tensors))
    known = [*fits, TensorFit(needed, largest, choice.before or "", {})]
    return max(known, key=lambda fit: (len(fit.matched), -len(fit.prefix)))


def _undecided(covering: Sequence[TensorFit], path: Path) -> CheckpointRefused:
    fact = f"{len(covering)} of its state dicts fit the network: {some_of([_place(fit) for fit in covering])}"
    places = list(dict.fromkeys(fit.held.place for fit in covering))
    prefixes = list(dict.fromkeys(fit.prefix for fit in covering))
    ways = []
    if len(places) > 1:
        ways.append(f"checkpoint-key {_either(list(filter(None, places)))}")
    if len(places) < len(covering):
        ways.append(f"strip-prefix {_either([prefix[:-1] or repr('') for prefix in prefixes])}")
    return CheckpointRefused("ARCHITECTURE", path, fact, f"Say which one to judge: {', and '.join(ways)}.")


def _either(words: Sequence[str]) -> str:
    return " or ".join(map(shown, words[:_OFFERED])) + (" or another" if len(words) > _OFFERED else "")


def _place(fit: TensorFit) -> str:
    where = shown(fit.held.place) or "the file as a whole"
    return f"{where} (names without {shown(fit.prefix)!r})" if fit.prefix else where


def _in_words(fit: TensorFit) -> str:
    """Say what was chosen of the file; nothing of a state dict that was taken as it is."""
    said = []
    if fit.held.place:
        said.append(f"its weights are those under {shown(fit.held.place)!r}")
    if fit.prefix:
        said.append(f"{shown(fit.prefix)!r} is taken from the names")
    if left_out := [*fit.left_out, *(fit.held.others if not fit.held.place else ())]:
        said.append(f"{len(left_out)} others left out ({some_of([shown(name) for name in left_out], shown=3)})")
    if fit.uncounted:
        said.append("without num_batches_tracked, which training alone uses")
    return "; ".join(said)
