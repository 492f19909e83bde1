"""No command replaces its input or a file of another kind.

The refusal comes before the work.
"""

import os
import shutil

import pytest
from zoo import TRAINING, shown_by_run

from harness.cli import main

DATA = ("--data", "npz:zoo.npz")
GATE = ("--", "--stress-set", "data=npz:zoo.npz")
PANEL = [f"seed-{seed}.safetensors" for seed in range(3)]


@pytest.fixture
def files(zoo, monkeypatch):
    """Return a function that gives the content of every file of the repository."""
    monkeypatch.chdir(zoo.root)
    for seed, name in enumerate(PANEL):
        zoo.save(name, seed=seed, jitter=0.05, training={**TRAINING, "seed": seed})
    (zoo.root / "weights.pth").write_bytes(b"PK\x03\x04" + bytes(99))
    (zoo.root / "empty.py").touch()
    (zoo.root / "photos").mkdir()
    (zoo.root / "photos/cat.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99))
    (zoo.root / "notes.html").write_text("<!DOCTYPE html><title>notes</title>")
    (zoo.root / "link.html").symlink_to("seed-1.safetensors")
    os.mkfifo(zoo.root / "pipe")

    def found():
        return {path: path.read_bytes() for path in zoo.root.rglob("*") if path.is_file()}

    return found


COMPARE = ("compare", "seed-0.safetensors", "seed-1.safetensors", *DATA)
EVALUATE = ("evaluate", "seed-0.safetensors", *DATA, "--failures")
CALIBRATE = ("calibrate", "--checkpoints", *PANEL)
COMMANDS = {
    "a page on a checkpoint": (*COMPARE, "--output", "seed-1.safetensors"),
    "a page on other weights": (*COMPARE, "--output", "weights.pth"),
    "a page on a link": (*COMPARE, "--output", "link.html"),
    "a page on a page of another's": (*COMPARE, "--output", "notes.html"),
    "a page on an empty source": (*COMPARE, "--output", "empty.py"),
    "a page on a pipe": (*COMPARE, "--output", "pipe"),
    "a table on the data": (*COMPARE, "--failures", "zoo.npz"),
    "a table on its page": (*COMPARE, "--output", "new", "--failures", "new"),
    "a table on the checks file": (*COMPARE, "--failures", "stress_tests/checks.toml"),
    "tables in a checkpoint": (*EVALUATE, "--output", "seed-0.safetensors"),
    "a picture on a picture": ("break", "seed-0.safetensors", *DATA, "--output", "photos/cat.png"),
    "a picture on a test": (
        "break",
        "seed-0.safetensors",
        *DATA,
        "--output",
        "stress_tests/test_clean.py",
    ),
    "a page on its history": ("history", "seed-0.safetensors", "--output", "seed-0.safetensors"),
    "a panel on a reference model": (*CALIBRATE, "--panel", "seed-2.safetensors", *GATE),
    "a panel on the checks file": (*CALIBRATE, "--panel", "stress_tests/checks.toml", *GATE),
    "a panel on the data": (*CALIBRATE, "--panel", "zoo.npz", *GATE),
    "a training on the data": ("train", "zoo.npz"),
    "a training on weights": ("train", "weights.safetensors"),
    "a converted file on its source": ("convert", "seed-0.safetensors", "seed-0.safetensors"),
    "a converted file on weights": ("convert", "seed-0.safetensors", "weights.safetensors"),
    "an incumbent on the candidate": (
        "accept",
        "seed-0.safetensors",
        "--incumbent",
        "seed-0.safetensors",
        *GATE,
    ),
    "an incumbent on a hard link": (
        "accept",
        "seed-0.safetensors",
        "--incumbent",
        "hard.safetensors",
        *GATE,
    ),
    "an incumbent on other weights": (
        "accept",
        "seed-0.safetensors",
        "--incumbent",
        "weights.pth",
        *GATE,
    ),
    "an incumbent on the checks file": (
        "accept",
        "seed-0.safetensors",
        "--incumbent",
        "stress_tests/checks.toml",
    ),
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_command_that_would_lose_a_file_ends_with_2(files, zoo, capsys, monkeypatch, command):
    shutil.copy(zoo.root / "weights.pth", zoo.root / "weights.safetensors")
    (zoo.root / "hard.safetensors").hardlink_to(zoo.root / "seed-0.safetensors")
    monkeypatch.setattr("subprocess.run", None)  # No run begins.
    shown_by_run(monkeypatch)
    before = files()
    assert main(command) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert files() == before
    assert (zoo.root / "link.html").is_symlink()


def test_tables_of_another_kind_stay(files, zoo, capsys):
    (zoo.root / "out").mkdir()
    (zoo.root / "out/classes.csv").write_text("path,label\n")
    before = files()
    assert main([*EVALUATE, "--output", "out"]) == 2
    assert "out/classes.csv: exists and is not a table of classes" in capsys.readouterr().err
    assert files() == before


def test_outputs_of_their_own_kind_are_replaced(files, zoo):
    for _ in range(2):
        assert main([*COMPARE, "--output", "page.html", "--failures", "changes.csv"]) == 0
        assert main([*EVALUATE, "--output", "out"]) == 0
        assert main(["break", "seed-0.safetensors", *DATA, "--output", "curve.png"]) == 0
