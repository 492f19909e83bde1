"""Images of no class.

The properties of an image that stay, at any size and in any batch.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.perturb.unfamiliar import UNFAMILIAR, Unfamiliar


def images_of(count, channels, height, width, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (count, channels, height, width))
    return torch.from_numpy(values.astype(np.float32)) / 255


@pytest.mark.parametrize("kind", UNFAMILIAR)
@settings(max_examples=12, deadline=None)
@given(st.integers(1, 4), st.sampled_from([1, 3]), st.integers(1, 30), st.integers(1, 30))
def test_images_of_any_size_stay_in_range_and_batches_do_not_matter(
    kind, count, channels, height, width
):
    images = images_of(count, channels, height, width)
    made = Unfamiliar(kind)(images)
    assert made.shape == images.shape
    assert made.dtype == torch.float32
    assert 0 <= made.min() <= made.max() <= 1
    assert torch.equal((made * 255).round() / 255, made)
    for at in range(count):
        assert torch.equal(Unfamiliar(kind)(images[at : at + 1])[0], made[at])


@pytest.mark.parametrize(("height", "width"), [(28, 28), (30, 33), (5, 4)])
def test_shuffled_patches_have_the_same_pixels_elsewhere(height, width):
    images = images_of(5, 3, height, width)
    made = Unfamiliar("patch-shuffled")(images)
    assert torch.equal(made.flatten(2).sort(-1).values, images.flatten(2).sort(-1).values)
    assert not torch.equal(made, images)


def test_scrambled_phases_keep_mean_and_spectrum():
    images = 0.4 + 0.2 * images_of(4, 3, 32, 24)  # Far from 0 and 1, where nothing is cut off.
    made = Unfamiliar("phase-scrambled")(images)
    before, after = (np.abs(np.fft.fft2(each.numpy())) for each in (images, made))
    assert np.allclose(made.mean((2, 3)), images.mean((2, 3)), atol=2e-3)
    assert np.abs(after - before).max() < 0.01 * before.max()
    assert (made - images).abs().mean() > 0.02
    grey = Unfamiliar("phase-scrambled")(images[:, :1].repeat(1, 3, 1, 1))
    assert torch.equal(grey[:, 0], grey[:, 2]), "channels keep their relation"
    images = images_of(3, 3, 9, 8)
    turned = Unfamiliar("upside-down")
    assert torch.equal(turned(turned(images)), images)
    assert len(Unfamiliar("noise")(torch.zeros(0, 1, 4, 4))) == 0
    with pytest.raises(ValueError, match="expected one of noise"):
        Unfamiliar("fog")
