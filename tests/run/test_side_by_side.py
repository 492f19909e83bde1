"""The overview of a run: the same serially and with workers, as much as the run has searched, and never a verdict."""

import json

import cv2  # noqa: F401  Compiled modules must be there before `pytester` takes its snapshot of modules,
import hypothesis  # noqa: F401
import pytest
import seaborn  # noqa: F401  since it drops what a run inside this process imports, and they load only once.
from zoo import ROWS, Zoo

SEARCH = """
[[gate]]
id = "break-shift-median"
family = "search"
metric = "breaking_severity"
path = "shift"
share_broken = 0.5
"""


@pytest.fixture
def zoo(pytester):
    place = Zoo(pytester.path, tests=("clean", "breaking_pose"))
    place.bind(ROWS + SEARCH)
    place.save("plain.safetensors", jitter=4.0)
    return place


def run(pytester, zoo, *arguments):
    result = pytester.runpytest_subprocess(
        *("--stress-data", zoo.data, "--baseline", "plain.safetensors", "stress_tests", *arguments)
    )
    assert result.ret in {0, 1}, result.stdout.str()
    record = json.loads((zoo.root / "reports/stress.json").read_text())
    return record["overview"], (zoo.root / "reports/stress.html").read_text()


def test_it_is_the_same_serially_and_with_workers(pytester, zoo):
    serial, page = run(pytester, zoo)
    assert [model["name"] for model in serial["models"]] == ["candidate", "baseline"]
    assert [bool(model["survival"]) for model in serial["models"]] == [True, True]
    assert [bool(model["right_everywhere"]) for model in serial["models"]] == [False, True]
    assert 'id="report-comparison"' in page
    assert page.count('<figure class="figure') >= 8
    parallel, _ = run(pytester, zoo, "-n", "2")
    assert parallel == serial


def test_a_run_that_does_not_search_measures_no_search(pytester, zoo):
    found, page = run(pytester, zoo, "-k", "accuracy")
    assert not any(model["survival"] or model["right_everywhere"] for model in found["models"])
    assert "How much an image survives" not in page


def test_recording_measures_none(pytester, zoo):
    result = pytester.runpytest_subprocess("--stress-data", zoo.data, "stress_tests", "--stress-record", "clean")
    assert result.ret == 0
    assert json.loads((zoo.root / "reports/stress.json").read_text())["overview"] is None


def test_a_model_that_cannot_be_compared_is_judged_all_the_same(pytester, zoo):
    (zoo.root / "conftest.py").write_text(
        "from harness.run.overview import measure\n\n"
        "def fail(*_, **__):\n    raise RuntimeError('<out of memory>')\n\n"
        "measure.measure_overview = fail\n"
    )
    found, page = run(pytester, zoo)
    assert found is None
    assert "The models could not be compared: &lt;out of memory&gt;" in page
