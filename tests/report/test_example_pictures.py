"""Pictures: exact positions, the text when there is nothing to show, and alternative text."""

import base64
import html
import re

import cv2
import numpy as np
import pytest

from harness.measures.failures import Answer
from harness.report.example_pictures import (
    GAP,
    ROW,
    SIZE,
    TEXT_HEIGHT,
    as_html,
    as_png,
    caption,
    in_words,
    picture,
    strip,
    text_line,
    wrapped,
)
from harness.run.examples import Example, ModelView

CLASSES = ("Shirt", "Coat", "Bag")
BLUE, VERMILION, GREY, WHITE = [0, 114, 178], [213, 94, 0], [140, 140, 140], [255, 255, 255]
MIDDLE, RIGHT = SIZE + GAP, 2 * (SIZE + GAP)
"""Left ends of the second and third column."""
BARS = TEXT_HEIGHT + SIZE
"""First row of the classes of a model, below its name and its map."""
LOOKED = np.random.default_rng(9).random((28, 28), dtype=np.float32)


def view(*shares: float, attention=LOOKED, classes=CLASSES) -> ModelView:
    """Answer of a model with this confidence in each class."""
    taken = int(np.argmax(shares))
    return ModelView(Answer(7, "Shirt", classes[taken], shares[taken], tuple(shares)), attention)


def case(*, channels: int = 1, size=(28, 28), seed: int = 0, **facts) -> Example:
    rng = np.random.default_rng(seed)
    original = rng.integers(0, 256, (*size, channels)).astype(np.uint8)
    known = {
        "index": 7,
        "true": "Shirt",
        "classes": CLASSES,
        "candidate": view(0.05, 0.9, 0.05, attention=rng.random(size, dtype=np.float32)),
        "other": view(0.5, 0.3, 0.2, attention=rng.random(size, dtype=np.float32)),
    }
    return Example(**{"original": original, "seen": original, **known, **facts})


def moved(**facts) -> Example:
    """A case of a rotated image, with the answer to the clean one."""
    seen = np.random.default_rng(1).integers(0, 256, (28, 28, 1)).astype(np.uint8)
    return case(**{"seen": seen, "pose": "rotated by 5° clockwise", "at_rest": view(0.93, 0.05, 0.02).answer, **facts})


def plain(level: int, *, size=(28, 28)) -> np.ndarray:
    return np.full((*size, 1), level, np.uint8)


def decoded(element: str) -> np.ndarray:
    """Decode the picture of a `figure` as a reader would."""
    data = re.search(r'<img alt="[^"<>]*" [^<>]* src="data:image/webp;base64,([A-Za-z0-9+/=]+)">', element)
    assert data is not None, element[:200]
    return cv2.imdecode(np.frombuffer(base64.b64decode(data[1]), np.uint8), cv2.IMREAD_COLOR_RGB)


def place(image: np.ndarray, left: int) -> np.ndarray:
    """Return the square in which the image stands."""
    return image[TEXT_HEIGHT : TEXT_HEIGHT + SIZE, left : left + SIZE]


# Layout.


@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "colour"])
@pytest.mark.parametrize("size", [(8, 8), (28, 28), (224, 224), (20, 40)], ids=str)
def test_a_picture_has_the_same_size_for_images_of_any(channels, size):
    image = picture(case(channels=channels, size=size))
    assert image.dtype == np.uint8
    assert image.shape == picture(case()).shape == (BARS + 3 * ROW, 3 * SIZE + 2 * GAP, 3)


def columns(image: np.ndarray) -> list[np.ndarray]:
    """Return the squares of a picture in its reading order."""
    count = (image.shape[1] + GAP) // (SIZE + GAP)
    places = [place(image, at * (SIZE + GAP)) for at in range(count)]
    if count == 2 and len(image) > 2 * BARS:
        below = image[len(image) - BARS - 3 * ROW - GAP :]
        places += [place(below, at * (SIZE + GAP)) for at in range(count)]
    return places


def test_an_image_as_it_is_stands_left_of_the_maps_of_both_models():
    left, middle, right = columns(picture(case(original=plain(100), seen=plain(100))))
    assert (left == 100).all()
    assert np.ptp(middle) > 50
    assert np.ptp(right) > 50
    image = picture(case())
    for gap in (SIZE, MIDDLE + SIZE):
        assert (image[:, gap : gap + GAP] == 255).all()


def test_a_changed_image_stands_beside_its_original_and_above_both_maps():
    shown = columns(picture(moved(original=plain(0), seen=plain(200))))
    assert len(shown) == 4
    assert (shown[0] == 0).all()
    assert (shown[1] == 200).all(), "as it was seen, without a map"
    assert all(np.ptp(each) > 50 for each in shown[2:])


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"other": None},
        {"candidate": view(0.1, 0.9, 0.0, attention=None), "other": view(0.9, 0.1, 0, attention=None)},
        {"reference": (20, view(0.98, 0.01, 0.01).answer)},
        {"seen": plain(7), "original": plain(7)},
    ],
    ids=["both", "alone", "no-layer", "reference", "nothing-changed"],
)
@pytest.mark.parametrize("make", [case, moved], ids=["as-it-is", "moved"])
def test_no_two_columns_are_the_same(make, facts):
    image = picture(make(**facts))
    squares = [each.tobytes() for each in columns(image) if len(each) == SIZE]
    assert len(set(squares)) == len(squares)


def test_an_image_that_a_pose_leaves_alone_stands_there_once():
    shown = moved(original=plain(7), seen=plain(7))
    assert picture(shown).shape[1] == 3 * SIZE + 2 * GAP
    assert "rotated by 5° clockwise, which does not change it" in caption(shown)


def test_the_answer_to_the_original_can_be_read_below_it():
    one, other = (picture(moved(at_rest=view(*shares).answer)) for shares in ((0.93, 0.05, 0.02), (0.1, 0.9, 0.0)))
    below = slice(TEXT_HEIGHT + SIZE, 2 * TEXT_HEIGHT + SIZE + 3 * TEXT_HEIGHT)
    assert not np.array_equal(one[below, :SIZE], other[below, :SIZE])
    assert (one[below, :SIZE] == BLUE).all(axis=2).any()
    assert (other[below, :SIZE] == [176, 68, 0]).all(axis=2).any(), "a wrong answer"
    assert in_words(moved()).startswith(
        "image 7, true class Shirt, rotated by 5° clockwise; candidate, clean: Shirt 93%; "
    )


def test_small_images_are_enlarged_without_blur():
    original = np.arange(28 * 28, dtype=np.uint16).reshape(28, 28, 1).astype(np.uint8)
    enlarged = place(picture(case(original=original)), 0)
    assert (enlarged == original.repeat(6, axis=0).repeat(6, axis=1)).all()


def test_images_keep_their_shape():
    wide = place(picture(case(original=plain(0, size=(14, 28)))), 0)
    quarter = SIZE // 4
    assert (wide[quarter:-quarter] == 0).all()
    assert (wide[:quarter] == 225).all()
    assert (wide[-quarter:] == 225).all()


def test_colours_are_kept_in_their_order():
    red = np.zeros((28, 28, 3), np.uint8)
    red[..., 0] = 255
    shown = case(original=red, seen=red)
    assert picture(shown)[80, 80].tolist() == [255, 0, 0]
    red_value, green, blue = decoded(as_html(shown))[80, 80].tolist()
    assert red_value > 200
    assert max(green, blue) < 60


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"true": "Shirt"}, {"true": "Coat"}),
        ({"candidate": view(0.05, 0.9, 0.05)}, {"candidate": view(0.05, 0.05, 0.9)}),
        ({"candidate": view(0.1, 0.9, 0)}, {"candidate": view(0.2, 0.8, 0)}),
        ({"other": view(1, 0, 0)}, {"other": None}),
        ({"against": "baseline"}, {"against": "incumbent"}),
        ({"index": 7}, {"index": 8}),
    ],
    ids=["true-class", "answer", "confidence", "no-other", "other-name", "index"],
)
def test_the_picture_tells_cases_apart(one, other):
    assert not np.array_equal(picture(case(**one)), picture(case(**other)))


def test_without_another_model_its_column_is_left_out():
    assert picture(case(other=None)).shape[1] == 2 * SIZE + GAP
    assert picture(moved(other=None)).shape[1] == 3 * SIZE + 2 * GAP
    assert "baseline" not in in_words(case(other=None))


# Classes.


def bar(image: np.ndarray, left: int, row: int) -> list[list[int]]:
    """Return the colors along the middle of a bar, each once, in their order."""
    line = image[BARS + row * ROW + TEXT_HEIGHT + 1, left : left + SIZE].tolist()
    return [colour for at, colour in enumerate(line) if at == 0 or colour != line[at - 1]]


def test_the_leading_classes_come_first_each_in_its_color():
    image = picture(case(candidate=view(0.3, 0.5, 0.2), other=view(1.0, 0.0, 0.0)))
    assert [bar(image, RIGHT, row)[0] for row in range(3)] == [VERMILION, BLUE, GREY]
    assert bar(image, MIDDLE, 0) == [BLUE], "sure: the whole length"
    assert bar(image, MIDDLE, 1) == [GREY, WHITE]


def test_a_bar_is_as_long_as_the_class_is_likely():
    image = picture(case(candidate=view(0.25, 0.75, 0.0)))
    for row, share, colour in ((0, 0.75, VERMILION), (1, 0.25, BLUE), (2, 0.0, GREY)):
        line = image[BARS + row * ROW + TEXT_HEIGHT + 1, RIGHT : RIGHT + SIZE]
        assert (line == colour).all(axis=1).sum() == max(round(SIZE * share), 1)


def test_the_longest_percentage_fits_into_its_place():
    assert (text_line("100%", 200)[:, :50] == text_line("100%", 50)).all()
    assert (text_line("100%", 200)[:, 50:] == 255).all()


def test_of_many_classes_the_three_leading_ones_and_the_true_one_are_shown():
    classes = tuple(f"class {number:02}" for number in range(100))
    shares = np.full(100, 1e-4)
    shares[40:52] = np.arange(1, 13) / 100
    candidate = view(*shares, classes=classes)
    assert picture(case(classes=classes, true="class 05", candidate=candidate, other=None)).shape[0] == BARS + 4 * ROW
    assert picture(case(classes=classes, true="class 50", candidate=candidate, other=None)).shape[0] == BARS + 3 * ROW
    image = picture(case(classes=classes, true="class 05", candidate=candidate, other=None))
    assert [bar(image, MIDDLE, row)[0] for row in range(4)] == [VERMILION, GREY, GREY, BLUE]


# Attention.


def test_attention_lights_up_where_the_model_looks():
    looked = np.zeros((28, 28), np.float32)
    looked[:14, :14] = 3.0
    image = place(picture(case(seen=plain(100), candidate=view(0.1, 0.9, 0.0, attention=looked))), RIGHT)
    yellow, purple = np.array([253, 231, 37]), np.array([68, 1, 84])
    assert np.abs(image[20, 20] - (0.8 * yellow + 0.2 * 100)).max() <= 1
    assert np.abs(image[150, 150] - (0.2 * purple + 0.8 * 100)).max() <= 1


@pytest.mark.parametrize("factor", [1e-6, 7.0])
def test_maps_are_scaled_to_their_own_maximum_for_display(factor):
    looked = np.random.default_rng(0).random((28, 28), dtype=np.float32)
    one = picture(case(candidate=view(0.1, 0.9, 0.0, attention=looked)))
    assert np.abs(one.astype(int) - picture(case(candidate=view(0.1, 0.9, 0.0, attention=looked * factor)))).max() <= 2
    assert "scaled to its own maximum" in caption(case())


def test_a_map_of_zeros_is_shown_as_no_map_not_as_a_scaled_one():
    nowhere = np.zeros((28, 28), np.float32)
    shown = case(original=plain(100), seen=plain(100), candidate=view(0.1, 0.9, 0.0, attention=nowhere))
    image = place(picture(shown), RIGHT)
    assert (image[:40] == 225).all(), "no image, which stands there already"
    assert image.min() < 100, "a line that says so"
    assert "candidate: Coat 90% (then Shirt 10%), no attention anywhere" in in_words(shown)


def test_a_model_without_a_layer_has_no_image_and_says_so():
    shown = case(original=plain(100), candidate=view(0.1, 0.9, 0.0, attention=None), other=None)
    image = picture(shown)
    assert image.shape[1] == 2 * SIZE + GAP
    under_its_name = image[2 * TEXT_HEIGHT + 1, MIDDLE:]
    assert (under_its_name[:100] == VERMILION).all(), "its classes, at once"
    assert "no layer for a Grad-CAM map" in caption(shown)
    assert in_words(shown).endswith("attention not available")


# Text.


@pytest.mark.parametrize("name", ["T-shirt/top", "Mütze", "帽子", "x" * 80], ids=["ascii", "latin", "chinese", "long"])
def test_any_class_name_can_be_shown(name):
    classes = (name, "Coat", "Bag")
    shown = case(true=name, classes=classes, candidate=view(0.9, 0.1, 0.0, classes=classes))
    lines = min(len(wrapped(f"✓ {name}", SIZE - 50)), 3)
    assert len(picture(shown)) <= len(picture(case())) + max(lines - 1, 0) * TEXT_HEIGHT * 2
    assert f"true class {name}" in as_html(shown)


@pytest.mark.parametrize("name", ["Travel & luggage", "Schutzbrillenetui", "Circle & dot"])
def test_no_class_name_is_clipped(name, monkeypatch):
    written = []
    drawn = text_line
    how = "harness.report.example_pictures.text_line"
    monkeypatch.setattr(how, lambda text, *where, **look: written.append(text) or drawn(text, *where, **look))
    classes = (name, "Coat", "Bag")
    picture(case(true=name, classes=classes, candidate=view(0.9, 0.1, 0.0, classes=classes)))
    assert f"✓{name}".replace(" ", "") in "".join(written).replace(" ", "")


def test_letters_other_than_english_ones_can_be_told_apart():
    assert not np.array_equal(text_line("Mütze"), text_line("Mutze"))


@pytest.mark.parametrize(("align", "inked"), [("left", 0), ("right", 150), ("center", 75)])
def test_text_stays_in_its_box(align, inked):
    line = text_line("ab", 180, align=align, color=(0, 0, 255))
    columns = np.flatnonzero((line < 255).any(axis=(0, 2)))
    assert inked <= columns.min() <= inked + 15
    assert (line[..., 2] == 255).all(), "blue letters on white"


def test_text_too_long_for_its_box_is_cut():
    assert text_line("w" * 80, 100).shape == (TEXT_HEIGHT, 100, 3)
    assert (text_line("w" * 80, 100)[:, 60:] < 255).any()


@pytest.mark.parametrize("name", ["✗ T-shirt/top", "✗ Ankle boot", "true: Ankle boot", "counter-clockwise,"])
def test_the_longest_words_of_the_shipped_data_fit_into_their_place(name):
    width = SIZE - 50 if name.startswith("✗") else SIZE
    bold = name.startswith("true")
    whole = text_line(name, 300, bold=bold)
    assert (text_line(name, width, bold=bold) == whole[:, :width]).all()


def test_long_text_is_broken_between_words():
    lines = wrapped("rotated by 10° counter-clockwise, shifted 2 px right and 2 px down", SIZE)
    assert " ".join(lines) == "rotated by 10° counter-clockwise, shifted 2 px right and 2 px down"
    assert 3 <= len(lines) <= 5
    assert "".join(wrapped("w" * 80, SIZE)) == "w" * 80
    assert len(wrapped("w" * 80, SIZE)) > 3, "a long word is broken within"
    assert wrapped("", SIZE) == [""]


@pytest.mark.parametrize(("shares", "colour"), [((0.9, 0.1, 0.0), (0, 114, 178)), ((0.1, 0.9, 0.0), (176, 68, 0))])
def test_the_colour_of_an_answer_can_be_read_on_white(shares, colour):
    line = picture(case(candidate=view(*shares)))[BARS : BARS + TEXT_HEIGHT, RIGHT:]
    assert (line == colour).all(axis=2).any()
    linear = [((v / 255 + 0.055) / 1.055) ** 2.4 if v > 10 else v / 255 / 12.92 for v in colour]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    assert 1.05 / (luminance + 0.05) >= 4.5, "WCAG 2.1, success criterion 1.4.3"


# Encoded.


@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "colour"])
def test_a_picture_survives_its_encoding(channels):
    shown = case(channels=channels)
    found = decoded(as_html(shown))
    assert found.shape == picture(shown).shape
    assert np.abs(found.astype(int) - picture(shown)).mean() < 30


@pytest.mark.parametrize("size", [28, 224], ids="{}-px".format)
@pytest.mark.parametrize("channels", [1, 3], ids=["grey-noise", "colour-noise"])
def test_a_picture_takes_at_most_20_kb(channels, size):
    element = as_html(case(channels=channels, size=(size, size)))
    data = re.search(r"base64,([A-Za-z0-9+/=]+)", element)
    assert len(base64.b64decode(data[1])) <= 20_000


def test_png_keeps_every_pixel():
    image = strip([(case().original, "one", "two"), (case().seen, "three", "")])
    decoded = cv2.imdecode(np.frombuffer(as_png(image), np.uint8), cv2.IMREAD_COLOR_RGB)
    assert (decoded == image).all()
    assert image.shape == (BARS + TEXT_HEIGHT, 2 * SIZE + GAP, 3)


def test_a_title_takes_as_many_lines_as_it_needs():
    words = "rotated by 10° counter-clockwise, shifted 2 px right"
    image = strip([(plain(100), "image 7", "true: Shirt"), (plain(50), words, "✗ Coat 51%")])
    above = len(wrapped(words, SIZE)) * TEXT_HEIGHT
    assert above >= 3 * TEXT_HEIGHT
    assert image.shape == (above + SIZE + TEXT_HEIGHT, 2 * SIZE + GAP, 3)
    assert (image[above : above + SIZE, :SIZE] == 100).all()


def test_a_unanimous_panel_stands_in_the_other_models_place():
    shown = case(reference=(20, view(0.98, 0.01, 0.01).answer), candidate=view(0.1, 0.9, 0))
    image, other = picture(shown), picture(case(candidate=view(0.1, 0.9, 0)))
    title = len(wrapped("20 reference models", SIZE, bold=True)) * TEXT_HEIGHT
    assert (image[title + 1 + TEXT_HEIGHT, MIDDLE : MIDDLE + 100] == BLUE).all(), "their answer, without an image"
    assert (image[:, RIGHT:] == other[:, RIGHT:]).all(), "the candidate's column is that of any case"
    assert "All 20 reference models predict it correctly, 98% mean confidence." in caption(shown)
    assert "; 20 reference models: Shirt 98%; candidate: " in in_words(shown)
    assert "baseline" not in in_words(shown)


def test_what_comes_then_is_never_the_answer_itself():
    said = in_words(case(candidate=view(0.45, 0.45, 0.1), other=None))
    assert "candidate: Shirt 45% (then Coat 45%, Bag 10%)" in said


def test_a_picture_is_described_in_words_and_escaped():
    upper_right = np.zeros((28, 28), np.float32)
    upper_right[2, 25] = 1
    classes = ("Shirt", '"><script>', "Bag")
    shown = case(
        true='"><script>',
        classes=classes,
        seen=plain(1),
        pose="rotated by 5° clockwise",
        candidate=view(0.93, 0.05, 0.02, attention=upper_right, classes=classes),
        other=None,
    )
    element = as_html(shown)
    assert "<script" not in element
    alt = html.unescape(element.split('alt="')[1].split('" width=')[0])
    assert alt == (
        'image 7, true class "><script>, rotated by 5° clockwise; '
        'candidate: Shirt 93% (then "><script> 5%, Bag 2%), looks most at the upper right'
    )
    assert 'Image 7, "><script>, rotated by 5° clockwise.' in html.unescape(element)


@pytest.mark.parametrize(
    ("at", "words"),
    [((0, 0), "upper left"), ((14, 14), "middle center"), ((27, 27), "lower right"), ((9, 10), "upper center")],
    ids=str,
)
def test_words_say_where_the_model_looks(at, words):
    looked = np.zeros((28, 28), np.float32)
    looked[at] = 0.1
    assert in_words(case(candidate=view(0.1, 0.9, 0.0, attention=looked))).endswith(f"looks most at the {words}")
