"""Galleries in the page, and how many pictures a page takes."""

import base64
import html
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from harness.gates import Bound, Gate
from harness.measures import Measurement
from harness.measures.accuracy import PAIR_FAILURES
from harness.measures.failures import Answer
from harness.perturb import IDENTITY, Pose
from harness.plugin import pictures
from harness.plugin.pictures import PictureBook
from harness.report.gallery import gallery_html, gallery_title
from harness.run.cases import Tile

PAIR = ("Shirt", "Coat")


def tile(*, index: int = 7, true: str = "Shirt", new: bool | None = True, shape=(28, 28, 1)) -> Tile:
    pixels = np.random.default_rng(index).integers(0, 256, shape).astype(np.uint8)
    return Tile(pixels, Answer(index, true, "Coat", 0.934, (0.066, 0.934)), new)


def decoded(page: str) -> list[np.ndarray]:
    found = re.findall(r"data:image/webp;base64,([A-Za-z0-9+/=]+)", page)
    return [cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR_RGB) for data in found]


# The gallery.


def test_each_tile_has_its_number_classes_confidence_and_whether_it_is_new():
    page = gallery_html("Shirts", [tile(), tile(index=8, new=False), tile(index=9, new=None)])
    assert "<h4>Shirts</h4>" in page
    assert page.count("<li>") == 3
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page)
    assert captions == [
        "7<br>Shirt → Coat<br>confidence 93% · new",
        "8<br>Shirt → Coat<br>confidence 93% · baseline wrong too",
        "9<br>Shirt → Coat<br>confidence 93%",
    ]


@pytest.mark.parametrize(
    ("new", "ending"),
    [(True, "; the baseline is right"), (False, "; the baseline is wrong too"), (None, "")],
    ids=["new", "shared", "no-baseline"],
)
def test_a_tile_is_described_in_words(new, ending):
    (alt,) = re.findall(r'alt="([^"]*)"', gallery_html("", [tile(new=new)]))
    assert alt == f"image 7: Shirt taken for Coat, confidence 93%{ending}"


def test_what_others_wrote_cannot_become_markup():
    page = gallery_html("<b>", [tile(true='"><script>')])
    assert "<script" not in page
    assert "<b>" not in page
    assert 'image 7: "><script> taken for Coat' in html.unescape(page)


def test_small_images_are_kept_exactly():
    for shape in ((28, 28, 1), (20, 30, 3)):
        shown = tile(shape=shape)
        (picture,) = decoded(gallery_html("", [shown]))
        assert (picture == shown.pixels).all()


def test_large_images_are_made_smaller_and_keep_their_shape():
    page = gallery_html("", [tile(shape=(200, 400, 3))])
    (picture,) = decoded(page)
    assert picture.shape == (48, 96, 3)
    assert len(page) < 8_000


def test_without_failures_there_is_no_gallery():
    assert gallery_html("Shirts", []) == ""


@pytest.mark.parametrize(
    ("tiles", "count", "pose", "title"),
    [
        (
            [tile()],
            5,
            Pose(dx=2),
            "images shifted 2 px right: 1 of 5, those that the baseline gets right before others, "
            "the most confident first",
        ),
        ([tile(new=None)] * 2, 2, IDENTITY, "images as they are: all 2, the most confident first"),
    ],
    ids=["some", "all"],
)
def test_the_title_says_how_many_there_are_and_in_which_order(tiles, count, pose, title):
    assert gallery_title(PAIR, pose, tiles, count) == f"Shirt and Coat taken for each other, {title}"


# How many pictures a page takes.


def verdict(*, holds: bool, name: str = "pair-a"):
    gate = Gate(name, "pairs", "pair_failures", "at_most", hand=Bound(20 if holds else 10))
    return gate.judge(Measurement(PAIR_FAILURES, 17, 100, (10.0, 27.0)))


@pytest.fixture
def book(monkeypatch) -> PictureBook:
    monkeypatch.setattr(pictures, "MAX_BYTES", 1_000)
    return PictureBook(["pytest", "stress_tests", "--candidate", "a b.pth"], Path("reports"))


def made(*sizes: int, gallery: int = 0):
    return {"pictures": [str(rank) * size for rank, size in enumerate(sizes)], "gallery": "g" * gallery}


def test_what_fits_is_shown_in_its_order(book):
    assert book.affordable(verdict(holds=False), made(3, 2, 1, gallery=2)) == ["000", "11", "2", "gg"]


def test_what_does_not_fit_is_counted_with_the_command_that_shows_it(book):
    shown = book.affordable(verdict(holds=False), made(600, 200, 10, gallery=500))
    assert shown[:1] == ["0" * 600]
    assert len(shown) == 2
    assert html.unescape(shown[1]) == (
        '<p class="omitted">2 pictures and the gallery omitted, to keep this page small; to see what is missing: '
        "<code>pytest stress_tests --candidate 'a b.pth' -k pair-a --stress-reports reports/pair-a</code></p>"
    )


def test_one_picture_is_one_picture(book):
    assert "1 picture omitted" in book.affordable(verdict(holds=False), made(400, 400))[-1]


def test_each_tests_first_picture_has_room_longer_than_the_others(book):
    shown = [book.affordable(verdict(holds=False), made(100, 100, 100)) for _ in range(10)]
    counts = [sum(not part.startswith("<p") for part in parts if part) for parts in shown]
    assert counts == sorted(counts, reverse=True)
    assert (counts[0], counts[-1]) == (3, 0)
    assert counts.count(1) >= 2
    assert book.spent <= 1_000


def test_tests_that_pass_leave_room_for_those_that_fail(book):
    for _ in range(10):
        book.affordable(verdict(holds=True), made(100, 100, 100, gallery=100))
    assert 300 <= book.spent <= 400
    assert book.affordable(verdict(holds=False), made(100))[0] == "0" * 100
