"""Nothing ends with 0 that judged nothing.

Models that exit, files that change, old reports, the gate switched off.

Those with the marker `faults` are a process each.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from outcomes import leave_old_reports
from zoo import LEAVING, STRESS_TESTS, Zoo, as_state_dict, without_id

SECONDS = 600
"""After which a run is held to hang, however many others there are."""
OPTIONS = (
    "-p",
    "no:cacheprovider",
    "--baseline",
    "none",
    "--incumbent",
    "none",
    "--stress-no-cache",
)
GATE = ("-m", "harness", "gate", "stress_tests")


@pytest.fixture
def shop(tmp_path):
    zoo = Zoo(tmp_path)
    leave_old_reports(tmp_path / "reports")
    return zoo


def run(shop, *arguments, command=("-m", "pytest", "stress_tests")):
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path]),
    }
    data = (
        () if any("data=" in each for each in arguments) else ("--stress-set", f"data={shop.data}")
    )
    return subprocess.run(
        [sys.executable, *command, *OPTIONS, *data, *arguments],
        cwd=shop.root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def expect_error(shop, ended, *, said: str, status: int = 4):
    assert ended.returncode == status, ended.stdout + ended.stderr
    report = json.loads((shop.root / "reports/stress.json").read_text())
    assert report["verdict"] == "error"
    unsound = [check["detail"] for check in report["self_checks"] if check["status"] == "fail"]
    assert said in " ".join([*report["errors"], *report["omissions"], *unsound])
    for name in ("stress.html", "stress.md"):
        content = (shop.root / "reports" / name).read_text()
        assert "earlier run" not in content
        assert "inconclusive" in content


# Models and tests that leave.


@pytest.mark.parametrize("leave", ["sys.exit(0)", "pytest.exit('end', returncode=0)"])
def test_a_model_that_leaves_is_not_judged(shared, monkeypatch, leave):
    monkeypatch.syspath_prepend(shared.root)
    monkeypatch.setattr("harness.run.steadiness.asked_elsewhere", lambda *_: [])
    as_state_dict(shared.save("leaving.safetensors"))
    model = (
        "--candidate",
        "leaving.pt",
        "--stress-set",
        "model=leaving:build",
        "--stress-no-cache",
    )
    ran = shared.once(*model, files={"leaving.py": LEAVING.format(leave=leave)})
    assert ran.ending == (4, "error")
    assert "the model failed on" in ran.why


def inserted(line):
    return lambda text: text.replace(b"    verdict = ", f"    {line}\n    verdict = ".encode(), 1)


EXITS = {
    "stress_tests/test_clean.py": inserted("import sys; sys.exit(0)"),
    "stress_tests/test_rotation.py": inserted("raise GeneratorExit"),
}
ENDS = {
    "stress_tests/test_confident_errors.py": inserted(
        "import pytest; pytest.exit('enough', returncode=0)"
    )
}


def test_a_test_that_leaves_is_not_judged(shared):
    ran = shared.once(files=EXITS)
    assert ran.ending == (4, "error")
    assert "SystemExit" in ran.why
    assert "GeneratorExit" in ran.why
    ran = shared.once(files=ENDS)
    assert ran.ending == (4, "error")
    assert "enough" in ran.why


@pytest.mark.faults
def test_tests_of_workers_that_leave_are_not_judged(shared):
    assert shared.once("-n", "1", files=EXITS | ENDS).ending == (4, "error")


@pytest.mark.parametrize("folder", ["read-only", "dangling", "elsewhere"])
def test_a_folder_of_reports_that_is_none(zoo, tmp_path_factory, folder):
    reports, elsewhere = zoo.root / "reports", tmp_path_factory.mktemp("elsewhere")
    reports.symlink_to(
        {
            "read-only": "/proc/self",
            "dangling": elsewhere / "none" / "such",
            "elsewhere": elsewhere,
        }[folder]
    )
    ran = zoo.run()
    if folder == "elsewhere":
        assert (ran.ret, zoo.report()["verdict"]) == (0, "pass")
    else:
        assert ran.ret == 4
        assert "cannot be written" in ran.stderr.str()


@pytest.mark.parametrize(
    ("arguments", "rows"), [(("-k", "nothing-at-all"), None), (("--setup-only",), None), ((), "")]
)
def test_a_run_that_judges_nothing_says_so_in_its_reports(shared, arguments, rows):
    ran = shared.once(*arguments, rows=rows)
    assert ran.ending == (4, "error")
    assert "no threshold of" in ran.why


def test_a_run_that_records_judges_nothing(shared):
    ran = shared.once(record="all")
    assert (ran.ending, ran.report["errors"]) == ((4, "error"), [])


@pytest.mark.faults
def test_tests_without_their_plugin_or_under_another_root_are_an_error(shop, tmp_path_factory):
    assert run(shop, "-p", "no:harness.plugin", "-n", "2").returncode == 4
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    command = [
        sys.executable,
        "-m",
        "pytest",
        str(shop.tests),
        "--rootdir",
        str(elsewhere),
        "-n",
        "2",
    ]
    ended = subprocess.run(
        command, cwd=elsewhere, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert ended.returncode == 4, ended.stdout + ended.stderr
    assert "no run of their gate" in ended.stdout + ended.stderr
    assert not list(elsewhere.iterdir())


CHANGING = """
import locale, os, random, signal, sys, time, warnings
import numpy as np
import torch
from harness.networks.architectures import FashionCNN

def change():
    {effect}

class Net(FashionCNN):
    def forward(self, pixels):
        if pixels.sum() >= 0:  # Which cannot be traced, so that each pass comes here.
            change()
        return super().forward(pixels)

def build():
    from zoo import ARGUMENTS
    model = Net(**ARGUMENTS)
    {when_built}
    return model
"""
TORCH = (
    "torch.set_default_dtype(torch.float64), torch.set_default_device('meta'), "
    "torch.set_grad_enabled(False), torch.use_deterministic_algorithms(True), "
    "torch.manual_seed(0), np.random.seed(0)"
)
BUILT = """
    torch.set_num_threads(3); torch.set_float32_matmul_precision("medium")
    warnings.simplefilter("error"); locale.setlocale(locale.LC_ALL, "C")
    signal.signal(signal.SIGALRM, signal.SIG_IGN); signal.signal(signal.SIGTERM, signal.SIG_IGN)
""".strip()
PROCESS = "os.chdir('/'), os.environ.clear(), print('x' * 100_000), setattr(sys, 'stdout', None)"


@pytest.mark.faults
@pytest.mark.parametrize(
    ("effect", "when_built"),
    [
        (f"{TORCH}, {PROCESS}, signal.alarm(0)", "signal.alarm(0); os.fork()"),
        ("pass", f"{BUILT}\n    {TORCH}; {PROCESS}"),
    ],
    ids=["pass", "built"],
)
def test_a_model_that_changes_the_process_is_judged_as_one_that_does_not(
    shop, unchanging, effect, when_built
):
    ended, report = judged(shop, effect, when_built)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert report | {"tests": []} == unchanging, "but for what it printed"
    assert ended.stdout.count("model quality gate") == 1


def judged(shop, effect="pass", when_built="pass"):
    """Run the gate on a model that changes its process.

    Return how it ended, and its report without folder and run.
    """
    (shop.root / "changing.py").write_text(CHANGING.format(effect=effect, when_built=when_built))
    candidate = as_state_dict(shop.root / "models/augmented.safetensors")
    ended = run(shop, "--candidate", str(candidate), "--stress-set", "model=changing:build")
    report = json.loads((shop.root / "reports/stress.json").read_text().replace(str(shop.root), ""))
    return ended, without_id(report)


@pytest.fixture(scope="module")
def unchanging(tmp_path_factory):
    """Return what the gate says of a model that leaves its process alone."""
    ended, report = judged(Zoo(tmp_path_factory.mktemp("unchanging")))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return report


@pytest.mark.faults
def test_streams_that_a_model_closes_cost_the_verdict_at_most(shop):
    (shop.root / "changing.py").write_text(
        CHANGING.format(effect="sys.stdout.close()", when_built="pass")
    )
    candidate = as_state_dict(shop.root / "models/augmented.safetensors")
    ended = run(shop, "--candidate", str(candidate), "--stress-set", "model=changing:build")
    report = json.loads((shop.root / "reports/stress.json").read_text())
    assert (ended.returncode, report["verdict"]) in {(0, "pass"), (4, "error")}, (
        ended.stdout + ended.stderr
    )


QUARANTINE = """
import pytest

@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == "call":
        {does}
    return report
"""


@pytest.mark.parametrize(
    ("does", "test", "ending"),
    [
        ("report.outcome, report.wasxfail = 'skipped', 'flaky'", None, (1, "fail")),
        ("report.outcome = 'passed'", "raise RuntimeError", (4, "error")),
    ],
    ids=["hides-a-failure", "hides-an-error"],
)
def test_a_plugin_that_changes_reports_changes_no_verdict(shared, does, test, ending):
    shared.save("worse.safetensors", jitter=6.0)
    files = {"stress_tests/conftest.py": QUARANTINE.format(does=does)}
    if test:
        body = (STRESS_TESTS / "test_clean.py").read_text()
        files["stress_tests/test_clean.py"] = body.replace(
            "    assert verdict.passed", f"    {test}\n    assert verdict.passed"
        )
    candidate = () if test else ("--candidate", "worse.safetensors")
    assert shared.once(*candidate, files=files).ending == ending
