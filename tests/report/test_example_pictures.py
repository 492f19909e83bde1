"""Pictures of one image: their columns, what stands below each, their words, and strips as files."""

import base64
import html
import re

import cv2
import numpy as np
import pytest

from harness.measures.failures import Answer
from harness.report.figures import as_png
from harness.report.pictures import SIZE, as_html, caption, columns_of, picture, source_of, strip, wrapped
from harness.run.examples import Example, ModelView

CLASSES = ("Shirt", "Coat", "Bag")
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


def decoded(source: str) -> np.ndarray:
    content = base64.b64decode(source.removeprefix("data:image/webp;base64,"))
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)


# Columns.


def test_an_image_as_it_is_stands_left_of_the_maps_of_both_models():
    left, middle, right = columns_of(case(original=plain(100), seen=plain(100)))
    assert (left.pixels == 100).all()
    assert [each.title for each in (left, middle, right)] == ["image 7", "baseline", "candidate"]
    assert np.ptp(middle.pixels) > 50
    assert np.ptp(right.pixels) > 50


def test_a_changed_image_stands_beside_its_original():
    first, seen, *maps = columns_of(moved(original=plain(0), seen=plain(200)))
    assert (first.pixels == 0).all()
    assert (seen.pixels == 200).all(), "as it was seen, without a map"
    assert len(maps) == 2
    assert [line.text for line in first.lines] == ["true: Shirt", "candidate: ✓ Shirt 93%"]
    assert [line.text for line in seen.lines] == ["rotated by 5° clockwise"]


def test_an_image_that_a_pose_leaves_alone_stands_there_once():
    shown = moved(original=plain(7), seen=plain(7))
    assert len(columns_of(shown)) == 3
    assert "rotated by 5° clockwise, which does not change it" in caption(shown)


def test_without_another_model_its_column_is_left_out():
    assert [each.title for each in columns_of(case(other=None))] == ["image 7", "candidate"]
    assert "baseline" not in as_html(case(other=None))


def test_a_unanimous_panel_stands_in_the_other_models_place():
    shown = case(reference=(20, view(0.98, 0.01, 0.01).answer), candidate=view(0.1, 0.9, 0))
    _, panel, candidate = columns_of(shown)
    assert (panel.title, panel.pixels) == ("20 reference models", None)
    assert panel.lines[0] == ("✓ Shirt", "right", 0.98)
    assert candidate.title == "candidate"
    assert "All 20 reference models predict it correctly, 98% mean confidence." in caption(shown)


def test_colors_are_kept_in_their_order():
    red = np.zeros((28, 28, 3), np.uint8)
    red[..., 0] = 255
    (source, *_) = re.findall(r'src="([^"]*)"', as_html(case(original=red, seen=red)))
    assert decoded(source)[14, 14].tolist() == [255, 0, 0]


# Classes.


def lines_of(*shares: float, **facts) -> list[tuple[str, str, str]]:
    *_, own = columns_of(case(candidate=view(*shares), **facts))
    return [(line.text, line.kind, line.percent) for line in own.lines]


def test_the_leading_classes_come_first_each_with_its_share():
    assert lines_of(0.3, 0.5, 0.2) == [("✗ Coat", "wrong", "50%"), ("Shirt", "right", "30%"), ("Bag", "", "20%")]
    assert lines_of(0.998, 0.002, 0.0) == [("✓ Shirt", "right", "100%"), ("Coat", "", "<1%"), ("Bag", "", "0%")]
    assert 'class="line wrong" style="--share: 50.0%">✗ Coat<span>50%</span>' in as_html(
        case(candidate=view(0.3, 0.5, 0.2))
    )


def test_of_many_classes_the_three_leading_ones_and_the_true_one_are_shown():
    classes = tuple(f"class {number:02}" for number in range(100))
    shares = np.full(100, 1e-4)
    shares[40:52] = np.arange(1, 13) / 100
    shown = case(classes=classes, true="class 05", candidate=view(*shares, classes=classes), other=None)
    assert [line.text for line in columns_of(shown)[-1].lines] == ["✗ class 51", "class 50", "class 49", "class 05"]


# Attention.


def test_attention_lights_up_where_the_model_looks():
    looked = np.zeros((28, 28), np.float32)
    looked[:14, :14] = 3.0
    image = columns_of(case(seen=plain(100), candidate=view(0.1, 0.9, 0.0, attention=looked)))[-1].pixels
    yellow, purple = np.array([253, 231, 37]), np.array([68, 1, 84])
    assert image.shape == (SIZE, SIZE, 3)
    assert np.abs(image[20, 20] - (0.8 * yellow + 0.2 * 100)).max() <= 1
    assert np.abs(image[150, 150] - (0.2 * purple + 0.8 * 100)).max() <= 1


@pytest.mark.parametrize("factor", [1e-6, 7.0])
def test_maps_are_scaled_to_their_own_maximum_for_display(factor):
    looked = np.random.default_rng(0).random((28, 28), dtype=np.float32)
    one, other = (
        columns_of(case(candidate=view(0.1, 0.9, 0.0, attention=each)))[-1].pixels for each in (looked, looked * factor)
    )
    assert np.abs(one.astype(int) - other).max() <= 2
    assert "scaled to its own maximum" in caption(case())


def test_a_map_of_zeros_is_shown_as_no_map_not_as_a_scaled_one():
    nowhere = case(candidate=view(0.1, 0.9, 0.0, attention=np.zeros((28, 28), np.float32)))
    own = columns_of(nowhere)[-1]
    assert own.pixels is None
    assert own.lines[0].text == "looks nowhere"


def test_a_model_without_a_layer_has_no_image_and_says_so():
    shown = case(candidate=view(0.1, 0.9, 0.0, attention=None), other=None)
    assert columns_of(shown)[-1].pixels is None
    assert "no layer for a Grad-CAM map" in caption(shown)


@pytest.mark.parametrize(
    ("at", "words"),
    [((0, 0), "upper left"), ((14, 14), "middle center"), ((27, 27), "lower right"), ((9, 10), "upper center")],
    ids=str,
)
def test_words_say_where_the_model_looks(at, words):
    looked = np.zeros((28, 28), np.float32)
    looked[at] = 0.1
    own = columns_of(case(candidate=view(0.1, 0.9, 0.0, attention=looked)))[-1]
    assert own.words == f"candidate looks most at the {words}"


# As markup and as files.


def test_a_picture_is_described_in_words_and_escaped():
    classes = ("Shirt", '"><script>', "Bag")
    shown = case(
        true='"><script>',
        classes=classes,
        seen=plain(1),
        pose="rotated by 5° clockwise",
        candidate=view(0.93, 0.05, 0.02, classes=classes),
        other=None,
    )
    element = as_html(shown)
    assert "<script" not in element
    first, seen, own = (html.unescape(alt) for alt in re.findall(r'alt="([^"]*)"', element))
    assert first == 'image 7, "><script>'
    assert seen == "image 7, rotated by 5° clockwise"
    assert own.startswith("candidate looks most at the ")
    assert 'Image 7, "><script>, rotated by 5° clockwise.' in html.unescape(element)


@pytest.mark.parametrize("channels", [1, 3], ids=["gray", "color"])
@pytest.mark.parametrize("size", [(8, 8), (28, 28), (224, 224), (20, 40)], ids=str)
def test_small_images_are_exact_and_large_ones_keep_their_shape(channels, size):
    shown = case(channels=channels, size=size)
    found = decoded(columns_of(shown)[0].source)
    if max(size) <= 64:
        assert (found == shown.original).all()
    else:
        assert found.shape == (SIZE, SIZE, 3)
    assert len(as_html(shown)) < 60_000, "even of noise"
    assert source_of(None) == ""


def test_a_strip_has_its_images_side_by_side():
    tiles = [(plain(100), "image 7", "true: Shirt"), (plain(50), "rotated by 10°", "✗ Coat 51%")]
    content = as_png(strip(tiles))
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
    middle = image[image.shape[0] // 2]
    assert {50, 100} <= set(middle.tolist())
    assert image.shape[1] == 380
    assert len(picture(moved()).axes) == 4


def test_long_text_is_broken_between_words():
    words = "rotated by 10° counter-clockwise, shifted 2 px right and 2 px down"
    lines = wrapped(words).split("\n")
    assert " ".join(lines) == words
    assert 3 <= len(lines) <= 5
    assert wrapped("w" * 80).replace("\n", "") == "w" * 80, "a long word is broken within"
    assert wrapped("") == ""
