"""The command `gate`: 0 for a pass that three reports carry, and 4 for whatever goes wrong."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from zoo import Zoo

from harness.cli import main
from harness.report.refusal import agreed_verdict
from harness.run.status import report_in

pytestmark = pytest.mark.processes
SECONDS = 600
PACKAGES = (
    *("torch", "numpy", "scipy", "matplotlib", "cv2", "PIL", "pydantic", "jinja2", "tomlkit", "click"),
    *("platformdirs", "hypothesis", "xdist"),
)
"""Packages without which there is no gate; the others are imported where they are used."""


@pytest.fixture
def shop(tmp_path):
    zoo = Zoo(tmp_path)
    (tmp_path / "pytest.ini").write_text(f"[pytest]\naddopts = -p no:cacheprovider --stress-set data={zoo.data}\n")
    return zoo


def gate(shop, *arguments, blocked="", **how):
    """Run the command in the shop; a package that is `blocked` raises at import as without a library of the system."""
    first = shop.root / "first"
    first.mkdir(exist_ok=True)
    if blocked:
        (first / f"{blocked}.py").write_text("raise ImportError('libX.so.1: cannot open shared object file')\n")
    path = os.pathsep.join([str(first), str(Path(__file__).parents[2]), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, "XDG_CACHE_HOME": str(shop.root / "cache")}
    how = {"cwd": shop.root, "env": environment, "text": True, "timeout": SECONDS, **how}
    how |= {} if "stdout" in how else {"capture_output": True}
    return subprocess.run([sys.executable, "-m", "harness", "gate", *arguments], check=False, **how)


def verdict(shop):
    """Return the verdict on which all reports agree; "none" without a report."""
    report = report_in(shop.root / "reports")
    return agreed_verdict(shop.root / "reports", run=report["run"]) if report else "none"


@pytest.mark.parametrize("blocked", PACKAGES)
def test_a_package_that_cannot_be_imported_is_named(shop, blocked):
    ended = gate(shop, blocked=blocked)
    at_once = {"click", "pydantic", "numpy", "torch", "tomlkit"}  # The command itself cannot start without some.
    assert ended.returncode == 4
    assert verdict(shop) == "error" or (blocked in at_once and verdict(shop) == "none"), ended.stdout + ended.stderr
    assert blocked in ended.stdout + ended.stderr


def test_a_partial_verdict_is_4_unless_it_is_allowed(shop):
    ended = gate(shop, "stress_tests", "-k", "clean")
    assert (ended.returncode, verdict(shop)) == (4, "partial")
    assert "accept a partial verdict with --allow-partial" in ended.stderr
    assert gate(shop, "stress_tests", "-k", "clean", "--allow-partial").returncode == 0
    shop.save("bad.safetensors", blind=True)
    bad = ("stress_tests", "-k", "clean", "--candidate=bad.safetensors")
    assert gate(shop, *bad).returncode == 4
    assert gate(shop, *bad, "--allow-partial").returncode == 1


def test_two_candidates_are_refused(shop):
    ended = gate(shop, "stress_tests", "--candidate", "models/augmented.safetensors", "--candidate", "bad.safetensors")
    assert (ended.returncode, verdict(shop)) == (4, "error")
    assert "--candidate: it is given more than once" in ended.stderr


def test_a_plain_test_without_the_plugin_is_no_verdict(shop):
    (shop.tests / "test_plain.py").write_text("def test_plain():\n    pass\n")
    ended = gate(shop, "stress_tests/test_plain.py", "-p", "no:harness.plugin", "-o", "addopts=")
    assert (ended.returncode, verdict(shop)) == (4, "error")


def test_reports_that_a_test_replaces_are_no_pass(shop):
    (shop.tests / "conftest.py").write_text(
        "import atexit, pathlib\npage = pathlib.Path('reports/stress.md')\n"
        "atexit.register(lambda: page.write_text(page.read_text().replace('`pass`', '`fail`')))\n"
    )
    ended = gate(shop)
    assert (ended.returncode, verdict(shop)) == (4, "error"), ended.stdout


def test_the_command_itself_needs_no_torch():
    code = "import sys, harness.cli.gate, harness.report.api; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_working_folder_that_is_gone_is_4(tmp_path, monkeypatch, capsys):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    shutil.rmtree(gone)
    assert main(["gate", "stress_tests"]) == 4
    assert "the working folder: No such file or directory" in capsys.readouterr().err


@pytest.mark.parametrize("error", [ValueError("mine"), MemoryError(), SystemExit(0), ImportError("libX")])
def test_an_exception_of_its_own_is_4(shop, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.chdir(shop.root)
    monkeypatch.setattr("harness.report.api.execute", fail)
    assert main(["gate", "stress_tests"]) == 4
