"""Networks that a user brings: loaded, with what they lack declared, and held against the data."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from harness.base.errors import InputError, some_of
from harness.networks.builders import parse_normalisation
from harness.networks.checkpoints import Checkpoint, load_checkpoint
from harness.networks.evaluation import evaluation_copy, logits_of
from harness.networks.options import NetworkOptions
from harness.networks.process import foreign_network

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.data import LabelledImages

USERS = ("user", "onnx")
"""Architectures that are not this package's own; what they lack is declared."""
_USUAL_SIZES = (28, 32, 64, 96, 112, 128, 160, 192, 224, 240, 256, 299, 384, 512)
"""Widths and heights tried on a model that rejects the data, to say which it takes."""
_SUMS_TO_ONE = 1e-3
_SMALLEST = torch.finfo(torch.float32).tiny


class DeclaredNetwork(nn.Module):
    """A user's network between the steps that it lacks: normalisation before it, a logarithm behind its probabilities.

    `mean` and `std` are (C,) or a single number, of pixels in [0, 1]; without them pixels go in as they are. The
    softmax of a logarithm of probabilities is these probabilities, so that confidences are the network's own.
    """

    mean: Tensor | None
    std: Tensor | None

    def __init__(
        self, network: nn.Module, *, normalisation: tuple[Sequence[float], Sequence[float]] | None, probabilities: bool
    ) -> None:
        super().__init__()
        self.network, self.probabilities = network, probabilities
        for name, values in zip(("mean", "std"), normalisation or (None, None), strict=True):
            tensor = None if values is None else torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1)
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Map pixels (N, C, H, W) in [0, 1] to logits (N, classes)."""
        outputs: Tensor = logits_of(self.network(self.normalised(pixels)))[0]
        return outputs.clamp_min(_SMALLEST).log() if self.probabilities else outputs

    @property
    def declared(self) -> dict[str, str]:
        """Return in words what was declared of the network."""
        steps = "none"
        if self.mean is not None and self.std is not None:
            steps = f"mean {self.mean.flatten().tolist()}, std {self.std.flatten().tolist()}"
        return {"outputs": "probabilities" if self.probabilities else "logits", "normalisation": steps}

    def normalised(self, pixels: Tensor) -> Tensor:
        """Return the pixels as the network takes them."""
        return pixels if self.mean is None or self.std is None else (pixels - self.mean) / self.std


def load_model(path: Path, options: NetworkOptions | None = None) -> Checkpoint:
    """Load a checkpoint; one that is not of a shipped architecture goes into the network that the options describe.

    An `.onnx` file brings its own network. Raises `CheckpointRefused` for a file out of order, and `InputError` for
    options that cannot be followed.
    """
    options = options or NetworkOptions()
    normalisation = None if options.normalisation is None else parse_normalisation(options.normalisation)
    if path.suffix.lower() == ".onnx":
        from harness.networks.checkpoints.onnx_network import load_onnx

        checkpoint = load_onnx(path)
    else:
        checkpoint = load_checkpoint(path, builder=options.builder(), choice=options.choice())
    if checkpoint.architecture not in USERS:
        return checkpoint
    network = DeclaredNetwork(
        checkpoint.model, normalisation=normalisation, probabilities=options.outputs == "probabilities"
    )
    return replace(checkpoint, model=network.eval())


def expect_fit(model: nn.Module, images: LabelledImages, *, outputs: str | None) -> str:
    """Raise `InputError`, which names both numbers, when a model does not fit the data: channels, size or classes.

    Also when a user's network gives something else than was declared by `outputs`, "logits", "probabilities" or None
    for neither. A model that fails otherwise is left to fail where it is used. Returns in words where its logits are in
    what it returns, "" for a model that returns them alone.
    """
    model = evaluation_copy(model)
    some = images.pixels[:8].float() / 255
    _, channels, height, width = some.shape
    network = model.network if isinstance(model, DeclaredNetwork) else model
    given = "" if not isinstance(model, DeclaredNetwork) or model.mean is None else model.mean.flatten()
    if len(given) not in {0, 1, channels}:
        raise InputError(
            f"has {len(given)} means, the data have {channels} channels; give one for each, or load the data with "
            "channels",
            setting="normalisation",
        )
    wanted = _channels_taken(network)
    if wanted not in {None, channels}:
        loading = f"load them with channels {wanted}, or " if wanted in {1, 3} else ""
        raise InputError(
            f"the model takes images of {wanted} channels, the data have {channels}; {loading}build the model for "
            f"{channels}"
        )
    try:
        answers = _answers(model, some)
    except InputError:
        raise
    except Exception as error:  # A model may reject images in any way.
        if size := _size_taken(model, network, some):
            raise InputError(
                f"the model takes images of {size[0]}x{size[1]} pixels (height x width), the data have "
                f"{height}x{width}; load them with size {size[0]}x{size[1]}, or build the model for "
                f"{height}x{width} ({error})"
            ) from error
        return ""
    if not isinstance(answers, Tensor) or answers.ndim != 2:  # noqa: PLR2004  (N, classes); the engine says more.
        return ""
    if answers.shape[1] != len(images.classes):
        raise InputError(
            f"the model tells {answers.shape[1]} classes apart, the data have {len(images.classes)} classes "
            f"({some_of(images.classes)}); build it for these, such as with model-arg num_classes="
            f"{len(images.classes)}, or name the data that it was trained for"
        )
    if not isinstance(model, DeclaredNetwork):
        return ""
    plain, where = logits_of(_answers(model.network, model.normalised(some)))
    _expect_declared(plain, outputs)
    return where


def _expect_declared(answers: Tensor, declared: str | None) -> None:
    sums = answers.float().sum(dim=1)
    alike = bool((answers >= 0).all()) and bool(((sums - 1).abs() < _SUMS_TO_ONE).all())
    if declared == "probabilities" and not alike:
        raise InputError(
            f"the model's outputs lie from {answers.min():.3g} to "
            f"{answers.max():.3g} and sum to {sums.min():.3g} to {sums.max():.3g} for an image, expected 0 to 1 and a "
            "sum of 1; say model-outputs logits",
            setting="model-outputs probabilities",
        )
    if declared is None and alike and answers.shape[1] > 1:
        raise InputError(
            "the model's outputs are probabilities by the look of them, 0 to 1 with a sum of 1 for each image, and "
            "were not declared; say model-outputs probabilities, or logits if they are logits all the same"
        )


def _answers(model: nn.Module, pixels: Tensor) -> Any:
    with torch.inference_mode(), foreign_network():
        return model(pixels)


def _channels_taken(network: nn.Module) -> int | None:
    """Return how many channels a network takes, by its own word or its first convolution's; None if neither says."""
    first = next((layer for layer in network.modules() if isinstance(layer, nn.Conv2d)), None)
    channels = getattr(network, "in_channels", None) or getattr(first, "in_channels", None)
    return channels if isinstance(channels, int) else None


def _size_taken(model: nn.Module, network: nn.Module, pixels: Tensor) -> tuple[int, int] | None:
    """Return a (height, width) that the model takes, of those that models are usually built for; None for none."""
    sizes = [getattr(network, "image_size", None), *((size, size) for size in _USUAL_SIZES)]
    for size in sizes:
        if isinstance(size, tuple) and size != tuple(pixels.shape[2:]):
            try:
                _answers(model, pixels.new_zeros(1, pixels.shape[1], *size))
            except Exception:  # noqa: S112  Not this size, then.
                continue
            return size
    return None
