"""Data for workers.

Pixels, sent once per node or read there from a file, and the user's own code.
"""

from __future__ import annotations

import copy
import io
import math
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.fx import GraphModule
from torch.utils.weak import WeakIdKeyDictionary

from harness.base.errors import ClusterError
from harness.data.rows import FileRows, Rows
from harness.perturb.corruptions import CORRUPTIONS, Corruption

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from harness.perturb.corruptions import CorruptionFunction

_PAGE = 16 << 20
"""Bytes of images in one object of the store."""


@dataclass(frozen=True, eq=False)
class SentPixels:
    """Replaces the pixels of all images in a worker.

    Page i in the object store has the rows from `i * rows` on.
    """

    shape: tuple[int, ...]
    rows: int
    pages: Mapping[int, Any]

    def __getitem__(self, positions: Tensor) -> Tensor:
        """Return a copy of the rows at positions (M,) int64, without a hold on the store."""
        import ray

        at = [divmod(position, self.rows) for position in positions.tolist()]
        pages = {number: ray.get(self.pages[number]) for number in {number for number, _ in at}}
        return torch.from_numpy(np.stack([pages[number][row] for number, row in at]))


class Pages:
    """Pixels of this process in the object store, for as long as the images exist."""

    def __init__(self) -> None:
        self.by_file = True
        """False once a node lacks a file with pixels, which then travel."""
        self._put: Any = WeakIdKeyDictionary()

    def in_file(self, pixels: Tensor) -> bool:
        """Return whether workers read the pixels from a named file themselves."""
        read = pixels.source[0] if self.by_file and isinstance(pixels, Rows) else None
        return isinstance(read, FileRows) and read.path is not None

    def of(self, pixels: Tensor, at: np.ndarray) -> SentPixels:
        """Return a replacement of the pixels for workers, with the rows at positions (M,) int64."""
        import ray

        pages: dict[int, Any] = self._put.setdefault(pixels, {})
        rows = max(1, _PAGE // max(1, math.prod(pixels.shape[1:]) * pixels.dtype.itemsize))
        numbers = np.unique(at // rows).tolist()
        for number in numbers:
            if number not in pages:
                pages[number] = ray.put(
                    np.ascontiguousarray(pixels[number * rows : (number + 1) * rows].numpy())
                )
        return SentPixels(tuple(pixels.shape), rows, {number: pages[number] for number in numbers})


def _declared(name: str, severity: int, kind: CorruptionFunction) -> Corruption:
    """Return a corruption of the user's, declared in this process."""
    if name not in CORRUPTIONS:
        CORRUPTIONS.add(name, kind, declared_by=_declared)
    return Corruption(name, severity)


def packed(thing: Any, what: str) -> bytes:
    """Return an object as bytes, with all code of the user's.

    Raises:
        InputError: If it cannot be pickled.
    """
    from ray import cloudpickle

    class Pickler(cloudpickle.CloudPickler):  # type: ignore[misc]
        def reducer_override(self, each: Any) -> Any:
            if isinstance(each, GraphModule):
                # Annotations of a traced model are text, which cannot be pickled.
                graph = copy.deepcopy(each.graph)
                for node in graph.nodes:
                    node.type = None
                return GraphModule(each, graph).__reduce__()
            if isinstance(each, Corruption) and each.of_user:
                return _declared, (each.name, each.severity, CORRUPTIONS[each.name])
            return super().reducer_override(each)

    # A module may have several names.
    known = [
        (name, each, getattr(each, "__dict__", {})) for name, each in list(sys.modules.items())
    ]
    own = [
        each
        for name, each, has in known
        if has.get("__name__") == name and _is_own(name, str(has.get("__file__")))
    ]
    content = io.BytesIO()
    try:
        with ExitStack() as stack:
            for module in own:
                cloudpickle.register_pickle_by_value(module)
                stack.callback(cloudpickle.unregister_pickle_by_value, module)
            Pickler(content).dump(thing)
    except Exception as error:  # A user's object may hold anything.
        raise ClusterError(
            f"{what} cannot be sent to a worker ({error}); run it without backend ray"
        ) from error
    return content.getvalue()


@cache
def _is_own(module: str, file: str) -> bool:
    """Return whether a module is a file of the user's project.

    Torch's lazy modules have a file that is no path.
    """
    if (
        not Path(file).is_absolute()
        or module == "__main__"
        or module.partition(".")[0] == "harness"
    ):
        return False
    return "site-packages" not in file and not file.startswith(sys.base_prefix + "/lib")
