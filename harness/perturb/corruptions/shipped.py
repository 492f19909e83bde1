"""Corruptions that ship: noise, blur, light, storage, warps with zeros outside, and hidden or missing parts.

H&D is Hendrycks & Dietterich (2019), "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations",
section 3. Its published code has parameters for 32 x 32 pixels (CIFAR-10-C) and 224 x 224 (ImageNet-C). MNIST-C is
Mu & Gilmer (2019). Fashion-MNIST-C is Weiss & Tonella (2022), "Simple Techniques Work Surprisingly Well for Neural
Network Test Prioritization", which uses both. Lengths are in pixels at 28 x 28, and grow with the shorter side of
larger images. The source of the levels stands with each.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

Change = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
"""The function of a corruption: of an image, (H, W, C) float32 in [0, 1], a level and its own generator."""
CHANGES: dict[str, tuple[Change, tuple[float, ...]]] = {}
"""The functions by the name of their corruption, each with its level at severities 1 to 5."""
_RGB = 3
_SOFT = 0.4
"""Standard deviation, in pixels at 28 x 28, of the blur before and after glass; the largest of CIFAR-10-C."""
_STEPS = 16
"""Subpixel steps of OpenCV's lines."""
_SMOOTH = 3.0
"""Standard deviation, in pixels at 28 x 28, of the blur that smooths an elastic displacement."""
_GREY = 0.5
"""Gray level of a hidden part, unlike a dark or light background."""
_STRIPE = 2
"""Width of a stripe in pixels at 28 x 28."""


def ships(name: str, *levels: float) -> Callable[[Change], Change]:
    """Add a corruption with its levels at severities 1 to 5, as a decorator of its function."""

    def declared(change: Change) -> Change:
        CHANGES[name] = change, levels
        return change

    return declared


def pixels_at_28(image: np.ndarray) -> float:
    """Return the number of pixels of this image for one pixel at 28 x 28, by the shorter side."""
    return float(min(image.shape[:2])) / 28


@ships("gaussian-noise", 0.04, 0.06, 0.08, 0.09, 0.10)  # Standard deviation of a pixel; CIFAR-10-C.
def gaussian(image: np.ndarray, deviation: float, draw: np.random.Generator) -> np.ndarray:
    """Add normal noise of this standard deviation to each pixel and channel."""
    return np.asarray(
        image + np.float32(deviation) * draw.standard_normal(image.shape, dtype=np.float32)
    )


@ships("shot-noise", 500, 250, 100, 75, 50)  # Photons at full brightness; CIFAR-10-C.
def shot(image: np.ndarray, photons: float, draw: np.random.Generator) -> np.ndarray:
    """Replace each value by a count of photons; a white pixel has `photons` on average."""
    return draw.poisson(image * photons).astype(np.float32) / photons


@ships(
    "impulse-noise", 0.01, 0.02, 0.03, 0.05, 0.07
)  # Share of values that are black or white; CIFAR-10-C.
def impulse(image: np.ndarray, share: float, draw: np.random.Generator) -> np.ndarray:
    """Set this share of the values to black or white, half to each."""
    lots = draw.random(image.shape, dtype=np.float32)
    return np.where(lots < share / 2, 0, np.where(lots > 1 - share / 2, 1, image)).astype(
        np.float32
    )


# Standard deviation in pixels: the second, fourth and last of CIFAR-10-C, then 1.5 and 2 times the last.
@ships("gaussian-blur", 0.6, 0.8, 1.0, 1.5, 2.0)
def gaussian_blur(image: np.ndarray, deviation: float, _: object) -> np.ndarray:
    """Blur by a normal distribution of this standard deviation."""
    import cv2

    return cv2.GaussianBlur(image, (0, 0), deviation * pixels_at_28(image))


# Length of the line in pixels, within 45° of the horizontal as in H&D; the lengths are our own.
@ships("motion-blur", 2, 4, 6, 8, 10)
def motion_blur(image: np.ndarray, length: float, draw: np.random.Generator) -> np.ndarray:
    """Blur the image along a line of this length, within 45° of the horizontal."""
    import cv2

    return cv2.filter2D(
        image, -1, stroke(length * pixels_at_28(image), draw.uniform(-math.pi / 4, math.pi / 4))
    )


def stroke(length: float, angle: float) -> np.ndarray:
    """Return an antialiased line through the center of a square, with a sum of 1."""
    import cv2

    reach = math.ceil(length / 2) + 1
    middle, x, y = (
        reach * _STEPS,
        length / 2 * math.cos(angle) * _STEPS,
        length / 2 * math.sin(angle) * _STEPS,
    )
    start, end = ((round(middle + side * x), round(middle + side * y)) for side in (-1, 1))
    canvas = np.zeros((2 * reach + 1, 2 * reach + 1), dtype=np.uint8)
    cv2.line(canvas, start, end, (255,), 1, cv2.LINE_AA, int(math.log2(_STEPS)))
    return np.asarray(canvas / np.float32(canvas.sum(dtype=np.int64)), dtype=np.float32)


# Largest distance of a pixel's source along each axis, in pixels; CIFAR-10-C moves by 1, once or twice.
@ships("glass-blur", 0.5, 1.0, 1.5, 2.0, 2.5)
def glass_blur(image: np.ndarray, reach: float, draw: np.random.Generator) -> np.ndarray:
    """Take each pixel from a random position up to `reach` pixels away, between two slight blurs.

    H&D swap neighbors one after the other instead.
    """
    moved = (2 * draw.random((2, *image.shape[:2]), dtype=np.float32) - 1) * np.float32(
        reach * pixels_at_28(image)
    )
    soft = gaussian_blur(image, _SOFT, draw)
    return gaussian_blur(_taken_from(soft, *moved, reflect=True), _SOFT, draw)


def _taken_from(image: np.ndarray, x: np.ndarray, y: np.ndarray, *, reflect: bool) -> np.ndarray:
    """Return the image with each pixel taken from (x, y) pixels away; outside is its reflection, or else zero."""
    import cv2

    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
    outside = cv2.BORDER_REFLECT if reflect else cv2.BORDER_CONSTANT
    return cv2.remap(image, columns + x, rows + y, cv2.INTER_LINEAR, borderMode=outside)


@ships("contrast", 0.75, 0.5, 0.4, 0.3, 0.15)  # Share of the contrast that remains; CIFAR-10-C.
def contrast(image: np.ndarray, share: float, _: object) -> np.ndarray:
    """Reduce the deviations of each channel from its mean to this share (H&D)."""
    means = image.mean(axis=(0, 1), keepdims=True, dtype=np.float64).astype(np.float32)
    return np.asarray((image - means) * np.float32(share) + means)


@ships("brightness", 0.05, 0.1, 0.15, 0.2, 0.3)  # Amount added to the brightness; CIFAR-10-C.
def brightness(image: np.ndarray, added: float, _: object) -> np.ndarray:
    """Add to the value in hue, saturation and value (H&D); without three channels, add to each."""
    import cv2

    if image.shape[2] != _RGB:
        return image + added
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    hsv[..., 2] = np.minimum(hsv[..., 2] + added, 1)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


@ships(
    "gamma", 1.4, 1.8, 2.2, 3.0, 4.0
)  # Exponent of each pixel; above 1 it darkens. Our own, as H&D have none.
def gamma(image: np.ndarray, exponent: float, _: object) -> np.ndarray:
    """Raise each value to this power."""
    # 8-bit images have 256 values, and a table gives the same bits on any processor.
    table = ((np.arange(256) / 255) ** exponent).astype(np.float32)
    return np.asarray(table[np.rint(image * 255).astype(np.uint8)])


@ships("fog", 0.2, 0.5, 0.75, 1.0, 1.5)  # Amount of fog for one part of image; CIFAR-10-C.
def fog(image: np.ndarray, amount: float, draw: np.random.Generator) -> np.ndarray:
    """Mix this much fog into the image, and keep its largest value (H&D).

    The fog is a sum of random grids; each is twice as fine and half as strong as the one before. H&D use the
    diamond-square algorithm.
    """
    import cv2

    height, width = image.shape[:2]
    cloud, cells, strength = np.zeros((height, width), dtype=np.float32), 2, 1.0
    while cells <= min(height, width):
        grid = draw.random((cells, cells), dtype=np.float32)
        cloud += strength * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        cells, strength = 2 * cells, strength / 2
    mist = np.asarray((cloud - cloud.min()) / max(float(np.ptp(cloud)), 1e-6))[..., None]
    largest = image.max(keepdims=True)
    return np.asarray((image + amount * mist) * largest / np.maximum(largest + amount, 1e-6))


@ships("jpeg", 25, 18, 15, 10, 7)  # JPEG's quality of 100; ImageNet-C.
def jpeg(image: np.ndarray, quality: float, _: object) -> np.ndarray:
    """Compress the image by JPEG at this quality; other numbers of channels than 1 and 3 one by one."""
    import cv2

    pixels, settings = (
        np.rint(image * 255).astype(np.uint8),
        [cv2.IMWRITE_JPEG_QUALITY, int(quality)],
    )
    # OpenCV's order is blue, green, red.
    parts = [pixels[..., ::-1]] if pixels.shape[2] == _RGB else list(np.moveaxis(pixels, 2, 0))
    stored = [cv2.imencode(".jpg", np.ascontiguousarray(part), settings)[1] for part in parts]
    read = np.dstack([np.asarray(cv2.imdecode(part, cv2.IMREAD_UNCHANGED)) for part in stored])
    return (read[..., ::-1] if pixels.shape[2] == _RGB else read).astype(np.float32) / 255


# Pixels merged along each axis; our own, since H&D's share of the size is no whole pixel in small images.
@ships("pixelate", 2.0, 2.5, 3.0, 3.5, 4.0)
def pixelate(image: np.ndarray, factor: float, _: object) -> np.ndarray:
    """Merge `factor` pixels along each axis into their mean, at the original image size."""
    import cv2

    (height, width), side = image.shape[:2], factor * pixels_at_28(image)
    small = max(round(width / side), 1), max(round(height / side), 1)
    coarse = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)


# Root mean square displacement in pixels (Simard et al. 2003); H&D's are about as large.
@ships("elastic", 0.5, 0.75, 1.0, 1.5, 2.0)
def elastic(image: np.ndarray, displacement: float, draw: np.random.Generator) -> np.ndarray:
    """Move each pixel by a smooth random field with this root mean square length (Simard et al. 2003, section 2)."""
    import cv2

    unit, rough = pixels_at_28(image), 2 * draw.random((*image.shape[:2], 2), dtype=np.float32) - 1
    field = cv2.GaussianBlur(rough, (0, 0), _SMOOTH * unit)
    length = float(np.sqrt(np.square(field).sum(axis=2).mean()))
    moved = np.moveaxis(field * np.float32(displacement * unit / max(length, 1e-6)), 2, 0)
    return _taken_from(image, *moved, reflect=False)


@ships(
    "scale", 0.9, 0.8, 0.7, 0.6, 0.5
)  # Size relative to the original; MNIST-C shrinks in the same way.
def scale(image: np.ndarray, size: float, _: object) -> np.ndarray:
    """Shrink the image about its center to this share of its size."""
    return _about_the_centre(image, np.diag([size, size]))


# Pixels sideways for each pixel down, to either side; half of MNIST-C's, as digits are slanted anyway.
@ships("shear", 0.1, 0.2, 0.3, 0.4, 0.5)
def shear(image: np.ndarray, slope: float, draw: np.random.Generator) -> np.ndarray:
    """Shear the image: a row moves sideways by `slope` times its height above or below the center."""
    return _about_the_centre(image, np.array([[1, draw.choice((-1, 1)) * slope], [0, 1]]))


def _about_the_centre(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Map the image by a 2 x 2 matrix about ((W - 1) / 2, (H - 1) / 2)."""
    import cv2

    height, width = image.shape[:2]
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    return cv2.warpAffine(
        image, np.column_stack([matrix, centre - matrix @ centre]), (width, height)
    )


# Largest move of a corner inwards, as a share of the image; RandomPerspective's default is 0.25.
@ships("perspective", 0.05, 0.1, 0.15, 0.2, 0.25)
def perspective(image: np.ndarray, share: float, draw: np.random.Generator) -> np.ndarray:
    """Move each corner inwards along each axis, by up to this share of the image's side."""
    import cv2

    height, width = image.shape[:2]
    corners = np.array(
        [[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], dtype=np.float32
    )
    inwards = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * share * (width, height)
    moved = (corners + inwards * draw.random((4, 2))).astype(np.float32)
    return cv2.warpPerspective(image, cv2.getPerspectiveTransform(corners, moved), (width, height))


# Side of a gray square as a share of the image's; DeVries & Taylor (2017), "Cutout", use half.
@ships("occlusion-square", 0.2, 0.3, 0.4, 0.5, 0.6)
def square(image: np.ndarray, share: float, draw: np.random.Generator) -> np.ndarray:
    """Hide the image behind a gray square at a random position; its side is this share of the shorter image side."""
    (height, width), hidden = image.shape[:2], image.copy()
    side = round(share * min(height, width))
    top, left = (draw.random(2) * (height - side, width - side)).round().astype(int)
    hidden[top : top + side, left : left + side] = _GREY
    return hidden


@ships(
    "occlusion-stripes", 1, 2, 3, 4, 5
)  # Number of gray stripes, each two pixels wide; after MNIST-C's stripe.
def stripes(image: np.ndarray, count: float, draw: np.random.Generator) -> np.ndarray:
    """Hide the image behind this many gray stripes, which are parallel and do not overlap."""
    width, hidden = round(_STRIPE * pixels_at_28(image)), image.copy()
    lying = hidden if draw.random() < 1 / 2 else hidden.swapaxes(0, 1)
    for place in draw.permutation(len(lying) // width)[: int(count)]:
        lying[place * width : (place + 1) * width] = _GREY
    return hidden


@ships("dead-pixels", 0.05, 0.1, 0.2, 0.3, 0.4)  # Share of black pixels; our own.
def dead_pixels(image: np.ndarray, share: float, draw: np.random.Generator) -> np.ndarray:
    """Set this share of the pixels to black, in all channels."""
    return image * (draw.random((*image.shape[:2], 1), dtype=np.float32) >= share)


@ships("missing-rows", 0.1, 0.2, 0.3, 0.4, 0.5)  # Share of black rows; our own.
def missing_rows(image: np.ndarray, share: float, draw: np.random.Generator) -> np.ndarray:
    """Set this share of the rows to black, rounded to whole rows."""
    ranks = draw.permutation(len(image))[:, None, None]
    return np.asarray(image * (ranks >= round(share * len(image))))
