"""Shared parts of all benchmarks.

Commands, smoke runs, results, tables in pages, other processes, the machine.

A benchmark is started by `sys.exit(run(COMMANDS, …))`. Two options belong to all:

- `--smoke` takes seconds to minutes and changes no file here. It runs the benchmark in a copy of
  the repository, with few images and without its results. It measures them, writes them and writes
  its page. The numbers mean nothing, and no goal counts.
- `--check` writes nothing, and fails if a table in a page is not that of the results.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TypeVar

from harness.base.errors import InputError
from harness.base.files import write_atomically
from harness.data import LabelledImages, load_fashion_mnist, stratified_sample

ROOT = Path(__file__).resolve().parents[1]
"""The root of the repository."""
COPIED = (
    "benchmarks",
    "docs",
    "examples",
    "models",
    "stress_tests",
    "README.md",
    "pyproject.toml",
    "conftest.py",
)
"""Parts of the repository that benchmarks read or write; the installed harness measures."""
IMAGES = 100
"""Images of a smoke run, and of each gate run in it."""
_SMOKE, _CHECK = "BENCHMARKS_SMOKE", "BENCHMARKS_CHECK"
Amount = TypeVar("Amount", int, "int | None")
Option = tuple[str, Mapping[str, Any]]
Commands = Mapping[str, tuple[Any, ...]]
"""By name, the function of a command and its options.

The one named "" runs where no command is named.
"""


# The start of a benchmark.


def option(name: str, **settings: Any) -> Option:
    """Return an option of commands, with the settings of `argparse`."""
    return name, settings


def run(commands: Commands, *smoke: str) -> int:
    """Run the command that the command line names.

    With `--smoke`, these in a copy, up to the first that fails.

    A function gets its options as keywords, and its docstring is the help. Returns its exit status,
    or 2 for bad usage and refused input.
    """
    arguments = sys.argv[1:]
    if "--smoke" in arguments:
        return _smoke(smoke or ("",))
    if "--check" in arguments:
        arguments.remove("--check")
        os.environ[_CHECK] = "1"
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM)
    )  # So that processes started end as well.
    options = parser(commands).parse_args(arguments)
    function, taken = options.run
    try:
        return int(function(**{name: getattr(options, name) for name in taken}) or 0)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "interrupted: finished work is kept; run the command again to continue", file=sys.stderr
        )
        return 130


def parser(commands: Commands) -> argparse.ArgumentParser:
    """Return the parser of a benchmark's command line."""
    about = commands[""][0] if "" in commands else sys.modules["__main__"]
    main = argparse.ArgumentParser(prog=f"python -m {_module()}", description=about.__doc__)
    named = [name for name in commands if name]
    others = (
        main.add_subparsers(metavar=" | ".join(named), required="" not in commands)
        if named
        else None
    )
    for name, (function, *options) in commands.items():
        words = function.__doc__ or ""
        command = main
        if name and others:
            command = others.add_parser(name, help=words.replace("%", "%%"), description=words)
        taken = [command.add_argument(flag, **settings).dest for flag, settings in options]
        command.set_defaults(run=(function, taken))
    return main


def _module() -> str:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name.removesuffix(".__main__") if spec else "benchmarks"


# Smoke runs.


def few(full: Amount, small: Amount) -> Amount:
    """Return `full`, or `small` in a smoke run."""
    return small if _SMOKE in os.environ else full


def fashion_mnist(split: Literal["train", "test"]) -> LabelledImages:
    """Return the images of a split.

    In a smoke run few test images, since CI has no training images.
    """
    if _SMOKE in os.environ:
        return stratified_sample(load_fashion_mnist("test"), IMAGES)
    return load_fashion_mnist(split)


def status(missed: object) -> int:
    """Return 1 where a goal is missed, and 0 in a smoke run, where none counts."""
    return few(int(bool(missed)), 0)


def _smoke(commands: Sequence[str]) -> int:
    module = _module()
    with tempfile.TemporaryDirectory(prefix="smoke-") as folder:
        for name in COPIED:
            if (ROOT / name).is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "runs", "reports")
                shutil.copytree(ROOT / name, Path(folder, name), ignore=ignored)
            else:
                shutil.copy(ROOT / name, Path(folder, name))
        for results in Path(folder).joinpath(*module.split(".")[:2]).glob("*.json"):
            results.unlink()
        environment = {
            **os.environ,
            _SMOKE: "1",
            "OMP_NUM_THREADS": "1",
            "XDG_CACHE_HOME": str(Path(folder, "cache")),
            "PYTEST_ADDOPTS": f"--stress-samples={IMAGES}",
        }
        for command in commands:
            print(f"== {module} {command}", flush=True)
            started = [sys.executable, "-m", module, *command.split()]
            done = subprocess.run(started, cwd=folder, env=environment, check=False)  # noqa: S603  Ours.
            if done.returncode:
                return done.returncode
    return 0


# Results and pages.


def read(path: Path, without: Any = None) -> Any:
    """Return the results in a JSON file, or `without` for a missing file.

    Raises:
        InputError: For any other file.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return without
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); delete it and measure again") from None


def keep(path: Path, results: Any, *, indent: int = 1) -> None:
    """Write results as JSON, complete or not at all.

    A dataclass becomes an object of its fields.
    """
    write(path, json.dumps(results, indent=indent, default=asdict) + "\n")


def by_line(
    results: Mapping[str, Any], render: Callable[[Any], str] = json.dumps, *, indent: int = 1
) -> str:
    """Return a JSON object with a line for each key: a change in a repository is easy to read."""
    lines = [
        f"{' ' * indent}{json.dumps(name, ensure_ascii=False)}: {render(each)}"
        for name, each in results.items()
    ]
    return "{\n" + ",\n".join(lines) + f"\n{' ' * (indent - 1)}}}"


def write(path: Path, text: str) -> None:
    """Write a file, complete or not at all; by `--check` none."""
    if _CHECK not in os.environ:
        write_atomically(path, text.encode())


def write_between(page: Path, name: str, body: str) -> None:
    """Put a table between its marks in a page.

    Marks are `<!-- NAME: begin -->` and `end`, or `<!-- NAME -->` and `end of`. Raises `InputError`
    for a page without these marks, and by `--check` for one that has another table there.
    """
    before = page.read_text("utf-8")
    for begin, end in (
        (f"<!-- {name}: begin -->", f"<!-- {name}: end -->"),
        (f"<!-- {name} -->", f"<!-- end of {name} -->"),
    ):
        head, found, rest = before.partition(begin)
        _, closed, tail = rest.partition(end)
        if found and closed:
            break
    else:
        raise InputError(
            f"{page}: the marks {begin} and {end} are missing; put them where the table goes"
        )
    after = f"{head}{begin}\n\n{body}\n\n{end}{tail}"
    if _CHECK in os.environ and after != before:
        raise InputError(
            f"{page}: {name} has not the table of the results; run the command without --check"
        )
    write(page, after)


def table(
    head: Sequence[str], rows: Iterable[Sequence[object]], *, rules: Sequence[str] = ()
) -> str:
    """Return a table in Markdown; `rules` align its columns."""
    return "\n".join(
        f"| {' | '.join(map(str, cells))} |"
        for cells in (head, rules or ["---"] * len(head), *rows)
    )


Goal = tuple[str, str, bool]
"""A goal, what is reached, and whether that is enough."""


def goals_table(goals: Iterable[Goal]) -> str:
    """Return goals beside what is reached."""
    rows = [(wanted, reached, "yes" if enough else "**no**") for wanted, reached, enough in goals]
    return table(("wanted", "reached", "enough"), rows)


def missed(goals: Iterable[Goal]) -> list[str]:
    """Return the goals that are not reached, each in a line."""
    return [f"{wanted}: {reached}" for wanted, reached, enough in goals if not enough]


def percent(share: float) -> str:
    """Write a share in per cent, to two places."""
    return f"{share:.2%}"


def many(n: int, noun: str) -> str:
    """Write a count with its noun."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


# Other processes, and the machine.


def python(folder: Path, *arguments: str, allowed: Sequence[int] = (0,), **environment: str) -> int:
    """Run Python in a folder and return its exit status.

    Raises `InputError` for one that is not allowed.

    Modules come from this repository first, then from the folder.
    """
    paths = os.pathsep.join([str(ROOT), str(folder.resolve())])
    command = [sys.executable, *arguments]
    done = subprocess.run(  # noqa: S603  The command is ours.
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in allowed:
        said = (done.stdout + done.stderr)[-3000:]
        raise InputError(f"{' '.join(arguments)} ended with {done.returncode}: {said}")
    return done.returncode


def processor() -> str:
    """Return the processor's name, family and model.

    Virtual machines hide the name, and the others tell them apart.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    found = {
        name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    name, *numbers = (found.get(key) for key in ("model name", "cpu family", "model"))
    if name is None:
        return platform.processor() or platform.machine()
    return name if None in numbers else f"{name} ({numbers[0]}/{numbers[1]})"


def load() -> str:
    """Return the cores and the load as text.

    A benchmark reads them first, since later the load is its own.
    """
    return f"{os.cpu_count()} cores, at a load of {os.getloadavg()[0]:.1f} when it began"


def versions(*packages: str) -> str:
    """Return the versions of packages and of Python."""
    return ", ".join(
        [*(f"{name} {version(name)}" for name in packages), f"Python {platform.python_version()}"]
    )
