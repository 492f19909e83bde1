"""The settings of users' networks: how to build one, and the weights within its file."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from harness.base.settings import Setting, with_defaults
from harness.networks.builders import OUTPUTS, import_builder
from harness.networks.predictor_options import PREDICTOR_SETTINGS, PredictorOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import nn

    from harness.data import LabelledImages
    from harness.data.transforms import Transform
    from harness.networks.checkpoints import Choice


@dataclass(frozen=True)
class NetworkOptions:
    """Options of networks other than the shipped architecture; None without an option."""

    spec: str | None = None
    arguments: tuple[str, ...] = ()
    outputs: str | None = None
    normalisation: str | None = None
    checkpoint_key: str | None = None
    strip_prefix: str | None = None
    predictor: PredictorOptions = field(default_factory=PredictorOptions)

    @staticmethod
    def of(values: Mapping[str, Any]) -> NetworkOptions:
        """Return the options for the values of settings; a missing one has its default."""
        given = with_defaults(values, NETWORK_SETTINGS)
        return NetworkOptions(
            given["model"],
            tuple(given["model-arg"]),
            given["model-outputs"],
            given["normalisation"],
            given["checkpoint-key"],
            given["strip-prefix"],
            PredictorOptions.of(values),
        )

    def builder(self) -> Callable[[], nn.Module] | None:
        """Return the function that builds the user's network; None without `model`."""
        return None if self.spec is None else import_builder(self.spec, self.arguments)

    def choice(self) -> Choice:
        """Return the user's choice of the weights within a file."""
        from harness.networks.checkpoints import Choice

        return Choice(self.checkpoint_key, self.strip_prefix)

    def transform(self, word: str) -> Transform:
        """Return the transform of the network of `model` for the word `timm` or `torchvision`."""
        from harness.networks.builders import transform_of_network

        return transform_of_network(word, self.spec, self.builder())

    def after(self, images: LabelledImages) -> NetworkOptions:
        """Return the options with the normalization of the images' pipeline, unless the user set another."""
        if self.normalisation is not None or images.normalisation is None:
            return self
        mean, std = (list(map(float, values)) for values in images.normalisation)
        return replace(self, normalisation=f"{mean},{std}")


CHOICE_SETTINGS = (
    Setting(
        "checkpoint-key",
        "The member of a training file with the weights, such as state_dict_ema or the nested ema.model (default: the "
        "only one that fits the network).",
        "network",
        metavar="KEY",
    ),
    Setting(
        "strip-prefix",
        "A prefix to remove from the file's names, such as student.backbone (default: module., _orig_mod., model. or "
        "another known one, if the names then fit).",
        "network",
        metavar="PREFIX",
        blank=True,
    ),
)
"""The settings that select the network's tensors within a file."""
NETWORK_SETTINGS = (
    Setting(
        "model",
        "A callable package.module:callable that builds the checkpoints' network, such as "
        "torchvision.models:resnet18. Only for models of another than the shipped architecture (default: the "
        "checkpoint's architecture id).",
        "network",
        metavar="SPEC",
        reads=True,
    ),
    Setting(
        "model-arg",
        "A keyword argument of model's callable, such as num_classes=10; repeat it for several (default: none).",
        "network",
        default=(),
        metavar="KEY=VALUE",
        multiple=True,
    ),
    Setting(
        "model-outputs",
        "The kind of output of the network of model, or of an ONNX file (default: logits, and an error if they look "
        "like probabilities).",
        "network",
        choices=tuple(OUTPUTS),
    ),
    Setting(
        "normalisation",
        "The normalization of pixels in [0, 1] for the network of model or of an ONNX file: imagenet, or mean and "
        "standard deviation. Each is a number or a list with one per channel, such as "
        "[0.49,0.48,0.45],[0.25,0.24,0.26]. none overrides a configured one (default: none).",
        "network",
        metavar="MEAN,STD",
    ),
    *CHOICE_SETTINGS,
    *PREDICTOR_SETTINGS,
)
"""The settings of `NetworkOptions`."""
