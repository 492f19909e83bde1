"""Memory of a gate run by the number of images: synthetic data of 224 x 224, and a tiny network.

`python -m benchmarks.real.memory 500 2000 50000` runs the gate on so many images, in a folder that
is removed again, and writes a table into the README beside this file. 50,000 images take 7.5 GB of
disk there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.runner import ROOT, few, option, run, table, write_between
from harness.base.errors import InputError

DATA = '''"""Images of noise whose brightness tells their class."""
import os
import numpy as np

COUNT = int(os.environ["COUNT"])

class Synthetic:
    classes = ["dark", "dim", "light", "bright"]
    fingerprint = f"synthetic {COUNT}"

    def __len__(self):
        return COUNT

    def __getitem__(self, position):
        noise = np.random.default_rng(position).integers(0, 128, (224, 224, 3), dtype=np.uint8)
        return noise + np.uint8(30 * (position % 4)), position % 4
'''
NETWORK = '''"""Tells classes apart by the mean of all pixels."""
import torch
from torch import nn

class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 8, stride=8)
        self.head = nn.Linear(4, 4)
        centres = (63.5 + 30 * torch.arange(4)) / 255
        with torch.no_grad():
            self.conv.weight.fill_(1 / 192)
            self.conv.bias.zero_()
            self.head.weight.copy_(100 * centres[:, None].expand(4, 4))
            self.head.bias.copy_(-200 * centres.square())

    def forward(self, pixels):
        return self.head(self.conv(pixels).relu().mean(dim=(2, 3)))
'''
PLAIN = """
import torch
from tiny import Tiny
with torch.inference_mode():
    for _ in range(4):
        Tiny().eval()(torch.rand(32, 3, 224, 224))
"""
_CHECK = """
[[check]]
id = "{0}"
family = "{0}"
metric = "{1}"
{2}
"""
ROWS = "".join(
    _CHECK.format(*each)
    for each in (
        ("clean", "accuracy", "hand = { threshold = 0.9 }"),
        ("shift", "accuracy", "pose = { dx = 16 }\nhand = { threshold = 0.2 }"),
        (
            "confidence",
            "confident_errors",
            'direction = "at_most"\nconfidence = 0.9\nhand = { threshold = 100 }',
        ),
    )
)


@dataclass(frozen=True)
class Used:
    """Costs of a process.

    Seconds of wall clock and of all cores, and its largest resident memory in bytes.
    """

    wall: float
    cpu: float
    peak: int


def main(*, counts: Sequence[int], work: Path) -> None:
    """Run the gate on so many synthetic images, and write a table of its memory into the page."""
    rows: list[tuple[object, ...]] = []
    for count in counts:
        with tempfile.TemporaryDirectory(prefix="memory-", dir=work) as folder:
            rows += _measure(Path(folder), count)
        # After each, since many images take long.
        head = ("images", "pixels", "run", "wall s", "CPU s", "peak MiB", "beyond torch and model")
        of_numbers = ("---:", "---:", "---", *["---:"] * 4)
        write_between(
            Path(__file__).parent / "README.md",
            "results of memory",
            table(head, rows, rules=of_numbers),
        )


def _measure(folder: Path, count: int) -> Iterator[tuple[object, ...]]:
    for name, text in (("synthetic", DATA), ("tiny", NETWORK), ("plain", PLAIN)):
        (folder / f"{name}.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider -q\n")
    _run(
        folder, count, "-c", "import torch, tiny; torch.save(tiny.Tiny().state_dict(), 'tiny.pth')"
    )
    plain, checks = _run(folder, count, "plain.py"), folder / "stress_tests/checks.toml"
    start = (
        "-m",
        "harness",
        "init",
        "--families",
        "clean,shift,confidence",
        "--data",
        "synthetic:Synthetic",
    )
    check = (
        "-m",
        "pytest",
        "stress_tests",
        "--candidate",
        "tiny.pth",
        "--stress-set",
        "model=tiny:Tiny",
    )
    check = (*check, "--baseline", "none", "--incumbent", "none")
    for kind, command in (("decoding", start), ("first check", check), ("second gate", check))[
        : few(3, 2)
    ]:
        used = _run(folder, count, *command)
        size, peak = f"{count * 3 * 224 * 224 / 1e9:.2f} GB", f"{used.peak / 2**20:.0f}"
        beyond = f"{(used.peak - plain.peak) / 2**20:.0f} MiB"
        row = (count, size, kind, f"{used.wall:.0f}", f"{used.cpu:.0f}", peak, beyond)
        print(*row, flush=True)
        yield row
        if kind == "decoding":
            head, _, _ = checks.read_text("utf-8").partition("[[check]]")
            checks.write_text(head + ROWS)


def _run(folder: Path, count: int, *arguments: str) -> Used:
    environment = {
        **os.environ,
        "COUNT": str(count),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
    }
    began = time.perf_counter()
    with (folder / "output.txt").open("w") as output:
        process = subprocess.Popen(  # noqa: S603  Our own commands.
            [sys.executable, *arguments],
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in {0, 1}:  # Judged, one way or the other.
        said = (folder / "output.txt").read_text()
        raise InputError(f"{' '.join(arguments)} ended with {process.returncode}:\n{said}")
    return Used(
        time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024
    )


COMMANDS = {
    "": (
        main,
        option("counts", type=int, nargs="+", metavar="IMAGES"),
        option(
            "--work",
            type=Path,
            default=Path(tempfile.gettempdir()),
            metavar="DIR",
            help="where to work",
        ),
    )
}

if __name__ == "__main__":
    sys.exit(run(COMMANDS, "200"))
