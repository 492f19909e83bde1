"""What is sent to workers, as bytes: what is a user's own with its code, which workers do not have."""

from __future__ import annotations

import copy
import io
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.fx import GraphModule

from harness.errors import InputError
from harness.perturb.corruptions import CORRUPTIONS, Corruption

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from types import ModuleType

    from torch import Tensor, nn

    from harness.inference.perturbed import Perturbed
    from harness.perturb.corruptions.kind import Kind


def packed(inputs: Perturbed) -> bytes:
    """Return inputs as bytes; raises `InputError` for a perturbation that cannot be sent."""
    from ray import cloudpickle

    taken = tuple(
        _Declared(each, CORRUPTIONS[each.name]) if isinstance(each, Corruption) and each.of_user else each
        for each in inputs.perturbations
    )
    try:
        with _code_of(*inputs.perturbations, *(each.kind.apply for each in taken if isinstance(each, _Declared))):
            content: bytes = cloudpickle.dumps(replace(inputs, perturbations=taken))
    except Exception as error:  # A user's object, which may hold anything.
        raise InputError(
            f"{inputs}: cannot be sent to a worker ({error}); run it without --stress-backend ray"
        ) from error
    return content


def packed_model(model: nn.Module) -> np.ndarray:
    """Return a model as bytes for the object store, (B,) uint8; raises `InputError` for one that cannot be sent."""
    try:
        with _code_of(*model.modules()):
            content = io.BytesIO()
            _pickler(content).dump(model)
            return np.frombuffer(content.getbuffer(), dtype=np.uint8)
    except Exception as error:  # A user's object, which may hold anything.
        raise InputError(
            f"the model cannot be sent to a worker ({error}); run it without --stress-backend ray"
        ) from error


def packed_call(call: Callable[..., Any]) -> bytes:
    """Return a call as bytes, with whatever code in it is a user's own; raises `InputError` for what cannot be sent."""
    from ray import cloudpickle

    # Some go by several names, and some, as torch's lazy modules, say that they are a file without having a path.
    files = {name: getattr(module, "__dict__", {}) for name, module in list(sys.modules.items())}
    named = (name for name, facts in files.items() if facts.get("__name__") == name and facts.get("__file__"))
    own = [sys.modules[name] for name in named if Path(files[name]["__file__"]).is_absolute()]
    try:
        with _by_value([module for module in own if _is_own(module)]):
            content: bytes = cloudpickle.dumps(call)
    except Exception as error:  # A user's object, which may hold anything.
        raise InputError(f"cannot be sent to a worker ({error})") from error
    return content


def _pickler(content: io.BytesIO) -> Any:
    """Return a pickler for models; those that were traced are taken without words, wherever they stand in one."""
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
    """Return a traced model without its annotations: those that were written as text keep it from being pickled."""
    graph = copy.deepcopy(model.graph)
    for node in graph.nodes:
        node.type = None
    return GraphModule(model, graph)


@dataclass(frozen=True, eq=False)
class _Declared:
    """A corruption that a user has declared, with what it is made by."""

    corruption: Corruption
    kind: Kind

    def __call__(self, images: Tensor) -> Tensor:
        """Return the corrupted images, (N, C, H, W)."""
        if self.corruption.name not in CORRUPTIONS:
            CORRUPTIONS.add(self.corruption.name, self.kind, declared_by=type(self))
        return self.corruption(images)


def _code_of(*things: Any) -> AbstractContextManager[None]:
    """Let the code of these things be sent along, where it is no installed package's."""
    modules = (sys.modules.get(name) for name in {_module_of(thing) for thing in things})
    return _by_value([module for module in modules if module is not None and _is_own(module)])


@contextmanager
def _by_value(modules: list[ModuleType]) -> Iterator[None]:
    """Let what stands in these modules be sent with its code."""
    from ray import cloudpickle

    with ExitStack() as stack:
        for module in modules:
            cloudpickle.register_pickle_by_value(module)
            stack.callback(cloudpickle.unregister_pickle_by_value, module)
        yield


def _module_of(thing: Any) -> str:
    return str(getattr(thing, "__module__", type(thing).__module__))


def _is_own(module: ModuleType) -> bool:
    """Return whether a module is a file of somebody's project."""
    file = getattr(module, "__file__", None)
    if file is None or module.__name__ == "__main__" or module.__name__.partition(".")[0] == "harness":
        return False
    return "site-packages" not in file and not file.startswith(sys.base_prefix + "/lib")
