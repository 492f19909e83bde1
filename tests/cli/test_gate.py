"""The command `gate`: 0 for a pass that three reports carry, and 4 for whatever goes wrong."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from outcomes import agreed_verdict
from zoo import GatedZoo, Zoo, run_here

from harness.cli import main
from harness.run.status import report_in

SECONDS = 600


@pytest.fixture
def shop(tmp_path):
    zoo = Zoo(tmp_path)
    (tmp_path / "pytest.ini").write_text(
        f"[pytest]\naddopts = -p no:cacheprovider --stress-set data={zoo.data}\n"
    )
    return zoo


def gate(shop, *arguments, blocked="", **how):
    """Run the command in the shop.

    A package that is `blocked` raises at import as without a library of the system.
    """
    first = shop.root / "first"
    first.mkdir(exist_ok=True)
    if blocked:
        (first / f"{blocked}.py").write_text(
            "raise ImportError('libX.so.1: cannot open shared object file')\n"
        )
    path = os.pathsep.join([str(first), str(Path(__file__).parents[2]), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, "XDG_CACHE_HOME": str(shop.root / "cache")}
    how = {"cwd": shop.root, "env": environment, "text": True, "timeout": SECONDS, **how}
    how |= {} if "stdout" in how else {"capture_output": True}
    return subprocess.run([sys.executable, "-m", "harness", "gate", *arguments], check=False, **how)


def verdict(shop):
    """Return the verdict on which all reports agree; "none" without a report."""
    report = report_in(shop.root / "reports")
    return agreed_verdict(shop.root / "reports", run=report["run"]) if report else "none"


@pytest.mark.processes
@pytest.mark.parametrize(
    ("blocked", "at_once"), [("click", True), ("torch", False), ("jinja2", False)]
)
def test_a_package_that_cannot_be_imported_is_named(shop, blocked, at_once):
    ended = gate(shop, blocked=blocked)
    assert ended.returncode == 4
    known = "none" if at_once else "error"  # The command itself cannot start without some.
    assert verdict(shop) in {"error", known}, ended.stdout + ended.stderr
    assert blocked in ended.stdout + ended.stderr


@pytest.mark.processes
def test_a_run_without_the_plugin_is_no_pass(shop):
    (shop.tests / "test_plain.py").write_text("def test_plain():\n    pass\n")
    ended = gate(shop, "stress_tests/test_plain.py", "-p", "no:harness.plugin", "-o", "addopts=")
    assert (ended.returncode, verdict(shop)) == (4, "error")


def test_a_partial_verdict_is_4_unless_it_is_allowed(pytester, monkeypatch, capfd):
    zoo = GatedZoo(pytester)
    (zoo.root / "pytest.ini").write_text(
        f"[pytest]\naddopts = -p no:cacheprovider --stress-set data={zoo.data}\n"
    )
    run_here(monkeypatch, pytester, [])
    line = ["gate", "stress_tests", "-k", "clean"]
    assert main(line) == 4
    assert zoo.report()["verdict"] == "partial"
    assert "accept a partial verdict with --allow-partial" in capfd.readouterr().err
    assert main([*line, "--allow-partial"]) == 0
    zoo.save("bad.safetensors", blind=True)
    assert main([*line, "--candidate=bad.safetensors"]) == 4
    assert main([*line, "--candidate=bad.safetensors", "--allow-partial"]) == 1


def test_the_command_itself_needs_no_torch():
    code = "import sys, harness.cli.gate, harness.report.api; print('torch' in sys.modules)"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        == "False\n"
    )


def test_a_folder_without_a_gate_or_that_is_gone_is_4(tmp_path, monkeypatch, capsys):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    assert main(["gate"]) == 4
    assert "run `stress-harness init`" in capsys.readouterr().err
    shutil.rmtree(gone)
    assert main(["gate", "stress_tests"]) == 4
    assert "the working folder: No such file or directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error", [ValueError("mine"), MemoryError(), SystemExit(0), ImportError("libX")]
)
def test_an_exception_of_its_own_is_4(tmp_path, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pytest, "main", fail)
    assert main(["gate", "stress_tests"]) == 4
