"""The gate as its users run it, in one process: exit statuses, files and messages.

Outcomes of runs, given the reports of their tests, are in run/test_reported.py; runs with workers in test_workers.py.
"""

import json
import re
import shutil
import time
from fnmatch import fnmatch

import cv2  # noqa: F401  Compiled modules must be there before `pytester` takes its snapshot of modules,
import hostile
import numpy as np
import pytest
import scipy.stats  # noqa: F401  since it drops what a run inside this process imports, and they load only once.
import torch
from zoo import ARGUMENTS, CLASSES, ROWS, STRESS_TESTS, drawn_again, network

from harness.base.codes import code_in
from harness.data import load_fashion_mnist
from harness.networks import training
from harness.networks.architectures import FashionCNN
from harness.networks.checkpoints import Record, save_checkpoint
from harness.networks.training import TrainingConfig

BASELINE = """
[[check]]
id = "baseline"
family = "baseline"
metric = "accuracy"
role = "baseline"
hand = { threshold = 0.9 }
"""


def test_healthy_model_passes_and_leaves_three_reports(zoo):
    result = zoo.run(page=True)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*model quality gate*", "*PASS: 4 of 4 checks pass"])
    record = zoo.report()
    assert (record["verdict"], record["profile"], record["schema"], record["protocol"]) == ("pass", "default", 2, 1)
    assert [check["id"] for check in record["checks"]] == ["clean", "clean-bee", "rotate-ccw-010", "confident-errors"]
    assert {check["status"] for check in record["checks"]} == {"pass"}
    assert record["data"]["n"] == 400
    assert record["baseline"] is None
    html = (zoo.root / "reports/stress.html").read_text()
    assert "PASS: 4 of 4 checks pass" in html
    assert 'id="rotate-ccw-010"' in html
    assert "http://" not in html.split("<body>")[0]
    assert "PASS" in (zoo.root / "reports/stress.md").read_text()


def test_worse_model_fails_by_name(zoo):
    zoo.save("worse.safetensors", blind=True)
    result = zoo.run("--candidate", "worse.safetensors", page=True)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["*FAIL: 0 of 4 checks pass; worse: *clean*", "*clean: accuracy 0.2500 < threshold 0.8500 (n=400, 95% CI*"]
    )
    assert "RoleModel(" not in result.stdout.str()
    assert zoo.report()["verdict"] == "fail"
    assert set(zoo.statuses.values()) == {"fail"}
    html = (zoo.root / "reports/stress.html").read_text()
    assert "data:image/webp;base64," in html
    assert "Failing behaviors" in html


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        pytest.param(
            ["--candidate", "none.safetensors"],
            "NOT_REGULAR",
            "*REFUSED?NOT_REGULAR?*none.safetensors*",
            id="no-candidate",
        ),
        pytest.param(["--candidate", "zoo.npz"], "ZIP_LAYOUT", "*REFUSED?*zoo.npz*", id="not-a-checkpoint"),
        pytest.param(["--baseline", "none.pth"], "NOT_REGULAR", "*REFUSED?NOT_REGULAR?*none.pth*", id="no-baseline"),
        pytest.param(["--incumbent", "none.pth"], "NOT_REGULAR", "*REFUSED?NOT_REGULAR?*none.pth*", id="no-incumbent"),
        pytest.param(["--checks", "none.toml"], "CHECKS", "*none.toml: cannot be read*", id="no-checks"),
        pytest.param(["--stress-set", "data=npz:none.npz"], "DATA", "*none.npz: cannot be read*", id="no-data"),
        pytest.param(
            ["--stress-set", "data=cifar"], "DATA", "*unknown data; expected fashion-mnist*", id="unknown-data"
        ),
        pytest.param(["--stress-samples", "0"], "USAGE", "*sample of 0 images*", id="no-samples"),
        pytest.param(
            ["--stress-samples", "401"], "USAGE", "*sample of 401 images does not fit 400*", id="too-many-samples"
        ),
        pytest.param(["--stress-device", "abacus"], "USAGE", "*'abacus' cannot be used*", id="unknown-device"),
        pytest.param(["--stress-profile", "slow"], "USAGE", "*invalid choice: 'slow'*", id="unknown-profile"),
        pytest.param(
            ["--stress-set", "model=nowhere:model", "--candidate", "m.pth"],
            "USER_CODE",
            "*nowhere:model*",
            id="no-builder",
        ),
    ],
)
def test_bad_input_ends_with_4_and_its_code(zoo, arguments, code, message):
    (zoo.root / "reports").mkdir()
    (zoo.root / "reports/stress.json").write_text('{"verdict": "pass"}')
    result = zoo.run(*arguments)
    assert result.ret == 4
    result.stderr.fnmatch_lines([message])
    report = zoo.report()
    assert (report["verdict"], report["checks"]) == ("error", [])
    (reason,) = report["errors"]
    assert report["error_codes"] == [code_in(reason)] == [code]
    for place in (result.stderr.str(), *(path.read_text() for path in (zoo.root / "reports").glob("stress.[hm]*"))):
        assert f"[{code}]" in place
    found_by_pytest = arguments[0] == "--stress-profile"  # It prints text of its own.
    assert fnmatch(reason if found_by_pytest else f"ERROR: {reason}", message)


def test_truncated_checkpoint_is_refused_with_4(zoo):
    whole = zoo.save("cut.safetensors").read_bytes()
    (zoo.root / "cut.safetensors").write_bytes(whole[:-10])
    result = zoo.run("--candidate", "cut.safetensors")
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        [
            "*REFUSED?FORMAT? cut.safetensors: *Nothing was executed.*",
            "exit status 4: inconclusive; this run says nothing about the candidate",
            "report: reports/stress.html",
        ]
    )


MANY = "".join(
    f'[[check]]\nid = "clean-{at:03}"\nfamily = "clean"\nmetric = "accuracy"\nhand = {{ threshold = 0.9 }}\n\n'
    for at in range(103)
)


@pytest.mark.parametrize("quiet", [(), ("-q",), ("--tb=long",)], ids=["default", "quiet", "tracebacks"])
def test_103_failures_print_at_most_40_lines(zoo, quiet):
    zoo.save("worse.safetensors", blind=True)
    zoo.bind(MANY)
    result = zoo.run("--candidate", "worse.safetensors", *quiet)
    assert result.ret == 1
    lines = result.outlines
    end = max(at for at, line in enumerate(lines) if line.startswith("tests are done") or "100%]" in line)
    assert len(lines[end + 1 :]) <= 40
    result.stdout.fnmatch_lines(["*FAIL: 0 of 103 checks pass; worse: clean*", "*and 93 more checks do not pass*"])
    if not quiet:
        result.stdout.fnmatch_lines(["*= 103 failed*"])


def test_all_failures_are_printed_with_v(zoo):
    zoo.save("worse.safetensors", blind=True)
    result = zoo.run("--candidate", "worse.safetensors", "-v")
    for name in ("clean", "clean-bee", "rotate-ccw-010", "confident-errors"):
        result.stdout.fnmatch_lines([f"{name}: *n=*", "*"])


def test_the_first_error_of_many_keeps_its_traceback(zoo):
    (zoo.tests / "test_clean.py").write_text(
        "from harness.plugin import check\n\n"
        '@check("clean")\ndef test_clean(candidate, images, stress_check, evidence):\n'
        '    raise RuntimeError("my own mistake")\n\n'
        '@check("class")\ndef test_class(candidate, images, stress_check, evidence):\n'
        '    raise RuntimeError("my own mistake")\n'
    )
    result = zoo.run()
    assert result.ret == 4
    assert sum(line.startswith("E   ") for line in result.outlines) == 1
    said = "*[[]TEST[]] clean, clean-bee: error: RuntimeError: my own mistake"
    result.stdout.fnmatch_lines(["exit status 4: inconclusive*", said])
    result.stdout.no_fnmatch_line("*self-check self-checks*")
    assert {check["code"] for check in zoo.report()["checks"] if check["status"] == "error"} == {"TEST"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        pytest.param(
            ROWS.replace("0.85 }", "1.2 }"), "*check 1 ('clean'): threshold 1.2 is outside*", id="impossible-threshold"
        ),
        pytest.param(ROWS + "[budget]\nclean = 0\n", "*checks.toml: budget: clean is 0, expected*", id="budget"),
        pytest.param(
            ROWS.replace('"at_most"', '"at_least"'),
            "*check 4 ('confident-errors'): for confident_errors, less is better; write direction = \"at_most\"*",
            id="direction",
        ),
    ],
)
def test_bad_checks_file_ends_with_4(zoo, rows, message):
    zoo.bind(rows)
    result = zoo.run()
    assert result.ret == 4
    result.stderr.fnmatch_lines([message])


@pytest.mark.parametrize(
    ("name", "code"), [("runs-os-system", "PICKLE_GLOBAL"), ("place-fifo", "NOT_REGULAR"), ("zip-bomb", "ZIP_LAYOUT")]
)
def test_hostile_checkpoint_is_refused_with_4(zoo, name, code):
    path = hostile.make_one(name, zoo.root)
    result = zoo.run("--candidate", path.name)
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*REFUSED?{code}? {path.name}: *Nothing was executed.*"])
    assert sorted(file.name for file in (zoo.root / "canaries").iterdir()) == []


def test_checks_of_other_data_end_with_4(zoo):
    zoo.bind(ROWS, sha256="0" * 64)
    result = zoo.run()
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*made for other data*"])


def test_the_data_of_the_checks_must_be_named_before_training(zoo):
    (zoo.root / "models/augmented.safetensors").unlink()
    result = zoo.pytester.runpytest_inprocess("stress_tests")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*checks.toml: made for the data 'zoo'; name them by data = *"])


def test_a_checkpoint_must_be_named_where_no_shipped_model_is_for_the_data(zoo):
    (zoo.root / "models/augmented.safetensors").unlink()
    result = zoo.run()
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*models/augmented.safetensors: there is no such file*name the checkpoint*"])


def test_model_of_other_classes_ends_with_4(zoo):
    arguments = {**ARGUMENTS, "classes": 3}
    save_checkpoint(zoo.root / "three.safetensors", FashionCNN(**arguments), Record("fashion-cnn", arguments, CLASSES))
    result = zoo.run("--candidate", "three.safetensors")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*candidate three.safetensors*has 3 classes*4 classes*"])


# Models that cannot be judged.

MOODY = """
import time

import torch

from harness.networks.architectures import FashionCNN

class Moody(FashionCNN):
    def __init__(self, mood):
        super().__init__(conv_channels=[1], fc_sizes=[], image_size=[16, 16], classes=4, mean=0.0, std=1.0)
        self.mood = mood

    def forward(self, pixels):
        logits = super().forward(pixels)
        interpolated = (pixels * 255 - (pixels * 255).round()).abs().max() > 0.01
        if interpolated or self.mood == "hangs from the start":
            if self.mood == "raises":
                raise RuntimeError("I will not look at turned images")
            if self.mood == "shape":
                return logits[:, :1]
            if self.mood.startswith("hangs"):
                time.sleep(600)
            logits = logits * float("nan")
        return logits

class Counting(Moody):
    def __init__(self):
        super().__init__("changes its mind")
        self.register_buffer("calls", torch.zeros(()), persistent=False)

    def forward(self, pixels):
        self.calls += 1
        return FashionCNN.forward(self, pixels) * torch.cos(self.calls)
"""


@pytest.fixture
def moody(zoo):
    """The options that check a model of this mood."""
    zoo.pytester.makepyfile(moody=MOODY)
    torch.save(network().state_dict(), zoo.root / "moody.pth")
    zoo.pytester.syspathinsert()
    return lambda mood: (
        *("--stress-set", "model=moody:Moody", "--stress-set", f"model_args.mood={mood}", "--candidate", "moody.pth"),
        "--stress-no-cache",
    )


@pytest.mark.parametrize("mood", ["raises", "nan", "shape"])
def test_model_that_fails_under_a_pose_is_not_called_worse(zoo, moody, mood):
    result = zoo.run(*moody(mood))
    assert result.ret == 4
    assert zoo.report()["verdict"] == "error"
    others = {"clean": "pass", "clean-bee": "pass", "confident-errors": "pass"}
    assert zoo.statuses == {**others, "rotate-ccw-010": "error"}


@pytest.mark.parametrize(
    ("workers", "seconds"),
    [
        pytest.param((), 3, id="serial"),
        # A worker loads much before it runs a model, and the time limit counts that.
        pytest.param(("-n", "2"), 12, id="n2", marks=pytest.mark.faults),
    ],
)
def test_a_model_that_hangs_under_a_pose_ends_the_run_inconclusive(zoo, moody, workers, seconds):
    start = time.monotonic()
    result = zoo.run(*moody("hangs"), "--stress-set", f"timeout={seconds}", *workers)
    assert time.monotonic() - start < 300
    assert result.ret == 4
    assert zoo.report()["verdict"] == "error"
    assert zoo.statuses["rotate-ccw-010"] == "error"
    result.stdout.fnmatch_lines([f"*rotate-ccw-010*: no answer within {seconds} s; a model that hangs*"])


def test_model_that_hangs_from_the_start_is_refused_with_4(zoo, moody):
    start = time.monotonic()
    result = zoo.run(*moody("hangs from the start"), "--stress-set", "timeout=1")
    assert time.monotonic() - start < 300
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*loading the models: no answer within 1 s; a model that hangs*"])


@pytest.mark.faults
def test_process_of_a_model_that_hangs_ends(zoo, moody):
    start = time.monotonic()
    arguments = ("--stress-set", f"data={zoo.data}", "stress_tests", *moody("hangs"), "--stress-set", "timeout=12")
    assert zoo.pytester.runpytest_subprocess(*arguments).ret == 4
    assert time.monotonic() - start < 300


def test_model_that_changes_its_mind_is_not_called_worse(zoo, moody):
    result = zoo.run("--stress-set", "model=moody:Counting", "--candidate", "moody.pth")
    assert result.ret == 4
    assert zoo.report()["verdict"] == "error"
    result.stdout.fnmatch_lines(["*self-check model-equals-itself: *state between calls*"])


@pytest.mark.parametrize("seconds", ["-1", "nan", "1e300"])
def test_impossible_time_limit_ends_with_4(zoo, seconds):
    result = zoo.run("--stress-set", f"timeout={seconds}")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*timeout *: expected a number*"])


def test_failing_baseline_is_not_the_candidates_fault(zoo):
    shutil.copy(STRESS_TESTS / "test_baseline.py", zoo.tests)
    zoo.bind(ROWS + BASELINE)
    zoo.save("plain.safetensors", blind=True)
    result = zoo.run("--baseline", "plain.safetensors")
    assert result.ret == 4
    assert zoo.report()["verdict"] == "error"
    result.stdout.fnmatch_lines(["*the baseline fails its own check*"])


# Runs that cover less.


@pytest.mark.parametrize(
    ("arguments", "omission"),
    [
        pytest.param(["-k", "clean"], "2 of 4 checks did not run: rotate-ccw-010, confident-errors; no test *", id="k"),
        pytest.param(["--stress-samples", "80"], "80 of 400 images were measured", id="samples"),
        pytest.param(
            ["--deselect", "stress_tests/test_rotation.py"],
            "1 of 4 checks did not run: rotate-ccw-010; no test ran of family rotation",
            id="deselect",
        ),
    ],
)
def test_run_that_covers_less_is_partial(zoo, arguments, omission):
    result = zoo.run(*arguments)
    assert result.ret == 0
    assert zoo.report()["verdict"] == "partial"
    result.stdout.fnmatch_lines(["*PARTIAL: *", f"*{omission}"])


def test_stopping_at_the_first_failure_is_partial_and_still_1(zoo):
    zoo.save("worse.safetensors", blind=True)
    result = zoo.run("--candidate", "worse.safetensors", "-x")
    assert result.ret == 1
    assert zoo.statuses == {"clean": "fail"}
    assert zoo.report()["verdict"] == "partial"
    assert zoo.report()["omissions"][0].startswith("3 of 4 checks did not run: clean-bee, ")


def test_sampled_run_still_catches_a_bad_model(zoo):
    zoo.save("worse.safetensors", blind=True)
    result = zoo.run("--candidate", "worse.safetensors", "--stress-samples", "40")
    assert result.ret == 1
    assert zoo.report()["verdict"] == "partial"


@pytest.mark.parametrize("mark", ["skip", "xfail"])
def test_gate_that_is_skipped_or_may_fail_leaves_a_partial_verdict(zoo, mark):
    path = zoo.tests / "test_rotation.py"
    marked = path.read_text().replace("@check(", f'@pytest.mark.{mark}(reason="known")\n@check(')
    path.write_text("import pytest\n" + marked.replace("assert verdict.passed", "assert not verdict.passed"))
    assert zoo.run().ret == 0
    said = "1 of 4 checks did not run: rotate-ccw-010; no test ran of family rotation"
    assert (zoo.report()["verdict"], zoo.report()["omissions"]) == ("partial", [said])


@pytest.mark.parametrize("mark", ["skip", "xfail"])
def test_an_old_verdict_does_not_stay_where_every_check_is_skipped(zoo, mark):
    (zoo.root / "reports").mkdir()
    (zoo.root / "reports/stress.json").write_text('{"verdict": "pass"}')
    (zoo.tests / "conftest.py").write_text(
        "import pytest\n\ndef pytest_collection_modifyitems(items):\n"
        f"    for item in items:\n        item.add_marker(pytest.mark.{mark}(reason='later'))\n"
    )
    zoo.save("worse.safetensors", blind=True)
    assert zoo.run("--candidate", "worse.safetensors").ret == 4
    assert (zoo.report()["verdict"], zoo.report()["errors"]) == ("error", [])
    assert zoo.report()["omissions"][0].startswith("4 of 4 checks did not run: clean, clean-bee, ")


def test_gate_that_was_expected_to_fail_and_holds_is_an_error(zoo):
    path = zoo.tests / "test_rotation.py"
    path.write_text("import pytest\n" + path.read_text().replace("@check(", "@pytest.mark.xfail(strict=True)\n@check("))
    result = zoo.run()
    assert result.ret == 4
    result.stdout.fnmatch_lines(["*rotate-ccw-010: error: *XPASS(strict)*"])


# Tests of the user's own.

TURNED = """
import pytest
from harness.measures import accuracy
from harness.perturb import Pose
from harness.plugin import check

@pytest.mark.parametrize("degrees", [180, 0])
@check("turned")
def test_turned(candidate, images, evidence, stress_check, degrees):
    verdict = stress_check.judge(accuracy(candidate.predict(images, Pose(degrees))))
    evidence.show(verdict)
    assert verdict.passed, verdict.explain()
"""


def test_row_that_two_tests_judge_is_an_error(zoo):
    (zoo.tests / "test_own.py").write_text(TURNED)
    result = zoo.run()
    assert result.ret == 4
    result.stdout.fnmatch_lines(["*turned: two tests have a verdict of this name, *test_* and *test_*; name a metric*"])


def test_new_stress_test_without_a_row_is_reported_informational(zoo):
    new = (STRESS_TESTS / "test_rotation.py").read_text().replace('check("rotation")', 'check("brightness")')
    (zoo.tests / "test_brightness.py").write_text(new)
    result = zoo.run("-rs")
    assert result.ret == 0
    result.assert_outcomes(passed=4, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED * brightness: accuracy 0.* (informational: no threshold yet, *"])
    (check,) = (check for check in zoo.report()["checks"] if check["id"] == "brightness")
    assert (check["status"], check["value"]) == ("informational", zoo.report()["checks"][0]["value"])


def test_a_family_that_makes_no_id_is_an_error_of_collection(zoo):
    new = (STRESS_TESTS / "test_rotation.py").read_text().replace('check("rotation")', 'check("größer")')
    (zoo.tests / "test_larger.py").write_text(new)
    result = zoo.run()
    assert result.ret == 4
    result.stdout.fnmatch_lines(["*test_accuracy_survives_rotation: its family 'größer' gives its row the id *"])


JUDGES_NOTHING = """
from harness.plugin import check

@check("rotation")
def test_nothing(candidate, stress_check):
    pass
"""


def test_a_test_that_judges_nothing_is_an_error(zoo):
    (zoo.tests / "test_rotation.py").write_text(JUDGES_NOTHING)
    result = zoo.run()
    assert result.ret == 4
    result.stdout.fnmatch_lines(["*rotate-ccw-010: error: the test judged nothing; end it with `stress_check.judge`*"])


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        pytest.param("import nowhere\n", 4, "*test_own.py: cannot be collected*", id="import-error"),
        pytest.param(
            "def test_own():\n    raise OSError('lost')\n", 4, "*test_own.py::test_own: OSError: lost*", id="raises"
        ),
        pytest.param("def test_own():\n    assert 1 == 2\n", 1, "*failed: *test_own.py::test_own*", id="asserts"),
    ],
)
def test_users_own_tests_count(zoo, body, status, message):
    (zoo.tests / "test_own.py").write_text(body)
    result = zoo.run()
    assert result.ret == status
    result.stdout.fnmatch_lines([message])


# Keys and metrics of the user's own.

DIMMED = """
from dataclasses import dataclass

from harness.checks import Key, Share
from harness.measures import accuracy
from harness.plugin import check

@dataclass(frozen=True)
class Dimmed:
    share: float

    def __call__(self, images):
        return images * (1 - self.share)

STRENGTH = Key("strength", Share, "{:.0%} of the light taken away")


@check("dim", STRENGTH)
def test_dim(candidate, images, evidence, stress_check):
    predictions = candidate.predict(images, Dimmed(stress_check[STRENGTH]))
    verdict = stress_check.judge(accuracy(predictions))
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()
"""
DIM = '\n[[check]]\nid = "dim-030"\nfamily = "dim"\nmetric = "accuracy"\nhand = { threshold = 0.2 }\n'


def test_a_rows_own_key_reaches_its_test_and_its_words_the_report(zoo):
    (zoo.tests / "test_dim.py").write_text(DIMMED)
    zoo.bind(f"{ROWS}{DIM.replace('0.2', '0.99')}strength = 0.3\n")
    assert zoo.run(page=True).ret == 1
    assert zoo.statuses["dim-030"] == "fail"
    assert "30% of the light taken away" in (zoo.root / "reports/stress.html").read_text()


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ('strength = "much"', "strength is 'much', expected a number"),
        ("strength = 1.5", "strength is 1.5, expected a number of at most 1"),
        ("strenght = 0.3", "unknown key 'strenght'; known are *, and those that the test declares: strength"),
    ],
    ids=["type", "range", "undeclared"],
)
def test_a_key_that_differs_from_its_declaration_ends_with_4(zoo, key, message):
    (zoo.tests / "test_dim.py").write_text(DIMMED)
    zoo.bind(f"{ROWS}{DIM}{key}\n")
    result = zoo.run()
    assert result.ret == 4
    result.stdout.fnmatch_lines([f"*cannot be collected: {zoo.checks}: check 'dim-030' of test_dim: {message}"])
    assert "Traceback" not in result.stdout.str()


def test_a_test_that_declares_what_every_row_has_ends_with_4(zoo):
    (zoo.tests / "test_dim.py").write_text(DIMMED.replace('Key("strength"', 'Key("share"'))
    result = zoo.run()
    assert result.ret == 4
    result.stdout.fnmatch_lines(
        ["*test_dim.py: cannot be collected: test_dim declares a key 'share', but every check*"]
    )


MARGIN = """
from harness.measures import Measurement, Metric, Unit
from harness.plugin import check

DOUBT = Metric("doubt", Unit.SHARE, better="less", words="mean doubt")

def doubt(predictions):
    value = float(1 - predictions.confidence.mean())
    return Measurement(DOUBT, value, len(predictions.labels), (value, value))

@check("doubt")
def test_doubt_stays_low(candidate, images, evidence, stress_check):
    verdict = stress_check.judge(doubt(candidate.predict(images, stress_check.pose)))
    evidence.show(verdict)
    assert verdict.passed, verdict.explain()
"""


@pytest.mark.parametrize(
    ("row", "status", "message"),
    [
        ("hand = { threshold = 0.9 }", 0, "*PASS: 5 of 5 checks pass"),
        ("hand = { threshold = 0.0 }", 1, "*doubt: doubt 0.* > threshold 0.0000 *"),
        (
            'direction = "at_least"\nhand = { threshold = 0.1 }',
            4,
            '*check doubt: for doubt, less is better; write direction = "at_most", or leave it out*',
        ),
        ("hand = { threshold = 1.5 }", 4, "*check doubt: threshold 1.5 is outside the range of doubt, 0.0 to 1.0*"),
    ],
    ids=["holds", "fails", "contradicts", "out-of-range"],
)
def test_a_metric_of_ones_own_of_which_less_is_better(zoo, row, status, message):
    (zoo.tests / "test_doubt.py").write_text(MARGIN)
    zoo.bind(f'{ROWS}\n[[check]]\nid = "doubt"\nfamily = "doubt"\nmetric = "doubt"\n{row}\n')
    result = zoo.run()
    assert result.ret == status
    result.stdout.fnmatch_lines([message])


# Around the run.


def test_default_gate_is_found_through_a_link(zoo):
    zoo.tests.rename(zoo.root / "elsewhere")
    zoo.tests.symlink_to("elsewhere")
    assert zoo.run("-k", "clean").ret == 0
    assert set(zoo.statuses) == {"clean", "clean-bee"}


def test_interrupt_keeps_pytests_status_even_after_an_error(zoo):
    body = "def test_broken():\n    raise OSError\n\ndef test_own():\n    raise KeyboardInterrupt\n"
    (zoo.tests / "test_a.py").write_text(body)
    result = zoo.run(no_reraise_ctrlc=True)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert zoo.report()["verdict"] == "error"
    assert "the run was interrupted, and did not check itself" in zoo.report()["omissions"]


def test_junit_carries_each_measurement(zoo):
    assert zoo.run("-k", "clean", "--junit-xml", "junit.xml").ret == 0
    xml = (zoo.root / "junit.xml").read_text()
    assert re.search('<property name="value" value="0.9[0-9]*" />', xml)
    assert '<property name="threshold" value="0.85" />' in xml


def test_a_run_without_pictures_has_a_short_page(zoo):
    result = zoo.run("-p", "no:html")
    assert result.ret == 0
    assert zoo.report()["verdict"] == "pass"
    page = (zoo.root / "reports/stress.html").read_text()
    assert "This run made no pictures" in page
    assert drawn_again(zoo.root / "reports") == []
    assert not (zoo.root / "reports/stress").exists()
    assert f'data-run="{zoo.report()["run"]}" data-verdict="pass"' in page


@pytest.fixture
def quick_training(monkeypatch, tmp_path):
    """Shipped models of one epoch on a few images, trained into a cache of this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    arguments = {"conv_channels": [4], "fc_sizes": []}
    config = TrainingConfig(epochs=1, validation_size=100, arguments=arguments, precision="float32")
    monkeypatch.setattr(training, "SHIPPED", {"baseline": config, "augmented": config})
    few = load_fashion_mnist("test").take(torch.arange(400))
    monkeypatch.setattr(training, "load_fashion_mnist", lambda _: few)
    return tmp_path / "cache/stress-harness/trained"


def test_missing_shipped_models_are_trained_visibly_and_once(pytester, quick_training, capfd):
    shutil.copytree(STRESS_TESTS, pytester.path / "stress_tests")
    (pytester.path / "models").mkdir(exist_ok=True)
    shutil.copy(STRESS_TESTS.parent / "models/panel.predictions.npz", pytester.path / "models")
    arguments = ("stress_tests", "-k", "test_clean_accuracy", "--stress-samples", "50")
    status = pytester.runpytest_inprocess(*arguments).ret
    assert status in (0, 1)
    assert "The shipped augmented model is missing: training it into" in capfd.readouterr().err
    files = sorted(path.name.split("-")[0] for path in quick_training.glob("*.safetensors"))
    assert files == ["augmented", "baseline"]
    record = json.loads((pytester.path / "reports/stress.json").read_text())
    assert record["candidate"]["path"].startswith(str(quick_training))
    pytester.runpytest_inprocess(*arguments)
    assert "training" not in capfd.readouterr().err


def test_missing_checkpoint_named_by_the_user_is_not_trained(pytester, quick_training):
    shutil.copytree(STRESS_TESTS, pytester.path / "stress_tests")
    (pytester.path / "models").mkdir(exist_ok=True)
    for name in ("panel.json", "panel.predictions.npz"):
        shutil.copy(STRESS_TESTS.parent / "models" / name, pytester.path / "models")
    result = pytester.runpytest_inprocess("stress_tests", "--candidate", "models/augmented.safetensors")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*REFUSED?NOT_REGULAR?*"])
    assert not quick_training.exists() or not list(quick_training.glob("augmented*.safetensors"))


def test_names_in_the_data_write_no_lines_and_no_colours_of_their_own(zoo):
    arrays = dict(np.load(zoo.root / "zoo.npz"))
    arrays["classes"] = np.array(["ant`<img src=x>", "bee\n::error file=a::b", "cat\x1b[31m", "doe|\u202e"])
    np.savez(zoo.root / "zoo.npz", **arrays)
    zoo.checks.write_text(zoo.checks.read_text().replace('"bee"', r'"bee\n::error file=a::b"'))
    zoo.save("worse.safetensors", blind=True)
    result = zoo.run("--candidate", "worse.safetensors")
    assert result.ret == 1
    markdown = (zoo.root / "reports/stress.md").read_text()
    for written in (result.stdout.str(), markdown):
        assert "bee" in written
        assert "\x1b[31m" not in written
        assert "\u202e" not in written
        assert not re.search(r"^::error", written, re.MULTILINE)
    assert "<img" not in markdown
