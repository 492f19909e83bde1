"""Users' networks with declared normalization and outputs: loaded, and compared with the data."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from harness.base.errors import UnusableModelError, some_of
from harness.networks.checkpoints import Checkpoint, load_checkpoint
from harness.networks.formats import NETWORK_FORMATS
from harness.networks.options import NetworkOptions, parse_normalization
from harness.networks.process import evaluation_copy, foreign_network, logits_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.data import LabelledImages

_USUAL_SIZES = (28, 32, 64, 96, 112, 128, 160, 192, 224, 240, 256, 299, 384, 512)
"""Widths and heights that are tried on a model that rejects the data, for the error message."""
_SUMS_TO_ONE = 1e-3
_SMALLEST = torch.finfo(torch.float32).tiny


class DeclaredNetwork(nn.Module):
    """A user's network with its declared normalization and outputs.

    `mean` and `std` are (C,) or a single number, of pixels in [0, 1]; without them pixels pass
    unchanged. Of probabilities it returns the logarithm, whose softmax gives these probabilities,
    so confidences are the network's own.
    """

    mean: Tensor | None
    std: Tensor | None

    def __init__(
        self,
        network: nn.Module,
        *,
        normalization: tuple[Sequence[float], Sequence[float]] | None,
        probabilities: bool,
    ) -> None:
        super().__init__()
        self.network, self.probabilities = network, probabilities
        for name, values in zip(("mean", "std"), normalization or (None, None), strict=True):
            tensor = None
            if values is not None:
                tensor = torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1)
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Map pixels (N, C, H, W) in [0, 1] to logits (N, classes)."""
        outputs: Tensor = logits_of(self.network(self.normalised(pixels)))[0]
        if self.probabilities:
            return outputs.clamp_min(_SMALLEST).log()
        return outputs

    @property
    def declared(self) -> dict[str, str]:
        """Return the declaration of outputs and normalization as text."""
        outputs = "probabilities" if self.probabilities else "logits"
        normalization = "none"
        if self.mean is not None and self.std is not None:
            mean, std = self.mean.flatten().tolist(), self.std.flatten().tolist()
            normalization = f"mean {mean}, std {std}"
        return {"outputs": outputs, "normalization": normalization}

    def normalised(self, pixels: Tensor) -> Tensor:
        """Return the network's input for pixels in [0, 1]."""
        if self.mean is None or self.std is None:
            return pixels
        return (pixels - self.mean) / self.std


def load_model(path: Path, options: NetworkOptions | None = None) -> Checkpoint:
    """Load a checkpoint; if it is not of a shipped architecture, the options describe its network.

    A file of one of the `NETWORK_FORMATS` contains its network. If that takes bytes, it normalizes
    by itself, and a declared normalization is for the other models. Raises `CheckpointRefused` for
    an irregular file, and `InputError` for options that do not apply.
    """
    options = options or NetworkOptions()
    normalization = parse_normalization(options.normalization)
    network_format = NETWORK_FORMATS.get(path.suffix.lower())
    if network_format is None:
        checkpoint = load_checkpoint(path, builder=options.builder(), choice=options)
        if checkpoint.architecture != "user":
            return checkpoint
    else:
        checkpoint = network_format.load(path, options)
        if getattr(checkpoint.model, "takes_bytes", False):
            normalization = None

    probabilities = options.model_outputs == "probabilities"
    network = DeclaredNetwork(
        checkpoint.model, normalization=normalization, probabilities=probabilities
    )
    return replace(checkpoint, model=network.eval())


def expect_fit(model: nn.Module, images: LabelledImages, *, outputs: str | None) -> str:
    """Raise `UnusableModelError`, with both numbers, if a model does not fit the data.

    Other failures of the model occur later, at its use.

    Args:
        model: The model; a `DeclaredNetwork` if it is the user's.
        images: The data.
        outputs: The declared outputs, "logits" or "probabilities", or None without a declaration.

    Returns:
        A description of the place of its logits in its output, "" for a model that returns only
        logits.

    Raises:
        UnusableModelError: The model takes other channels or sizes, or has other classes than the
            data; or a user's network returns other outputs than declared.
    """
    model = evaluation_copy(model)
    declared = model if isinstance(model, DeclaredNetwork) else None
    network: nn.Module = declared.network if declared else model
    pixels = images.pixels[:8].float() / 255
    channels = pixels.shape[1]
    if declared:
        _expect_means_for(declared, channels)
    _expect_channels(network, channels)

    try:
        inputs = declared.normalised(pixels) if declared else pixels
        answers = _outputs_of(network, inputs)
    except Exception as error:  # A model may raise any exception for images that it rejects.
        _expect_size(network, pixels, error)
        return ""

    place = ""
    if declared:
        answers, place = logits_of(answers)
    if not isinstance(answers, Tensor) or answers.ndim != 2:  # noqa: PLR2004  (N, classes)
        return ""  # The engine raises the error.
    _expect_classes(answers, images.classes)
    if declared:
        _expect_declared_outputs(answers, outputs)
    return place


def _outputs_of(network: nn.Module, inputs: Tensor) -> Any:
    with torch.inference_mode(), foreign_network():
        return network(inputs)


def _expect_means_for(declared: DeclaredNetwork, channels: int) -> None:
    """Raise an error unless the normalization has one mean, or one for each channel."""
    count = 0 if declared.mean is None else declared.mean.numel()
    if count not in {0, 1, channels}:
        raise UnusableModelError(
            f"has {count} means, the data have {channels} channels; give one for each, or set "
            "channels for the data",
            setting="normalization",
        )


def _expect_channels(network: nn.Module, channels: int) -> None:
    """Raise an error if the network, or its first convolution, takes other channels."""
    layers = network.modules()
    first = next((layer for layer in layers if isinstance(layer, nn.Conv2d)), None)
    expected: Any = getattr(network, "in_channels", None) or getattr(first, "in_channels", None)
    if not isinstance(expected, int) or expected == channels:
        return
    loading = f"load them with channels {expected}, or " if expected in {1, 3} else ""
    raise UnusableModelError(
        f"the model takes images of {expected} channels, the data have {channels}; {loading}build "
        f"the model for {channels}"
    )


def _expect_size(network: nn.Module, pixels: Tensor, error: Exception) -> None:
    """Raise an error with the size that a network takes, if that is why it rejects the data.

    Args:
        network: The network.
        pixels: Images that it rejects, (N, C, H, W).
        error: The exception that it raised for them.
    """
    _, channels, height, width = pixels.shape
    own_size: Any = getattr(network, "image_size", None)
    sizes = [own_size, *((size, size) for size in _USUAL_SIZES)]
    for size in sizes:
        with suppress(Exception):
            _outputs_of(network, pixels.new_zeros(1, channels, *size))
            if size != (height, width):
                break
    else:
        return

    expected_size, data_size = f"{size[0]}x{size[1]}", f"{height}x{width}"
    raise UnusableModelError(
        f"the model takes images of {expected_size} pixels (height x width), the data have "
        f"{data_size}. Set size {expected_size}, or build the model for {data_size} ({error})"
    ) from error


def _expect_classes(answers: Tensor, classes: Sequence[str]) -> None:
    """Raise an error unless answers (N, classes) have as many classes as the data."""
    if answers.shape[1] != len(classes):
        raise UnusableModelError(
            f"the model has {answers.shape[1]} classes, the data have {len(classes)} classes "
            f"({some_of(classes)}); build it for these, such as with model_args.num_classes="
            f"{len(classes)}, or name the data that it was trained for"
        )


def _expect_declared_outputs(answers: Tensor, outputs: str | None) -> None:
    """Raise an error if answers (N, classes) are not of the declared kind."""
    sums = answers.float().sum(dim=1)
    not_negative = bool((answers >= 0).all())
    like_probabilities = not_negative and bool(((sums - 1).abs() < _SUMS_TO_ONE).all())
    if outputs == "probabilities" and not like_probabilities:
        raise UnusableModelError(
            f"the model's outputs are {answers.min():.3g} to {answers.max():.3g} with sums of "
            f"{sums.min():.3g} to {sums.max():.3g} per image, expected 0 to 1 and a sum of 1. Set "
            "model_outputs logits",
            setting="model_outputs probabilities",
        )
    if outputs is None and like_probabilities and answers.shape[1] > 1:
        raise UnusableModelError(
            "the model's outputs look like probabilities, 0 to 1 with a sum of 1 for each image, "
            "but are not declared. Set model_outputs probabilities, or model_outputs logits if "
            "they are logits"
        )
