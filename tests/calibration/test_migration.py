"""Files of version 0.1: refused in one sentence, and written in schema 2 by `init --update --write`."""

import hashlib
import json

import pytest

from harness.base.errors import InputError
from harness.calibration.panel import read_panel
from harness.calibration.shipped_tests import RECORD
from harness.checks import read_checks
from harness.cli import main
from harness.measures.panel.predictions import read_panel_predictions

SENTENCE = "schema 1 of version 0.1; run `stress-harness init --update --write`"
GATES = """\
# Ours.
schema = 1
protocol = 1

[data]
name = "shop"
split = "test"
sha256 = "abc"
n = 100

[recipe]
about = "3 retrained reference models"

[budget]
right_at_every_pose = 0.1

[golden]
sha256 = "{golden}"
n = 1

[[gate]]
id = "clean"
family = "clean"
metric = "accuracy"
panel = {{bound = 0.9, mean = 0.91, std = 0.002, k = 2.9, retrains = 3, detects = 0.01, date = "2026-01-01"}}
not_gated = "retrains differ"

[[gate]]
id = "worst-pose-promised"
family = "search"
metric = "right_at_every_pose"
grid = "promised"
hand = {{ bound = 0.7, reason = "the bound of the last release" }}
"""
GOLDEN = """\
schema = 1

[[image]]
id = "golden-01234567"
class = "ant"
reason = "complaint"
date = "2026-01-01"
source = "a.png"
file = "golden-01234567.png"
sha256 = "{picture}"
made = "pixels"
healthy = [2, 3]
"""


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository as version 0.1 has left it: two checks files, a golden image and the record of the tests."""
    monkeypatch.chdir(tmp_path)
    tests = tmp_path / "stress_tests"
    (tests / "golden").mkdir(parents=True)
    (tests / "golden/golden-01234567.png").write_bytes(b"a picture")
    listed = GOLDEN.format(picture=hashlib.sha256(b"a picture").hexdigest())
    (tests / "golden/images.toml").write_text(listed)
    gates = GATES.format(golden=hashlib.sha256(listed.encode()).hexdigest())
    (tests / "gates.toml").write_text(gates)
    (tests / "gates-quick.toml").write_text(gates.replace("n = 100", "n = 100\nsample = 50"))
    (tests / RECORD).write_text(json.dumps({"version": "0.1.0", "files": {}}))
    return tests


def test_an_old_checks_file_is_refused_in_one_sentence(repository):
    for path in (repository / "gates.toml", repository / "checks.toml"):
        with pytest.raises(InputError) as refused:
            read_checks(path)
        assert str(refused.value) == f"{repository / 'gates.toml'}: {SENTENCE}"


@pytest.mark.parametrize("read", [read_panel, read_panel_predictions])
def test_an_old_panel_is_refused_in_one_sentence(tmp_path, read):
    path = tmp_path / "panel.json"
    path.write_text(json.dumps({"schema": 1, "rows": [], "members": []}))
    with pytest.raises(InputError, match=rf"panel\.json: {SENTENCE}"):
        read(path)


def test_update_names_old_files_and_writes_nothing(repository, capsys):
    before = sorted(repository.rglob("*"))
    assert main(["init", "--update"]) == 1
    printed = capsys.readouterr().out
    assert all(
        f"{name}: schema 1 of version 0.1" in printed for name in ("gates.toml", "gates-quick.toml", "images.toml")
    )
    assert sorted(repository.rglob("*")) == before


def test_update_writes_old_files_in_schema_2(repository):
    assert main(["init", "--update", "--write"]) == 0
    for name in ("checks.toml", "checks-quick.toml"):
        checks = read_checks(repository / name)
        clean, worst, golden = checks.checks
        assert (clean.panel, clean.informational, clean.binding) == (None, "", None)
        assert (worst.metric, worst.keys, worst.hand.threshold) == (
            "robust_accuracy",
            {"grid": "augmentation-range"},
            0.7,
        )
        assert worst.hand.reason == "the bound of the last release"
        assert dict(checks.budgets) == {"robust_accuracy": 0.1}
        assert checks.golden[0].reference == (2, 3)
        assert golden.family == "golden"
    assert (repository / "checks.toml").read_text().startswith("# Ours.\n")
    assert main(["init", "--update"]) == 0
