"""The pipelines that networks were pretrained with: timm's data config, and the weights of torchvision's builders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.data.transforms import transform_of
from harness.errors import InputError, foreign_code

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from harness.data.transforms import Transform


def transform_of_network(word: str, spec: str | None, builder: Callable[[], nn.Module] | None) -> Transform:
    """Return the transform that a word stands for: `timm`, or `torchvision`.

    For `timm` that of the data config of the network that the builder gives, for `torchvision` that of the default
    weights of the builder that `spec` names, `torchvision.models:resnet50`. Nothing is downloaded. Raises `InputError`
    where the network has none.
    """
    option = f"--stress-transform {word}"
    if spec is None or builder is None:
        raise InputError(f"{option}: is that of the network that --stress-model builds; name one")
    try:
        with foreign_code():
            made = _of_timm(builder()) if word == "timm" else _of_torchvision(spec)
    except InputError:
        raise
    except ImportError as error:
        raise InputError(f"{option}: needs {word}, which is not installed ({error}); pip install {word}") from None
    except Exception as error:  # Either library's own, which may fail in any way.
        raise InputError(f"{option}: {spec} has none ({error}); name one with module:callable") from error
    return transform_of(word, made, identity=spec)


def _of_timm(network: nn.Module) -> Any:
    from timm.data import create_transform, resolve_data_config

    if not (hasattr(network, "pretrained_cfg") or hasattr(network, "default_cfg")):
        raise InputError(
            "--stress-transform timm: the network of --stress-model has no data config of timm's; build it by "
            "timm:create_model, or name a transform with module:callable"
        )
    return create_transform(**resolve_data_config({}, model=network), is_training=False)


def _of_torchvision(spec: str) -> Any:
    from torchvision import models

    module, _, name = spec.partition(":")
    if not module.startswith("torchvision.models"):
        raise InputError(
            f"--stress-transform torchvision: --stress-model {spec} is no builder of torchvision.models; name a "
            "transform with module:callable"
        )
    return models.get_model_weights(name).DEFAULT.transforms()
