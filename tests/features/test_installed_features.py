"""Features of installed packages: found by their entry points, and refused by name if unusable."""

import json
from pathlib import Path

import pytest
from zoo import CLEAN, run_python

from harness.base.errors import FeatureError
from harness.base.features import Command, Family, features, implementations
from harness.base.registry import Registry
from harness.checks import read_checks
from harness.run.status import versions

NOTE = """
def stress_notes(outcome):
    return ["the feature was here"]
"""
FAMILY = """
from harness.base.features import Family

def stress_families():
    return [Family("dim", "Poor light", measures="Light.", failure="No light.")]
"""
METRIC = """
def stress_metrics():
    from harness.measures import Metric, Unit

    return [Metric("accuracy", Unit.SHARE, better="more")]
"""
COMMAND = """
from harness.base.features import Command

def stress_commands():
    return {"rank": Command("Inspect", "dim", "Rank them all.")}
"""
BROKEN = {
    "import": ("import nowhere", "cannot be loaded (ModuleNotFoundError"),
    "exit": ("raise SystemExit(0)", "cannot be loaded"),
    "no-such-hook": ("def stress_familys(): ...", "cannot be registered"),
    "signature": ("def stress_notes(outcome, request): ...", "cannot be registered"),
    "hook-raises": ("def stress_commands(): return 1 / 0", "stress_commands raises ZeroDivision"),
    "no-list": ("def stress_commands(): return 3", "stress_commands returns 3"),
    "no-command": ("def stress_commands(): return {'x': 3}", "returns 3, expected a Command"),
    "command-twice": (COMMAND, "the command 'rank' is there already, of feature comparison"),
    "family-twice": (FAMILY.replace('"dim"', '"clean"'), "the family 'clean' is there already"),
    "metric-twice": (METRIC, "the metric 'accuracy' is there already, of the harness itself"),
}
"""Code of features that cannot be used, each with a part of the message."""
CHECKS = Path(__file__).parents[2] / "stress_tests/checks.toml"
NAMED = "entry point dim = dim of stress-dim 1.0"


def test_an_installed_feature_comes_after_those_that_ship(install):
    install("dim", NOTE)
    *shipped, last = features()
    assert last.name == "dim"
    assert str(last) == NAMED
    assert len(shipped) > 10
    assert implementations("stress_notes")[-1](outcome=None) == ["the feature was here"]
    assert versions()["stress-dim"] == "1.0"


def test_without_installed_features_no_version_is_named():
    assert set(versions()) == {"python", "torch", "hypothesis", "harness"}


def test_a_function_may_leave_arguments_out(install):
    install("dim", "def stress_rows(): return [1]")
    *_, implementation = implementations("stress_rows")
    assert implementation(request=None) == [1]


@pytest.mark.parametrize("name", ["import", "exit", "no-such-hook", "signature"])
def test_an_entry_point_that_cannot_be_loaded_is_named(install, name):
    code, message = BROKEN[name]
    install("dim", code)
    with pytest.raises(FeatureError) as raised:
        features()
    assert str(raised.value).startswith(NAMED)
    assert message in str(raised.value)
    assert raised.value.code == "FEATURE"


def test_an_entry_point_that_names_no_module_is_refused(install):
    install("dim", NOTE, module="dim:stress_notes")
    with pytest.raises(FeatureError, match=f"^{NAMED.replace('dim of', 'dim:stress_notes of')}"):
        features()


def test_a_hook_that_raises_is_named(install):
    install("dim", "def stress_notes(): return {}['light']")
    with pytest.raises(FeatureError, match=r"stress-dim 1.0: stress_notes raises KeyError"):
        implementations("stress_notes")[-1](outcome=None)


def test_names_of_two_features_clash(install):
    install("dim", FAMILY)
    install("dusk", FAMILY)
    table = Registry("family", Family, {}, hook="stress_families")
    with pytest.raises(
        FeatureError, match=r"entry point dusk .*'dim' is there already, of entry p"
    ):
        list(table)


@pytest.mark.parametrize("name", ["data", "golden", "evidence"])
def test_a_table_of_the_checks_file_has_one_owner(install, name):
    install("dim", f"def stress_tables(): return {{'{name}': lambda: dict}}")
    with pytest.raises(FeatureError, match=rf"^{NAMED}: the table '{name}' is there already"):
        read_checks(CHECKS)


def test_of_entries_one_has_to_be_of_the_kind(install):
    install("dim", BROKEN["no-command"][0])
    table = Registry("command", Command, {}, hook="stress_commands")
    with pytest.raises(
        FeatureError, match=rf"^{NAMED}: stress_commands returns 3, expected a Comm"
    ):
        table.get("x")


@pytest.mark.processes
@pytest.mark.parametrize("name", BROKEN)
def test_every_command_names_a_broken_feature_and_ends_with_4(install, zoo, name):
    code, message = BROKEN[name]
    path = install("dim", code)
    commands = [
        ("list", "checks"),
        ("rank", "reports"),
        ("gate", f"--stress-set=data={zoo.data}"),
    ]
    for command in commands:
        done = run_python("-m", "harness", *command, cwd=zoo.root, code=path.parent)
        assert done.returncode == 4, done.stdout + done.stderr
        assert f"error: [FEATURE] {NAMED}" in done.stderr
        assert message in done.stderr
        assert "Traceback" not in done.stderr


IN_PYTEST = [name for name, (code, _) in BROKEN.items() if "stress_commands" not in code]
"""Those that pytest meets: it has no commands."""


@pytest.mark.processes
@pytest.mark.parametrize("name", IN_PYTEST)
@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["serial", "workers"])
def test_a_gate_in_pytest_names_a_broken_feature_in_its_reports(install, zoo, name, workers):
    code, message = BROKEN[name]
    path = install("dim", code)
    gate = ("stress_tests", f"--stress-set=data={zoo.data}", "-p", "harness.plugin")
    done = run_python("-m", "pytest", *gate, *workers, cwd=zoo.root, code=path.parent)
    printed = done.stdout + done.stderr
    assert done.returncode == 4, printed
    assert f"[FEATURE] {NAMED}" in printed
    assert "Traceback" not in printed
    report = json.loads((zoo.root / "reports/stress.json").read_text())
    assert (report["verdict"], report["error_codes"]) == ("error", ["FEATURE"])
    assert message in report["errors"][0]


@pytest.mark.processes
@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["serial", "workers"])
def test_all_processes_of_a_run_have_an_installed_feature(install, zoo, workers):
    code = """
def stress_session_opened(session):
    import os

    with open("opened.txt", "a") as file:
        file.write(f"{os.environ.get('PYTEST_XDIST_WORKER', 'controller')}\\n")
"""
    path = install("dim", NOTE + code)
    zoo.bind(CLEAN)
    settings = (
        f"--stress-set=data={zoo.data}",
        "--stress-set=no_overview=true",
        "-p",
        "harness.plugin",
    )
    done = run_python(
        "-m", "pytest", "stress_tests", *settings, *workers, cwd=zoo.root, code=path.parent
    )
    assert done.returncode == 0, done.stdout + done.stderr
    opened = set((zoo.root / "opened.txt").read_text().split())
    assert opened == ({"controller", "gw0", "gw1"} if workers else {"controller"})
    report = json.loads((zoo.root / "reports/stress.json").read_text())
    assert report["versions"]["stress-dim"] == "1.0"
    assert "the feature was here" in (zoo.root / "reports/stress.md").read_text()
