"""The inner process of a run: its output, its interpreter, and its end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.run.inner import execute
from harness.run.request import RunRequest

SECONDS_OF_A_GRANDCHILD = 60
LEAVES_A_GRANDCHILD = f"""
import subprocess, sys

def test_one():
    code = "import time; time.sleep({SECONDS_OF_A_GRANDCHILD})"
    grandchild = subprocess.Popen([sys.executable, "-c", code])
    print("pid", grandchild.pid)
    print("the last line")
"""
PRINTS_ITS_INTERPRETER = """
import sys

def test_one():
    print("optimize", sys.flags.optimize, "dev", sys.flags.dev_mode)
    print("hook", sys._xoptions.get("hook"), "filter", "ignore:mine" in sys.warnoptions)
"""
RUNS = """
import sys
from pathlib import Path
from harness.run.inner import execute
from harness.run.request import RunRequest

options = (sys.argv[1], "-q", "-s", "-p", "no:cacheprovider")
execute(RunRequest(root=Path(sys.argv[1]), options=options), on_line=print)
"""


def options_of(folder: Path) -> tuple[str, ...]:
    return (str(folder), "-q", "-s", "-p", "no:cacheprovider")


@pytest.mark.parametrize("on_line", [None, lambda _: None], ids=["kept", "told"])
def test_a_run_ends_although_a_process_of_a_test_holds_its_output(tmp_path, on_line):
    (tmp_path / "test_one.py").write_text(LEAVES_A_GRANDCHILD)
    start = time.monotonic()

    result = execute(RunRequest(root=tmp_path, options=options_of(tmp_path)), on_line=on_line)

    seconds = time.monotonic() - start
    (pid,) = (line.split()[1] for line in result.printed if line.startswith("pid "))
    os.kill(int(pid), signal.SIGKILL)
    assert seconds < SECONDS_OF_A_GRANDCHILD
    assert "the last line" in result.printed
    assert "1 passed" in result.printed[-1]


def test_options_of_the_interpreter_reach_the_inner_process(tmp_path):
    (tmp_path / "test_one.py").write_text(PRINTS_ITS_INTERPRETER)
    options = ["-O", "-X", "dev", "-X", "hook=mine", "-W", "ignore:mine"]

    outer = subprocess.run(
        [sys.executable, *options, "-c", RUNS, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )

    assert "optimize 1 dev True" in outer.stdout
    assert "hook mine filter True" in outer.stdout
