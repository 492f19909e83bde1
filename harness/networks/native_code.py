"""Networks that native code computes, outside of PyTorch: a trial before their use, and answers."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from harness.base.launcher import ChildError, call_in_child
from harness.networks.checkpoints.files import CheckpointRefused
from harness.networks.trial import try_network

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import Self

IMAGES = 4
"""Dimensions of a batch of images: (N, C, H, W), or (N, H, W, C)."""
_PATIENCE = 10
"""Factor from seconds of one core to the time limit: other processes share the machine."""


@dataclass(frozen=True)
class NativeLibrary:
    """A library that computes networks, and the limits of a trial.

    Attributes:
        module: The name of its module.
        compute_one_image: A function that computes one blank image, from the description of a
            network, its external weights and the (C, H, W) of the image. It raises for a network
            that cannot be used. Its file imports nothing of this package.
        megabytes: Most memory, besides four times the network's size.
        seconds: Most seconds of one core.
    """

    module: str
    compute_one_image: Callable[[bytes, bytes, Sequence[int]], None]
    megabytes: int
    seconds: int


def expect_moderate(
    library: NativeLibrary,
    content: bytes,
    path: Path,
    shape: Sequence[int],
    *,
    advice: str,
    weights: bytes = b"",
) -> None:
    """Raise `CheckpointRefused` for a network that needs too much time or memory for one image.

    A small file may expand to any size or loop forever, and this process could not stop native
    code. So another process computes one image first.

    Args:
        library: The library that computes it.
        content: The description of the network.
        path: Its file, for the message.
        shape: The (C, H, W) of an image.
        advice: What to do about a refused file.
        weights: External weights.
    """
    megabytes = library.megabytes + 4 * ((len(content) + len(weights)) >> 20)
    compute = library.compute_one_image
    try:
        answer = call_in_child(
            try_network,
            library.module,
            (inspect.getfile(compute), compute.__name__),
            (content, weights),
            shape,
            (megabytes, library.seconds),
            alone=True,
            timeout_s=_PATIENCE * library.seconds,
        )
        exhausted = bool(answer["exhausted"])
    except ChildError:
        exhausted = True

    if exhausted:
        fact = (
            f"to open it and compute one image took more than {megabytes} MB or "
            f"{library.seconds} s, or crashed"
        )
        raise CheckpointRefused("RESOURCE", path, fact, advice)


class Runner:
    """A network that native code computes, one batch at a time; copies of a network share it.

    Attributes:
        batch: The only size of a batch, or None for any.
        kind: The type of its input; uint8 takes 0 to 255.
        last: Whether channels are the last dimension.
        run: A function that returns the answers for one batch.
    """

    batch: int | None
    kind: Any
    last: bool
    run: Callable[[np.ndarray], np.ndarray]

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Return the answers for pixels (N, C, H, W) in [0, 1], those in float16 as float32."""
        count = len(pixels)
        size = self.batch or max(count, 1)
        inputs = self._inputs_of(pixels)
        padding = np.zeros((-count % size, *inputs.shape[1:]), inputs.dtype)
        padded = np.concatenate([inputs, padding])

        batches = [self.run(padded[start : start + size]) for start in range(0, len(padded), size)]
        answers = np.concatenate(batches)
        if answers.dtype == np.float16:
            answers = answers.astype(np.float32)
        return answers[:count]

    def _inputs_of(self, pixels: np.ndarray) -> np.ndarray:
        """Return pixels (N, C, H, W) in [0, 1] in the layout and type of the input."""
        inputs = pixels
        if self.kind is np.uint8:
            inputs = np.rint(inputs * 255).clip(0, 255)
        if self.last:
            inputs = inputs.transpose(0, 2, 3, 1)
        return np.ascontiguousarray(inputs).astype(self.kind, copy=False)


class SizedRunner(Protocol):
    """A `Runner` of a file that may fix the (C, H, W) of images; None stands for any size."""

    batch: int | None
    kind: Any
    sizes: tuple[int | None, ...]

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Return the answers for pixels (N, C, H, W) in [0, 1]."""


class NativeNetwork(nn.Module):
    """A network in native code as a module, without layers and gradients in PyTorch.

    Attributes:
        in_channels: The channels that the file fixes, or None for any.
        image_size: The (height, width) that it fixes, or None for any.
        takes_bytes: Whether its input is uint8, so that it normalizes by itself.
        dynamic_ranges: Whether it quantizes by the values of a whole batch.
    """

    def __init__(self, runner: SizedRunner, digest: bytes, *, dynamic_ranges: bool) -> None:
        super().__init__()
        self.runner = runner
        self.dynamic_ranges = dynamic_ranges
        self.in_channels, *size = runner.sizes
        self.image_size: tuple[int | None, ...] | None = tuple(size)
        if None in size:
            self.image_size = None
        self.takes_bytes = runner.kind is np.uint8
        # The digest identifies this network, since it has no weights in PyTorch.
        self.register_buffer("digest", torch.tensor(list(digest), dtype=torch.uint8))

    def forward(self, pixels: Tensor) -> Tensor:
        """Map pixels (N, C, H, W), float32, to the network's output."""
        if not isinstance(pixels, Tensor):
            raise TypeError("a network in native code cannot be traced")
        outputs = self.runner(pixels.detach().cpu().contiguous().numpy())
        return torch.from_numpy(outputs).to(pixels.device)
