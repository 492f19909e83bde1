"""Poses, and the pinned protocol for every perturbation of pixels.

Pixels are in [0, 1], float32, before any normalization. Interpolation is bilinear, with zeros outside unless a project
declares another border (`harness.perturb.borders`). A pose rotates about the image center ((W - 1) / 2, (H - 1) / 2)
and then shifts. Positive degrees rotate counter-clockwise on the screen; `dx` goes right and `dy` down, in pixels.
Published "worst-of-k rotations and shifts" figures differ threefold between implementations, since these choices are
open. The protocol therefore has a version, which is stored with every result. For any memory layout, the four neighbors
of a source are weighted and added in one order, with each step rounded to float32. All implementations here therefore
give the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import numpy as np

from harness.base.records import record
from harness.data.domain import DEFAULT_BORDER
from harness.perturb import borders

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

PROTOCOL = 1
"""Version of the rules in this module's docstring; it increases if any pixel of a perturbation changes."""
_LARGE = 64 * 64
"""Least pixels of a large image, which gets a call of its own; small images share one."""
_CHUNK = 8_192
"""Pixels that are mixed at a time in all small images."""


class Perturbation(Protocol):
    """A deterministic transform of a batch of images; its `repr` identifies it in results."""

    def __call__(self, images: Tensor) -> Tensor:
        """Return the transformed images, shaped (N, C, H, W) like the input, pixels in [0, 1]."""


@record
class Pose:
    """Rotate by `degrees` counter-clockwise about the center, then shift by (`dx`, `dy`) pixels right and down."""

    degrees: float = 0.0
    dx: float = 0.0
    dy: float = 0.0

    def __call__(self, images: Tensor) -> Tensor:
        """Return the images (N, C, H, W) in this pose; the identity pose returns its input, bit for bit."""
        if self == IDENTITY:
            return images
        return moved_alike(images, self.degrees, self.dx, self.dy, self._outside)

    @property
    def _outside(self) -> str:
        return DEFAULT_BORDER

    def in_words(self) -> str:
        """Return a description with the angle, its direction, and the shift in pixels."""
        way = f"{'counter-' if self.degrees > 0 else ''}clockwise"
        turn = f"rotated by {abs(self.degrees):g}° {way}" if self.degrees else ""
        across = f"{abs(self.dx):g} px {'right' if self.dx > 0 else 'left'}" if self.dx else ""
        along = f"{abs(self.dy):g} px {'down' if self.dy > 0 else 'up'}" if self.dy else ""
        shift = " and ".join(filter(None, (across, along)))
        return ", ".join(filter(None, (turn, f"shifted {shift}" if shift else ""))) or "clean"

    def clamped(self, within: Pose) -> Pose:
        """Return the pose with each axis limited to ± that of `within`."""
        pairs = ((self.degrees, within.degrees), (self.dx, within.dx), (self.dy, within.dy))
        return Pose(*(max(-limit, min(limit, value)) for value, limit in pairs))


IDENTITY = Pose()


@record
class BorderedPose(Pose):
    """A pose of images with another border than zeros; see `within_border`."""

    border: str = DEFAULT_BORDER

    @property
    def _outside(self) -> str:
        return self.border


def within_border(perturbation: Perturbation, border: str) -> Perturbation:
    """Return a perturbation of images with this border, which decides the pixels of a pose from outside the image.

    The identity pose, and a perturbation that is no pose, need none. With zeros outside, a pose stays a `Pose`. A pose
    that has a border of its own keeps it.

    >>> within_border(Pose(10.0), "edge")
    BorderedPose(degrees=10.0, dx=0.0, dy=0.0, border='edge')
    """
    own: Callable[[str], Perturbation] | None = getattr(perturbation, "within_border", None)
    if own is not None:
        return own(border)
    if not isinstance(perturbation, Pose) or isinstance(perturbation, BorderedPose):
        return perturbation
    if perturbation == IDENTITY or border == DEFAULT_BORDER:
        return perturbation
    return BorderedPose(perturbation.degrees, perturbation.dx, perturbation.dy, border)


def with_zeros_outside(perturbation: Perturbation) -> Perturbation:
    """Return the perturbation for masks and maps, which have nothing outside the image, whatever its border."""
    if isinstance(perturbation, BorderedPose):
        return Pose(perturbation.degrees, perturbation.dx, perturbation.dy)
    return perturbation


@dataclass(frozen=True)
class HorizontalFlip:
    """Flip the image left to right."""

    def __call__(self, images: Tensor) -> Tensor:
        """Return the flipped images (N, C, H, W)."""
        return images.flip(-1)

    def in_words(self) -> str:
        """Return a description of the flip."""
        return "flipped left to right"


def pose_each(
    images: Tensor, degrees: Tensor, dx: Tensor, dy: Tensor, *, border: str = DEFAULT_BORDER
) -> Tensor:
    """Apply its own pose to every image.

    `images` is (N, C, H, W); `degrees`, `dx` and `dy` are (N,). The pixels equal those of `Pose` for each image, or of
    `BorderedPose` with the `border`.
    """
    index, shares = sampling(degrees, dx, dy, images.shape[-2], images.shape[-1], border=border)
    index = index.unsqueeze(1).expand(-1, images.shape[1], -1)
    return mixed(
        images,
        index,
        shares.unsqueeze(2),
        lambda pixels, where: pixels.gather(2, where),
        border=border,
    )


def in_words(perturbation: Perturbation) -> str:
    """Return the description of a perturbation, or else its `repr`."""
    own: Callable[[], str] | None = getattr(perturbation, "in_words", None)
    return own() if own else repr(perturbation)


def moved_masks(masks: np.ndarray, perturbation: Perturbation) -> np.ndarray:
    """Return masks (N, H, W) after the perturbation; a pixel is true if at least half of it is object.

    There is no object outside the images, whatever their border.
    """
    import torch

    moved = with_zeros_outside(perturbation)(torch.from_numpy(masks.astype(np.float32))[:, None])
    return np.asarray((moved[:, 0] >= 0.5).numpy())  # noqa: PLR2004  Half, as the docstring says.


def sampling(
    degrees: Tensor,
    dx: Tensor,
    dy: Tensor,
    height: int,
    width: int,
    *,
    border: str = DEFAULT_BORDER,
) -> tuple[Tensor, Tensor]:
    """Return the sources of all output pixels for P poses.

    The first result, (P, H * W), is the upper left source pixel, as an index into the image with its border, a frame
    of one pixel and two. The second, (4, P, H * W), has the weights of the left, right, upper and lower neighbors.
    Coordinates are in double precision, which MPS does not support. They are rounded to 1e-9 pixel, so integer shifts
    and quarter turns hit pixels exactly.
    """
    import torch

    device = degrees.device
    if device.type == "mps":
        degrees, dx, dy = degrees.cpu(), dx.cpu(), dy.cpu()
    degrees, dx, dy = (value.double().view(-1, 1) for value in (degrees, dx, dy))
    rows, columns = torch.meshgrid(
        torch.arange(height, device=degrees.device, dtype=torch.float64),
        torch.arange(width, device=degrees.device, dtype=torch.float64),
        indexing="ij",
    )
    # The source of an output pixel: undo the shift, then rotate back (the y axis points down).
    x = columns.flatten() - (width - 1) / 2 - dx
    y = rows.flatten() - (height - 1) / 2 - dy
    cos, sin = degrees.deg2rad().cos(), degrees.deg2rad().sin()
    source_x = (cos * x - sin * y + (width - 1) / 2).mul(1e9).round().div(1e9)
    source_y = (sin * x + cos * y + (height - 1) / 2).mul(1e9).round().div(1e9)
    if border == borders.REFLECT:
        source_x, source_y = borders.reflected(source_x, width), borders.reflected(source_y, height)
    # Pixels farther along an axis equal the first one beyond the image, so farther sources are moved there.
    source_x, source_y = source_x.clamp(-1, width), source_y.clamp(-1, height)
    left, top = source_x.floor(), source_y.floor()
    right_share, lower_share = (source_x - left).float(), (source_y - top).float()
    index = ((top + 1) * (width + 3) + (left + 1)).long()
    shares = torch.stack((1 - right_share, right_share, 1 - lower_share, lower_share))
    return index.to(device), shares.to(device)


def _of_one_pose(
    degrees: float, dx: float, dy: float, size: tuple[int, int], border: str
) -> tuple[Tensor, Tensor]:
    import torch

    angle, right, down = torch.tensor([[degrees], [dx], [dy]], dtype=torch.float64)
    index, shares = sampling(angle, right, down, *size, border=border)
    return index[0], shares[:, 0]


# An entry for images of 224 px takes 1.2 MB.
_of_small, _of_large = lru_cache(maxsize=1024)(_of_one_pose), lru_cache(maxsize=32)(_of_one_pose)


def moved_alike(
    images: Tensor, degrees: float, dx: float, dy: float, border: str = DEFAULT_BORDER
) -> Tensor:
    """Return all images (N, C, H, W) in one pose."""
    import torch

    height, width = images.shape[-2:]
    large = height * width >= _LARGE
    index, shares = (_of_large if large else _of_small)(degrees, dx, dy, (height, width), border)
    wants_gradients = torch.is_grad_enabled() and images.requires_grad
    if images.device.type != "cpu" or images.dtype != torch.float32 or wants_gradients:
        index, shares = index.to(images.device), shares.to(images.device)
        return mixed(
            images,
            index,
            shares,
            lambda pixels, where: pixels.index_select(2, where),
            border=border,
        )
    return (_mixed_one_by_one if large else _mixed_together)(images, index, shares, border)


def mixed(
    images: Tensor,
    index: Tensor,
    shares: Tensor,
    pick: Callable[[Tensor, Tensor], Tensor],
    *,
    border: str,
) -> Tensor:
    """Mix the four neighbors of each source pixel in the images with their border; `pick` reads them."""
    row = images.shape[-1] + 3
    padded = borders.padded(images, border).flatten(2)
    left_share, right_share, upper_share, lower_share = shares
    upper = pick(padded, index) * left_share + pick(padded, index + 1) * right_share
    lower = pick(padded, index + row) * left_share + pick(padded, index + row + 1) * right_share
    result: Tensor = upper * upper_share + lower * lower_share
    return result.view_as(images)


def _mixed_together(images: Tensor, index: Tensor, shares: Tensor, border: str) -> Tensor:
    """Mix the neighbors of small images; the values of all images at a pixel are adjacent and copied at once."""
    number, channels, height, width = images.shape
    padded = images.new_zeros(height + 3, width + 3, number, channels)
    borders.fill(padded.permute(2, 3, 0, 1), images, border)
    pixels = padded.view(-1, number * channels)
    result = images.new_empty(height * width, number * channels)
    for start in range(0, height * width, _CHUNK):
        part = slice(start, start + _CHUNK)
        _mix(pixels, _neighbours(index[part], width + 3), shares[:, part, None], out=result[part])
    return result.view(height, width, number, channels).permute(2, 3, 0, 1).contiguous()


def _mixed_one_by_one(images: Tensor, index: Tensor, shares: Tensor, border: str) -> Tensor:
    """Mix the neighbors of large images, one channel at a time, since it fits into the processor's cache."""
    number, channels, height, width = images.shape
    result = images.new_empty(number * channels, height * width)
    padded = images.new_zeros(height + 3, width + 3)
    neighbours = _neighbours(index, width + 3)
    for plane, out in zip(
        images.reshape(-1, height, width).unbind(0), result.unbind(0), strict=True
    ):
        borders.fill(padded[None, None], plane[None, None], border)
        _mix(padded.view(-1), neighbours, shares, out=out)
    return result.view_as(images)


def _neighbours(index: Tensor, row: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the indices of the upper left, upper right, lower left and lower right neighbors, as int32."""
    short = index.int()
    return short, short + 1, short + row, short + (row + 1)


def _mix(pixels: Tensor, neighbours: tuple[Tensor, ...], shares: Tensor, *, out: Tensor) -> None:
    """Write the mixed neighbors along the first axis to `out`, in the order of `mixed`."""
    import torch

    upper_left, upper_right, lower_left, lower_right = neighbours
    left_share, right_share, upper_share, lower_share = shares
    torch.index_select(pixels, 0, upper_left, out=out)
    out.mul_(left_share).add_(pixels.index_select(0, upper_right).mul_(right_share)).mul_(
        upper_share
    )
    lower = pixels.index_select(0, lower_left).mul_(left_share)
    lower.add_(pixels.index_select(0, lower_right).mul_(right_share))
    out.add_(lower.mul_(lower_share))
