"""Each benchmark and example runs to its end on few images, and changes nothing.

Run by `pytest tests -m smoke`.
"""

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.runner import option, write_between
from benchmarks.runner import run as run_commands
from harness.base.errors import InputError

ROOT = Path(__file__).parents[2]
STARTED = re.compile(r"""__name__ == "__main__"|^(?:sys\.exit|raise SystemExit)\(""", re.MULTILINE)
SERVER = "benchmarks/predictors/server.py"
"""Started by its benchmark, not by people."""
MODULES = {
    str(path.relative_to(ROOT).with_suffix("")).replace("/", ".").removesuffix(".__main__"): path
    for path in sorted((ROOT / "benchmarks").rglob("*.py"))
    if STARTED.search(path.read_text("utf-8")) and path != ROOT / SERVER
}
NEEDED = {
    "benchmarks.scale": "ray",
    "benchmarks.skew.photographs": "efficientnet_lite_pytorch",
    "benchmarks.speed": "foolbox",
}
HEAVY = {
    "benchmarks.detection",
    "benchmarks.few",
    "benchmarks.predictors",
    "benchmarks.scale",
    "benchmarks.skew",
}
"""Take a minute or more each, since they gate many models.

Run by `SMOKE=all pytest tests -m smoke`.
"""
EXAMPLES = {
    "digits_on_photos": (
        "digits_on_photos.py data",
        "digits_on_photos.py train runs/new.pth --seed 1 --epochs 1 --digits 64",
    ),
    "photographs": (
        "photographs.py crops --size 64 --count 7",
        "photographs.py retrain resnet18 runs --size 64 --count 14",
        "photographs.py retrain vit runs --size 64 --count 14",
    ),
    "silhouettes": ("silhouettes.py data",),
}
WRITTEN = {"silhouettes": "silhouettes.npz"}
"""Files of an example that trains no network here."""


def run(*arguments, cwd=ROOT):
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def contents():
    """Return the hash of each file that a benchmark could write, by its path."""
    parts = [ROOT / name for name in ("benchmarks", "docs", "examples", "models", "stress_tests")]
    found = [
        path
        for part in parts
        for path in part.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    found += [
        path for name in ("runs", "reports") for path in (ROOT / name).rglob("*") if path.is_file()
    ]
    return {
        path: hashlib.sha256(path.read_bytes()).hexdigest() for path in [*found, ROOT / "README.md"]
    }


@pytest.mark.parametrize("path", MODULES.values(), ids=MODULES)
def test_each_benchmark_has_the_switch_of_all(path):
    assert re.search(r"sys\.exit\(\s*run\(\s*COMMANDS\b", path.read_text("utf-8")), (
        "start it by benchmarks.runner.run(COMMANDS, …), so it has --smoke"
    )


def test_each_package_of_benchmarks_can_be_started():
    packages = {path.parent.name for path in (ROOT / "benchmarks").glob("*/__init__.py")}
    assert packages == {name.split(".")[1] for name in MODULES}


def test_each_example_has_a_smoke_run():
    assert EXAMPLES.keys() == {path.parent.name for path in (ROOT / "examples").glob("*/*.py")}


@pytest.mark.parametrize(
    ("module", "options"),
    [
        ("benchmarks.claims", {"baselines": None, "report": True}),
        ("benchmarks.causes", {"write": True}),
        ("benchmarks.equivalence", {"work": None, "networks": (), "report": True}),
        ("benchmarks.equivalence.conversions", {"report": True}),
        ("benchmarks.skew", {"report": True}),
    ],
)
def test_tables_on_a_page_are_those_of_the_results(module, options, monkeypatch):
    """The option `--check` looks.

    Other pages take minutes, or have results of an older checks file.
    """
    monkeypatch.setenv("BENCHMARKS_CHECK", "1")
    main, *_ = importlib.import_module(str(find_main(module))).COMMANDS[""]
    assert not main(**options)


def find_main(module):
    return (
        module
        if importlib.util.find_spec(module).submodule_search_locations is None
        else f"{module}.__main__"
    )


def test_a_table_goes_between_its_marks_alone(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    for marks in ("<!-- a: begin -->{}<!-- a: end -->", "<!-- a -->{}<!-- end of a -->"):
        page.write_text(f"before\n{marks.format('old')}\nafter\n")
        write_between(page, "a", "new")
        assert (
            page.read_text()
            == f"before\n{marks.format(chr(10) * 2 + 'new' + chr(10) * 2)}\nafter\n"
        )
    monkeypatch.setenv("BENCHMARKS_CHECK", "1")
    write_between(page, "a", "new")
    with pytest.raises(InputError, match="has not the table of the results"):
        write_between(page, "a", "newer")
    with pytest.raises(InputError, match=r"the marks .* are missing"):
        write_between(page, "b", "new")


def test_commands_get_their_own_options_alone(monkeypatch, capsys):
    def doubled(*, number):
        """Double a number."""
        return 2 * number

    def refused():
        raise InputError("no such thing")

    monkeypatch.setattr("signal.signal", lambda *_: None)
    commands = {"": (refused,), "double": (doubled, option("number", type=int))}
    for arguments, status in ((["double", "21"], 42), ([], 2)):
        monkeypatch.setattr(sys, "argv", ["benchmark", *arguments])
        assert run_commands(commands) == status
    assert "error: no such thing" in capsys.readouterr().err


@pytest.mark.smoke
@pytest.mark.parametrize("module", MODULES)
def test_a_benchmark_runs_to_its_end_and_changes_nothing(module):
    if (needed := NEEDED.get(module)) and importlib.util.find_spec(needed) is None:
        pytest.skip(f"no {needed}: pip install '.[bench,ray]'")
    if module in HEAVY and os.environ.get("SMOKE") != "all":
        pytest.skip("takes minutes: SMOKE=all")
    before = contents()
    run("-m", module, "--smoke")
    assert contents() == before


@pytest.mark.smoke
@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_runs_on_few_images(example, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv(
        "OMP_NUM_THREADS", "1"
    )  # More wait for each other beside other tests, and keep cores busy.
    folder = tmp_path / example
    shutil.copytree(
        ROOT / "examples" / example,
        folder,
        ignore=shutil.ignore_patterns("runs", "photos", "*.npz"),
    )
    for command in EXAMPLES[example]:
        run(*command.split(), cwd=folder)
    assert list(folder.glob(WRITTEN.get(example, "runs/*.pth")))
