"""The options that pytest and `python -m harness` share: the user's own network and data."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.networks.builders import OUTPUTS, import_builder

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from torch import nn

    from harness.data import LabelledImages
    from harness.data.transforms import Transform
    from harness.networks.checkpoints import Choice


@dataclass(frozen=True)
class NetworkOptions:
    """What is said of networks that are not the shipped architecture; None where nothing is."""

    spec: str | None = None
    arguments: tuple[str, ...] = ()
    outputs: str | None = None
    normalisation: str | None = None
    checkpoint_key: str | None = None
    strip_prefix: str | None = None

    @staticmethod
    def of(options: argparse.Namespace) -> NetworkOptions:
        """Return the options as parsed."""
        return NetworkOptions(
            options.stress_model,
            tuple(options.stress_model_arg),
            options.stress_model_outputs,
            options.stress_normalisation,
            options.stress_checkpoint_key,
            options.stress_strip_prefix,
        )

    def builder(self) -> Callable[[], nn.Module] | None:
        """Return the function that builds the user's network; None without `--stress-model`."""
        return None if self.spec is None else import_builder(self.spec, self.arguments)

    def choice(self) -> Choice:
        """Return what is said of where a file keeps the weights."""
        from harness.networks.checkpoints import Choice

        return Choice(self.checkpoint_key, self.strip_prefix)

    def transform(self, word: str) -> Transform:
        """Return the transform that `timm` or `torchvision` stands for, of the network of `--stress-model`."""
        from harness.networks.pretrained import transform_of_network

        return transform_of_network(word, self.spec, self.builder())

    def after(self, images: LabelledImages) -> NetworkOptions:
        """Return the options with what the images' pipeline left to the network, unless something else is said."""
        if self.normalisation is not None or images.normalisation is None:
            return self
        mean, std = (list(map(float, values)) for values in images.normalisation)
        return replace(self, normalisation=f"{mean},{std}")

    def source(self) -> Path | None:
        """Return the file with the code of the user's callable; None without `--stress-model`, or a file."""
        self.builder()  # Which imports it.
        module = sys.modules.get(str(self.spec).partition(":")[0])
        file = getattr(module, "__file__", None)
        return None if self.spec is None or file is None else Path(file)


def add_network_options(add: Callable[..., Any]) -> None:
    """Add the options of `NetworkOptions`, by a parser's `add_argument` or a pytest group's `addoption`."""
    add(
        "--stress-model",
        metavar="SPEC",
        help="A callable package.module:callable that builds the network of the checkpoints named on the command line, "
        "such as torchvision.models:resnet18; only for models that are not the shipped architecture (default: the "
        "checkpoint's architecture id).",
    )
    add(
        "--stress-model-arg",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="A keyword argument of --stress-model's callable, such as num_classes=10; may be given several times.",
    )
    add(
        "--stress-model-outputs",
        choices=OUTPUTS,
        help="What the network of --stress-model, or of an ONNX file, returns (default: logits, and an error if they "
        "look like probabilities).",
    )
    add(
        "--stress-normalisation",
        metavar="MEAN,STD",
        help="What the network of --stress-model, or of an ONNX file, expects to be done to pixels in [0, 1] before "
        "they reach it: imagenet, or mean and standard deviation, numbers or lists of one per channel, such as "
        "[0.49,0.48,0.45],[0.25,0.24,0.26] (default: nothing).",
    )
    add_choice_options(add)


def add_choice_options(add: Callable[..., Any]) -> None:
    """Add the options that say which of a file's tensors are the network's, where that is not plain."""
    add(
        "--stress-checkpoint-key",
        metavar="KEY",
        help="The member of a training file that holds the weights, such as state_dict_ema, or ema.model for one "
        "within another (default: the one that fits the network; several are an error).",
    )
    add(
        "--stress-strip-prefix",
        metavar="PREFIX",
        help="What stands before the network's own names in those of the file, such as student.backbone (default: "
        "what trainings are known to put there, if the names then fit, such as module., _orig_mod. or model.).",
    )
