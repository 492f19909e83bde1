"""Max pooling of two by two pixels as two maxima over halves: the same values in half the time on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.nn import functional
from torch.overrides import handle_torch_function, has_torch_function_unary


def pooled_by_maxima(model: nn.Module) -> nn.Module:
    """Let a traced model pool two by two pixels by `max_of_two_by_two`; returns the model, changed in place.

    A model that is not traced stays as it is.
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
    """Return the largest of each two by two pixels (N, C, H, W), a last odd row or column left out.

    Where gradients are wanted, or memory lies otherwise than channels-last on a CPU, by PyTorch's own pooling: equal
    values share a gradient in a maximum, while pooling gives it to the first.
    """
    if has_torch_function_unary(images):  # Tracing goes no deeper.
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
        plain = type(layer) is nn.MaxPool2d and not (layer._forward_hooks or layer._forward_pre_hooks)
        if not plain or len(node.args) != 1 or node.kwargs:
            return False
        settings = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
        return [_pair(each) for each in settings] == [(2, 2), (2, 2), (0, 0), (1, 1)] and not (
            layer.ceil_mode or layer.return_indices
        )
    if node.op != "call_function" or node.target is not functional.max_pool2d:
        return False
    arguments = dict(zip(("input", "kernel_size", "stride", "padding", "dilation"), node.args, strict=False))
    arguments |= node.kwargs
    return (
        bool(node.args)
        and len(node.args) <= 5  # noqa: PLR2004  Those named above.
        and _pair(arguments.get("kernel_size")) == (2, 2)
        and _pair(arguments.get("stride") or 2) == (2, 2)
        and _pair(arguments.get("padding", 0)) == (0, 0)
        and _pair(arguments.get("dilation", 1)) == (1, 1)
        and not (arguments.get("ceil_mode") or arguments.get("return_indices"))
    )


def _pair(setting: object) -> tuple[object, ...]:
    return tuple(setting) if isinstance(setting, list | tuple) else (setting, setting)
