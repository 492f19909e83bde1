"""Smoke runs of all benchmarks: `python -m benchmarks.NAME --smoke` takes seconds and changes no file here.

A smoke run is a process in a copy of the repository, with few images. The copy lacks the results of the benchmark, so
it measures them, writes them and writes its page. The numbers mean nothing, and no goal counts.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from harness.data import load_fashion_mnist, stratified_sample

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.data import LabelledImages

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("benchmarks", "docs", "examples", "models", "stress_tests", "README.md", "pyproject.toml", "conftest.py")
"""Parts of the repository that benchmarks read or write; the installed harness measures."""
IMAGES = 200
"""Images of a smoke run, and of each gate run in it."""
_VARIABLE = "BENCHMARKS_SMOKE"
Amount = TypeVar("Amount", int, "int | None")


def few(full: Amount, small: Amount) -> Amount:
    """Return `full`, or `small` in a smoke run."""
    return small if _VARIABLE in os.environ else full


def fashion_mnist(split: Literal["train", "test"]) -> LabelledImages:
    """Return the images of a split; in a smoke run few test images, since CI has no training images."""
    if _VARIABLE in os.environ:
        return stratified_sample(load_fashion_mnist("test"), IMAGES)
    return load_fashion_mnist(split)


def status(missed: object) -> int:
    """Return 1 where a goal is missed, and 0 in a smoke run, where none counts."""
    return few(int(bool(missed)), 0)


def run(main: Callable[[], int], *commands: str) -> int:
    """Run a benchmark; with `--smoke`, its commands one after another in a copy, up to the first that fails."""
    if "--smoke" not in sys.argv[1:]:
        return main()
    spec = sys.modules["__main__"].__spec__
    assert spec is not None, "a benchmark is started by `python -m`"
    module = spec.name.removesuffix(".__main__")
    with tempfile.TemporaryDirectory(prefix="smoke-") as folder:
        _copy_without_results(Path(folder), module)
        environment = {
            **os.environ,
            _VARIABLE: "1",
            "OMP_NUM_THREADS": "1",
            "XDG_CACHE_HOME": str(Path(folder, "cache")),
            "PYTEST_ADDOPTS": f"--stress-samples={IMAGES}",
        }
        for command in commands or ("",):
            print(f"== {module} {command}", flush=True)
            done = subprocess.run(  # noqa: S603  The command is ours.
                [sys.executable, "-m", module, *command.split()], cwd=folder, env=environment, check=False
            )
            if done.returncode:
                return done.returncode
    return 0


def _copy_without_results(folder: Path, module: str) -> None:
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "runs", "reports"))
        else:
            shutil.copy(ROOT / name, folder / name)
    for results in folder.joinpath(*module.split(".")[:2]).glob("*.json"):
        results.unlink()
