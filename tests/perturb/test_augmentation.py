"""Draws of an augmentation cover its ranges evenly.

A draw flips before it moves, as a training does.
"""

import numpy as np
import torch

from harness.perturb import Pose
from harness.perturb.augmentation import Augmentation, FlippedPose


def test_draws_cover_the_ranges_evenly():
    draws = Augmentation(rotation_degrees=10.0, shift_fraction=0.1, flip_probability=0.5).draws(
        28, 60
    )
    assert len(draws) == 50
    assert sum(draw.flipped for draw in draws) == 25
    degrees = np.sort([draw.pose.degrees for draw in draws])
    assert np.allclose(np.diff(degrees), 20 / 50)
    assert np.allclose(degrees[[0, -1]], [-9.8, 9.8])
    assert {draw.pose.dx for draw in draws} == set(range(-6, 7))
    assert {draw.pose.dy for draw in draws} == set(range(-3, 4))
    by_degrees = sorted(draws, key=lambda draw: draw.pose.degrees)
    assert [draw.pose.dx for draw in by_degrees] != sorted(draw.pose.dx for draw in draws), (
        "axes are independent"
    )


def test_an_augmentation_of_nothing_changes_nothing():
    assert set(Augmentation().draws(8, 8)) == {FlippedPose(flipped=False, pose=Pose())}


def test_a_draw_flips_before_it_moves():
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    pose = Pose(15.0, 2.0, 0.0)
    assert torch.equal(FlippedPose(flipped=True, pose=pose)(images), pose(images.flip(-1)))
    assert torch.equal(FlippedPose(flipped=False, pose=pose)(images), pose(images))
