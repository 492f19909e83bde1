"""Backgrounds replaced and objects erased.

The pixels that change, and the models that notice.
"""

import numpy as np
import pytest
import torch
from torch import nn

from harness.base.errors import InputError, NotApplicableError
from harness.data import LabelledImages, load_images, stratified_sample
from harness.data.images import object_masks
from harness.inference import Classifier
from harness.measures import object_dependence, prediction_consistency
from harness.perturb.backgrounds import BACKGROUNDS, with_background, without_object

CLASSES = ("dim", "bright", "other")


@pytest.fixture(scope="module")
def images():
    return stratified_sample(load_images("fashion-mnist"), 60)


@pytest.fixture(scope="module")
def masks(images):
    return object_masks(images)


def squares(count=30, *, cue=False) -> LabelledImages:
    """Return squares, dim and bright, in the middle of black images.

    The cue in a corner gives the class away.
    """
    pixels = torch.zeros(count, 1, 12, 12, dtype=torch.uint8)
    labels = torch.arange(count) % 2
    pixels[:, :, 4:9, 4:9] = torch.where(labels == 1, 250, 120).to(torch.uint8).view(-1, 1, 1, 1)
    if cue:
        pixels[:, 0, 0, 0] = labels.to(torch.uint8) * 10
    return LabelledImages(pixels, labels, CLASSES, "squares", "test")


class ByBrightness(nn.Module):
    """Tells dim squares from bright ones by the middle of the image.

    Of a dark one it says "other".
    """

    def forward(self, pixels):
        middle = pixels[:, 0, 5:8, 5:8].mean((1, 2))
        return torch.stack(
            [1 - (middle - 0.47).abs(), 1 - (middle - 0.98).abs(), 1 - middle.abs()], dim=1
        )


class ByCorner(nn.Module):
    """Looks at the corner alone."""

    def forward(self, pixels):
        corner = pixels[:, 0, 0, 0]
        return torch.stack([0.02 - corner, corner, -torch.ones_like(corner)], dim=1)


@pytest.mark.parametrize("kind", BACKGROUNDS)
def test_objects_stay_as_they_are_and_the_background_does_not(images, masks, kind):
    shown = with_background(images, masks, kind)
    inside = np.broadcast_to(masks[:, None], images.pixels.shape)
    before, after = images.pixels.numpy(), shown.changed.pixels.numpy()
    assert (before[inside] == after[inside]).all()
    assert (before[~inside] != after[~inside]).mean() > (0.01 if kind == "swapped" else 0.1)
    assert shown.images is images
    assert torch.equal(shown.changed.labels, images.labels)
    assert torch.equal(shown.changed.positions, images.positions)


@pytest.mark.parametrize("kind", BACKGROUNDS)
def test_the_seed_decides_and_strength_blends(images, masks, kind):
    def pixels(**how):
        return with_background(images, masks, kind, **how).changed.pixels.numpy().astype(int)

    before = images.pixels.numpy().astype(int)
    assert (pixels() == pixels(strength=1.0)).all()
    assert (pixels(seed=1) != pixels()).any()
    assert (pixels(strength=0.0) == before).all()
    assert np.abs(2 * (pixels(strength=0.5) - before) - (pixels() - before)).max() <= 1
    state = np.random.get_state()[1].tolist()
    pixels()
    assert np.random.get_state()[1].tolist() == state


def test_another_background_is_of_another_class_and_without_its_object():
    data = squares(cue=True)
    masks = np.zeros((30, 12, 12), dtype=bool)
    masks[:, 4:9, 4:9] = True
    swapped = with_background(data, masks, "swapped").changed.pixels
    assert (swapped[:, 0, 0, 0] == 10 - data.pixels[:, 0, 0, 0]).all()
    moved = np.roll(masks, 3, axis=2)
    moved[:15] = masks[:15]
    clutter = with_background(data, moved, "clutter").changed.pixels.numpy()
    assert (clutter[15:, 0, 5, 4] > 0).all(), "the other object is seen where one's own is not"


def test_erasing_leaves_the_background_alone_and_takes_its_color(images, masks):
    after = without_object(images, masks).changed.pixels.numpy()[:, 0]
    before = images.pixels.numpy()[:, 0]
    assert (after[~masks] == before[~masks]).all()
    assert (after[masks] == 0).all()
    pixels = torch.full((2, 3, 8, 8), 90, dtype=torch.uint8)
    pixels[1] = 200
    pixels[:, :, 2:5, 2:5] = 10
    masks = np.zeros((2, 8, 8), dtype=bool)
    masks[:, 2:5, 2:5] = True
    data = LabelledImages(pixels, torch.tensor([0, 1]), CLASSES, "two", "test")
    after = without_object(data, masks).changed.pixels
    assert after[0].unique().tolist() == [90]
    assert after[1].unique().tolist() == [200]
    data = squares(4)
    masks = object_masks(data).copy()
    masks[1] = True  # An object that fills its image takes the common background.
    assert without_object(data, masks).changed.pixels.max() == 0


def test_pictures_show_the_original_and_what_was_made_of_it(images, masks):
    shown = with_background(images, masks, "noise")
    of_one = shown.perturbation_of(7)
    pixels = images.pixels[7:8].float() / 255
    assert torch.equal((of_one(pixels) * 255).round().to(torch.uint8)[0], shown.changed.pixels[7])
    others = with_background(images, masks, "noise", seed=1).perturbation_of(7)
    assert len({repr(of_one), repr(shown.perturbation_of(8)), repr(others)}) == 3
    alone = images.take(torch.nonzero(images.labels == 3)[:, 0])
    with pytest.raises(NotApplicableError, match="all images are of one class"):
        with_background(alone, object_masks(alone), "swapped")
    with pytest.raises(
        InputError, match="background 'sky' is unknown; expected one of noise, texture"
    ):
        with_background(images, masks, "sky")


def measures(model, data):
    classifier, masks = Classifier(model, workers=1), np.zeros((len(data), 12, 12), dtype=bool)
    masks[:, 4:9, 4:9] = True
    before = classifier.predict(data)
    swapped = classifier.predict(with_background(data, masks, "swapped").changed)
    return prediction_consistency(before, swapped), object_dependence(
        before, classifier.predict(without_object(data, masks).changed)
    )


def test_a_model_that_looks_at_the_object_keeps_and_loses_its_answers():
    stays, goes = measures(ByBrightness(), squares(cue=True))
    assert (stays.metric.name, stays.value, stays.n, len(stays.failures)) == (
        "prediction_consistency",
        1.0,
        30,
        0,
    )
    assert (goes.metric.name, goes.value, goes.n, len(goes.failures)) == (
        "object_dependence",
        1.0,
        30,
        0,
    )
    assert goes.detail == "100% are then predicted as other"
    assert 0.8 < stays.interval[0] < stays.interval[1] == 1.0
    stays, goes = measures(ByCorner(), squares(cue=True))
    assert stays.value == 0.0
    assert stays.detail == "30 predictions change, 30 of them right before"
    assert goes.value == 0.0
    assert sorted(goes.failures) == list(range(30))
    data = squares(cue=True)
    wrong = LabelledImages(
        data.pixels, torch.where(torch.arange(30) < 10, 2, data.labels), CLASSES, "wrong", "test"
    )
    stays, _ = measures(ByCorner(), wrong)
    was_right = [position >= 10 for position in stays.failures]
    assert was_right == sorted(was_right, reverse=True)
    assert 0 < sum(was_right) < len(was_right)
