"""The settings that say how a user's own network is built, and where its file keeps the weights."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
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
        """Return the options by the values of settings; those that are missing have their defaults."""
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
        """Return what is said of where a file keeps the weights."""
        from harness.networks.checkpoints import Choice

        return Choice(self.checkpoint_key, self.strip_prefix)

    def transform(self, word: str) -> Transform:
        """Return the transform that `timm` or `torchvision` stands for, of the network of `model`."""
        from harness.networks.builders import transform_of_network

        return transform_of_network(word, self.spec, self.builder())

    def after(self, images: LabelledImages) -> NetworkOptions:
        """Return the options with what the images' pipeline left to the network, unless something else is said."""
        if self.normalisation is not None or images.normalisation is None:
            return self
        mean, std = (list(map(float, values)) for values in images.normalisation)
        return replace(self, normalisation=f"{mean},{std}")

    def source(self) -> Path | None:
        """Return the file with the code of the user's callable; None without `model`, or a file."""
        self.builder()  # Which imports it.
        module = sys.modules.get(str(self.spec).partition(":")[0])
        file = getattr(module, "__file__", None)
        return None if self.spec is None or file is None else Path(file)


CHOICE_SETTINGS = (
    Setting(
        "checkpoint-key",
        "The member of a training file that holds the weights, such as state_dict_ema, or ema.model for one within "
        "another (default: the one that fits the network; several are an error).",
        "network",
        metavar="KEY",
    ),
    Setting(
        "strip-prefix",
        "What stands before the network's own names in those of the file, such as student.backbone (default: what "
        "trainings are known to put there, if the names then fit, such as module., _orig_mod. or model.).",
        "network",
        metavar="PREFIX",
    ),
)
"""The settings that say which of a file's tensors are the network's, where that is not plain."""
NETWORK_SETTINGS = (
    Setting(
        "model",
        "A callable package.module:callable that builds the network of the checkpoints named, such as "
        "torchvision.models:resnet18; only for models that are not the shipped architecture (default: the checkpoint's "
        "architecture id).",
        "network",
        metavar="SPEC",
        reads=True,
    ),
    Setting(
        "model-arg",
        "A keyword argument of model's callable, such as num_classes=10; may be given several times (default: none).",
        "network",
        default=(),
        metavar="KEY=VALUE",
        multiple=True,
    ),
    Setting(
        "model-outputs",
        "What the network of model, or of an ONNX file, returns (default: logits, and an error if they look like "
        "probabilities).",
        "network",
        choices=tuple(OUTPUTS),
    ),
    Setting(
        "normalisation",
        "What the network of model, or of an ONNX file, expects to be done to pixels in [0, 1] before they reach it: "
        "imagenet, or mean and standard deviation, numbers or lists of one per channel, such as "
        "[0.49,0.48,0.45],[0.25,0.24,0.26] (default: nothing).",
        "network",
        metavar="MEAN,STD",
    ),
    *CHOICE_SETTINGS,
    *PREDICTOR_SETTINGS,
)
"""The settings that `NetworkOptions` are made of."""
