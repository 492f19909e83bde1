"""Every ending of a run: its exit status, and three reports that agree with it.

The table has how pytest's work ends, in the inner process of a plain `pytest`, of the command
`gate`, and with workers.
"""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from outcomes import OLD_REPORTS, agreed_verdict, leave_old_reports
from zoo import CLEAN, LEAVING, Zoo, as_state_dict

from harness.report.refusal import UNFINISHED
from harness.run.history import read_history
from harness.run.status import REPORTS

SECONDS = 600
"""After which a run is held to hang, however busy the machine is."""
OPTIONS = (
    *("-p", "no:cacheprovider", "--stress-no-cache", "--baseline=none", "--incumbent=none"),
    *("--stress-set=data=npz:zoo.npz", "--stress-set=no_overview=true"),
)
WAYS = {"plain": ("pytest", ()), "gate": ("harness", ()), "workers": ("pytest", ("-n", "1"))}


@dataclass(frozen=True)
class Ending:
    """An ending: its exit status and verdict, the reason, and the causes.

    `why` is a part of the reason in all reports.
    """

    status: int = 4
    verdict: str = "error"
    why: str = ""
    arguments: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    ways: tuple[str, ...] = ("plain",)


def in_a_test(line: str) -> dict[str, str]:
    return {"stress_tests/test_own.py": f"import os, signal, sys\ndef test_own():\n    {line}\n"}


def in_conftest(*lines: str) -> dict[str, str]:
    return {"conftest.py": "\n".join(["import atexit, os, pytest, sys", *lines, ""])}


def in_hook(name: str, line: str = "raise ValueError('mine')") -> dict[str, str]:
    """Fail in a hook after all others; where the first result counts, before them."""
    when = "tryfirst" if "runtest" in name else "trylast"
    return in_conftest(f"@pytest.hookimpl({when}=True)", f"def {name}():", f"    {line}")


BAD = ("--candidate", "bad.safetensors")
EACH = tuple(WAYS)
ENDINGS = {
    "pass": Ending(0, "pass", ways=EACH),
    "fail": Ending(1, "fail", arguments=BAD, ways=EACH),
    "partial": Ending(0, "partial", arguments=("--stress-samples", "300")),
    "partial-gate": Ending(4, "partial", arguments=("--stress-samples", "300"), ways=("gate",)),
    # The inner process, or a worker of it, is gone.
    "a-test-exits": Ending(
        why="and without a verdict", files=in_a_test("os._exit(0)"), ways=("plain", "gate")
    ),
    "a-test-of-a-worker-exits": Ending(
        why="died", files=in_a_test("os._exit(0)"), ways=("workers",)
    ),
    "a-model-exits": Ending(
        arguments=("--candidate=models/augmented.pt", "--stress-set=model=leaving:build"),
        files={"leaving.py": LEAVING.format(leave="os._exit(0)")},
        ways=("plain", "gate"),
    ),
    "segmentation-fault": Ending(
        why="the signal SIGSEGV",
        files=in_a_test("os.kill(os.getpid(), signal.SIGSEGV)"),
        ways=("plain", "gate"),
    ),
    "killed": Ending(
        why="the signal SIGKILL",
        files=in_a_test("os.kill(os.getpid(), signal.SIGKILL)"),
        ways=("plain", "gate"),
    ),
    "told-to-end": Ending(
        why="the signal SIGTERM", files=in_a_test("os.kill(os.getpid(), signal.SIGTERM)")
    ),
    "conftest-exits": Ending(
        why="and without a verdict", files=in_conftest("os._exit(0)"), ways=EACH
    ),
    # pytest ends otherwise than by a verdict.
    "conftest-leaves": Ending(why="SystemExit", files=in_conftest("sys.exit(0)")),
    "conftest-fails": Ending(why="mine", files=in_conftest("raise ValueError('mine')")),
    "a-test-leaves": Ending(why="SystemExit", files=in_a_test("sys.exit(0)")),
    "pytest-exit": Ending(
        why="the run was ended by pytest.exit: enough",
        files=in_a_test("import pytest; pytest.exit('enough', returncode=0)"),
        ways=("plain",),
    ),
    "wrong-option": Ending(
        why="--no-such-option", arguments=("--no-such-option",), ways=("plain", "gate")
    ),
    "wrong-option-of-pytest": Ending(
        why="exit status 4", arguments=("--maxfail", "x"), ways=("gate",)
    ),
    "wrong-value": Ending(why="--stress-samples", arguments=("--stress-samples", "x")),
    "no-candidate": Ending(
        why="no.safetensors: cannot be opened", arguments=("--candidate", "no.safetensors")
    ),
    **{
        name.removeprefix("pytest_"): Ending(files=in_hook(name))
        for name in (
            *(
                "pytest_configure",
                "pytest_sessionstart",
                "pytest_collection_modifyitems",
                "pytest_runtest_protocol",
            ),
            *("pytest_runtest_makereport", "pytest_runtest_logreport", "pytest_sessionfinish"),
            "pytest_terminal_summary",
        )
    },
    "a-hook-leaves": Ending(files=in_hook("pytest_sessionfinish", "raise SystemExit(0)")),
    "another-status": Ending(
        why="ended with exit status 0 though its verdict has 1",
        arguments=BAD,
        files=in_conftest(
            "@pytest.hookimpl(trylast=True)",
            "def pytest_sessionfinish(session):",
            "    session.exitstatus = 0",
        ),
        ways=EACH,
    ),
    "coverage-limit": Ending(
        why="such as a limit of coverage",
        arguments=("--cov=stress_tests", "--cov-fail-under=100"),
        files=in_a_test("n = 1\n    if n > 2:\n        print()"),
    ),
    "unconfigure-exits": Ending(
        files=in_hook("pytest_unconfigure", "os._exit(0)"), ways=("plain", "gate")
    ),
    "unconfigure-fails": Ending(files=in_hook("pytest_unconfigure")),
    # Once the record is complete, nothing changes it.
    "exit-handler": Ending(
        0, "pass", files=in_conftest("atexit.register(os._exit, 1)"), ways=("plain", "workers")
    ),
    "exit-handler-of-a-fail": Ending(
        1, "fail", arguments=BAD, files=in_conftest("atexit.register(os._exit, 0)")
    ),
}


@pytest.fixture
def shop(tmp_path):
    zoo = Zoo(tmp_path, tests=("clean",))
    zoo.bind(CLEAN)
    zoo.save("bad.safetensors", blind=True)
    leave_old_reports(tmp_path / "reports")
    return zoo


def command(way: str, *arguments: str) -> list[str]:
    module, more = WAYS[way]
    of_gate = ("gate",) if module == "harness" else ()
    return [sys.executable, "-m", module, *of_gate, "stress_tests", *OPTIONS, *more, *arguments]


def environment(*paths: Path) -> dict[str, str]:
    tests = Path(__file__).parents[1]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, [*paths, tests, *filter(None, sys.path)])),
    }


def run(shop, way: str, *arguments: str, **how):
    return started_by(shop, command(way, *arguments), **how)


def started_by(shop, line: list[str], **how):
    """Run a command line in the repository, and return how it ended."""
    how = {"env": environment()} | how
    return subprocess.run(
        line, cwd=shop.root, capture_output=True, text=True, timeout=SECONDS, check=False, **how
    )


def report_of(shop) -> dict:
    return json.loads((shop.root / "reports/stress.json").read_text())


def expect(shop, ended, status: int, verdict: str, why: str = "") -> None:
    """Assert that exit status, all three reports and the history agree."""
    said = ended.stdout + (ended.stderr or "")
    assert ended.returncode == status, said
    report = report_of(shop)
    assert agreed_verdict(shop.root / "reports", run=report["run"]) == verdict, said
    assert why in " ".join([*report["errors"], *report["omissions"]]), report["errors"]
    history = [line.verdict for line in read_history(shop.root / "reports/history.jsonl").lines]
    assert set(history) <= {verdict}
    assert len(history) <= 1
    hidden = [path.name for path in (shop.root / "reports").iterdir() if path.name.startswith(".")]
    assert hidden == []


@pytest.mark.faults
@pytest.mark.parametrize(
    ("name", "way"), [(name, way) for name, ending in ENDINGS.items() for way in ending.ways]
)
def test_an_ending(shop, name, way):
    ending = ENDINGS[name]
    if "leaving.py" in ending.files:
        as_state_dict(shop.root / "models/augmented.safetensors")
    for place, text in ending.files.items():
        (shop.root / place).write_text(text)
    ended = run(shop, way, *ending.arguments)
    expect(shop, ended, ending.status, ending.verdict, ending.why)


# Packages that are missing.

NEEDED = ("pytest_html", "xdist", "hypothesis", "pydantic", "numpy", "torch", "PIL", "jinja2")
"""Some of each kind: plugins of pytest, what settings and models need, what reports need."""


@pytest.mark.faults
@pytest.mark.parametrize("name", NEEDED)
def test_a_package_that_cannot_be_imported_is_named(shop, tmp_path, name):
    """The configuration of `init` loads the gate first, in any order of packages."""
    broken = tmp_path / "broken"
    (broken / name).mkdir(parents=True)
    (broken / name / "__init__.py").write_text(
        f"raise ImportError('blocked on purpose', name={name!r})\n"
    )
    ended = run(shop, "plain", "-p", "harness.plugin", env=environment(broken))
    expect(shop, ended, 4, "error", f"the package {name} cannot be imported (blocked on purpose)")
    assert f"the package {name} cannot be imported (blocked on purpose)" in ended.stderr
    assert "Traceback" not in ended.stderr


# The folder of reports, and the disk.


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 64 kB, where a test may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a disk cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.faults
@pytest.mark.parametrize("way", ["plain", "gate"])
def test_a_full_disk_keeps_the_refusal(shop, small_disk, way):
    """The reports find no room, the refusal did: an earlier one stays."""
    ended = run(shop, way, "--stress-reports", str(small_disk))
    assert ended.returncode == 4, ended.stdout + ended.stderr
    assert "No space left on device" in ended.stderr
    record = small_disk / "stress.json"
    assert not record.exists() or json.loads(record.read_text())["verdict"] == "error"
    assert [path.name for path in small_disk.iterdir() if path.name.startswith(".")] == []


@pytest.mark.faults
def test_a_disk_too_full_for_the_record_is_said(shop, small_disk):
    (small_disk / "taken").write_bytes(bytes(56_000))
    ended = run(shop, "plain", env={**environment(), "TMPDIR": str(small_disk)})
    expect(shop, ended, 4, "error")
    assert "PASS" not in (shop.root / "reports/stress.md").read_text()


@pytest.mark.faults
def test_a_read_only_disk_is_said_before_the_run_unless_of_the_cache(shop, small_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    ended = run(shop, "plain", "--stress-reports", str(small_disk))
    assert ended.returncode == 4
    assert "Read-only file system" in ended.stderr
    ended = run(shop, "plain", env={**environment(), "XDG_CACHE_HOME": str(small_disk)})
    expect(shop, ended, 0, "pass")


# Signals.

SLOW = (
    "import pathlib, time\ndef test_slow(candidate):\n    pathlib.Path('started').touch()\n    "
    "time.sleep(600)\n"
)
SLOW_TO_END = """
import pathlib, time

def pytest_sessionfinish():
    pathlib.Path("ending").touch()
    time.sleep({seconds})
"""


@pytest.fixture
def slow(shop):
    """A repository with a test that takes ten minutes."""
    (shop.tests / "test_slow.py").write_text(SLOW)
    return shop


def started(shop, way: str, *arguments: str):
    return subprocess.Popen(
        command(way, *arguments),
        cwd=shop.root,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while not path.exists():
        assert time.monotonic() < deadline, f"{path}: not there"
        time.sleep(0.05)


def expect_no_process_in(folder: Path) -> None:
    """Assert that soon no process works in a folder."""
    deadline = time.monotonic() + 60
    while found := [
        place.name for place in Path("/proc").glob("[0-9]*") if _works_in(place, folder)
    ]:
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


def _works_in(process: Path, folder: Path) -> bool:
    with suppress(OSError):
        return (process / "cwd").readlink() == folder
    return False


@pytest.fixture(autouse=True)
def children_take_hangups():
    """Let children be ended by SIGHUP: `nohup` has them ignore it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.faults
@pytest.mark.parametrize(
    ("number", "way"),
    [
        (signal.SIGTERM, "plain"),
        (signal.SIGTERM, "gate"),
        (signal.SIGHUP, "workers"),
        (signal.SIGKILL, "plain"),
        (signal.SIGKILL, "workers"),
    ],
)
def test_a_signal_to_the_outer_process_ends_all_processes(slow, number, way):
    process = started(slow, way)
    wait_for(slow.root / "started")
    process.send_signal(number)
    printed, _ = process.communicate(timeout=SECONDS)
    expect_no_process_in(slow.root)
    (reason,) = report_of(slow)["errors"]
    assert agreed_verdict(slow.root / "reports", run=report_of(slow)["run"]) == "error"
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
        assert reason == UNFINISHED, "the refusal remains"
        return
    assert process.returncode == 4, printed
    assert f"the run was ended by {number.name}" in reason
    assert reason in printed


@pytest.mark.faults
def test_an_inner_process_that_does_not_end_when_told_to_is_killed(slow):
    deaf = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    (slow.tests / "test_slow.py").write_text(deaf + SLOW)
    process = started(slow, "plain")
    wait_for(slow.root / "started")
    process.terminate()
    process.communicate(timeout=SECONDS)
    assert process.returncode == 4
    expect_no_process_in(slow.root)


@pytest.mark.faults
@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("way", WAYS)
def test_ctrl_c_ends_with_2_and_one_message(slow, way):
    process = started(slow, way)
    wait_for(slow.root / "started")
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)  # As a terminal does: to all processes of the run.
    printed, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 2, printed
    assert report_of(slow)["verdict"] in {"partial", "error"}
    assert (
        agreed_verdict(slow.root / "reports", run=report_of(slow)["run"])
        == report_of(slow)["verdict"]
    )
    assert printed.count("! KeyboardInterrupt !") <= 1, printed
    assert "Traceback" not in printed


@pytest.mark.faults
@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_of_the_outer_process_alone_is_passed_on(slow):
    process = started(slow, "plain")
    wait_for(slow.root / "started")
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 2, printed
    assert report_of(slow)["verdict"] == "partial"


@pytest.mark.faults
@pytest.mark.usefixtures("interruptible")
def test_a_second_ctrl_c_does_not_wait(slow):
    (slow.root / "conftest.py").write_text(SLOW_TO_END.format(seconds=600))
    process = started(slow, "plain")
    for name in ("started", "ending"):
        wait_for(slow.root / name)
        os.killpg(process.pid, signal.SIGINT)
    printed, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 2, printed
    assert agreed_verdict(slow.root / "reports", run=report_of(slow)["run"]) == "error"


# Two runs.


@pytest.mark.faults
def test_a_second_run_waits_or_ends_with_4_and_changes_nothing(slow):
    first = started(slow, "plain")
    wait_for(slow.root / "started")
    before = {name: (slow.root / "reports" / name).read_bytes() for name in REPORTS}
    second = started(slow, "gate", "--deselect", "stress_tests/test_slow.py::test_slow")
    for line in second.stdout:
        if "waiting for it to end" in line:
            break
    third = run(slow, "plain", "--stress-set=no_wait=true")
    assert third.returncode == 4
    assert "another run of the gate writes there" in third.stderr
    assert {name: (slow.root / "reports" / name).read_bytes() for name in REPORTS} == before
    first.kill()
    first.communicate()
    printed, _ = second.communicate(timeout=SECONDS)
    assert second.returncode == 0, printed
    assert report_of(slow)["verdict"] == "pass"


@pytest.mark.faults
@pytest.mark.parametrize(
    "reports", [(), ("--stress-reports", "nested")], ids=["same-folder", "own-folder"]
)
def test_a_run_within_a_run_judges_in_a_folder_of_its_own_alone(shop, reports):
    arguments = command("plain", "--candidate", "bad.safetensors", "-k", "clean", *reports)
    (shop.tests / "test_own.py").write_text(
        f"import subprocess\ndef test_own():\n    print(subprocess.call({arguments!r}))\n"
    )
    expect(shop, run(shop, "plain"), 0, "pass")
    nested = shop.root / "nested/stress.json"
    assert nested.exists() == bool(reports)
    if reports:
        assert json.loads(nested.read_text())["candidate"]["path"] == "bad.safetensors"


@pytest.mark.faults
def test_workers_of_a_run_from_python_judge_in_its_folder_alone(shop):
    """The folder is known to the outer process, and stands on no command line."""
    shop.checks.write_text(shop.checks.read_text() + '\n[gate]\ndata = "npz:zoo.npz"\n')
    code = (
        "from harness import gate\nresult = gate('bad.safetensors', reports='elsewhere', "
        "baseline='none', options=['-n', '1'])\nraise SystemExit(result.exit_status)\n"
    )
    ended = started_by(shop, [sys.executable, "-c", code])
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert json.loads((shop.root / "elsewhere/stress.json").read_text())["verdict"] == "fail"
    assert {name: (shop.root / "reports" / name).read_text() for name in REPORTS} == OLD_REPORTS


# Habits of pytest.


@pytest.mark.faults
def test_plugins_given_as_objects_keep_the_run_in_its_process(shop):
    code = (
        "import pytest\n"
        "class Own:\n"
        "    def pytest_sessionfinish(self): print('own plugin')\n"
        f"raise SystemExit(pytest.main({command('plain')[3:]!r}, plugins=[Own()]))\n"
    )
    ended = started_by(shop, [sys.executable, "-c", code])
    expect(shop, ended, 0, "pass")
    assert "own plugin" in ended.stdout


@pytest.mark.faults
def test_a_plugin_that_only_a_conftest_loads_judges_in_the_process(shop):
    (shop.root / "conftest.py").write_text('pytest_plugins = ["harness.plugin"]\n')
    ended = run(shop, "plain", env={**environment(), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"})
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert report_of(shop)["verdict"] == "pass"


@pytest.mark.faults
def test_options_of_pytest_and_of_other_plugins_work_as_ever(shop):
    (shop.root / "conftest.py").write_text(
        "def pytest_addoption(parser):\n    parser.addoption('--mine')\n"
    )
    (shop.root / "tests").mkdir()
    (shop.root / "tests/test_plain.py").write_text(
        "def test_plain(pytestconfig):\n    assert pytestconfig.option.mine\n"
    )
    more = (
        "--mine=1",
        "--junitxml=junit.xml",
        "--html=other.html",
        "--cov=stress_tests",
        "-v",
        "tests",
    )
    ended = run(shop, "plain", *more)
    expect(shop, ended, 0, "pass")
    assert "tests/test_plain.py::test_plain PASSED" in ended.stdout
    assert "stress_tests/test_clean.py" in ended.stdout
    assert "TOTAL" in ended.stdout, "the report of pytest-cov"
    for name in ("junit.xml", "other.html", ".coverage"):
        assert (shop.root / name).exists(), name


@pytest.mark.faults
def test_what_is_typed_reaches_the_debugger_and_the_terminal(shop):
    """A run in a terminal is interactive and colored."""
    (shop.tests / "test_own.py").write_text("def test_own():\n    assert 0\n")
    leader, follower = os.openpty()
    process = subprocess.Popen(
        command("plain", "--pdb", "-k", "own"),
        cwd=shop.root,
        env={**environment(), "TERM": "xterm"},
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
    )
    os.close(follower)
    printed = b""
    while b"(Pdb)" not in printed:
        printed += os.read(leader, 4096)
    os.write(leader, b"print(6 * 7)\nq\n")
    with suppress(OSError):  # The end of the terminal.
        while part := os.read(leader, 4096):
            printed += part
    assert process.wait(timeout=SECONDS) in {2, 4}
    assert b"\n42" in printed
    assert b"\x1b[31m" in printed, "red"
    os.close(leader)


@pytest.mark.faults
@pytest.mark.parametrize(
    "option", ["--collect-only", "--help", "--stress-plan", "--markers", "--fixtures"]
)
def test_what_judges_nothing_touches_no_report(shop, option):
    ended = run(shop, "plain", option)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert {name: (shop.root / "reports" / name).read_text() for name in REPORTS} == OLD_REPORTS


@pytest.mark.faults
def test_the_outer_process_of_a_run_has_loaded_no_numpy(shop):
    """A test of the inner process reads the memory map of the outer one."""
    (shop.tests / "test_own.py").write_text(
        "import os, pathlib\n"
        "def test_own():\n"
        "    maps = pathlib.Path(f'/proc/{os.getppid()}/maps').read_text()\n"
        "    assert 'torch' not in maps and 'numpy' not in maps\n"
    )
    expect(shop, run(shop, "plain"), 0, "pass")
