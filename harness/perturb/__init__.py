"""Changes of pixels under the pinned protocol: poses, their grids, corruptions, backgrounds."""

from harness.perturb.grids import augmentation_range_corners, augmentation_range_poses
from harness.perturb.poses import (
    IDENTITY,
    PROTOCOL,
    HorizontalFlip,
    Perturbation,
    Pose,
    in_words,
    moved_masks,
    pose_each,
)

__all__ = [
    "IDENTITY",
    "PROTOCOL",
    "HorizontalFlip",
    "Perturbation",
    "Pose",
    "augmentation_range_corners",
    "augmentation_range_poses",
    "in_words",
    "moved_masks",
    "pose_each",
]
