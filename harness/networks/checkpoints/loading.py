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
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from harness.networks.checkpoints.files import Record

MAX_ARGUMENTS = 4_096
"""Most characters of an architecture's arguments as JSON, since a list in them may define a layer per number."""
_MAX_DEPTH, _MAX_DICTS, _MAX_PLACES = 6, 20_000, 10
"""Depth and number of dicts to search for tensors, and most paths that are kept of one. An optimizer alone may have
thousands of dicts; weights do not lie deeper."""
_LONGEST_NAME = 200
"""Most characters of a name; longer ones are ignored, since each is compared with a network's in many ways."""
_OF_ANOTHER = (
    "For a network that is not the shipped architecture name the callable that builds it as model."
)
_NOT_ITS_OWN = (
    "The record in it is of another network than its tensors: save it again where it was trained."
)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A loaded model with its origin; `sha256` is that of the file, `model_sha256` that of the network.

    For a predictor, `path` is the text of its SPEC, and `model` has a hash of its own. `note` describes the choice of
    the file's tensors, "" without one.
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
        """Return the SHA-256 over weights and buffers: equal for one network in all files and formats."""
        if not isinstance(self.model, nn.Module):
            return str(self.model.sha256)
        return hash_tensors({**self.model.state_dict(), **dict(self.model.named_buffers())})


def load_checkpoint(
    path: Path,
    *,
    builder: Callable[[], nn.Module] | None = None,
    choice: ChoiceOptions | None = None,
) -> Checkpoint:
    """Load a checkpoint, native or of `torch.save`, into an evaluation-mode model with float32 weights.

    The file's architecture id selects the network. Without a shipped id, the user's `builder` makes the network; its
    default is the notebook's. The state dict and the prefix of its names are then recognized, or set by `choice`.
    Raises `CheckpointRefused` for an irregular file.
    """
    note = ""
    with refusals_of(path):
        content = read_regular(path)
        dicts, record = _read(content)
        if record is not None and (builder is None or record.architecture in ARCHITECTURES):
            architecture, tensors = record.architecture, dicts[0].tensors
            model = _of_record(record, dicts)
        else:
            architecture = "fashion-cnn" if builder is None else "user"
            model = build("fashion-cnn", {}) if builder is None else builder()
            next_step = _OF_ANOTHER if builder is None else ""
            tensors, note = choose(dicts, model, choice or ChoiceOptions(), next_step=next_step)
        weights = {}
        for (
            name,
            own,
        ) in model.state_dict().items():  # A tensor that the file lacks keeps its initial value.
            weights[name] = tensors[name].read().to(own.dtype) if name in tensors else own
            if not weights[name].isfinite().all():
                raise Refusal("NONFINITE", f"tensor {name} holds NaN or infinity")
        model.load_state_dict(weights)
    return Checkpoint(
        path, hashlib.sha256(content).hexdigest(), model.eval(), architecture, record, note
    )


def _read(content: bytes) -> tuple[list[StateDict], Record | None]:
    if content[:4] == b"PK\x03\x04":
        return _state_dicts(read_pickle(read_members(content))), None
    if content[8:9] == b"{":
        tensors, record = read_native(content)
        return [StateDict(tensors)], record
    start = content[:8].hex() or "nothing"
    raise Refusal(
        "FORMAT",
        f"neither a safetensors file nor a zip file of torch.save (PyTorch 1.6 or later); it starts with {start}",
        "Save it again: torch.save(model.state_dict(), path), or, without the model, "
        "torch.save(torch.load(path, weights_only=True), another_path).",
    )


def _state_dicts(loaded: object) -> list[StateDict]:
    """Return every dict that holds tensors by name, outermost first; raises `Refusal` without any.

    An empty dict may be the file of a network without weights. Lists are not searched, as they hold states of
    optimizers.
    """
    places: dict[int, list[str]] = {id(loaded): [""]}
    reached: list[tuple[dict[object, object], int]] = (
        [(loaded, 0)] if isinstance(loaded, dict) else []
    )
    for outer, depth in reached:  # The list grows meanwhile.
        for key, value in outer.items() if depth < _MAX_DEPTH and len(reached) < _MAX_DICTS else ():
            if (
                isinstance(value, dict)
                and isinstance(key, str | int)
                and len(str(key)) <= _LONGEST_NAME
            ):
                if id(value) not in places:
                    reached.append((value, depth + 1))
                if (
                    len(known := places.setdefault(id(value), [])) < _MAX_PLACES
                ):  # One dict may have two paths.
                    known.append(".".join(filter(None, (places[id(outer)][0], str(key)))))
    dicts = []
    for each, _ in reached:
        named = {
            key: value
            for key, value in each.items()
            if isinstance(key, str) and len(key) <= _LONGEST_NAME
        }
        tensors = {key: value for key, value in named.items() if isinstance(value, StoredTensor)}
        others = {
            key: getattr(value, "full", "") for key, value in named.items() if key not in tensors
        }
        dicts.append(StateDict(tensors, places[id(each)], others))
    if loaded == {} or any(each.tensors for each in dicts):
        return [each for each in dicts if each.tensors or not loaded]
    inner = loaded.values() if isinstance(loaded, dict) else [loaded]
    if wanted := next((value.full for value in inner if isinstance(value, Name)), None):
        raise Refusal("PICKLE_GLOBAL", f"its pickle wants {shown(wanted)}")
    fact = "not a state dict, that is, a dict of names and tensors"
    if isinstance(loaded, dict):
        fact += f", and none is in it: it has {some_of([shown(repr(key)) for key in list(loaded)[:1_000]])}"
    raise Refusal("SCHEMA", fact)


def _of_record(record: Record, dicts: Sequence[StateDict]) -> nn.Module:
    """Return the network that a record describes; raises `Refusal` if the tensors do not fit it.

    The network is allocated after the tensors are known to fit, so it takes no more memory than they do.
    """
    name, arguments = record.architecture, record.arguments
    if name not in ARCHITECTURES:
        fact = f"unknown architecture id {shown(repr(name))}, known are {sorted(ARCHITECTURES)}"
        raise Refusal("ARCHITECTURE", fact, _OF_ANOTHER)
    if (length := len(json.dumps(arguments))) > MAX_ARGUMENTS:
        fact = f"the arguments of its architecture have {length} characters, more than the limit of {MAX_ARGUMENTS}"
        raise Refusal("RESOURCE", fact, _NOT_ITS_OWN)
    try:
        with torch.device(
            "meta"
        ):  # Arguments may claim any size, so nothing is allocated before the shapes agree.
            choose(
                dicts,
                build(name, arguments),
                ChoiceOptions(strip_prefix=""),
                next_step=_NOT_ITS_OWN,
            )
        model = build(name, arguments)
    except (TypeError, ValueError, RuntimeError, LookupError, OverflowError) as error:
        fact = f"architecture {name!r} rejects its arguments ({shown(str(error).partition(chr(10))[0])})"
        raise Refusal("ARCHITECTURE", fact, _NOT_ITS_OWN) from None
    for buffer_name, buffer in model.named_buffers():
        if not buffer.isfinite().all() or (buffer_name == "std" and not buffer.all()):
            fact = f"{buffer_name} of its normalization is {shown(buffer.flatten().tolist())}"
            raise Refusal("NONFINITE", fact, _NOT_ITS_OWN)
    return model
