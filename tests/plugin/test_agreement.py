"""Exit status and all three reports agree, whatever fails around the verdict."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from outcomes import OLD_REPORTS

from harness.report.refusal import PROTOCOL as REFUSED_PROTOCOL
from harness.report.refusal import ROLES as REFUSED_ROLES
from harness.report.refusal import Claim, agreed_verdict, mark_of_page, mark_of_summary

STATUSES = {"pass": 0, "fail": 1, "error": 4}


def expect(zoo, ran, verdict, *, said="", page=True):
    """Assert the verdict in all three reports of one run, and its exit status."""
    report = zoo.report()
    assert agreed_verdict(zoo.root / "reports", run=report["run"]) == report["verdict"] == verdict, ran.outlines
    assert ran.ret == STATUSES[verdict]
    assert said in " ".join(report["errors"])


def raising(error):
    def fail(*_, **__):
        raise error

    return fail


MISSING = ImportError("libGL.so.1: cannot open shared object file")


@pytest.mark.parametrize(
    ("place", "error"),
    [
        ("harness.report.text.markdown", MemoryError()),
        ("harness.run.outcome.Outcome.as_files", RecursionError("too deep")),
        ("harness.report.html.page_of", MISSING),
        ("harness.report.text.summary_lines", MISSING),
        ("harness.plugin.run.outcome_of", MemoryError()),
    ],
)
def test_what_fails_at_the_end_is_inconclusive_in_all(zoo, monkeypatch, place, error):
    monkeypatch.setattr(place, raising(error))
    expect(
        zoo,
        zoo.run(page="html" in place),
        "error",
        said="libGL.so.1" if isinstance(error, ImportError) else type(error).__name__,
    )


@pytest.mark.parametrize("name", ["cv2", "matplotlib.backends.backend_svg"])
def test_a_package_that_is_missing_is_named_before_the_run(zoo, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    ran = zoo.run()
    expect(zoo, ran, "error", said=f"the package {name.partition('.')[0]} cannot be imported")
    assert "pip install" in ran.stderr.str()
    assert "Traceback" not in ran.stderr.str()


def test_no_part_of_the_plugin_can_be_switched_off(zoo):
    zoo.save("bad.safetensors", blind=True)
    off = [f"no:harness.plugin.{name}" for name in ("hooks", "fixtures", "planning", "parametrization", "verdicts")]
    expect(zoo, zoo.run(*(part for each in off for part in ("-p", each)), "--candidate", "bad.safetensors"), "fail")


def test_the_plugin_itself_cannot_be_switched_off(zoo):
    """Its guard is an entry point of its own; here it is loaded by name, as an older installation has none."""
    (zoo.tests / "test_plain.py").write_text("def test_plain():\n    pass\n")
    (zoo.root / "reports").mkdir()
    for name, text in OLD_REPORTS.items():
        (zoo.root / "reports" / name).write_text(text)
    off = ("-p", "no:harness.plugin", "-p", "harness.plugin.guard")
    ran = zoo.pytester.runpytest_inprocess(*off, "stress_tests/test_plain.py")
    expect(zoo, ran, "error", said="harness.plugin is switched off (-p no:harness.plugin)")
    (zoo.root / "tests").mkdir()
    (zoo.root / "tests/test_plain.py").write_text("def test_plain():\n    pass\n")
    assert zoo.pytester.runpytest_inprocess(*off, "tests").ret == 0
    points = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["entry-points"]
    assert points["pytest11"]["harness.plugin.guard"] == "harness.plugin.guard"


@pytest.mark.processes
def test_another_plugin_that_cannot_be_imported_is_4_with_reports(zoo):
    """The configuration that `init` writes loads the gate first, whatever the order of installed packages."""
    (zoo.root / "broken/xdist").mkdir(parents=True)
    (zoo.root / "broken/xdist/__init__.py").write_text("raise ImportError('no libfoo', name='xdist')\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "harness.plugin",
        "stress_tests",
        "--stress-set",
        "data=npz:zoo.npz",
    ]
    paths = [str(zoo.root / "broken"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    ran = subprocess.run(command, cwd=zoo.root, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 4, ran.stdout + ran.stderr
    assert "ERROR: [PACKAGE] the package xdist cannot be imported (no libfoo)" in ran.stderr
    assert "xdist cannot be imported" in zoo.report()["errors"][0]


@pytest.mark.parametrize("name", ["terminal", "capture", "cacheprovider"])
def test_a_plugin_of_pytest_that_is_off_changes_no_verdict(zoo, name):
    expect(zoo, zoo.run("-p", f"no:{name}"), "pass")


OTHER = """
import pytest

@pytest.hookimpl({when}=True)
def pytest_sessionfinish(session):
    session.exitstatus = {status}
"""


@pytest.mark.parametrize(
    ("when", "status", "blind"),
    [("tryfirst", 0, True), ("trylast", 0, True), ("trylast", 1, False), ("trylast", 5, False)],
)
def test_another_plugin_that_sets_the_status(zoo, when, status, blind):
    zoo.save("new.safetensors", blind=blind)
    (zoo.root / "conftest.py").write_text(OTHER.format(when=when, status=status))
    ran = zoo.run("--candidate", "new.safetensors")
    expect(zoo, ran, "fail" if when == "tryfirst" else "error")


def test_a_page_that_goes_elsewhere_leaves_one_here(zoo):
    ran = zoo.run("--html", "elsewhere.html", page=True)
    expect(zoo, ran, "pass")


@pytest.mark.parametrize("option", ["--candidate", "--baseline", "--incumbent", "--checks", "--stress-profile"])
def test_a_setting_that_is_given_twice_is_refused(zoo, option):
    zoo.save("bad.safetensors", blind=True)
    value = {"--checks": "stress_tests/checks.toml", "--stress-profile": "default"}.get(option, "bad.safetensors")
    ran = zoo.run(option, value, f"{option}={value}")
    expect(zoo, ran, "error", said=f"{option}: it is given more than once")


def test_a_command_line_may_override_the_configuration(zoo):
    (zoo.root / "pytest.ini").write_text("[pytest]\naddopts = --candidate=none.safetensors\n")
    expect(zoo, zoo.run("--candidate", "models/augmented.safetensors"), "pass")


@pytest.mark.parametrize("more", [(), ("--junit-xml", "junit.xml")], ids=["plain", "junit"])
def test_a_path_with_a_byte_that_is_no_text(zoo, more):
    name = os.fsdecode(b"models/\xff.safetensors")
    (zoo.root / name).write_bytes((zoo.root / "models/augmented.safetensors").read_bytes())
    expect(zoo, zoo.run("--candidate", name, *more, page=True), "pass")
    assert "\\udcff" in (zoo.root / "reports/stress.md").read_text()
    assert len((zoo.root / "reports/history.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize("at", ["9999-12-31T23:59:59-12:00"])
def test_a_line_of_the_history_with_no_date_in_utc(zoo, at):
    expect(zoo, zoo.run(), "pass")
    path = zoo.root / "reports/history.jsonl"
    line = {**json.loads(path.read_text()), "at": at, "candidate": "0" * 64}
    path.write_text(json.dumps(line) + "\n")
    ran = zoo.run(page=True)
    expect(zoo, ran, "pass")
    assert f"{path}: line 1: is no JSON with a date in UTC" in ran.stdout.str()


@pytest.mark.parametrize(
    ("place", "error"),
    [
        ("hooks.leave", OverflowError("date value out of range")),
        ("sinks.read_history", OSError(28, "full")),
        ("sinks.leave_line", MemoryError()),
    ],
)
def test_a_history_that_fails_changes_no_verdict(zoo, monkeypatch, place, error):
    monkeypatch.setattr(f"harness.plugin.{place}", raising(error))
    expect(zoo, zoo.run(), "pass")


def test_a_history_that_cannot_be_drawn_changes_no_verdict(zoo, monkeypatch):
    expect(zoo, zoo.run(), "pass")
    zoo.save("new.safetensors", jitter=0.01)
    monkeypatch.setattr("harness.report.history._body", raising(OverflowError("date value out of range")))
    expect(zoo, zoo.run("--candidate", "new.safetensors", page=True), "pass")
    assert "The run history cannot be drawn" in (zoo.root / "reports/stress.html").read_text()


def test_a_refusal_has_the_keys_of_every_report(zoo):
    expect(zoo, zoo.run(), "pass")
    keys = set(zoo.report())
    expect(zoo, zoo.run("--stress-samples", "-1"), "error")
    assert set(zoo.report()) == keys


def test_a_refusal_knows_the_roles_and_the_protocol():
    from harness.checks.roles import ROLES
    from harness.perturb import PROTOCOL

    assert (tuple(ROLES), PROTOCOL) == (REFUSED_ROLES, REFUSED_PROTOCOL)


@pytest.mark.parametrize("change", ["run", "verdict", "missing", "text", "list"])
@pytest.mark.parametrize("name", ["stress.html", "stress.md", "stress.json"])
def test_reports_that_differ_agree_on_nothing(tmp_path, name, change):
    Claim(tmp_path, ["pytest"], "a" * 32).refuse("no")
    assert agreed_verdict(tmp_path, run="a" * 32) == "error"
    path = tmp_path / name
    if change == "missing":
        path.unlink()
    elif change in {"text", "list"}:
        path.write_text("[]" if change == "list" else "PASS")
    else:
        path.write_text(path.read_text().replace(*{"run": ("a" * 32, "b" * 32), "verdict": ("error", "pass")}[change]))
    assert agreed_verdict(tmp_path, run="a" * 32) == ""
    assert mark_of_page("a", "pass") not in mark_of_summary("a", "pass")
