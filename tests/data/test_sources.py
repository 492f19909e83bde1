"""Images of one's own: a folder or an npz file, of any size, gray or color.

Errors name the fault.
"""

import io
import os
import shutil
import subprocess
import sys
import tarfile
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from harness.base.errors import InputError
from harness.checks import ChecksError, read_checks
from harness.cli import main
from harness.data import LabelledImages, decoding, load_images, rows
from harness.data import npz as npz_module
from harness.data.options import DataOptions
from harness.data.pictures import Item, Pictures
from harness.data.pipeline import Pipeline
from harness.data.sources import OF_NO_CLASS, SOURCES, Source, load_elsewhere, specs_in_words
from harness.networks.architectures import FashionCNN
from harness.networks.checkpoints import Record, save_checkpoint
from harness.run.opening import open_session
from harness.run.request import RunRequest


def picture(size=(6, 5), mode="RGB", value=100) -> Image.Image:
    """Return a picture of one color; the size is (height, width)."""
    array = np.full((*size, 3), value, dtype=np.uint8)
    return Image.fromarray(array).convert(mode)


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    for name, value in (("dog", 10), ("ant", 20)):
        (folder / name).mkdir(parents=True)
        picture(value=value).save(folder / name / "b.png")
        picture(value=value + 1).save(folder / name / "a.png")
    return folder


def test_a_folder_has_one_folder_per_class_in_the_order_of_names(photos):
    images = load_images(f"folder:{photos}")
    assert images.classes == ("ant", "dog")
    assert images.labels.tolist() == [0, 0, 1, 1]
    assert images.pixels.shape == (4, 3, 6, 5)
    assert images.pixels[:, 0, 0, 0].tolist() == [21, 20, 11, 10]
    assert (images.name, images.split) == ("photos", "test")
    with pytest.raises(
        InputError, match="size, channels and the other options of a pipeline are for other data"
    ):
        load_images("fashion-mnist", channels=3)


def test_a_folder_whose_name_is_no_text_is_a_class_with_a_name(photos, tmp_path, capsys):
    (photos / "dog").rename(photos / os.fsdecode(b"caf\xe9"))
    images = load_images(f"folder:{photos}")
    assert images.classes == ("ant", r"caf\udce9")
    arguments = {
        "conv_channels": [1],
        "fc_sizes": [],
        "image_size": [6, 5],
        "in_channels": 3,
        "classes": 2,
    }
    model = FashionCNN(**arguments).eval()
    checkpoint = tmp_path / "model.safetensors"
    save_checkpoint(checkpoint, model, Record("fashion-cnn", arguments, images.classes))
    options = ["--data", f"folder:{photos}", "--failures", "--per-class", "--output", str(tmp_path)]
    assert main(["evaluate", str(checkpoint), *options]) == 0
    assert r"caf\udce9" in capsys.readouterr().out
    assert r"caf\udce9" in (tmp_path / "failures.csv").read_text()


@pytest.mark.parametrize(
    ("mode", "suffix", "channels"),
    [
        ("L", "png", 1),
        ("RGB", "jpg", 3),
        ("RGBA", "png", 3),
        ("P", "gif", 3),
        ("1", "bmp", 1),
        ("RGB", "webp", 3),
    ],
)
def test_each_kind_of_file_is_grey_or_colour(tmp_path, mode, suffix, channels):
    (tmp_path / "a").mkdir()
    picture(mode=mode, value=255).save(tmp_path / "a" / f"x.{suffix}")
    pixels = load_images(f"folder:{tmp_path}").pixels
    assert pixels.shape == (1, channels, 6, 5)
    assert pixels.min() >= 250


@pytest.mark.parametrize(
    ("channels", "expected"), [(1, [76]), (3, [255, 0, 0])], ids=["grey", "colour"]
)
def test_channels_and_a_size_make_all_images_alike(photos, channels, expected):
    Image.new("RGB", (5, 6), (255, 0, 0)).save(photos / "ant" / "0.png")
    picture(mode="L").save(photos / "dog" / "c.png")
    images = load_images(f"folder:{photos}", channels=channels)
    assert images.pixels[0, :, 0, 0].tolist() == expected
    assert len(images) == 6
    picture(size=(60, 40)).save(photos / "ant" / "1.png")
    assert load_images(f"folder:{photos}", size=(8, 10), channels=channels).pixels.shape == (
        7,
        channels,
        8,
        10,
    )


def with_splits(folder):
    for name in ("ant", "dog"):
        (folder / "test").mkdir(exist_ok=True)
        shutil.move(folder / name, folder / "test")


def cut(file):
    file.write_bytes(file.read_bytes()[:40])


def deep(file):
    Image.fromarray(np.zeros((6, 5), dtype=np.uint16)).save(file)


DAMAGES = {
    r"a\.png: cannot be read as an image .* replace or remove it": lambda at: cut(at / "ant/a.png"),
    r"x\.jpg: cannot be read as an image": lambda at: (at / "ant/x.jpg").write_text("hello"),
    r"x\.png: has more than 8 bits per channel \(I;16\); save it with 8": lambda at: deep(
        at / "ant/x.png"
    ),
    r"c\.png: is 7x5 pixels .*a\.png is 6x5; .* Set size": lambda at: picture((7, 5)).save(
        at / "dog/c.png"
    ),
    r"c\.png: is grey, .*a\.png is colour; .* channels": lambda at: picture(mode="L").save(
        at / "dog/c.png"
    ),
    r"cat: no images in it; expected one folder per class .*, or remove the folder": lambda at: (
        at / "cat"
    ).mkdir(),
    r"test: no images in it; .* if its folders are the classes, name folder:.*test": with_splits,
    "photos: no folders in it; expected one folder per class": lambda at: [
        *map(shutil.rmtree, at.iterdir())
    ],
    "photos: no such folder": shutil.rmtree,
}


@pytest.mark.parametrize(
    ("message", "damage"), DAMAGES.items(), ids=[*map(str, range(len(DAMAGES)))]
)
def test_what_is_wrong_with_a_folder_is_said(photos, damage, message):
    damage(photos)
    with pytest.raises(InputError, match=message):
        load_images(f"folder:{photos}")


GREY = np.arange(4 * 6 * 5, dtype=np.uint8).reshape(4, 6, 5)
COLOUR = np.stack([GREY, GREY + 1, GREY + 2], axis=-1)
LABELS = np.array([0, 1, 1, 0])


@pytest.fixture
def npz(tmp_path):
    def saved(**arrays) -> str:
        np.savez(tmp_path / "shop.npz", **arrays)
        return f"npz:{tmp_path / 'shop.npz'}"

    return saved


def test_npz_images_are_grey_or_colour(npz):
    for images, channels in ((GREY, 1), (GREY[..., None], 1), (COLOUR, 3)):
        loaded = load_images(npz(images=images, labels=LABELS))
        assert loaded.pixels.shape == (4, channels, 6, 5)
        assert loaded.pixels[1, 0].tolist() == GREY[1].tolist()
        assert loaded.labels.tolist() == LABELS.tolist()
        assert loaded.classes == ("0", "1")
    arrays = {}
    for split, start in (("train", 0), ("val", 1), ("test", 2)):
        arrays |= {
            f"{split}_images": COLOUR[start:],
            f"{split}_labels": LABELS[start:, None].astype(np.uint8),
        }
    images = load_images(npz(**arrays))
    assert len(images) == 2
    assert images.labels.tolist() == [1, 0]
    assert (images.split, images.name, images.classes) == ("test", "shop", ("0", "1"))
    masks = np.zeros((4, 6, 5), dtype=np.uint8)
    masks[:, :3] = 255
    images = load_images(npz(images=COLOUR, labels=LABELS, masks=masks), size=(12, 10), channels=1)
    assert images.pixels.shape == (4, 1, 12, 10)
    assert images.masks.shape == (4, 12, 10)
    assert images.masks[:, :6].all()
    assert not images.masks[:, 6:].any()


def test_many_npz_images_are_read_one_at_a_time(tmp_path, monkeypatch):
    save = np.savez_compressed
    images = np.random.default_rng(0).integers(0, 256, (1_500, 20, 20, 3), dtype=np.uint8)
    save(tmp_path / "shop.npz", images=images, labels=np.arange(1_500) % 3, train_images=images)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for module in (npz_module, rows, decoding):
        monkeypatch.setattr(module, "COPIED", 1 << 16)
    monkeypatch.setattr(decoding, "SMALL", 1 << 16)
    save(tmp_path / "first.npz", images=images[:100], labels=np.arange(100) % 3)
    load_images(
        f"npz:{tmp_path / 'first.npz'}", size=(10, 20)
    )  # Modules that are imported late take memory, too.
    tracemalloc.start()
    loaded = load_images(f"npz:{tmp_path / 'shop.npz'}", size=(10, 20))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < images.nbytes / 2, "neither these, nor the images of the other split"
    assert np.array_equal(
        load_images(f"npz:{tmp_path / 'shop.npz'}").pixels[:].permute(0, 2, 3, 1).numpy(), images
    )
    assert loaded.pixels.shape == (1_500, 3, 10, 20)


def test_an_npz_file_with_a_damaged_image_is_refused(tmp_path, monkeypatch):
    np.savez(
        tmp_path / "shop.npz",
        images=np.full((1_500, 20, 20), 77, dtype=np.uint8),
        labels=np.arange(1_500) % 3,
    )
    content = bytearray((tmp_path / "shop.npz").read_bytes())
    content[content.index(b"M" * 400) + 200_000] ^= 1
    (tmp_path / "shop.npz").write_bytes(content)
    monkeypatch.setattr(npz_module, "COPIED", 1 << 16)
    with pytest.raises(InputError, match=r"shop\.npz: cannot be read .*CRC"):
        load_images(f"npz:{tmp_path / 'shop.npz'}")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"images": GREY},
            r"has no array 'labels', only images; expected images and labels, or test_images",
        ),
        (
            {"train_images": GREY, "train_labels": LABELS},
            "has no array 'test_images', only train_images, train_labels",
        ),
        (
            {"images": GREY / 255, "labels": LABELS},
            r"float64 of shape \(4, 6, 5\), .*\(images \* 255\)\.round\(\)",
        ),
        (
            {"images": GREY.astype(int), "labels": LABELS},
            r"images are int64 of shape \(4, 6, 5\), expected uint8",
        ),
        ({"images": GREY[0], "labels": LABELS}, r"images are uint8 of shape \(6, 5\), expected"),
        (
            {"images": np.moveaxis(COLOUR, -1, 1), "labels": LABELS},
            r"move them with np\.moveaxis\(images, 1, -1\)",
        ),
        (
            {"images": np.concatenate([COLOUR] * 2, -1), "labels": LABELS},
            r"\(4, 6, 5, 6\), .* with 1 or 3 channels",
        ),
        ({"images": GREY[:0], "labels": LABELS[:0]}, r"so they are empty"),
        (
            {"images": GREY, "labels": LABELS[:3]},
            r"labels are int64 of shape \(3,\), expected 4 integers",
        ),
        (
            {"images": GREY, "labels": np.eye(4, 14, dtype=int)},
            r"several for an image; expected 4 integers",
        ),
        (
            {"images": GREY, "labels": LABELS / 1.0},
            r"labels are float64 of shape \(4,\), expected 4 integers",
        ),
        ({"images": GREY, "labels": LABELS - 1}, "labels run from -1"),
        (
            {"images": GREY, "labels": LABELS, "classes": ["a"]},
            "labels run to 1, but there are 1 names",
        ),
        (
            {"images": GREY, "labels": LABELS, "classes": ["a", "a"]},
            "a name occurs twice among the classes a, a",
        ),
        (
            {"images": GREY, "labels": LABELS, "masks": GREY[:, 1:]},
            r"masks are uint8 of shape \(4, 5, 5\), expected",
        ),
        (
            {"images": GREY, "labels": LABELS.astype(object)},
            "cannot be read .*expected an npz file of plain arrays",
        ),
    ],
)
def test_what_is_wrong_with_an_npz_file_is_said(npz, arrays, message):
    with pytest.raises(InputError, match=message):
        load_images(npz(**arrays))


def test_a_file_that_is_no_npz_is_said(tmp_path):
    for content in (None, b"", b"text", b"PK\x03\x04 cut"):
        if content is not None:
            (tmp_path / "x.npz").write_bytes(content)
        with pytest.raises(
            InputError, match=r"x\.npz: cannot be read .*expected an npz file of plain arrays"
        ):
            load_images(f"npz:{tmp_path / 'x.npz'}")
    with (tmp_path / "x.npz").open("wb") as file:
        np.save(file, GREY)
    with pytest.raises(InputError, match=r"holds a single array of shape \(4, 6, 5\)"):
        load_images(f"npz:{tmp_path / 'x.npz'}")


def checks_of(images: LabelledImages, path: Path, classes: str) -> Path:
    path.write_text(
        "schema = 2\nprotocol = 1\n"
        f'[data]\nname = "{images.name}"\nsplit = "test"\nsha256 = "{images.sha256}"\n'
        f"n = {len(images)}\n{classes}\n"
    )
    return path


def session_of(npz, tmp_path, classes):
    spec = npz(images=np.repeat(GREY, 2, axis=1), labels=LABELS)
    arguments = {"conv_channels": [1], "fc_sizes": [], "image_size": [12, 5], "classes": 2}
    save_checkpoint(
        tmp_path / "m.safetensors", FashionCNN(**arguments), Record("fashion-cnn", arguments, ())
    )
    checks = checks_of(load_images(spec), tmp_path / "checks.toml", classes)
    options = RunRequest(
        roles={"candidate": tmp_path / "m.safetensors"}, checks=checks, data=spec, no_cache=True
    )
    return open_session(options, workers=1)


def test_the_checks_file_may_name_the_classes(npz, tmp_path):
    session = session_of(npz, tmp_path, 'classes = ["benign", "malignant"]')
    assert session.images.classes == ("benign", "malignant")
    assert session.roles["candidate"].predict(session.images).classes == ("benign", "malignant")
    with pytest.raises(InputError, match=r"\[data\] classes has 1 names, the data have 2 classes"):
        session_of(npz, tmp_path, 'classes = ["benign"]')


@pytest.mark.parametrize(
    "classes", ["classes = []", 'classes = "a"', "classes = [1, 2]", 'classes = ["a", "a"]']
)
def test_other_names_of_classes_are_refused(npz, tmp_path, classes):
    images = load_images(npz(images=GREY, labels=LABELS))
    with pytest.raises(ChecksError, match=r"checks\.toml: (data: |\[data\] )classes"):
        read_checks(checks_of(images, tmp_path / "checks.toml", classes))


def test_a_source_is_one_entry_in_a_table(monkeypatch):
    def read(count):
        picture = np.zeros((8, 8, 3), dtype=np.uint8)
        labels = np.arange(int(count)) % 2
        return Pictures(
            Item.each(lambda _: picture, len(labels), ""),
            labels,
            "noise",
            "noise",
            count,
            ("a", "b"),
        )

    monkeypatch.setitem(sys.modules, "harness.data.noise", SimpleNamespace(read=read))
    monkeypatch.setitem(
        SOURCES.own, "noise", Source("noise:read", takes="COUNT", about="images of nothing")
    )
    assert load_images("noise:6", size=(4, 5), channels=1).pixels.shape == (6, 1, 4, 5)
    assert DataOptions(data="noise:6").load().pixels.shape == (6, 3, 8, 8)
    with pytest.raises(InputError, match=r"(?m), folder:PATH, .* noise:COUNT or module:callable$"):
        load_images("nose:6")
    assert specs_in_words().endswith("webdataset:SHARDS, noise:COUNT or module:callable")


def test_the_settings_of_data_need_no_numpy_and_help_names_the_sources(capsys):
    assert main(["evaluate", "--help"]) == 0
    assert "".join(specs_in_words().split()) in "".join(capsys.readouterr().out.split())
    code = "import sys, harness.data.options; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "spec", ["npz", "npz:", "folder:", "fashion-mnist:", "fashion-mnist:x", "", ":x", "x:", "x:1"]
)
def test_a_specification_of_another_form_is_refused_with_those_there_are(spec):
    with pytest.raises(
        InputError, match=rf"data {spec}: unknown data; expected fashion-mnist, folder:PATH"
    ):
        load_images(spec)


def test_a_fixed_sample_stands_for_many_images_of_no_class(npz):
    images = load_images(npz(images=GREY, labels=LABELS))
    many = npz(images=np.zeros((1_001, 6, 5), dtype=np.uint8), labels=np.arange(1_001) % 4)
    assert len(load_elsewhere(many, images, Pipeline())) == 1_000
    assert len(load_elsewhere(many, images, Pipeline(), most=None)) == 1_001


def npz_file(folder, pixels, labels):
    np.savez(folder / "field.npz", images=pixels, **({} if labels is None else {"labels": labels}))
    return f"npz:{folder / 'field.npz'}"


def csv_file(folder, pixels, labels):
    rows = ["path" if labels is None else "path,label"]
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{number}.png")
        rows.append(f"{number}.png" if labels is None else f"{number}.png,{labels[number]}")
    (folder / "field.csv").write_text("\n".join(rows))
    return f"csv:{folder / 'field.csv'}"


def as_png(image):
    content = io.BytesIO()
    Image.fromarray(image).save(content, "png")
    return content.getvalue()


def parquet_file(folder, pixels, labels):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {"image": [as_png(image) for image in pixels]}
    columns |= {} if labels is None else {"label": labels}
    parquet.write_table(pyarrow.table(columns), folder / "field.parquet")
    return f"parquet:{folder / 'field.parquet'}"


def hf_file(folder, pixels, labels):
    return parquet_file(folder, pixels, labels).replace("parquet:", "hf:")


def shard(folder, pixels, labels):
    with tarfile.open(folder / "field.tar", "w") as archive:
        for number, image in enumerate(pixels):
            contents = {"png": as_png(image)}
            contents |= {} if labels is None else {"cls": str(labels[number]).encode()}
            for kind, content in contents.items():
                member = tarfile.TarInfo(f"{number}.{kind}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return f"webdataset:{folder / 'field.tar'}"


@pytest.mark.parametrize("write", [npz_file, csv_file, parquet_file, hf_file, shard])
@pytest.mark.parametrize(
    "labels", [None, [-1] * 10], ids=["without labels", "with labels of no class"]
)
def test_images_of_no_class_need_no_labels(tmp_path, npz, write, labels):
    pixels = np.random.default_rng(0).integers(0, 256, (10, 6, 5), dtype=np.uint8)
    images = load_images(npz(images=GREY, labels=LABELS))
    spec = write(tmp_path, pixels, labels)
    field = load_elsewhere(spec, images, Pipeline(), setting="unlabeled")
    assert np.array_equal(field.pixels[:, 0].numpy(), pixels)
    assert set(field.labels.tolist()) == {OF_NO_CLASS}


@pytest.mark.parametrize(
    "with_label", [lambda image: image, lambda image: (image, None), lambda image: {"image": image}]
)
def test_items_of_no_class_need_no_labels(npz, monkeypatch, with_label):
    pictures = [Image.fromarray(image) for image in GREY]
    monkeypatch.setitem(
        sys.modules, "field_images", SimpleNamespace(items=[*map(with_label, pictures)])
    )
    images = load_images(npz(images=GREY, labels=LABELS))
    field = load_elsewhere("field_images:items", images, Pipeline(), setting="unlabeled")
    assert np.array_equal(field.pixels[:, 0].numpy(), GREY)


def test_the_cache_keeps_images_with_and_without_their_labels_apart(npz, monkeypatch):
    monkeypatch.setattr(decoding, "SMALL", 0)
    spec = npz(images=COLOUR, labels=LABELS)
    images = load_images(spec, size=(6, 5))
    assert set(load_elsewhere(spec, images, Pipeline()).labels.tolist()) == {OF_NO_CLASS}
    assert load_images(spec, size=(6, 5)).labels.tolist() == LABELS.tolist()
    load_elsewhere(spec, images, Pipeline())
    assert load_images(spec, size=(6, 5)).classes == images.classes


def test_a_picture_that_is_a_program_in_disguise_is_not_run(tmp_path, monkeypatch):
    """Pillow hands PostScript to Ghostscript, whatever the file's name."""
    from PIL import EpsImagePlugin

    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
    )
    ran = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *found, **_: ran.append(found))
    with pytest.raises(InputError, match=r"1\.png: cannot be read as an image"):
        load_images(f"folder:{tmp_path}")
    assert not ran


def test_pictures_that_would_fill_the_memory_are_refused(tmp_path):
    (tmp_path / "a").mkdir()
    Image.new("L", (5_000, 5_000)).save(tmp_path / "a/0.png")
    for number in range(1, 20):
        (tmp_path / f"a/{number}.png").symlink_to(tmp_path / "a/0.png")
    with pytest.raises(InputError, match=r"bytes claim to hold \d+, more than 100 times as many"):
        load_images(f"folder:{tmp_path}")
    (tmp_path / "wide" / "a").mkdir(parents=True)
    Image.new("1", (13_000, 13_000)).save(tmp_path / "wide/a/0.png")
    with pytest.raises(
        InputError, match=r"0\.png: has 13000x13000 pixels, the limit is \d+ pixels; scale it down"
    ):
        load_images(f"folder:{tmp_path / 'wide'}", size=(8, 8))
