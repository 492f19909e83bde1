"""Outputs replace no input and no file of another kind, by whatever name they are reached."""

import os
import zlib
from pathlib import Path

import pytest

from harness.base.errors import InputError
from harness.base.files import write_all_or_none
from harness.base.outputs import (
    CHECKPOINT,
    HISTORY,
    PAGE,
    PICTURE,
    Inputs,
    Output,
    marked_png,
    table_kind,
)

OURS = b'<!DOCTYPE html><html><head><meta name="generator" content="stress-harness">'
THEIRS = b"<!DOCTYPE html><html><head><title>shop</title>"
TABLE = table_kind("a table of changes", "kind,change")


@pytest.mark.parametrize("content", [THEIRS, b"PK\x03\x04", b"import torch\n", b'{"candidate": 1}'])
@pytest.mark.parametrize("kind", [PAGE, TABLE, CHECKPOINT, PICTURE])
def test_a_file_of_another_kind_stays(tmp_path, content, kind):
    path = tmp_path / "page.html"
    path.write_bytes(content)
    for work in (
        Output(path, kind).expect_own,
        lambda: Output(path, kind).write(OURS),
        Output(path, kind).remove,
    ):
        with pytest.raises(
            InputError, match=f"exists and is not {kind.name}, so it is not replaced; name"
        ):
            work()
    assert path.read_bytes() == content


def linked(path, other):
    other.symlink_to(path)


def hard_linked(path, other):
    os.link(path, other)


@pytest.mark.parametrize("link", [linked, hard_linked])
def test_an_input_is_known_by_any_name(tmp_path, link):
    path, other = tmp_path / "conftest.py", tmp_path / "other.html"
    path.touch()
    link(path, other)
    output = Output(other, PAGE, Inputs((path,)))
    with pytest.raises(
        InputError,
        match=r"other.html: is an input of this command, by the name .*conftest.py, and a",
    ):
        output.write(OURS)
    assert path.read_bytes() == b""
    assert other.is_symlink() == (link is linked)


def test_what_lies_in_a_folder_of_inputs_is_one(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "by-another-name").symlink_to(tmp_path / "photos")
    for name in ("photos/ant/page.html", "by-another-name/page.html"):
        with pytest.raises(InputError, match="is an input of this command"):
            Output(tmp_path / name, PAGE, Inputs((tmp_path / "photos",))).write(OURS)
    assert list((tmp_path / "photos").iterdir()) == []
    Output(tmp_path / "page.html", PAGE, Inputs((tmp_path / "photos",))).write(OURS)


def test_no_link_inside_the_folder_is_followed(tmp_path):
    folder, elsewhere = tmp_path / "reports", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    (folder / "sub").symlink_to(elsewhere)
    (folder / "page.html").symlink_to(elsewhere / "new.html")
    for name in ("sub/page.html", "page.html"):
        with pytest.raises(
            InputError, match=r"is a link to .*, but outputs in .* follow no links; remove it"
        ):
            Output(folder / name, PAGE, within=folder).write(OURS)
    assert list(elsewhere.iterdir()) == []


def test_the_folder_itself_and_files_elsewhere_may_be_links(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "reports").symlink_to(tmp_path / "real")
    Output(tmp_path / "reports/page.html", PAGE, within=tmp_path / "reports").write(OURS)
    (tmp_path / "page.html").symlink_to(tmp_path / "real/page.html")
    Output(tmp_path / "page.html", PAGE, within=tmp_path / "reports").write(OURS + b"new")
    assert (tmp_path / "page.html").is_symlink()
    assert (tmp_path / "real/page.html").read_bytes() == OURS + b"new"


def make_folder(path):
    path.mkdir()


def make_circle(path):
    path.symlink_to(path)


def make_file_above(path):
    path.parent.rmdir()
    path.parent.touch()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (make_folder, "is a folder, expected a file for a page"),
        (os.mkfifo, "is no regular file"),
        (make_circle, "cannot be written"),
        (make_file_above, "cannot be written"),
    ],
)
def test_what_is_no_file_is_refused_before_the_work(tmp_path, make, said):
    path = tmp_path / "sub/page.html"
    path.parent.mkdir()
    make(path)
    with pytest.raises(InputError, match=said):
        Output(path, PAGE).expect_own()


def test_a_damaged_history_is_known_and_appended_in_place(tmp_path):
    """Several machines may append to one file, without a common lock."""
    path = tmp_path / "history.jsonl"
    path.write_text('<<<<<<< HEAD\n{"candidate":"a"}\n')
    Output(path, HISTORY).append_line('{"candidate":"b"}')
    assert path.read_text().splitlines()[-1] == '{"candidate":"b"}'
    path, other = tmp_path / "history.jsonl", tmp_path / "same.jsonl"
    path.write_text('{"candidate":"a"}')
    os.link(path, other)
    Output(path, HISTORY).append_line('{"candidate":"b"}')
    assert other.read_text() == '{"candidate":"a"}\n{"candidate":"b"}\n'


def test_files_that_cannot_all_be_replaced_are_restored(tmp_path, monkeypatch):
    first, second, replaced = tmp_path / "first", tmp_path / "second", Path.replace
    first.write_bytes(b"old")

    def fail(self, target):
        if target == second:
            raise OSError(16, "busy")
        return replaced(self, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="busy"):
        write_all_or_none({first: b"new", tmp_path / "made": b"new", second: b"new"})
    assert first.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["first"]


def test_pictures_are_marked_and_stay_pictures(tmp_path):
    cv2, np = pytest.importorskip("cv2"), pytest.importorskip("numpy")
    _, encoded = cv2.imencode(".png", np.full((4, 5, 3), 7, np.uint8))
    theirs = tmp_path / "cat.png"
    theirs.write_bytes(encoded.tobytes())
    with pytest.raises(InputError, match="not a picture of the harness"):
        Output(theirs, PICTURE).write(encoded.tobytes())
    ours = tmp_path / "ours.png"
    for _ in range(2):
        Output(ours, PICTURE).write(encoded.tobytes())
    assert cv2.imread(str(ours)).tolist() == cv2.imread(str(theirs)).tolist()
    assert marked_png(ours.read_bytes()) == ours.read_bytes()
    at = ours.read_bytes().index(b"tEXt")
    assert int.from_bytes(ours.read_bytes()[at + 27 : at + 31], "big") == zlib.crc32(
        ours.read_bytes()[at : at + 27]
    )
