"""Borders: the pixels outside an image, which a rotation or a shift brings into view.

A pose samples the image with a frame around it, one pixel wide above and to the left, and two below
and to the right. The frame has the pixels next to the image: a level of gray, the nearest pixel, or
the image's mean. Any source farther away equals one in the frame. With `reflect`, sources outside
are reflected at the outermost pixels instead, as often as needed, so that the frame has no weight.
This equals an image that is reflected without a repeated edge (`reflect` of NumPy,
BORDER_REFLECT_101 of OpenCV).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.data.domain import constant_level

if TYPE_CHECKING:
    from torch import Tensor

EDGE = "edge"
REFLECT = "reflect"
MEAN = "mean"
_FRAME = (1, 2, 1, 2)
"""Pixels of the frame: left, right, above and below, as `torch.nn.functional.pad` takes them."""


def reflected(sources: Tensor, size: int) -> Tensor:
    """Return coordinates along an axis of `size` pixels, reflected into [0, size - 1].

    Coordinates inside stay the same.
    """
    import torch

    last = size - 1
    if last == 0:
        return torch.zeros_like(sources)

    # This triangle wave is exact for whole coordinates, and for those inside.
    folded = sources.abs().remainder(2 * last)
    return torch.where(folded > last, 2 * last - folded, folded)


def padded(images: Tensor, border: str) -> Tensor:
    """Return images (N, C, H, W) within their frame, (N, C, H + 3, W + 3).

    The result is a new tensor, and gradients flow through it.
    """
    import torch
    from torch.nn.functional import pad

    if border == EDGE:
        return pad(images, _FRAME, mode="replicate")
    if border == MEAN:
        inside = pad(torch.ones_like(images[:1, :1]), _FRAME).bool()
        return torch.where(inside, pad(images, _FRAME), means(images))
    level = constant_level(border) or 0.0
    return pad(images, _FRAME, value=level)


def fill(frame: Tensor, images: Tensor, border: str) -> None:
    """Write images and their border into a frame of zeros.

    Args:
        frame: The frame to fill, (N, C, H + 3, W + 3); all zeros.
        images: The images inside it, (N, C, H, W).
        border: The name of the border.
    """
    height, width = images.shape[-2:]
    level = constant_level(border)
    if border == MEAN:
        frame.copy_(means(images).expand_as(frame))
    elif level:
        frame.fill_(level)

    frame[..., 1 : height + 1, 1 : width + 1] = images

    if border == EDGE:
        # Columns first: the rows above and below then carry the corners with them.
        frame[..., :1] = frame[..., 1:2]
        frame[..., width + 1 :] = frame[..., width : width + 1]
        frame[..., :1, :] = frame[..., 1:2, :]
        frame[..., height + 1 :, :] = frame[..., height : height + 1, :]


def means(images: Tensor) -> Tensor:
    """Return the mean of each channel of each image, (N, C, 1, 1)."""
    import torch

    # In double precision, the sum of 8-bit pixels is exact. It does not depend on the order of the
    # addition, which differs between batches and layouts. MPS has no doubles.
    pixels = images
    if images.device.type == "mps":
        pixels = images.cpu()
    exact = pixels.mean(dim=(-2, -1), keepdim=True, dtype=torch.float64)
    return exact.to(images.dtype).to(images.device)
