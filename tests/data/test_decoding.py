"""Pictures are decoded once, onto disk, and read from there.

Complete or anew, and never all of them in memory.
"""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from harness.base.errors import InputError
from harness.cli import main
from harness.data import LabelledImages, decoding, load_images, rows
from harness.data.decoding import decoded
from harness.data.pictures import Item, Pictures
from harness.data.pipeline import Pipeline
from harness.perturb.backgrounds import with_background, without_object

SIZE = (12, 10)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own, into which even small data go, and which even small data stay in."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(decoding, "SMALL", 0)
    monkeypatch.setattr(decoding, "COPIED", 0)
    monkeypatch.setattr(rows, "COPIED", 0)
    return tmp_path / "cache" / "stress-harness" / "images"


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    for label in ("ant", "bee"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(10):
            pixels = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{number}.png")
    return tmp_path / "photos"


def in_memory(photos, monkeypatch) -> LabelledImages:
    with monkeypatch.context() as patch:
        patch.setattr(decoding, "SMALL", 1 << 20)
        return load_images(f"folder:{photos}")


def reads(monkeypatch) -> list[int]:
    """Return a list that grows with each picture that is decoded."""
    seen, made = [], decoding.Decoder.decode
    monkeypatch.setattr(
        decoding.Decoder, "decode", lambda this, at: (seen.append(at), made(this, at))[1]
    )
    return seen


INDICES = (
    *(3, -1, slice(2, 5), slice(None), [4, 1], torch.tensor([7, 7, 0]), np.array([1, 2, 3, 9])),
    *((2, 0), (slice(3), 1, 4)),
    *(slice(0), torch.tensor([], dtype=torch.int64), np.array([], dtype=np.int64)),
)


def test_rows_are_used_as_a_tensor_is(photos, monkeypatch):
    expected, images = in_memory(photos, monkeypatch), load_images(f"folder:{photos}")
    assert isinstance(images.pixels, rows.Rows)
    assert (images.sha256, images.labels.tolist()) == (expected.sha256, expected.labels.tolist())
    some = torch.tensor([5, 0, 19, 4, 4, 3, 2, 1, 9, 11])
    for index in INDICES:
        assert torch.equal(images.pixels[index], expected.pixels[index])
        assert torch.equal(images.take(some).pixels[index], expected.pixels[some][index])
    assert torch.equal(
        images.pixels.permute(0, 2, 3, 1).float(), expected.pixels.permute(0, 2, 3, 1).float()
    )
    assert torch.equal(torch.cat([images.pixels, images.pixels]), torch.cat([expected.pixels] * 2))
    assert np.array_equal(np.asarray(images.pixels), expected.pixels.numpy())
    images = in_memory(photos, monkeypatch)
    expected = images.sha256
    assert expected != replace(images, pixels=255 - images.pixels).sha256
    monkeypatch.setattr("hashlib.sha256", lambda *_: pytest.fail("hashed again"))
    assert replace(images, classes=("a", "b")).sha256 == expected


def test_another_file_pipeline_or_time_decodes_anew_and_else_nothing_is(photos, monkeypatch):
    seen = reads(monkeypatch)
    first = load_images(f"folder:{photos}")
    assert (load_images(f"folder:{photos}").sha256, len(seen)) == (first.sha256, 20)
    load_images(f"folder:{photos}", size=(6, 6))
    assert len(seen) == 40
    Image.new("RGB", SIZE[::-1]).save(photos / "ant" / "0.png")
    assert not load_images(f"folder:{photos}").pixels[0].any()
    assert len(seen) == 60


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "end"])
def test_a_damaged_entry_is_decoded_again(photos, cache, monkeypatch, damage):
    expected = load_images(f"folder:{photos}")
    (entry,) = cache.glob("*.entry")
    content = bytearray(entry.read_bytes())
    if damage == "flipped":
        content[1000] ^= 1
    if damage == "end":
        content[-60] ^= 1
    entry.write_bytes(content[: {"cut": 2000, "empty": 0}.get(damage, len(content))])
    seen = reads(monkeypatch)
    assert load_images(f"folder:{photos}").sha256 == expected.sha256
    assert len(seen) == 20
    load_images(f"folder:{photos}")
    assert len(seen) == 20


def test_an_entry_that_is_not_finished_is_none(photos, cache):
    (photos / "bee" / "9.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"9\.png: cannot be read as an image"):
        load_images(f"folder:{photos}")
    assert [path for path in cache.iterdir() if path.suffix != ".lock"] == []


def test_a_disk_without_room_is_said_before_anything_is_decoded(photos, monkeypatch):
    seen = reads(monkeypatch)
    monkeypatch.setattr("harness.base.cache.MARGIN", 1 << 62)
    with pytest.raises(
        InputError, match=r"20 decoded images need 0\.0 GB .*GB are free.*--clear.*XDG_CACHE_HOME"
    ):
        load_images(f"folder:{photos}")
    assert seen == []


def test_where_nothing_can_be_written_few_images_stay_in_memory(photos, cache, monkeypatch):
    cache.parent.mkdir(parents=True)
    cache.write_text("no folder")
    assert torch.equal(
        load_images(f"folder:{photos}").pixels, in_memory(photos, monkeypatch).pixels
    )


def test_one_decoding_is_shared_and_the_command_shows_it(photos, monkeypatch, cache, capsys):
    seen = reads(monkeypatch)
    with ThreadPoolExecutor(2) as pool:
        hashes = {images.sha256 for images in pool.map(load_images, [f"folder:{photos}"] * 2)}
    assert (len(seen), len(hashes)) == (20, 1)
    load_images(f"folder:{photos}")
    assert main(["cache"]) == 0
    assert f"{cache}: 1 sets of decoded images kept" in capsys.readouterr().out
    assert main(["cache", "--clear"]) == 0
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("kind", ["noise", "texture", "swapped", "clutter", None])
def test_backgrounds_on_disk_are_those_in_memory(photos, monkeypatch, kind):
    expected, images = in_memory(photos, monkeypatch), load_images(f"folder:{photos}")
    masks = np.zeros((20, *SIZE), dtype=bool)
    masks[:, 3:8, 2:7] = True

    def changed(of):
        return (
            without_object(of, masks) if kind is None else with_background(of, masks, kind)
        ).changed

    found = changed(images)
    monkeypatch.setattr(rows, "COPIED", 1 << 20)
    assert isinstance(found.pixels, rows.Rows)
    assert found.sha256 == changed(expected).sha256


def test_memory_does_not_grow_with_the_number_of_images(monkeypatch):
    monkeypatch.setattr(decoding, "_BLOCK", 8)
    count, size = 400, 128
    pictures = Pictures(
        Item.each(
            lambda position: np.full((size, size, 3), position % 256, dtype=np.uint8),
            count,
            "picture",
        ),
        labels=np.arange(count) % 2,
        names=("a", "b"),
        name="many",
        whole="many",
        made_of="many",
    )
    tracemalloc.start()
    try:
        images = decoded(pictures, Pipeline())
        sample = images.take(torch.arange(0, count, 2))
        assert images.pixels[torch.tensor([7])].max() == 7
        assert len(sample.sha256) == 64
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    whole = count * size * size * 3
    assert peak < whole / 1.5, f"{peak / 1e6:.0f} MB of {whole / 1e6:.0f} MB"
