"""Networks that a user names: the callable that builds one, its arguments, and what its pixels must be."""

from __future__ import annotations

import ast
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.base.errors import InputError, foreign_code
from harness.base.user_code import named_object, no_script

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import nn

    from harness.data.transforms import Transform

OUTPUTS = ("logits", "probabilities")
"""Kinds of outputs of a network."""
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
            "expected imagenet, or mean and standard deviation of pixels in [0, 1], as "
            "0.286,0.353 or [0.49,0.48,0.45],[0.25,0.24,0.26], the standard deviations above 0",
            setting=f"normalisation {text}",
        ) from None
    return mean, std


def parse_arguments(arguments: Sequence[str]) -> dict[str, Any]:
    """Return `key=value` arguments as a dict; values are Python literals, or TOML's `true` and `false`, else strings.

    Raises `InputError` for an argument of another form.
    """
    keywords: dict[str, Any] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not (key.isidentifier() and equals):
            raise InputError("expected key=value", setting=f"model-arg {argument}")
        try:
            keywords[key] = _TOML[value] if value in _TOML else ast.literal_eval(value)
        except (ValueError, SyntaxError):
            keywords[key] = value
    return keywords


@dataclass(frozen=True)
class Builder:
    """Builder of the user's network: the callable that `spec` names, and its arguments."""

    spec: str
    function: Callable[..., Any]
    keywords: Mapping[str, Any]

    @property
    def parameters(self) -> tuple[str, ...]:
        """Return the names of the arguments that the callable takes, none where it does not say."""
        return tuple(self._signature)

    @property
    def takes_any(self) -> bool:
        """Return whether the callable takes arguments of any name, as those of torchvision and timm pass them on."""
        return not self._signature or any(each.kind is each.VAR_KEYWORD for each in self._signature.values())

    @property
    def _signature(self) -> Mapping[str, inspect.Parameter]:
        try:
            return inspect.signature(self.function).parameters
        except (ValueError, TypeError):
            return {}

    def __call__(self) -> nn.Module:
        """Return a new network; raises `InputError` when it cannot be built."""
        import torch
        from torch import nn

        from harness.networks.process import foreign_network

        try:
            with (
                no_script(self.spec),
                torch.random.fork_rng(devices=[]),
                foreign_network(),
            ):  # Its first weights are drawn, and then replaced.
                model: nn.Module = self.function(**self.keywords)
        except Exception as error:
            raise InputError(f"building the network failed ({error!r})", setting=f"model {self.spec}") from error
        if not isinstance(model, nn.Module):
            raise InputError(
                f"returned {type(model).__name__}, expected a torch.nn.Module", setting=f"model {self.spec}"
            )
        return model


def import_builder(spec: str, arguments: Sequence[str]) -> Builder:
    """Return what builds the user's network from `package.module:callable` and `key=value` arguments.

    The working directory is importable; the callable may be an attribute of another, as `module:Class.method`. Raises
    `InputError` when it cannot be imported or an argument is malformed.
    """
    module_name, colon, attribute = spec.partition(":")
    if not (module_name and colon and attribute):
        raise InputError("expected package.module:callable", setting=f"model {spec}")
    keywords = parse_arguments(arguments)
    from harness.networks.process import settings_kept

    with settings_kept():
        function = named_object(spec, setting="model")
    return Builder(spec, function, keywords)


def transform_of_network(word: str, spec: str | None, builder: Callable[[], nn.Module] | None) -> Transform:
    """Return the transform that a word stands for: `timm`, or `torchvision`.

    For `timm` that of the data config of the network that the builder gives, for `torchvision` that of the default
    weights of the builder that `spec` names, `torchvision.models:resnet50`. Nothing is downloaded. Raises `InputError`
    where the network has none.
    """
    from harness.data.transforms import transform_of

    setting = f"transform {word}"
    if spec is None or builder is None:
        raise InputError("is that of the network that model builds; name one", setting=setting)
    try:
        with foreign_code():
            made = _of_timm(builder()) if word == "timm" else _of_torchvision(spec)
    except InputError:
        raise
    except ImportError as error:
        raise InputError(
            f"needs {word}, which is not installed ({error}); pip install {word}", setting=setting
        ) from None
    except Exception as error:  # Either library's own, which may fail in any way.
        raise InputError(f"{spec} has none ({error}); name one with module:callable", setting=setting) from error
    return transform_of(word, made, identity=spec)


def _of_timm(network: nn.Module) -> Any:
    from timm.data import create_transform, resolve_data_config

    if not (hasattr(network, "pretrained_cfg") or hasattr(network, "default_cfg")):
        raise InputError(
            "the network of model has no data config of timm's; build it by "
            "timm:create_model, or name a transform with module:callable",
            setting="transform timm",
        )
    return create_transform(**resolve_data_config({}, model=network), is_training=False)


def _of_torchvision(spec: str) -> Any:
    from torchvision import models

    module, _, name = spec.partition(":")
    if not module.startswith("torchvision.models"):
        raise InputError(
            f"model {spec} is no builder of torchvision.models; name a transform with module:callable",
            setting="transform torchvision",
        )
    return models.get_model_weights(name).DEFAULT.transforms()
