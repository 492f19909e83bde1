"""Object masks.

On shapes whose object is known, on the shipped images, and from the data themselves.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.base.errors import InputError, NotApplicableError
from harness.data import LabelledImages, load_images, stratified_sample
from harness.data.images import DIFFERS, background, object_masks
from harness.perturb import HorizontalFlip, Pose, moved_masks


def labelled(pixels, masks=None, **facts) -> LabelledImages:
    pixels = torch.as_tensor(np.asarray(pixels), dtype=torch.uint8)
    pixels = pixels[:, None] if pixels.ndim == 3 else pixels
    return LabelledImages(
        pixels, torch.zeros(len(pixels), dtype=torch.int64), ("a",), "shapes", "test", masks=masks
    )


def blank(count=1, size=12, level=0):
    return np.full((count, size, size), level, dtype=np.uint8)


@pytest.mark.parametrize(("level", "ground"), [(200, 0), (40, 255), (120, 60)])
def test_a_square_on_a_plain_background_is_found_exactly(level, ground):
    pixels = blank(level=ground)
    pixels[0, 3:8, 2:9] = level
    expected = pixels[0] != ground
    assert (object_masks(labelled(pixels))[0] == expected).all()


def test_an_object_is_without_holes_gaps_and_spots():
    pixels = blank(4, 16)
    pixels[0, 2:14, 2:14] = 200
    pixels[0, 4:7, 4:7] = 0  # A hole.
    pixels[0, 10:14, 6:10] = 0  # Open to the outside, and wider than what closing bridges.
    pixels[1, 2:10, 2:10] = 200
    pixels[1, 2:10, 5] = 0  # A gap of one pixel.
    pixels[2, 5, 5] = 255  # A spot.
    pixels[3, :, 4:8] = 200  # At the border, neither closed to it nor cut.
    pixels[3, :, 10] = 3
    masks = object_masks(labelled(pixels))
    assert masks[0, 4:7, 4:7].all()
    assert not masks[0, 10:14, 6:10].any()
    assert masks[1, 3:9, 5].all()
    assert not masks[2].any()
    assert (masks[3] == (pixels[3] == 200)).all()
    pixels = np.zeros((1, 3, 10, 10), dtype=np.uint8)
    pixels[:, 2] = 90
    pixels[0, 2, 3:7, 3:7] = 200
    images = labelled(pixels)
    assert background(images).tolist() == [0, 0, 90]
    assert object_masks(images)[0].sum() == 16


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 3))
def test_masks_keep_what_differs_clearly_and_have_no_holes(seed, count):
    import cv2

    rng = np.random.default_rng(seed)
    pixels = blank(count, 16)
    pixels[:, 3:13, 3:13] = rng.integers(0, 2, (count, 10, 10)) * 200
    masks = object_masks(labelled(pixels))
    for mask, picture in zip(masks, pixels, strict=True):
        outside = np.pad(~mask, 1, constant_values=True).astype(np.uint8)
        assert cv2.connectedComponents(outside, connectivity=4)[0] == 2, (
            "what is outside is connected"
        )
        assert (mask <= (cv2.dilate(picture, np.ones((3, 3))) > 0) | mask).all()
        parts, where = cv2.connectedComponents((picture > DIFFERS).astype(np.uint8))
        for part in range(1, parts):
            if (where == part).sum() >= 4:
                assert mask[where == part].all()


def test_every_shipped_image_has_an_object_of_a_sensible_size():
    images = stratified_sample(load_images("fashion-mnist"), 1_000)
    masks = object_masks(images)
    area = masks.mean(axis=(1, 2))
    by_class = [area[images.labels.numpy() == label].mean().round(2) for label in range(10)]
    assert area.min() > 0.1
    assert area.max() < 0.97
    assert 0.45 < area.mean() < 0.5
    # Trousers, sandals and sneakers are slim; pullovers, coats, shirts and bags are not.
    assert max(by_class[label] for label in (1, 5, 7)) < 0.4
    assert min(by_class[label] for label in (0, 2, 4, 6, 8)) > 0.5
    light = images.pixels[:, 0].numpy().astype(float)
    assert (light * masks).sum() / light.sum() > 0.995
    assert not masks.flags.writeable
    assert object_masks(images) is masks


def test_masks_of_the_data_win_and_move_along(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 6)).astype(np.uint8)
    masks = np.zeros((4, 6, 6), dtype=bool)
    masks[range(4), range(4), 2] = True
    np.savez(tmp_path / "own.npz", images=pixels, labels=np.arange(4) % 2, masks=masks)
    images = load_images(f"npz:{tmp_path / 'own.npz'}")
    assert (object_masks(images) == masks).all()
    some = images.take(torch.tensor([2, 0]))
    assert (object_masks(some) == masks[[2, 0]]).all()
    assert (
        object_masks(stratified_sample(images, 2)) == masks[stratified_sample(images, 2).positions]
    ).all()
    np.savez(
        tmp_path / "grey.npz",
        images=pixels,
        labels=np.arange(4) % 2,
        masks=masks.astype(np.uint8) * 255,
    )
    assert (object_masks(load_images(f"npz:{tmp_path / 'grey.npz'}")) == masks).all()
    pixels = np.random.default_rng(0).integers(0, 256, (20, 12, 12)).astype(np.uint8)
    with pytest.raises(
        NotApplicableError,
        match=r"background of shapes is not plain: \d+% .* at least 67%.* `masks`",
    ):
        object_masks(labelled(pixels))


@pytest.mark.parametrize(
    "masks", [np.zeros((4, 5, 6), dtype=bool), np.zeros((4, 6, 6))], ids=["shape", "type"]
)
def test_masks_of_another_shape_or_type_are_refused(tmp_path, masks):
    np.savez(tmp_path / "own.npz", images=blank(4, 6), labels=np.arange(4) % 2, masks=masks)
    with pytest.raises(InputError, match=r"masks are .* expected bool or uint8 \(4, 6, 6\)"):
        load_images(f"npz:{tmp_path / 'own.npz'}")
    own = torch.zeros(2, 12, 12, dtype=torch.bool)
    assert len({labelled(blank(2), each).sha256 for each in (None, own, ~own)}) == 3, (
        "they are part of the data"
    )


def test_masks_move_with_the_images():
    mask = np.zeros((1, 5, 5), dtype=bool)
    mask[0, 1, 1:3] = True
    assert np.argwhere(moved_masks(mask, Pose(0, 2, 1))[0]).tolist() == [[2, 3], [2, 4]]
    assert np.argwhere(moved_masks(mask, HorizontalFlip())[0]).tolist() == [[1, 2], [1, 3]]
    # Half of a pixel is as much as half of the object on it.
    assert moved_masks(mask, Pose(0, 0.5, 0))[0, 1].tolist() == [False, True, True, True, False]
    assert not moved_masks(mask, Pose(0, 9, 0)).any()
