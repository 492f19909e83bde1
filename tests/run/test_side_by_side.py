"""The overview of a run: as much as the run has searched, never a verdict.

Runs with workers: test_workers.py.
"""

import pytest
from zoo import ROWS, SEARCH

pytestmark = pytest.mark.usefixtures("unchecked")
TESTS, BOUND = ("clean", "breaking_pose"), ROWS + SEARCH
MODELS = (
    "--candidate",
    "noisy.safetensors",
    "--baseline",
    "models/augmented.safetensors",
    "-k",
    "accuracy",
)


def test_recording_measures_none(shared):
    ran = shared.once(record="clean", page=True)
    assert ran.ending == (4, "error"), "a recording judges nothing"
    assert (ran.report["overview"], ran.report["errors"]) == (None, [])
    assert ran.statuses == {"clean": "informational"}


def test_a_run_that_is_to_leave_it_out_measures_none_and_says_so(shared):
    shared.save("noisy.safetensors", jitter=4.0)
    ran = shared.once(*MODELS, "--stress-set=no_overview=true", page=True)
    assert ran.report["overview"] is None
    assert "The models were not compared (no_overview)." in ran.page


def test_a_model_that_cannot_be_compared_is_judged_all_the_same(shared, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("<out of memory>")

    shared.save("noisy.safetensors", jitter=4.0)
    monkeypatch.setattr("harness.run.side_by_side.measure_overview", fail)
    ran = shared.once(*MODELS, page=True)
    assert ran.verdict in {"fail", "partial"}
    assert ran.report["overview"] is None
    assert "The models could not be compared: &lt;out of memory&gt;" in ran.page
