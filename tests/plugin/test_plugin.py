"""The gate as its users run it, in one process: exit statuses, files and messages.

Refusals are in test_refused.py, the table of endings in test_endings.py, runs with workers in
test_workers.py.
"""

import re
import time

import numpy as np
import pytest
import torch
from zoo import ROWS, STRESS_TESTS, network

from harness.base.errors import InputError
from harness.data import load_fashion_mnist
from harness.networks import training
from harness.networks.training import TrainingConfig
from harness.run.opening import train_missing
from harness.run.request import RunRequest

BASELINE = """
[[check]]
id = "baseline"
family = "baseline"
metric = "accuracy"
role = "baseline"
hand = { threshold = 0.9 }
"""
CONFTEST = "stress_tests/conftest.py"
UNCHECKED = pytest.mark.usefixtures("unchecked")


@pytest.fixture(scope="module")
def gate(shared):
    shared.save("worse.safetensors", blind=True)
    return shared


def test_healthy_model_passes_and_leaves_three_reports(gate):
    ran = gate.once("--junit-xml", "junit.xml", page=True)
    assert ran.ending == (0, "pass")
    ran.stdout.fnmatch_lines(["*model quality gate*", "*PASS: 4 of 4 checks pass"])
    record = ran.report
    assert (record["profile"], record["schema"], record["protocol"], record["scope"]) == (
        "default",
        2,
        1,
        "",
    )
    assert list(ran.statuses) == ["clean", "clean-bee", "rotate-ccw-010", "confident-errors"]
    assert set(ran.statuses.values()) == {"pass"}
    assert (record["data"]["n"], record["baseline"]) == (400, None)
    for said in (
        "PASS: 4 of 4 checks pass",
        'id="rotate-ccw-010"',
        "augmented.safetensors is fit to ship",
    ):
        assert said in ran.page
    assert "http://" not in ran.page.split("<body>")[0]
    assert "PASS" in ran.summary
    xml = (gate.root / "junit.xml").read_text()
    assert re.search('<property name="value" value="0.9[0-9]*" />', xml)
    assert '<property name="threshold" value="0.85" />' in xml
    (line,) = ran.history
    assert (line.verdict, line.failing, line.judged, line.candidate) == (
        "pass",
        (),
        4,
        record["candidate"]["sha256"],
    )
    values = {name: check["value"] for name, check in ran.checks.items()}
    assert (line.clean, line.worst_pose, line.robust_accuracy) == (
        values["clean"],
        values["rotate-ccw-010"],
        None,
    )


def test_worse_model_fails_by_name(gate):
    ran = gate.once("--candidate", "worse.safetensors", "-v", page=True)
    assert ran.ending == (1, "fail")
    ran.stdout.fnmatch_lines(
        [
            "*FAIL: 4 of 4 checks fail; worse: *clean images*",
            "*clean: accuracy 0.2500 < threshold 0.8500 (n=400, 95% CI*",
        ]
    )
    assert "RoleModel(" not in ran.stdout.str()
    assert set(ran.statuses.values()) == {"fail"}
    for name in ran.statuses:
        ran.stdout.fnmatch_lines([f"{name}: *n=*", "*"])
    assert "data:image/webp;base64," in ran.page
    assert "Failing behaviors" in ran.page


@pytest.mark.parametrize(
    ("quiet", "told"), [((), True), (("-q",), False)], ids=["default", "quiet"]
)
def test_a_log_shows_progress_after_the_last_test(gate, monkeypatch, quiet, told):
    """Self-checks take minutes with a large model; here nothing is waited for."""
    monkeypatch.setattr("harness.plugin.progress._DELAY", 0.0)
    monkeypatch.setattr("harness.base.progress._FIRST_S", 0.0)
    ran = gate.once(*quiet)
    assert ran.ending == (0, "pass")
    assert ("self-checks:" in ran.stderr.str()) == told


MANY = "".join(
    f'[[check]]\nid = "clean-{at:03}"\nfamily = "clean"\nmetric = "accuracy"\n'
    f"hand = {{ threshold = 0.9 }}\n\n"
    for at in range(53)
)


@pytest.mark.parametrize("quiet", [(), ("-q", "--tb=long")], ids=["default", "quiet"])
@UNCHECKED
def test_53_failures_print_at_most_40_lines(gate, quiet):
    ran = gate.once("--candidate", "worse.safetensors", *quiet, rows=MANY)
    assert ran.ending == (1, "fail")
    lines = ran.stdout.lines
    end = max(
        at for at, line in enumerate(lines) if line.startswith("tests are done") or "100%]" in line
    )
    assert len(lines[end + 1 :]) <= 40
    ran.stdout.fnmatch_lines(
        ["*FAIL: 53 of 53 checks fail; worse: clean images*", "*and 43 more checks do not pass*"]
    )
    assert bool(quiet) or any("= 53 failed" in line for line in lines)


# Models that cannot be judged.

MOODY = """
import time

import torch

from harness.networks.architectures import FashionCNN

class Moody(FashionCNN):
    def __init__(self, mood):
        super().__init__(
            conv_channels=[1], fc_sizes=[], image_size=[16, 16], classes=4, mean=0.0, std=1.0
        )
        self.mood = mood
        self.register_buffer("calls", torch.zeros(()), persistent=False)

    def forward(self, pixels):
        logits = super().forward(pixels)
        interpolated = (pixels * 255 - (pixels * 255).round()).abs().max() > 0.01
        if self.mood == "changes":
            self.calls += 1
            return logits * torch.cos(self.calls)
        if interpolated or self.mood == "hangs from the start":
            if self.mood.startswith("hangs"):
                time.sleep(600)
            logits = logits * float("nan")
        return logits
"""


@pytest.fixture
def moody(gate, monkeypatch):
    """The options that check a model of this mood."""
    (gate.root / "moody.py").write_text(MOODY)
    torch.save(network().state_dict(), gate.root / "moody.pth")
    monkeypatch.syspath_prepend(gate.root)
    monkeypatch.setattr(
        "harness.run.steadiness.asked_elsewhere", lambda *_: []
    )  # See run/test_steadiness.py.
    return lambda mood: (
        *(
            "--stress-set",
            "model=moody:Moody",
            "--stress-set",
            f"model_args.mood={mood}",
            "--candidate",
            "moody.pth",
        ),
        "--stress-no-cache",
    )


@UNCHECKED
def test_model_that_fails_under_a_pose_is_not_called_worse(gate, moody):
    ran = gate.once(*moody("nan"))
    assert ran.ending == (4, "error")
    others = {"clean": "pass", "clean-bee": "pass", "confident-errors": "pass"}
    assert ran.statuses == {**others, "rotate-ccw-010": "error"}


@UNCHECKED
def test_a_model_that_hangs_under_a_pose_ends_the_run_inconclusive(gate, moody):
    start = time.monotonic()
    ran = gate.once(*moody("hangs"), "--stress-set", "timeout=2")
    assert time.monotonic() - start < 300
    assert ran.ending == (4, "error")
    assert ran.statuses["rotate-ccw-010"] == "error"
    ran.stdout.fnmatch_lines(["*rotate-ccw-010*: no answer within 2 s; a model that hangs*"])


def test_model_that_hangs_from_the_start_is_refused_with_4(gate, moody):
    start = time.monotonic()
    ran = gate.once(*moody("hangs from the start"), "--stress-set", "timeout=1")
    assert time.monotonic() - start < 300
    assert ran.ending == (4, "error")
    ran.stderr.fnmatch_lines(["*loading the models: no answer within 1 s; a model that hangs*"])


@pytest.mark.faults
def test_process_of_a_model_that_hangs_ends(gate, moody):
    start = time.monotonic()
    # A worker loads much before it runs a model, and the time limit counts that.
    arguments = (
        f"--stress-set=data={gate.data}",
        "stress_tests",
        *moody("hangs"),
        "--stress-set",
        "timeout=12",
        "-n1",
    )
    ran = gate.pytester.runpytest_subprocess(*arguments)
    assert ran.ret == 4
    ran.stdout.fnmatch_lines(["*: no answer within 12 s; a model that hangs*"])
    assert time.monotonic() - start < 300


def test_model_that_changes_its_mind_is_not_called_worse(gate, moody):
    ran = gate.once(*moody("changes"))
    assert ran.ending == (4, "error")
    ran.stdout.fnmatch_lines(["*self-check model-equals-itself: *state between calls*"])


@UNCHECKED
def test_failing_baseline_is_not_the_candidates_fault(gate):
    test = (STRESS_TESTS / "test_baseline.py").read_text()
    ran = gate.once(
        "--baseline",
        "worse.safetensors",
        rows=ROWS + BASELINE,
        files={"stress_tests/test_baseline.py": test},
    )
    assert ran.ending == (4, "error")
    ran.stdout.fnmatch_lines(["*the baseline fails its own check*"])


# Runs that cover less.


@UNCHECKED
def test_run_that_covers_less_is_partial(gate):
    ran = gate.once("-k", "clean", "--stress-samples", "80")
    assert ran.ending == (4, "partial")
    ran.stdout.fnmatch_lines(
        [
            "*PARTIAL: *",
            "*2 of 4 checks did not run: rotate-ccw-010, confident-errors; families without a "
            "test: *",
        ]
    )
    ran.stdout.fnmatch_lines(["*80 of 400 images were measured"])


@UNCHECKED
def test_stopping_at_the_first_failure_is_partial_and_still_1(gate):
    ran = gate.once("--candidate", "worse.safetensors", "-x", "--stress-samples", "40")
    assert ran.ending == (1, "partial")
    assert ran.statuses == {"clean": "fail"}
    assert ran.report["omissions"][0].startswith("3 of 4 checks did not run: clean-bee, ")


def marked(mark):
    line = f'import pytest\n@pytest.mark.{mark}(reason="known")\n@check('.encode()
    return lambda text: text.replace(b"@check(", line).replace(
        b"assert verdict.passed", b"assert not verdict.passed"
    )


@UNCHECKED
def test_checks_that_are_skipped_or_may_fail_leave_a_partial_verdict(gate):
    tests = {
        "stress_tests/test_rotation.py": marked("skip"),
        "stress_tests/test_confident_errors.py": marked("xfail"),
    }
    ran = gate.once(files=tests)
    assert ran.ending == (0, "partial")
    said = (
        "2 of 4 checks did not run: rotate-ccw-010, confident-errors; families without a test: "
        "rotated images, confidence and calibration"
    )
    assert ran.report["omissions"] == [said]


@UNCHECKED
def test_errors_of_tests_stay_in_the_refusal_of_a_run(gate):
    code = "def pytest_sessionfinish():\n    raise ValueError('mine')\n"
    broken = {"stress_tests/test_broken.py": "import absent_module\n", CONFTEST: code}
    ran = gate.once(files=broken)
    assert ran.ending == (4, "error")
    first, last = ran.report["errors"]
    assert "test_broken.py: cannot be collected" in first
    assert "ValueError: mine" in last


@UNCHECKED
def test_a_run_whose_checks_are_all_skipped_is_inconclusive(gate):
    code = (
        "import pytest\n\ndef pytest_collection_modifyitems(items):\n    for item in items:\n"
        "        item.add_marker(pytest.mark.skip(reason='later'))\n"
    )
    ran = gate.once("--candidate", "worse.safetensors", files={CONFTEST: code})
    assert ran.ending == (4, "error")
    assert ran.report["errors"] == []
    assert ran.report["omissions"][0].startswith("4 of 4 checks did not run: clean, clean-bee, ")


# Tests, keys and metrics of the user's own.

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
DOUBT = """
from harness.measures import Measurement, Metric, Unit
from harness.plugin import check

METRIC = Metric("doubt", Unit.SHARE, better="less", words="mean doubt")

@check("doubt")
def test_doubt_stays_low(candidate, images, evidence, stress_check):
    predictions = candidate.predict(images, stress_check.pose)
    value = float(1 - predictions.confidence.mean())
    measured = Measurement(METRIC, value, len(predictions.labels), (value, value))
    verdict = stress_check.judge(measured)
    evidence.show(verdict)
    assert verdict.passed, verdict.explain()
"""
DIM = (
    '\n[[check]]\nid = "dim-030"\nfamily = "dim"\nmetric = "accuracy"\n'
    "hand = { threshold = 0.99 }\n"
)
ROTATION = (STRESS_TESTS / "test_rotation.py").read_text()


def doubting(row, name="doubt"):
    return f'\n[[check]]\nid = "{name}"\nfamily = "doubt"\nmetric = "doubt"\n{row}\n'


def test_own_keys_metrics_and_tests_without_a_row_reach_the_reports(gate):
    tests = {
        "stress_tests/test_dim.py": DIMMED,
        "stress_tests/test_doubt.py": DOUBT,
        "stress_tests/test_brightness.py": ROTATION.replace(
            'check("rotation")', 'check("brightness")'
        ),
    }
    doubts = doubting("hand = { threshold = 0.9 }") + doubting(
        "hand = { threshold = 0.0 }", "no-doubt"
    )
    ran = gate.once("-rs", rows=f"{ROWS}{DIM}strength = 0.3\n{doubts}", files=tests, page=True)
    assert ran.ending == (1, "fail")
    assert (ran.statuses["dim-030"], ran.statuses["doubt"], ran.statuses["no-doubt"]) == (
        "fail",
        "pass",
        "fail",
    )
    assert "30% of the light taken away" in ran.page
    ran.stdout.fnmatch_lines(
        ["SKIPPED * brightness: accuracy 0.* (informational: no threshold yet, *"]
    )
    ran.stdout.fnmatch_lines(["*no-doubt: doubt 0.* > threshold 0.0000 *"])
    assert ran.statuses["brightness"] == "informational"
    assert ran.checks["brightness"]["value"] == ran.checks["clean"]["value"]


KEYS = {
    "a": ('strength = "much"', "strength is 'much', expected a number"),
    "b": ("strength = 1.5", "strength is 1.5, expected a number of at most 1"),
    "c": (
        "strenght = 0.3",
        "unknown key 'strenght'; known are *, and those that the test declares: strength",
    ),
}
OWN = """
import pytest
from harness.measures import accuracy
from harness.plugin import check

def test_own():
    raise OSError("lost")

@pytest.mark.parametrize("twice", [1, 2])
@check("turned")
def test_turned(candidate, images, evidence, stress_check, twice):
    evidence.show(stress_check.judge(accuracy(candidate.predict(images))))

@check("rotation")
@pytest.mark.xfail(strict=True)
def test_rotation(candidate, images, evidence, stress_check):
    evidence.show(stress_check.judge(accuracy(candidate.predict(images))))

@check("class")
def test_nothing(candidate, stress_check):
    pass

@check("clean")
def test_clean(candidate, images, evidence, stress_check):
    raise RuntimeError("my own mistake")
"""


@UNCHECKED
def test_each_mistake_of_own_tests_and_rows_is_an_error(gate):
    tests = {
        f"stress_tests/test_dim_{name}.py": DIMMED.replace('"dim"', f'"dim-{name}"')
        for name in KEYS
    }
    rows = "".join(
        DIM.replace("dim-030", f"dim-{name}").replace('"dim"', f'"dim-{name}"') + key + "\n"
        for name, (key, _) in KEYS.items()
    )
    tests |= {f"stress_tests/test_{name}.py": None for name in ("clean", "rotation")}
    tests |= {
        "stress_tests/test_doubt.py": DOUBT,
        "stress_tests/test_own.py": OWN,
        "stress_tests/test_share.py": DIMMED.replace('Key("strength"', 'Key("share"'),
        "stress_tests/test_larger.py": ROTATION.replace('check("rotation")', 'check("größer")'),
        "stress_tests/test_nowhere.py": "import nowhere\n",
    }
    doubts = doubting('direction = "at_least"\nhand = { threshold = 0.1 }', "more-doubt")
    rows += doubts + doubting("hand = { threshold = 1.5 }", "much-doubt")
    rows += ROWS[: ROWS.index('[[check]]\nid = "clean-bee"')].replace(
        'id = "clean"', 'id = "clean-too"'
    )
    ran = gate.once("--continue-on-collection-errors", rows=ROWS + rows, files=tests)
    assert ran.ending == (4, "error")
    what = ran.why.replace(f"{gate.root}/", "")
    for said in (
        *(f"cannot be collected: stress_tests/checks.toml: check 'dim-{name}' of test_dim: {said}"
          for name, (_, said) in KEYS.items()),
        "test_share.py: cannot be collected: test_dim declares a key 'share', but every check",
        "test_accuracy_survives_rotation: its family 'größer' gives its row the id ",
        "test_nowhere.py: cannot be collected",
        "test_own.py::test_own: OSError: lost",
        "turned: two tests have a verdict of this name, ",
        "rotate-ccw-010: error: [XPASS(strict)]",
        "clean-bee: error: the test judged nothing; end it with `stress_check.judge`",
        "[TEST] clean, clean-too: error: RuntimeError: my own mistake",
        'check more-doubt: for doubt, less is better; write direction = "at_most", or leave it out',
        "check much-doubt: threshold 1.5 is outside the range of doubt, 0.0 to 1.0",
    ):  # fmt: skip
        assert re.search(re.escape(said).replace(r"\*", ".*"), what), (said, what)
    raised = [
        line for line in ran.stdout.lines if line.startswith("E   ") and "my own mistake" in line
    ]
    assert len(raised) == 1, "the first error of many keeps its traceback"
    assert {ran.checks[name]["code"] for name in ("clean", "clean-too")} == {"TEST"}


# Around the run.


@UNCHECKED
def test_default_gate_is_found_through_a_link(zoo):
    zoo.tests.rename(zoo.root / "elsewhere")
    zoo.tests.symlink_to("elsewhere")
    assert zoo.run("-k", "clean").ret == 0
    assert set(zoo.statuses) == {"clean", "clean-bee"}


def test_interrupt_keeps_pytests_status_even_after_an_error(gate):
    body = "def test_broken():\n    raise OSError\n\ndef test_own():\n    raise KeyboardInterrupt\n"
    ran = gate.once(no_reraise_ctrlc=True, files={"stress_tests/test_a.py": body})
    assert ran.ending == (pytest.ExitCode.INTERRUPTED, "error")
    assert "the run was interrupted, and did not check itself" in ran.report["omissions"]


@UNCHECKED
def test_a_command_line_overrides_the_configuration_and_a_training(gate, monkeypatch):
    ini = "[pytest]\naddopts = -p no:cacheprovider --candidate=none.safetensors\n"
    monkeypatch.setattr(
        "harness.plugin.start.train_missing",
        lambda request: {"baseline": gate.root / "b.safetensors"},
    )
    gate.save("b.safetensors", jitter=0.1)
    ran = gate.once("--candidate", "models/augmented.safetensors", files={"pytest.ini": ini})
    assert ran.ending == (0, "pass")
    assert ran.report["baseline"]["path"].endswith("b.safetensors"), "as after a training"


@UNCHECKED
def test_a_run_without_pictures_has_a_short_page(gate):
    ran = gate.once("-p", "no:html")
    assert ran.ending == (0, "pass")
    assert "This run made no pictures" in ran.page
    assert f'data-run="{ran.report["run"]}" data-verdict="pass"' in ran.page


def test_missing_shipped_models_are_trained_visibly_and_once(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    arguments = {"conv_channels": [4], "fc_sizes": []}
    config = TrainingConfig(epochs=1, validation_size=100, arguments=arguments, precision="float32")
    monkeypatch.setattr(training, "SHIPPED", {"baseline": config, "augmented": config})
    few = load_fashion_mnist("test").take(torch.arange(400))
    monkeypatch.setattr(training, "load_fashion_mnist", lambda _: few)
    with pytest.raises(InputError, match=r"NOT_REGULAR"):
        train_missing(
            RunRequest(root=tmp_path, roles={"candidate": "models/augmented.safetensors"})
        )
    assert not list(tmp_path.rglob("augmented*.safetensors"))
    found = train_missing(RunRequest(root=tmp_path))
    assert "The shipped augmented model is missing: training it into" in capfd.readouterr().err
    assert set(found) >= {"candidate", "baseline"}
    assert all(
        path.is_file() and path.is_relative_to(tmp_path / "cache") for path in found.values()
    )
    assert train_missing(RunRequest(root=tmp_path)) == found
    assert "training" not in capfd.readouterr().err


@UNCHECKED
def test_names_in_the_data_write_no_lines_and_no_colors_of_their_own(zoo):
    arrays = dict(np.load(zoo.root / "zoo.npz"))
    arrays["classes"] = np.array(
        ["ant`<img src=x>", "bee\n::error file=a::b", "cat\x1b[31m", "doe|\u202e"]
    )
    np.savez(zoo.root / "zoo.npz", **arrays)
    zoo.checks.write_text(zoo.checks.read_text().replace('"bee"', r'"bee\n::error file=a::b"'))
    zoo.save("worse.safetensors", blind=True)
    result = zoo.run("--candidate", "worse.safetensors")
    assert result.ret == 1
    markdown = (zoo.root / "reports/stress.md").read_text()
    for written in (result.stdout.str(), markdown):
        assert "bee" in written
        assert not re.search(r"\x1b\[31m|\u202e|(?m:^::error)", written)
    picture = r'^<img src="stress/[0-9a-f]{16}\.webp" width="168" alt="[^<>"]*">$'
    assert "<img" not in re.sub(picture, "", markdown, flags=re.MULTILINE)
