"""Images and their places: what is found where, what damage is noticed, how samples are drawn."""

import gc
import gzip
import hashlib
import http.server
import re
import shutil
import struct
import threading
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.base.errors import InputError
from harness.data import (
    LabelledImages,
    fashion_mnist,
    fetch_fashion_mnist,
    load_fashion_mnist,
    load_images,
    one_in,
    sample_up_to,
    split_validation,
    stratified_sample,
)
from harness.data.images import unit_range

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
PLACES = ("--data-dir", "$FASHION_MNIST_DIR", "cache", "debian")
IMAGES_FILE, LABELS_FILE = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"


def idx_bytes(array):
    return (
        bytes([0, 0, 8, array.ndim])
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.tobytes()
    )


TRAIN_IMAGES = np.arange(3 * 2 * 2, dtype=np.uint8).reshape(3, 2, 2)
TINY = {
    IMAGES_FILE: idx_bytes(TRAIN_IMAGES),
    LABELS_FILE: idx_bytes(np.array([7, 0, 9], dtype=np.uint8)),
    "t10k-images-idx3-ubyte.gz": idx_bytes(np.full((2, 2, 2), 5, dtype=np.uint8)),
    "t10k-labels-idx1-ubyte.gz": idx_bytes(np.array([1, 2], dtype=np.uint8)),
}


@pytest.fixture
def tiny_files(monkeypatch):
    """Make three training and two test images of 2x2 pixels pass for the real ones.

    The test split stays embedded.
    """
    pinned = {name: hashlib.sha256(TINY[name]).hexdigest() for name in fashion_mnist._SHA256}
    monkeypatch.setattr(fashion_mnist, "_SHA256", pinned)


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """All four places, in order, empty; $FASHION_MNIST_DIR names its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("FASHION_MNIST_DIR", str(tmp_path / "env"))
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "debian")
    cache = tmp_path / "xdg" / "stress-harness" / "fashion-mnist"
    return dict(
        zip(
            PLACES,
            (tmp_path / "data-dir", tmp_path / "env", cache, tmp_path / "debian"),
            strict=True,
        )
    )


def put_intact(folder):
    folder.mkdir(parents=True)
    for name, content in TINY.items():
        (folder / name).write_bytes(gzip.compress(content))


def put_damaged(folder):
    put_intact(folder)
    (folder / IMAGES_FILE).write_bytes(b"damaged")


@pytest.fixture(scope="module")
def embedded():
    return load_fashion_mnist("test")


def test_embedded_test_images_are_the_10000_of_fashion_mnist(embedded):
    assert embedded.pixels.shape == (10_000, 1, 28, 28)
    assert (embedded.pixels.dtype, embedded.labels.dtype) == (torch.uint8, torch.int64)
    assert (embedded.name, embedded.split, len(embedded)) == ("fashion-mnist", "test", 10_000)
    assert embedded.positions.tolist() == list(range(10_000))
    assert embedded.labels.bincount().tolist() == [1000] * 10
    assert embedded.classes == CLASSES, "the published order"
    assert embedded.classes[embedded.labels[0]] == "Ankle boot"
    assert load_images("fashion-mnist").sha256 == embedded.sha256


@pytest.mark.parametrize("position", range(4), ids=PLACES)
def test_first_place_that_has_the_files_wins_and_its_damage_is_an_error(
    tiny_files, folders, position
):
    first = folders[PLACES[position]]
    put_intact(first)
    for later in PLACES[position + 1 :]:
        put_damaged(folders[later])
    images = load_fashion_mnist("train", data_dir=folders["--data-dir"])
    assert images.pixels.tolist() == TRAIN_IMAGES[:, None].tolist()
    assert images.labels.tolist() == [7, 0, 9]
    assert (images.split, images.name) == ("train", "fashion-mnist")
    (first / IMAGES_FILE).write_bytes(b"damaged")
    for later in PLACES[position + 1 :]:
        shutil.rmtree(folders[later])
        put_intact(folders[later])
    with pytest.raises(InputError, match=re.escape(str(first / IMAGES_FILE))):
        load_fashion_mnist("train", data_dir=folders["--data-dir"])


@pytest.mark.parametrize("missing", [IMAGES_FILE, LABELS_FILE], ids=["images", "labels"])
def test_place_with_one_of_the_two_files_is_passed_over(tiny_files, folders, missing):
    put_intact(folders["$FASHION_MNIST_DIR"])
    (folders["$FASHION_MNIST_DIR"] / missing).unlink()
    put_intact(folders["debian"])

    assert len(load_fashion_mnist("train")) == 3


def test_error_of_missing_files_lists_every_named_place_and_the_fix(folders, monkeypatch):
    with pytest.raises(InputError) as error:
        load_fashion_mnist("train", data_dir=folders["--data-dir"])
    lines = str(error.value).splitlines()
    named = [
        "--data-dir",
        "$FASHION_MNIST_DIR",
        "the user's cache",
        "Debian's package dataset-fashion-mnist",
    ]
    assert [line.strip().split(": ") for line in lines[1:5]] == [
        [name, str(path)] for name, path in zip(named, folders.values(), strict=True)
    ]
    for said in (IMAGES_FILE, LABELS_FILE, "`stress-harness fetch-data`", "`--data-dir`"):
        assert said in str(error.value)
    for unset in (
        lambda: monkeypatch.setenv("FASHION_MNIST_DIR", ""),
        lambda: monkeypatch.delenv("FASHION_MNIST_DIR"),
    ):
        unset()
        with pytest.raises(InputError) as error:
            load_fashion_mnist("train")
        assert len([line for line in str(error.value).splitlines() if line.startswith("  ")]) == 2


def test_named_folder_is_used_for_the_test_images_too(tiny_files, folders):
    put_intact(folders["--data-dir"])
    assert load_fashion_mnist("test", data_dir=folders["--data-dir"]).labels.tolist() == [1, 2]


INTACT = gzip.compress(TINY[IMAGES_FILE])
WRONG_SHA = hashlib.sha256(idx_bytes(TRAIN_IMAGES + 1)).hexdigest()
RIGHT_SHA = hashlib.sha256(TINY[IMAGES_FILE]).hexdigest()
DAMAGES = {
    "empty": (b"", r"wrong content, SHA-256"),
    "gzip-cut": (INTACT[:-9], r"truncated"),
    "not-gzip": (b"<html>404 not found</html>", r"not an intact gzip file"),
    "gzip-checksum": (INTACT[:-8] + b"\0\0\0\0" + INTACT[-4:], r"not an intact gzip file .*CRC"),
    "gzip-stream": (INTACT[:10] + b"\xff" * 20, r"not an intact gzip file"),
    "trailing-garbage": (INTACT + b"garbage", r"not an intact gzip file"),
    "other-content": (
        gzip.compress(idx_bytes(TRAIN_IMAGES + 1)),
        rf"wrong content, SHA-256 {WRONG_SHA} instead of {RIGHT_SHA}",
    ),
}


@pytest.mark.parametrize(("content", "message"), DAMAGES.values(), ids=DAMAGES)
def test_damaged_file_is_named_with_its_damage_and_the_fix(tiny_files, folders, content, message):
    put_intact(folders["--data-dir"])
    (folders["--data-dir"] / IMAGES_FILE).write_bytes(content)

    with pytest.raises(InputError, match=message) as error:
        load_fashion_mnist("train", data_dir=folders["--data-dir"])

    assert str(error.value).startswith(f"{folders['--data-dir'] / IMAGES_FILE}: ")
    assert "`stress-harness fetch-data`" in str(error.value)


def test_damaged_labels_and_a_folder_in_place_of_a_file_are_input_errors(tiny_files, folders):
    folder = folders["--data-dir"]
    put_intact(folder)
    (folder / LABELS_FILE).write_bytes(
        gzip.compress(idx_bytes(np.array([7, 0, 8], dtype=np.uint8)))
    )
    with pytest.raises(InputError, match=f"{LABELS_FILE}: wrong content, SHA-256"):
        load_fashion_mnist("train", data_dir=folder)
    (folder / IMAGES_FILE).unlink()
    (folder / IMAGES_FILE).mkdir()
    with pytest.raises(InputError, match=rf"{IMAGES_FILE}: .*directory"):
        load_fashion_mnist("train", data_dir=folder)


class Server(http.server.ThreadingHTTPServer):
    """Answers each request with the entry of `answers` for its path, by default 404.

    It remembers the paths.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.asked = {}, []
        self.url = f"http://127.0.0.1:{self.server_port}/"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.rpartition("/")[2]
        self.server.asked.append(name)
        if name in self.server.answers:
            self.wfile.write(self.server.answers[name])
        else:
            self.send_error(404)

    def log_message(self, *_):
        pass


def answer(content, *, length=None):
    return f"HTTP/1.0 200 OK\r\nContent-Length: {length or len(content)}\r\n\r\n".encode() + content


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        server.answers.update(
            {name: answer(gzip.compress(content)) for name, content in TINY.items()}
        )
        yield server
        server.shutdown()
        thread.join()


def test_fetch_puts_verified_files_where_they_are_found(tiny_files, folders, server):
    assert fetch_fashion_mnist(url=server.url.rstrip("/")) == folders["cache"]
    assert (
        sorted(path.name for path in folders["cache"].iterdir())
        == sorted(TINY)
        == sorted(server.asked)
    )
    modes = [oct(path.stat().st_mode & 0o444) for path in folders["cache"].iterdir()]
    assert modes == ["0o444"] * 4, "other users can read them"
    assert load_fashion_mnist("train").labels.tolist() == [7, 0, 9]


def test_fetch_keeps_intact_files_and_replaces_damaged_ones(tiny_files, tmp_path, server):
    put_damaged(tmp_path / "folder")
    good = server.answers[IMAGES_FILE]
    server.answers[IMAGES_FILE] = answer(b"worse")
    with pytest.raises(InputError, match="not Fashion-MNIST"):
        fetch_fashion_mnist(tmp_path / "folder", url=server.url)
    assert (tmp_path / "folder" / IMAGES_FILE).read_bytes() == b"damaged"
    server.answers[IMAGES_FILE] = good
    fetch_fashion_mnist(tmp_path / "folder", url=server.url)
    assert server.asked == [IMAGES_FILE] * 2
    assert (
        load_fashion_mnist("train", data_dir=tmp_path / "folder").pixels.tolist()
        == TRAIN_IMAGES[:, None].tolist()
    )


REFUSED_DOWNLOADS = {
    "not-gzip": (
        answer(b"<html>please log in</html>"),
        "the download is not Fashion-MNIST .*not an intact gzip",
    ),
    "other-content": (
        answer(gzip.compress(idx_bytes(TRAIN_IMAGES + 1))),
        "the download is not Fashion-MNIST .*wrong content, SHA-256",
    ),
    "empty": (answer(b"", length=0), "the download is not Fashion-MNIST"),
    "cut-short": (
        answer(INTACT[:-9], length=len(INTACT)),
        "the download is not Fashion-MNIST|download failed",
    ),
    "chunk-cut-short": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nabc",
        "the download is not Fashion-MNIST|download failed",
    ),
    "not-found": (None, "download failed .*404"),
    "not-http": (b"220 mail.example.org ready\r\n\r\n", "download failed"),
}


def test_bad_downloads_are_refused_and_leave_nothing_behind(tiny_files, tmp_path, server):
    for name, (content, message) in REFUSED_DOWNLOADS.items():
        server.answers.pop(IMAGES_FILE, None)
        if content is not None:
            server.answers[IMAGES_FILE] = content
        with pytest.raises(InputError, match=message) as error:
            fetch_fashion_mnist(tmp_path / name, url=server.url)
        assert f"{server.url}{IMAGES_FILE}: " in str(error.value)
        assert "run the command again" in str(error.value)
        assert list((tmp_path / name).iterdir()) == []
    # A connection left open warns here, and not in whatever test comes when it is collected.
    del error
    gc.collect()


def test_places_to_fetch_from_and_to_that_are_none_are_input_errors(tiny_files, tmp_path, server):
    (tmp_path / "taken").write_bytes(b"")
    with pytest.raises(InputError, match="taken"):
        fetch_fashion_mnist(tmp_path / "taken", url=server.url)
    with pytest.raises(InputError, match=r"fashion.example/.*: download failed .*unknown url type"):
        fetch_fashion_mnist(tmp_path / "folder", url="fashion.example")
    server.shutdown()
    server.server_close()
    with pytest.raises(InputError, match=r"download failed .*refused"):
        fetch_fashion_mnist(tmp_path / "folder", url=server.url)


def labelled(labels, *, classes=None, size=(1, 2, 2)):
    labels = torch.tensor(labels)
    pixels = torch.arange(len(labels) * size[0] * size[1] * size[2]).remainder(251).to(torch.uint8)
    classes = classes or tuple(str(number) for number in range(int(labels.max()) + 1))
    return LabelledImages(pixels.view(-1, *size), labels, classes, name="made", split="test")


@pytest.fixture
def twenty():
    return labelled([number % 4 for number in range(20)])


CHANGES = {
    "pixel": lambda images: replace(
        images, pixels=images.pixels + (torch.arange(4).view(1, 1, 2, 2) == 3)
    ),
    "label": lambda images: replace(images, labels=(images.labels + 1) % 4),
    "order": lambda images: images.take(torch.arange(19, -1, -1)),
    "fewer": lambda images: images.take(torch.arange(19)),
}


def test_validation_split_is_disjoint_and_exhaustive(twenty):
    training, validation = split_validation(twenty, size=6, seed=1)
    assert (len(training), len(validation)) == (14, 6)
    assert sorted([*training.positions.tolist(), *validation.positions.tolist()]) == list(range(20))
    assert torch.equal(validation.pixels, twenty.pixels[validation.positions])
    assert torch.equal(training.labels, twenty.labels[training.positions])
    assert (
        len({twenty.sha256, *(change(twenty).sha256 for change in CHANGES.values())})
        == len(CHANGES) + 1
    )
    strided = replace(twenty, pixels=twenty.pixels.transpose(2, 3).contiguous().transpose(2, 3))
    assert not strided.pixels.is_contiguous()
    assert strided.sha256 == twenty.sha256
    assert twenty.sha256 != twenty.take(torch.arange(2)).sha256
    assert twenty.take(torch.arange(2)).hashed is None
    taken = replace(twenty, groups={"site": np.arange(20).astype(str)}).take(torch.tensor([7, 2]))
    assert taken.groups["site"].tolist() == ["7", "2"]
    assert taken.positions.tolist() == [7, 2]
    assert taken.labels.tolist() == [3, 2]
    assert torch.equal(taken.pixels, twenty.pixels[[7, 2]])
    assert (taken.classes, taken.name, taken.split) == (twenty.classes, twenty.name, twenty.split)
    assert twenty.take(torch.tensor([7, 2, 11])).take(torch.tensor([2, 0])).positions.tolist() == [
        11,
        7,
    ]


@pytest.mark.parametrize(
    "drawn",
    [
        lambda images, seed: split_validation(images, size=6, seed=seed)[1],
        lambda images, seed: stratified_sample(images, 9, seed=seed),
    ],
    ids=["validation", "sample"],
)
def test_what_is_drawn_depends_on_the_seed_alone(twenty, drawn):
    torch.manual_seed(5)
    before = torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()
    first, again, other = (drawn(twenty, seed).positions.tolist() for seed in (1, 1, 2))
    assert first == again != other
    assert (torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()) == before


@pytest.mark.parametrize("size", [-1, 0, 20, 21])
def test_sizes_that_do_not_fit_are_named_with_both_numbers(twenty, size):
    with pytest.raises(
        InputError, match=rf"validation split of {size} images .* 20 training images; .* 1 and 19"
    ):
        split_validation(twenty, size=size, seed=0)
    if size != 20:
        with pytest.raises(
            InputError, match=rf"sample of {size} images does not fit 20 images; .* 1 and 20"
        ):
            stratified_sample(twenty, size)


class_counts = st.lists(st.integers(1, 40), min_size=1, max_size=10)


@settings(deadline=None, max_examples=20)
@given(class_counts, st.data())
def test_stratified_sample_keeps_each_class_within_one_image_of_its_share(counts, data):
    images = labelled(
        [label for label, count in enumerate(counts) for _ in range(count)], size=(1, 1, 1)
    )
    size = data.draw(st.integers(1, len(images)))
    drawn = stratified_sample(images, size, seed=data.draw(st.integers(0, 100))).labels.bincount(
        minlength=len(counts)
    )

    assert drawn.sum() == size
    assert np.abs(drawn.numpy() - size * np.array(counts) / len(images)).max() <= 1 + 1e-9


def test_one_in_so_many_is_a_stratified_sample_ordered_and_nested(twenty):
    assert torch.equal(one_in(4, twenty).positions, stratified_sample(twenty, 5).positions)
    assert [len(one_in(step, twenty)) for step in (1, 3, 20, 21)] == [20, 6, 1, 1]
    positions = stratified_sample(twenty, 13).positions.tolist()
    assert positions == sorted(set(positions))
    assert stratified_sample(twenty, 8).labels.bincount().tolist() == [2, 2, 2, 2]
    assert set(stratified_sample(twenty, 5).positions.tolist()) < set(
        stratified_sample(twenty, 11).positions.tolist()
    )
    assert stratified_sample(twenty, 20).sha256 == twenty.sha256
    sample = stratified_sample(twenty, 8)
    assert stratified_sample(twenty, 8) is sample
    assert sample_up_to(twenty, 8) is sample
    assert sample_up_to(twenty, 20) is sample_up_to(twenty, 21) is twenty
    assert stratified_sample(twenty, 8, seed=1) is not sample
    assert stratified_sample(replace(twenty), 8) is not sample
    gone = weakref.ref(sample)
    del sample
    assert gone() is None, "its pixels are held by nobody else"
    floats = unit_range(torch.tensor([0, 51, 255], dtype=torch.uint8))
    assert floats.dtype == torch.float32
    assert floats.tolist() == pytest.approx([0, 0.2, 1])
