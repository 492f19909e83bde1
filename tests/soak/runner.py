"""One random run of the gate in a copy of the little repository, and what it left."""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from zoo import Zoo

ROOT = Path(__file__).parents[2]
SECONDS = 300
"""After which a run is held to hang, however busy the machine is."""
BLOCKER = """
import os, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == os.environ["SOAK_BLOCKED"]:
            raise ImportError(f"{name} cannot be imported, as libGL.so.1 is missing", name=name)

if os.environ.get("SOAK_BLOCKED"):
    sys.meta_path.insert(0, Blocked())
"""
PLAIN_TEST = "def test_plain():\n    pass\n"


@dataclass(frozen=True)
class Ended:
    """The end of a run: its exit status, negative for a signal.

    None where it hung, its output, and its folder.
    """

    status: int | None
    output: str
    folder: Path
    changed: tuple[str, ...]
    """Inputs that are not what they were, without those that the scenario changes."""


def make_template(folder: Path) -> None:
    """Make the repository that every run has a copy of."""
    folder.mkdir()
    place = Zoo(folder)
    place.save("models/good.safetensors")
    place.save("models/bad.safetensors", blind=True)
    whole = (folder / "models/good.safetensors").read_bytes()
    (folder / "models/cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (place.tests / "test_plain.py").write_text(PLAIN_TEST)
    (folder / "history-odd.jsonl").write_text(
        '{"schema": 2, "date": "0001-01-01T00:00:00+14:00"}\n'
    )
    (folder / "blocker").mkdir()
    (folder / "blocker/sitecustomize.py").write_text(BLOCKER)


def run(
    scenario, template: Path, folder: Path, zygote: "Zygote", *, plugins: Path | None = None
) -> Ended:
    """Run a scenario in a copy of the template at `folder`."""
    shutil.copytree(template, folder)
    before = _hashes(folder)
    log = folder.with_suffix(".log")
    begun = time.monotonic()
    process = _start(scenario, folder, log, zygote, plugins)
    try:
        if scenario.signal or scenario.change:
            process.wait(scenario.after)
            if scenario.signal:
                process.send(getattr(signal, scenario.signal))
            else:
                CHANGES[scenario.change](folder)
        status = process.wait(SECONDS - (time.monotonic() - begun))
    finally:
        process.end()
    after = _hashes(folder)
    own = {"change": CHANGED.get(scenario.change, ())}["change"]
    changed = tuple(name for name in before if name not in own and before[name] != after.get(name))
    return Ended(
        status, log.read_text("utf-8", errors="replace") if log.exists() else "", folder, changed
    )


def _hashes(folder: Path) -> dict[str, str]:
    """Return the hashes of all inputs: what is no report, no cache and no compiled code."""
    inputs = (*folder.glob("*.*"), *folder.glob("models/*"), *folder.glob("stress_tests/*.*"))
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in inputs
        if path.is_file() and path.name not in OUTPUTS
    }


OUTPUTS = ("history.jsonl", "history-odd.jsonl", "junit.xml", "other.html", ".coverage")


def _start(scenario, folder: Path, log: Path, zygote: "Zygote", plugins: Path | None):
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, filter(None, (folder / "blocker", ROOT, plugins)))),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
        "SOAK_BLOCKED": scenario.blocked,
        **scenario.environment,
    }
    environment = {name: value for name, value in environment.items() if value is not None}
    candidate = f"models/{scenario.candidate}.safetensors"
    arguments = [
        "stress_tests",
        "--stress-set",
        "data=npz:zoo.npz",
        "--candidate",
        candidate,
        *scenario.arguments,
    ]
    if not scenario.fresh and scenario.output != "closed":
        return zygote.fork(folder, arguments, environment, scenario.limits, str(log))
    module = ("pytest",) if scenario.launcher == "pytest" else ("harness", "gate")
    limits = "".join(
        f"resource.setrlimit(resource.{name}, ({value}, {value}));"
        for name, value in scenario.limits.items()
    )
    closed = "os.close(1); os.close(2);" if scenario.output == "closed" else ""
    begin = (
        f"import os, resource, sys; {limits} {closed} os.execv({sys.executable!r}, sys.argv[1:])"
    )
    command = [sys.executable, "-S", "-c", begin, sys.executable, "-m", *module, *arguments]
    with log.open("wb") as stream:
        child = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    return Fresh(child)


class Fresh:
    """A run in an interpreter of its own."""

    def __init__(self, child) -> None:
        self.child = child

    def wait(self, seconds: float) -> int | None:
        """Wait for the end, at most so long.

        Return the exit status, None for a run that goes on.
        """
        try:
            return self.child.wait(max(seconds, 0.0))
        except subprocess.TimeoutExpired:
            return None

    def send(self, number: int) -> None:
        """Send a signal to the first process alone, as a runner of jobs does."""
        self.child.send_signal(number)

    def end(self) -> None:
        """Kill what is left of it."""
        _kill_group(self.child.pid)
        self.child.wait()


class Zygote:
    """The process that forks runs; see `zygote.py`."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("zygote.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self.process.stdout.readline() == "ready\n"

    def fork(self, folder: Path, arguments, environment, limits, output: str) -> "Forked":
        """Start a run."""
        asked = {
            "folder": str(folder),
            "arguments": arguments,
            "environment": environment,
            "limits": limits,
        }
        self.process.stdin.write(json.dumps({**asked, "output": output}) + "\n")
        self.process.stdin.flush()
        return Forked(int(self.process.stdout.readline()), self.process.stdout)

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


class Forked:
    """A run that the zygote has forked."""

    def __init__(self, pid: int, answers) -> None:
        self.pid, self.answers, self.status = pid, answers, None

    def wait(self, seconds: float) -> int | None:
        """Wait for the end, at most so long.

        Return the exit status, None for a run that goes on.
        """
        import select

        if self.status is None and select.select([self.answers], [], [], max(seconds, 0.0))[0]:
            self.status = int(self.answers.readline())
        return self.status

    def send(self, number: int) -> None:
        """Send a signal to the first process alone."""
        if self.status is None:
            os.kill(self.pid, number)

    def end(self) -> None:
        """Kill what is left of it."""
        _kill_group(self.pid)
        if self.status is None:
            self.answers.readline()


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _link_reports(folder: Path) -> None:
    """Have the page be a link to the data."""
    (folder / "reports").mkdir(exist_ok=True)
    (folder / "reports/stress.html").unlink(missing_ok=True)
    (folder / "reports/stress.html").symlink_to(folder / "zoo.npz")


CHANGES = {
    "candidate-bad": lambda at: shutil.copy(
        at / "models/bad.safetensors", at / "models/good.safetensors"
    ),
    "candidate-gone": lambda at: (at / "models/good.safetensors").unlink(missing_ok=True),
    "checks-lenient": lambda at: (at / "stress_tests/checks.toml").write_text(
        (at / "stress_tests/checks.toml")
        .read_text()
        .replace("0.85", "0.01")
        .replace("0.75", "0.01")
    ),
    "checks-gone": lambda at: (at / "stress_tests/checks.toml").unlink(missing_ok=True),
    "data-gone": lambda at: (at / "zoo.npz").unlink(missing_ok=True),
    "data-cut": lambda at: os.truncate(at / "zoo.npz", 1_000),
    "reports-gone": lambda at: shutil.rmtree(at / "reports", ignore_errors=True),
    "reports-link": _link_reports,
    "tests-gone": lambda at: (at / "stress_tests/test_rotation.py").unlink(missing_ok=True),
    "history-gone": lambda at: (at / "history.jsonl").unlink(missing_ok=True),
}
CHANGED = {
    "candidate-bad": ("models/good.safetensors",),
    "candidate-gone": ("models/good.safetensors",),
    "checks-lenient": ("stress_tests/checks.toml",),
    "checks-gone": ("stress_tests/checks.toml",),
    "data-gone": ("zoo.npz",),
    "data-cut": ("zoo.npz",),
    "tests-gone": ("stress_tests/test_rotation.py",),
}
"""The inputs that a change is to."""
