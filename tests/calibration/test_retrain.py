"""Training of reference models in child processes: what goes wrong there is said here."""

from pathlib import Path

import pytest

from harness.base.errors import CalibrationError, InputError
from harness.base.launcher import Child, ChildLostError
from harness.calibration.retrain import train_reference_models
from harness.checks import read_checks

CHECKS = Path(__file__).parents[2] / "stress_tests/checks.toml"


def test_an_error_of_a_training_is_raised_as_it_is(tmp_path):
    unfinished = tmp_path / ".seed-001.safetensors.full.safetensors"
    unfinished.write_bytes(b"no checkpoint")
    with pytest.raises(InputError, match=r"REFUSED\[\w+\].*seed-001"):
        train_reference_models(read_checks(CHECKS), tmp_path, reference_models=1, jobs=2)


def test_a_training_that_is_killed_ends_the_others(tmp_path, monkeypatch):
    closed = []

    def call(child, *_):
        raise ChildLostError("its process was ended by SIGKILL", status=-9)

    monkeypatch.setattr(Child, "call", call)
    monkeypatch.setattr(Child, "close", lambda child: closed.append(True) or child)
    with pytest.raises(CalibrationError, match="the training failed: its process was ended"):
        train_reference_models(read_checks(CHECKS), tmp_path, reference_models=3, jobs=2)
    assert len(closed) == 2
