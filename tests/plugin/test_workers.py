"""Runs that must cross processes: one for each way in which a run with workers ends.

Three interpreters each take their time, so one run serves for all that such a run shows.
"""

import html
import re
import signal

import pytest
from test_registry import DUSK, OWN, USED
from zoo import ROWS, SEARCH, STRESS_TESTS, details_in, drawn_again, without_id

WORKERS, WORKER = ("-n", "2"), ("-n", "1")
GAIN = (
    '\n[[check]]\nid = "gain"\nfamily = "gain"\nmetric = "accuracy_gain"\n'
    "hand = { threshold = 0.1 }\n"
)
SKEWED = """
[[check]]
id = "skewed"
family = "skew"
metric = "served_predictions_changed"
skew = "divide-256"
"""
PAIRED = ("corruption-confidence-rise", "corruption-mean-corruption-error")
"""Measured by the test of corruptions where a row asks for it or there is a baseline."""


def skipped_in(path) -> dict[str, str]:
    """Return the reasons of the rows that JUnit's file has as skipped."""
    cases = re.findall(
        r'<testcase [^>]*name="[^"]*\[(.*?)\]"[^>]*>(.*?)</testcase>', path.read_text(), re.DOTALL
    )
    found = {row: re.search(r'<skipped [^>]*message="([^"]*)"', inside) for row, inside in cases}
    return {row: reason[1] for row, reason in sorted(found.items()) if reason}


def added():
    """Return what a project may add.

    A corruption, metrics, a family without a row, a sample for one family.
    """
    new = (
        (STRESS_TESTS / "test_rotation.py")
        .read_text()
        .replace('check("rotation")', 'check("brightness")')
    )
    tests = {"test_brightness.py": new, "conftest.py": DUSK, "test_torn.py": USED}
    tests |= {
        f"test_{name}.py": (STRESS_TESTS / f"test_{name}.py").read_text()
        for name in ("gain_over_baseline", "corruption")
    }
    rows = "\n[data.samples]\nrotation = 100\n" + ROWS + GAIN + OWN + SKEWED
    return {"rows": rows, "files": {f"stress_tests/{name}": text for name, text in tests.items()}}


@pytest.mark.processes
def test_a_healthy_model_passes_as_it_does_serially(shared):
    what = added()
    serial = shared.once("--baseline=none", "--junit-xml", "serial.xml", overview=True, **what)
    reports = ("--stress-reports", "others", "--stress-set", "history=others/history.jsonl")
    parallel = shared.once(
        "--baseline=none",
        "--junit-xml",
        "parallel.xml",
        *reports,
        *WORKERS,
        folder="others",
        **what,
    )
    assert serial.ending == parallel.ending == (0, "pass")
    assert len(parallel.history) == 1, "the controller alone leaves a line"
    parallel.stdout.fnmatch_lines(["*model quality gate*", "*PASS: 6 of 6 checks pass"])
    assert without_id(parallel.report) == without_id(serial.report)
    passing = ["clean", "clean-bee", "rotate-ccw-010", "confident-errors", "corrupt-dusk-3", "torn"]
    assert serial.statuses == {
        **dict.fromkeys(passing, "pass"),
        **dict.fromkeys(("gain", *PAIRED), "not_applicable"),
        **dict.fromkeys(("brightness", "skewed"), "informational"),
    }
    found = parallel.checks
    assert [found[name]["n"] for name in passing[:4]] == [400, 100, 100, 400]
    assert [found[name]["direction"] for name in passing[4:]] == ["at_least", "at_most"]
    assert len(parallel.report["self_checks"]) == len(parallel.self_checks) > 5
    assert parallel.report["overview"] is not None
    for said in ("PASS: 6 of 6 checks pass", 'id="rotate-ccw-010"'):
        assert said in parallel.page
    junit_says_the_same(shared.root / "serial.xml", shared.root / "parallel.xml")


def junit_says_the_same(*paths):
    told = [
        sorted(
            re.findall(
                r'<property name="(?:value|threshold|status)" value="[^"]*" />', path.read_text()
            )
        )
        for path in paths
    ]
    assert told[0] == told[1]
    for path in paths:
        reasons = skipped_in(path)
        assert list(reasons) == ["brightness", *PAIRED, "gain", "skewed"]
        assert reasons["brightness"].startswith("brightness: accuracy 0.9"), (
            "the measurement is in the reason"
        )
        assert "(informational: no threshold yet, " in reasons["brightness"]
        assert "there is no baseline" in reasons["gain"]
    assert '<property name="threshold" value="0.85" />' in told[1]


def test_a_worse_model_and_a_test_that_asserts_end_with_1_as_serially(shared):
    shared.save("noisy.safetensors", jitter=4.0)
    search = (STRESS_TESTS / "test_breaking_pose.py").read_text()
    files = {"stress_tests/test_breaking_pose.py": search}
    files["stress_tests/test_own.py"] = "def test_own():\n    assert 1 == 2\n"
    options = ("--candidate", "noisy.safetensors", "--baseline", "models/augmented.safetensors")
    what = {"rows": ROWS + SEARCH, "files": files}
    own = ("--html", "own.html", "--self-contained-html", *WORKERS)
    serial = shared.once(*options, page=True, **what)
    parallel = shared.once(*options, *own, figures=True, **what)
    assert drawn_again(shared.root / "reports") == []
    for ran in (serial, parallel):
        assert ran.ending == (1, "fail")
        ran.stdout.fnmatch_lines(
            [
                "*FAIL: 4 of 4 checks and 1 other test fail; worse: *clean images*",
                "*clean: accuracy 0.* < threshold 0.8500 (n=400, 95% CI*",
            ]
        )
        ran.stdout.fnmatch_lines(["*failed: *test_own.py::test_own*"])
    assert {serial.statuses["break-shift-median"], *serial.statuses.values()} == {
        "fail",
        "informational",
    }
    assert without_id(parallel.report) == without_id(serial.report)
    models = serial.report["overview"]["models"]
    assert [model["name"] for model in models] == ["candidate", "baseline"]
    assert all(model["corners"] and model["calibration_error"] for model in models)
    assert 'id="report-comparison"' in serial.page
    assert serial.page.count('<figure class="figure') >= 5
    assert "not be drawn" not in parallel.page
    shown = [details_in(ran.page) for ran in (serial, parallel)]
    assert shown[0] == shown[1]
    assert "".join(shown[0].values()).count('<figure class="picture"') >= 3
    report = html.unescape((shared.root / "own.html").read_text()).replace('\\"', '"')
    assert report.count('<figure class="picture"') >= 3, "pytest-html's own report has the pictures"
    assert report.count("data:image/webp") >= 9
    assert [each["name"] for each in parallel.report["tests"]] == [
        "stress_tests/test_own.py::test_own"
    ]


@pytest.mark.processes
def test_a_run_that_covers_less_is_partial(shared):
    # Families with thresholds by hand stay whole.
    rows = ROWS.replace("hand = { threshold = 0.5 }\n", "")
    ran = shared.once(
        "-k", "not bee", "--stress-budget", "0.001s", "--stress-no-cache", *WORKER, rows=rows
    )
    assert ran.ending == (0, "partial")
    ran.stdout.fnmatch_lines(
        [
            "stress: 4 checks on 400 images of zoo: 1,200 image-poses, without *; about * on * GB "
            "of memory*",
            "stress: samples are chosen that fit into 0.001 s, if need be",
            "*PARTIAL: *",
        ]
    )
    for said in (
        "1 of 4 checks did not run: clean-bee; families without a test: single classes",
        "rotated images (25%)",
    ):
        assert said in ran.why
    sizes = {check["family"]: check["n"] for check in ran.report["checks"]}
    assert sizes == {"clean": 400, "rotation": 100, "confidence": 400}


WRONG = {
    "stress_tests/test_own.py": "def test_own():\n    raise OSError('lost')\n",
    "stress_tests/test_other.py": "import nowhere\n",
}


@pytest.mark.processes
def test_tests_that_raise_measure_nan_or_cannot_be_collected_end_with_4(shared):
    """A row with an unknown key can be collected as little."""

    def measures_nan(text):
        judged = re.sub(rb"judge\((.*)\)", rb"judge(replace(\1, value=float('nan')))", text)
        return b"from dataclasses import replace\n" + judged

    files = {**WRONG, "stress_tests/test_confident_errors.py": measures_nan}
    ran = shared.once(
        *WORKER, files=files, rows=ROWS.replace("degrees = 10 }", "degrees = 10 }\nflor = 1")
    )
    assert ran.ending == (4, "error")
    for said in (
        "test_own.py::test_own: OSError: lost",
        "test_other.py: cannot be collected",
        "check confident-errors: the test measured 'confident_errors' as NaN",
        "check 'rotate-ccw-010' of test_accuracy_survives_rotation: unknown key 'flor'",
    ):
        assert said in ran.why
    assert ran.statuses == {"clean": "pass", "clean-bee": "pass", "confident-errors": "error"}


KILL = f"os.kill(os.getpid(), {int(signal.SIGKILL)})"
KILLED = {
    "a-test": {"stress_tests/test_own.py": f"import os\n\ndef test_own():\n    {KILL}\n"},
    "after-its-last": {
        "stress_tests/conftest.py": (
            "import os, pytest\n\n@pytest.hookimpl(tryfirst=True)\ndef "
            "pytest_sessionfinish(session):\n    if getattr(session.config, 'workerinput', "
            "{}).get('workerid') == 'gw0':\n        "
            f"{KILL}\n"
        )
    },
}
"""The latter as the kernel kills the process that takes the most memory, when the worker checks
itself.
"""


@pytest.mark.processes
@pytest.mark.parametrize("files", KILLED.values(), ids=KILLED)
def test_a_worker_that_is_killed_is_an_error_not_a_failure(shared, files):
    ran = shared.once(*WORKERS, "-p", "no:html", files=files)
    assert ran.ending == (4, "error")
    assert "crashed" in ran.why or "worker gw0 died: " in ran.why


@pytest.mark.processes
def test_a_worker_that_refuses_to_work_writes_no_reports(shared):
    code = (
        "import pytest\n\ndef pytest_sessionstart(session):\n"
        "    if hasattr(session.config, 'workerinput'):\n"
        "        raise pytest.UsageError('mine')\n"
    )
    ran = shared.once(*WORKERS, "-p", "no:html", files={"stress_tests/conftest.py": code})
    assert ran.ending == (4, "error")
    assert "the run that started this one writes there" not in ran.said
