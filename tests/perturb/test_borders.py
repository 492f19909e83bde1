"""Borders of rotated and shifted images.

Each agrees with an independent implementation, and changes nothing else.
"""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch.nn.functional import grid_sample

from harness.base.errors import InputError
from harness.data.domain import border_of
from harness.perturb import IDENTITY, HorizontalFlip, Pose, moved_masks, pose_each
from harness.perturb.augmentation import FlippedPose
from harness.perturb.poses import BorderedPose, with_zeros_outside, within_border

BORDERS = ("constant:0", "constant:0.25", "constant:1", "edge", "reflect", "mean")
LEVELS = torch.arange(256) / 255
SHAPES = [(5, 1, 28, 28), (3, 3, 9, 16), (2, 3, 80, 70), (1, 1, 3, 200)]
"""Small images, which are sampled together, and large ones, which are sampled alone."""
POSES = [
    Pose(7.3),
    Pose(-30, 3, -3),
    Pose(90, 0.5),
    Pose(0, 2.25, -1.5),
    Pose(163, 40, -25),
    Pose(0, 6),
]
properties = settings(deadline=None, max_examples=25)
tenths = st.tuples(st.integers(-3600, 3600), st.integers(-400, 400), st.integers(-400, 400))


def images_of(shape, *, seed=0):
    """Return images with the levels of 8 bits."""
    levels = torch.randint(256, shape, generator=torch.Generator().manual_seed(seed))
    return LEVELS[levels]


def bordered(pose, border):
    return within_border(pose, border)


def sources_of(pose, height, width):
    """Return the source of each pixel, rows and columns (H, W), as the protocol defines it."""
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    x, y = columns - (width - 1) / 2 - pose.dx, rows - (height - 1) / 2 - pose.dy
    angle = np.deg2rad(pose.degrees)
    source_x = np.cos(angle) * x - np.sin(angle) * y + (width - 1) / 2
    source_y = np.sin(angle) * x + np.cos(angle) * y + (height - 1) / 2
    return source_y, source_x


# The pixels of each border.


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("pose", POSES, ids=repr)
@pytest.mark.parametrize(
    ("border", "mode"), [("constant:0", "zeros"), ("edge", "border"), ("reflect", "reflection")]
)
def test_a_border_is_that_of_grid_sample_in_pytorch(border, mode, pose, shape):
    images, (height, width) = images_of(shape).double(), shape[2:]
    rows, columns = sources_of(pose, height, width)
    unit = torch.from_numpy(
        np.stack([2 * columns / (width - 1) - 1, 2 * rows / (height - 1) - 1], axis=-1)
    )
    grid = unit.expand(len(images), -1, -1, -1)
    expected = grid_sample(
        images, grid, mode="bilinear", padding_mode=mode, align_corners=True
    ).float()
    torch.testing.assert_close(bordered(pose, border)(images.float()), expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("shape", [(2, 1, 9, 16), (1, 2, 80, 70)], ids=str)
@pytest.mark.parametrize("pose", POSES, ids=repr)
@pytest.mark.parametrize(
    ("border", "mode", "level"),
    [
        ("constant:0.25", "constant", 0.25),
        ("edge", "nearest", 0),
        ("reflect", "mirror", 0),
        ("mean", "constant", None),
    ],
)
def test_a_border_is_that_of_an_image_that_was_padded_before(border, mode, level, pose, shape):
    """NumPy pads so far that no source lies outside, and SciPy interpolates."""
    images, far = images_of(shape).double().numpy(), 120
    rows, columns = sources_of(pose, *shape[2:])
    kinds = {"constant": "constant", "nearest": "edge", "mirror": "reflect"}
    expected = np.empty_like(images)
    for at in np.ndindex(*shape[:2]):
        value = (
            {"constant_values": images[at].mean() if level is None else level}
            if mode == "constant"
            else {}
        )
        padded = np.pad(images[at], far, mode=kinds[mode], **value)
        expected[at] = ndimage.map_coordinates(padded, [rows + far, columns + far], order=1)
    posed = bordered(pose, border)(torch.from_numpy(images).float())
    np.testing.assert_allclose(posed.numpy(), expected, atol=2e-5)


@pytest.mark.parametrize(
    ("border", "kind"),
    [
        ("constant:1", cv2.BORDER_CONSTANT),
        ("edge", cv2.BORDER_REPLICATE),
        ("reflect", cv2.BORDER_REFLECT_101),
    ],
)
@pytest.mark.parametrize(("dx", "dy"), [(3, 0), (-2, 5), (0, -4)])
def test_whole_shifts_are_exact_with_the_border_of_opencv(border, kind, dx, dy):
    images = images_of((1, 1, 9, 7))
    framed = cv2.copyMakeBorder(images[0, 0].numpy(), 6, 6, 6, 6, kind, value=1.0)
    expected = framed[6 - dy : 15 - dy, 6 - dx : 13 - dx]
    assert np.array_equal(bordered(Pose(0, dx, dy), border)(images)[0, 0].numpy(), expected)


def test_the_mean_is_that_of_each_channel_of_each_image():
    images = images_of((3, 2, 6, 8))
    shifted = bordered(Pose(dx=8), "mean")(images)
    expected = images.double().mean(dim=(2, 3), keepdim=True).float().expand_as(images)
    assert torch.equal(shifted, expected)


def test_a_constant_border_is_its_level():
    assert (bordered(Pose(dx=9), "constant:0.25")(images_of((2, 1, 5, 9))) == 0.25).all()


# Rules for every border.


@pytest.mark.parametrize("border", BORDERS)
def test_the_identity_keeps_every_bit(border):
    images = images_of((2, 3, 7, 5))
    assert bordered(IDENTITY, border)(images) is images
    rest = torch.zeros(2)
    assert torch.equal(pose_each(images, rest, rest, rest, border=border), images)
    assert torch.equal(BorderedPose(360.0, 0.0, 0.0, border)(images), images)


@pytest.mark.parametrize("border", BORDERS)
@properties
@given(drawn=st.lists(tenths, min_size=1, max_size=4))
def test_a_pose_of_each_image_gives_the_bits_of_one_pose_of_all(border, drawn):
    images = images_of((len(drawn), 2, 7, 5))
    degrees, dx, dy = (torch.tensor(drawn, dtype=torch.float64) / 10).unbind(1)
    poses = [bordered(Pose(*(value / 10 for value in each)), border) for each in drawn]
    expected = [pose(images[at : at + 1]) for at, pose in enumerate(poses)]
    assert torch.equal(pose_each(images, degrees, dx, dy, border=border), torch.cat(expected))


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_bits_do_not_depend_on_the_batch_or_the_layout(border, shape):
    images, pose = images_of(shape), bordered(Pose(-12.5, 3, 1.5), border)
    posed = pose(images)
    alone = [pose(images[at : at + 1]) for at in range(len(images))]
    assert torch.equal(posed, torch.cat(alone))
    assert torch.equal(posed, pose(images.contiguous(memory_format=torch.channels_last)))
    traced = pose(images.clone().requires_grad_()).detach()
    assert torch.equal(posed, traced), "by the path with gradients"


@pytest.mark.parametrize("border", BORDERS)
@properties
@given(drawn=tenths)
def test_pixels_stay_within_those_of_the_image_and_its_border(border, drawn):
    images = images_of((2, 1, 6, 7))
    posed = bordered(Pose(*(value / 10 for value in drawn)), border)(images)
    least, most = images.min(), images.max()
    if border.startswith("constant"):
        level = float(border.partition(":")[2])
        least, most = min(least, level), max(most, level)
    assert posed.min() >= least - 1e-6
    assert posed.max() <= most + 1e-6


@pytest.mark.parametrize("border", BORDERS)
def test_one_pixel_wide_images_move(border):
    posed = bordered(Pose(30, 1, 0), border)(images_of((1, 1, 5, 1)))
    assert posed.isfinite().all()


# Perturbations with a border.


def test_another_border_than_zeros_is_in_the_name_of_a_pose():
    assert within_border(Pose(5), "constant:0") == Pose(5)
    assert (
        repr(within_border(Pose(5), "mean"))
        == "BorderedPose(degrees=5, dx=0.0, dy=0.0, border='mean')"
    )
    assert within_border(BorderedPose(5, border="mean"), "edge") == BorderedPose(5, border="mean")
    assert with_zeros_outside(BorderedPose(5, 1, border="mean")) == Pose(5, 1)
    assert within_border(HorizontalFlip(), "mean") == HorizontalFlip()


def test_a_flipped_pose_has_the_border_of_its_pose():
    images, draw = images_of((2, 1, 6, 6)), FlippedPose(flipped=True, pose=Pose(dx=3))
    moved = within_border(draw, "edge")
    assert torch.equal(moved(images), bordered(Pose(dx=3), "edge")(images.flip(-1)))


@pytest.mark.parametrize("border", BORDERS)
def test_no_object_comes_from_outside_the_image(border):
    masks = np.ones((1, 4, 6), dtype=bool)
    moved = moved_masks(masks, bordered(Pose(dx=2), border))
    assert moved.sum() == 4 * 4


@pytest.mark.parametrize(
    ("text", "spelt"),
    [
        ("constant:0.0", "constant:0"),
        ("constant:-0", "constant:0"),
        ("constant:1e0", "constant:1"),
        ("edge", "edge"),
    ],
)
def test_a_border_has_one_spelling(text, spelt):
    assert border_of(text) == spelt


@pytest.mark.parametrize(
    "text", ["", "constant", "constant:", "constant:255", "constant:-1", "constant:nan", "wrap"]
)
def test_another_border_is_refused(text):
    with pytest.raises(
        InputError, match=r"constant:V, edge, reflect or mean, with V from 0 \(black\) to 1"
    ):
        border_of(text)
