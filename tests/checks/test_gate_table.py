"""The table of a project's settings in its checks file.

Written, read, and no part of the checks' hash.
"""

import tomllib
from pathlib import Path

import pytest

from harness.base.errors import InputError
from harness.checks import read_checks
from harness.checks.edits import with_settings, with_thresholds
from harness.checks.tables import hash_of, hash_of_checks, read_table, split

SHIPPED = Path(__file__).parents[2] / "stress_tests/checks.toml"
VALUES = {
    "data": "folder:photos/test",
    "size": 64,
    "model_args": {"num_classes": 5, "sizes": [1, 2]},
    "no_overview": True,
}


@pytest.fixture
def checks(tmp_path):
    path = tmp_path / "checks.toml"
    path.write_text(with_settings(SHIPPED.read_text(), VALUES))
    return path


def test_it_is_read_as_it_was_written_and_the_hash_is_unchanged(checks):
    assert read_table(checks) == VALUES
    made = with_thresholds(checks.read_text(), [], recipe={"about": "none"}, date="2026-01-01")
    assert tomllib.loads(made)["gate"] == VALUES, "a calibration keeps it"
    assert read_checks(checks).sha256 == hash_of_checks(checks) == read_checks(SHIPPED).sha256
    checks.write_text(with_settings(checks.read_text(), {"normalization": "imagenet"}))
    assert read_table(checks) == {**VALUES, "normalization": "imagenet"}
    assert hash_of_checks(checks) == read_checks(SHIPPED).sha256


@pytest.mark.parametrize(
    "text",
    [
        "a = 1\n\n{}[data]\nb = 2\n",
        "a = 1\n\n{}# on the data\n[data]\nb = 2\n",
        "a = 1\n\n[data]\nb = 2\n\n{}[[check]]\nc = 3\n",
        "a = 1\n\n[data]\nb = 2\n\n{}",
    ],
    ids=["first", "before-a-comment", "between", "last"],
)
def test_its_place_does_not_matter(text):
    table = (
        '[gate]\ndata = "npz:a.npz"\n# on the size\nsize = 8\n\n[gate.model_args]\nwidth = 2\n\n'
    )
    without = text.format("").rstrip("\n") + "\n"
    assert hash_of(text.format(table).rstrip("\n").encode() + b"\n") == hash_of(without.encode())
    assert tomllib.loads(split(text.format(table))[0])["gate"]["model_args"] == {"width": 2}


@pytest.mark.parametrize("entry", ["gate = { size = 8 }\n", "gate.size = 8\n"])
def test_a_table_in_another_form_is_refused(checks, entry):
    checks.write_text(entry + SHIPPED.read_text())
    with pytest.raises(InputError, match=r"write \[gate\] as a table of its own"):
        read_checks(checks)
