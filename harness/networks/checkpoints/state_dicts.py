"""State dicts of a `torch.save` file: the whole file, or members of a training file by their paths."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.base.errors import some_of
from harness.networks.checkpoints.files import SAVE_WEIGHTS_ALONE, CheckpointRefused, shown
from harness.networks.checkpoints.tensors import Name, Opaque, StoredTensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_MAX_DEPTH = 6
"""Depth up to which dicts are searched; weights do not lie deeper."""
_MAX_DICTS = 20_000
"""Number of dicts up to which the search continues; an optimizer alone may have thousands."""
_MAX_PLACES = 10
"""Most paths that are kept of one dict."""
_LONGEST_NAME = 200
"""Most characters of a name; longer ones are ignored, since each is compared with a network's in many ways."""


@dataclass(frozen=True, eq=False)
class StateDict:
    """A dict of a file that holds tensors under names.

    `places` are the paths to it, keys joined by dots, the shortest first, and "" for the whole file. `others` are the
    names of its other values, with the name of the type for an unread value, else "".
    """

    places: tuple[str, ...]
    tensors: Mapping[str, StoredTensor]
    others: Mapping[str, str]

    @property
    def place(self) -> str:
        """Return the shortest path to it."""
        return self.places[0]


def state_dicts(loaded: object, path: Path) -> tuple[StateDict, ...]:
    """Return every dict that holds tensors by name, outermost first; raises `CheckpointRefused` without any.

    An empty dict may be the file of a network without weights. Lists are not searched, as they hold states of
    optimizers.
    """
    if not isinstance(loaded, dict):
        raise no_state_dict(loaded, path)
    if not loaded:
        return (_state_dict(loaded, ("",)),)
    places: dict[int, list[str]] = {id(loaded): [""]}
    found = [loaded]
    waiting = deque([(loaded, 0)])
    while waiting and len(found) < _MAX_DICTS:
        outer, depth = waiting.popleft()
        for key, value in outer.items():
            if not isinstance(value, dict) or not isinstance(key, str | int) or depth == _MAX_DEPTH:
                continue
            if len(str(key)) > _LONGEST_NAME:
                continue
            place = ".".join(filter(None, (places[id(outer)][0], str(key))))
            if id(value) in places:
                if len(places[id(value)]) < _MAX_PLACES:  # One dict may have two paths.
                    places[id(value)].append(place)
                continue
            places[id(value)] = [place]
            found.append(value)
            waiting.append((value, depth + 1))
    dicts = [_state_dict(each, tuple(places[id(each)])) for each in found]
    if not any(each.tensors for each in dicts):
        raise no_state_dict(loaded, path)
    return tuple(each for each in dicts if each.tensors)


def paths_of(dicts: Sequence[StateDict]) -> str:
    """Return some paths of the state dicts in a file, in the form of the option `checkpoint_key`."""
    return some_of([shown(each.place) for each in dicts if each.place])


def _state_dict(given: dict[object, object], places: tuple[str, ...]) -> StateDict:
    named = {key: value for key, value in given.items() if isinstance(key, str) and len(key) <= _LONGEST_NAME}
    tensors = {key: value for key, value in named.items() if isinstance(value, StoredTensor)}
    others = {key: _type_of(value) for key, value in named.items() if key not in tensors}
    return StateDict(places, tensors, others)


def _type_of(value: object) -> str:
    """Return the name of an unread value's type; empty for others."""
    if isinstance(value, Opaque):
        return value.of
    return value.full if isinstance(value, Name) else ""


def no_state_dict(loaded: object, path: Path) -> CheckpointRefused:
    """Return the refusal of a file without tensors under names."""
    inner = loaded.values() if isinstance(loaded, dict) else [loaded]
    if wanted := next(filter(None, map(_type_of, inner)), None):
        return CheckpointRefused("PICKLE_GLOBAL", path, f"its pickle wants {shown(wanted)}", SAVE_WEIGHTS_ALONE)
    fact = "not a state dict, that is, a dict of names and tensors"
    if isinstance(loaded, dict) and loaded:
        fact += f", and none is in it: it has {some_of([shown(repr(key)) for key in list(loaded)[:1_000]])}"
    return CheckpointRefused("SCHEMA", path, fact, SAVE_WEIGHTS_ALONE)
