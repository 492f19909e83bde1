"""Grids, corners and paths follow the augmentation range.

Nothing moves along an axis whose limit is 0.
"""

from dataclasses import replace

import pytest
import torch

from harness.base.errors import InputError, NotApplicableError
from harness.data import LabelledImages
from harness.data.domain import DEFAULT_RANGE, AugmentationRange, Domain, limits_in, range_of
from harness.perturb import Pose, augmentation_range_corners, augmentation_range_poses
from harness.perturb.grids import (
    CORNERS_TOO_FAR,
    GRIDS,
    NO_GEOMETRY,
    PATHS,
    fine_paths,
    path_within,
    paths_within,
    views_of,
    why_no_corners,
)
from harness.perturb.strategies import DrawnPose

SPECTROGRAM = AugmentationRange(shift_x=6)
STILL = AugmentationRange(flip=True)


def axes_of(poses) -> set[str]:
    return {axis for axis in ("degrees", "dx", "dy") for pose in poses if getattr(pose, axis)}


def test_without_a_declaration_the_range_is_that_of_the_shipped_model():
    assert augmentation_range_poses() == augmentation_range_poses(DEFAULT_RANGE)
    corners = {(corner.degrees, corner.dx, corner.dy) for corner in augmentation_range_corners()}
    assert corners == {
        (degrees, dx, dy) for degrees in (-10, 10) for dx in (-2, 2) for dy in (-2, 2)
    }
    assert paths_within(DEFAULT_RANGE) == PATHS


def test_a_spectrogram_moves_in_time_alone():
    poses = augmentation_range_poses(SPECTROGRAM)
    assert [pose.dx for pose in poses] == [-6, -3, 0, 3, 6]
    assert axes_of(poses) == {"dx"}
    assert augmentation_range_corners(SPECTROGRAM) == (Pose(0, -6, 0), Pose(0, 6, 0))
    assert views_of(["corners"], Pose(), SPECTROGRAM) == augmentation_range_corners(SPECTROGRAM)
    for paths in (paths_within(SPECTROGRAM), fine_paths(SPECTROGRAM)):
        assert {name: axes_of(path.poses) for name, path in paths.items()} == {"shift": {"dx"}}
    with pytest.raises(
        NotApplicableError, match=r"path rotation: the augmentation range is ±6 px to the sides"
    ):
        path_within(SPECTROGRAM, "rotation")


def test_a_range_of_flips_alone_has_the_identity_as_its_only_pose():
    assert augmentation_range_poses(STILL) == (Pose(),)
    assert augmentation_range_corners(STILL) == ()
    assert paths_within(STILL) == {}


def test_a_path_of_rotation_and_shift_leaves_out_the_axis_without_a_limit():
    joint = paths_within(AugmentationRange(rotate=5, shift_y=1))["joint"]
    assert axes_of(joint.poses) == {"degrees", "dy"}
    assert all(len(poses) == 4 for poses in joint.steps.values())


def test_shifts_within_whole_pixels_are_whole():
    poses = augmentation_range_poses(AugmentationRange(shift_x=3, shift_y=1.5))
    assert {pose.dx for pose in poses} == {-3, -2, 0, 2, 3}
    assert {pose.dy for pose in poses} == {-1.5, -0.75, 0, 0.75, 1.5}
    assert {pose.dx for pose in augmentation_range_poses(AugmentationRange(shift_x=1))} == {
        -1,
        0,
        1,
    }


def test_the_classic_grid_is_as_published_whatever_the_range():
    assert len(GRIDS["classic"](SPECTROGRAM)) == 775


@pytest.mark.parametrize(
    ("size", "augmentation", "why"),
    [
        (28, DEFAULT_RANGE, ""),
        (8, DEFAULT_RANGE, CORNERS_TOO_FAR),
        (8, AugmentationRange(shift_x=2), ""),
        (28, STILL, NO_GEOMETRY),
    ],
    ids=["default", "small", "declared", "still"],
)
def test_images_are_moved_to_corners_that_suit_them(size, augmentation, why):
    pixels = torch.zeros(1, 1, size, size, dtype=torch.uint8)
    images = LabelledImages(pixels, torch.zeros(1, dtype=torch.int64), ("a",), "zoo", "test")
    assert why_no_corners(replace(images, domain=Domain(augmentation))) == why


def test_a_drawn_pose_reaches_a_wider_range_and_no_axis_without_a_limit():
    drawn = DrawnPose(-10.0, 1.0, 2.0, Pose(10, 2, 2))
    assert drawn.clamped(Pose(10, 2, 2)) == Pose(-10, 1, 2)
    assert drawn.clamped(Pose(20, 16, 0)) == Pose(-20, 8, 0)
    assert drawn.clamped(Pose(5, 2, 2)) == Pose(-5, 1, 2)


def test_limits_that_are_not_named_are_none():
    limits = limits_in("rotate=10, shift_x=6,flip=true")
    assert limits == {"rotate": 10, "shift_x": 6, "flip": True}
    assert range_of(limits) == AugmentationRange(10, 6, 0, flip=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected each limit once"),
        ("rotate", "expected each limit once"),
        ("rotate=1,rotate=2", "expected each limit once"),
        ("turn=1", "unknown key 'turn'; expected some of rotate, shift_x, shift_y, flip"),
        ("rotate=181", "expected at most 180 degrees, found 181"),
        ("shift_x=-1", "expected a number of at least 0, found -1"),
        ("shift_x=nan", "expected a number of at least 0"),
        ("shift_y=true", "expected a number of at least 0, found True"),
        ("flip=1", "expected true or false, found 1"),
    ],
)
def test_other_limits_are_refused(text, message):
    with pytest.raises(InputError, match=message):
        limits_in(text)
