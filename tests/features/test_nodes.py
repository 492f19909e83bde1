"""Pictures decoded on the nodes of a cluster: the bits, notes and errors of one process.

Lost workers and nodes are tested with predictions, in `test_on_ray.py`, since the calls are the
same.
"""

import threading

import numpy as np
import pytest
import torch
from PIL import Image
from served import serving

from harness.base.errors import InputError
from harness.data import decoding, load_images
from harness.data.options import DataOptions
from harness.data.pipeline import Pipeline
from harness.data.transforms import transform_of
from harness.features.cluster.backend import cluster_of
from harness.inference import spread_of
from harness.networks.options import BackendOptions

pytestmark = pytest.mark.cluster
COUNT = 40


@pytest.fixture
def nodes(two_nodes):
    cluster_of.cache_clear()  # A test before may have lost its own.
    return spread_of(BackendOptions(backend="ray", ray_address=two_nodes.address))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own, five pictures of 12 by 10 pixels at a time.

    Even small data go into it.
    """
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(decoding, "SMALL", 0)
    monkeypatch.setattr(decoding, "_SENT", 5 * 12 * 10 * 3)
    return tmp_path / "cache" / "stress-harness" / "images"


@pytest.fixture
def made(monkeypatch):
    """A list that grows with each picture that this process decodes.

    The first picture is always read and left out.
    """
    seen, own = [], decoding.Decoder.decode
    monkeypatch.setattr(
        decoding.Decoder, "decode", lambda this, at: (seen.append(at), own(this, at))[1]
    )
    return seen


@pytest.fixture
def photos(tmp_path):
    """Photographs of several sizes in two folders; the last one is transparent."""
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        file = tmp_path / "photos" / ("ant", "bee")[number * 2 // COUNT] / f"{number:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(
            0, 256, (12 + number % 3, 10, 3 + (number == COUNT - 1)), dtype=np.uint8
        )
        Image.fromarray(pixels).save(file)
    return tmp_path / "photos"


def as_folder(photos):
    return f"folder:{photos}"


def as_shards(photos):
    import tarfile

    for number, label in enumerate(("ant", "bee")):
        (photos / "label.cls").write_text(str(number))
        with tarfile.open(photos / f"test-{number}.tar", "w") as archive:
            for file in sorted((photos / label).iterdir()):
                archive.add(file, f"{file.stem}.png")
                archive.add(photos / "label.cls", f"{file.stem}.cls")
    return f"webdataset:{photos}/test-{{0..1}}.tar"


def as_parquet(photos):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    files = sorted(photos.rglob("*.png"))
    rows = {
        "image": [file.read_bytes() for file in files],
        "label": [file.parent.name for file in files],
    }
    parquet.write_table(pa.table(rows), photos / "all.parquet", row_group_size=7)
    return f"parquet:{photos / 'all.parquet'}"


def both(spec, nodes, cache, made, **options):
    """Return the images as one process decodes them, and as the nodes do.

    This process then decodes none.
    """
    pipeline = Pipeline(**options) if "transform" in options else DataOptions(**options).pipeline
    mine = load_images(spec, pipeline=pipeline)
    keys = [path.name for path in cache.glob("*.entry")]
    for path in cache.glob("*.entry"):
        path.unlink()
    made.clear()
    theirs = load_images(spec, pipeline=pipeline, spread=nodes)
    assert [path.name for path in cache.glob("*.entry")] == keys
    return mine, theirs


def expect_the_same(mine, theirs):
    assert torch.equal(mine.pixels[:], theirs.pixels[:])
    assert (mine.sha256, mine.notes, mine.classes) == (theirs.sha256, theirs.notes, theirs.classes)
    assert mine.labels.tolist() == theirs.labels.tolist()


@pytest.mark.parametrize(
    "source", [as_folder, as_shards, as_parquet], ids=lambda each: each.__name__
)
def test_pictures_have_the_same_bits_and_notes(nodes, photos, cache, made, source):
    mine, theirs = both(source(photos), nodes, cache, made, size="12x10")
    expect_the_same(mine, theirs)
    assert "1 of 40 images have transparency" in theirs.notes[-2]
    assert "26 of 40 images are stretched" in theirs.notes[-1]
    assert made == []


class Halved:
    """A transform of somebody's own, whose module no worker can import."""

    def __call__(self, picture):
        return torch.from_numpy(np.array(picture.resize((10, 12)))).permute(2, 0, 1) / 510

    def __repr__(self):
        return "Halved()"


def test_a_transform_of_ones_own_is_sent_along(nodes, photos, cache, made):
    mine, theirs = both(
        as_folder(photos), nodes, cache, made, transform=transform_of("mine:halved", Halved())
    )
    expect_the_same(mine, theirs)
    assert "40 of 40 images are rounded" in theirs.notes[-1]
    assert set(made) == set(range(decoding.TRIED)), "those that are tried twice"


def test_a_transform_that_cannot_be_sent_runs_here(nodes, photos, cache, made, capfd):
    class Locked(Halved):
        def __init__(self):
            self.lock = threading.Lock()

    mine, theirs = both(
        as_folder(photos), nodes, cache, made, transform=transform_of("mine:locked", Locked())
    )
    expect_the_same(mine, theirs)
    assert "cannot be sent to a worker" in capfd.readouterr().err
    assert set(made) == set(range(COUNT))


def test_a_picture_that_is_none_is_named_as_in_one_process(nodes, photos):
    for number in (25, 31):
        (photos / "bee" / f"{number}.png").write_bytes(b"no picture")
    messages = []
    for spread in (None, nodes):
        with pytest.raises(InputError, match=r"25\.png: cannot be read as an image") as caught:
            load_images(as_folder(photos), size=(12, 10), spread=spread)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_shards_on_a_server_are_read_by_the_workers(nodes, photos, cache, made):
    pytest.importorskip("aiohttp")
    as_shards(photos)
    with serving() as server:
        server.files = {
            f"test-{number}.tar": (photos / f"test-{number}.tar").read_bytes()
            for number in range(2)
        }
        spec = f"webdataset:{server.url('test-{0..1}.tar')}"
        mine, theirs = both(spec, nodes, cache, made, size="12x10")
    expect_the_same(mine, theirs)
    assert made == []


def test_what_no_worker_can_read_is_read_here_and_said_once(nodes, photos, cache, made, capfd):
    import fsspec

    as_shards(photos)
    for number in range(2):
        fsspec.filesystem("memory").pipe(
            f"/test-{number}.tar", (photos / f"test-{number}.tar").read_bytes()
        )
    mine, theirs = both("webdataset:memory://test-{0..1}.tar", nodes, cache, made, size="12x10")
    expect_the_same(mine, theirs)
    assert sorted(made) == list(range(COUNT)), "each once"
    said = capfd.readouterr().err
    assert said.count("this process does that work") == 1
    assert "memory://test-0.tar: is missing there, or has other content" in said


def test_a_node_that_cannot_is_replaced_by_this_process(two_nodes, nodes, capfd):
    import ray

    cluster_of(BackendOptions(ray_address=two_nodes.address)).start()
    blind = next(
        node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")
    )

    def call(thing):
        if ray.get_runtime_context().get_node_id() == blind:
            raise InputError("no such file")
        return thing, "there"

    def here(things):
        for thing in things:
            yield thing, "here"

    found = list(nodes(call, range(60), here=here, what="photos"))
    assert [thing for thing, _ in found] == list(range(60))
    assert {place for _, place in found} == {"here", "there"}
    assert capfd.readouterr().err.count("cannot (InputError: no such file)") == 1
