"""Groups beside images.

Read in the images' order, carried along, and refused where something is amiss.
"""

import csv
import re

import numpy as np
import pytest
import torch
from PIL import Image
from zoo import images_of

from harness.base.errors import InputError
from harness.data import load_images, stratified_sample
from harness.data.groups import groups_in_words, groups_sha256

ROWS = (
    *(("cat/1.png", "front", "Bonn"), ("cat/2.png", "rear", "Bonn")),
    *(("dog/1.png", "front", "Kiel"), ("dog/a b.png", "rear", "Kiel")),
)
TITLES = ("path", "camera", "site")


def write(path, rows=ROWS, titles=TITLES):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([titles, *rows])
    return path


@pytest.fixture
def photos(tmp_path):
    for path, *_ in ROWS:
        place = tmp_path / "photos/test" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(place)
    return tmp_path / "photos/test"


def load(folder):
    return load_images(f"folder:{folder}")


def plain(images):
    return {name: values.tolist() for name, values in images.groups.items()}


EXPECTED = {"camera": ["front", "rear", "front", "rear"], "site": ["Bonn", "Bonn", "Kiel", "Kiel"]}


def test_a_file_in_the_folder_says_which_groups_images_are_of(photos):
    before = load(photos)
    assert before.groups == {}
    write(photos / "groups.csv", [(ROWS[at][0], *ROWS[at][1:]) for at in (3, 0, 2, 1)])
    images = load(photos)
    assert plain(images) == EXPECTED
    assert (images.notes, images.sha256) == ((), before.sha256), (
        "the file is none that is left out, nor hashed"
    )
    assert plain(images.take(torch.tensor([2, 1]))) == {
        "camera": ["front", "rear"],
        "site": ["Kiel", "Bonn"],
    }
    one = {"camera": np.array(["a", "b"]), "site": np.array(["x", "x"])}
    assert groups_sha256(one) == groups_sha256(dict(reversed(one.items())))
    assert groups_sha256(one) != groups_sha256({**one, "site": np.array(["x", "y"])})
    assert groups_in_words(one) == "camera (a 1, b 1); site (x 2)"


def test_a_file_beside_the_folder_may_be_about_others_too(photos):
    rows = [("train/cat/9.png", "x", "y"), *((f"test/{path}", *groups) for path, *groups in ROWS)]
    write(photos.parent / "groups.csv", rows)
    assert plain(load(photos)) == EXPECTED


BAD = {
    "empty": ([], (), "has no rows; expected a first row with the column path"),
    "no-path": (ROWS, ("file", "camera", "site"), "has 'file', 'camera', 'site'; expected"),
    "no-group": (
        [(row[0],) for row in ROWS],
        ("path",),
        "has 'path'; expected a first row with the column path",
    ),
    "two-alike": (ROWS, ("path", "site", "site"), "has two columns 'site'"),
    "missing": (
        ROWS[:2],
        TITLES,
        r"2 of 4 images have no row: .*dog/1.png, .*dog/a b.png; add a row for each",
    ),
    "unknown": (
        [*ROWS, ("cat/3.png", "a", "b")],
        TITLES,
        r"1 rows name no image of the data: row 6 'cat/3.png'; ",
    ),
    "outside": (
        [*ROWS, ("../x.png", "a", "b")],
        TITLES,
        r"1 rows name no image of the data: row 6 '../x.png'",
    ),
    "twice": ([*ROWS, ROWS[0]], TITLES, "row 6: 'cat/1.png' has a row already"),
    "no-value": (
        [*ROWS[:3], ("dog/a b.png", "rear", " ")],
        TITLES,
        r"row 5 \('dog/a b.png'\) has no site",
    ),
    "shorter": (
        [*ROWS[:3], ("dog/a b.png", "rear")],
        TITLES,
        "row 5 has 2 values, its columns are path, camera, site",
    ),
}


def test_a_file_that_is_not_as_it_should_be_is_refused_by_row(photos):
    path = photos / "groups.csv"
    for rows, titles, said in BAD.values():
        write(path, rows, titles) if titles else path.write_text("")
        with pytest.raises(InputError, match=f"^{re.escape(str(path))}: {said}"):
            load(photos)
    path.write_bytes(b"path,camera\n\xff\xfe,1\n")
    with pytest.raises(InputError, match=r"groups.csv: cannot be read"):
        load(photos)


@pytest.fixture
def npz(tmp_path):
    def save(size=None, **arrays):
        images = images_of(6)
        path = tmp_path / "shop.npz"
        np.savez(path, images=images.pixels[:, 0].numpy(), labels=images.labels.numpy(), **arrays)
        return load_images(f"npz:{path}", size=size)

    return save


TWO = np.array([("x", 1), ("y", 2)] * 3, dtype=[("camera", "U4"), ("batch", "i4")])


def test_an_array_in_an_npz_file_says_so_too_or_is_refused(npz):
    for array, expected in (
        (np.array(list("aabbab")), {"group": list("aabbab")}),
        (np.arange(6) // 3, {"group": list("000111")}),
        (np.array([[1], [2]] * 3), {"group": list("121212")}),
        (np.array(list("aabbab"), dtype="S2"), {"group": list("aabbab")}),
        (TWO, {"camera": list("xyxyxy"), "batch": list("121212")}),
    ):
        assert plain(npz(groups=array)) == expected
    images = npz(size=(8, 8), groups=np.arange(6))
    assert plain(images) == {"group": list("012345")}
    sample = stratified_sample(images, 3)
    assert plain(sample) == {"group": [str(at) for at in sample.positions.tolist()]}
    for array, said in (
        (
            np.arange(5),
            r"groups are of shape \(5,\); expected text or integers, \(6,\), one for each image",
        ),
        (np.zeros((6, 2), int), r"groups are of shape \(6, 2\)"),
        (np.zeros(6), "groups by 'group' are float64"),
        (
            np.array(["a", "", "b", "", "c", "d"]),
            "2 images have no group by 'group': 1, 3; name one",
        ),
        (np.array([b"\xff"] * 6), "groups by 'group' are no UTF-8"),
    ):
        with pytest.raises(InputError, match=rf"shop.npz: {said}"):
            npz(groups=array)


def test_the_splits_of_a_file_and_further_columns_are_groups(tmp_path, photos):
    images = images_of(6)
    arrays = {"images": images.pixels[:, 0].numpy(), "labels": images.labels.numpy()[:, None]}
    groups = {"train_groups": np.array(["t"] * 6), "test_groups": np.array(list("abcabc"))}
    np.savez(
        tmp_path / "m.npz", **{f"test_{name}": array for name, array in arrays.items()}, **groups
    )
    assert plain(load_images(f"npz:{tmp_path / 'm.npz'}")) == {"group": list("abcabc")}
    rows = [
        (path, path[:3], camera, site if camera == "rear" else "", number)
        for number, (path, camera, site) in enumerate(ROWS)
    ]
    write(photos / "list.csv", rows, ("path", "label", "camera", "site", ""))
    assert plain(load_images(f"csv:{photos / 'list.csv'}")) == {"camera": EXPECTED["camera"]}
