"""A run of pytest takes its settings from the table of its own project, whatever checks file it uses."""

import cv2  # noqa: F401  Compiled modules must be there before `pytester` takes its snapshot of modules.
import pytest
import scipy.stats  # noqa: F401
from zoo import GatedZoo, hypothesis_as_it_starts

from harness.checks import read_checks
from harness.checks.tables import with_settings

TRAP = {"data": "trap:images", "model": "trap:network", "transform": "trap:pixels"}


@pytest.fixture
def zoo(pytester, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(pytester.path / "cache"))
    zoo = GatedZoo(pytester, tests=("clean",))
    zoo.save("new.safetensors")
    zoo.foreign = zoo.root / "foreign.toml"
    zoo.foreign.write_text(with_settings(zoo.checks.read_text(), TRAP))
    zoo.before, zoo.before_text = read_checks(zoo.checks).sha256, zoo.checks.read_text()
    zoo.checks.write_text(with_settings(zoo.checks.read_text(), {"data": zoo.data, "no_overview": True, "size": 9}))
    with hypothesis_as_it_starts():
        yield zoo


def test_a_foreign_checks_file_names_no_code_and_set_wins(zoo, pytester):
    (zoo.root / "trap.py").write_text("import os\nos._exit(7)\n")
    line = ("-p", "no:html", "stress_tests", "--candidate", "new.safetensors", "--checks", "foreign.toml")
    result = pytester.runpytest_inprocess(*line, "--stress-set", "size=16")
    assert result.ret == 0, result.stdout.str()
    assert zoo.report()["checks_sha256"] == zoo.before


@pytest.mark.parametrize(
    ("table", "line", "said"),
    [
        ({"sise": 8}, (), "sise: unknown setting; did you mean size?"),
        ({"channels": 2}, (), "channels 2: expected one of 1, 3"),
        ({}, ("--stress-set", "size=8", "--stress-set", "size=9"), "size: it is set twice; leave one of them out"),
        ({}, ("--stress-set", "timeout=soon"), "timeout 'soon': expected a number"),
        ({}, ("--stress-data", "npz:zoo.npz"), 'write data = "npz:zoo.npz" below [gate] in stress_tests/checks.toml'),
    ],
)
def test_what_is_wrong_ends_with_4_in_one_sentence(zoo, pytester, table, line, said):
    zoo.checks.write_text(with_settings(zoo.checks.read_text(), table))
    result = pytester.runpytest_inprocess("stress_tests", *line)
    assert result.ret == 4
    assert said in result.stderr.str()
    assert said in zoo.report()["errors"][0]


def test_a_table_that_is_none_ends_with_4_in_one_sentence(zoo, pytester):
    zoo.checks.write_text(f"gate = 3\n{zoo.before_text}")
    assert pytester.runpytest_inprocess("stress_tests").ret == 4
    (said,) = zoo.report()["errors"]
    assert said.endswith("checks.toml: gate: expected a table, found 3")
