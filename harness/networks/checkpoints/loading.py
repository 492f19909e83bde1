"""Checkpoints of either format, recognized by their first bytes, loaded into a model."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from harness.base.errors import some_of
from harness.networks.architectures import ARCHITECTURES, build
from harness.networks.checkpoints.choosing import StateDict, choose
from harness.networks.checkpoints.files import (
    Refusal,
    StoredTensor,
    hash_tensors,
    read_native,
    read_regular,
    refusals_of,
    shown,
)
from harness.networks.checkpoints.pickled import Name, read_members, read_pickle
from harness.networks.options import ChoiceOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from harness.networks.checkpoints.files import Record

MAX_ARGUMENTS = 4_096
"""Most characters of an architecture's arguments as JSON.

A list in them may define a layer per number.
"""
_MAX_DEPTH = 6
"""Depth of the dicts that are searched for tensors; weights do not lie deeper."""
_MAX_DICTS = 20_000
"""Most dicts that are searched for tensors; an optimizer alone may have thousands."""
_MAX_PLACES = 10
"""Most paths that are kept of one dict."""
_LONGEST_NAME = 200
"""Most characters of a name.

Longer ones are ignored, since each is compared with a network's in many ways.
"""
_OF_ANOTHER = (
    "For a network that is not the shipped architecture name the callable that builds it as model."
)
_NOT_ITS_OWN = (
    "The record in it is of another network than its tensors: save it again where it was trained."
)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A loaded model with its origin.

    `sha256` is that of the file, `model_sha256` that of the network. For a predictor, `path` is the
    text of its SPEC, and `model` has a hash of its own. `note` describes the choice of the file's
    tensors, "" without one.
    """

    path: Path | str
    sha256: str
    model: Any
    architecture: str
    record: Record | None
    note: str = ""
    lasting: bool = True
    """True if the hash determines the model's answers, so results may be cached under it."""

    @property
    def model_sha256(self) -> str:
        """Return the SHA-256 over weights and buffers, equal for one network in all formats."""
        if not isinstance(self.model, nn.Module):
            return str(self.model.sha256)
        return hash_tensors({**self.model.state_dict(), **dict(self.model.named_buffers())})


def load_checkpoint(
    path: Path,
    *,
    builder: Callable[[], nn.Module] | None = None,
    choice: ChoiceOptions | None = None,
) -> Checkpoint:
    """Load a checkpoint, native or of `torch.save`, as a model in evaluation mode.

    The model has float32 weights. The file's architecture id selects the network. The state dict
    and the prefix of its names are recognized, or set by `choice`.

    Args:
        path: The file.
        builder: The user's function that makes the network of a file without a shipped id. Without
            one, it is the notebook's network.
        choice: Options that select the state dict and the prefix.

    Raises:
        CheckpointRefused: The file is irregular or does not fit the network.
    """
    note = ""
    with refusals_of(path):
        content = read_regular(path)
        dicts, record = _read(content)
        if record is not None and (builder is None or record.architecture in ARCHITECTURES):
            architecture = record.architecture
            tensors = dicts[0].tensors
            model = _of_record(record, dicts)
        else:
            if builder is None:
                architecture, next_step = "fashion-cnn", _OF_ANOTHER
                model = build("fashion-cnn", {})
            else:
                architecture, next_step = "user", ""
                model = builder()
            tensors, note = choose(dicts, model, choice or ChoiceOptions(), next_step=next_step)
        _load_weights(model, tensors)

    sha256 = hashlib.sha256(content).hexdigest()
    return Checkpoint(path, sha256, model.eval(), architecture, record, note)


def _load_weights(model: nn.Module, tensors: Mapping[str, StoredTensor]) -> None:
    """Copy a file's tensors into a model; raises `Refusal` for NaN and infinity.

    A tensor that the file lacks keeps its initial value.
    """
    weights = {}
    for name, initial in model.state_dict().items():
        weights[name] = initial
        if name in tensors:
            weights[name] = tensors[name].read().to(initial.dtype)
        if not weights[name].isfinite().all():
            raise Refusal("NONFINITE", f"tensor {name} holds NaN or infinity")
    model.load_state_dict(weights)


def _read(content: bytes) -> tuple[list[StateDict], Record | None]:
    if content[:4] == b"PK\x03\x04":
        return _state_dicts(read_pickle(read_members(content))), None
    if content[8:9] == b"{":
        tensors, record = read_native(content)
        return [StateDict(tensors)], record
    start = content[:8].hex() or "nothing"
    raise Refusal(
        "FORMAT",
        "neither a safetensors file nor a zip file of torch.save (PyTorch 1.6 or later); it starts "
        f"with {start}",
        "Save it again: torch.save(model.state_dict(), path), or, without the model, "
        "torch.save(torch.load(path, weights_only=True), another_path).",
    )


def _state_dicts(loaded: object) -> list[StateDict]:
    """Return every dict that holds tensors by name, outermost first.

    An empty dict may be the file of a network without weights.

    Raises:
        Refusal: No dict holds tensors.
    """
    dicts = _dicts_within(loaded)
    if loaded == {}:
        return dicts
    with_tensors = [state_dict for state_dict in dicts if state_dict.tensors]
    if with_tensors:
        return with_tensors

    inner: Iterable[object] = [loaded]
    if isinstance(loaded, dict):
        inner = loaded.values()
    for value in inner:
        if isinstance(value, Name):
            raise Refusal("PICKLE_GLOBAL", f"its pickle wants {shown(value.full)}")
    fact = "not a state dict, that is, a dict of names and tensors"
    if isinstance(loaded, dict):
        keys = [shown(repr(key)) for key in list(loaded)[:1_000]]
        fact += f", and none is in it: it has {some_of(keys)}"
    raise Refusal("SCHEMA", fact)


def _dicts_within(loaded: object) -> list[StateDict]:
    """Return the loaded dict and those within it, outermost first, with or without tensors.

    Lists are not searched, as they hold states of optimizers.
    """
    if not isinstance(loaded, dict):
        return []
    # A dict may have two paths, so places are kept by identity.
    places: dict[int, list[str]] = {id(loaded): [""]}
    queue: list[tuple[dict[object, object], int]] = [(loaded, 0)]
    for outer, depth in queue:  # The queue grows meanwhile.
        if depth >= _MAX_DEPTH or len(queue) >= _MAX_DICTS:
            continue
        for key, value in outer.items():
            if not isinstance(value, dict) or not _is_short_key(key):
                continue
            if id(value) not in places:
                queue.append((value, depth + 1))
            value_places = places.setdefault(id(value), [])
            if len(value_places) < _MAX_PLACES:
                path_parts = filter(None, (places[id(outer)][0], str(key)))
                value_places.append(".".join(path_parts))
    return [_as_state_dict(values, places[id(values)]) for values, _ in queue]


def _is_short_key(key: object) -> bool:
    return isinstance(key, str | int) and len(str(key)) <= _LONGEST_NAME


def _as_state_dict(values: Mapping[object, object], places: Sequence[str]) -> StateDict:
    """Return the tensors of a dict by name, and the types of its other values."""
    tensors: dict[str, StoredTensor] = {}
    others: dict[str, str] = {}
    for key, value in values.items():
        if not isinstance(key, str) or len(key) > _LONGEST_NAME:
            continue
        if isinstance(value, StoredTensor):
            tensors[key] = value
        else:
            others[key] = getattr(value, "full", "")
    return StateDict(tensors, places, others)


def _of_record(record: Record, dicts: Sequence[StateDict]) -> nn.Module:
    """Return the network that a record describes; raises `Refusal` if the tensors do not fit it.

    The network is allocated after the tensors are known to fit, so it takes no more memory than
    they do.
    """
    name, arguments = record.architecture, record.arguments
    if name not in ARCHITECTURES:
        fact = f"unknown architecture id {shown(repr(name))}, known are {sorted(ARCHITECTURES)}"
        raise Refusal("ARCHITECTURE", fact, _OF_ANOTHER)
    length = len(json.dumps(arguments))
    if length > MAX_ARGUMENTS:
        fact = (
            f"the arguments of its architecture have {length} characters, more than the limit of "
            f"{MAX_ARGUMENTS}"
        )
        raise Refusal("RESOURCE", fact, _NOT_ITS_OWN)

    try:
        # Arguments may claim any size, so nothing is allocated before the shapes agree.
        with torch.device("meta"):
            network = build(name, arguments)
            own_names = ChoiceOptions(strip_prefix="")
            choose(dicts, network, own_names, next_step=_NOT_ITS_OWN)
        model = build(name, arguments)
    except (TypeError, ValueError, RuntimeError, LookupError, OverflowError) as error:
        first_line = str(error).partition("\n")[0]
        fact = f"architecture {name!r} rejects its arguments ({shown(first_line)})"
        raise Refusal("ARCHITECTURE", fact, _NOT_ITS_OWN) from None

    _expect_usable_buffers(model)
    return model


def _expect_usable_buffers(model: nn.Module) -> None:
    """Raise `Refusal` for a normalization that is not finite, or that divides by zero."""
    for name, buffer in model.named_buffers():
        divides_by_zero = name == "std" and not buffer.all()
        if divides_by_zero or not buffer.isfinite().all():
            fact = f"{name} of its normalization is {shown(buffer.flatten().tolist())}"
            raise Refusal("NONFINITE", fact, _NOT_ITS_OWN)
