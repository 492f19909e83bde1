"""The gate of the fine-tunings: its stress tests and checks file, made by `init` as a user makes them."""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks.transfer.paths import NETWORKS, PROJECT, ROOT
from benchmarks.transfer.recipes import RECIPES

FAMILIES = "clean,class,class-difference,slice,consensus,flips,confidence,flip,regression"
OPTIONS = ("--data", "folder:data/test", "--model", "benchmarks.transfer.network:Lite0")


def make_project() -> None:
    """Write the gate unless it is there."""
    if not (PROJECT / "stress_tests").exists():
        first = NETWORKS / f"{RECIPES[0].name}.pth"
        command = ("init", *OPTIONS, "--families", FAMILIES, "--budget", "none")
        run(*command, "--checkpoint", str(first.relative_to(PROJECT)))


def run(*arguments: str) -> int:
    """Run `stress-harness` in the folder of the gate and return its exit status; 1 is a negative answer."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, "-m", "harness", *arguments], cwd=PROJECT, env=environment, check=False)  # noqa: S603  Ours.
    return done.returncode
