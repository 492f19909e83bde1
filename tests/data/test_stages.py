"""Stages of decoded pictures: recorded pixels, and torchvision's pixels for any picture."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from harness.data.image_files import as_picture, levels_of
from harness.data.stages import FILTERS, Crop, Normalise, Resize

SMALL = (np.arange(35).reshape(5, 7) ** 2 * 37 % 256).astype(np.uint8)
"""A gray picture whose neighboring levels differ."""

RESIZED_BY_TORCH = {
    ("nearest", True): [[0, 37, 77, 157], [21, 64, 116, 208], [189, 244, 64, 180]],
    ("nearest", False): [[0, 37, 77, 157], [21, 64, 116, 208], [189, 244, 64, 180]],
    ("bilinear", True): [[33, 120, 114, 121], [113, 105, 150, 140], [149, 113, 90, 86]],
    ("bilinear", False): [[22, 150, 94, 110], [102, 25, 210, 147], [138, 68, 47, 75]],
    ("bicubic", True): [[22, 124, 116, 123], [117, 105, 155, 143], [154, 113, 89, 83]],
    ("bicubic", False): [[9, 169, 81, 113], [110, 11, 224, 138], [150, 62, 28, 79]],
    ("area", True): [[30, 104, 127, 132], [122, 124, 137, 140], [164, 136, 110, 98]],
    ("area", False): [[30, 104, 127, 132], [122, 124, 137, 140], [164, 136, 110, 98]],
}
"""`SMALL` resized to (3, 4) by each filter, antialiased or not."""


@st.composite
def pictures(draw):
    """Return pixels (H, W, C) uint8: noise, or only black and white, where filters overshoot."""
    height, width = draw(st.integers(1, 70)), draw(st.integers(1, 70))
    channels = draw(st.sampled_from([1, 3]))
    noise = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = noise.integers(0, 256, (height, width, channels), dtype=np.uint8)
    if draw(st.booleans()):
        levels = levels // 128 * np.uint8(255)
    return levels


SIZES = st.tuples(st.integers(1, 80), st.integers(1, 80))
examples = settings(max_examples=150, derandomize=True, deadline=None)


def as_tensor(pixels):
    return torch.tensor(pixels.transpose(2, 0, 1).copy())


def as_pixels(tensor):
    return tensor.permute(1, 2, 0).numpy()


@pytest.mark.parametrize(("filtered", "antialias"), RESIZED_BY_TORCH)
def test_torch_resizes_to_the_recorded_pixels(filtered, antialias):
    resize = Resize((3, 4), "torch", filtered, antialias=antialias)
    resized = levels_of(resize.apply(as_picture(SMALL)))
    assert resized[..., 0].tolist() == RESIZED_BY_TORCH[filtered, antialias]


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("filtered", ["nearest", "bilinear", "bicubic"])
@examples
@given(pixels=pictures(), size=SIZES)
def test_torch_resizes_as_torchvision_resizes_floats(filtered, antialias, pixels, size):
    """Torchvision resizes uint8 by another algorithm, which depends on the processor."""
    resized = levels_of(
        Resize(size, "torch", filtered, antialias=antialias).apply(as_picture(pixels))
    )
    expected = functional.resize(
        as_tensor(pixels).float(), list(size), InterpolationMode(filtered), antialias=antialias
    )
    assert np.array_equal(resized, as_pixels(expected.round().clamp(0, 255).to(torch.uint8)))


@pytest.mark.parametrize("filtered", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("antialias", [True, False])
@examples
@given(pixels=pictures(), size=SIZES)
def test_torch_resizes_as_its_own_interpolation(filtered, antialias, pixels, size):
    """The definition of these pixels without torchvision."""
    smooth = filtered != "nearest"
    floats = torch.nn.functional.interpolate(
        torch.tensor(pixels).permute(2, 0, 1)[None].float(),
        size,
        mode=filtered,
        align_corners=False if smooth else None,
        antialias=antialias and smooth,
    )
    expected = as_pixels(floats[0].round().clamp(0, 255).to(torch.uint8))
    if size == pixels.shape[:2]:
        expected = pixels
    resized = Resize(size, "torch", filtered, antialias=antialias).apply(as_picture(pixels))
    assert np.array_equal(levels_of(resized), expected)


@pytest.mark.parametrize("filtered", FILTERS["pillow"])
@examples
@given(pixels=pictures(), size=SIZES)
def test_pillow_resizes_as_torchvision_resizes_its_pictures(filtered, pixels, size):
    resized = Resize(size, "pillow", filtered).apply(as_picture(pixels))
    name = "box" if filtered == "area" else filtered
    expected = functional.resize(as_picture(pixels), list(size), InterpolationMode(name))
    assert np.array_equal(levels_of(resized), levels_of(expected))


@examples
@given(shape=st.tuples(st.integers(1, 400), st.integers(1, 400)), side=st.integers(1, 300))
def test_the_size_by_the_shorter_side_is_torchvisions(shape, side):
    resized = functional.resize(torch.zeros(1, *shape), [side], InterpolationMode.NEAREST)
    assert Resize(side).of(*shape) == tuple(resized.shape[1:])


@examples
@given(pixels=pictures(), size=SIZES)
def test_the_middle_is_torchvisions_center_crop(pixels, size):
    expected = functional.center_crop(as_picture(pixels), list(size))
    assert np.array_equal(levels_of(Crop(size).apply(as_picture(pixels))), levels_of(expected))


@pytest.mark.parametrize("precision", ["float32", "float16"])
@examples
@given(pixels=pictures(), each=st.booleans(), data=st.data())
def test_normalizing_is_torchvisions(precision, pixels, each, data):
    channels = pixels.shape[2] if each else 1
    mean = data.draw(st.lists(st.integers(0, 100), min_size=channels, max_size=channels))
    std = data.draw(st.lists(st.integers(5, 100), min_size=channels, max_size=channels))
    normalise = Normalise(tuple(value / 100 for value in mean), tuple(value / 100 for value in std))
    numbers = pixels.astype(precision) / np.dtype(precision).type(255)
    expected = functional.normalize(
        torch.from_numpy(numbers).permute(2, 0, 1), list(normalise.mean), list(normalise.std)
    )
    assert np.array_equal(normalise.apply(numbers), as_pixels(expected))
