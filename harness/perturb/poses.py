"""Poses, and the pinned protocol for every perturbation of pixels.

Pixels are in [0, 1], float32, before any normalization. Interpolation is bilinear, with zeros
outside unless a project declares another border (`harness.perturb.borders`). A pose rotates about
the image center ((W - 1) / 2, (H - 1) / 2) and then shifts. Positive degrees rotate
counter-clockwise on the screen; `dx` goes right and `dy` down, in pixels.

Published "worst-of-k rotations and shifts" figures differ threefold between implementations, since
these choices are open. The protocol therefore has a version, which is stored with every result. For
any memory layout, the four neighbors of a source are weighted and added in one order, with each
step rounded to float32. All implementations here therefore give the same bits.
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
"""Version of the rules in this module's docstring.

It increases if any pixel of a perturbation changes.
"""
_LARGE = 64 * 64
"""Number of pixels from which an image counts as large.

Each channel of a large image is mixed in a call of its own; small images share one call.
"""
_CHUNK = 8_192
"""Pixels that are mixed at a time in all small images."""
_ROUNDING = 1e9
"""Steps of a pixel to which sources are rounded.

Integer shifts and quarter turns then hit pixels exactly.
"""
_FRAME_PIXELS = 3
"""Pixels of the frame along each axis: one before the image and two after it."""


class Perturbation(Protocol):
    """A deterministic transform of a batch of images; its `repr` identifies it in results."""

    def __call__(self, images: Tensor) -> Tensor:
        """Return the transformed images, shaped (N, C, H, W) like the input, pixels in [0, 1]."""


@record
class Pose:
    """Rotate counter-clockwise by `degrees` about the center, then shift right and down.

    `dx` and `dy` are the shift in pixels, to the right and down.

    >>> Pose(degrees=10.0, dx=2.0).in_words()
    'rotated by 10° counter-clockwise, shifted 2 px right'
    """

    degrees: float = 0.0
    dx: float = 0.0
    dy: float = 0.0

    def __call__(self, images: Tensor) -> Tensor:
        """Return the images (N, C, H, W) in this pose.

        The identity pose returns its input, bit for bit.
        """
        if self == IDENTITY:
            return images
        return moved_alike(images, self.degrees, self.dx, self.dy, self._outside)

    @property
    def _outside(self) -> str:
        return DEFAULT_BORDER

    def in_words(self) -> str:
        """Return a description with the angle, its direction, and the shift in pixels."""
        parts = []
        if self.degrees > 0:
            parts.append(f"rotated by {self.degrees:g}° counter-clockwise")
        elif self.degrees < 0:
            parts.append(f"rotated by {-self.degrees:g}° clockwise")

        shifts = []
        if self.dx:
            shifts.append(_shift_in_words(self.dx, "right", "left"))
        if self.dy:
            shifts.append(_shift_in_words(self.dy, "down", "up"))
        if shifts:
            parts.append(f"shifted {' and '.join(shifts)}")

        return ", ".join(parts) or "clean"

    def clamped(self, within: Pose) -> Pose:
        """Return the pose with each axis limited to ± that of `within`."""
        return Pose(
            _clamped(self.degrees, within.degrees),
            _clamped(self.dx, within.dx),
            _clamped(self.dy, within.dy),
        )


def _shift_in_words(pixels: float, positive: str, negative: str) -> str:
    if pixels > 0:
        return f"{pixels:g} px {positive}"
    return f"{-pixels:g} px {negative}"


def _clamped(value: float, limit: float) -> float:
    return max(-limit, min(limit, value))


IDENTITY = Pose()


@record
class BorderedPose(Pose):
    """A pose of images with another border than zeros; see `within_border`."""

    border: str = DEFAULT_BORDER

    @property
    def _outside(self) -> str:
        return self.border


def within_border(perturbation: Perturbation, border: str) -> Perturbation:
    """Return a perturbation of images with this border.

    The border decides the pixels that a pose brings in from outside the image. The identity pose,
    and a perturbation that is no pose, need none. With zeros outside, a pose stays a `Pose`. A pose
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
    """Return the perturbation for masks and maps, which have nothing outside the image.

    This holds whatever the border of the images is.
    """
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

    The pixels equal those of `Pose` for each image, or of `BorderedPose` with the `border`.

    Args:
        images: The images, (N, C, H, W).
        degrees: Rotation of each image, (N,), in degrees counter-clockwise.
        dx: Shift of each image to the right, (N,), in pixels.
        dy: Shift of each image down, (N,), in pixels.
        border: The border of the images.
    """
    channels, height, width = images.shape[1:]
    index, shares = sampling(degrees, dx, dy, height, width, border=border)
    index = index.unsqueeze(1).expand(-1, channels, -1)
    return mixed(
        images,
        index,
        shares.unsqueeze(2),
        lambda pixels, where: pixels.gather(2, where),
        border=border,
    )


def in_words(perturbation: Perturbation) -> str:
    """Return the description of a perturbation, or else its `repr`.

    >>> in_words(Pose())
    'clean'
    """
    describe: Callable[[], str] | None = getattr(perturbation, "in_words", None)
    if describe is None:
        return repr(perturbation)
    return describe()


def moved_masks(masks: np.ndarray, perturbation: Perturbation) -> np.ndarray:
    """Return masks (N, H, W) after the perturbation, (N, H, W) bool.

    A pixel is true if at least half of it is object. There is no object outside the images,
    whatever their border.
    """
    import torch

    coverage = torch.from_numpy(masks.astype(np.float32))[:, None]
    moved = with_zeros_outside(perturbation)(coverage)
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

    Args:
        degrees: The rotations, (P,), in degrees counter-clockwise.
        dx: The shifts to the right, (P,), in pixels.
        dy: The shifts down, (P,), in pixels.
        height: Height of the images.
        width: Width of the images.
        border: The border of the images.

    Returns:
        The upper left source of each output pixel, (P, H * W) int64, as an index into the image
        within its frame. Then the weights of the left, right, upper and lower neighbors,
        (4, P, H * W) float32.
    """
    import torch

    target_device = degrees.device
    if target_device.type == "mps":  # MPS has no double precision.
        degrees = degrees.cpu()
        dx = dx.cpu()
        dy = dy.cpu()
    degrees = degrees.double().view(-1, 1)
    dx = dx.double().view(-1, 1)
    dy = dy.double().view(-1, 1)
    source_x, source_y = _sources(degrees, dx, dy, height, width)

    if border == borders.REFLECT:
        source_x = borders.reflected(source_x, width)
        source_y = borders.reflected(source_y, height)
    # Pixels farther along an axis equal the first one beyond the image, so farther sources are
    # moved there.
    source_x = source_x.clamp(-1, width)
    source_y = source_y.clamp(-1, height)

    left = source_x.floor()
    top = source_y.floor()
    right_share = (source_x - left).float()
    lower_share = (source_y - top).float()
    shares = torch.stack((1 - right_share, right_share, 1 - lower_share, lower_share))

    # The frame has one pixel above the image and to its left.
    index = ((top + 1) * (width + _FRAME_PIXELS) + (left + 1)).long()
    return index.to(target_device), shares.to(target_device)


def _sources(
    degrees: Tensor, dx: Tensor, dy: Tensor, height: int, width: int
) -> tuple[Tensor, Tensor]:
    """Return the coordinates x and y of the sources, (P, H * W) doubles each, for poses (P, 1)."""
    import torch

    rows, columns = torch.meshgrid(
        torch.arange(height, device=degrees.device, dtype=torch.float64),
        torch.arange(width, device=degrees.device, dtype=torch.float64),
        indexing="ij",
    )
    center_x = (width - 1) / 2
    center_y = (height - 1) / 2

    # The source of an output pixel: undo the shift, then rotate back (the y axis points down).
    x = columns.flatten() - center_x - dx
    y = rows.flatten() - center_y - dy
    radians = degrees.deg2rad()
    cos = radians.cos()
    sin = radians.sin()
    source_x = cos * x - sin * y + center_x
    source_y = sin * x + cos * y + center_y
    return _rounded(source_x), _rounded(source_y)


def _rounded(coordinates: Tensor) -> Tensor:
    return coordinates.mul(_ROUNDING).round().div(_ROUNDING)


def _sampling_of_one_pose(
    degrees: float, dx: float, dy: float, size: tuple[int, int], border: str
) -> tuple[Tensor, Tensor]:
    """Return `sampling` of one pose, (H * W,) and (4, H * W), for images of a size (H, W)."""
    import torch

    pose = torch.tensor([[degrees], [dx], [dy]], dtype=torch.float64)
    height, width = size
    index, shares = sampling(pose[0], pose[1], pose[2], height, width, border=border)
    return index[0], shares[:, 0]


# An entry for images of 224 px takes 1.2 MB, so few of them are kept.
_sampling_of_small_images = lru_cache(maxsize=1024)(_sampling_of_one_pose)
_sampling_of_large_images = lru_cache(maxsize=32)(_sampling_of_one_pose)


def moved_alike(
    images: Tensor, degrees: float, dx: float, dy: float, border: str = DEFAULT_BORDER
) -> Tensor:
    """Return all images (N, C, H, W) in one pose."""
    import torch

    height, width = images.shape[-2:]
    large = height * width >= _LARGE
    if large:
        index, shares = _sampling_of_large_images(degrees, dx, dy, (height, width), border)
    else:
        index, shares = _sampling_of_small_images(degrees, dx, dy, (height, width), border)

    wants_gradients = torch.is_grad_enabled() and images.requires_grad
    fast = images.device.type == "cpu" and images.dtype == torch.float32 and not wants_gradients
    if not fast:
        return mixed(
            images,
            index.to(images.device),
            shares.to(images.device),
            lambda pixels, where: pixels.index_select(2, where),
            border=border,
        )
    if large:
        return _mixed_one_by_one(images, index, shares, border)
    return _mixed_together(images, index, shares, border)


def mixed(
    images: Tensor,
    index: Tensor,
    shares: Tensor,
    pick: Callable[[Tensor, Tensor], Tensor],
    *,
    border: str,
) -> Tensor:
    """Mix the four neighbors of each source pixel in the images with their border.

    Args:
        images: The images, (N, C, H, W).
        index: The upper left sources, as in `sampling`.
        shares: The weights of the neighbors, as in `sampling`.
        pick: Returns the pixels at an index from images of flat rows, (N, C, (H + 3) * (W + 3)).
        border: The border of the images.
    """
    row_length = images.shape[-1] + _FRAME_PIXELS
    padded = borders.padded(images, border).flatten(2)
    left_share, right_share, upper_share, lower_share = shares

    # The order of these operations is part of the protocol; `_mix` has the same.
    upper_left = pick(padded, index)
    upper_right = pick(padded, index + 1)
    upper = upper_left * left_share + upper_right * right_share
    lower_left = pick(padded, index + row_length)
    lower_right = pick(padded, index + row_length + 1)
    lower = lower_left * left_share + lower_right * right_share
    result: Tensor = upper * upper_share + lower * lower_share
    return result.view_as(images)


def _mixed_together(images: Tensor, index: Tensor, shares: Tensor, border: str) -> Tensor:
    """Mix the neighbors of small images.

    The values of all images at a pixel are adjacent in memory, so they are copied at once.
    """
    count, channels, height, width = images.shape
    row_length = width + _FRAME_PIXELS
    padded = images.new_zeros(height + _FRAME_PIXELS, row_length, count, channels)
    borders.fill(padded.permute(2, 3, 0, 1), images, border)

    pixels = padded.view(-1, count * channels)
    result = images.new_empty(height * width, count * channels)
    for start in range(0, height * width, _CHUNK):
        part = slice(start, start + _CHUNK)
        neighbors = _neighbors(index[part], row_length)
        _mix(pixels, neighbors, shares[:, part, None], out=result[part])
    return result.view(height, width, count, channels).permute(2, 3, 0, 1).contiguous()


def _mixed_one_by_one(images: Tensor, index: Tensor, shares: Tensor, border: str) -> Tensor:
    """Mix the neighbors of large images, one channel at a time.

    A channel fits into the processor's cache.
    """
    count, channels, height, width = images.shape
    row_length = width + _FRAME_PIXELS
    padded = images.new_zeros(height + _FRAME_PIXELS, row_length)
    neighbors = _neighbors(index, row_length)

    planes = images.reshape(-1, height, width)
    result = images.new_empty(count * channels, height * width)
    for plane, out in zip(planes.unbind(0), result.unbind(0), strict=True):
        borders.fill(padded[None, None], plane[None, None], border)
        _mix(padded.view(-1), neighbors, shares, out=out)
    return result.view_as(images)


def _neighbors(index: Tensor, row_length: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the indices of the four neighbors, as int32.

    They are the upper left, upper right, lower left and lower right ones.
    """
    upper_left = index.int()
    return upper_left, upper_left + 1, upper_left + row_length, upper_left + (row_length + 1)


def _mix(pixels: Tensor, neighbors: tuple[Tensor, ...], shares: Tensor, *, out: Tensor) -> None:
    """Write the mixed neighbors along the first axis to `out`, in the order of `mixed`."""
    import torch

    upper_left, upper_right, lower_left, lower_right = neighbors
    left_share, right_share, upper_share, lower_share = shares

    torch.index_select(pixels, 0, upper_left, out=out)
    out.mul_(left_share)
    out.add_(pixels.index_select(0, upper_right).mul_(right_share))
    out.mul_(upper_share)

    lower = pixels.index_select(0, lower_left).mul_(left_share)
    lower.add_(pixels.index_select(0, lower_right).mul_(right_share))
    out.add_(lower.mul_(lower_share))
