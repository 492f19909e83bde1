"""No option of pytest or of another plugin replaces an input of a gate run."""

import sys
import types

import pytest

OPTIONS = {
    "JUnit's file on the data": ("--junitxml=zoo.npz",),
    "JUnit's file on the checks file": ("--junitxml", "stress_tests/checks.toml"),
    "a page on the candidate": ("--html=models/augmented.safetensors",),
    "a log on a stress test": ("--log-file=stress_tests/test_clean.py",),
    "a log of the ini file on the data": ("-o", "log_file=zoo.npz"),
    "a log through a link": ("--log-file=link.txt",),
    "temporary folders on the models": ("--basetemp=models",),
    "temporary folders on the stress tests": ("--basetemp", "stress_tests"),
    "temporary folders in place of other files": ("--basetemp=sources",),
    "coverage on the stress tests": ("--cov=net", "--cov-report=html:stress_tests"),
    "coverage on the data": ("--cov=net", "--cov-report", "xml:zoo.npz"),
    "an option of an unknown plugin": ("--their-output", "zoo.npz"),
    "pytest's own log on a checkpoint": ("--debug=models/augmented.safetensors",),
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_an_option_that_would_replace_an_input_is_4(zoo, options):
    (zoo.root / "link.txt").symlink_to("zoo.npz")
    (zoo.root / "sources").mkdir()
    (zoo.root / "sources/code.c").write_text("int main;")
    zoo.pytester.makeconftest("def pytest_addoption(parser):\n    parser.addoption('--their-output')\n")
    before = {path: path.read_bytes() for path in zoo.root.rglob("*") if path.is_file()}
    result = zoo.run(*options, page=any("html" in each for each in options))
    assert result.ret == 4
    text = result.stdout.str() + result.stderr.str()
    assert "would replace an input" in text or "would empty it" in text
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("option", ["--junitxml=notes.txt", "--html=notes.html"])
def test_a_report_of_pytest_replaces_no_file_of_another_kind(zoo, option):
    (zoo.root / "notes.txt").write_text("notes")
    (zoo.root / "notes.html").write_text("<!DOCTYPE html><title>notes</title>")
    assert zoo.run(option, page="html" in option).ret == 4
    assert zoo.report()["verdict"] == "error"
    assert (zoo.root / "notes.txt").read_text() == "notes"
    assert "<title>notes</title>" in (zoo.root / "notes.html").read_text()


WRITTEN = [("--junitxml=junit.xml",), ("--junitxml=/dev/null",), ("--basetemp=temporary",), ("-c", "pytest.ini")]


@pytest.mark.parametrize("options", WRITTEN, ids=lambda options: options[-1])
def test_other_outputs_are_written(zoo, options):
    for _ in range(2):
        assert zoo.run(*options).ret == 0


PLACES = {
    "a database on the data": "sqlite:///zoo.npz",
    "a folder on the candidate": "file:models/augmented.safetensors",
    "a folder in the data": "photos/mlruns",
    "a database on other files": "sqlite:///notes.txt",
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_mlflow_is_kept_from_the_inputs_and_from_other_files(zoo, monkeypatch, place):
    photos = {zoo.root / "photos" / name / f"{at}.png" for at, name in enumerate(("ant", "bee"))}
    for photo in (*photos, zoo.root / "notes.txt"):
        photo.parent.mkdir(parents=True, exist_ok=True)
        photo.write_bytes(b"content")
    mlflow = types.ModuleType("mlflow")
    mlflow.__spec__ = types.SimpleNamespace()
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", place)
    result = zoo.run(
        "--stress-mlflow", "robustness", *(("--stress-data", "folder:photos") if "photos" in place else ())
    )
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*--stress-mlflow robustness: *name another place by MLFLOW_TRACKING_URI"])
    assert zoo.report()["verdict"] == "error"


def test_a_folder_called_as_a_profile_is_no_input(zoo):
    """The value of an option that names no file may be the name of one."""
    for _ in range(2):
        assert zoo.run("--stress-profile", "default", "--stress-reports", "default").ret == 0
    assert len((zoo.root / "default/history.jsonl").read_text().splitlines()) == 2
