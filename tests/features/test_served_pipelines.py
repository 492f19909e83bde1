"""Serving pipelines.

The reference gives the data's own pixels, and each skew changes one stage of it.
"""

import gc
import importlib.util
import io
import tarfile
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision.transforms.v2 import functional

from harness.base.errors import InputError, NotApplicableError
from harness.data import LabelledImages, load_images
from harness.data.image_files import CODECS, Decode, Jpeg, read_picture
from harness.data.options import DataOptions
from harness.data.pictures import Item
from harness.data.pipeline import Pipeline
from harness.data.serving import serving_of
from harness.data.skews import SKEWS, Pictured, catalog
from harness.data.stages import NORMALISATIONS, Color, Crop, Normalise, Resize, Scale
from harness.features.skew.trials import causes_of
from harness.features.skew.variations import neighbors
from harness.networks import NetworkOptions

IMAGENET = NORMALISATIONS["ImageNet mean and std"]
RNG = np.random.default_rng(5)
COARSE = np.kron(RNG.integers(0, 256, (12, 16, 3)), np.ones((8, 8, 1))).astype(np.uint8)


def encoded(pixels=COARSE, kind="JPEG", *, orientation=1, **settings) -> bytes:
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(file, kind, exif=exif, **settings)
    return file.getvalue()


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with photographs in two classes, some with an EXIF orientation.

    The working directory.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for number in range(6):
        file = tmp_path / "photos" / "ab"[number % 2] / f"{number}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(
            encoded(np.roll(COARSE, 7 * number, axis=1), orientation=1 + number, quality=90)
        )
    return tmp_path


def loaded(here, *, spec="folder:photos", **given) -> LabelledImages:
    options = DataOptions(data=spec, **given)
    return options.load(NetworkOptions(model="torchvision.models:resnet18").transform_named)


PIPELINES = [
    {"resize": "40", "crop": "32"},
    {"resize": "40", "crop": "32x24", "interpolation": "bicubic"},
    {"size": "30x20", "interpolation": "nearest"},
    {"size": "30x20", "interpolation": "box", "channels": 1},
    {"resize": "24", "crop": "30", "antialias": "no"},
    {"size": "24", "interpolation": "nearest", "antialias": "no"},
    {"resize": "24", "crop": "20", "interpolation": "hamming"},
    {"transform": "torchvision"},
]


@pytest.mark.parametrize("given", PIPELINES, ids=str)
def test_the_reference_gives_the_pixels_of_the_data(here, given):
    images = loaded(here, **given)
    serving = serving_of(images)
    assert serving.note == ""
    for position in range(len(images)):
        made = serving.reference.picture(serving.picture(position)).pixels
        assert np.array_equal(made.transpose(2, 0, 1), images.pixels[position].numpy())


TENSORS = """
import torch
from torchvision.transforms import v2

steps = v2.Compose([
    v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True),
    v2.Resize(40), v2.CenterCrop(32), v2.Normalize([0.5] * 3, [0.25] * 3),
])
exact = v2.Compose([
    v2.Resize((32, 32), interpolation=v2.InterpolationMode.NEAREST_EXACT), v2.ToImage(),
])

def half(picture):
    return picture.resize((24, 24)).reduce(2)
"""


def test_a_transform_is_read_as_stages_or_is_an_opaque_one(here, monkeypatch):
    (here / "tensors.py").write_text(TENSORS)
    monkeypatch.syspath_prepend(here)
    reference = serving_of(loaded(here, transform="tensors:steps")).reference
    assert (reference.resize, reference.transform) == ((Resize(40, "torch", "bilinear"),), None)
    for name in ("exact", "half"):  # A filter that no stage has, and a callable.
        serving = serving_of(loaded(here, transform=f"tensors:{name}"))
        assert f"tensors:{name} (one opaque stage)" in str(serving.reference)
        assert serving.note == ""
    with pytest.raises(NotApplicableError, match="one opaque stage"):
        serving.skewed("resize-opencv-bilinear")
    assert serving.by(serving.skewed("jpeg-75")).pixels[:].shape == (6, 3, 12, 12)
    reference = serving_of(loaded(here, transform="torchvision"), IMAGENET).reference
    assert reference.transform is None
    assert str(reference) == (
        f"Pillow {Image.__version__.partition('.')[0]}, EXIF applied, RGB, shorter side 256 "
        "bilinear antialiased by Pillow, center crop 224, /255, ImageNet mean and std"
    )


def files_of(here):
    return sorted((here / "photos").rglob("*.jpg"), key=lambda file: (file.parent.name, file.name))


def as_csv(here):
    rows = [f"{file.relative_to(here)},{file.parent.name}" for file in files_of(here)]
    (here / "list.csv").write_text("path,label\n" + "\n".join(rows))
    return "csv:list.csv"


def as_parquet(here):
    import pyarrow as pa
    from pyarrow import parquet

    pictures = [{"bytes": file.read_bytes(), "path": file.name} for file in files_of(here)]
    labels = [int(file.parent.name == "b") for file in files_of(here)]
    parquet.write_table(
        pa.table({"image": pictures, "label": labels}), here / "rows.parquet", row_group_size=2
    )
    return "parquet:rows.parquet"


def as_shard(here):
    with tarfile.open(here / "shard.tar", "w") as archive:
        for number, file in enumerate(files_of(here)):
            for kind, content in (
                ("jpg", file.read_bytes()),
                ("cls", str(int(file.parent.name == "b")).encode()),
            ):
                member = tarfile.TarInfo(f"{number}.{kind}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return "webdataset:shard.tar"


@pytest.mark.parametrize("source", [as_csv, as_parquet, as_shard])
def test_every_source_of_files_keeps_their_bytes(here, source):
    folder = serving_of(loaded(here, size="32"))
    serving = serving_of(loaded(here, spec=source(here), size="32"))
    assert serving.pictured == folder.pictured
    assert serving.pictured.formats == {"JPEG"}
    assert [serving.picture(at) for at in range(6)] == [
        file.read_bytes() for file in files_of(here)
    ]
    for name in ("exif", "jpeg-75"):
        assert torch.equal(
            serving.by(serving.skewed(name)).pixels[:], folder.by(folder.skewed(name)).pixels[:]
        )
    images = loaded(here, size="32")
    some, whole = serving_of(images.take(torch.tensor([4, 1]))), serving_of(images)
    skewed = whole.skewed("jpeg-75")
    assert torch.equal(some.by(skewed).pixels[:], whole.by(skewed).pixels[torch.tensor([4, 1])]), (
        "those of a sample"
    )


@pytest.mark.parametrize("library", ["pillow", "opencv", "torchvision"])
def test_each_decoder_turns_pictures_as_exif_says(library):
    for orientation in range(1, 9):
        content = encoded(kind="PNG", orientation=orientation)
        with Image.open(io.BytesIO(content)) as opened:
            expected = np.asarray(ImageOps.exif_transpose(opened))
        assert np.array_equal(Decode(library).apply(content, upright=True, where="x"), expected)
        assert np.array_equal(Decode(library).apply(content, upright=False, where="x"), COARSE)


@pytest.mark.parametrize(("library", "least", "most"), [("ffmpeg", 0.5, 6), ("simplejpeg", 0.1, 2)])
def test_other_decoders_give_nearly_the_same_pixels(library, least, most):
    pytest.importorskip(CODECS[library].module)
    content = encoded(
        np.asarray(Image.fromarray(COARSE).resize((320, 240))),
        orientation=6,
        quality=92,
        subsampling=2,
    )
    seen = np.asarray(Decode(library).apply(content, upright=True, where="x"))
    apart = np.abs(seen.astype(int) - np.asarray(read_picture(content)))
    assert seen.shape == (320, 240, 3)
    assert least < apart.mean() < most


def test_what_a_decoder_cannot_do_is_said(monkeypatch):
    assert Decode(reduced=2).apply(encoded(), upright=True, where="x").size == (64, 48)
    with pytest.raises(InputError, match=r"cat\.gif: opencv does not decode GIF"):
        Decode("opencv").apply(encoded(kind="GIF"), upright=True, where="cat.gif")
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None)
    for name in ("decode-torchvision", "decode-ffmpeg", "decode-fast-dct"):
        with pytest.raises(NotApplicableError, match="is not installed"):
            SKEWS[name].of(Pipeline(), Pictured(3, (8, 8), frozenset({"JPEG"})))


@pytest.mark.parametrize(
    ("size", "right", "down"), [((40, 30), 1, 0), ((40, 30), -3, 2), ((120, 140), 5, -4)]
)
def test_a_moved_crop_is_the_center_crop_of_a_moved_window(size, right, down):
    wide = np.pad(COARSE, ((60, 60), (60, 60), (0, 0)))
    moved = Image.fromarray(np.roll(wide, (-down, -right), axis=(0, 1)))
    assert Crop(size, right, down).apply(Image.fromarray(COARSE)) == Crop(size).apply(moved)


def test_a_stage_that_is_skewed_is_the_only_one_that_differs():
    reference = Pipeline(
        color=Color(3), resize=(Resize(64),), crop=Crop((56, 56)), normalise=IMAGENET
    )
    pictured = Pictured(3, (56, 56), frozenset({"JPEG"}), turned=True)
    found = catalog(reference, pictured)
    assert {SKEWS[name].stage for name in found} == set(reference.words)
    differing = {name: reference.differing(skewed) for name, skewed in found.items()}
    assert differing.pop("minus-one-to-one") == ("scale", "normalise")
    assert differing.pop("squash") == ("resize",)
    assert differing.pop("letterbox") == ("resize", "crop")
    assert differing == {name: (SKEWS[name].stage,) for name in differing}
    for skewed in found.values():
        pixels = skewed.apply(encoded(orientation=6), network=IMAGENET)
        assert pixels.shape == (3, 56, 56)
        assert pixels.dtype == np.float32


@pytest.mark.parametrize(
    ("name", "by_hand"),
    [
        ("zoom", lambda picture: center(shorter(picture, 32), 28)),
        (
            "zoom-stretched",
            lambda picture: center(picture.resize((32, 32), Image.Resampling.BILINEAR), 28),
        ),
        ("shorter-side", lambda picture: center(shorter(picture, 28), 28)),
        (
            "stretch-horizontal",
            lambda picture: center(picture.resize((32, 28), Image.Resampling.BILINEAR), 28),
        ),
        (
            "stretch-vertical",
            lambda picture: center(picture.resize((28, 32), Image.Resampling.BILINEAR), 28),
        ),
        ("crop-first", lambda picture: stretched(center(picture, 53, 38))),
        ("gamma-linear-late", lambda picture: curved(stretched(picture), 2.2)),
        (
            "jpeg-75-late",
            lambda picture: read_picture(encoded(np.asarray(stretched(picture)), quality=75)),
        ),
    ],
)
def test_stages_in_another_order_give_the_pixels_of_a_server(name, by_hand):
    picture = Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (43, 61, 3), dtype=np.uint8)
    )
    reference = Pipeline(color=Color(3), resize=(Resize((28, 28)),))
    skewed = SKEWS[name].of(reference, Pictured(3, (28, 28)))
    assert np.array_equal(skewed.picture(picture).pixels, np.asarray(by_hand(picture)))
    assert causes_of(skewed, reference) == (SKEWS[name].stage,)


def stretched(picture):
    return picture.resize((28, 28), Image.Resampling.BILINEAR)


def shorter(picture, side):
    width, height = picture.size
    by = side / min(width, height)
    return picture.resize((int(width * by), int(height * by)), Image.Resampling.BILINEAR)


def center(picture, width, height=None):
    return functional.center_crop(picture, [height or width, width])


def curved(picture, gamma):
    return np.rint(255 * (np.asarray(picture) / 255) ** gamma)


def network(pixels, normalise):
    return (torch.from_numpy(pixels) - torch.tensor(normalise.mean)[:, None, None]) / torch.tensor(
        normalise.std
    )[:, None, None]


@pytest.mark.parametrize(
    ("scale", "normalise", "numbers"),
    [
        (Scale(), Normalise(), lambda x: x / 255),
        (Scale(divisor=127.5, offset=-1), Normalise(), lambda x: x / 127.5 - 1),
        (Scale(divisor=256), IMAGENET, lambda x: (x / 256 - IMAGENET.mean) / IMAGENET.std),
        (Scale(), Normalise((0.5,), (0.25,)), lambda x: (x / 255 - 0.5) / 0.25),
        (Scale(bits=6), Normalise(), lambda x: x // 4 * 4 / 255),
    ],
    ids=["as it is", "minus one to one", "divided by 256", "half", "6 bits"],
)
def test_a_network_computes_the_numbers_that_were_served(scale, normalise, numbers):
    pipeline = Pipeline(color=Color(3), scale=scale, normalise=normalise)
    seen = network(pipeline.apply(COARSE, network=IMAGENET), IMAGENET)
    expected = torch.from_numpy(numbers(COARSE.astype(np.float64)).transpose(2, 0, 1)).float()
    assert torch.allclose(seen, expected, atol=2e-6)
    half = Pipeline(color=Color(3), normalise=IMAGENET, scale=Scale(precision="float16"))
    apart = np.abs(half.apply(COARSE) - replace(half, scale=Scale()).apply(COARSE))
    assert 0 < apart.max() < 1e-3, "its precision alone"


def test_the_reference_is_the_images_and_gray_ones_have_no_color_skews():
    pixels = torch.from_numpy(RNG.integers(0, 256, (5, 1, 28, 28), dtype=np.uint8))
    images = LabelledImages(pixels, torch.arange(5) % 2, ("a", "b"), "shop", "test")
    serving = serving_of(images, NORMALISATIONS["MNIST mean and std"])
    assert serving.by(serving.reference) is images
    other = serving.by(replace(serving.reference, crop=Crop((28, 28))))
    assert torch.equal(other.pixels[:] / 255, pixels.float() / 255)
    assert "pixels, not pictures" in serving.note
    serving = serving_of(load_images("fashion-mnist").take(torch.arange(10)))
    assert {"jpeg-75", "resize-opencv-bilinear", "crop-right-1", "video-range"} <= set(
        serving.catalog
    )
    assert {"bgr", "gray", "exif", "decode-opencv", "squash"} & set(serving.catalog) == set()
    with pytest.raises(NotApplicableError, match="the images are gray"):
        serving.skewed("bgr")
    with pytest.raises(InputError, match="jpeg-75"):
        serving.skewed("jpeg-10")


def test_files_of_equal_pixels_are_told_apart_by_their_bytes(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    hashes = []
    for name, orientation, pixels in (
        ("plain", 1, COARSE),
        ("turned", 3, COARSE[::-1, ::-1].copy()),
    ):
        (tmp_path / name / "a").mkdir(parents=True)
        (tmp_path / name / "a" / "0.png").write_bytes(
            encoded(pixels, "PNG", orientation=orientation)
        )
        serving = serving_of(load_images(f"folder:{tmp_path / name}"))
        hashes.append(
            (serving.images.sha256, serving.by(replace(serving.reference, jpeg=Jpeg(50))).sha256)
        )
    assert hashes[0][0] == hashes[1][0]
    assert hashes[0][1] != hashes[1][1]


def test_a_gray_jpeg_stays_gray_and_a_server_may_normalize_too():
    assert Jpeg(75).apply(Image.fromarray(COARSE[..., 0])).mode == "L"
    assert np.asarray(read_picture(encoded(COARSE[..., 0]))).ndim == 2
    reference = Pipeline(normalise=IMAGENET, encoded=False)
    twice = SKEWS["normalise-twice"].of(reference, Pictured(3, COARSE.shape[:2]))
    numbers = IMAGENET.apply(twice.apply(COARSE, network=IMAGENET).transpose(1, 2, 0))
    expected = IMAGENET.apply(IMAGENET.apply((COARSE / 255).astype(np.float32)))
    np.testing.assert_allclose(numbers, expected, atol=1e-4)


def test_one_turned_picture_among_many_is_seen(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(100):
        file = tmp_path / "photos" / "a" / f"{number:02}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded(COARSE[:8, :8], orientation=6 if number == 2 else 1))
    assert "exif" in serving_of(load_images("folder:photos", size=(8, 8))).catalog


def test_files_are_hashed_once_and_images_are_let_go(here):
    images = loaded(here, size="32")
    asked = []
    counted = Item.each(
        lambda position: asked.append(position) or images.origin.picture(position), 6, "picture"
    )
    seen = replace(images, origin=replace(images.origin, rows=counted))
    names = ("jpeg-75", "jpeg-85", "exif")
    first = {serving_of(seen).by(serving_of(seen).skewed(name)).sha256 for name in names}
    count = len(asked)
    assert len(first) == 3
    assert first == {serving_of(seen).by(serving_of(seen).skewed(name)).sha256 for name in names}
    assert len(asked) == count, "no file is read again to know it"
    gone = weakref.ref(seen)
    del seen
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    ("channels", "expected"), [(3, {"4:4:4", "4:2:2", "4:2:0"}), (1, {"4:2:0"})]
)
def test_neighbors_of_a_jpeg_have_other_chroma_subsampling_in_color(channels, expected):
    reference = Pipeline(color=Color(channels))
    found = neighbors(replace(reference, jpeg=Jpeg(60)), reference)
    assert {pipeline.jpeg.subsampling for pipeline in found} == expected
