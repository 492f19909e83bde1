"""Near-duplicates between training and test images.

Copies are found in any usual form, and other images are not.
"""

import csv
import io
import json
from contextlib import redirect_stderr
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from harness.cli import main
from harness.data import load_fashion_mnist
from harness.features.leakage.duplicates import leaked, nearest, small, varied

TEST, TRAINING, PLANTED = 300, 1_500, 40


def re_encoded(image: Image.Image) -> Image.Image:
    image.save(file := io.BytesIO(), "JPEG", quality=75)
    return Image.open(file)


def resized(image: Image.Image) -> Image.Image:
    return image.resize((20, 20), Image.Resampling.BILINEAR).resize(
        image.size, Image.Resampling.BILINEAR
    )


def cropped(image: Image.Image) -> Image.Image:
    width, height = image.size
    return image.resize(
        image.size,
        Image.Resampling.BILINEAR,
        box=(0.03 * width, 0.01 * height, 0.98 * width, 0.96 * height),
    )


def mirrored(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


COPIES = {"re-encoded": re_encoded, "resized": resized, "cropped": cropped, "mirrored": mirrored}


@pytest.fixture(scope="module")
def sets():
    """Test images and training images. The first of both are copies, kind by kind."""
    images = load_fashion_mnist("test").take(
        torch.randperm(10_000, generator=torch.Generator().manual_seed(0))
    )
    test = images.take(torch.arange(TEST))
    training = images.take(torch.arange(TEST, TEST + TRAINING))
    pixels = training.pixels.clone()
    for at in range(PLANTED * len(COPIES)):
        change = [*COPIES.values()][at // PLANTED]
        pixels[at, 0] = torch.from_numpy(
            np.array(change(Image.fromarray(test.pixels[at, 0].numpy())))
        )
    return test, replace(training, pixels=pixels)


@pytest.fixture(scope="module")
def found(sets):
    return leaked(*(small(each.pixels) for each in sets), 0.005)


@pytest.mark.parametrize("name", COPIES)
def test_copies_are_found(found, name):
    at = np.arange(PLANTED) + PLANTED * [*COPIES].index(name)
    hit = found.found[at] & (found.nearest.position[at] == at)
    assert hit.mean() >= 0.9


def test_other_images_are_not(found):
    assert found.found[PLANTED * len(COPIES) :].mean() <= 0.02
    assert found.p < 0.001


def test_a_copy_in_another_form_inside_the_test_set_hides_no_leak(sets):
    test, training = sets
    pixels = test.pixels[:220].clone()
    few = [leaked(small(pixels), small(training.pixels[:220]), 0.005)]
    for at in range(6):
        pixels[210 + at, 0] = torch.from_numpy(
            np.array(re_encoded(Image.fromarray(pixels[180 + at, 0].numpy())))
        )
    few.append(leaked(small(pixels), small(training.pixels[:220]), 0.005))
    assert few[0].inside == 0 < few[1].inside
    clean, copied = (each.found[:160].sum() for each in few)
    assert copied >= 0.9 * clean


@pytest.mark.parametrize(("times", "noise"), [(2, 0.0), (4, 0.1)])
def test_images_that_are_in_both_sets_several_times_hide_no_leak(sets, times, noise):
    pixels, random = (
        sets[0].pixels[:40].repeat(times, 1, 1, 1) // 2,
        torch.Generator().manual_seed(0),
    )
    test, training = (
        small(pixels + (torch.rand(pixels.shape, generator=random) < noise)) for _ in range(2)
    )
    leaks = leaked(test, training, 0.005)
    assert leaks.found.all()
    assert (leaks.copies, leaks.inside) == (40 * times, 40 * times)


def test_copies_among_the_test_images_lower_no_threshold(sets):
    test, training = (small(each.pixels[:60]) for each in sets)
    assert leaked(torch.cat([test, test[:30]]), training, 0.005).threshold > 0.1


def test_no_image_is_its_own_neighbor_and_a_copy_of_another_is(sets):
    pixels = sets[0].pixels[:40].clone()
    pixels[7] = 255 - (255 - pixels[3]) // 2  # Lower contrast, and brighter.
    own = nearest(pixels, pixels, same=True)
    assert not (own.position == np.arange(40)).any()
    assert (own.position[7], own.position[3]) == (3, 7)
    assert own.distance[7] < 0.001


def test_blocks_change_nothing(sets, monkeypatch):
    pixels = [each.pixels[:50] for each in sets]
    whole = nearest(*pixels)
    monkeypatch.setattr("harness.features.leakage.duplicates._QUERIES", 7)
    monkeypatch.setattr("harness.features.leakage.duplicates._ROWS", 9)
    parts = nearest(*pixels)
    assert (parts.position == whole.position).mean() > 0.95
    np.testing.assert_allclose(parts.distance, whole.distance, atol=1e-3)


def test_large_color_images_are_made_small():
    pixels = torch.from_numpy(
        np.random.default_rng(0).integers(0, 256, (12, 3, 64, 48), dtype=np.uint8)
    )
    assert small(pixels).shape == (12, 3, 32, 32)
    assert nearest(small(pixels), small(pixels.flip(0))).position.tolist() == [*range(11, -1, -1)]


def test_images_of_one_color_are_named_as_such():
    pixels = torch.from_numpy(
        np.random.default_rng(0).integers(0, 256, (4, 3, 8, 8), dtype=np.uint8)
    )
    pixels[1] = 7
    pixels[2] = torch.tensor([1, 2, 3])[:, None, None]
    pixels[3, :, 2:-2, 2:-2] = 9  # The rim does not count.
    assert varied(pixels).tolist() == [True, False, False, False]


def save(path, images, rows):
    np.savez(
        path,
        images=images.pixels[rows, 0].numpy(),
        labels=images.labels[rows].numpy(),
        classes=images.classes,
    )


def test_the_command_writes_the_pairs_and_says_so_by_its_status(
    sets, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    test, training = sets
    save("test.npz", test, slice(0, 120))
    save("train.npz", training, slice(0, 300))
    command = ["leakage", "--data", "npz:test.npz", "--train", "npz:train.npz", "--chance", "1%"]
    assert main([*command, "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "reports/leakage.csv").read_text())))
    assert len(rows) == len(said["pairs"]) >= 108
    assert all(
        float(row["ratio"]) < said["threshold"] or float(row["unexplained"]) <= 0.001
        for row in rows
    )
    assert sum(row["image"] == row["training image"] for row in rows) >= 108
    save("train.npz", training, slice(800, 1_400))
    assert main([*command, "--chance", "5%"]) == 0, "as many as by chance"
    said = capsys.readouterr().out
    assert "test images have a near-duplicate among 600 training images" in said
    assert "no more than by chance (p = " in said
    assert "  image " in said, "there are some"
    one = training.pixels[800:1_400].clone()
    one[5], one[6:9] = test.pixels[3], 0
    save("train.npz", replace(training.take(torch.arange(800, 1_400)), pixels=one), slice(None))
    assert main(command) == 1, "a plain copy is no chance"
    said = capsys.readouterr().out
    assert "plain copies: 1\n" in said
    assert "left out, of one color: 0 test and 3 training images" in said


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ("npz:few.npz", "--train npz:few.npz: both sets need more than 8 images"),
        ("npz:wide.npz", "has other shapes than"),
        ("npz:blank.npz", "left out, of one color: 0 test and 20 training images"),
        ("nosuch:x", "--train nosuch:x: "),
    ],
)
def test_what_cannot_be_compared_is_refused(sets, monkeypatch, tmp_path, train, said):
    monkeypatch.chdir(tmp_path)
    test, _ = sets
    save("test.npz", test, slice(0, 20))
    save("few.npz", test, slice(0, 3))
    save("blank.npz", replace(test, pixels=test.pixels * 0), slice(0, 20))
    save("wide.npz", replace(test, pixels=test.pixels.repeat(1, 1, 1, 2)), slice(0, 20))
    with redirect_stderr(io.StringIO()) as printed:
        assert main(["leakage", "--data", "npz:test.npz", "--train", train]) == 2
    assert said in printed.getvalue()


def test_images_too_small_for_the_rim_are_refused(sets, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    for side, status in ((7, 2), (8, 1)):
        save(
            "same.npz",
            replace(sets[0], pixels=sets[0].pixels[:, :, 10 : 10 + side, 10 : 10 + side]),
            slice(0, 20),
        )
        assert main(["leakage", "--data", "npz:same.npz", "--train", "npz:same.npz"]) == status
    assert "the images are 1x7x7, expected 8 pixels or more" in capsys.readouterr().err
