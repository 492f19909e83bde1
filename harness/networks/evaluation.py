"""Evaluation of networks: evaluation mode, and the logits within their outputs."""

from __future__ import annotations

import copy
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.fx import Proxy

from harness.base.errors import UnusableModelError, some_of
from harness.networks.process import foreign_network

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import nn

_NAMES = ("logits", "out")
_MATRIX = 2


@contextmanager
def evaluating(model: nn.Module, hooks: Mapping[str, Callable[..., Any]] | None = None) -> Iterator[None]:
    """Keep a model in evaluation mode while the context lasts; see `foreign_network`.

    During that time it has a forward hook on each layer that `hooks` names.
    """
    handles = [model.get_submodule(name).register_forward_hook(hook) for name, hook in (hooks or {}).items()]
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with foreign_network():
            yield
    finally:
        for handle in handles:
            handle.remove()
        for module in training:
            module.training = True


def evaluation_copy(model: nn.Module) -> nn.Module:
    """Return a copy of the model in evaluation mode, its parameters frozen."""
    with foreign_network():
        copied = copy.deepcopy(model)
    return copied.eval().requires_grad_(requires_grad=False)


def logits_of(outputs: Any) -> tuple[Any, str]:
    """Return the logits of a network's output, and a description of their place; "" for a plain tensor.

    An object has them as `logits`, a dict under `logits` or `out`. In a tuple they are the first tensor, (N, classes).
    Raises `InputError` for an output without logits and for an ambiguous one.
    """
    if isinstance(outputs, Tensor | Proxy):  # A proxy has every attribute, and its value is not known yet.
        return outputs, ""
    if isinstance(outputs, dict):
        named = [name for name in _NAMES if isinstance(outputs.get(name), Tensor | Proxy)]
        if len(named) == 1:
            return outputs[named[0]], f"its logits are {named[0]!r} of the dict that it returns"
        found = f"a dict of {some_of([repr(name) for name in outputs]) or 'nothing'}"
    elif isinstance(getattr(outputs, "logits", None), Tensor | Proxy):
        return outputs.logits, f"its logits are .logits of the {type(outputs).__name__} that it returns"
    elif isinstance(outputs, tuple | list) and outputs and isinstance(outputs[0], Tensor | Proxy):
        first, *others = outputs
        if isinstance(first, Proxy):
            return first, ""
        alike = [each for each in others if isinstance(each, Tensor) and each.shape == first.shape]
        if first.ndim == _MATRIX and not alike:
            return first, f"its logits are the first of the {len(outputs)} that it returns"
        shapes = [str(tuple(each.shape)) if isinstance(each, Tensor) else type(each).__name__ for each in outputs]
        found = f"a {type(outputs).__name__} of {some_of(shapes)}"
    else:
        found = f"a {type(outputs).__name__}"
    raise UnusableModelError(
        f"the model returned {found}; expected logits (N, classes), an object with .logits, a dict with 'logits' or "
        "'out', or a tuple with logits first. Set model to a callable that wraps the network and returns the logits "
        "alone"
    )
