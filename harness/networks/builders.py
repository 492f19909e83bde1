"""Builders of the user's networks: the callable, its arguments, its normalization and its transform."""

from __future__ import annotations

import ast
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.base.errors import InputError, PackageError, UnusableModelError, foreign_code
from harness.base.user_code import named_object, no_script

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import nn

    from harness.data.transforms import Transform

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of each channel for models pretrained on ImageNet."""


def parse_normalization(text: str | None) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Return mean and std, one number or one per channel, from `imagenet` or `MEAN,STD`; None for `none`.

    Each is a number or a list of numbers: `0.286,0.353`, `[0.49,0.48,0.45],[0.25,0.24,0.26]`. Raises `InputError` for
    anything else, and for a std that is not above 0.
    """
    if text is None or text == "none":
        return None
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
        raise UnusableModelError(
            "expected imagenet, or mean and standard deviation of pixels in [0, 1], as "
            "0.286,0.353 or [0.49,0.48,0.45],[0.25,0.24,0.26], the standard deviations above 0; or none",
            setting=f"normalization {text}",
        ) from None
    return mean, std


@dataclass(frozen=True)
class Builder:
    """Builder of the user's network: the callable that `spec` names, and its arguments."""

    spec: str
    function: Callable[..., Any]
    keywords: Mapping[str, Any]

    def argument(self, names: Sequence[str]) -> str:
        """Return the first of these names that the callable takes as an argument, "" without one.

        A callable that takes any name, as those of torchvision and timm do, takes the number of classes. Of these
        libraries, only timm takes the channels.
        """
        try:
            signature = inspect.signature(self.function).parameters
        except (ValueError, TypeError):
            signature = {}
        known = list(signature)
        if not known or any(each.kind is each.VAR_KEYWORD for each in signature.values()):
            known += ["in_chans", "num_classes"] if self.spec.startswith("timm") else ["num_classes"]
        return next((name for name in known if name in names), "")

    def __call__(self) -> nn.Module:
        """Return a new network; raises `InputError` if it cannot be built."""
        import torch
        from torch import nn

        from harness.networks.process import foreign_network

        try:
            # The random first weights are replaced later.
            with no_script(self.spec), torch.random.fork_rng(devices=[]), foreign_network():
                model: nn.Module = self.function(**self.keywords)
        except Exception as error:
            raise UnusableModelError(
                f"building the network failed ({error!r})", setting=f"model {self.spec}"
            ) from error
        if not isinstance(model, nn.Module):
            raise UnusableModelError(
                f"returned {type(model).__name__}, expected a torch.nn.Module", setting=f"model {self.spec}"
            )
        return model


def import_builder(spec: str, keywords: Mapping[str, Any]) -> Builder:
    """Return the builder of the user's network for `package.module:callable` and its arguments.

    The working directory is importable; the callable may be an attribute, as in `module:Class.method`. Raises
    `InputError` for a callable that cannot be imported.
    """
    if not all(spec.partition(":")):
        raise UnusableModelError("expected package.module:callable", setting=f"model {spec}")
    from harness.networks.process import settings_kept

    with settings_kept():
        function = named_object(spec, setting="model")
    return Builder(spec, function, keywords)


def transform_of_network(word: str, spec: str | None, builder: Callable[[], nn.Module] | None) -> Transform:
    """Return the network's own transform for the word `timm` or `torchvision`.

    `timm` takes it from the data config of the built network. `torchvision` takes it from the default weights of the
    callable that `spec` names, such as `torchvision.models:resnet50`, and downloads nothing. Raises `InputError` for a
    network without a transform.
    """
    from harness.data.transforms import transform_of

    setting = f"transform {word}"
    if spec is None or builder is None:
        raise UnusableModelError(
            "belongs to the network of the option model, which is not set; set it", setting=setting
        )
    try:
        with foreign_code():
            if word == "timm":
                from timm.data import create_transform, resolve_data_config

                network = builder()
                if not (hasattr(network, "pretrained_cfg") or hasattr(network, "default_cfg")):
                    raise LookupError(
                        "the network of model has no data config of timm's, as timm:create_model gives it"
                    )
                made = create_transform(**resolve_data_config({}, model=network), is_training=False)
            elif not spec.startswith("torchvision.models"):
                raise LookupError("model is no builder of torchvision.models")
            else:
                from torchvision import models

                made = models.get_model_weights(spec.partition(":")[2]).DEFAULT.transforms()
    except InputError:
        raise
    except ImportError as error:
        raise PackageError(
            f"needs {word}, which is not installed ({error}); pip install {word}", setting=setting
        ) from None
    except Exception as error:  # Both libraries may raise any exception.
        raise UnusableModelError(
            f"model {spec} has none ({error}); name one with module:callable", setting=setting
        ) from error
    return transform_of(word, made, identity=spec)
