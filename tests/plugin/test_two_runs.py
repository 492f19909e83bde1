"""Two runs never mix in one folder of reports, and no process of a run lives on without the one that started it."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from zoo import Zoo

from harness.base.folder_lock import FolderBusyError, held
from harness.report.files import UNFINISHED

SECONDS = 120
"""After which a process is held to hang."""
SLOW = """
import pathlib
import time

def test_slow(candidate):
    pathlib.Path("started").touch()
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def children_take_hangups():
    """Let children be ended by SIGHUP: `nohup` has them ignore it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def started(folder, *arguments, command=("-m", "harness", "gate")):
    return subprocess.Popen(
        [sys.executable, *command, "stress_tests", "--stress-set", "data=npz:zoo.npz", "-p", "no:html", *arguments],
        cwd=folder,
        env={**os.environ, "XDG_CACHE_HOME": str(folder / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(condition):
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def processes_in(folder):
    """Return the ids of the processes that work in a folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if (place / "cwd").readlink() == folder:
                found.append(int(place.name))
        except OSError:
            continue
    return found


@pytest.fixture
def slow(tmp_path):
    """Return a repository with a test that takes ten minutes."""
    zoo = Zoo(tmp_path)
    (zoo.tests / "test_slow.py").write_text(SLOW)
    return zoo


def test_a_folder_is_held_once_and_by_those_that_the_holder_starts(tmp_path):
    code = "import sys, pathlib; from harness.base.folder_lock import held\nwith held(pathlib.Path(sys.argv[1])): pass"

    def other(**how):
        return subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, capture_output=True, **how)

    environment = {name: value for name, value in os.environ.items() if name != "STRESS_FOLDERS_HELD"}
    with held(tmp_path), held(tmp_path):
        assert b"FolderBusyError" in other(env=environment).stderr
        assert other().returncode == 0
    assert other(env=environment).returncode == 0
    assert "STRESS_FOLDERS_HELD" not in os.environ
    with held(tmp_path / "nowhere"):
        pass


def test_a_copy_does_not_keep_the_hold_of_the_process_that_died(tmp_path):
    code = (
        "import os, pathlib, sys, time; from harness.base.folder_lock import held\n"
        "hold = held(pathlib.Path(sys.argv[1])); hold.__enter__()\n"
        "if os.fork() == 0: time.sleep(30)\n"
        "print('held', flush=True); time.sleep(30)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
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
    marker = "A run of the gate has begun, and has not come to a verdict.\nrun: other\nprocess: 7\ncandidate: x.pth\n"
    (folder / UNFINISHED).write_text(marker)
    (folder / "stress.md").write_text("## Model quality gate\n")
    code = (
        "import sys, pathlib, time; from harness.base.folder_lock import held\n"
        "with held(pathlib.Path(sys.argv[1])): print(1, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        run = zoo.run("--stress-set=no_wait=true")
        assert run.ret == 4
        run.stderr.fnmatch_lines(["*another run of the gate writes there: process 7, since unknown, of x.pth; wait*"])
        assert zoo.run("--stress-plan").ret == 0
        assert (folder / UNFINISHED).read_text() == marker
        assert sorted(path.name for path in folder.iterdir()) == ["stress.md", UNFINISHED]
        holder.kill()
    assert zoo.run("--stress-set=no_wait=true").ret == 0


def test_a_run_whose_folder_was_taken_writes_no_verdict(zoo, monkeypatch):
    """Another run has begun there, on a file system without locks."""
    from harness.plugin import hooks

    finish = hooks.GateRun.finish

    def taken(run):
        (zoo.root / "reports" / UNFINISHED).write_text("A run of the gate\nrun: other\n")
        return finish(run)

    monkeypatch.setattr(hooks.GateRun, "finish", taken)
    assert zoo.run().ret == 4
    assert [path.name for path in (zoo.root / "reports").glob("stress*")] == [UNFINISHED]
    assert "run: other" in (zoo.root / "reports" / UNFINISHED).read_text()


@pytest.mark.processes
@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["serial", "workers"])
def test_a_killed_gate_leaves_no_process_and_no_verdict(slow, workers):
    gate = started(slow.root, *workers)
    wait_for((slow.root / "started").exists)
    assert len(processes_in(slow.root)) >= 2
    gate.kill()
    gate.communicate()
    wait_for(lambda: not processes_in(slow.root))
    assert not (slow.root / "reports/stress.json").exists()


COMMANDS = {"gate": ("-m", "harness", "gate"), "pytest": ("-m", "pytest")}


@pytest.mark.processes
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize(
    ("number", "workers"), [(signal.SIGTERM, ()), (signal.SIGHUP, ("-n", "2"))], ids=["serial", "workers"]
)
def test_a_run_that_is_told_to_end_says_so_in_its_reports(slow, number, workers, command):
    run = started(slow.root, *workers, command=command)
    wait_for((slow.root / "started").exists)
    run.send_signal(number)
    printed = run.communicate(timeout=SECONDS)[0]
    assert run.returncode == 4
    assert f"the run was ended by {number.name}" in printed
    wait_for(lambda: not processes_in(slow.root))
    expect_error(slow.root, f"the run was ended by {number.name}")


def expect_error(folder, why):
    report = json.loads((folder / "reports/stress.json").read_text())
    assert (report["verdict"], len(report["errors"])) == ("error", 1)
    assert why in report["errors"][0]
    for name in ("stress.md", "stress.html"):
        assert why in (folder / "reports" / name).read_text()
    assert not (folder / "reports" / UNFINISHED).exists()


DEAF = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"


@pytest.mark.processes
def test_a_run_that_does_not_end_when_told_to_is_killed(slow, monkeypatch):
    (slow.tests / "test_slow.py").write_text(SLOW.replace("import pathlib", f"{DEAF}import pathlib"))
    run = started(slow.root)
    wait_for((slow.root / "started").exists)
    run.terminate()
    run.communicate(timeout=SECONDS)
    assert run.returncode == 4
    assert processes_in(slow.root) == []
    expect_error(slow.root, "ended with exit status -9")


LATE = "import atexit, os, signal\natexit.register(os.kill, os.getpid(), signal.SIGTERM)\n"
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
@pytest.mark.parametrize(("file", "code"), [("conftest.py", LATE), ("test_copy.py", COPY)], ids=["late", "copy"])
def test_a_signal_that_ends_no_run_changes_no_verdict(zoo, file, code):
    (zoo.tests / file).write_text(code)
    run = started(zoo.root, command=COMMANDS["pytest"])
    printed = run.communicate(timeout=SECONDS)[0]
    assert run.returncode == 0, printed
    assert zoo.report()["verdict"] == "pass"


@pytest.mark.processes
def test_a_second_run_waits_and_says_for_whom(slow):
    first = started(slow.root)
    wait_for((slow.root / "started").exists)
    second = started(slow.root, "--deselect", "stress_tests/test_slow.py::test_slow", "--candidate=other.safetensors")
    for line in second.stdout:
        if "another run" in line:
            break
    assert "waiting for it to end" in line
    third = started(slow.root, "--stress-set=no_wait=true", command=("-m", "pytest"))
    assert third.communicate(timeout=SECONDS)[0].count("another run of the gate writes there") >= 1
    assert third.returncode == 4
    assert (slow.root / "reports" / UNFINISHED).exists()
    first.kill()
    first.communicate()
    said = second.communicate(timeout=SECONDS)[0]
    assert second.returncode == 4
    assert "other.safetensors" in said
    assert json.loads((slow.root / "reports/stress.json").read_text())["verdict"] == "error"
