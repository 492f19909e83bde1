"""Data for workers: pixels, sent once per node or read there from a file, and the user's own code."""

from __future__ import annotations

import copy
import io
import math
import sys
import weakref
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch.fx import GraphModule

from harness.base.errors import ClusterError
from harness.data.rows import FileRows, Rows
from harness.perturb.corruptions import CORRUPTIONS, Corruption

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from types import ModuleType

    from torch import Tensor, nn

    from harness.inference.backend import Perturbed
    from harness.perturb.corruptions.kind import Kind

PAGE = 16 << 20
"""Bytes of images in one object of the store."""


@dataclass(eq=False)
class Pages:
    """Pixels in the object store: page i has the rows from `i * rows` on.

    The references to pages travel as separate arguments of Ray. Inside pickled bytes, Ray would never release them.
    """

    rows: int
    shape: tuple[int, ...]
    dtype: str = "uint8"
    references: Mapping[int, Any] = field(default_factory=dict)

    def __call__(self, positions: np.ndarray) -> Tensor:
        """Return a copy of the rows at these positions, (M,) int64, without a lasting hold on the store."""
        import ray

        found = np.empty((len(positions), *self.shape[1:]), dtype=self.dtype)
        numbers = positions // self.rows
        for number in np.unique(numbers):
            here = np.flatnonzero(numbers == number)
            found[here] = ray.get(self.references[int(number)])[positions[here] - number * self.rows]
        return torch.from_numpy(found)


class SentPixels:
    """Pixels of this process in the object store, for as long as the images exist."""

    def __init__(self) -> None:
        self._put: dict[int, dict[int, Any]] = {}

    def sent(self, inputs: Perturbed, *, reads_files: bool) -> tuple[Perturbed, dict[int, Any]]:
        """Return inputs that another process can make, and references to their pages, for `received`.

        If the receiver `reads_files`, it reads the pixels of a named file itself, without pages.
        """
        pixels = inputs.pixels
        if reads_files and isinstance(pixels, Rows):
            read, positions = pixels.source
            if isinstance(read, FileRows) and read.path:
                return replace(inputs, pixels=_stand_in(read, read.shape), at=positions[inputs.at]), {}
        kind = str(pixels.dtype).removeprefix("torch.")
        rows = max(1, PAGE // max(1, math.prod(pixels.shape[1:]) * pixels.dtype.itemsize))
        pages = {number: self._page(pixels, number, rows) for number in np.unique(inputs.at // rows).tolist()}
        return replace(inputs, pixels=_stand_in(Pages(rows, tuple(pixels.shape), kind), pixels.shape)), pages

    def _page(self, pixels: Tensor, number: int, rows: int) -> Any:
        import ray

        key = id(pixels)
        if key not in self._put:
            self._put[key] = {}
            weakref.finalize(pixels, self._put.pop, key, None)
        pages = self._put[key]
        if number not in pages:
            part = pixels[number * rows : (number + 1) * rows]
            pages[number] = ray.put(np.ascontiguousarray(part.numpy()))
        return pages[number]


def received(inputs: Perturbed, pages: Mapping[int, Any]) -> Perturbed:
    """Return received inputs with their pages."""
    stand_in = cast("Any", inputs.pixels)
    if isinstance(stand_in.read, Pages):
        stand_in.read.references = pages
    return inputs


def _stand_in(read: Any, shape: Any) -> Tensor:
    """Return a tensor that reads its rows with `read`; it does not carry a list of all positions."""
    return cast("Tensor", _Remote(read, tuple(shape)))


class _Remote:
    """Replaces the pixels of all images, and reads only the rows that are used."""

    def __init__(self, read: Any, shape: tuple[int, ...]) -> None:
        self.read, self.shape = read, shape

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def __getitem__(self, positions: Tensor) -> Tensor:
        found: Tensor = self.read(positions.numpy())
        return found


def packed(inputs: Perturbed) -> bytes:
    """Return inputs as bytes; raises `InputError` for a perturbation that cannot be pickled."""
    from ray import cloudpickle

    taken = tuple(
        _Declared(each, CORRUPTIONS[each.name]) if isinstance(each, Corruption) and each.of_user else each
        for each in inputs.perturbations
    )
    try:
        with _code_of(*inputs.perturbations, *(each.kind.apply for each in taken if isinstance(each, _Declared))):
            content: bytes = cloudpickle.dumps(replace(inputs, perturbations=taken))
    except Exception as error:  # A user's object may hold anything.
        raise ClusterError(f"{inputs}: cannot be sent to a worker ({error}); run it without backend ray") from error
    return content


def packed_model(model: nn.Module) -> np.ndarray:
    """Return a model as bytes for the object store, (B,) uint8; raises `InputError` for one that cannot be pickled."""
    try:
        with _code_of(*model.modules()):
            content = io.BytesIO()
            _pickler(content).dump(model)
            return np.frombuffer(content.getbuffer(), dtype=np.uint8)
    except Exception as error:  # A user's object may hold anything.
        raise ClusterError(f"the model cannot be sent to a worker ({error}); run it without backend ray") from error


def packed_call(call: Callable[..., Any]) -> bytes:
    """Return a call as bytes, with all code of the user's; raises `InputError` for a call that cannot be pickled."""
    from ray import cloudpickle

    # A module may have several names, and torch's lazy modules have a `__file__` that is no path.
    files = {name: getattr(module, "__dict__", {}) for name, module in list(sys.modules.items())}
    named = (name for name, facts in files.items() if facts.get("__name__") == name and facts.get("__file__"))
    own = [sys.modules[name] for name in named if Path(files[name]["__file__"]).is_absolute()]
    try:
        with _by_value([module for module in own if _is_own(module)]):
            content: bytes = cloudpickle.dumps(call)
    except Exception as error:  # A user's object may hold anything.
        raise ClusterError(f"cannot be sent to a worker ({error})") from error
    return content


def _pickler(content: io.BytesIO) -> Any:
    """Return a pickler for models; it removes the annotations of every traced model inside."""
    from ray import cloudpickle

    class Pickler(cloudpickle.CloudPickler):  # type: ignore[misc]
        def reducer_override(self, thing: Any) -> Any:
            return (
                _without_words(thing).__reduce__()
                if isinstance(thing, GraphModule)
                else super().reducer_override(thing)
            )

    return Pickler(content)


def _without_words(model: GraphModule) -> GraphModule:
    """Return a traced model without its annotations, since annotations as text cannot be pickled."""
    graph = copy.deepcopy(model.graph)
    for node in graph.nodes:
        node.type = None
    return GraphModule(model, graph)


@dataclass(frozen=True, eq=False)
class _Declared:
    """A corruption that the user declared, with its definition."""

    corruption: Corruption
    kind: Kind

    def __call__(self, images: Tensor) -> Tensor:
        """Return the corrupted images, (N, C, H, W)."""
        if self.corruption.name not in CORRUPTIONS:
            CORRUPTIONS.add(self.corruption.name, self.kind, declared_by=type(self))
        return self.corruption(images)


def _code_of(*things: Any) -> AbstractContextManager[None]:
    """Pickle these things together with their code, except that of installed packages."""
    names = {str(getattr(thing, "__module__", type(thing).__module__)) for thing in things}
    modules = (sys.modules.get(name) for name in names)
    return _by_value([module for module in modules if module is not None and _is_own(module)])


@contextmanager
def _by_value(modules: list[ModuleType]) -> Iterator[None]:
    """Pickle objects of these modules together with their code."""
    from ray import cloudpickle

    with ExitStack() as stack:
        for module in modules:
            cloudpickle.register_pickle_by_value(module)
            stack.callback(cloudpickle.unregister_pickle_by_value, module)
        yield


def _is_own(module: ModuleType) -> bool:
    """Return whether a module is a file of the user's project."""
    file = getattr(module, "__file__", None)
    if file is None or module.__name__ == "__main__" or module.__name__.partition(".")[0] == "harness":
        return False
    return "site-packages" not in file and not file.startswith(sys.base_prefix + "/lib")
