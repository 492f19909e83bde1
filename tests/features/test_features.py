"""A feature is a folder that registers what it adds: without it, the command line and the gate run as before."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from outcomes import EMPTY, outcome_with
from zoo import ROWS, Zoo, checks_text

from harness.base import features as registry
from harness.base.features import (
    Family,
    Feature,
    families_of_features,
    features,
    resolve,
    with_added,
)
from harness.checks.families import FAMILIES
from harness.cli import COMMANDS, OWN
from harness.measures import METRICS
from harness.report.html import page_of
from harness.report.page import Section
from harness.report.text import markdown
from harness.run.settings import SETTINGS

ROOT = Path(__file__).parents[2]
FOLDERS = {
    path.parent.name: path.parent for path in (ROOT / "harness/features").glob("*/__init__.py")
}
ADDED = dict(zip(sorted(FOLDERS), features(), strict=True))
WITHOUT = """
import importlib, pathlib, pkgutil, sys

import harness
from harness.cli import COMMANDS, main

print("house", harness.__file__)
for module in pkgutil.walk_packages(harness.__path__, "harness."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
from harness.base.errors import InputError
from harness.checks import read_checks
from harness.checks.families import FAMILIES
from harness.run.settings import SETTINGS

print("has", *COMMANDS, *FAMILIES, *SETTINGS)
main(["--help"])
try:
    read_checks(pathlib.Path("stress_tests/with-a-set.toml"))
except InputError as error:
    print("refused", error)
import pytest

few = ["--stress-set=data=npz:zoo.npz", "--stress-set=no_overview=true", "-p", "no:html"]
sys.exit(pytest.main(["stress_tests", *few, *sys.argv[1:]]))
"""
"""Code that a house without a feature runs, in one process; workers are others."""
FORKS = """
import gc, json, os, sys
import cv2, hypothesis, jinja2, PIL.Image, pydantic, pytest, scipy.stats, seaborn, torch, torch._dynamo

gc.freeze()  # Pytest collects garbage at its end, and most of it is of this process.
code, asked = sys.argv[1], json.loads(sys.argv[2])
for each in asked:
    child = os.fork()
    if child == 0:
        os.chdir(each["root"])
        os.environ["PYTHONPATH"] = each["house"]
        sys.path[:0], sys.argv[1:] = [each["root"], each["house"]], each["workers"]
        output = os.open("output.txt", os.O_WRONLY | os.O_CREAT)
        os.dup2(output, 1), os.dup2(output, 2)
        exec(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Code that runs other code in a house each."""
SKEWED = '\n[[check]]\nid = "skew-bits-6"\nfamily = "skew"\nmetric = "served_predictions_changed"\nskew = "bits-6"\n'


def names_of(feature: Feature) -> list[object]:
    """Return all that a feature names by `module:attribute`."""
    of_families = [
        value
        for each in feature.families
        for value in (each.starter_checks, each.damage, each.rows, each.images)
    ]
    tables = (feature.sections, feature.self_checks, feature.settings, feature.lines)
    named = [*of_families, feature.rows, feature.opened, feature.differences, feature.begun]
    named += [*feature.self_checks.values(), *feature.metrics]
    return [*filter(None, named), *(name for table in tables for name in table if ":" in name)]


@pytest.mark.parametrize("name", ADDED)
def test_what_a_feature_names_is_its_own_and_there(name):
    named = names_of(ADDED[name])
    assert named or ADDED[name].commands
    for each in named:
        assert each.startswith(f"harness.features.{name}.")
        assert resolve(each) is not None
    assert {*ADDED[name].commands} <= COMMANDS.keys() - OWN.keys()


def test_all_that_is_added_is_there():
    assert (
        set().union(*(feature.commands for feature in features())) == COMMANDS.keys() - OWN.keys()
    )
    own = {"batch_norm", "consensus", "equivalence", "fingerprint", "golden", "shortcut", "skew"}
    own |= {
        "augmentation_gap",
        "label_probability",
        "slices",
        "soft_confusion",
        "trigger",
        "unlabeled",
    }
    assert set(families_of_features()) == own
    assert list(FAMILIES)[-8:] == [
        "golden",
        "shortcut",
        "skew",
        "trigger",
        "slice",
        "unlabeled",
        "equivalence",
        "unknown",
    ]
    assert METRICS["consensus_set_errors"].leads == "consensus-set errors"


def test_an_entry_stands_before_the_one_that_it_names():
    own = {"a": 1, "b": 2}
    assert list(with_added(own, [("x", 3, "b"), ("y", 4, "gone"), ("z", 5, "x")])) == [
        "a",
        "z",
        "x",
        "b",
        "y",
    ]


def test_sections_and_lines_of_a_feature_are_on_the_page(monkeypatch):
    toy = Feature(
        sections={"toys:section": "checks"},
        lines=("toys:lines",),
        families=(Family("toy", "Toys", measures="Toys.", failure="No toys."),),
    )
    shown = {
        "toys:section": lambda _: Section("toys", "Toys on the page", ""),
        "toys:lines": lambda _: ["3 toys"],
    }
    for place in ("html", "text"):
        monkeypatch.setattr(f"harness.report.{place}.features", lambda: (toy,))
        monkeypatch.setattr(f"harness.report.{place}.resolve", shown.get)
    page = page_of(outcome_with(EMPTY))
    assert page.index("Toys on the page") < page.index("All checks")
    assert "- 3 toys\n" in markdown(EMPTY)
    monkeypatch.setattr(registry, "features", lambda: (toy,))
    assert families_of_features()["toy"].page == "behaviours/toy"


def house_without(name: str, place: Path) -> Path:
    """Make a house of links, without the folder of a feature."""
    (place / "harness/features").mkdir(parents=True)
    (place / "stress_tests").symlink_to(ROOT / "stress_tests")
    for folder in ("harness", "harness/features"):
        for path in (ROOT / folder).iterdir():
            if path.name not in {"features", name, "__pycache__"}:
                (place / folder / path.name).symlink_to(path)
    return place


@pytest.mark.processes
def test_without_its_folder_the_rest_runs(tmp_path):
    """All libraries are imported once, in a process that forks one for each house; that without golden has workers."""
    asked = {}
    for name in FOLDERS:
        house, root = house_without(name, tmp_path / name / "house"), tmp_path / name / "zoo"
        root.mkdir()
        zoo = Zoo(root, tests=("clean", "skew"))
        zoo.bind(ROWS + SKEWED)
        if name != "golden":
            shutil.copy(ROOT / "harness/features/golden/stress_tests/test_golden.py", zoo.tests)
        golden = f'[golden]\nsha256 = "{"0" * 64}"\nn = 1\n'
        (zoo.tests / "with-a-set.toml").write_text(checks_text(zoo.images, golden))
        asked[name] = {
            "house": str(house),
            "root": str(root),
            "workers": ["-n", "1"] if name == "golden" else [],
        }
    environment = {**os.environ, "PYTHONPATH": "", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    environment.pop(
        "PYTHONPYCACHEPREFIX", None
    )  # Houses share files, and the bytecode beside them.
    command = [sys.executable, "-c", FORKS, WITHOUT, json.dumps([*asked.values()])]
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    statuses = dict(zip(FOLDERS, map(int, done.stdout.split()), strict=True))
    for name in FOLDERS:
        root = tmp_path / name / "zoo"
        output = (root / "output.txt").read_text()
        assert statuses[name] == 0, f"{name}: {output}"
        runs_without(name, root, output, asked[name]["house"])


def runs_without(name: str, root: Path, output: str, house: str) -> None:
    feature = ADDED[name]
    gone = {*feature.commands, *(each.name for each in feature.families)}
    gone |= {field for model in feature.settings for field in resolve(model).model_fields}
    said, *_ = (line.split() for line in output.splitlines() if line.startswith("has "))
    assert gone
    assert set(said[1:]) == ({*COMMANDS, *FAMILIES, *SETTINGS} - gone)
    assert house in output
    refused = next(line for line in output.splitlines() if line.startswith("refused "))
    assert (
        "unknown key 'golden'" if name == "golden" else "images.toml: cannot be read"
    ) in refused
    report = json.loads((root / "reports/stress.json").read_text())
    statuses = {check["id"]: check["status"] for check in report["checks"]}
    assert (statuses["clean"], statuses["skew-bits-6"]) == ("pass", "informational")
    assert not [check for check in statuses if "golden" in check], "its test is there, and no row"
