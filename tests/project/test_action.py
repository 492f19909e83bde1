"""Files for other systems are valid by their schemas, and each step of the action works."""

import re
import stat
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from workflow_runner import Runner

ROOT = Path(__file__).parents[2]
FILE = ROOT / "action.yml"
ACTION = YAML(typ="safe").load(FILE)
DEFAULTS = {
    f"inputs.{name}": str(item.get("default", "")) for name, item in ACTION["inputs"].items()
}
GATE = """\
#!/bin/sh
echo "$*" > gate.txt
echo "${XDG_CACHE_HOME:-none}" > cache.txt
mkdir -p reports
case "$*" in *crash*) exit 4 ;; *worse*) verdict=fail status=1 ;; *) verdict=pass status=0 ;; esac
echo "{\\"verdict\\": \\"$verdict\\"}" > reports/stress.json
echo "summary of a $verdict" > reports/stress.md
echo '<img src="stress/0123456789abcdef.webp" width="168" alt="image 7">' >> reports/stress.md
case "$*" in *long*) yes "a line as long as ünï" | head -n 4000 >> reports/stress.md ;; esac
exit $status
"""
"""Stands in for `stress-harness`: it keeps what it was asked, and judges by names."""
GH = """\
#!/bin/sh
echo "$*" >> asked.txt
case "$GH_TOKEN $*" in
  none* | read-only*body=*) exit 1 ;;
  *--paginate*) cat comments.txt ;;
  *) cat "${*##*body=@}" > body.md ;;
esac
"""
"""Stands in for `gh`: it lists the comments of `comments.txt`, and keeps the text of the comment
that it writes.

The token "none" is good for nothing, "read-only" for no comment.
"""


def started(folder: Path, **inputs: str) -> Runner:
    """Run the action with these inputs."""
    given = DEFAULTS | {"inputs.candidate": "new.pth", "github.event.pull_request.number": "7"}
    given |= {f"inputs.{name.replace('_', '-')}": value for name, value in inputs.items()}
    environment = {
        "GITHUB_REPOSITORY": "someone/shop",
        "GITHUB_ACTION_PATH": str(ROOT),
        "XDG_CACHE_HOME": "",
    }
    runner = Runner(
        folder, {"env": {}, "steps": ACTION["runs"]["steps"]}, given, environment=environment
    )
    for name, text in {"stress-harness": GATE, "gh": GH}.items():
        tool = folder / "tools" / name
        tool.write_text(text)
        tool.chmod(stat.S_IRWXU)
    (folder / "comments.txt").touch()
    runner.run()
    return runner


@pytest.mark.parametrize(
    ("name", "schema"),
    [
        ("action.yml", "github-actions"),
        ("examples/ci/model-gate.gitlab-ci.yml", "gitlab-ci"),
        ("CITATION.cff", "citation-file-format"),
    ],
)
def test_it_is_valid_by_its_schema(tmp_path, name, schema):
    wrong = tmp_path / Path(name).name
    wrong.write_text((ROOT / name).read_text() + "\nno-such-key: 3\n")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}"]
    for path, status in ((ROOT / name, 0), (wrong, 1)):
        done = subprocess.run([*command, str(path)], capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stdout + done.stderr


def test_the_citation_has_the_version_of_the_package():
    assert YAML(typ="safe").load(ROOT / "CITATION.cff")["version"] == version("stress-harness")


@pytest.mark.parametrize(
    ("inputs", "status", "verdict", "fails"),
    [
        ({}, "0", "pass", False),
        ({"candidate": "worse.pth"}, "1", "fail", True),
        ({"candidate": "worse.pth", "fail_on": "inconclusive"}, "1", "fail", False),
        ({"candidate": "crash.pth"}, "4", "error", True),
        ({"candidate": "crash.pth", "fail_on": "worse"}, "4", "error", False),
        ({"candidate": "crash.pth", "fail_on": "worse,inconclusive"}, "4", "error", True),
        ({"candidate": "worse.pth", "fail_on": "never"}, "1", "fail", False),
    ],
)
def test_the_verdict_is_an_output_and_decides_the_step(tmp_path, inputs, status, verdict, fails):
    runner = started(tmp_path, **inputs)
    outputs = {
        name: runner.expressions[f"steps.gate.outputs.{name}"]
        for name in ("verdict", "exit-status", "json-path")
    }
    path = str(tmp_path / "reports/stress.json")
    assert outputs == {"verdict": verdict, "exit-status": status, "json-path": path}
    assert runner.statuses["Verdict"] == (int(status) if fails else 0)
    assert ("::warning" in runner.output["Verdict"]) == (status != "0" and not fails)
    assert ACTION["outputs"].keys() == outputs.keys()


@pytest.mark.parametrize("words", ["wrose", "", ", "])
def test_a_wrong_word_of_fail_on_or_none_is_no_pass(tmp_path, words):
    runner = started(tmp_path, fail_on=words)
    assert runner.statuses == {"Install": 4}
    assert (
        f"fail-on is '{words}'; expected worse, inconclusive, both or never"
        in runner.output["Install"]
    )


def test_the_gate_gets_the_inputs(tmp_path):
    odd = "runs/it's $(id) new.pth"
    started(tmp_path, candidate=odd, checks="own checks.toml", profile="quick", cache_path="kept")
    asked = (tmp_path / "gate.txt").read_text().strip()
    assert asked == (
        f"gate stress_tests --candidate={odd} --stress-profile=quick --checks=own checks.toml "
        "--stress-reports=reports -n auto"
    )
    assert (tmp_path / "cache.txt").read_text().strip() == str(tmp_path / "kept")


@pytest.mark.parametrize(
    ("wanted", "asked"),
    [("", f"install {ROOT}"), ("0.2.0", "install stress-harness==0.2.0"), ("installed", None)],
)
def test_it_installs_the_version_wanted(tmp_path, wanted, asked):
    runner = started(tmp_path, version=wanted)
    assert (runner.asked.read_text().strip() if runner.asked.exists() else None) == asked


@pytest.mark.parametrize(
    ("candidate", "always", "shown"),
    [("new.pth", "true", True), ("new.pth", "false", False), ("worse.pth", "false", True)],
)
def test_the_page_of_the_job_has_the_summary(tmp_path, candidate, always, shown):
    runner = started(tmp_path, candidate=candidate, summary_always=always)
    summary = runner.summary.read_text()
    assert ("summary of a" in summary) == shown
    assert "<img" not in summary, "the page of a job has no file of the picture"


@pytest.mark.parametrize(
    ("before", "asked"),
    [("", "issues/7/comments"), ("41\n42\n", "-X PATCH repos/someone/shop/issues/comments/42")],
)
def test_the_pull_request_has_one_comment(tmp_path, before, asked):
    (tmp_path / "comments.txt").write_text(before)
    runner = started(tmp_path, candidate="worse.pth", comment_on_pull_request="true")
    assert runner.statuses["Comment"] == 0, runner.output["Comment"]
    assert asked in (tmp_path / "asked.txt").read_text().splitlines()[-1]
    mark, text = (tmp_path / "body.md").read_text().splitlines()
    assert mark.startswith("<!-- model quality gate")
    assert text == "summary of a fail"


@pytest.mark.parametrize("token", ["none", "read-only"])
def test_a_comment_that_cannot_be_written_leaves_the_verdict(tmp_path, token):
    runner = started(
        tmp_path, candidate="worse.pth", comment_on_pull_request="true", github_token=token
    )
    assert (runner.statuses["Comment"], runner.statuses["Verdict"]) == (0, 1)
    assert (
        "::warning title=Model quality gate::the comment was not written"
        in runner.output["Comment"]
    )


def test_a_comment_is_no_longer_than_it_may_be(tmp_path):
    started(tmp_path, candidate="long.pth", comment_on_pull_request="true")
    body = (tmp_path / "body.md").read_text()
    assert 50_000 < len(body) <= 65_536
    assert set(body.splitlines()[2:-2]) == {"a line as long as ünï"}
    assert body.endswith("\n(The rest is in the artifact.)\n")


def test_each_use_in_a_job_has_a_comment_and_an_artifact_of_its_own(tmp_path):
    names = []
    uses = (
        {},
        {"candidate": "runs/new.pth"},
        {"checks": "own.toml"},
        {"profile": "quick"},
        {"working_directory": "a"},
    )
    for at, inputs in enumerate(
        (*uses, {"candidate": 'https://me:word@shop.org/it "s" -->.pth?key=secret'})
    ):
        (tmp_path / str(at)).mkdir()
        runner = started(tmp_path / str(at), comment_on_pull_request="true", **inputs)
        names.append(runner.expressions["steps.gate.outputs.name"])
        assert (
            (tmp_path / str(at) / "body.md")
            .read_text()
            .startswith(f"<!-- model quality gate: {names[-1]} -->\n")
        )
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[\w.-]+\.pth-\d+", name, re.ASCII) for name in names)
    (upload,) = (
        step["with"]["name"] for step in ACTION["runs"]["steps"] if "upload" in step.get("uses", "")
    )
    assert upload == "stress-reports-${{ steps.gate.outputs.name }}"


def test_it_comments_only_on_request(tmp_path):
    started(tmp_path, candidate="worse.pth")
    assert not (tmp_path / "body.md").exists()
