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
    """A user's network with its declared steps: normalization of its input, and a logarithm of probabilities.

    `mean` and `std` are (C,) or a single number, of pixels in [0, 1]; without them pixels pass unchanged. The softmax
    of the logarithm of probabilities gives these probabilities, so confidences are the network's own.
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
            tensor = (
                None
                if values is None
                else torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1)
            )
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Map pixels (N, C, H, W) in [0, 1] to logits (N, classes)."""
        outputs: Tensor = logits_of(self.network(self.normalised(pixels)))[0]
        return outputs.clamp_min(_SMALLEST).log() if self.probabilities else outputs

    @property
    def declared(self) -> dict[str, str]:
        """Return the declaration of outputs and normalization as text."""
        steps = "none"
        if self.mean is not None and self.std is not None:
            steps = f"mean {self.mean.flatten().tolist()}, std {self.std.flatten().tolist()}"
        return {
            "outputs": "probabilities" if self.probabilities else "logits",
            "normalization": steps,
        }

    def normalised(self, pixels: Tensor) -> Tensor:
        """Return the network's input for pixels in [0, 1]."""
        return pixels if self.mean is None or self.std is None else (pixels - self.mean) / self.std


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
    """Raise `InputError`, with both numbers, if a model does not fit the data in channels, size or classes.

    Also if a user's network returns other outputs than declared: "logits", "probabilities", or None without a
    declaration. Other failures of the model occur later, at its use. Returns a description of the place of its logits
    in its output, "" for a model that returns only logits.
    """
    model = evaluation_copy(model)
    some = images.pixels[:8].float() / 255
    _, channels, height, width = some.shape
    declared = model if isinstance(model, DeclaredNetwork) else None
    network: Any = declared.network if declared else model
    given = 0 if declared is None or declared.mean is None else declared.mean.numel()
    if given not in {0, 1, channels}:
        raise UnusableModelError(
            f"has {given} means, the data have {channels} channels; give one for each, or set channels for the data",
            setting="normalization",
        )
    first = next((layer for layer in network.modules() if isinstance(layer, nn.Conv2d)), None)
    wanted = getattr(network, "in_channels", None) or getattr(first, "in_channels", None)
    if isinstance(wanted, int) and wanted != channels:
        found = f"the model takes images of {wanted} channels, the data have {channels}"
        loading = f"load them with channels {wanted}, or " if wanted in {1, 3} else ""
        raise UnusableModelError(f"{found}; {loading}build the model for {channels}")

    def computed(inputs: Tensor) -> Any:
        with torch.inference_mode(), foreign_network():
            return network(inputs)

    try:
        answers = computed(declared.normalised(some) if declared else some)
    except Exception as error:  # A model may raise any exception for images that it rejects.
        sizes: list[Any] = [
            getattr(network, "image_size", None),
            *((size, size) for size in _USUAL_SIZES),
        ]
        for size in sizes:
            with suppress(Exception):
                computed(some.new_zeros(1, channels, *size))
                if size != (height, width):
                    break
        else:
            return ""
        taken, found = (f"{across}x{down}" for across, down in (size, (height, width)))
        raise UnusableModelError(
            f"the model takes images of {taken} pixels (height x width), the data have {found}. Set size {taken}, or "
            f"build the model for {found} ({error})"
        ) from error
    answers, where = logits_of(answers) if declared else (answers, "")
    if not isinstance(answers, Tensor) or answers.ndim != 2:  # noqa: PLR2004  (N, classes); the engine raises the error.
        return ""
    if answers.shape[1] != len(images.classes):
        raise UnusableModelError(
            f"the model has {answers.shape[1]} classes, the data have {len(images.classes)} classes "
            f"({some_of(images.classes)}); build it for these, such as with model_args.num_classes="
            f"{len(images.classes)}, or name the data that it was trained for"
        )
    sums = answers.float().sum(dim=1)
    alike = bool((answers >= 0).all()) and bool(((sums - 1).abs() < _SUMS_TO_ONE).all())
    if declared and outputs == "probabilities" and not alike:
        raise UnusableModelError(
            f"the model's outputs are {answers.min():.3g} to {answers.max():.3g} with sums of {sums.min():.3g} to "
            f"{sums.max():.3g} per image, expected 0 to 1 and a sum of 1. Set model_outputs logits",
            setting="model_outputs probabilities",
        )
    if declared and outputs is None and alike and answers.shape[1] > 1:
        raise UnusableModelError(
            "the model's outputs look like probabilities, 0 to 1 with a sum of 1 for each image, but are not declared. "
            "Set model_outputs probabilities, or model_outputs logits if they are logits"
        )
    return where
