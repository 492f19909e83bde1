"""The example of a workflow for GitHub is valid, and each step works in a repository."""

import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from test_quick import QUICK
from workflow_runner import Runner
from zoo import Zoo, checks_text

ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / "examples/ci/model-gate.yml"


@pytest.fixture(scope="module")
def workflow():
    return YAML(typ="safe").load(WORKFLOW)


@pytest.fixture
def runner(tmp_path, workflow):
    zoo = Zoo(tmp_path)
    # Other settings than the example's stand in the repository's configuration.
    (tmp_path / "pytest.ini").write_text(
        f"[pytest]\naddopts = -p no:cacheprovider --stress-set data={zoo.data}\n"
    )
    quick = checks_text(zoo.images, QUICK).replace("n = 400\n", "n = 400\nsample = 100\n")
    (tmp_path / "stress_tests/checks-quick.toml").write_text(quick)
    runner = Runner(tmp_path, workflow["jobs"]["gate"])
    runner.zoo = zoo
    return runner


def test_the_workflow_is_valid_by_githubs_schema_which_knows_a_wrong_one(tmp_path):
    wrong = tmp_path / "wrong.yml"
    text = WORKFLOW.read_text()
    wrong.write_text(
        text.replace("        if: always()\n        run:", "        iff: always()\n        run:")
    )
    schema = ("--builtin-schema", "vendor.github-workflows")
    for path, status in ((WORKFLOW, 0), (wrong, 1)):
        command = [sys.executable, "-m", "check_jsonschema", *schema, str(path)]
        checked = subprocess.run(command, capture_output=True, text=True, check=False)
        assert checked.returncode == status, checked.stdout + checked.stderr
    assert "'iff' was unexpected" in checked.stdout


def test_the_workflow_runs_on_changes_of_the_checkpoint_and_only_reads(workflow):
    # YAML 1.1 would read the key as true; GitHub and this reader keep to 1.2.
    paths = workflow["on"]["pull_request"]["paths"]
    candidate = Path(workflow["jobs"]["gate"]["env"]["CANDIDATE"])
    assert any(candidate.match(pattern) for pattern in paths)
    assert workflow["permissions"] == {"contents": "read"}
    assert list(workflow["on"]) == ["pull_request"], (
        "pull_request_target would run a stranger's code with secrets"
    )
    steps = workflow["jobs"]["gate"]["steps"]
    (upload,) = (
        step for step in steps if step.get("uses", "").startswith("actions/upload-artifact@")
    )
    assert (upload["if"], upload["with"]["path"]) == ("always()", "reports")


@pytest.mark.processes
def test_a_good_checkpoint_passes_every_step(runner):
    runner.zoo.save("models/candidate.safetensors")
    assert runner.run(), runner.output
    assert list(runner.statuses) == [step["name"] for step in runner.job["steps"] if "run" in step]
    assert runner.asked.read_text() == "install --editable .\n"
    quick, full = runner.report("reports/quick"), runner.report()
    assert (quick["profile"], quick["verdict"]) == ("quick", "pass")
    assert (full["profile"], full["verdict"]) == ("default", "pass")
    assert [report["candidate"]["path"] for report in (quick, full)] == [
        "models/candidate.safetensors"
    ] * 2
    summary = runner.summary.read_text()
    assert summary.index("PASS (quick profile): 3 of 3 checks pass") < summary.index(
        "PASS: 4 of 4 checks pass"
    )
    assert "::error" not in "".join(runner.output.values())
    assert (runner.root / "reports/stress.html").exists()


@pytest.mark.processes
def test_a_bad_checkpoint_fails_at_the_quick_gate_and_is_annotated(runner):
    runner.zoo.save("models/candidate.safetensors", jitter=3.0)
    assert not runner.run()
    assert runner.statuses == {"Install": 0, "Quick gate": 1, "Job summary": 0}
    annotated = [
        line for line in runner.output["Quick gate"].splitlines() if line.startswith("::error ")
    ]
    failing = {
        check["id"]
        for check in runner.report("reports/quick")["checks"]
        if check["status"] == "fail"
    }
    assert {line.partition("title=")[2].partition("::")[0] for line in annotated} == failing
    assert "clean" in failing
    assert any(
        "::clean: accuracy 0." in line and " < threshold 0.8500 " in line for line in annotated
    )
    summary = runner.summary.read_text()
    assert "FAIL (quick profile)" in summary
    assert "<img" in (runner.root / "reports/quick/stress.md").read_text()
    assert "<img" not in summary, "the page of a job has no file of the picture"


@pytest.mark.processes
def test_a_checkpoint_that_is_refused_is_annotated_as_not_judged(runner):
    (runner.root / "models/candidate.safetensors").write_bytes(b"not a checkpoint")
    assert not runner.run()
    assert runner.statuses["Quick gate"] == 4
    told = "\n::error title=the run is inconclusive::REFUSED[FORMAT] models/candidate.safetensors: "
    assert told in runner.output["Quick gate"]
    assert "REFUSED[FORMAT] models/candidate.safetensors" in runner.summary.read_text()
