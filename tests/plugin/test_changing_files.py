"""A file that changes during a run ends it with 4, however late it changes."""

import pytest

CHANGES = """
import pathlib, pytest

@pytest.hookimpl({when})
def {hook}:
    path = pathlib.Path(r"{path}")
    path.write_bytes(path.read_bytes() + b"\\n")
"""
INPUTS = ("runs/new.safetensors", "models/baseline.safetensors", "stress_tests/checks.toml", "zoo.npz", "pytest.ini")


def changing(zoo, name, hook="pytest_runtest_teardown()", when=""):
    zoo.save("runs/new.safetensors")
    zoo.save("models/baseline.safetensors", jitter=0.01)
    (zoo.root / "conftest.py").write_text(CHANGES.format(path=zoo.root / name, hook=hook, when=when))
    return ("--candidate=runs/new.safetensors", "--baseline=models/baseline.safetensors")


@pytest.mark.parametrize("name", INPUTS)
def test_a_file_that_changes_during_a_run_ends_it_with_4(zoo, name):
    result = zoo.run(*changing(zoo, name))
    assert result.ret == 4
    assert zoo.report()["verdict"] == "error"
    assert any(f"{name}: changed while the gate ran" in error for error in zoo.report()["errors"])


@pytest.mark.parametrize("hook", ["pytest_sessionfinish()", "pytest_terminal_summary()", "pytest_unconfigure()"])
def test_a_file_that_changes_as_a_run_ends(zoo, hook):
    result = zoo.run(*changing(zoo, "runs/new.safetensors", hook, when="trylast=True"))
    assert result.ret == 4
    assert zoo.report()["verdict"] == "error"


def test_a_file_that_is_written_again_with_the_same_bytes_is_the_same(zoo):
    arguments = changing(zoo, "runs/new.safetensors")
    code = (zoo.root / "conftest.py").read_text().replace(' + b"\\n"', "")
    (zoo.root / "conftest.py").write_text(code)
    assert zoo.run(*arguments).ret == 0


@pytest.mark.parametrize("change", ["unlink()", "rename(path.with_name('gone'))"])
def test_a_file_that_is_gone_when_a_run_ends(zoo, change):
    arguments = changing(zoo, "runs/new.safetensors")
    code = (zoo.root / "conftest.py").read_text().replace('write_bytes(path.read_bytes() + b"\\n")', change)
    (zoo.root / "conftest.py").write_text(code.replace("    path.", "    path.exists() and path."))
    assert zoo.run(*arguments).ret == 4
    assert any("is no file now" in error for error in zoo.report()["errors"])
