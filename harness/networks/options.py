"""Settings of users' networks: how to build one, its weights, calls to predictors, the backend."""

from __future__ import annotations

import ast
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.base.errors import InputError, PackageError, UnusableModelError, foreign_code
from harness.base.groups import Settings, Text, setting
from harness.base.user_code import named_object, no_script

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import nn

    from harness.data import LabelledImages
    from harness.data.transforms import Transform

PROCESS = "process"
_IMAGES_PER_CALL = 32
_LONGEST = 255
"""Most characters of a file's path; longer text is a list of names."""
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of each channel for models pretrained on ImageNet."""


def parse_normalization(text: str | None) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Return mean and standard deviation from `imagenet` or `MEAN,STD`; None for `none`.

    Each is a number or a list of one number per channel, as in `0.286,0.353` and
    `[0.49,0.48,0.45],[0.25,0.24,0.26]`.

    >>> parse_normalization("0.286,0.353")
    ((0.286,), (0.353,))

    Raises:
        UnusableModelError: The text is something else, or a standard deviation is not above 0.
    """
    if text is None or text == "none":
        return None
    if text == "imagenet":
        return IMAGENET
    try:
        mean, std = (_by_channel(part) for part in ast.literal_eval(text))
    except (ValueError, TypeError, SyntaxError):
        mean, std = (), ()

    std_is_positive = all(0 < value < float("inf") for value in std)
    if not mean or len(mean) != len(std) or not std_is_positive:
        raise UnusableModelError(
            "expected imagenet, or mean and standard deviation of pixels in [0, 1], as "
            "0.286,0.353 or [0.49,0.48,0.45],[0.25,0.24,0.26], the standard deviations above 0; "
            "or none",
            setting=f"normalization {text}",
        )
    return mean, std


def _by_channel(value: Any) -> tuple[float, ...]:
    """Return a number, or a list of numbers, as a tuple."""
    numbers = value if isinstance(value, list | tuple) else [value]
    return tuple(map(float, numbers))


class Builder:
    """Builder of the user's network.

    Args:
        spec: The callable as `package.module:callable`, or an attribute as `module:Class.method`.
            The working directory is importable.
        keywords: Its arguments.

    Raises:
        InputError: The callable cannot be imported.
    """

    def __init__(self, spec: str, keywords: Mapping[str, Any]) -> None:
        from harness.networks.process import settings_kept

        self.spec, self.keywords = spec, keywords
        if not all(spec.partition(":")):
            raise UnusableModelError("expected package.module:callable", setting=f"model {spec}")
        with settings_kept():
            self.function = named_object(spec, setting="model")

    def __call__(self) -> nn.Module:
        """Return a new network; raises `UnusableModelError` if it cannot be built."""
        import torch
        from torch import nn

        from harness.networks.process import foreign_network

        about = f"model {self.spec}"
        try:
            # The random first weights are replaced later.
            with no_script(self.spec), torch.random.fork_rng(devices=[]), foreign_network():
                model: nn.Module = self.function(**self.keywords)
        except Exception as error:
            raise UnusableModelError(
                f"building the network failed ({error!r})", setting=about
            ) from error
        if not isinstance(model, nn.Module):
            fact = f"returned {type(model).__name__}, expected a torch.nn.Module"
            raise UnusableModelError(fact, setting=about)
        return model


class ChoiceOptions(Settings):
    """Choice of the network's tensors within a file."""

    checkpoint_key: Text | None = setting(
        "The member of a training file with the weights, such as state_dict_ema or the nested "
        "ema.model (default: the only one that fits the network).",
        metavar="KEY",
    )
    strip_prefix: str | None = setting(
        "A prefix to remove from the file's names, such as student.backbone (default: module., "
        "_orig_mod., model. or another known one, if the names then fit).",
        metavar="PREFIX",
    )


class PredictorOptions(Settings):
    """Options of calls to predictors, such as callables and servers."""

    predictor_batch: int | None = setting(
        "Send this many images to a predictor, such as a callable or a server, at a time. A file "
        "with dynamic ranges (ONNX, OpenVINO) is judged in batches of exactly this size (default: "
        "32; with dynamic ranges 1).",
        metavar="N",
        ge=1,
    )
    predictor_timeout: float = setting(
        default=120.0,
        about="Most seconds for loading a predictor and for each batch; beyond, the run is "
        "inconclusive (default: 120).",
        metavar="SECONDS",
        gt=0,
        lt=threading.TIMEOUT_MAX,
    )
    classes: Text | None = setting(
        "A predictor's classes in its own order, if it names none: joined by commas, or a file "
        "with one per line (default: the data's).",
        metavar="LIST",
        reads=True,
    )
    http_concurrency: int = setting(
        default=4,
        about="Send this many requests to a server at a time (default: 4).",
        metavar="N",
        ge=1,
    )
    http_rate: float | None = setting(
        "Send at most this many requests a second, such as 10 (default: any).", metavar="N", gt=0
    )
    http_output: Text | None = setting(
        "The output of a served model to measure (default: the only one, or the only one with a "
        "score per class).",
        metavar="NAME",
    )

    @property
    def images_per_call(self) -> int:
        """Return the number of images that a predictor gets at a time."""
        return self.predictor_batch or _IMAGES_PER_CALL

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return the names of `classes`, a text with commas or a file; none without the setting."""
        if self.classes is None:
            return ()
        if len(self.classes) < _LONGEST and Path(self.classes).is_file():
            return tuple(Path(self.classes).read_text("utf-8").splitlines())
        return tuple(name.strip() for name in self.classes.split(","))

    def shared_by(self, processes: int) -> tuple[int, float | None]:
        """Return concurrency and rate of each of `processes` that share a server's limits."""
        concurrency = max(1, self.http_concurrency // processes)
        rate = self.http_rate
        if rate is not None:
            rate /= processes
        return concurrency, rate


class NetworkOptions(ChoiceOptions, PredictorOptions):
    """Options of networks other than the shipped architecture."""

    model: Text | None = setting(
        "A callable that builds the checkpoints' network from model_args, such as "
        "torchvision.models:resnet18 (default: the shipped architecture).",
        metavar="SPEC",
        reads=True,
    )
    model_args: dict[str, Any] = setting(
        default={},
        about="The keyword arguments of model's callable, such as { num_classes = 10 }; "
        "model_args.num_classes=10 sets one (default: none).",
        metavar="TABLE",
    )
    model_outputs: Literal["logits", "probabilities"] | None = setting(
        "The kind of output of the network of model, or of an ONNX file (default: logits, and an "
        "error if they look like probabilities)."
    )
    normalization: Text | None = setting(
        "The normalization of pixels in [0, 1] for the network of model or of an ONNX file: "
        "imagenet, or mean and standard deviation. Each is a number or a list with one per "
        "channel, such as [0.49,0.48,0.45],[0.25,0.24,0.26]. none overrides a configured one "
        "(default: none).",
        metavar="MEAN,STD",
    )

    def builder(self) -> Callable[[], nn.Module] | None:
        """Return the function that builds the user's network; None without `model`."""
        if self.model is None:
            return None
        return Builder(self.model, self.model_args)

    def transform_named(self, word: str) -> Transform:
        """Return the transform of the network of `model`.

        Args:
            word: The library that knows it. `timm` takes it from the data config of the built
                network. `torchvision` takes it from the default weights of the callable, such as
                `torchvision.models:resnet50`, and downloads nothing.

        Raises:
            UnusableModelError: No network is set, or the network has no transform.
            PackageError: The library is not installed.
        """
        from harness.data.transforms import transform_of

        about = f"transform {word}"
        if self.model is None:
            raise UnusableModelError(
                "belongs to the network of the option model, which is not set", setting=about
            )
        try:
            with foreign_code():
                if word == "timm":
                    transform = _transform_of_timm(Builder(self.model, self.model_args))
                else:
                    transform = _transform_of_torchvision(self.model)
        except InputError:
            raise
        except ImportError as error:
            needs = f"needs {word}, which is not installed ({error}); pip install {word}"
            raise PackageError(needs, setting=about) from None
        except Exception as error:  # Both libraries may raise any exception.
            raise UnusableModelError(
                f"model {self.model} has none ({error}); name one with module:callable",
                setting=about,
            ) from error
        return transform_of(word, transform, identity=self.model)

    def after(self, images: LabelledImages) -> NetworkOptions:
        """Return the options with the normalization of the images' pipeline.

        A normalization that the user set stays.
        """
        if self.normalization is not None or images.normalization is None:
            return self
        mean, std = (list(map(float, values)) for values in images.normalization)
        return self.but(normalization=f"{mean},{std}")


def _transform_of_timm(build: Builder) -> Any:
    """Return the transform of a network's data config; raises `LookupError` without one."""
    from timm.data import create_transform, resolve_data_config

    network = build()
    if not (hasattr(network, "pretrained_cfg") or hasattr(network, "default_cfg")):
        raise LookupError("it has no data config of timm's, as timm:create_model gives it")
    config = resolve_data_config({}, model=network)
    return create_transform(**config, is_training=False)


def _transform_of_torchvision(spec: str) -> Any:
    """Return the transform of a callable's default weights; raises `LookupError` without any."""
    if not spec.startswith("torchvision.models"):
        raise LookupError("model is no builder of torchvision.models")
    from torchvision import models

    name = spec.partition(":")[2]
    return models.get_model_weights(name).DEFAULT.transforms()


class BackendOptions(Settings):
    """Options of the backend; those of a Ray cluster have no effect on another."""

    backend: Literal["process", "ray"] = setting(
        default=PROCESS,
        about="Run models in this process, or on a Ray cluster; the results are identical "
        "(default: process).",
        line=True,
    )
    ray_address: Text | None = setting(
        "The cluster to join, such as 10.0.0.1:6379, or auto for a running one on this machine "
        "(default: RAY_ADDRESS, else a new cluster for the run).",
        metavar="ADDRESS",
    )
    ray_workers: int | None = setting(
        "Use at most this many workers, each with one core and its GPUs (default: as many as fit).",
        metavar="N",
        ge=1,
    )
    ray_gpus: float = setting(
        default=0.0,
        about="Give each worker this many GPUs, such as 1, or 0.5 for two workers on each; 0 uses "
        "CPUs only (default: 0).",
        metavar="N",
        ge=0,
    )
    ray_logs: bool = setting(
        default=False, about="Show the output of Ray and its workers (default: off)."
    )

    @property
    def on_cluster(self) -> bool:
        """Return whether networks run on a cluster."""
        return self.backend != PROCESS
