"""A run that pytest ends before its tests leaves all three reports, whatever the reason, and none of an earlier run."""

import json

import pytest
from outcomes import OLD_REPORTS

NAMES = ("stress.html", "stress.json", "stress.md")


def leave_old_reports(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in OLD_REPORTS.items():
        (folder / name).write_text(text)


def expect_refusal(folder, said):
    assert sorted(path.name for path in folder.iterdir()) == sorted(NAMES)
    report = json.loads((folder / "stress.json").read_text())
    assert (report["verdict"], len(report["errors"])) == ("error", 1)
    assert said in report["errors"][0]
    for name in ("stress.html", "stress.md"):
        assert "inconclusive" in (folder / name).read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--no-such-option",), "unrecognized arguments: --no-such-option"),
        (("--stress-samples", "x"), "argument --stress-samples: invalid int value: 'x'"),
        (("--stress-profile=nope",), "argument --stress-profile: invalid choice: 'nope'"),
        (("--stress-set", "size=axb"), "size axb: expected a number of pixels"),
        (("--stress-set", "timeout=-1"), "timeout -1: expected a number of at least 0"),
        (("--candidate", ""), "--candidate '': expected a text that is not empty"),
        (("--stress-reports", ""), "--stress-reports '': expected a text that is not empty"),
        (("--checks=",), "--checks '': expected a text that is not empty"),
        (("-n", "-1"), "-n -1: expected a number of workers from 0"),
        (("--candidate", "none"), "--candidate none: the gate needs a candidate"),
        (("--stress-backend", "ray", "-n", "2"), "divides the work itself; leave out -n"),
        (("--stress-backend", "ray", "--stress-budget", "20m"), "what a run costs is measured on this machine alone"),
        (("--stress-set", "data=webdataset:memory://none.tar"), "memory://none.tar: cannot be read (no such file)"),
    ],
    ids=[
        *("unknown", "type", "choice", "size", "timeout", "no-text", "no-reports", "no-checks", "workers"),
        *("candidate", "ray-xdist", "ray-budget", "url"),
    ],
)
def test_a_wrong_option(zoo, arguments, said):
    leave_old_reports(zoo.root / "reports")
    assert zoo.run(*arguments).ret == 4
    expect_refusal(zoo.root / "reports", said)


@pytest.mark.parametrize("more", [(), ("--no-such-option",)], ids=["no-data", "no-option"])
def test_what_opens_a_url_stands_in_no_report_and_no_message(zoo, more):
    ran = zoo.run("--stress-set", "data=webdataset:memory://me:hunter2@none.tar?signature=hunter2", *more)
    said = "--no-such-option" if more else "memory://me:…@none.tar?…: cannot be read"
    expect_refusal(zoo.root / "reports", said)
    texts = [(zoo.root / "reports" / name).read_text() for name in NAMES]
    assert any("memory://me:…@none.tar?…" in text for text in texts)
    assert "hunter2" not in "".join((*texts, *ran.outlines, *ran.errlines))


@pytest.mark.parametrize(
    "arguments",
    [
        ("stress_tests", "--stress-reports", "out"),
        ("stress_tests", "--stress-reports", "elsewhere", "--stress-reports=out"),
        (".", "--stress-reports=out"),
        ("--stress-reports=out",),
        ("--rootdir", ".", "stress_tests/test_clean.py::test_none_such", "--stress-reports", "out"),
    ],
    ids=["folder", "twice", "parent", "no-place", "a-test"],
)
def test_a_wrong_option_however_the_gate_is_named(zoo, pytester, arguments):
    leave_old_reports(zoo.root / "out")
    assert pytester.runpytest_inprocess(*arguments, "--no-such-option").ret == 4
    expect_refusal(zoo.root / "out", "--no-such-option")


def test_the_folder_that_the_environment_names(zoo, pytester, monkeypatch):
    monkeypatch.setenv("PYTEST_ADDOPTS", "--stress-reports 'a folder'")
    assert pytester.runpytest_inprocess("stress_tests", "--no-such-option").ret == 4
    expect_refusal(zoo.root / "a folder", "--no-such-option")


@pytest.mark.parametrize("arguments", [("tests",), ("--rootdir", ".", "tests")], ids=["other", "root"])
def test_a_wrong_option_of_other_tests_leaves_the_reports_alone(zoo, pytester, arguments):
    (zoo.root / "tests").mkdir()
    leave_old_reports(zoo.root / "reports")
    assert pytester.runpytest_inprocess(*arguments, "--no-such-option").ret == 4
    assert (zoo.root / "reports/stress.json").read_text() == OLD_REPORTS["stress.json"]


LISTINGS = (
    *("--help", "--markers", "--fixtures", "--fixtures-per-test", "--cache-show", "--collect-only", "--stress-plan"),
)


@pytest.mark.parametrize(
    "more", [*((option,) for option in LISTINGS), ("--co", "--no-such"), ("--co", "--checks=none")]
)
def test_a_call_that_judges_nothing_touches_no_report(zoo, more):
    (zoo.root / "pytest.ini").write_text("[pytest]\n")  # With its cache.
    leave_old_reports(zoo.root / "reports")
    assert zoo.run(*more).ret == (0 if len(more) == 1 else 4)
    assert {path.name: path.read_text() for path in (zoo.root / "reports").iterdir()} == OLD_REPORTS


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("raise ValueError('mine')", 4),
        ("import pytest\ndef pytest_configure(config):\n    raise pytest.UsageError('mine')", 4),
    ],
    ids=["import", "configure"],
)
def test_a_conftest_that_refuses(zoo, code, status):
    (zoo.root / "conftest.py").write_text(code)
    leave_old_reports(zoo.root / "reports")
    assert zoo.run().ret == status
    expect_refusal(zoo.root / "reports", "mine")


def test_a_test_file_that_there_is_not(zoo, pytester):
    leave_old_reports(zoo.root / "reports")
    ran = pytester.runpytest_inprocess("stress_tests/test_none.py", "--stress-set", "data=npz:zoo.npz", "-p", "no:html")
    assert ran.ret == 4
    report = zoo.report()
    assert (report["verdict"], report["errors"]) == (
        "error",
        ["[USAGE] file or directory not found: stress_tests/test_none.py"],
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("stress_tests/test_other.py",),
        ("-k", "test_other", "stress_tests"),
        ("-m", "mine", "stress_tests"),
        ("-k", "test_other", "."),
        ("--deselect", "stress_tests/test_clean.py", "--deselect", "stress_tests/test_rotation.py", "-k", "other"),
        ("--lf", "stress_tests"),
    ],
    ids=["a-file", "k", "m", "k-parent", "deselect", "last-failed"],
)
def test_a_plain_test_of_the_gate_is_no_verdict(zoo, pytester, arguments):
    """The folder has a checks file, so its run ends with 0 for a verdict alone."""
    zoo.root.joinpath("pytest.ini").write_text("[pytest]\nmarkers = mine\n")
    other = zoo.tests / "test_other.py"
    more = ("--stress-set", "data=npz:zoo.npz", "-p", "no:html")
    if "--lf" in arguments:
        other.write_text("def test_other():\n    assert False\n")
        assert pytester.runpytest_inprocess("stress_tests/test_other.py", *more).ret == 1
    other.write_text("import pytest\n@pytest.mark.mine\ndef test_other():\n    pass\n")
    leave_old_reports(zoo.root / "reports")
    assert pytester.runpytest_inprocess(*arguments, *more).ret == 4
    assert zoo.report()["verdict"] == "error"
    assert "inconclusive" in (zoo.root / "reports/stress.html").read_text()


def test_reports_that_a_file_of_options_names(zoo):
    """The typed line does not say so: the folder of the default has a refusal, the other the outcome."""
    (zoo.root / "more").write_text("--stress-reports=out\n")
    assert zoo.run("@more").ret == 0
    assert zoo.report("out")["verdict"] == "pass"
    assert f"the reports of this run are in {zoo.root / 'out'}" in zoo.report()["errors"][0]
