"""A corruption as a perturbation, and the table of all of them: what they do, how much, and where that comes from.

Sources: H&D is Hendrycks & Dietterich (2019), "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations", section 3, with the parameters of its published code: CIFAR-10-C is for 32 x 32 pixels, ImageNet-C for
224 x 224; MNIST-C is Mu & Gilmer (2019); Fashion-MNIST-C is Weiss & Tonella (2022), "Simple Techniques Work
Surprisingly Well for Neural Network Test Prioritization", which takes over both. Lengths in pixels are those at
28 x 28, and grow with the shorter side of larger images.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from harness.perturb.corruptions import light, noise, optics, shape

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor


SEVERITIES = (1, 2, 3, 4, 5)
ALL = "all"
"""What stands for every corruption."""


class Kind(NamedTuple):
    """What a corruption does: `apply(images, level, draws)` to (N, H, W, C) float32 images in [0, 1].

    `draws` is a generator for each image, in the same state at every severity, so that a higher level means more of
    the same. The result may leave [0, 1]; it is clipped.
    """

    apply: Callable[[np.ndarray, float, Sequence[np.random.Generator]], np.ndarray]
    levels: tuple[float, float, float, float, float]


CORRUPTIONS: Mapping[str, Kind] = {
    # Standard deviation of a pixel; CIFAR-10-C.
    "gaussian-noise": Kind(noise.gaussian, (0.04, 0.06, 0.08, 0.09, 0.10)),
    # Photons at full brightness; CIFAR-10-C.
    "shot-noise": Kind(noise.shot, (500, 250, 100, 75, 50)),
    # Share of values that are black or white; CIFAR-10-C.
    "impulse-noise": Kind(noise.impulse, (0.01, 0.02, 0.03, 0.05, 0.07)),
    # Standard deviation in pixels; CIFAR-10-C's second, fourth and last, then half again and twice that.
    "gaussian-blur": Kind(optics.gaussian_blur, (0.6, 0.8, 1.0, 1.5, 2.0)),
    # Length of the stroke in pixels, within 45° of level as in H&D; the lengths are ours.
    "motion-blur": Kind(optics.motion_blur, (2, 4, 6, 8, 10)),
    # How far a pixel may come from along each axis, in pixels; CIFAR-10-C moves by 1, once or twice.
    "glass-blur": Kind(optics.glass_blur, (0.5, 1.0, 1.5, 2.0, 2.5)),
    # Share of the contrast that is left; CIFAR-10-C.
    "contrast": Kind(light.contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    # What is added to the brightness; CIFAR-10-C.
    "brightness": Kind(light.brightness, (0.05, 0.1, 0.15, 0.2, 0.3)),
    # The exponent of each pixel: above 1 it darkens. Ours; it has no place in H&D.
    "gamma": Kind(light.gamma, (1.4, 1.8, 2.2, 3.0, 4.0)),
    # How much fog to one of image; CIFAR-10-C.
    "fog": Kind(light.fog, (0.2, 0.5, 0.75, 1.0, 1.5)),
    # JPEG's quality of 100; ImageNet-C.
    "jpeg": Kind(optics.jpeg, (25, 18, 15, 10, 7)),
    # Pixels that become one, along each axis; ours, since H&D's share of the size falls between pixels of small images.
    "pixelate": Kind(optics.pixelate, (2.0, 2.5, 3.0, 3.5, 4.0)),
    # Root mean square displacement in pixels (Simard et al. 2003); H&D's are about as large.
    "elastic": Kind(shape.elastic, (0.5, 0.75, 1.0, 1.5, 2.0)),
    # Size of the object against what it was; MNIST-C shrinks likewise.
    "scale": Kind(shape.scale, (0.9, 0.8, 0.7, 0.6, 0.5)),
    # Pixels sideways for each pixel down, to either side; half of MNIST-C's, whose digits lean anyway.
    "shear": Kind(shape.shear, (0.1, 0.2, 0.3, 0.4, 0.5)),
    # How far a corner may move inwards, as a share of the image; RandomPerspective's default is 0.25.
    "perspective": Kind(shape.perspective, (0.05, 0.1, 0.15, 0.2, 0.25)),
    # Side of a grey square as a share of the image's; DeVries & Taylor (2017), "Cutout", takes half.
    "occlusion-square": Kind(shape.square, (0.2, 0.3, 0.4, 0.5, 0.6)),
    # How many grey stripes, each two pixels wide; after MNIST-C's stripe.
    "occlusion-stripes": Kind(shape.stripes, (1, 2, 3, 4, 5)),
    # Share of pixels that are black; ours.
    "dead-pixels": Kind(noise.dead_pixels, (0.05, 0.1, 0.2, 0.3, 0.4)),
    # Share of rows that are black; ours.
    "missing-rows": Kind(noise.missing_rows, (0.1, 0.2, 0.3, 0.4, 0.5)),
}
"""The corruptions by name, each with its parameter at severities 1 to 5."""


@dataclass(frozen=True)
class Corruption:
    """A corruption of `CORRUPTIONS` at a severity from 1 to 5; 0 leaves images as they are, bit for bit.

    The image is taken, and returned, as 8 bits would hold it. What is random depends on the pixels of the image alone:
    not on the batch or the process that it is in. Raises `ValueError` for a name or a severity that there is not.
    """

    name: str
    severity: int

    def __post_init__(self) -> None:
        if self.name not in CORRUPTIONS:
            raise ValueError(f"corruption {self.name!r} is unknown; expected one of {', '.join(CORRUPTIONS)}")
        if self.severity not in {0, *SEVERITIES}:
            raise ValueError(f"corruption {self.name}: severity is {self.severity!r}, expected a whole number, 0 to 5")

    def __call__(self, images: Tensor) -> Tensor:
        """Return the corrupted images, (N, C, H, W) like the input, pixels in [0, 1]."""
        import torch

        from harness.data.images import unit_range

        if not self.severity or not len(images):
            return images
        pixels = np.rint(images.permute(0, 2, 3, 1).contiguous().cpu().numpy() * 255).astype(np.uint8)
        kind = CORRUPTIONS[self.name]
        changed = kind.apply(
            pixels.astype(np.float32) / 255,
            kind.levels[self.severity - 1],
            [_generator(self.name, image) for image in pixels],
        )
        stored = np.rint(changed.clip(0, 1) * 255).astype(np.uint8).transpose(0, 3, 1, 2)
        return unit_range(torch.from_numpy(np.ascontiguousarray(stored)).to(images.device))

    def in_words(self) -> str:
        """Return what it does to an image, such as "gaussian noise, severity 3 of 5"."""
        return f"{self.name.replace('-', ' ')}, severity {self.severity} of {len(SEVERITIES)}"


def _generator(name: str, image: np.ndarray) -> np.random.Generator:
    key = blake2b(image.tobytes(), digest_size=16, key=name.encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
