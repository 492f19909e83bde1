"""Predictions kept on disk.

Damaged files never change a returned value.
"""

import errno
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import harness
from harness import cli
from harness.base.cache import Store
from harness.data import LabelledImages
from harness.inference import Classifier
from harness.inference.engine import Perturbed
from harness.inference.platforms import computing_code, hash_of_code
from harness.perturb import HorizontalFlip, Pose

KEY, OTHER = "ab" * 32, "cd" * 32
VALUES = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.fixture
def cache(tmp_path):
    return Store(tmp_path / "predictions")


def files(cache):
    return sorted(cache.folder.glob("*.entry"))


def images(count=20, *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return LabelledImages(pixels, torch.arange(count) % 3, ("a", "b", "c"), "some", "test")


class Counted(nn.Module):
    """A network that counts its forward passes, and can still be traced."""

    def __init__(self, *, factor: float = 1.0, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layer = nn.Linear(64, 3)
        self.factor = factor

    def forward(self, pixels):
        return self.layer(pixels.flatten(1)) * self.factor


@pytest.mark.parametrize(
    "pair",
    [
        [
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=aligned)
            for aligned in (False, True)
        ],
        [nn.AvgPool2d(3, padding=1, count_include_pad=included) for included in (False, True)],
    ],
    ids=["align-corners", "count-include-pad"],
)
def test_a_setting_that_a_layer_does_not_show_is_another_network(pair):
    assert repr(pair[0]) == repr(pair[1])
    one, other = (Classifier(nn.Sequential(layer, nn.Flatten())).fingerprint for layer in pair)
    assert one != other


def test_what_is_stored_is_loaded(cache):
    assert cache.load(KEY, (4, 3)) is None
    cache.store(KEY, VALUES)
    loaded = cache.load(KEY, (4, 3))
    assert loaded.dtype == np.float32
    assert loaded.tolist() == VALUES.tolist()
    assert loaded.flags.writeable
    assert cache.load(OTHER, (4, 3)) is None
    cache.store(KEY, VALUES)
    assert cache.load(KEY, (4, 4)) is None
    assert cache.load(KEY, (3, 4)).shape == (3, 4)
    for key in (KEY, OTHER):
        cache.store(key, VALUES)
    for path in files(cache):
        os.utime(path, (2e10, 2e10))
    cache.max_bytes = files(cache)[0].stat().st_size
    cache.prune()
    assert len(files(cache)) == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"garbage" * 100,
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: content[:40] + bytes([content[40] ^ 1]) + content[41:],
        lambda content: bytes([content[0] ^ 1]) + content[1:],
    ],
    ids=["garbage", "empty", "cut", "flipped-value", "flipped-digest"],
)
def test_a_damaged_entry_is_absent_and_replaced(cache, damage):
    cache.store(KEY, VALUES)
    (path,) = files(cache)
    path.write_bytes(damage(path.read_bytes()))
    assert cache.load(KEY, (4, 3)) is None
    cache.store(KEY, VALUES)
    assert cache.load(KEY, (4, 3)).tolist() == VALUES.tolist()


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path):
    (tmp_path / "file").write_text("in the way")
    blocked = Store(tmp_path / "file")
    blocked.store(KEY, VALUES)
    assert blocked.load(KEY, (4, 3)) is None
    assert blocked.info().entries == 0


def test_writers_side_by_side_leave_a_whole_entry(cache):
    def write():
        for _ in range(20):
            cache.store(KEY, VALUES)
            loaded = cache.load(KEY, (4, 3))
            assert loaded is not None
            assert loaded.tolist() == VALUES.tolist()

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(write) for _ in range(4)]:
            done.result()
    assert [path.name for path in cache.folder.glob("*")] == [f"{KEY}.entry"]


def test_pruning_deletes_what_was_used_the_longest_ago(tmp_path):
    cache = Store(tmp_path)
    keys = [digit * 64 for digit in "0123"]
    for age, key in enumerate(keys):
        cache.store(key, VALUES)
        path = cache.path(key)
        os.utime(path, (age, age))
    cache.max_bytes = 2 * path.stat().st_size
    assert cache.load(keys[0], (4, 3)) is not None  # A use makes it the youngest.
    cache.prune()
    assert [key for key in keys if cache.load(key, (4, 3)) is not None] == [keys[0], keys[3]]
    unfinished = [tmp_path / f".{age}.part" for age in (60, 100_000)]
    for path, age in zip(unfinished, (60, 100_000), strict=True):
        path.touch()
        os.utime(path, (time.time() - age,) * 2)
    cache.prune()
    assert [path.exists() for path in unfinished] == [True, False], (
        "somebody may still write the first"
    )


def test_a_second_classifier_predicts_nothing_anew(cache, monkeypatch):
    first = Classifier(Counted(), cache=cache)
    there = first.predict(images(), Pose(10))
    monkeypatch.setattr(Perturbed, "__call__", lambda *_: pytest.fail("predicted anew"))
    again = Classifier(Counted(), cache=cache).predict(images(), Pose(10))
    assert (again.logits == there.logits).all()
    assert (again.predicted == there.predicted).all()


@pytest.mark.parametrize(
    "other",
    [
        lambda: (Counted(seed=1), images(), Pose(10)),
        lambda: (Counted(factor=2.0), images(), Pose(10)),
        lambda: (Counted(), images(seed=1), Pose(10)),
        lambda: (Counted(), images(), Pose(11)),
        lambda: (Counted(), images(), HorizontalFlip()),
        lambda: (Counted(), images(), Pose(10), True),
    ],
    ids=["weights", "code", "images", "pose", "perturbation", "rounded"],
)
def test_whatever_decides_a_prediction_is_part_of_its_key(cache, other):
    Classifier(Counted(), cache=cache).predict(images(), Pose(10))
    model, data, perturbation, *rounded = other()
    cached, plain = Classifier(model, cache=cache), Classifier(model)
    cached.rounded = plain.rounded = bool(rounded)
    assert (
        cached.predict(data, perturbation).logits == plain.predict(data, perturbation).logits
    ).all()
    assert cache.info().entries == 2


@pytest.mark.parametrize(("name", "other"), [("PROTOCOL", 2), ("computing_code", lambda: "mended")])
def test_the_protocol_and_the_code_that_computes_are_part_of_the_key(
    cache, monkeypatch, name, other
):
    """A mistake that is mended under the same protocol must not live on in what was kept."""
    Classifier(Counted(), cache=cache).predict(images(), Pose(10))
    monkeypatch.setattr(f"harness.inference.classifier.{name}", other)
    Classifier(Counted(), cache=cache).predict(images(), Pose(10))
    assert cache.info().entries == 2


@pytest.mark.parametrize(
    "room", ["data", "perturb", "networks", "inference", "features/served_models", "features/onnx"]
)
def test_each_decisive_file_decides_the_version_of_the_code(tmp_path, room):
    shutil.copytree(
        Path(harness.__file__).parent, tmp_path / "harness", ignore=shutil.ignore_patterns("*.gz")
    )
    before = hash_of_code(tmp_path / "harness")
    changed = max((tmp_path / "harness" / room).rglob("*.py"))
    changed.write_text(changed.read_text() + "\n")
    assert hash_of_code(tmp_path / "harness") != before
    (tmp_path / "harness/report/page.py").write_text("")
    changed.write_text(changed.read_text()[:-1])
    assert hash_of_code(tmp_path / "harness") == before


def test_code_and_hidden_tensors_are_part_of_the_key(monkeypatch):
    computing_code.cache_clear()
    before = computing_code()
    assert computing_code() == before
    monkeypatch.setattr("harness.base.cache.version", lambda name: f"{name} 99")
    computing_code.cache_clear()
    assert computing_code() != before
    computing_code.cache_clear()

    class Hiding(Counted):
        def __init__(self, hidden):
            super().__init__()
            self.hidden = hidden

        def forward(self, pixels):
            return super().forward(pixels) + self.hidden

    one, same, other = (
        Classifier(Hiding(torch.tensor([float(v), 0.0, 0.0]))).fingerprint for v in (1, 1, 2)
    )
    assert one == same
    assert one != other


def test_what_cannot_be_traced_or_known_is_not_kept(cache):
    class Branching(Counted):
        def forward(self, pixels):
            return super().forward(pixels) if pixels.sum() > 0 else self.layer(pixels.flatten(1))

    classifier = Classifier(Branching(), cache=cache)
    assert classifier.fingerprint is None
    classifier.predict(images())
    assert cache.info().entries == 0
    Classifier(Counted(), cache=cache).predict(images(), Darker())
    assert cache.info().entries == 0


@dataclass(frozen=True)
class Darker:
    def __call__(self, pixels):
        return pixels / 2


def test_the_command_shows_and_empties_it(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache = Store.of_user()
    cache.store(KEY, VALUES)
    assert cli.main(["cache"]) == 0
    assert "1 predictions kept, 0.0 of at most 1074 MB" in capsys.readouterr().out
    assert cli.main(["cache", "--clear"]) == 0
    assert "1 predictions deleted" in capsys.readouterr().out
    assert cache.info().entries == 0


def test_the_command_shows_and_empties_all_stores(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    Store.of_user("measured").keep(KEY, b"{}", {})
    path = Store.of_user("panel_predictions", suffix=".npz").write(KEY, b"PK")
    assert path.read_bytes() == b"PK"
    assert cli.main(["cache", "--clear"]) == 0
    lines = capsys.readouterr().out
    assert "1 measurements of reference models deleted" in lines
    assert "1 files with predictions of panels deleted" in lines
    assert not path.exists()
    assert Store.of_user("measured").content(KEY) is None


def test_an_entry_of_another_version_is_a_miss(cache):
    cache.store(KEY, VALUES)
    path = cache.path(KEY)
    path.write_bytes(path.read_bytes().replace(b"stress-entry-1", b"stress-entry-0"))
    assert cache.load(KEY, VALUES.shape) is None


def test_an_entry_copied_to_another_name_counts_as_absent(tmp_path):
    """Else the answers of a good model could stand in for a bad one's."""
    cache = Store(tmp_path)
    for key, value in (("a" * 64, 1.0), ("b" * 64, 2.0)):
        cache.store(key, np.full((2, 2), value, np.float32))
    good, bad = (cache.path(letter * 64) for letter in "ab")
    bad.write_bytes(good.read_bytes())
    assert cache.load("b" * 64, (2, 2)) is None
    assert (cache.load("a" * 64, (2, 2)) == 1).all()


@pytest.mark.parametrize(
    "made", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "endless"]
)
def test_an_entry_that_is_no_file_counts_as_absent(tmp_path, made):
    cache = Store(tmp_path)
    cache.store("a" * 64, np.zeros((2, 2), np.float32))
    entry = cache.path("a" * 64)
    entry.unlink()
    made(entry)
    assert cache.load("a" * 64, (2, 2)) is None


def test_an_error_of_the_file_system_is_a_recomputation(cache, monkeypatch):
    cache.store(KEY, VALUES)

    def stale(*_, **__):
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(Path, "unlink", stale)
    cache.max_bytes = 0
    cache.prune()
    cache.clear()
    monkeypatch.setattr(Path, "glob", stale)
    assert cache.info().entries == 0
    monkeypatch.setattr(os, "open", stale)
    assert cache.load(KEY, (4, 3)) is None


def test_an_entry_that_is_deleted_while_it_is_read_is_not_left_empty(cache, monkeypatch):
    cache.store(KEY, VALUES)
    utime = os.utime

    def delete_before(path, *arguments, **how):
        path.unlink()
        utime(path, *arguments, **how)

    monkeypatch.setattr(os, "utime", delete_before)
    assert cache.load(KEY, (4, 3)).tolist() == VALUES.tolist()
    assert files(cache) == []


@pytest.mark.parametrize(
    ("call", "number"),
    [
        ("replace", errno.EXDEV),
        ("replace", errno.ENOSPC),
        ("stat", errno.EIO),
        ("chmod", errno.EIO),
    ],
)
def test_what_cannot_be_renamed_into_place_is_predicted_anew(cache, monkeypatch, call, number):
    def failing(*_, **__):
        raise OSError(number, os.strerror(number))

    expected = Classifier(Counted()).predict(images(), Pose(10)).logits
    computing_code()  # Each process finds it out once, by reading the package.
    with monkeypatch.context() as patch:
        patch.setattr(Path, call, failing)
        for _ in range(2):
            logits = Classifier(Counted(), cache=cache).predict(images(), Pose(10)).logits
            assert (logits == expected).all()
    assert files(cache) == [] or call == "stat"
    assert (Classifier(Counted(), cache=cache).predict(images(), Pose(10)).logits == expected).all()
    assert [path for path in cache.folder.rglob(".*") if path.is_file()] == []


PRUNING = """
import sys, time
from pathlib import Path
from harness.base.cache import Store
cache, end = Store(Path(sys.argv[1]), max_bytes=400), time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    cache.prune()
    cache.info()
"""


def test_pruning_by_several_processes_loses_entries_alone(cache):
    keys = [f"{number:02x}" * 32 for number in range(20)]
    command = [sys.executable, "-c", PRUNING, str(cache.folder), "1"]
    pruning = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    found = 0
    while any(process.poll() is None for process in pruning):
        for number, key in enumerate(keys):
            cache.store(key, VALUES + number)
            if (loaded := cache.load(key, (4, 3))) is not None:
                assert (loaded == VALUES + number).all()
                found += 1
    assert [process.communicate()[1] for process in pruning] == ["", ""]
    assert found
