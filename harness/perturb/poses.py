"""Every transform of pixels, under the pinned protocol.

Pixels are in [0, 1], float32, before any normalisation; interpolation is bilinear with zeros outside. A pose rotates
about the image centre ((W - 1) / 2, (H - 1) / 2) and then shifts. Positive degrees turn counter-clockwise as seen on
the screen, `dx` goes right and `dy` goes down, in pixels. Published "worst-of-k rotations and shifts" figures differ
threefold between implementations that leave these choices open, so they are versioned and stored with every result.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from harness.store.records import record

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


@record
class Pose:
    """Rotate by `degrees` counter-clockwise about the centre, then shift by (`dx`, `dy`) pixels right and down."""

    degrees: float = 0.0
    dx: float = 0.0
    dy: float = 0.0

    def __call__(self, images: Tensor) -> Tensor:
        """Return the images (N, C, H, W) in this pose; the identity pose returns its input, bit for bit."""
        if self == IDENTITY:
            return images
        index, shares = _sampling_of_pose(self, *images.shape[-2:])
        index, shares = index.to(images.device), shares.to(images.device)
        return _interpolate(images, index, shares, lambda pixels, where: pixels.index_select(2, where))

    def in_words(self) -> str:
        """Return the pose as people say it, such as "turned by 7.5° clockwise, shifted 2 px left"."""
        turn = (
            f"turned by {abs(self.degrees):g}° {'counter-' if self.degrees > 0 else ''}clockwise"
            if self.degrees
            else ""
        )
        across = f"{abs(self.dx):g} px {'right' if self.dx > 0 else 'left'}" if self.dx else ""
        along = f"{abs(self.dy):g} px {'down' if self.dy > 0 else 'up'}" if self.dy else ""
        shift = " and ".join(filter(None, (across, along)))
        return ", ".join(filter(None, (turn, f"shifted {shift}" if shift else ""))) or "as it is"

    def clamped(self, within: Pose) -> Pose:
        """Return the pose with each axis brought into ± that of `within`."""

        def clamp(value: float, limit: float) -> float:
            return max(-limit, min(limit, value))

        return Pose(clamp(self.degrees, within.degrees), clamp(self.dx, within.dx), clamp(self.dy, within.dy))


IDENTITY = Pose()


@dataclass(frozen=True)
class HorizontalFlip:
    """Mirror the image left to right."""

    def __call__(self, images: Tensor) -> Tensor:
        """Return the mirrored images (N, C, H, W)."""
        return images.flip(-1)

    def in_words(self) -> str:
        """Return what it does to an image."""
        return "mirrored left to right"


def pose_each(images: Tensor, degrees: Tensor, dx: Tensor, dy: Tensor) -> Tensor:
    """Put every image in its own pose.

    `images` is (N, C, H, W); `degrees`, `dx` and `dy` are (N,). Returns the same pixels as `Pose` does for each image.
    """
    index, shares = _bilinear_sampling(degrees, dx, dy, *images.shape[-2:])
    index = index.unsqueeze(1).expand(-1, images.shape[1], -1)
    return _interpolate(images, index, shares.unsqueeze(2), lambda pixels, where: pixels.gather(2, where))


@lru_cache(maxsize=1024)
def _sampling_of_pose(pose: Pose, height: int, width: int) -> tuple[Tensor, Tensor]:
    import torch

    angle, dx, dy = (torch.tensor([value], dtype=torch.float64) for value in (pose.degrees, pose.dx, pose.dy))
    index, shares = _bilinear_sampling(angle, dx, dy, height, width)
    return index[0], shares[:, 0]


def _bilinear_sampling(degrees: Tensor, dx: Tensor, dy: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Say where each output pixel comes from.

    Returns, for P poses, the upper left source pixel as an index into the padded image of `_interpolate`
    (P, H * W), and the shares (4, P, H * W) of the left, right, upper and lower neighbours. Coordinates are computed
    in double precision and rounded to 1e-9 pixel, so that integer shifts and quarter turns land on pixels exactly.
    """
    import torch

    degrees, dx, dy = (value.double().view(-1, 1) for value in (degrees, dx, dy))
    rows, columns = torch.meshgrid(
        torch.arange(height, device=degrees.device, dtype=torch.float64),
        torch.arange(width, device=degrees.device, dtype=torch.float64),
        indexing="ij",
    )
    # The source of an output pixel: undo the shift, then turn back (the y axis points down).
    x = columns.flatten() - (width - 1) / 2 - dx
    y = rows.flatten() - (height - 1) / 2 - dy
    cos, sin = degrees.deg2rad().cos(), degrees.deg2rad().sin()
    # One pixel beyond the border everything is zero, so farther sources may as well lie there.
    source_x = (cos * x - sin * y + (width - 1) / 2).mul(1e9).round().div(1e9).clamp(-1, width)
    source_y = (sin * x + cos * y + (height - 1) / 2).mul(1e9).round().div(1e9).clamp(-1, height)
    left, top = source_x.floor(), source_y.floor()
    right_share, lower_share = (source_x - left).float(), (source_y - top).float()
    index = ((top + 1) * (width + 3) + (left + 1)).long()
    return index, torch.stack((1 - right_share, right_share, 1 - lower_share, lower_share))


def _interpolate(images: Tensor, index: Tensor, shares: Tensor, pick: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Mix the four neighbours that `pick` finds at and beside each source pixel of the zero-padded images."""
    from torch.nn.functional import pad

    row = images.shape[-1] + 3
    padded = pad(images, (1, 2, 1, 2)).flatten(2)
    left_share, right_share, upper_share, lower_share = shares
    upper = pick(padded, index) * left_share + pick(padded, index + 1) * right_share
    lower = pick(padded, index + row) * left_share + pick(padded, index + row + 1) * right_share
    mixed: Tensor = upper * upper_share + lower * lower_share
    return mixed.view_as(images)
