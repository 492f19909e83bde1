"""Kills and full disks: work that goes on gives the same bits, and no file is ever half there.

The kills are marked `faults`, run by `pytest tests -m faults`; `FAULTS_KILLS=50` kills each kind of
work so often. Trainings are killed in `tests/networks`.
"""

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import torch
from zoo import TRAINING, Zoo, without_id

from harness.base.files import write_atomically
from harness.cli import main
from harness.data import LabelledImages
from harness.networks.checkpoints import load_checkpoint

KILLS = int(os.environ.get("FAULTS_KILLS", "1"))
SECONDS = 600
"""After which a process is held to hang, however many others there are."""


def environment(folder):
    return {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}


class Work:
    """A command in a folder of its own, that may be killed at any moment and then be run again."""

    def __init__(self, folder, prepare, command, results):
        self.folder, self.prepare, self.command, self.results = folder, prepare, command, results
        self.anew()

    def anew(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        self.prepare(self.folder)

    def start(self):
        return subprocess.Popen(
            [sys.executable, *self.command],
            cwd=self.folder,
            env=environment(self.folder),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def finish(self):
        assert self.start().wait(timeout=SECONDS) == 0
        return self.results(self.folder)

    def kill_after(self, seconds):
        """Kill the command and all it started, unless it ends before.

        Return whether it was killed.
        """
        process = self.start()
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return True
        return False


def zoo_here(folder):
    zoo = Zoo(folder)
    for seed in range(3):
        zoo.save(
            f"seed-{seed}.safetensors", seed=seed, jitter=0.05, training={**TRAINING, "seed": seed}
        )
    zoo.save("new.safetensors", seed=3, jitter=0.02, training=TRAINING)


def calibrated(folder):
    return (folder / "stress_tests/checks.toml").read_bytes(), (
        folder / "models/panel.json"
    ).read_bytes()


def accepted(folder):
    incumbent = load_checkpoint(folder / "models/incumbent.safetensors")
    facts = {name: value for name, value in incumbent.record.acceptance.items() if name != "date"}
    return incumbent.model_sha256, facts


WORK = {
    "calibration": (
        zoo_here,
        (
            *(
                "-m",
                "harness",
                "calibrate",
                "--checkpoints",
                *(f"seed-{seed}.safetensors" for seed in range(3)),
            ),
            *("--", "--stress-set", "data=npz:zoo.npz"),
        ),
        calibrated,
    ),
    "accept": (
        zoo_here,
        ("-m", "harness", "accept", "new.safetensors", "--", "--stress-set", "data=npz:zoo.npz"),
        accepted,
    ),
}


def whole(folder, before):
    """Assert that every file under its final name is as it was, or complete."""
    for path in folder.rglob("*"):
        kept = before.get(path)
        if not path.is_file() or path.name.startswith(".") or path.read_bytes() == kept:
            continue
        if path.suffix == ".safetensors":
            load_checkpoint(path)
        elif path.suffix == ".json":
            assert json.loads(path.read_text())
        elif path.suffix == ".toml":
            needed = {"checks.toml": "check", "incumbent.toml": "sha256"}[path.name]
            assert tomllib.loads(path.read_text())[needed]
            assert path.read_text().endswith("\n")
        elif path.suffix == ".html":
            assert path.read_text().rstrip().endswith("</html>")
        elif path.suffix == ".md":
            assert path.read_text().rstrip().splitlines()[-1].startswith("Reproduce: ")


@pytest.mark.faults
@pytest.mark.parametrize("kind", WORK)
def test_killed_at_any_moment_it_goes_on_to_the_same_bits(tmp_path, kind):
    work = Work(tmp_path / kind, *WORK[kind])
    start = time.monotonic()
    expected = work.finish()
    duration = time.monotonic() - start
    moments, killed = random.Random(0), 0
    while killed < KILLS:
        work.anew()
        before = {path: path.read_bytes() for path in work.folder.rglob("*") if path.is_file()}
        # Two in three kills are late, when files are written.
        early = moments.uniform(0.2, 1) if killed % 3 == 2 else moments.uniform(0.7, 1)
        if not work.kill_after(early * duration):
            duration *= 0.95
            continue
        killed += 1
        whole(work.folder, before)
        if kind == "calibration":
            checks = work.folder / "stress_tests/checks.toml"
            assert checks.read_bytes() in {before[checks], expected[0]}
        assert work.finish() == expected


# The disk.


def test_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_training_onto_a_full_disk_says_so_and_leaves_no_model(tmp_path, monkeypatch, capsys):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("harness.data.load_fashion_mnist", lambda *_, **__: few_images())
    monkeypatch.setattr(os, "fsync", full)
    few = (
        "--epochs",
        "1",
        "--validation-size",
        "40",
        "--model-arg",
        "conv_channels=[2]",
        "--model-arg",
        "fc_sizes=[]",
    )
    assert main(["train", str(tmp_path / "model.safetensors"), *few]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def few_images():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (200, 1, 28, 28), generator=generator, dtype=torch.uint8)
    return LabelledImages(pixels, torch.arange(200) % 10, tuple("abcdefghij"), "few", "train")


def said(reports: Path) -> dict:
    """Return what a run says, without its id."""
    return without_id(json.loads((reports / "stress.json").read_text()))


# Damaged inputs.


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"schema": 1}', b"\xff\xfe", b"null"], ids=repr
)
def test_damaged_panel_is_named_and_nothing_changes(zoo, capsys, content):
    (zoo.root / "panel.json").write_bytes(content)
    before = zoo.checks.read_bytes()
    assert main(["calibrate", "--panel", "panel.json", "--power"]) == 2
    assert "panel.json" in capsys.readouterr().err
    assert zoo.checks.read_bytes() == before


def test_a_damaged_cache_and_none_change_nothing(zoo):
    assert zoo.run().ret == 0
    first = said(zoo.root / "reports")
    assert zoo.run("--stress-no-cache").ret == 0
    assert said(zoo.root / "reports") == first
    entries = list(Path(os.environ["XDG_CACHE_HOME"]).rglob("*.entry"))
    assert entries
    for number, entry in enumerate(entries):
        content = entry.read_bytes()
        entry.write_bytes(content[: len(content) // 2] if number % 2 else bytes(len(content)))
    assert zoo.run().ret == 0
    assert said(zoo.root / "reports") == first
