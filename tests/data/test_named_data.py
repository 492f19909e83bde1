"""Data in other layouts: a user's data set, csv, Parquet, Hugging Face's, WebDataset.

And odd files among them.
"""

import io
import json
import os
import sys
import tarfile

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from harness.base.errors import InputError
from harness.data import load_images
from harness.data.image_files import read_picture

VALUES = (10, 20, 30, 40)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("STRESS_HARNESS_RUN", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    sys.modules.pop("mine", None)


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (5, 6), (value, 0, 0)).save(file, "png")
    return file.getvalue()


def tar(files) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def table(pictures=None, values=VALUES):
    pa = pytest.importorskip("pyarrow")
    pictures = (
        [{"bytes": png(value), "path": None} for value in values] if pictures is None else pictures
    )
    features = {
        "image": {"_type": "Image"},
        "label": {"names": ["ant", "bee"], "_type": "ClassLabel"},
    }
    made = pa.table({"image": pictures, "label": [0, 1, 1, 0]})
    return made.replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )


def expect_the_four(images, classes, values=VALUES):
    assert images.pixels.shape == (4, 3, 6, 5)
    assert images.pixels[:, 0, 0, 0].tolist() == list(values)
    assert images.labels.tolist() == [0, 1, 1, 0]
    assert images.classes == classes


DATASET = """
import numpy as np, torch
from PIL import Image, ImageOps

LABELS = [0, 1, 1, 0]

class Mine:
    classes = ["ant", "bee"]
    def __len__(self):
        return 4
    def __getitem__(self, position):
        picture = np.zeros((6, 5, 3), np.uint8)
        picture[..., 0] = 10 * (position + 1)
        return {item}

made = Mine()
def build():
    return Mine()
splits = {{"train": made, "test": made}}
def broken():
    raise SystemExit(0)
"""
ITEMS = {
    "array": "picture, LABELS[position]",
    "picture": "Image.fromarray(picture), torch.tensor(LABELS[position])",
    "floats": "torch.from_numpy(picture).permute(2, 0, 1) / 255, LABELS[position]",
    "dict": "{'image': Image.fromarray(picture), 'label': LABELS[position]}",
    "bytes": "torch.from_numpy(picture).permute(2, 0, 1), LABELS[position]",
    "names": "(picture, ['ant', 'bee'][LABELS[position]])",
}


@pytest.mark.parametrize(
    ("name", "item"), [("made", each) for each in ITEMS] + [("Mine", "array"), ("build", "array")]
)
def test_a_data_set_gives_pictures_and_labels(here, item, name):
    (here / "mine.py").write_text(DATASET.format(item=ITEMS[item]))
    images = load_images(f"mine:{name}")
    expect_the_four(images, ("ant", "bee"))
    assert images.name == name
    assert "decoded again in each run" in images.notes[0]
    assert load_images(f"mine:{name}", size=(3, 3)).pixels.shape == (4, 3, 3, 3)
    if item == "array" and name == "made":
        sys.modules["mine"].Mine.fingerprint = "four"
        first = load_images("mine:made")
        assert first.notes == ()
        sys.modules["mine"].LABELS[:] = [1, 1, 1, 1]  # Which the fingerprint says does not happen.
        assert load_images("mine:made").labels.tolist() == first.labels.tolist()


@pytest.mark.parametrize(
    ("name", "item", "message"),
    [
        (
            "nothing",
            "array",
            r"data mine:nothing: cannot be imported \(AttributeError.*expected fashion-mnist",
        ),
        ("LABELS", "array", r"item 0: is a int; expected an object with __len__ and __getitem__"),
        ("splits", "array", r"gives a dict with train, test; name one of them"),
        ("broken", "array", r"cannot give the data set \(RuntimeError\('it raised SystemExit"),
        ("made", "1 / 0", r"cannot give item 0 \(ZeroDivisionError"),
        ("made", "picture, -1", r"labels run from -1 to -1"),
        ("made", "picture, 7", r"labels run to 7, but there are 2 names"),
        ("made", "picture, [0, 1]", r"labels cannot be read"),
        ("made", "picture, 'cow'", r"label 'cow' is none of the classes ant, bee"),
        ("made", "picture / 100.0 - 1, 0", r"item 0: is float64 .* from -1 to .*Remove Normalize"),
        (
            "made",
            "np.random.rand(4, 4), 0",
            r"data mine:made: gives other pixels for mine:made: item 0",
        ),
    ],
)
def test_what_is_wrong_with_a_data_set_is_said(here, name, item, message):
    (here / "mine.py").write_text(DATASET.format(item=ITEMS.get(item, item)))
    with pytest.raises(InputError, match=message):
        load_images(f"mine:{name}")


def write_csv(here, rows) -> str:
    (here / "data" / "pictures").mkdir(parents=True, exist_ok=True)
    for number, value in enumerate(VALUES):
        (here / "data" / "pictures" / f"{number}.png").write_bytes(png(value))
    (here / "data" / "list.csv").write_text("\n".join(rows) + "\n")
    return f"csv:{here / 'data' / 'list.csv'}"


def test_a_csv_file_lists_paths_and_labels_or_is_refused(here):
    for labels, classes in (("abba", ("a", "b")), ("0110", ("0", "1"))):
        rows = [
            "label,more,path",
            *(f"{label},x,pictures/{number}.png" for number, label in enumerate(labels)),
        ]
        expect_the_four(load_images(write_csv(here, rows)), classes)
    for message, *rows in (
        (
            "has file, label; expected a first row that names the columns path and label",
            "file,label",
            "a,b",
        ),
        ("has no rows", "path,label"),
        ("row 2 has no path or no label", "path,label", "pictures/0.png"),
        (r"lists a file that cannot be found .*none\.png", "path,label", "none.png,0"),
        (r"list\.csv: cannot be read as an image", "path,label", "list.csv,0"),
    ):
        with pytest.raises(InputError, match=message):
            load_images(write_csv(here, rows))


@pytest.mark.parametrize("spec", ["parquet:data/0.parquet", "hf:data", "parquet:data"])
def test_parquet_files_have_pictures_and_names_of_classes(here, spec):
    made = table()
    from pyarrow import parquet

    (here / "data").mkdir()
    parquet.write_table(made, here / "data" / "0.parquet", row_group_size=3)
    expect_the_four(load_images(spec), ("ant", "bee"))


def test_further_columns_of_parquet_files_are_groups(here):
    """Those of text or whole numbers with a value in each row."""
    made = table()
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {
        "vendor": ["a", "b", "a", "b"],
        "pair": [1, 1, 2, 2],
        "site": pa.array(["x", "x", "y", "y"]).dictionary_encode(),
        "some": ["a", None, "b", "b"],
        "bare": ["a", "", "b", "b"],
        "score": [0.1, 0.2, 0.3, 0.4],
    }
    for name, values in columns.items():
        made = made.append_column(
            name, values if isinstance(values, pa.Array) else pa.array(values)
        )
    (here / "data").mkdir()
    parquet.write_table(made.slice(0, 3), here / "data" / "0.parquet", row_group_size=2)
    parquet.write_table(made.slice(3), here / "data" / "1.parquet")
    images = load_images("parquet:data")
    assert {name: values.tolist() for name, values in images.groups.items()} == {
        "vendor": ["a", "b", "a", "b"],
        "pair": ["1", "1", "2", "2"],
        "site": ["x", "x", "y", "y"],
    }


def test_what_datasets_saves_to_disk_is_read(here):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["ant", "bee"])}
    )
    rows = {
        "image": [{"bytes": png(value), "path": None} for value in VALUES],
        "label": [0, 1, 1, 0],
    }
    made = datasets.Dataset.from_dict(rows, features=features)
    made.save_to_disk(here / "saved")
    expect_the_four(load_images("hf:saved"), ("ant", "bee"))
    datasets.DatasetDict({"test": made, "train": made}).save_to_disk(here / "splits")
    with pytest.raises(InputError, match=r"has the splits test, train; name one, such as hf:"):
        load_images("hf:splits")
    expect_the_four(load_images("hf:splits/test"), ("ant", "bee"))


def test_what_is_wrong_with_parquet_is_said(here, monkeypatch):
    made = table([b"text"] * 4)
    from pyarrow import parquet

    parquet.write_table(made, here / "text.parquet")
    parquet.write_table(made.drop_columns(["label"]), here / "bare.parquet")
    (here / "cut.parquet").write_bytes((here / "text.parquet").read_bytes()[:-9])
    os.mkfifo(here / "pipe.parquet")
    (here / "pipes").mkdir()
    os.mkfifo(here / "pipes" / "0.parquet")
    for name, message in (
        ("text", r"row 0: cannot be read as an image"),
        ("bare", r"has the columns image; expected Parquet files"),
        ("cut", r"cut\.parquet: cannot be read"),
        ("pipe", r"pipe\.parquet: has no Parquet file"),
    ):
        with pytest.raises(InputError, match=message):
            load_images(f"parquet:{name}.parquet")
    with pytest.raises(InputError, match="not a regular file"):
        load_images("parquet:pipes")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"needs pyarrow, .* pip install 'stress-harness\[hf\]'"):
        load_images("parquet:text.parquet")


@pytest.mark.parametrize("kind", ["cls", "json"])
def test_webdatasets_shards_are_read_in_order(here, kind):
    for shard in range(2):
        files = {}
        for at in (2 * shard, 2 * shard + 1):
            label = [0, 1, 1, 0][at]
            text = f"{label}\n" if kind == "cls" else json.dumps({"label": "ab"[label]})
            files |= {
                f"x/{at:03}.png": png(VALUES[at]),
                f"x/{at:03}.{kind}": text.encode(),
                f"x/{at:03}.pyd": b"cos\n",
            }
        (here / f"test-{shard:02}.tar").write_bytes(tar(files))
    images = load_images("webdataset:test-{00..01}.tar")
    expect_the_four(images, ("0", "1") if kind == "cls" else ("a", "b"))
    assert images.notes == ("4 pictures are read; ignored files: 4 .pyd",)
    assert len(load_images("webdataset:test-{01,00}.tar")) == 4


def test_what_is_wrong_with_shards_is_said(here):
    (here / "bare.tar").write_bytes(tar({"0.png": png(1)}))
    (here / "two.tar").write_bytes(tar({"0.png": png(1), "0.jpg": png(1), "0.cls": b"0"}))
    (here / "cut.tar").write_bytes(tar({"0.png": png(1), "0.cls": b"0"})[:560])
    os.mkfifo(here / "pipe.tar")
    for pattern, message in (
        ("pipe:curl x", "is a command, and none is run; name tar files, or their URLs"),
        ("none-{0..1}.tar", r"none-0\.tar: cannot be read \(No such file"),
        ("pipe.tar", "not a regular file"),
        ("bare.tar", "0: has no label"),
        ("two.tar", "0 has 2 pictures"),
        ("cut.tar", r"cut\.tar: "),
        ("{0..999999999}.tar", "is no range of shards"),
    ):
        with pytest.raises(InputError, match=message):
            load_images(f"webdataset:{pattern}")


def test_pictures_are_turned_as_their_exif_says(here):
    (here / "photos" / "a").mkdir(parents=True)
    picture = Image.fromarray(
        np.repeat(np.array([[0], [255]], np.uint8), 8, axis=1).repeat(4, axis=0)
    )
    exif = Image.Exif()
    exif[0x0112] = 6  # EXIF asks for 90° clockwise.
    picture.save(here / "photos" / "a" / "0.jpg", exif=exif)
    pixels = load_images("folder:photos").pixels[0, 0]
    assert (pixels[:, 4:] < 50).all()
    assert (pixels[:, :4] > 200).all()
    upright = read_picture((here / "photos" / "a" / "0.jpg").read_bytes())
    # Not in its metadata any more, or a transform that reads EXIF would turn it twice.
    assert upright.size == ImageOps.exif_transpose(upright).size == (8, 8)
    assert upright.getexif().get(0x0112, 1) == 1


def test_what_is_left_out_is_counted(here):
    folder = here / "photos"
    for name in ("a", "b", "__MACOSX", ".hidden"):
        (folder / name).mkdir(parents=True)
        (folder / name / "0.png").write_bytes(png(1))
    (folder / "a" / "deeper").mkdir()
    for name in ("a/1.heic", "a/deeper/2.png", "a/._0.png", "b/list.txt", "b/read", "about.txt"):
        (folder / name).write_bytes(b"x")
    images = load_images("folder:photos")
    assert images.classes == ("a", "b")
    assert images.notes == (
        "2 of 8 files are read: 1 .heic, 1 .txt, 1 hidden, 1 in a subfolder, 1 in no class's "
        "folder, 1 without a suffix",
    )


def test_transparency_is_dropped_and_said_and_48_bits_refused(here):
    (here / "photos" / "a").mkdir(parents=True)
    Image.new("RGBA", (5, 6), (9, 8, 7, 0)).save(here / "photos" / "a" / "0.png")
    images = load_images("folder:photos")
    assert images.pixels[0, :, 0, 0].tolist() == [9, 8, 7]
    assert images.notes == ("1 of 1 images have transparency, which is dropped",)
    cv2.imwrite(str(here / "photos" / "a" / "0.png"), np.full((4, 4, 3), 40_000, np.uint16))
    with pytest.raises(
        InputError,
        match=r"0\.png: has more than 8 bits per channel \(16 bits per channel\); save it",
    ):
        load_images("folder:photos")
