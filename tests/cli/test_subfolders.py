"""In a folder below that of the project, pytest and the commands name the project's folder."""

import shutil

import pytest
from zoo import CLEAN, Zoo

from harness.cli import main


@pytest.fixture
def project(pytester, monkeypatch):
    zoo = Zoo(pytester.path)
    zoo.bind(CLEAN)
    (zoo.root / "photos").mkdir()
    monkeypatch.chdir(zoo.root / "photos")
    return zoo.root


def hint(project):
    return f"The gate of this project is in {project}: run the command there"


@pytest.mark.parametrize(
    "arguments", [["list", "checks"], ["calibrate", "--power"], ["gate"]], ids=" ".join
)
def test_a_command_names_the_folder_of_the_project(project, capsys, arguments):
    assert main(arguments) == (4 if arguments == ["gate"] else 2)
    assert hint(project) in capsys.readouterr().err


@pytest.mark.parametrize(
    "options", [["--candidate=../models/augmented.safetensors"], ["../stress_tests"]]
)
def test_pytest_names_the_folder_of_the_project(project, pytester, options):
    own_root = ("--rootdir", project / "photos")
    result = pytester.runpytest_inprocess(*own_root, *options)
    assert result.ret == 4
    assert hint(project) in result.stderr.str()


def test_a_folder_outside_every_project_has_no_hint(project, capsys):
    shutil.rmtree(project / "stress_tests")
    assert main(["list", "checks"]) == 2
    assert "name a checks file with --checks" in capsys.readouterr().err
