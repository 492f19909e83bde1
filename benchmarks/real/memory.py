"""Memory of a gate run by the number of images: synthetic data of 224 x 224, and a tiny network.

`python -m benchmarks.real.memory 500 2000 50000` runs the gate on so many images, in a folder that is removed again,
and writes a table into the README beside this file. 50,000 images take 7.5 GB of disk there.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.pages import write_between
from benchmarks.smoke import run

ROOT = Path(__file__).parents[2]
BEGIN, END = "<!-- results of memory -->", "<!-- end of results of memory -->"
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
ROWS = """
[[check]]
id = "clean"
family = "clean"
metric = "accuracy"
hand = { threshold = 0.9 }

[[check]]
id = "shift-right-16"
family = "shift"
metric = "accuracy"
pose = { dx = 16 }
hand = { threshold = 0.2 }

[[check]]
id = "confident-errors"
family = "confidence"
metric = "confident_errors"
direction = "at_most"
confidence = 0.9
hand = { threshold = 100 }
"""


@dataclass(frozen=True)
class Used:
    """Costs of a process: seconds of wall clock and of all cores, and its largest resident memory in bytes."""

    wall: float
    cpu: float
    peak: int


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("counts", type=int, nargs="+", metavar="IMAGES")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()), metavar="DIR", help="where to work")
    options = parser.parse_args()
    lines = ["| images | pixels | run | wall s | CPU s | peak MiB | beyond torch and model |"]
    lines += ["| ---: | ---: | --- | ---: | ---: | ---: | ---: |"]
    print(*lines, sep="\n")
    for count in options.counts:
        folder = Path(tempfile.mkdtemp(prefix="memory-", dir=options.work))
        try:
            lines += _measure(folder, count)
        finally:
            shutil.rmtree(folder)
        # After each, since many images take long.
        write_between(Path(__file__).parent / "README.md", BEGIN, END, "\n".join(lines))
    return 0


def _measure(folder: Path, count: int) -> list[str]:
    for name, text in (("synthetic", DATA), ("tiny", NETWORK), ("plain", PLAIN)):
        (folder / f"{name}.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider -q\n")
    save = "import torch, tiny; torch.save(tiny.Tiny().state_dict(), 'tiny.pth')"
    _run(folder, count, "-c", save)
    plain = _run(folder, count, "plain.py")
    data, checks = "synthetic:Synthetic", folder / "stress_tests/checks.toml"
    start: tuple[str, ...] = ("-m", "harness", "init", "--families", "clean,shift,confidence", "--data", data)
    check: tuple[str, ...] = ("-m", "pytest", "stress_tests", "--candidate", "tiny.pth")
    check = (*check, "--baseline", "none", "--incumbent", "none", "--stress-set", "model=tiny:Tiny")
    rows = []
    for kind, command in (("decoding", start), ("first check", check), ("second gate", check)):
        used = _run(folder, count, *command)
        beyond = f"{(used.peak - plain.peak) / 2**20:.0f} MiB"
        size = f"{count * 3 * 224 * 224 / 1e9:.2f} GB"
        row = f"| {count} | {size} | {kind} | {used.wall:.0f} | {used.cpu:.0f} | {used.peak / 2**20:.0f} | {beyond} |"
        print(row, flush=True)
        rows.append(row)
        if kind == "decoding":
            head, _, _ = checks.read_text("utf-8").partition("[[check]]")
            checks.write_text(head + ROWS)
    return rows


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
            [sys.executable, *arguments], cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in {0, 1}:  # Judged, one way or the other.
        raise SystemExit(
            f"{' '.join(arguments)} ended with {process.returncode}:\n{(folder / 'output.txt').read_text()}"
        )
    return Used(time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


if __name__ == "__main__":
    raise SystemExit(run(main, "200"))
