"""Users' networks as the settings name them: how to build one, its weights, calls to predictors, and the backend."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.base.groups import Settings, Text, setting
from harness.networks.builders import import_builder

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from harness.data import LabelledImages
    from harness.data.transforms import Transform
    from harness.networks.checkpoints import Choice

PROCESS, RAY = "process", "ray"
_LONGEST = 255
"""Most characters of a file's path; longer text is a list of names."""


class ChoiceOptions(Settings):
    """Choice of the network's tensors within a file."""

    checkpoint_key: Text | None = setting(
        "The member of a training file with the weights, such as state_dict_ema or the nested ema.model (default: the "
        "only one that fits the network).",
        metavar="KEY",
    )
    strip_prefix: str | None = setting(
        "A prefix to remove from the file's names, such as student.backbone (default: module., _orig_mod., model. or "
        "another known one, if the names then fit).",
        metavar="PREFIX",
    )

    def choice(self) -> Choice:
        """Return the user's choice of the weights within a file."""
        from harness.networks.checkpoints import Choice

        return Choice(self.checkpoint_key, self.strip_prefix)


class PredictorOptions(Settings):
    """Options of calls to predictors, such as callables and servers."""

    predictor_batch: int = setting(
        "Send this many images to a predictor, such as a callable or a server, at a time (default: 32).",
        default=32,
        metavar="N",
        ge=1,
    )
    predictor_timeout: float = setting(
        default=120.0,
        about="Most seconds for loading a predictor and for each batch; beyond, the run is inconclusive (default: "
        "120).",
        metavar="SECONDS",
        gt=0,
        lt=threading.TIMEOUT_MAX,
    )
    classes: Text | None = setting(
        "A predictor's classes in its own order, if it names none: joined by commas, or a file with one per line "
        "(default: the data's).",
        metavar="LIST",
        reads=True,
    )
    http_concurrency: int = setting(
        default=4, about="Send this many requests to a server at a time (default: 4).", metavar="N", ge=1
    )
    http_rate: float | None = setting(
        "Send at most this many requests a second, such as 10 (default: any).", metavar="N", gt=0
    )
    http_output: Text | None = setting(
        "The output of a served model to measure (default: the only one, or the only one with a score per class).",
        metavar="NAME",
    )

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return the names in a text with commas, or the lines of the file that it names; none without the setting."""
        if self.classes is None:
            return ()
        if len(self.classes) < _LONGEST and Path(self.classes).is_file():
            return tuple(Path(self.classes).read_text("utf-8").splitlines())
        return tuple(name.strip() for name in self.classes.split(","))

    def shared_by(self, processes: int) -> tuple[int, float | None]:
        """Return concurrency and rate of one of several `processes` that share the server's limits."""
        return max(1, self.http_concurrency // processes), self.http_rate and self.http_rate / processes


class NetworkOptions(ChoiceOptions, PredictorOptions):
    """Options of networks other than the shipped architecture."""

    model: Text | None = setting(
        "A callable that builds the checkpoints' network from model_args, such as torchvision.models:resnet18 "
        "(default: the shipped architecture).",
        metavar="SPEC",
        reads=True,
    )
    model_args: dict[str, Any] = setting(
        default={},
        about="The keyword arguments of model's callable, such as { num_classes = 10 }; model_args.num_classes=10 "
        "sets one (default: none).",
        metavar="TABLE",
    )
    model_outputs: Literal["logits", "probabilities"] | None = setting(
        "The kind of output of the network of model, or of an ONNX file (default: logits, and an error if they look "
        "like probabilities)."
    )
    normalization: Text | None = setting(
        "The normalization of pixels in [0, 1] for the network of model or of an ONNX file: imagenet, or mean and "
        "standard deviation. Each is a number or a list with one per channel, such as "
        "[0.49,0.48,0.45],[0.25,0.24,0.26]. none overrides a configured one (default: none).",
        metavar="MEAN,STD",
    )

    def builder(self) -> Callable[[], nn.Module] | None:
        """Return the function that builds the user's network; None without `model`."""
        return None if self.model is None else import_builder(self.model, self.model_args)

    def transform_named(self, word: str) -> Transform:
        """Return the transform of the network of `model` for the word `timm` or `torchvision`."""
        from harness.networks.builders import transform_of_network

        return transform_of_network(word, self.model, self.builder())

    def after(self, images: LabelledImages) -> NetworkOptions:
        """Return the options with the normalization of the images' pipeline, unless the user set another."""
        if self.normalization is not None or images.normalization is None:
            return self
        mean, std = (list(map(float, values)) for values in images.normalization)
        return self.but(normalization=f"{mean},{std}")


class BackendOptions(Settings):
    """Options of the backend; those of a Ray cluster have no effect on another."""

    backend: Literal["process", "ray"] = setting(
        default=PROCESS,
        about="Run models in this process, or on a Ray cluster; the results are identical (default: process).",
        line=True,
    )
    ray_address: Text | None = setting(
        "The cluster to join, such as 10.0.0.1:6379, or auto for a running one on this machine (default: RAY_ADDRESS, "
        "else a new cluster for the run).",
        metavar="ADDRESS",
    )
    ray_workers: int | None = setting(
        "Use at most this many workers, each with one core and its GPUs (default: as many as fit).", metavar="N", ge=1
    )
    ray_gpus: float = setting(
        default=0.0,
        about="Give each worker this many GPUs, such as 1, or 0.5 for two workers on each; 0 uses CPUs only "
        "(default: 0).",
        metavar="N",
        ge=0,
    )
    ray_logs: bool = setting(default=False, about="Show the output of Ray and its workers (default: off).")

    @property
    def on_ray(self) -> bool:
        """Return whether networks run on a Ray cluster."""
        return self.backend == RAY
