"""A verdict does not depend on the clock, another version's cache, or broken packages."""

import os
import shutil
import time
from datetime import datetime
from pathlib import Path

import pytest
from outcomes import agreed_verdict
from zoo import run_python

from harness.run.history import read_history

pytestmark = pytest.mark.usefixtures("unchecked")
ROOT = Path(__file__).parents[2]


class Past(datetime):
    """A clock that was set back by decades."""

    @classmethod
    def now(cls, tz=None):
        return datetime(2001, 2, 3, tzinfo=tz)


def test_a_clock_that_is_set_back_between_two_runs_changes_no_verdict(zoo, monkeypatch):
    assert zoo.run().ret == 0
    before = zoo.report()
    later = time.time() + 1e9
    cache = Path(os.environ["XDG_CACHE_HOME"])
    kept = [path for folder in (cache, zoo.root) for path in folder.rglob("*") if path.is_file()]
    for path in kept:
        os.utime(path, (later, later))
    monkeypatch.setattr("harness.run.history_line.datetime", Past)
    zoo.save("worse.safetensors", blind=True)
    ran = zoo.run("--candidate", "worse.safetensors")
    assert (ran.ret, agreed_verdict(zoo.root / "reports", run=zoo.report()["run"])) == (1, "fail")
    ran.stdout.fnmatch_lines(
        ["*history: 1 runs are dated after this one; check the clock of this machine*"]
    )
    assert zoo.run().ret == 0
    assert zoo.report()["checks"] == before["checks"]
    lines = read_history(zoo.root / "reports/history.jsonl").lines
    assert [(line.at.year, line.verdict) for line in lines[:2]] == [(2001, "fail"), (2001, "pass")]
    assert len(lines) == 3


def run_gate(zoo, *options, code: Path):
    """Run the gate with the modules in `code` before all others; return how it ended."""
    plugins = ("-p", "harness.plugin", "-p", "no:cacheprovider")
    gate = ("stress_tests", "--stress-set", "data=npz:zoo.npz")
    return run_python("-m", "pytest", *plugins, *gate, *options, cwd=zoo.root, code=code)


@pytest.mark.processes
def test_two_versions_of_the_harness_share_a_cache_and_no_prediction(zoo, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(
        ROOT / "harness", other / "harness", ignore=shutil.ignore_patterns("__pycache__")
    )
    module = other / "harness/perturb/poses.py"
    code = module.read_text()
    turned = code.replace(
        "moved_alike(images, self.degrees,", "moved_alike(images, 3 * self.degrees,"
    )
    assert turned != code
    module.write_text(turned)
    values = []
    for run in (
        zoo.run,
        lambda: run_gate(zoo, "-p", "no:html", code=other),
        zoo.run,
    ):  # The first and last: here.
        run()
        values.append({check["id"]: check["value"] for check in zoo.report()["checks"]})
    assert values[0] == values[2]
    assert values[0]["rotate-ccw-010"] != values[1]["rotate-ccw-010"]
    assert values[0]["clean"] == values[1]["clean"]


NOT_NEEDED = {"click", "filelock", "safetensors", "sklearn"}
"""Modules that such a run does without.

Without `filelock` it leaves no line in the history, and says so.
"""


@pytest.mark.faults
def test_packages_that_a_run_does_without_change_no_verdict(zoo, tmp_path):
    for name in NOT_NEEDED:
        (tmp_path / "broken" / name).mkdir(parents=True)
        (tmp_path / "broken" / name / "__init__.py").write_text(
            f"raise ImportError('on purpose', name={name!r})\n"
        )
    ran = run_gate(zoo, code=tmp_path / "broken")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert agreed_verdict(zoo.root / "reports", run=zoo.report()["run"]) == "pass"
