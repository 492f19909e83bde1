"""Two runs never mix in one folder of reports.

No process of a run outlives the one that started it.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from harness.base.files import FolderBusyError, held, is_held
from harness.report.refusal import UNFINISHED, Claim

SECONDS = 120
"""After which a process is held to hang."""


def started(folder, *arguments, command=("-m", "harness", "gate")):
    return subprocess.Popen(
        [
            sys.executable,
            *command,
            "stress_tests",
            "--stress-set",
            "data=npz:zoo.npz",
            "-p",
            "no:html",
            *arguments,
        ],
        cwd=folder,
        env={**os.environ, "XDG_CACHE_HOME": str(folder / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_folder_is_held_once_and_by_those_that_the_holder_starts(tmp_path):
    code = (
        "import sys, pathlib; from harness.base.files import held\nwith "
        "held(pathlib.Path(sys.argv[1])): pass"
    )

    def other(**how):
        return subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], check=False, capture_output=True, **how
        )

    with held(tmp_path):
        assert b"FolderBusyError" in other().stderr
        assert is_held(tmp_path)
        code = code.replace("import held\nwith held", "import is_held\nassert is_held").replace(
            ": pass", ""
        )
        assert other().returncode == 0
    assert other().returncode == 1
    assert not is_held(tmp_path)
    assert "STRESS_FOLDERS_HELD" not in os.environ


def test_a_copy_does_not_keep_the_hold_of_the_process_that_died(tmp_path):
    code = (
        "import os, pathlib, sys, time; from harness.base.files import held\n"
        "hold = held(pathlib.Path(sys.argv[1])); hold.__enter__()\n"
        "if os.fork() == 0: time.sleep(30)\n"
        "print('held', flush=True); time.sleep(30)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(FolderBusyError), held(tmp_path):
            pass
        process.kill()
        process.wait()
        try:
            assert comes_free(tmp_path), "soon: the copy lets go as soon as it runs"
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def comes_free(folder) -> bool:
    """Return whether nobody holds a folder within 20 s."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        with suppress(FolderBusyError), held(folder):
            return True
        time.sleep(0.05)
    return False


def test_a_run_whose_folder_is_held_ends_with_4_and_leaves_it(zoo):
    """The holder is another process: nothing of its run changes."""
    folder = zoo.root / "reports"
    folder.mkdir()
    Claim(folder, ["pytest"], "other").refuse(UNFINISHED)
    before = {path.name: path.read_text() for path in folder.iterdir()}
    code = (
        "import sys, pathlib, time; from harness.base.files import held\n"
        "with held(pathlib.Path(sys.argv[1])): print(1, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE
    ) as holder:
        holder.stdout.readline()
        run = zoo.run("--stress-set=no_wait=true")
        assert run.ret == 4
        run.stderr.fnmatch_lines(
            ["*another run of the gate writes there; wait for it to end, or name another*"]
        )
        assert zoo.run("--stress-plan").ret == 0
        assert {path.name: path.read_text() for path in folder.iterdir()} == before
        holder.kill()
    assert zoo.run("--stress-set=no_wait=true").ret == 0


COPY = """
import os, signal, time

def test_copy():
    ready, told = os.pipe()
    copy = os.fork()
    if not copy:
        os.write(told, b"1")
        time.sleep(600)
    os.read(ready, 1)
    os.kill(copy, signal.SIGTERM)
    assert os.waitpid(copy, 0)[1] == signal.SIGTERM
"""


@pytest.mark.processes
def test_a_signal_that_ends_a_copy_changes_no_verdict(zoo):
    (zoo.tests / "test_copy.py").write_text(COPY)
    run = started(zoo.root, command=("-m", "pytest"))
    printed = run.communicate(timeout=SECONDS)[0]
    assert run.returncode == 0, printed
    assert zoo.report()["verdict"] == "pass"
