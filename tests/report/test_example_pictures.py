"""Pictures of images.

Their columns and words, galleries, strips as files, and how many a page takes.
"""

import base64
import html
import re
from dataclasses import replace

import cv2
import numpy as np
import pytest

from harness.base.records import as_json
from harness.checks import Check, Threshold
from harness.measures import Measurement
from harness.measures.accuracy import PAIR_FAILURES
from harness.measures.failures import Answer
from harness.perturb import IDENTITY, Pose
from harness.plugin import pictures
from harness.plugin.pictures import PictureBook
from harness.report.figures import as_png
from harness.report.page import render
from harness.report.pictures import (
    SIZE,
    case_of,
    gallery,
    sheet,
    source_of,
    strip,
    views_of,
    wrapped,
)
from harness.run.examples import Example, ModelView, Tile
from harness.run.shown import Case, ExamplePictures, Face

CLASSES = ("Shirt", "Coat", "Bag")
LOOKED = np.random.default_rng(9).random((28, 28), dtype=np.float32)


def view(*shares: float, attention=LOOKED, classes=CLASSES) -> ModelView:
    """Answer of a model with this confidence in each class."""
    taken = int(np.argmax(shares))
    return ModelView(Answer(7, "Shirt", classes[taken], shares[taken], tuple(shares)), attention)


def case(*, channels: int = 1, size=(28, 28), seed: int = 0, **facts) -> Example:
    rng = np.random.default_rng(seed)
    original = rng.integers(0, 256, (*size, channels)).astype(np.uint8)
    candidate = view(0.05, 0.9, 0.05, attention=rng.random(size, dtype=np.float32))
    other = view(0.5, 0.3, 0.2, attention=rng.random(size, dtype=np.float32))
    known = {
        "index": 7,
        "true": "Shirt",
        "classes": CLASSES,
        "candidate": candidate,
        "other": other,
    }
    return Example(**{"original": original, "seen": original, **known, **facts})


def moved(**facts) -> Example:
    """A case of a rotated image, with the answer to the clean one."""
    at_rest = view(0.93, 0.05, 0.02).answer
    return case(
        **{"seen": plain(9), "pose": "rotated by 5° clockwise", "at_rest": at_rest, **facts}
    )


def own(**facts):
    """The last column, which is the candidate's."""
    return views_of(case(**facts))[-1]


def plain(level: int, *, size=(28, 28)) -> np.ndarray:
    return np.full((*size, 1), level, np.uint8)


def decoded(source: str) -> np.ndarray:
    content = base64.b64decode(source.removeprefix("data:image/webp;base64,"))
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)


def markup(example: Example) -> str:
    return str(render("picture", case=case_of(example)))


# Columns.


def test_an_image_stands_left_of_the_maps_of_both_models():
    left, middle, right = views_of(case(original=plain(100), seen=plain(100)))
    assert (left.pixels == 100).all()
    assert [each.title for each in (left, middle, right)] == ["image 7", "baseline", "candidate"]
    assert min(np.ptp(middle.pixels), np.ptp(right.pixels)) > 50
    first, seen, *maps = views_of(moved(original=plain(0), seen=plain(200)))
    assert (first.pixels == 0).all()
    assert (seen.pixels == 200).all(), "as it was seen, without a map"
    assert len(maps) == 2
    assert [line.text for line in first.lines] == ["true: Shirt", "candidate: ✓ Shirt 93%"]
    assert [line.text for line in seen.lines] == ["rotated by 5° clockwise"]
    unchanged = moved(original=plain(7), seen=plain(7))
    assert len(views_of(unchanged)) == 3
    assert "rotated by 5° clockwise, which does not change it" in case_of(unchanged).caption
    assert [each.title for each in views_of(case(other=None))] == ["image 7", "candidate"]


def test_a_unanimous_panel_stands_in_the_other_models_place():
    shown = case(reference=(20, view(0.98, 0.01, 0.01).answer), candidate=view(0.1, 0.9, 0))
    _, panel, candidate = views_of(shown)
    assert (panel.title, panel.pixels) == ("20 reference models", None)
    assert (panel.lines[0].text, panel.lines[0].kind, panel.lines[0].share) == (
        "✓ Shirt",
        "right",
        0.98,
    )
    assert candidate.title == "candidate"
    assert (
        "All 20 reference models predict it correctly, 98% mean confidence."
        in case_of(shown).caption
    )


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        (
            (0.3, 0.5, 0.2),
            [("✗ Coat", "wrong", "50%"), ("Shirt", "right", "30%"), ("Bag", "", "20%")],
        ),
        (
            (0.998, 0.002, 0.0),
            [("✓ Shirt", "right", "100%"), ("Coat", "", "<1%"), ("Bag", "", "0%")],
        ),
    ],
)
def test_the_leading_classes_come_first_each_with_its_share(shares, expected):
    assert [
        (line.text, line.kind, line.percent) for line in own(candidate=view(*shares)).lines
    ] == expected


def test_of_many_classes_the_three_leading_ones_and_the_true_one_are_shown():
    classes = tuple(f"class {number:02}" for number in range(100))
    shares = np.full(100, 1e-4)
    shares[40:52] = np.arange(1, 13) / 100
    found = own(
        classes=classes, true="class 05", candidate=view(*shares, classes=classes), other=None
    )
    assert [line.text for line in found.lines] == ["✗ class 51", "class 50", "class 49", "class 05"]


# Attention.


def looked_at(*places, level=3.0) -> np.ndarray:
    looked = np.zeros((28, 28), np.float32)
    for place in places:
        looked[place] = level
    return looked


def test_attention_lights_up_where_the_model_looks():
    seen = view(0.1, 0.9, 0.0, attention=looked_at((slice(14), slice(14))))
    image = own(seen=plain(100), candidate=seen).pixels
    yellow, purple = np.array([253, 231, 37]), np.array([68, 1, 84])
    assert image.shape == (SIZE, SIZE, 3)
    assert np.abs(image[20, 20] - (0.8 * yellow + 0.2 * 100)).max() <= 1
    assert np.abs(image[150, 150] - (0.2 * purple + 0.8 * 100)).max() <= 1


@pytest.mark.parametrize("factor", [1e-6, 7.0])
def test_maps_are_scaled_to_their_own_maximum_for_display(factor):
    one, other = (
        own(candidate=view(0.1, 0.9, 0.0, attention=each)).pixels
        for each in (LOOKED, LOOKED * factor)
    )
    assert np.abs(one.astype(int) - other).max() <= 2
    assert "scaled to its own maximum" in case_of(case()).caption


@pytest.mark.parametrize(
    ("attention", "line", "said"),
    [
        (looked_at(), "looks nowhere", "zero everywhere"),
        (None, "✗ Coat", "no layer for a Grad-CAM map"),
    ],
)
def test_a_map_of_zeros_and_none_are_no_image_and_say_so(attention, line, said):
    shown = case(candidate=view(0.1, 0.9, 0.0, attention=attention), other=None)
    found = views_of(shown)[-1]
    assert (found.pixels, found.lines[0].text) == (None, line)
    assert said in case_of(shown).caption


@pytest.mark.parametrize(
    ("at", "words"),
    [
        ((0, 0), "upper left"),
        ((14, 14), "middle center"),
        ((27, 27), "lower right"),
        ((9, 10), "upper center"),
    ],
    ids=str,
)
def test_words_say_where_the_model_looks(at, words):
    found = own(candidate=view(0.1, 0.9, 0.0, attention=looked_at(at, level=0.1)))
    assert found.words == f"candidate looks most at the {words}"


# As markup and as files.


def test_a_picture_is_described_in_words_and_escaped():
    classes = ("Shirt", '"><script>', "Bag")
    answer = view(0.93, 0.05, 0.02, classes=classes)
    element = markup(moved(true='"><script>', classes=classes, candidate=answer, other=None))
    assert "<script" not in element
    first, seen, last = (html.unescape(alt) for alt in re.findall(r'alt="([^"]*)"', element))
    assert (first, seen) == ('image 7, "><script>', "image 7, rotated by 5° clockwise")
    assert last.startswith("candidate looks most at the ")
    assert 'Image 7, "><script>, rotated by 5° clockwise.' in html.unescape(element)
    line = 'class="line wrong" style="--share: 50.0%">✗ Coat<span>50%</span>'
    assert line in markup(case(candidate=view(0.3, 0.5, 0.2)))


@pytest.mark.parametrize("channels", [1, 3], ids=["gray", "color"])
@pytest.mark.parametrize("size", [(8, 8), (28, 28), (224, 224), (20, 40)], ids=str)
def test_small_images_are_exact_and_large_ones_keep_their_shape(channels, size):
    shown = case(channels=channels, size=size)
    found = decoded(case_of(shown).columns[0].image)
    if max(size) <= 64:
        assert (found == shown.original).all()
    else:
        assert found.shape == (SIZE, SIZE, 3)
    assert len(markup(shown)) < 60_000, "even of noise"
    assert decoded(source_of(np.zeros((200, 400, 3), np.uint8))).shape == (48, 96, 3)
    assert source_of(None) == ""


def test_a_strip_has_its_images_side_by_side_under_text():
    tiles = [(plain(100), "image 7", "true: Shirt"), (plain(50), "rotated by 10°", "✗ Coat 51%")]
    image = cv2.imdecode(np.frombuffer(as_png(strip(tiles)), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert {50, 100} <= set(image[image.shape[0] // 2].tolist())
    assert image.shape[1] == 380
    words = "rotated by 10° counter-clockwise, shifted 2 px right and 2 px down"
    lines = wrapped(words).split("\n")
    assert " ".join(lines) == words
    assert 3 <= len(lines) <= 5
    assert wrapped("w" * 80).replace("\n", "") == "w" * 80, "a long word is broken within"
    assert wrapped("") == ""


# Galleries.


def tile(
    *,
    index: int = 7,
    true: str = "Shirt",
    new: bool | None = True,
    confidence: float | None = 0.934,
) -> Tile:
    pixels = np.random.default_rng(index).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    return Tile(pixels, Answer(index, true, "Coat", confidence, ()), new, "incumbent")


def test_each_tile_has_its_number_classes_confidence_and_whether_it_is_new():
    tiles = [tile(), tile(index=8, new=False), tile(index=9, new=None, true='"><script>')]
    title, faces = gallery(("Shirt", "Coat"), IDENTITY, tiles, 5)
    page = str(sheet("<b>", faces))
    assert title.endswith(
        "predicted as each other, clean images: 3 of 5, new ones first, the most confident first"
    )
    assert [face.about for face in faces] == [
        "93% · new · image 7",
        "93% · incumbent wrong too · image 8",
        "93% · image 9",
    ]
    chips = (
        '<span class="chip">Shirt</span> → <span class="chip wrong">Coat</span><br>93% · new · '
        "image 7"
    )
    assert chips in page
    assert "<script" not in page
    assert "<b>" not in page
    alts = [html.unescape(alt) for alt in re.findall(r'alt="([^"]*)"', page)]
    assert alts == [
        "image 7: Shirt predicted as Coat, confidence 93%; new",
        "image 8: Shirt predicted as Coat, confidence 93%; incumbent wrong too",
        'image 9: "><script> predicted as Coat, confidence 93%',
    ]
    assert (decoded(faces[0].image) == tiles[0].pixels).all()
    assert sheet("Shirts", []) == ""


@pytest.mark.parametrize(
    ("tiles", "count", "pose", "title"),
    [
        (
            [tile()],
            5,
            Pose(dx=2),
            "images shifted 2 px right: 1 of 5, new ones first, the most confident first",
        ),
        ([tile(new=None)] * 2, 2, IDENTITY, "clean images: 2 of 2, the most confident first"),
        ([tile(new=None, confidence=None)] * 2, 2, IDENTITY, "clean images: 2 of 2"),
    ],
    ids=["some", "all", "labels only"],
)
def test_the_title_says_how_many_there_are_and_in_which_order(tiles, count, pose, title):
    assert (
        gallery(("Shirt", "Coat"), pose, tiles, count)[0]
        == f"Shirt and Coat predicted as each other, {title}"
    )


# How many pictures a page takes.


def verdict(failures: int = 17):
    """A verdict on a count that may be 10: the more failures, the worse."""
    check = Check("pair", "pairs", "pair_failures", "at_most", hand=Threshold(10))
    return check.judge(Measurement(PAIR_FAILURES, failures, 100, (10.0, 27.0)))


def made(*sizes: int, gallery: int = 0, turn: int = 0):
    empty, none = len(as_json(Case((), ""))), len(as_json(Face("", "", "", "", "")))
    faces = (Face("", "", "", "", "g" * (gallery - none)),) if gallery else ()
    return {
        "turn": turn,
        "pictures": as_json(
            ExamplePictures(tuple(Case((), "c" * (size - empty)) for size in sizes), "", faces)
        ),
    }


@pytest.fixture
def pages(monkeypatch):
    """Pictures, galleries and omitted ones of a page of 1,000 bytes, in the order of tests."""
    monkeypatch.setattr(pictures, "MAX_BYTES", 1_000)

    def fill(*tests) -> list[tuple[int, int, int | None]]:
        book = PictureBook()
        for number, (verdict, shown) in enumerate(tests):
            book.take(replace(verdict, check=replace(verdict.check, id=f"pair-{number}")), shown)
        return [(len(each.cases), len(each.faces), each.omitted) for each in book.chosen().values()]

    return fill


def test_what_fits_is_shown_and_what_does_not_is_counted(pages):
    assert pages((verdict(), made(100, 110, 120, gallery=130))) == [(3, 1, 0)]
    assert pages((verdict(), made(600, 500, 100, gallery=500))) == [(1, 0, 3)]
    assert pages((verdict(3), made(100, 200, 100))) == [(1, 0, None)], (
        "of a test that passed no number is known"
    )


def test_the_worst_have_room_first_and_each_one_picture_before_two(pages):
    assert [shown for shown, *_ in pages(*[(verdict(), made(100, 100, 100))] * 8)] == [
        2,
        2,
        1,
        1,
        1,
        1,
        1,
        1,
    ]
    shown = pages(*[(verdict(count), made(300, 300)) for count in (12, 40, 11, 99, 13)])
    assert [first for first, *_ in shown] == [0, 1, 0, 1, 1]


def test_tests_that_pass_share_what_is_left_and_never_more_than_their_part(pages):
    passing = verdict(3), made(100, 100, 100)
    assert sum(shown for shown, *_ in pages(*[passing] * 10)) == 2
    *passed, failed = pages(*[passing] * 10, (verdict(), made(400, 400)))
    assert failed == (2, 0, 0)
    assert sum(shown for shown, *_ in passed) == 2


def test_the_order_of_tests_decides_which_pictures_are_shown(pages):
    def shown(*turns: int) -> list[int]:
        sizes = (100, 160, 120, 90, 90)
        ended = pages(*((verdict(3), made(sizes[turn], turn=turn)) for turn in turns))
        return [first for first, *_ in ended]

    assert shown(0, 1, 2, 3, 4) == [1, 0, 0, 0, 0], (
        "and what comes after the first that finds no room is not shown"
    )
    assert shown(4, 1, 3, 2, 0) == shown(0, 1, 2, 3, 4)
