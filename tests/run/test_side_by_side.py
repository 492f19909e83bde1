"""The overview of a run: as much as the run has searched, never a verdict. Runs with workers: test_workers.py."""

import json
import warnings

import cv2  # noqa: F401  Compiled modules must be there before `pytester` takes its snapshot of modules,
import hypothesis  # noqa: F401
import pytest
import scipy.stats  # noqa: F401  since it drops what a run inside this process imports, and they load only once.
from PIL import ImageFont  # noqa: F401
from zoo import ROWS, SEARCH, Zoo, asked_to_record, hypothesis_as_it_starts


@pytest.fixture
def zoo(pytester):
    place = Zoo(pytester.path, tests=("clean", "breaking_pose"))
    place.bind(ROWS + SEARCH)
    place.save("noisy.safetensors", jitter=4.0)
    with hypothesis_as_it_starts(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield place


def run(pytester, zoo, *arguments):
    """Run the gate on the noisy network against the good one; return the overview, and the page."""
    models = ("--candidate", "noisy.safetensors", "--baseline", "models/augmented.safetensors")
    result = pytester.runpytest_inprocess("--stress-set", f"data={zoo.data}", *models, "stress_tests", *arguments)
    assert result.ret in {0, 1}, result.stdout.str()
    record = json.loads((zoo.root / "reports/stress.json").read_text())
    return record["overview"], (zoo.root / "reports/stress.html").read_text()


def test_recording_measures_none(pytester, zoo):
    with asked_to_record("clean"):
        result = pytester.runpytest_inprocess("--stress-set", f"data={zoo.data}", "stress_tests")
    assert result.ret == 4, "a recording judges nothing"
    report = json.loads((zoo.root / "reports/stress.json").read_text())
    assert (report["overview"], report["errors"]) == (None, [])
    assert [(check["id"], check["status"]) for check in report["checks"]] == [("clean", "informational")]


def test_a_run_that_is_to_leave_it_out_measures_none_and_says_so(pytester, zoo):
    found, page = run(pytester, zoo, "-k", "accuracy", "--stress-set=no_overview=true")
    assert found is None
    assert "The models were not compared (no_overview)." in page


def test_a_model_that_cannot_be_compared_is_judged_all_the_same(pytester, zoo, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("<out of memory>")

    monkeypatch.setattr("harness.run.side_by_side.measure_overview", fail)
    found, page = run(pytester, zoo, "-k", "accuracy")
    assert found is None
    assert "The models could not be compared: &lt;out of memory&gt;" in page
