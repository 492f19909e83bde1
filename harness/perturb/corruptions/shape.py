"""Corruptions of shape: warps, with zeros outside and bilinear interpolation, and hidden or missing parts.

Images are (N, H, W, C) float32 in [0, 1]; each image has its own generator in `draws`. OpenCV gets one image at a time,
so the others of a batch have no effect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.perturb.corruptions.kind import Kind, pixels_at_28, uniform

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SMOOTH = 3.0
"""Standard deviation, in pixels at 28 x 28, of the blur that smooths an elastic displacement."""
_GREY = 0.5
"""Gray level of a hidden part, unlike a dark or light background."""
_STRIPE = 2
"""Width of a stripe in pixels at 28 x 28."""


def elastic(images: np.ndarray, displacement: float, draws: Sequence[np.random.Generator]) -> np.ndarray:
    """Move each pixel by a smooth random field with this root mean square length (Simard et al. 2003, section 2)."""
    import cv2

    unit = pixels_at_28(images)
    height, width = images.shape[1:3]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    warped = []
    for image, draw in zip(images, draws, strict=True):
        field = cv2.GaussianBlur(2 * draw.random((height, width, 2), dtype=np.float32) - 1, (0, 0), _SMOOTH * unit)
        length = float(np.sqrt(np.square(field).sum(axis=2).mean()))
        x, y = np.moveaxis(field * np.float32(displacement * unit / max(length, 1e-6)), 2, 0)
        warped.append(cv2.remap(image, columns + x, rows + y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT))
    return np.stack(warped).reshape(images.shape)


def scale(images: np.ndarray, size: float, _draws: Sequence[np.random.Generator]) -> np.ndarray:
    """Shrink each image about its center to this share of its size."""
    return _about_the_centre(images, [np.diag([size, size])] * len(images))


def shear(images: np.ndarray, slope: float, draws: Sequence[np.random.Generator]) -> np.ndarray:
    """Shear each image: a row moves sideways by `slope` times its height above or below the center."""
    sides = [draw.choice((-1, 1)) for draw in draws]
    return _about_the_centre(images, [np.array([[1, side * slope], [0, 1]]) for side in sides])


def _about_the_centre(images: np.ndarray, linear: Sequence[np.ndarray]) -> np.ndarray:
    """Map each image by its own 2 x 2 matrix about ((W - 1) / 2, (H - 1) / 2)."""
    import cv2

    height, width = images.shape[1:3]
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    maps = [np.column_stack([matrix, centre - matrix @ centre]) for matrix in linear]
    warped = [cv2.warpAffine(image, matrix, (width, height)) for image, matrix in zip(images, maps, strict=True)]
    return np.stack(warped).reshape(images.shape)


def perspective(images: np.ndarray, share: float, draws: Sequence[np.random.Generator]) -> np.ndarray:
    """Move each corner inwards along each axis, by up to this share of the image's side."""
    import cv2

    height, width = images.shape[1:3]
    corners = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], dtype=np.float32)
    inwards = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * share * (width, height)
    warped = []
    for image, draw in zip(images, draws, strict=True):
        moved = (corners + inwards * draw.random((4, 2))).astype(np.float32)
        warped.append(cv2.warpPerspective(image, cv2.getPerspectiveTransform(corners, moved), (width, height)))
    return np.stack(warped).reshape(images.shape)


def square(images: np.ndarray, share: float, draws: Sequence[np.random.Generator]) -> np.ndarray:
    """Hide each image behind a gray square at a random position; its side is this share of the shorter image side."""
    height, width = images.shape[1:3]
    side = round(share * min(height, width))
    hidden = images.copy()
    for image, draw in zip(hidden, draws, strict=True):
        top, left = (draw.random(2) * (height - side, width - side)).round().astype(int)
        image[top : top + side, left : left + side] = _GREY
    return hidden


def stripes(images: np.ndarray, count: float, draws: Sequence[np.random.Generator]) -> np.ndarray:
    """Hide each image behind this many gray stripes, which are parallel and do not overlap."""
    width = round(_STRIPE * pixels_at_28(images))
    hidden = images.copy()
    for image, draw in zip(hidden, draws, strict=True):
        lying = image if draw.random() < 1 / 2 else image.swapaxes(0, 1)
        places = draw.permutation(len(lying) // width)
        for place in places[: int(count)]:
            lying[place * width : (place + 1) * width] = _GREY
    return hidden


def dead_pixels(images: np.ndarray, share: float, draws: Sequence[np.random.Generator]) -> np.ndarray:
    """Set this share of the pixels to black, in all channels."""
    return images * (uniform((*images.shape[1:3], 1), draws) >= share)


def missing_rows(images: np.ndarray, share: float, draws: Sequence[np.random.Generator]) -> np.ndarray:
    """Set this share of the rows to black, rounded to whole rows."""
    height = images.shape[1]
    ranks = np.stack([draw.permutation(height) for draw in draws])[:, :, None, None]
    return np.asarray(images * (ranks >= round(share * height)))


KINDS: Mapping[str, Kind] = {
    # Root mean square displacement in pixels (Simard et al. 2003); H&D's are about as large.
    "elastic": Kind(elastic, (0.5, 0.75, 1.0, 1.5, 2.0)),
    # Size relative to the original; MNIST-C shrinks in the same way.
    "scale": Kind(scale, (0.9, 0.8, 0.7, 0.6, 0.5)),
    # Pixels sideways for each pixel down, to either side; half of MNIST-C's, as digits are slanted anyway.
    "shear": Kind(shear, (0.1, 0.2, 0.3, 0.4, 0.5)),
    # Largest move of a corner inwards, as a share of the image; RandomPerspective's default is 0.25.
    "perspective": Kind(perspective, (0.05, 0.1, 0.15, 0.2, 0.25)),
    # Side of a gray square as a share of the image's; DeVries & Taylor (2017), "Cutout", use half.
    "occlusion-square": Kind(square, (0.2, 0.3, 0.4, 0.5, 0.6)),
    # Number of gray stripes, each two pixels wide; after MNIST-C's stripe.
    "occlusion-stripes": Kind(stripes, (1, 2, 3, 4, 5)),
    # Share of black pixels; our own.
    "dead-pixels": Kind(dead_pixels, (0.05, 0.1, 0.2, 0.3, 0.4)),
    # Share of black rows; our own.
    "missing-rows": Kind(missing_rows, (0.1, 0.2, 0.3, 0.4, 0.5)),
}
