"""Galleries in the page, and how many pictures a page takes."""

import base64
import html
import re
from dataclasses import replace

import cv2
import numpy as np
import pytest

from harness.checks import Check, Threshold
from harness.measures import Measurement
from harness.measures.accuracy import PAIR_FAILURES
from harness.measures.failures import Answer
from harness.perturb import IDENTITY, Pose
from harness.plugin import pictures
from harness.plugin.pictures import PictureBook
from harness.report.pictures import gallery_html, gallery_title
from harness.run.examples import Tile

PAIR = ("Shirt", "Coat")


def tile(*, index: int = 7, true: str = "Shirt", new: bool | None = True, shape=(28, 28, 1)) -> Tile:
    pixels = np.random.default_rng(index).integers(0, 256, shape).astype(np.uint8)
    return Tile(pixels, Answer(index, true, "Coat", 0.934, (0.066, 0.934)), new, "incumbent")


def decoded(page: str) -> list[np.ndarray]:
    found = re.findall(r"data:image/webp;base64,([A-Za-z0-9+/=]+)", page)
    return [cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR_RGB) for data in found]


# The gallery.


def test_each_tile_has_its_number_classes_confidence_and_whether_it_is_new():
    page = gallery_html("Shirts", [tile(), tile(index=8, new=False), tile(index=9, new=None)])
    assert "<h3>Shirts</h3>" in page
    assert page.count("<li>") == 3
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page)
    chips = '<span class="chip">Shirt</span> → <span class="chip wrong">Coat</span><br>'
    assert captions == [
        f"{chips}93% · new · image 7",
        f"{chips}93% · incumbent wrong too · image 8",
        f"{chips}93% · image 9",
    ]


@pytest.mark.parametrize(
    ("new", "ending"),
    [(True, "; new"), (False, "; incumbent wrong too"), (None, "")],
    ids=["new", "shared", "alone"],
)
def test_a_tile_is_described_in_words(new, ending):
    (alt,) = re.findall(r'alt="([^"]*)"', gallery_html("", [tile(new=new)]))
    assert alt == f"image 7: Shirt predicted as Coat, confidence 93%{ending}"


def test_what_others_wrote_cannot_become_markup():
    page = gallery_html("<b>", [tile(true='"><script>')])
    assert "<script" not in page
    assert "<b>" not in page
    assert 'image 7: "><script> predicted as Coat' in html.unescape(page)


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
            "images shifted 2 px right: 1 of 5, new ones first, the most confident first",
        ),
        ([tile(new=None)] * 2, 2, IDENTITY, "clean images: 2 of 2, the most confident first"),
    ],
    ids=["some", "all"],
)
def test_the_title_says_how_many_there_are_and_in_which_order(tiles, count, pose, title):
    assert gallery_title(PAIR, pose, tiles, count) == f"Shirt and Coat predicted as each other, {title}"


def test_the_title_says_nothing_of_confidence_where_there_are_labels_only():
    labels = [replace(tile(new=None), answer=Answer(number, "Shirt", "Coat", None, ())) for number in (7, 8)]
    assert gallery_title(PAIR, IDENTITY, labels, 2) == "Shirt and Coat predicted as each other, clean images: 2 of 2"


# How many pictures a page takes.


def verdict(*, failures: int = 17, name: str = "pair-a"):
    """A verdict on a count that may be 10: the more failures, the worse."""
    check = Check(name, "pairs", "pair_failures", "at_most", hand=Threshold(10))
    return check.judge(Measurement(PAIR_FAILURES, failures, 100, (10.0, 27.0)))


def made(*sizes: int, gallery: int = 0):
    made = [str(rank) * size for rank, size in enumerate(sizes)]
    return {"turn": 0, "pictures": made, "gallery": "g" * gallery, "unmade": False}


@pytest.fixture
def pages(monkeypatch):
    """Entries of a page of 1,000 bytes of pictures, in the order in which their tests ended."""
    monkeypatch.setattr(pictures, "MAX_BYTES", 1_000)

    def fill(*tests) -> list[str]:
        book = PictureBook(["pytest", "stress_tests", "--candidate", "a b.pth"])
        for number, (verdict, shown) in enumerate(tests):
            book.take(replace(verdict, check=replace(verdict.check, id=f"pair-{chr(97 + number)}")), shown)
        return list(book.entries_shown().values())

    return fill


def counted(page: str) -> tuple[int, int, int, int]:
    """Counts of each rank of picture, and of the gallery, on a page: each is its own letter, repeated."""
    return tuple(len(re.findall(f"{letter}{{90,}}", page)) for letter in "012g")  # type: ignore[return-value]


def test_what_fits_is_shown_in_its_order(pages):
    (page,) = pages((verdict(), made(100, 110, 120, gallery=130)))
    assert "0" * 100 + "1" * 110 + "2" * 120 + "g" * 130 in page
    assert "omitted" not in page


def test_what_does_not_fit_is_counted_with_the_command_that_shows_it(pages):
    (page,) = pages((verdict(), made(600, 500, 100, gallery=500)))
    assert counted(page) == (1, 0, 0, 0)
    assert (
        '<p class="omitted">3 pictures omitted, to keep this page small; to see what is missing: '
        "<code>pytest stress_tests --candidate 'a b.pth' -k '[pair-a]' --stress-reports reports/pair-a</code></p>"
    ) in html.unescape(page)


def test_one_picture_is_one_picture(pages):
    (page,) = pages((verdict(), made(600, 500)))
    assert "1 picture omitted" in page


def test_each_failure_has_a_picture_before_any_has_two(pages):
    shown = [counted(page) for page in pages(*[(verdict(), made(100, 100, 100, gallery=100))] * 8)]
    assert [first for first, *_ in shown] == [1] * 8
    assert [second for _, second, *_ in shown] == [1, 1, 0, 0, 0, 0, 0, 0]


def test_the_worst_failures_have_room_first_whenever_they_ran(pages):
    failures = (12, 40, 11, 99, 13)
    shown = pages(*[(verdict(failures=count), made(300, 300)) for count in failures])
    assert [counted(page)[0] for page in shown] == [0, 1, 0, 1, 1]


def test_galleries_come_after_all_pictures(pages):
    one, other = pages((verdict(failures=50), made(200, gallery=300)), (verdict(), made(200, 200)))
    assert (counted(one), counted(other)) == ((1, 0, 0, 1), (1, 1, 0, 0))
    one, other = pages((verdict(failures=50), made(200, gallery=500)), (verdict(), made(200, 200)))
    assert (counted(one), counted(other)) == ((1, 0, 0, 0), (1, 1, 0, 0))


def test_tests_that_pass_share_what_is_left_and_never_more_than_their_part(pages):
    passing = (verdict(failures=3), made(100, 100, 100))
    assert sum(sum(counted(page)) for page in pages(*[passing] * 10)) == 2
    *passed, failed = pages(*[passing] * 10, (verdict(), made(400, 400)))
    assert counted(failed) == (1, 1, 0, 0)
    assert sum(sum(counted(page)) for page in passed) == 2


def test_the_order_of_tests_decides_which_pictures_are_shown(pages):
    def shown(*turns: int) -> list[int]:
        sizes = (100, 160, 120, 90, 90)
        ended = pages(*((verdict(failures=3), made(sizes[turn]) | {"turn": turn}) for turn in turns))
        return [counted(page)[0] for _, page in sorted(zip(turns, ended, strict=True))]

    assert shown(0, 1, 2, 3, 4) == [1, 0, 0, 0, 0], "and what comes after the first that finds no room is not shown"
    assert shown(4, 1, 3, 2, 0) == shown(0, 1, 2, 3, 4)
