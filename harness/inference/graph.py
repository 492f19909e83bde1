"""Passes over a network's traced graph.

Batch norms folded into convolutions, and max pooling by two maxima.
"""

from __future__ import annotations

import inspect
from collections import Counter

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node, symbolic_trace
from torch.nn import functional
from torch.overrides import handle_torch_function, has_torch_function_unary

from harness.networks.process import foreign_network

_POOLING = inspect.signature(functional._max_pool2d)  # type: ignore[attr-defined]


def folded(plain: nn.Module, *, keep: str = "") -> nn.Module:
    """Return a model equivalent to an evaluation copy, with folded batch norms.

    They are folded into the convolutions before them. The copy does not change, and shares its
    other layers. A layer to `keep` is not folded, so a hook can find it by its name. The copy
    itself is returned if tracing fails or would split the layer to keep.
    """
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    if _has_hooks(plain):  # Tracing would lose the hooks.
        return plain
    try:
        with foreign_network():
            traced = symbolic_trace(plain)
    except Exception:
        # Tracing runs the user's code symbolically and may raise anything; the copy is correct.
        return plain
    layers, calls = (
        dict(traced.named_modules()),
        Counter(node.target for node in traced.graph.nodes),
    )
    if keep and not any(
        node.op == "call_module" and node.target == keep for node in traced.graph.nodes
    ):
        return plain
    for node in list(traced.graph.nodes):
        before = node.args[0] if node.args else None
        if node.op != "call_module" or not isinstance(before, Node) or before.op != "call_module":
            continue
        conv, norm = layers[str(before.target)], layers[str(node.target)]
        # Exactly these classes: a subclass may compute anything, and a hook may read or change
        # values between the two.
        kinds = (
            type(conv) is nn.Conv2d
            and type(norm) is nn.BatchNorm2d
            and norm.running_mean is not None
        )
        # A convolution must not change if it is called twice, or if its output or weights have
        # another use.
        weights = {f"{before.target}.weight", f"{before.target}.bias"}
        alone = len(before.users) == calls[before.target] == 1 and weights.isdisjoint(calls)
        watched = _has_hooks(conv) or _has_hooks(norm) or keep in {before.target, node.target}
        if kinds and alone and not watched:
            layers[str(before.target)] = folded = fuse_conv_bn_eval(conv, norm)
            traced.set_submodule(str(before.target), folded)
            node.replace_all_uses_with(before)
            traced.graph.erase_node(node)
    traced.recompile()
    return traced


def _has_hooks(layer: nn.Module) -> bool:
    return bool(layer._forward_hooks or layer._forward_pre_hooks)


def pooled_by_maxima(model: nn.Module) -> nn.Module:
    """Replace the 2x2 max pooling of a traced model in place, and return the model.

    `max_of_two_by_two` takes its place. An untraced model does not change.
    """
    if not isinstance(model, GraphModule):
        return model
    layers = dict(model.named_modules())
    for node in list(model.graph.nodes):
        if _is_two_by_two(node, layers):
            with model.graph.inserting_before(node):
                maxima = model.graph.call_function(max_of_two_by_two, (node.args[0],))
            node.replace_all_uses_with(maxima)
            model.graph.erase_node(node)
    model.recompile()
    return model


def max_of_two_by_two(images: Tensor) -> Tensor:
    """Return the maximum of each 2x2 pixels of images (N, C, H, W).

    A last odd row or column is left out. PyTorch's own pooling computes it if gradients are needed,
    or if memory is not channels-last on a CPU. A maximum divides the gradient among equal values,
    while pooling gives it to the first.
    """
    if has_torch_function_unary(images):  # Tracing ends here.
        traced: Tensor = handle_torch_function(max_of_two_by_two, (images,), images)
        return traced
    height, width = (size // 2 * 2 for size in images.shape[-2:])
    fast = images.device.type == "cpu" and images.ndim == 4 and min(height, width) > 0  # noqa: PLR2004  A batch.
    differentiated = torch.is_grad_enabled() and images.requires_grad
    if not fast or differentiated or not images.is_contiguous(memory_format=torch.channels_last):
        return functional.max_pool2d(images, 2)
    rows = torch.maximum(images[:, :, 0:height:2], images[:, :, 1:height:2])
    return torch.maximum(rows[..., 0:width:2], rows[..., 1:width:2])


def _is_two_by_two(node: Node, layers: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        layer = layers[str(node.target)]
        if (
            type(layer) is not nn.MaxPool2d
            or _has_hooks(layer)
            or len(node.args) != 1
            or node.kwargs
        ):
            return False
        found = vars(layer)
    elif node.op == "call_function" and node.target is functional.max_pool2d and node.args:
        found = _POOLING.bind(*node.args, **node.kwargs).arguments
    else:
        return False
    settings = (
        found["kernel_size"],
        found.get("stride") or 2,
        found.get("padding", 0),
        found.get("dilation", 1),
    )
    plain = not (found.get("ceil_mode") or found.get("return_indices"))
    return plain and [_pair(each) for each in settings] == [(2, 2), (2, 2), (0, 0), (1, 1)]


def _pair(setting: object) -> tuple[object, ...]:
    return tuple(setting) if isinstance(setting, list | tuple) else (setting, setting)
