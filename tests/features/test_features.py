"""A feature is a folder with hooks for what it adds.

Without it, the command line and the gate run as before.
"""

import json
import os
import shutil
import subprocess
import sys
from itertools import combinations, permutations
from pathlib import Path

import pytest
from outcomes import EMPTY, outcome_with
from zoo import ROWS, Zoo, checks_text

from harness.base import features as features_module
from harness.base.features import GROUP, Family, Feature, families_of_features, features
from harness.base.registry import Registry
from harness.checks.families import FAMILIES, offered
from harness.cli import COMMANDS, OWN
from harness.features import hookspecs
from harness.features.catalog import FEATURE_OF_FAMILY
from harness.inference.backends import BACKENDS
from harness.inference.predictors.kinds import KINDS
from harness.measures import METRICS
from harness.report.html import page_of
from harness.report.page import Section
from harness.report.text import markdown
from harness.run.settings import SETTINGS

ROOT = Path(__file__).parents[2]
FOLDERS = {
    path.parent.name: path.parent for path in (ROOT / "harness/features").glob("*/__init__.py")
}
ADDED = {feature.name: feature for feature in features()}
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
from harness.inference.backends import BACKENDS
from harness.inference.predictors.kinds import KINDS
from harness.run.settings import SETTINGS

print("has", *COMMANDS, *FAMILIES, *SETTINGS, *KINDS, *BACKENDS)
main(["--help"])
try:
    read_checks(pathlib.Path("stress_tests/with-a-table.toml"))
except InputError as error:
    print("refused", error)
import os

import pytest
from harness.run import inner

def fork(command, environment, *, interrupted):
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), None
    os.environ.update(environment)
    at = command.index("-c") + 1
    sys.argv[1:] = command[at + 1 :]
    try:
        exec(command[at], {"__name__": "__main__"})
    except SystemExit as end:
        sys.stdout.flush()
        os._exit(end.code or 0)

inner._in_terminal = fork
few = ["--stress-set=data=npz:zoo.npz", "--stress-set=no_overview=true", "-p", "no:html"]
sys.exit(pytest.main(["stress_tests", *few, *sys.argv[1:]]))
"""
"""Code that a house without a feature runs.

Its inner process is a fork, and workers are other processes.
"""
FORKS = """
import gc, json, os, sys
import cv2, hypothesis, jinja2, PIL.Image, pydantic, pytest, scipy.stats, torch, torch._dynamo

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
SKEWED = (
    '\n[[check]]\nid = "skew-bits-6"\nfamily = "skew"\nmetric = "served_predictions_changed"\n'
    'skew = "bits-6"\n'
)


def returned(feature: Feature, hook: str) -> list[object]:
    """Return what a feature adds by a hook without arguments."""
    added = getattr(feature.module, hook, list)()
    return [*added]


def test_features_are_the_folders():
    assert list(ADDED) == sorted(FOLDERS)
    for feature in features():
        hooks = [name for name in vars(feature.module) if name.startswith("stress_")]
        assert hooks, f"{feature} adds nothing"
        assert feature.entry_point == ""


def test_all_that_is_added_is_there():
    commands = {name for feature in features() for name in returned(feature, "stress_commands")}
    assert commands == COMMANDS.keys() - OWN.keys()
    assert set(families_of_features()) == {
        "augmentation_gap",
        "batch_norm",
        "consensus",
        "equivalence",
        "fingerprint",
        "golden",
        "label_probability",
        "shortcut",
        "skew",
        "slices",
        "soft_confusion",
        "trigger",
        "unlabeled",
    }
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
    assert METRICS.ships("consensus_set_errors")


def test_damages_and_first_checks_of_families_are_there():
    for family in families_of_features().values():
        assert family.damage is None or family.damage().name
        assert family.starter_checks is None or family.name in offered()


def test_the_catalog_names_the_feature_of_each_family():
    names = {
        family.name: feature.name
        for feature in features()
        for family in returned(feature, "stress_families")
    }
    assert names == FEATURE_OF_FAMILY


class Toy:
    """A feature with a section, a line of the summary, and families in their places."""

    @staticmethod
    def stress_families():
        words = {"measures": "Toys.", "failure": "No toys."}
        return [
            Family("toy", "Toys", **words, before="clean"),
            Family("last", "Last", **words, before="gone"),
            Family("first", "First", **words, before="toy"),
        ]

    @staticmethod
    def stress_sections(outcome):
        return [Section("toys", "Toys on the page", "", before="checks"), None]

    @staticmethod
    def stress_summary_lines():
        return ["3 toys"]


@pytest.fixture
def toy(monkeypatch):
    """A feature that is the only one."""
    manager = features_module._Manager(GROUP)
    manager.add_hookspecs(hookspecs)
    feature = Feature("toy", Toy)
    manager.add(feature)
    monkeypatch.setattr(features_module, "_loaded", lambda: (manager, (feature,)))
    return feature


def test_sections_and_lines_of_a_feature_are_on_the_page(toy):
    page = page_of(outcome_with(EMPTY))
    assert page.index("Toys on the page") < page.index("All checks")
    assert "- 3 toys\n" in markdown(EMPTY)


def test_an_entry_stands_before_the_one_that_it_names(toy):
    words = {"measures": "", "failure": ""}
    own = {name: Family(name, name, **words) for name in ("all", "clean")}
    table = Registry("family", Family, own, hook="stress_families")
    assert list(table) == ["all", "first", "toy", "clean", "last"]
    assert table["toy"].page == "behaviours/toy"
    assert len(table) == 5


def families_with_own_tests(feature: Feature) -> list[str]:
    """Return the families whose rows no test measures without the feature.

    Golden ones are a table of their own.
    """
    families = [family for family in returned(feature, "stress_families") if family.rows is None]
    return [family.name for family in families] if feature.stress_tests else []


def rows_of_feature(feature: Feature) -> str:
    """Return a row for each family of a feature, on a metric of its own if it has one."""
    metric = next((metric.name for metric in returned(feature, "stress_metrics")), "accuracy")
    return "".join(
        f'\n[[check]]\nid = "of-{family.replace("_", "-")}"\nfamily = "{family}"\n'
        f'metric = "{metric}"\n'
        for family in families_with_own_tests(feature)
    )


def houses() -> dict[str, frozenset[str]]:
    """Return the features that each house lacks.

    For any two features, some house lacks only the second. Each feature is missing in three houses
    of seven, no two of them in the same three.
    """
    codes = list(combinations(range(7), 3))
    assert len(FOLDERS) <= len(codes)
    missing_from = dict(zip(sorted(FOLDERS), codes, strict=False))
    return {
        f"house-{number}": frozenset(name for name, code in missing_from.items() if number in code)
        for number in range(7)
    }


def house_without(missing: frozenset[str], place: Path) -> Path:
    """Make a house of links, without the folders of some features."""
    (place / "harness/features").mkdir(parents=True)
    (place / "stress_tests").symlink_to(ROOT / "stress_tests")
    for folder in ("harness", "harness/features"):
        for path in (ROOT / folder).iterdir():
            if path.name not in {"features", "__pycache__"} | missing:
                (place / folder / path.name).symlink_to(path)
    return place


def zoo_for(missing: frozenset[str], root: Path) -> None:
    """Make a project with rows of the missing features.

    Its checks file has a table of one of them.
    """
    root.mkdir(parents=True)
    has_skew = "skew" not in missing
    zoo = Zoo(root, tests=("clean", "skew") if has_skew else ("clean",))
    rows = ROWS + SKEWED if has_skew else ROWS
    zoo.bind(rows + "".join(rows_of_feature(ADDED[name]) for name in sorted(missing)))
    if "golden" not in missing:
        shutil.copy(ROOT / "harness/features/golden/stress_tests/test_golden.py", zoo.tests)
    table = '[evidence]\nintended_purpose = "sorting"\n'
    if table_of(missing) != "evidence":
        table = f'[golden]\nsha256 = "{"0" * 64}"\nn = 1\n'
    (zoo.tests / "with-a-table.toml").write_text(checks_text(zoo.images, table))


def table_of(missing: frozenset[str]) -> str | None:
    """Return the table that a house without these features does not know, if any."""
    return next((name for name in ("golden", "evidence") if name in missing), None)


def test_of_any_two_features_a_house_has_only_the_first():
    for present, absent in permutations(FOLDERS, 2):
        assert any(absent in missing and present not in missing for missing in houses().values())


@pytest.mark.processes
def test_without_their_folders_the_rest_runs(tmp_path):
    """All libraries are imported once, in a process that forks one for each house.

    Those without golden have workers.
    """
    asked = {}
    for house, missing in houses().items():
        zoo_for(missing, tmp_path / house / "zoo")
        asked[house] = {
            "house": str(house_without(missing, tmp_path / house / "house")),
            "root": str(tmp_path / house / "zoo"),
            "workers": ["-n", "1"] if "golden" in missing else [],
        }
    environment = {**os.environ, "PYTHONPATH": "", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    # Houses share files, and the bytecode beside them.
    environment.pop("PYTHONPYCACHEPREFIX", None)
    command = [sys.executable, "-c", FORKS, WITHOUT, json.dumps([*asked.values()])]
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for (house, missing), status in zip(houses().items(), done.stdout.split(), strict=True):
        root = tmp_path / house / "zoo"
        output = (root / "output.txt").read_text()
        assert status == "0", f"without {', '.join(sorted(missing))}: {output}"
        assert asked[house]["house"] in output
        runs_without(missing, root, output)


def runs_without(missing: frozenset[str], root: Path, output: str) -> None:
    gone = set()
    for name in missing:
        added = what_it_adds(ADDED[name])
        assert added
        gone |= added
    said, *_ = (line.split() for line in output.splitlines() if line.startswith("has "))
    assert set(said[1:]) == ({*COMMANDS, *FAMILIES, *SETTINGS, *KINDS, *BACKENDS} - gone)

    refused = next(line for line in output.splitlines() if line.startswith("refused "))
    unknown = table_of(missing)
    assert (f"unknown key '{unknown}'" if unknown else "images.toml: cannot be read") in refused

    report = json.loads((root / "reports/stress.json").read_text())
    statuses = {check["id"]: check["status"] for check in report["checks"]}
    details = {check["id"]: check["detail"] for check in report["checks"]}
    assert statuses["clean"] == "pass"
    if "skew" not in missing:
        assert statuses["skew-bits-6"] == "informational"
    assert not [check for check in statuses if "golden" in check], "its test is there, and no row"
    for name in missing:
        for family in families_with_own_tests(ADDED[name]):
            row = f"of-{family.replace('_', '-')}"
            assert statuses[row] == "not_applicable"
            assert f"the feature {name} is not there" in details[row]


def what_it_adds(feature: Feature) -> set[str]:
    """Return the names of all that a feature adds to the tables that a house prints."""
    return {
        *returned(feature, "stress_commands"),
        *(family.name for family in returned(feature, "stress_families")),
        *(field for model in returned(feature, "stress_settings") for field in model.model_fields),
        *returned(feature, "stress_predictors"),
        *returned(feature, "stress_backends"),
    }
