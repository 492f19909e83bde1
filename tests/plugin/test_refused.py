"""A run that cannot judge ends with 4, and one sentence with a code in all reports.

Reports of an earlier run are gone.
"""

import json
import re
from fnmatch import fnmatch

import hostile
import pytest
from outcomes import OLD_REPORTS, leave_old_reports
from zoo import ARGUMENTS, CLASSES, ROWS

from harness.base.codes import code_in
from harness.networks.architectures import FashionCNN
from harness.networks.checkpoints import Record, save_checkpoint
from harness.run.status import REPORTS

pytestmark = pytest.mark.usefixtures("unchecked")
ROW = {"stress_tests/checks.toml": lambda text: text.replace(b"0.85 }", b"1.2 }")}
OTHER_DATA = {
    "stress_tests/checks.toml": lambda text: re.sub(
        rb'sha256 = "\w+"', b'sha256 = "%s"' % (b"0" * 64), text
    )
}
REFUSED = {
    "option": (("--no-such-option",), {}, "USAGE", "unrecognized arguments: --no-such-option"),
    "type": (
        ("--stress-samples", "x"),
        {},
        "USAGE",
        "argument --stress-samples: invalid int value: 'x'",
    ),
    "choice": (("--stress-profile", "slow"), {}, "USAGE", "*invalid choice: 'slow'"),
    "setting": (
        ("--stress-set", "timeout=-1"),
        {},
        "USAGE",
        "timeout -1: expected a number of at least 0",
    ),
    "no-text": (
        ("--candidate", ""),
        {},
        "USAGE",
        "--candidate '': expected a text that is not empty",
    ),
    "workers": (("-n", "-1"), {}, "USAGE", "-n -1: expected a number of workers from 0"),
    "none": (("--candidate", "none"), {}, "USAGE", "--candidate none: the gate needs a candidate"),
    "ray-xdist": (
        ("--stress-backend", "ray", "-n", "2"),
        {},
        "USAGE",
        "divides the work itself; leave out -n",
    ),
    "ray-budget": (
        ("--stress-backend=ray", "--stress-budget", "20m"),
        {},
        "USAGE",
        "on this machine alone",
    ),
    "budget": (("--stress-budget", "20"), {}, "USAGE", "--stress-budget 20: expected a time"),
    "no-samples": (("--stress-samples", "0"), {}, "USAGE", "sample of 0 images"),
    "samples": (("--stress-samples", "401"), {}, "USAGE", "sample of 401 images does not fit 400"),
    "device": (("--stress-device", "abacus"), {}, "USAGE", "'abacus' cannot be used"),
    "candidate": (
        ("--candidate", "no.safetensors"),
        {},
        "NOT_REGULAR",
        "no.safetensors: cannot be opened",
    ),
    "baseline": (("--baseline", "none.pth"), {}, "NOT_REGULAR", "none.pth: cannot be opened"),
    "incumbent": (
        ("--incumbent", "none.pth", "-n", "2"),
        {},
        "NOT_REGULAR",
        "none.pth: cannot be opened",
    ),
    "archive": (("--candidate", "zoo.npz"), {}, "ZIP_LAYOUT", "zoo.npz"),
    "truncated": (
        (),
        {"models/augmented.safetensors": lambda text: text[:-10]},
        "FORMAT",
        "Nothing was executed.",
    ),
    "classes": (
        ("--candidate", "three.safetensors"),
        {},
        "MODEL",
        "has 3 classes, the data have 4 classes",
    ),
    "builder": (
        ("--candidate=m.pth", "--stress-set=model=nowhere:model"),
        {},
        "USER_CODE",
        "nowhere:model",
    ),
    "no-checks": (("--checks", "none.toml"), {}, "CHECKS", "none.toml: cannot be read"),
    "row": ((), ROW, "CHECKS", "check 1 ('clean'): threshold 1.2 is outside"),
    "garbled": (
        (),
        {"stress_tests/checks.toml": lambda text: b"\xff\xfe" + text},
        "CONFIGURATION",
        "checks.toml",
    ),
    "cut": ((), {"stress_tests/checks.toml": lambda text: text[:-20]}, "CHECKS", "checks.toml"),
    "no-data": (("--stress-set", "data=npz:none.npz"), {}, "DATA", "none.npz: cannot be read"),
    "unknown-data": (
        ("--stress-set", "data=cifar"),
        {},
        "DATA",
        "unknown data; expected fashion-mnist",
    ),
    "damaged-data": ((), {"zoo.npz": lambda text: text[:-100]}, "DATA", "zoo.npz"),
    "other-data": ((), OTHER_DATA, "CHECKS", "made for other data"),
    "url": (
        ("--stress-set", "data=webdataset:memory://none.tar"),
        {},
        "DATA",
        "none.tar: cannot be read (no such",
    ),
    "conftest": ((), {"conftest.py": "raise ValueError('mine')"}, "PYTEST", "mine"),
    "configure": (
        (),
        {
            "conftest.py": "import pytest\ndef pytest_configure(config):\n"
            "    raise pytest.UsageError('mine')"
        },
        "USAGE",
        "mine",
    ),
    "no-file": (
        ("stress_tests/test_none.py",),
        {},
        "USAGE",
        "file or directory not found: stress_tests/test_none.py",
    ),
}
"""Arguments, files, the code of the reason, and what it says."""


@pytest.fixture(scope="module")
def refusing(shared):
    arguments = {**ARGUMENTS, "classes": 3}
    place = shared.root / "three.safetensors"
    save_checkpoint(place, FashionCNN(**arguments), Record("fashion-cnn", arguments, CLASSES))
    return shared


def expect_refusal(folder, said):
    assert sorted(path.name for path in folder.iterdir()) == sorted(REPORTS)
    report = json.loads((folder / "stress.json").read_text())
    assert (report["verdict"], len(report["errors"]), report["checks"]) == ("error", 1, [])
    assert said in report["errors"][0]
    for name in ("stress.html", "stress.md"):
        assert "inconclusive" in (folder / name).read_text()


@pytest.mark.parametrize(("arguments", "files", "code", "said"), REFUSED.values(), ids=REFUSED)
def test_a_refusal(refusing, arguments, files, code, said):
    old = {f"reports/{name}": text for name, text in OLD_REPORTS.items()}
    ran = refusing.once(*arguments, files={**files, **old})
    assert ran.ending == (4, "error")
    assert ran.files == sorted(REPORTS)
    assert ran.report["checks"] == []
    (reason,) = ran.report["errors"]
    assert ran.report["error_codes"] == [code_in(reason)] == [code]
    assert fnmatch(reason, f"*{said.replace('[', '[[]')}*")
    for text in (ran.page, ran.summary):
        assert f"[{code}]" in text
        assert "earlier run" not in text
    assert "Traceback" not in ran.said or "conftest.py" in files
    assert "exit status 4: inconclusive; this run says nothing" in ran.said or code in {
        "USAGE",
        "PYTEST",
    }
    assert "bringing up nodes" not in ran.said


def test_a_hostile_checkpoint_is_refused_and_runs_nothing(zoo):
    path = hostile.make_one("runs-os-system", zoo.root)
    ran = zoo.run("--candidate", path.name)
    assert ran.ret == 4
    ran.stderr.fnmatch_lines([f"*REFUSED?PICKLE_GLOBAL? {path.name}: *Nothing was executed.*"])
    assert list((zoo.root / "canaries").iterdir()) == []
    assert zoo.report()["candidate"]["architecture"] == "", "it is not opened"


def test_data_and_checkpoint_must_be_named_where_none_are_shipped(zoo):
    (zoo.root / "models/augmented.safetensors").unlink()
    ran = zoo.pytester.runpytest_inprocess("stress_tests")
    assert ran.ret == 4
    ran.stderr.fnmatch_lines(["*checks.toml: made for the data 'zoo'; name them by data = *"])
    ran = zoo.run()
    assert ran.ret == 4
    ran.stderr.fnmatch_lines(
        ["*models/augmented.safetensors: there is no such file*name the checkpoint*"]
    )


@pytest.mark.parametrize("more", [(), ("--no-such-option",)], ids=["no-data", "no-option"])
def test_what_opens_a_url_stands_in_no_report_and_no_message(shared, more):
    ran = shared.once(
        "--stress-set", "data=webdataset:memory://me:hunter2@none.tar?signature=hunter2", *more
    )
    said = "--no-such-option" if more else "memory://me:…@none.tar?…: cannot be read"
    assert said in ran.why
    texts = [ran.page, ran.summary, json.dumps(ran.report, ensure_ascii=False)]
    assert any("memory://me:…@none.tar?…" in text for text in texts)
    assert "hunter2" not in "".join((*texts, ran.said))


# Folders of reports, and calls that judge nothing.


@pytest.mark.parametrize(
    ("arguments", "addopts"),
    [
        (("stress_tests", "--stress-reports", "out"), ""),
        (("stress_tests", "--stress-reports", "elsewhere", "--stress-reports=out"), ""),
        ((".", "--stress-reports=out"), ""),
        (("--stress-reports=out",), ""),
        (
            (
                "--rootdir",
                ".",
                "stress_tests/test_clean.py::test_none_such",
                "--stress-reports",
                "out",
            ),
            "",
        ),
        (("stress_tests",), "--stress-reports out"),
    ],
    ids=["folder", "twice", "parent", "no-place", "a-test", "environment"],
)
def test_a_wrong_option_however_the_gate_is_named(zoo, monkeypatch, arguments, addopts):
    monkeypatch.setenv("PYTEST_ADDOPTS", addopts)
    leave_old_reports(zoo.root / "out")
    assert zoo.pytester.runpytest_inprocess(*arguments, "--no-such-option").ret == 4
    expect_refusal(zoo.root / "out", "--no-such-option")


@pytest.mark.parametrize(
    "arguments", [("tests",), ("--rootdir", ".", "tests")], ids=["other", "root"]
)
def test_a_wrong_option_of_other_tests_leaves_the_reports_alone(zoo, arguments):
    (zoo.root / "tests").mkdir()
    leave_old_reports(zoo.root / "reports")
    assert zoo.pytester.runpytest_inprocess(*arguments, "--no-such-option").ret == 4
    assert (zoo.root / "reports/stress.json").read_text() == OLD_REPORTS["stress.json"]


LISTINGS = (
    *(
        "--help",
        "--markers",
        "--fixtures",
        "--fixtures-per-test",
        "--cache-show",
        "--collect-only",
        "--stress-plan",
    ),
)


@pytest.mark.parametrize(
    ("more", "status"),
    [
        *(((option,), 0) for option in LISTINGS),
        (("--co", "--no-such"), 4),
        (("--co", "--checks=none"), 4),
        (("--stress-plan", "--candidate", "none.pth"), 4),
        (("--stress-plan", "-k", "nothing"), 4),
    ],
)
def test_a_call_that_judges_nothing_touches_no_report(zoo, more, status):
    (zoo.root / "pytest.ini").write_text("[pytest]\n")  # With its cache.
    leave_old_reports(zoo.root / "reports")
    assert zoo.run(*more).ret == status
    assert {path.name: path.read_text() for path in (zoo.root / "reports").iterdir()} == OLD_REPORTS


MINE = "import pytest\n@pytest.mark.mine\ndef test_other():\n    assert {}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("stress_tests/test_other.py",),
        ("-k", "test_other", "."),
        ("-m", "mine", "stress_tests"),
        (
            "--deselect",
            "stress_tests/test_clean.py",
            "--deselect",
            "stress_tests/test_rotation.py",
            "-k",
            "other",
        ),
        ("--lf", "stress_tests"),
    ],
    ids=["a-file", "k", "m", "deselect", "last-failed"],
)
def test_a_plain_test_of_the_gate_is_no_verdict(zoo, arguments):
    """The folder has a checks file, so its run ends with 0 for a verdict alone."""
    zoo.root.joinpath("pytest.ini").write_text("[pytest]\nmarkers = mine\n")
    other, run = zoo.tests / "test_other.py", zoo.pytester.runpytest_inprocess
    more = ("--stress-set", "data=npz:zoo.npz", "-p", "no:html")
    if "--lf" in arguments:
        other.write_text(MINE.format("1 == 2"))
        assert run("stress_tests/test_other.py", *more).ret == 1
    other.write_text(MINE.format("True"))
    leave_old_reports(zoo.root / "reports")
    assert run(*arguments, *more).ret == 4
    assert zoo.report()["verdict"] == "error"
    assert "inconclusive" in (zoo.root / "reports/stress.html").read_text()


def test_reports_that_a_file_of_options_names(zoo):
    (zoo.root / "more").write_text("--stress-reports=out\n")
    assert zoo.run("@more").ret == 0
    assert zoo.report("out")["verdict"] == "pass"
    assert not (zoo.root / "reports").exists()


def test_a_folder_that_cannot_be_written_ends_with_4_at_once(zoo):
    (zoo.root / "reports").write_text("in the way")
    run = zoo.run()
    assert run.ret == 4
    assert f"reports cannot be written to {zoo.root / 'reports'}: " in run.stderr.str()
    assert "--stress-reports" in run.stderr.str()


def test_a_junit_file_that_cannot_be_written_is_4(shared):
    ran = shared.once("--junit-xml", "zoo.npz/junit.xml", rows=ROWS)
    assert ran.ending == (4, "error")
    assert "zoo.npz" in ran.why
    assert "Traceback" not in ran.said
