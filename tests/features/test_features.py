"""A feature is a folder: without it, the command line and the gate run as before."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from zoo import Zoo

from harness.base.features import features
from harness.cli import COMMANDS, OWN

ROOT = Path(__file__).parents[2]
FOLDERS = {path.parent.name: path.parent for path in (ROOT / "harness/features").glob("*/__init__.py")}

EVERYTHING = """
import importlib, pkgutil, harness

for module in pkgutil.walk_packages(harness.__path__, "harness."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""


def test_each_folder_registers_commands():
    registered = [set(feature.commands) for feature in features()]
    assert len(registered) == len(FOLDERS) >= 3
    assert set.union(*registered) == set(COMMANDS) - set(OWN)
    assert all(registered)


@pytest.mark.processes
@pytest.mark.parametrize("name", FOLDERS)
def test_without_its_folder_the_rest_runs(name, tmp_path):
    shutil.copytree(ROOT / "harness", tmp_path / "house/harness", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.rmtree(tmp_path / "house/harness/features" / name)
    (tmp_path / "zoo").mkdir()
    zoo = Zoo(tmp_path / "zoo")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "house"), "XDG_CACHE_HOME": str(tmp_path / "cache")}

    def run(*command):
        done = subprocess.run(
            [sys.executable, *command], cwd=zoo.root, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    of_it = {command for command, entry in COMMANDS.items() if f".{name}." in entry.module}
    shown = {line.split()[0] for line in run("-m", "harness", "--help").splitlines() if line.startswith("  ")}
    assert of_it
    assert shown & COMMANDS.keys() == COMMANDS.keys() - of_it
    everything = (
        "import pkgutil, importlib, harness\nfor module in pkgutil.walk_packages(harness.__path__, 'harness.'):\n"
    )
    run("-c", f"{everything}    module.name.endswith('__main__') or importlib.import_module(module.name)")
    run("-m", "harness", "gate", "stress_tests", "--stress-set=data=npz:zoo.npz", "-n", "2")
    assert str(tmp_path / "house") in run("-c", "import harness; print(harness.__file__)")
