"""Marks: exact pixels on gray and colored images, equal shares, and a distinct library."""

import numpy as np
import pytest
import torch

from harness.perturb.marks import MARKS, SMALLEST_SIDE, Mark

GRAY = torch.full((2, 1, 28, 28), 0.5)
COLOR = torch.full((1, 3, 28, 28), 0.5)


def changed(mark, images=GRAY):
    """Return where a mark changes the first image, (H, W) bool."""
    return (mark(images) != images)[0].any(dim=0).numpy()


def test_the_library_has_forty_marks_that_differ():
    assert len({repr(mark) for mark in MARKS}) == len(MARKS) == 40
    assert len({mark.in_words() for mark in MARKS}) == 40
    pictures = {
        mark(torch.rand(1, 3, 28, 28, generator=torch.Generator().manual_seed(0))).numpy().tobytes()
        for mark in MARKS
    }
    assert len(pictures) == 40


@pytest.mark.parametrize("mark", MARKS, ids=Mark.in_words)
def test_pixels_stay_in_range_and_the_input_as_it_was(mark):
    images = torch.rand(3, 3, 31, 40, generator=torch.Generator().manual_seed(1))
    before = images.clone()
    marked = mark(images)
    assert marked.shape == images.shape
    assert torch.equal(images, before)
    assert 0 <= float(marked.min()) <= float(marked.max()) <= 1


@pytest.mark.parametrize(
    ("place", "rows", "columns"),
    [
        ("upper", slice(0, 2), slice(None)),
        ("lower", slice(26, 28), slice(None)),
        ("left", slice(None), slice(0, 2)),
        ("right", slice(None), slice(26, 28)),
    ],
)
def test_a_bar_is_two_cells_wide(place, rows, columns):
    expected = torch.full((28, 28), 0.5)
    expected[rows, columns] = 1.0
    assert torch.equal(Mark("bar", place, "white")(GRAY)[1, 0], expected)


def test_a_frame_is_the_bars_of_all_edges():
    frame = changed(Mark("frame", "all sides", "black"))
    assert frame.sum() == 28 * 28 - 24 * 24
    assert not frame[2:-2, 2:-2].any()


def test_a_square_fills_its_corner_and_a_text_stands_off_it():
    square = changed(Mark("square", "lower right", "white"))
    assert np.argwhere(square).tolist() == [
        [row, column] for row in (25, 26, 27) for column in (25, 26, 27)
    ]
    text = np.argwhere(changed(Mark("text", "upper left", "white")))
    assert (text.min(axis=0).tolist(), text.max(axis=0).tolist()) == ([1, 1], [5, 7])


def test_a_ruler_has_ticks_along_its_edge():
    lower, left = (changed(Mark("ruler", place, "white")) for place in ("lower", "left"))
    assert lower.sum() == 3 * 10
    assert np.array_equal(lower[25:].T, left[:, :3])


def test_watermarks_and_tints_are_transparent():
    watermark = Mark("watermark", "center", "white")(GRAY)
    assert set(watermark.unique().tolist()) == {0.5, 0.625}
    assert Mark("tint", "everywhere", "black")(GRAY).unique().tolist() == pytest.approx([0.425])


def test_a_color_is_its_mean_on_a_gray_image():
    red = Mark("tint", "everywhere", "red")
    assert red(COLOR)[0, :, 0, 0].tolist() == pytest.approx([0.575, 0.425, 0.425])
    assert float(red(GRAY)[0, 0, 0, 0]) == pytest.approx(0.5 * 0.85 + 0.15 / 3)


@pytest.mark.parametrize("mark", MARKS, ids=Mark.in_words)
def test_a_larger_image_has_a_mark_of_the_same_share(mark):
    large = torch.full((1, 3, 56, 84), 0.5)
    assert np.array_equal(
        changed(mark, large), changed(mark, COLOR).repeat(2, axis=0).repeat(3, axis=1)
    )


@pytest.mark.parametrize("mark", MARKS, ids=Mark.in_words)
def test_a_mark_has_a_pixel_from_the_smallest_side_on(mark):
    for height in range(SMALLEST_SIDE, 60):
        for width in (SMALLEST_SIDE, 28, 59):
            image = torch.full((1, 1, height, width), 0.3)
            assert changed(mark, image).any(), f"{width} x {height}"


def test_below_the_smallest_side_a_mark_may_have_none():
    image = torch.full((1, 1, SMALLEST_SIDE - 1, SMALLEST_SIDE - 1), 0.3)
    assert not changed(Mark("text", "upper left", "white"), image).any()
