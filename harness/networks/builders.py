"""Networks that a user names: the callable that builds one, its arguments, and what its pixels must be."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

OUTPUTS = ("logits", "probabilities")
"""What a network may return."""
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of each channel that models pretrained on ImageNet were trained with."""

_TOML = {"true": True, "false": False}


def parse_normalisation(text: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std, one number or one per channel, from `imagenet` or `MEAN,STD`.

    Each is a number or a list of numbers: `0.286,0.353`, `[0.49,0.48,0.45],[0.25,0.24,0.26]`. Raises `InputError` for
    anything else, and for a std that is not above 0.
    """
    if text == "imagenet":
        return IMAGENET
    try:
        mean, std = (
            tuple(float(value) for value in (part if isinstance(part, list | tuple) else (part,)))
            for part in ast.literal_eval(text)
        )
        if not (mean and len(mean) == len(std) and all(0 < value < float("inf") for value in std)):
            raise ValueError(text)
    except (ValueError, TypeError, SyntaxError):
        raise InputError(
            f"--stress-normalisation {text}: expected imagenet, or mean and standard deviation of pixels in [0, 1], as "
            "0.286,0.353 or [0.49,0.48,0.45],[0.25,0.24,0.26], the standard deviations above 0"
        ) from None
    return mean, std


def parse_arguments(arguments: Sequence[str], *, option: str) -> dict[str, Any]:
    """Return `key=value` arguments as a dict; values are Python literals, or TOML's `true` and `false`, else strings.

    Raises `InputError`, naming the command-line option, for an argument of another form.
    """
    keywords: dict[str, Any] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not (key.isidentifier() and equals):
            raise InputError(f"{option} {argument}: expected key=value")
        try:
            keywords[key] = _TOML[value] if value in _TOML else ast.literal_eval(value)
        except (ValueError, SyntaxError):
            keywords[key] = value
    return keywords


def import_builder(spec: str, arguments: Sequence[str]) -> Callable[[], nn.Module]:
    """Return a function that builds the user's network from `package.module:callable` and `key=value` arguments.

    The working directory is importable. Raises `InputError` when the callable cannot be imported or an argument is
    malformed.
    """
    module_name, colon, attribute = spec.partition(":")
    if not (module_name and colon and attribute):
        raise InputError(f"--stress-model {spec}: expected package.module:callable")
    keywords = parse_arguments(arguments, option="--stress-model-arg")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    from harness.networks.settings import foreign_network

    try:
        with foreign_network():
            function = getattr(importlib.import_module(module_name), attribute)
    except Exception as error:  # Importing runs the user's module, which may fail in any way.
        raise InputError(f"--stress-model {spec}: cannot be imported ({error!r})") from error

    def build_model() -> nn.Module:
        import torch
        from torch import nn

        try:
            with torch.random.fork_rng(devices=[]), foreign_network():  # Its first weights are drawn, then replaced.
                model: nn.Module = function(**keywords)
        except Exception as error:
            raise InputError(f"--stress-model {spec}: building the network failed ({error!r})") from error
        if not isinstance(model, nn.Module):
            raise InputError(f"--stress-model {spec}: returned {type(model).__name__}, expected a torch.nn.Module")
        return model

    return build_model
