"""Runs that must cross processes: one for each way in which a run with workers ends.

Three interpreters each take their time, so one run serves for all that such a run shows.
"""

import json
import re
import shutil
import signal

import pytest
from test_registry import DUSK, OWN, USED
from zoo import ROWS, SEARCH, STRESS_TESTS, details_in, drawn_again, without_id

WORKERS = ("-n", "2")
WITHOUT_PAGE = (*WORKERS, "-p", "no:html")
"""Where the page is not looked at, which takes a while to draw."""
HISTORY = ("--stress-set", "history=others/h.jsonl")
GAIN = '\n[[check]]\nid = "gain"\nfamily = "gain"\nmetric = "accuracy_gain"\nhand = { threshold = 0.1 }\n'
PAIRED = ("corruption-confidence-rise", "corruption-mean-corruption-error")
"""Measured by the test of corruptions where a row asks for it or there is a baseline."""


def skipped_in(path) -> dict[str, str]:
    """Return the reasons of the rows that JUnit's file has as skipped."""
    cases = re.findall(r'<testcase [^>]*name="[^"]*\[(.*?)\]"[^>]*>(.*?)</testcase>', path.read_text(), re.DOTALL)
    found = {row: re.search(r'<skipped [^>]*message="([^"]*)"', inside) for row, inside in cases}
    return {row: reason[1] for row, reason in sorted(found.items()) if reason}


def added(zoo):
    """Give the zoo what a project may add: a corruption, metrics, a family without a row, a sample for one family."""
    new = (STRESS_TESTS / "test_rotation.py").read_text().replace('check("rotation")', 'check("brightness")')
    (zoo.tests / "test_brightness.py").write_text(new)
    for name in ("gain_over_baseline", "corruption"):
        shutil.copy(STRESS_TESTS / f"test_{name}.py", zoo.tests)
    (zoo.tests / "conftest.py").write_text(DUSK)
    (zoo.tests / "test_torn.py").write_text(USED)
    zoo.bind("\n[data.samples]\nrotation = 100\n" + ROWS + GAIN + OWN)


def test_a_healthy_model_passes_as_it_does_serially(zoo):
    added(zoo)
    options = ("--baseline", "none")
    serial = zoo.run(*options, "--junit-xml", "serial.xml", overview=True)
    parallel = zoo.run(*options, "--junit-xml", "parallel.xml", "--stress-reports", "others", *WORKERS, *HISTORY)
    assert (serial.ret, parallel.ret) == (0, 0)
    assert (zoo.root / "others/h.jsonl").read_text().count("\n") == 1, "the controller alone leaves a line"
    parallel.stdout.fnmatch_lines(["*model quality gate*", "*PASS: 6 of 6 checks pass"])
    one, other = zoo.report(), zoo.report("others")
    assert without_id(other) == without_id(one)
    passing = ["clean", "clean-bee", "rotate-ccw-010", "confident-errors", "corrupt-dusk-3", "torn"]
    assert zoo.statuses == {
        **dict.fromkeys(passing, "pass"),
        **dict.fromkeys(("gain", *PAIRED), "not_applicable"),
        "brightness": "informational",
    }
    found = {check["id"]: check for check in other["checks"]}
    assert [found[name]["n"] for name in passing[:4]] == [400, 100, 100, 400]
    assert [found[name]["direction"] for name in passing[4:]] == ["at_least", "at_most"]
    assert len(other["self_checks"]) == len({check["name"] for check in other["self_checks"]}) > 5
    assert other["overview"] is not None
    page = (zoo.root / "others/stress.html").read_text()
    assert "PASS: 6 of 6 checks pass" in page
    assert 'id="rotate-ccw-010"' in page
    assert "PASS" in (zoo.root / "others/stress.md").read_text()
    junit_says_the_same(zoo.root / "serial.xml", zoo.root / "parallel.xml")


def junit_says_the_same(*paths):
    told = [
        sorted(re.findall(r'<property name="(?:value|threshold|status)" value="[^"]*" />', path.read_text()))
        for path in paths
    ]
    assert told[0] == told[1]
    for path in paths:
        reasons = skipped_in(path)
        assert list(reasons) == ["brightness", *PAIRED, "gain"]
        assert reasons["brightness"].startswith("brightness: accuracy 0.9"), "the measurement is in the reason"
        assert "(informational: no threshold yet, " in reasons["brightness"]
        assert "there is no baseline" in reasons["gain"]
    assert '<property name="threshold" value="0.85" />' in told[1]


def test_a_worse_model_and_a_test_that_asserts_end_with_1_as_serially(zoo):
    shutil.copy(STRESS_TESTS / "test_breaking_pose.py", zoo.tests)
    zoo.bind(ROWS + SEARCH)
    zoo.save("noisy.safetensors", jitter=4.0)
    (zoo.tests / "test_own.py").write_text("def test_own():\n    assert 1 == 2\n")
    options = ("--candidate", "noisy.safetensors", "--baseline", "models/augmented.safetensors")
    serial = zoo.run(*options, page=True)
    parallel = zoo.run(*options, "--stress-reports", "others", *WORKERS)
    assert (serial.ret, parallel.ret) == (1, 1)
    for result in (serial, parallel):
        result.stdout.fnmatch_lines(
            ["*FAIL: 0 of 4 checks pass; worse: *clean*", "*clean: accuracy 0.* < threshold 0.8500 (n=400, 95% CI*"]
        )
        result.stdout.fnmatch_lines(["*failed: *test_own.py::test_own*"])
    assert {zoo.statuses.pop("break-shift-median"), *zoo.statuses.values()} == {"fail", "informational"}
    assert without_id(zoo.report("others")) == without_id(zoo.report())
    models = zoo.report()["overview"]["models"]
    assert [model["name"] for model in models] == ["candidate", "baseline"]
    assert all(model["corners"] and model["calibration_error"] for model in models)
    pages = [(zoo.root / folder / "stress.html").read_text() for folder in ("reports", "others")]
    assert 'id="report-comparison"' in pages[0]
    assert pages[0].count('<figure class="figure') >= 5
    shown = [details_in(page) for page in pages]
    assert shown[0] == shown[1]
    assert "".join(shown[0].values()).count('<figure class="picture"') >= 3
    assert [drawn_again(zoo.root / folder) for folder in ("reports", "others")] == [[], []]
    assert [each["name"] for each in zoo.report("others")["tests"]] == ["stress_tests/test_own.py::test_own"]


def test_a_run_that_covers_less_is_partial(zoo):
    result = zoo.run("-k", "not bee", "--stress-budget", "0.001s", "--stress-no-cache", *WITHOUT_PAGE)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "stress: 4 checks on 400 images of zoo: 1,200 image-poses, without *; about * on * GB of memory*",
            "stress: samples are chosen that fit into 0.001 s, if need be",
            "*PARTIAL: *",
        ]
    )
    assert zoo.report()["verdict"] == "partial"
    omissions = " ".join(zoo.report()["omissions"])
    assert "1 of 4 checks did not run: clean-bee; no test ran of family class" in omissions
    assert "to fit into the time given, some families" in omissions
    assert "rotation (25%)" in omissions
    sizes = {check["family"]: check["n"] for check in zoo.report()["checks"]}
    assert sizes == {"clean": 100, "rotation": 100, "confidence": 100}


def test_tests_that_raise_measure_nan_or_cannot_be_collected_end_with_4(zoo):
    path = zoo.tests / "test_confident_errors.py"
    judged = re.sub(
        r"stress_check\.judge\((.*)\)", r"stress_check.judge(replace(\1, value=float('nan')))", path.read_text()
    )
    path.write_text(f"from dataclasses import replace\n{judged}")
    (zoo.tests / "test_own.py").write_text("def test_own():\n    raise OSError('lost')\n")
    (zoo.tests / "test_other.py").write_text("import nowhere\n")
    result = zoo.run(*WITHOUT_PAGE)
    assert result.ret == 4
    result.stdout.fnmatch_lines(["*test_own.py::test_own: OSError: lost*"])
    result.stdout.fnmatch_lines(["*test_other.py: cannot be collected*"])
    result.stdout.fnmatch_lines(["*check confident-errors: the test measured 'confident_errors' as NaN*"])
    assert zoo.report()["verdict"] == "error"
    assert zoo.statuses == {
        "clean": "pass",
        "clean-bee": "pass",
        "rotate-ccw-010": "pass",
        "confident-errors": "error",
    }


@pytest.mark.processes
def test_a_test_whose_row_has_an_unknown_key_ends_with_4(zoo):
    zoo.bind(ROWS.replace("confidence = 0.9", "confidence = 0.9\nflor = 1"))
    result = zoo.run(*WITHOUT_PAGE)
    assert result.ret == 4
    where = "checks.toml: check 'confident-errors' of test_confident_errors_stay_rare"
    result.stdout.fnmatch_lines([f"*cannot be collected: *{where}: unknown key 'flor'*declares: confidence"])
    assert zoo.report()["verdict"] == "error"


def test_bad_input_is_refused_with_4_before_a_worker_starts(zoo):
    result = zoo.run("--candidate", "none.safetensors", *WORKERS)
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*REFUSED?NOT_REGULAR?*none.safetensors*"])
    assert "workers" not in result.stdout.str()
    assert zoo.report()["verdict"] == "error"


@pytest.mark.processes
def test_a_killed_worker_is_an_error_not_a_failure(zoo):
    (zoo.tests / "test_own.py").write_text(
        f"import os, signal\n\ndef test_own():\n    os.kill(os.getpid(), {int(signal.SIGKILL)})\n"
    )
    assert zoo.run(*WITHOUT_PAGE).ret == 4
    assert zoo.report()["verdict"] == "error"


@pytest.mark.processes
def test_a_worker_killed_after_its_last_test_is_an_error(zoo):
    """As the kernel kills the process that takes the most memory, when the worker checks itself."""
    (zoo.tests / "conftest.py").write_text(
        "import os, signal, pytest\n\n@pytest.hookimpl(tryfirst=True)\ndef pytest_sessionfinish(session):\n"
        "    if getattr(session.config, 'workerinput', {}).get('workerid') == 'gw0':\n"
        f"        os.kill(os.getpid(), {int(signal.SIGKILL)})\n"
    )
    result = zoo.run(*WITHOUT_PAGE)
    assert result.ret == 4
    assert json.loads((zoo.root / "reports/stress.json").read_text())["verdict"] == "error"
    result.stdout.fnmatch_lines(["*worker gw0 died: *"])
