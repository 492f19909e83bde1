"""Corruptions that ship: noise, blur, light, storage, warps, and hidden or missing parts.

Warps have zeros outside the image. Lengths are in pixels at 28 x 28, and grow with the shorter side
of larger images. The source of the levels stands with each corruption:

- H&D is Hendrycks & Dietterich (2019), "Benchmarking Neural Network Robustness to Common
  Corruptions and Perturbations", section 3. Its published code has parameters for 32 x 32 pixels
  (CIFAR-10-C) and 224 x 224 (ImageNet-C).
- MNIST-C is Mu & Gilmer (2019).
- Fashion-MNIST-C is Weiss & Tonella (2022), "Simple Techniques Work Surprisingly Well for Neural
  Network Test Prioritization", which uses both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

Generators = Sequence[np.random.Generator]
"""A generator for each image; empty for a corruption that does not draw."""
Change = Callable[..., np.ndarray]
"""The function of a corruption.

It takes images, (N, H, W, C) float32 in [0, 1], a level, and the generators of the images. With
`one_by_one`, it takes a single image, (H, W, C), and its own generator. A function that does not
draw takes no generator.
"""


class Shipped(NamedTuple):
    """A corruption that ships, with its level at severities 1 to 5."""

    change: Change
    levels: tuple[float, ...]
    draws: bool
    one_by_one: bool


CHANGES: dict[str, Shipped] = {}
"""The corruptions that ship, by name."""
_RGB = 3
_GLASS_BLUR = 0.4
"""Standard deviation, in pixels at 28 x 28, of the blur before and after glass.

It is the largest of CIFAR-10-C.
"""
_SUBPIXELS = 16
"""Subpixel steps of OpenCV's lines."""
_ELASTIC_BLUR = 3.0
"""Standard deviation, in pixels at 28 x 28, of the blur that smooths an elastic displacement."""
_GRAY = 0.5
"""Gray level of a hidden part, unlike a dark or light background."""
_STRIPE_WIDTH = 2
"""Width of a stripe in pixels at 28 x 28."""
_LARGEST_EXACT_SUM = 1 << 21
"""Number of 8-bit values, as float32 in [0, 1], whose sum is exact in float64.

The smallest above zero, 1 / 255, is a multiple of 2 ** -31, and so are all others. A sum of 2 ** 21
of them has at most 52 bits.
"""
_LEAST_DIVISOR = 1e-6
"""Replaces a divisor of zero, for images of one level."""


def ships(
    name: str, *levels: float, draws: bool = False, one_by_one: bool = False
) -> Callable[[Change], Change]:
    """Add a corruption, as a decorator of its function; see `Change` for its arguments.

    Args:
        name: The name in the checks file.
        levels: The levels of severities 1 to 5.
        draws: The function takes random generators.
        one_by_one: The function takes a single image. Functions of many images save time on small
            images, unless OpenCV changes an image at a time.
    """

    def declared(change: Change) -> Change:
        CHANGES[name] = Shipped(change, levels, draws, one_by_one)
        return change

    return declared


def pixels_at_28(image: np.ndarray) -> float:
    """Return the number of pixels of this image for one pixel at 28 x 28, by the shorter side."""
    return float(min(image.shape[:2])) / 28


def _uniform(shape: Sequence[int], generators: Generators) -> np.ndarray:
    """Return float32 numbers from 0 to 1, those of each image from its own generator.

    Args:
        shape: The shape of an image's numbers.
        generators: The generators of N images.

    Returns:
        The numbers, (N, *shape).
    """
    numbers = np.empty((len(generators), *shape), dtype=np.float32)
    for of_image, generator in zip(numbers, generators, strict=True):
        generator.random(out=of_image, dtype=np.float32)
    return numbers


# Standard deviation of a pixel; CIFAR-10-C.
@ships("gaussian-noise", 0.04, 0.06, 0.08, 0.09, 0.10, draws=True)
def gaussian(images: np.ndarray, deviation: float, generators: Generators) -> np.ndarray:
    """Add normal noise of this standard deviation to each pixel and channel."""
    noise = np.empty_like(images)
    for of_image, generator in zip(noise, generators, strict=True):
        generator.standard_normal(out=of_image, dtype=np.float32)
    noise *= np.float32(deviation)
    noise += images
    return noise


# Photons at full brightness; CIFAR-10-C.
@ships("shot-noise", 500, 250, 100, 75, 50, draws=True, one_by_one=True)
def shot(image: np.ndarray, photons: float, generator: np.random.Generator) -> np.ndarray:
    """Replace each value by a count of photons; a white pixel has `photons` on average."""
    counts = generator.poisson(image * photons)
    return counts.astype(np.float32) / photons


# Share of values that are black or white; CIFAR-10-C.
@ships("impulse-noise", 0.01, 0.02, 0.03, 0.05, 0.07, draws=True)
def impulse(images: np.ndarray, share: float, generators: Generators) -> np.ndarray:
    """Set this share of the values to black or white, half to each."""
    lots = _uniform(images.shape[1:], generators)
    changed = images.copy()
    np.copyto(changed, 1, where=lots > 1 - share / 2)
    np.copyto(changed, 0, where=lots < share / 2)
    return changed


# Standard deviation in pixels: the second, fourth and last of CIFAR-10-C, then 1.5 and 2 times the
# last.
@ships("gaussian-blur", 0.6, 0.8, 1.0, 1.5, 2.0, one_by_one=True)
def gaussian_blur(image: np.ndarray, deviation: float) -> np.ndarray:
    """Blur by a normal distribution of this standard deviation."""
    import cv2

    return cv2.GaussianBlur(image, (0, 0), deviation * pixels_at_28(image))


# Length of the line in pixels, within 45° of the horizontal as in H&D; the lengths are our own.
@ships("motion-blur", 2, 4, 6, 8, 10, draws=True, one_by_one=True)
def motion_blur(image: np.ndarray, length: float, generator: np.random.Generator) -> np.ndarray:
    """Blur the image along a line of this length, within 45° of the horizontal."""
    import cv2

    angle = generator.uniform(-math.pi / 4, math.pi / 4)
    kernel = stroke(length * pixels_at_28(image), angle)
    return cv2.filter2D(image, -1, kernel)


def stroke(length: float, angle: float) -> np.ndarray:
    """Return an antialiased line through the center of a square, with a sum of 1.

    Args:
        length: Length of the line in pixels.
        angle: Angle to the horizontal in radians.

    Returns:
        The square, float32, with an odd side that leaves a margin around the line.
    """
    import cv2

    reach = math.ceil(length / 2) + 1
    middle = reach * _SUBPIXELS
    right = length / 2 * math.cos(angle) * _SUBPIXELS
    down = length / 2 * math.sin(angle) * _SUBPIXELS
    start = (round(middle - right), round(middle - down))
    end = (round(middle + right), round(middle + down))

    side = 2 * reach + 1
    canvas = np.zeros((side, side), dtype=np.uint8)
    cv2.line(canvas, start, end, (255,), 1, cv2.LINE_AA, int(math.log2(_SUBPIXELS)))
    total = np.float32(canvas.sum(dtype=np.int64))
    return np.asarray(canvas / total, dtype=np.float32)


# Largest distance of a pixel's source along each axis, in pixels; CIFAR-10-C moves by 1, once or
# twice.
@ships("glass-blur", 0.5, 1.0, 1.5, 2.0, 2.5, draws=True, one_by_one=True)
def glass_blur(image: np.ndarray, reach: float, generator: np.random.Generator) -> np.ndarray:
    """Take each pixel from a random position up to `reach` pixels away, between two slight blurs.

    H&D swap neighbors one after the other instead.
    """
    directions = 2 * generator.random((2, *image.shape[:2]), dtype=np.float32) - 1
    x, y = directions * np.float32(reach * pixels_at_28(image))
    blurred = gaussian_blur(image, _GLASS_BLUR)
    behind_glass = _taken_from(blurred, x, y, reflect=True)
    return gaussian_blur(behind_glass, _GLASS_BLUR)


def _taken_from(image: np.ndarray, x: np.ndarray, y: np.ndarray, *, reflect: bool) -> np.ndarray:
    """Return the image with each pixel taken from (x, y) pixels away.

    Outside of the image is its reflection, or else zero.
    """
    import cv2

    rows, columns = _places(*image.shape[:2])
    outside = cv2.BORDER_REFLECT if reflect else cv2.BORDER_CONSTANT
    return cv2.remap(image, columns + x, rows + y, cv2.INTER_LINEAR, borderMode=outside)


@lru_cache(maxsize=4)
def _places(height: int, width: int) -> np.ndarray:
    """Return the row and the column of each pixel, (2, height, width) float32, read-only."""
    places = np.mgrid[:height, :width].astype(np.float32)
    places.flags.writeable = False
    return places


# Share of the contrast that remains; CIFAR-10-C.
@ships("contrast", 0.75, 0.5, 0.4, 0.3, 0.15)
def contrast(images: np.ndarray, share: float) -> np.ndarray:
    """Reduce the deviations of each channel from its mean to this share (H&D)."""
    channel_means = _channel_means(images)[:, None, None].astype(np.float32)
    changed = images - channel_means
    changed *= np.float32(share)
    changed += channel_means
    return changed


def _channel_means(images: np.ndarray) -> np.ndarray:
    """Return the mean of each channel of 8-bit images, (N, channels) float64."""
    count, height, width, channels = images.shape
    if height * width > _LARGEST_EXACT_SUM:
        return np.stack([image.mean(axis=(0, 1), dtype=np.float64) for image in images])
    # Such sums are exact in any order, and this order is many times as fast as that of `mean`.
    column_sums = images.reshape(count, height, width * channels).sum(axis=1, dtype=np.float64)
    sums = column_sums.reshape(count, width, channels).sum(axis=1)
    return np.asarray(sums / (height * width))


# Amount added to the brightness; CIFAR-10-C.
@ships("brightness", 0.05, 0.1, 0.15, 0.2, 0.3)
def brightness(images: np.ndarray, added: float) -> np.ndarray:
    """Add to the value in hue, saturation and value (H&D); without three channels, add to each."""
    import cv2

    count, height, width, channels = images.shape
    if channels != _RGB:
        return images + added
    # One image below the other, since OpenCV takes a single one.
    column = images.reshape(count * height, width, channels)
    hsv = cv2.cvtColor(column, cv2.COLOR_RGB2HSV)
    hsv[..., 2] = np.minimum(hsv[..., 2] + added, 1)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).reshape(images.shape)


# Exponent of each pixel; above 1 it darkens. Our own, as H&D have none.
@ships("gamma", 1.4, 1.8, 2.2, 3.0, 4.0)
def gamma(images: np.ndarray, exponent: float) -> np.ndarray:
    """Raise each value to this power."""
    import cv2

    # 8-bit images have 256 values, and a table gives the same bits on any processor.
    table = ((np.arange(256) / 255) ** exponent).astype(np.float32)
    pixels = np.rint(images * 255).astype(np.uint8)
    return cv2.LUT(pixels.ravel(), table).reshape(images.shape)


# Amount of fog for one part of image; CIFAR-10-C.
@ships("fog", 0.2, 0.5, 0.75, 1.0, 1.5, draws=True, one_by_one=True)
def fog(image: np.ndarray, amount: float, generator: np.random.Generator) -> np.ndarray:
    """Mix this much fog into the image, and keep its largest value (H&D).

    The fog is a sum of random grids; each is twice as fine and half as strong as the one before.
    H&D use the diamond-square algorithm.
    """
    height, width = image.shape[:2]
    mist = _mist(height, width, generator)[..., None]
    foggy = image + amount * mist
    largest = image.max(keepdims=True)
    return np.asarray(foggy * largest / np.maximum(largest + amount, _LEAST_DIVISOR))


def _mist(height: int, width: int, generator: np.random.Generator) -> np.ndarray:
    """Return fog from 0 to 1, (height, width) float32."""
    import cv2

    cloud = np.zeros((height, width), dtype=np.float32)
    cells = 2
    strength = 1.0
    while cells <= min(height, width):
        grid = generator.random((cells, cells), dtype=np.float32)
        cloud += strength * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        cells *= 2
        strength /= 2
    return np.asarray((cloud - cloud.min()) / max(float(np.ptp(cloud)), _LEAST_DIVISOR))


# JPEG's quality of 100; ImageNet-C.
@ships("jpeg", 25, 18, 15, 10, 7, one_by_one=True)
def jpeg(image: np.ndarray, quality: float) -> np.ndarray:
    """Compress the image by JPEG at this quality.

    An image with other numbers of channels than 1 and 3 is compressed channel by channel.
    """
    pixels = np.rint(image * 255).astype(np.uint8)
    if pixels.shape[2] == _RGB:
        # OpenCV's order is blue, green, red.
        read = _through_jpeg(pixels[..., ::-1], int(quality))[..., ::-1]
    else:
        channels = np.moveaxis(pixels, 2, 0)
        read = np.dstack([_through_jpeg(channel, int(quality)) for channel in channels])
    return read.astype(np.float32) / 255


def _through_jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    """Return pixels, (H, W) or (H, W, 3) uint8, after encoding and decoding."""
    import cv2

    settings = [cv2.IMWRITE_JPEG_QUALITY, quality]
    _, encoded = cv2.imencode(".jpg", np.ascontiguousarray(pixels), settings)
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED))


# Pixels merged along each axis; our own, since H&D's share of the size is no whole pixel in small
# images.
@ships("pixelate", 2.0, 2.5, 3.0, 3.5, 4.0, one_by_one=True)
def pixelate(image: np.ndarray, factor: float) -> np.ndarray:
    """Merge `factor` pixels along each axis into their mean, at the original image size."""
    import cv2

    height, width = image.shape[:2]
    block_side = factor * pixels_at_28(image)
    columns = max(round(width / block_side), 1)
    rows = max(round(height / block_side), 1)
    coarse = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)


# Root mean square displacement in pixels (Simard et al. 2003); H&D's are about as large.
@ships("elastic", 0.5, 0.75, 1.0, 1.5, 2.0, draws=True, one_by_one=True)
def elastic(image: np.ndarray, displacement: float, generator: np.random.Generator) -> np.ndarray:
    """Move each pixel by a smooth random field with this root mean square length.

    Simard et al. (2003), section 2.
    """
    import cv2

    unit = pixels_at_28(image)
    rough = 2 * generator.random((*image.shape[:2], 2), dtype=np.float32) - 1
    field = cv2.GaussianBlur(rough, (0, 0), _ELASTIC_BLUR * unit)
    squares = np.square(field)
    length = float(np.sqrt((squares[..., 0] + squares[..., 1]).mean()))
    scaled = field * np.float32(displacement * unit / max(length, _LEAST_DIVISOR))
    x, y = np.moveaxis(scaled, 2, 0)
    return _taken_from(image, x, y, reflect=False)


# Size relative to the original; MNIST-C shrinks in the same way.
@ships("scale", 0.9, 0.8, 0.7, 0.6, 0.5, one_by_one=True)
def scale(image: np.ndarray, size: float) -> np.ndarray:
    """Shrink the image about its center to this share of its size."""
    return _about_the_center(image, np.diag([size, size]))


# Pixels sideways for each pixel down, to either side; half of MNIST-C's, as digits are slanted
# anyway.
@ships("shear", 0.1, 0.2, 0.3, 0.4, 0.5, draws=True, one_by_one=True)
def shear(image: np.ndarray, slope: float, generator: np.random.Generator) -> np.ndarray:
    """Move each row sideways by `slope` times its height above or below the center."""
    signed_slope = generator.choice((-1, 1)) * slope
    return _about_the_center(image, np.array([[1, signed_slope], [0, 1]]))


def _about_the_center(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Map the image by a 2 x 2 matrix about ((W - 1) / 2, (H - 1) / 2)."""
    import cv2

    height, width = image.shape[:2]
    center = np.array([(width - 1) / 2, (height - 1) / 2])
    offset = center - matrix @ center
    return cv2.warpAffine(image, np.column_stack([matrix, offset]), (width, height))


# Largest move of a corner inwards, as a share of the image; RandomPerspective's default is 0.25.
@ships("perspective", 0.05, 0.1, 0.15, 0.2, 0.25, draws=True, one_by_one=True)
def perspective(image: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    """Move each corner inwards along each axis, by up to this share of the image's side."""
    import cv2

    height, width = image.shape[:2]
    corners = np.array(
        [[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], dtype=np.float32
    )
    inwards = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * share * (width, height)
    moved = (corners + inwards * generator.random((4, 2))).astype(np.float32)
    transform = cv2.getPerspectiveTransform(corners, moved)
    return cv2.warpPerspective(image, transform, (width, height))


# Side of a gray square as a share of the image's; DeVries & Taylor (2017), "Cutout", use half.
@ships("occlusion-square", 0.2, 0.3, 0.4, 0.5, 0.6, draws=True)
def square(images: np.ndarray, share: float, generators: Generators) -> np.ndarray:
    """Hide a random place behind a gray square; its side is this share of the shorter side."""
    height, width = images.shape[1:3]
    side = round(share * min(height, width))
    hidden = images.copy()
    for image, generator in zip(hidden, generators, strict=True):
        top, left = (generator.random(2) * (height - side, width - side)).round().astype(int)
        image[top : top + side, left : left + side] = _GRAY
    return hidden


# Number of gray stripes, each two pixels wide; after MNIST-C's stripe.
@ships("occlusion-stripes", 1, 2, 3, 4, 5, draws=True)
def stripes(images: np.ndarray, count: float, generators: Generators) -> np.ndarray:
    """Hide the image behind this many gray stripes, which are parallel and do not overlap."""
    hidden = images.copy()
    for image, generator in zip(hidden, generators, strict=True):
        _draw_stripes(image, int(count), generator)
    return hidden


def _draw_stripes(image: np.ndarray, count: int, generator: np.random.Generator) -> None:
    stripe_width = round(_STRIPE_WIDTH * pixels_at_28(image))
    lines = image  # Rows or columns; a view either way.
    if generator.random() >= 1 / 2:
        lines = image.swapaxes(0, 1)

    places = generator.permutation(len(lines) // stripe_width)
    for place in places[:count]:
        start = place * stripe_width
        lines[start : start + stripe_width] = _GRAY


# Share of black pixels; our own.
@ships("dead-pixels", 0.05, 0.1, 0.2, 0.3, 0.4, draws=True)
def dead_pixels(images: np.ndarray, share: float, generators: Generators) -> np.ndarray:
    """Set this share of the pixels to black, in all channels."""
    lots = _uniform((*images.shape[1:3], 1), generators)
    return np.asarray(images * (lots >= share))


# Share of black rows; our own.
@ships("missing-rows", 0.1, 0.2, 0.3, 0.4, 0.5, draws=True)
def missing_rows(images: np.ndarray, share: float, generators: Generators) -> np.ndarray:
    """Set this share of the rows to black, rounded to whole rows."""
    height = images.shape[1]
    ranks = np.stack([generator.permutation(height) for generator in generators])
    remain = ranks >= round(share * height)
    return np.asarray(images * remain[..., None, None])
