"""The pinned protocol: which pixel goes where, and what independent implementations say of it."""

import itertools

import kornia
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as torchvision_functional

from harness.perturb import IDENTITY, HorizontalFlip, Pose, augmentation_range_poses, pose_each

properties = settings(deadline=None, max_examples=20)

# Hypothesis shrinks floats to simple ones, not to small ones, so poses are drawn in whole tenths.
tenths_of_degree = st.integers(-3600, 3600)
tenths_of_pixel = st.integers(-60, 60)


def random_images(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def picture(*rows):
    return torch.tensor(rows, dtype=torch.float32).view(1, 1, len(rows), len(rows[0]))


@pytest.mark.parametrize("degrees", [0, -0.0, 360.0, -360.0, 720.0])
def test_identity_and_full_turns_keep_every_bit(degrees):
    images = random_images(2, 3, 5, 4)
    posed = Pose(degrees, degrees if not degrees else 0)(images)
    assert posed is images if not degrees else torch.equal(posed, images)
    assert torch.equal(
        pose_each(images, torch.full((2,), float(degrees)), torch.zeros(2), torch.zeros(2)), images
    )


PICTURE = picture([1, 2, 3, 4], [5, 6, 7, 8])
SHIFTED = {
    "right": (Pose(dx=1), picture([0, 1, 2, 3], [0, 5, 6, 7])),
    "left": (Pose(dx=-1), picture([2, 3, 4, 0], [6, 7, 8, 0])),
    "down": (Pose(dy=1), picture([0, 0, 0, 0], [1, 2, 3, 4])),
    "up": (Pose(dy=-1), picture([5, 6, 7, 8], [0, 0, 0, 0])),
    "right-and-up": (Pose(dx=2, dy=-1), picture([0, 0, 5, 6], [0, 0, 0, 0])),
    "half-right": (Pose(dx=0.5), picture([0.5, 1.5, 2.5, 3.5], [2.5, 5.5, 6.5, 7.5])),
    "half-left": (Pose(dx=-0.5), picture([1.5, 2.5, 3.5, 2], [5.5, 6.5, 7.5, 4])),
    "quarter-down": (Pose(dy=0.25), picture([0.75, 1.5, 2.25, 3], [4, 5, 6, 7])),
    "out-right": (Pose(dx=4), torch.zeros_like(PICTURE)),
    "far-out": (Pose(dx=-1e6, dy=1e6), torch.zeros_like(PICTURE)),
}


@pytest.mark.parametrize(("pose", "expected"), SHIFTED.values(), ids=SHIFTED)
def test_shift_moves_pixels_exactly(pose, expected):
    assert torch.equal(pose(PICTURE), expected)


@pytest.mark.parametrize(
    ("pose", "said"),
    [
        (Pose(), "clean"),
        (Pose(dy=2), "shifted 2 px down"),
        (Pose(10, 2, 3), "rotated by 10° counter-clockwise, shifted 2 px right and 3 px down"),
        (Pose(-5, -1.5, -1), "rotated by 5° clockwise, shifted 1.5 px left and 1 px up"),
    ],
)
def test_a_pose_is_said_by_where_it_moves_the_image(pose, said):
    assert pose.in_words() == said


@properties
@given(dx=st.integers(-5, 5), dy=st.integers(-5, 5))
def test_integer_shift_there_and_back_restores_what_stayed_inside(dx, dy):
    images = random_images(2, 2, 6, 9)
    back = Pose(dx=-dx, dy=-dy)(Pose(dx=dx, dy=dy)(images))
    rows = slice(max(0, -dy), 6 - max(0, dy))
    columns = slice(max(0, -dx), 9 - max(0, dx))

    assert torch.equal(back[:, :, rows, columns], images[:, :, rows, columns])
    assert back.count_nonzero() == images[:, :, rows, columns].count_nonzero()


@pytest.mark.parametrize(
    ("degrees", "row", "column"),
    [(90, 0, 1), (180, 1, 0), (270, 2, 1), (-90, 2, 1)],
    ids=["up", "left", "down", "cw-down"],
)
def test_positive_degrees_turn_counter_clockwise(degrees, row, column):
    right_of_centre = picture([0, 0, 0], [0, 0, 1], [0, 0, 0])
    expected = torch.zeros(1, 1, 3, 3)
    expected[..., row, column] = 1
    assert torch.equal(Pose(degrees)(right_of_centre), expected)


def test_a_positive_turn_lifts_the_right_side_before_the_shift():
    row_of_pixels = torch.zeros(1, 1, 9, 9)
    row_of_pixels[..., 4, :] = 1
    turned = Pose(10)(row_of_pixels)[0, 0]
    assert turned[3, 8] > 0.5
    assert turned[5, 0] > 0.5
    assert turned[5, 8] == turned[3, 0] == 0
    image = picture([0, 0, 0], [0, 0, 1], [0, 0, 0])
    assert torch.equal(Pose(90, dx=1)(image), picture([0, 0, 1], [0, 0, 0], [0, 0, 0]))


@pytest.mark.parametrize("size", [4, 5], ids=["even", "odd"])
def test_quarter_turns_of_a_square_and_half_turns_of_any_image_are_exact(size):
    images = random_images(2, 3, size, size)
    for quarters in (1, 2, 3, -1):
        assert torch.equal(Pose(90 * quarters)(images), torch.rot90(images, quarters, dims=(2, 3)))
    images = random_images(2, 1, size, 7)
    assert torch.equal(Pose(180)(images), images.flip(2, 3))


POSES = [
    Pose(7),
    Pose(-12.5),
    Pose(90),
    Pose(163),
    Pose(0, 2, -1),
    Pose(0, 0.3, 1.6),
    Pose(10, -2, 2),
    Pose(-30, 3, -3),
    Pose(4.4, 0.5, -0.25),
]


def by_torchvision(images, pose):
    """Its angle is clockwise in `affine`, and it too rotates about the center before it shifts."""
    how = {"translate": [pose.dx, pose.dy], "scale": 1.0, "shear": [0.0, 0.0]}
    how["interpolation"] = InterpolationMode.BILINEAR
    return torchvision_functional.affine(images, angle=-pose.degrees, **how)


def by_kornia(images, pose):
    count, _, height, width = images.shape
    centre = torch.tensor([[(width - 1) / 2, (height - 1) / 2]]).expand(count, 2)
    turn = torch.full((count,), float(pose.degrees))
    matrix = kornia.geometry.get_rotation_matrix2d(centre, turn, torch.ones(count, 2))
    matrix[:, :, 2] += torch.tensor([pose.dx, pose.dy])
    return kornia.geometry.warp_affine(images, matrix, (height, width), align_corners=True)


@pytest.mark.parametrize("shape", [(2, 1, 28, 28), (2, 1, 9, 16), (2, 3, 17, 8)], ids=str)
@pytest.mark.parametrize("other", [by_torchvision, by_kornia])
def test_poses_agree_with_other_libraries(other, shape):
    images = random_images(*shape)
    for pose in POSES:
        torch.testing.assert_close(
            pose(images), other(images, pose), atol=1e-4, rtol=0, msg=repr(pose)
        )


@properties
@given(
    st.lists(st.tuples(tenths_of_degree, tenths_of_pixel, tenths_of_pixel), min_size=1, max_size=4)
)
def test_individual_poses_equal_whole_batch_poses_bit_for_bit(tenths):
    images = random_images(len(tenths), 2, 7, 5)
    degrees, dx, dy = (torch.tensor(tenths, dtype=torch.float64) / 10).unbind(1)
    expected = [
        Pose(*(value / 10 for value in pose))(images[i : i + 1]) for i, pose in enumerate(tenths)
    ]
    assert torch.equal(pose_each(images, degrees, dx, dy), torch.cat(expected))


@properties
@given(tenths_of_degree, tenths_of_pixel, tenths_of_pixel)
def test_pixels_stay_within_0_and_1(degrees, dx, dy):
    images = torch.cat([random_images(1, 1, 6, 7), torch.ones(1, 1, 6, 7)])
    posed = Pose(degrees / 10, dx / 10, dy / 10)(images)
    assert posed.dtype == torch.float32
    assert posed.shape == images.shape
    assert posed.min() >= 0
    assert posed.max() <= 1


@pytest.mark.parametrize("perturbation", [Pose(5, 1, -1), Pose(dx=2), HorizontalFlip()], ids=repr)
def test_perturbation_leaves_its_input_alone_in_any_memory_layout(perturbation):
    images = random_images(2, 3, 6, 5)
    before = images.clone()
    assert not torch.equal(changed := perturbation(images), before)
    assert torch.equal(images, before)
    assert torch.equal(perturbation(images.contiguous(memory_format=torch.channels_last)), changed)


def test_augmentation_range_poses_are_the_225_and_repr_names_every_number():
    poses = augmentation_range_poses()
    grid = itertools.product((-10, -7.5, -5, -2.5, 0, 2.5, 5, 7.5, 10), range(-2, 3), range(-2, 3))
    assert len(poses) == 225
    assert {(pose.degrees, pose.dx, pose.dy) for pose in poses} == set(grid)
    assert IDENTITY in poses
    assert len(set(map(repr, poses))) == 225
    assert repr(Pose(1.5, dx=-2, dy=3)) == "Pose(degrees=1.5, dx=-2, dy=3)"
    assert torch.equal(HorizontalFlip()(PICTURE), picture([4, 3, 2, 1], [8, 7, 6, 5]))


@pytest.mark.parametrize("shape", [(7, 1, 28, 28), (3, 3, 80, 70), (2, 3, 9, 90)], ids=str)
@pytest.mark.parametrize(
    "pose", [Pose(7.3, 1, -2), Pose(dx=0.5), Pose(-30, 3, 3), Pose(dy=2)], ids=repr
)
def test_images_of_any_size_move_to_the_same_bits_as_alone(shape, pose):
    """Three ways to mix the same four neighbors.

    All images at once, each channel alone, each image in its pose.
    """
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    each = pose_each(
        images, *(torch.full((len(images),), value) for value in (pose.degrees, pose.dx, pose.dy))
    )
    exact = pose_each(
        images,
        *(
            torch.full((len(images),), value, dtype=torch.float64)
            for value in (pose.degrees, pose.dx, pose.dy)
        ),
    )
    assert torch.equal(pose(images), exact)
    assert pose(images).is_contiguous()
    assert torch.allclose(each, exact, atol=1e-4)
