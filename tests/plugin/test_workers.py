"""Runs that must cross processes: one for each way in which a run with workers ends."""

import json
import re
import shutil
import signal

import pytest
from zoo import ROWS, STRESS_TESTS, GatedZoo

WORKERS = ("-n", "2")
WITHOUT_PAGE = (*WORKERS, "-p", "no:html")
"""Where the page is not looked at, which takes a while to draw."""
HISTORY = ("--stress-history", "others/h.jsonl")
GAIN = '\n[[check]]\nid = "gain"\nfamily = "gain"\nmetric = "accuracy_gain"\nhand = { threshold = 0.1 }\n'


@pytest.fixture
def zoo(pytester):
    return GatedZoo(pytester)


def skipped_in(path) -> dict[str, str]:
    """Return the reasons of the rows that JUnit's file has as skipped."""
    cases = re.findall(r'<testcase [^>]*name="[^"]*\[(.*?)\]"[^>]*>(.*?)</testcase>', path.read_text(), re.DOTALL)
    found = {row: re.search(r'<skipped [^>]*message="([^"]*)"', inside) for row, inside in cases}
    return {row: reason[1] for row, reason in sorted(found.items()) if reason}


def test_a_healthy_model_passes_as_it_does_serially(zoo):
    """Together with a check that is not applicable, one without a row, and what JUnit is told."""
    new = (STRESS_TESTS / "test_rotation.py").read_text().replace('gate("rotation")', 'gate("brightness")')
    (zoo.tests / "test_brightness.py").write_text(new)
    shutil.copy(STRESS_TESTS / "test_gain_over_baseline.py", zoo.tests)
    zoo.bind(ROWS + GAIN)
    options = ("--baseline", "none")
    serial = zoo.run(*options, "--junit-xml", "serial.xml")
    parallel = zoo.run(*options, "--junit-xml", "parallel.xml", "--stress-reports", "others", *WORKERS, *HISTORY)
    assert (serial.ret, parallel.ret) == (0, 0)
    assert (zoo.root / "others/h.jsonl").read_text().count("\n") == 1, "the controller alone leaves a line"
    parallel.stdout.fnmatch_lines(["*model quality gate*", "*PASS: 4 of 4 checks pass"])
    one, other = zoo.report(), zoo.report("others")
    assert other == one
    statuses = dict.fromkeys(["clean", "clean-bee", "rotate-ccw-010", "confident-errors"], "pass")
    assert zoo.statuses == {**statuses, "gain": "not_applicable", "brightness": "informational"}
    assert len(other["self_checks"]) == len({check["name"] for check in other["self_checks"]}) > 5
    assert other["overview"] is not None
    page = (zoo.root / "others/stress.html").read_text()
    assert "PASS: 4 of 4 checks pass" in page
    assert 'id="rotate-ccw-010"' in page
    assert "PASS" in (zoo.root / "others/stress.md").read_text()
    told = [
        sorted(
            re.findall(r'<property name="(?:value|threshold|status)" value="[^"]*" />', (zoo.root / name).read_text())
        )
        for name in ("serial.xml", "parallel.xml")
    ]
    assert told[0] == told[1]
    for name in ("serial.xml", "parallel.xml"):
        reasons = skipped_in(zoo.root / name)
        assert list(reasons) == ["brightness", "gain"]
        assert reasons["brightness"].startswith("brightness: accuracy 0.9"), "the measurement is in the reason"
        assert "(informational: no threshold yet, " in reasons["brightness"]
        assert "there is no baseline" in reasons["gain"]
    assert '<property name="threshold" value="0.85" />' in told[1]


def test_a_worse_model_and_a_test_that_asserts_end_with_1(zoo):
    zoo.save("worse.safetensors", blind=True)
    (zoo.tests / "test_own.py").write_text("def test_own():\n    assert 1 == 2\n")
    result = zoo.run("--candidate", "worse.safetensors", *WORKERS)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["*FAIL: 0 of 4 checks pass; worse: *clean*", "*clean: accuracy 0.2500 < threshold 0.8500 (n=400, 95% CI*"]
    )
    result.stdout.fnmatch_lines(["*test_own.py::test_own: failed*"])
    assert set(zoo.statuses.values()) == {"fail"}
    assert "data:image/webp;base64," in (zoo.root / "reports/stress.html").read_text()


def test_a_run_that_covers_less_is_partial(zoo):
    result = zoo.run("-k", "clean", *WITHOUT_PAGE)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*PARTIAL: *"])
    said = "2 of 4 checks did not run: rotate-ccw-010, confident-errors; no test ran of family rotation, confidence"
    assert (zoo.report()["verdict"], zoo.report()["omissions"]) == ("partial", [said])


JUDGES_NAN = """
from dataclasses import replace
from harness.measures import accuracy
from harness.plugin import check

@check("rotation")
def test_nothing(candidate, images, evidence, stress_check):
    evidence.show(stress_check.judge(replace(accuracy(candidate.predict(images)), value=float("nan"))))
"""


def test_tests_that_raise_or_measure_nan_end_with_4(zoo):
    (zoo.tests / "test_rotation.py").write_text(JUDGES_NAN)
    (zoo.tests / "test_own.py").write_text("def test_own():\n    raise OSError('lost')\n")
    result = zoo.run(*WITHOUT_PAGE)
    assert result.ret == 4
    result.stdout.fnmatch_lines(["*test_own.py::test_own: OSError: lost*"])
    result.stdout.fnmatch_lines(["*gate rotate-ccw-010: the test measured 'accuracy' as NaN*"])
    assert zoo.report()["verdict"] == "error"
    assert zoo.statuses["rotate-ccw-010"] == "error"


def test_tests_that_cannot_be_collected_end_with_4(zoo):
    (zoo.tests / "test_own.py").write_text("import nowhere\n")
    zoo.bind(ROWS.replace("confidence = 0.9", "confidence = 0.9\nflor = 1"))
    result = zoo.run(*WITHOUT_PAGE)
    assert result.ret == 4
    result.stdout.fnmatch_lines(["*test_own.py: cannot be collected*"])
    where = "checks.toml: check 'confident-errors' of test_confident_errors_stay_rare"
    result.stdout.fnmatch_lines([f"*cannot be collected: *{where}: unknown key 'flor'*declares: confidence"])
    assert zoo.report()["verdict"] == "error"


def test_bad_input_is_refused_with_4_before_a_worker_starts(zoo):
    result = zoo.run("--candidate", "none.safetensors", *WORKERS)
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*REFUSED?NOT_REGULAR?*none.safetensors*"])
    assert "workers" not in result.stdout.str()
    assert zoo.report()["verdict"] == "error"


def test_a_killed_worker_is_an_error_not_a_failure(zoo):
    (zoo.tests / "test_own.py").write_text(
        f"import os, signal\n\ndef test_own():\n    os.kill(os.getpid(), {int(signal.SIGKILL)})\n"
    )
    assert zoo.run(*WITHOUT_PAGE).ret == 4
    assert zoo.report()["verdict"] == "error"


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
