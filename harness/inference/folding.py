"""Batch norms folded into the convolutions before them, where the model's computation can be traced."""

from __future__ import annotations

from collections import Counter

from torch import nn
from torch.fx import Node, symbolic_trace

from harness.networks.process import foreign_network


def folded(plain: nn.Module, *, keep: str = "") -> nn.Module:
    """Return a model that computes what an evaluation copy does, batch norms folded into the convolutions before them.

    The copy stays as it is; what is not folded, the two share. A layer to `keep` is not folded, so that it can be
    hooked under its name. The copy itself is returned where tracing fails or would take the layer to keep apart.
    """
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    if _has_hooks(plain):  # Tracing would lose them.
        return plain
    try:
        with foreign_network():
            traced = symbolic_trace(plain)
    except Exception:  # Tracing runs the user's code symbolically and may fail in any way; the plain model is right.
        return plain
    layers = dict(traced.named_modules())
    if keep and keep not in {node.target for node in traced.graph.nodes if node.op == "call_module"}:
        return plain
    calls = Counter(node.target for node in traced.graph.nodes)
    for node in list(traced.graph.nodes):
        if not _is_layer_pair(node):
            continue
        before = node.args[0]
        if keep in {before.target, node.target}:
            continue
        conv, norm = layers[before.target], layers[node.target]
        # A convolution called twice, or whose output or weights are also used elsewhere, must stay as it is.
        weights = {f"{before.target}.weight", f"{before.target}.bias"}
        alone = len(before.users) == calls[before.target] == 1 and weights.isdisjoint(calls)
        if _can_fold(conv, norm) and alone:
            layers[before.target] = fuse_conv_bn_eval(conv, norm)
            traced.set_submodule(before.target, layers[before.target])
            node.replace_all_uses_with(before)
            traced.graph.erase_node(node)
    traced.recompile()
    return traced


def _has_hooks(layer: nn.Module) -> bool:
    return bool(layer._forward_hooks or layer._forward_pre_hooks)


def _can_fold(conv: nn.Module, norm: nn.Module) -> bool:
    # The very classes: a subclass may compute anything, and a hook may see or change what lies between the two.
    plain = type(conv) is nn.Conv2d and type(norm) is nn.BatchNorm2d
    return plain and norm.running_mean is not None and not _has_hooks(conv) and not _has_hooks(norm)


def _is_layer_pair(node: Node) -> bool:
    return (
        node.op == "call_module"
        and bool(node.args)
        and isinstance(node.args[0], Node)
        and node.args[0].op == "call_module"
    )
