"""The workflow that `init --ci github` writes: valid, and each of its steps works in a clone."""

import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML
from workflow_runner import Runner
from zoo import CLASSES, images_of

from harness.cli import main
from harness.features.adoption.workflow import WORKFLOW, workflow
from harness.run.settings import ModelSettings

INIT = (
    "init",
    "--data",
    "npz:shop.npz",
    "--families",
    "clean",
    "--budget",
    "none",
    "--ci",
    "github",
)


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A repository with images."""
    root = tmp_path / "shop"
    root.mkdir()
    monkeypatch.chdir(root)
    images = images_of(400)
    pixels = images.pixels[:, 0].numpy()
    np.savez("shop.npz", images=pixels, labels=images.labels.numpy(), classes=np.array(CLASSES))
    return root


def git(*arguments) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main")
    return subprocess.run(
        ["git", *who, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def committed() -> str:
    git("add", "-A")
    git("commit", "-q", "--allow-empty", "-m", "as it is")
    return git("rev-parse", "HEAD")


def found_workflow() -> dict:
    return YAML(typ="safe").load(Path(WORKFLOW))


STUB = """\
#!/bin/sh
case "$*" in *worse*) status=1 ;; *broken*) status=4 ;; *) status=0 ;; esac
printf '%s\\n' "$@" | grep -e --candidate -e --stress-reports >> gated.txt
candidate="$(printf '%s\\n' "$@" | sed -n 's/^--candidate=//p')"
reports="$(printf '%s\\n' "$@" | sed -n 's/^--stress-reports=//p')"
network() { head -n 1 "$1" | cksum; }
mkdir -p "$reports" reports
printf 'a summary\\n<img src="stress/0123456789abcdef.webp" alt="image 7">\\n' > reports/stress.md
printf '{"candidate": {"sha256": "%s"}, "incumbent": {"sha256": "%s"}}' \
  "$(network "$candidate")" "$(network models/incumbent.pth)" > "$reports/stress.json"
exit $status
"""
"""Stands in for `stress-harness`: it keeps what it was asked, and judges by names.

The first line of a file is its network.
"""


@pytest.fixture
def base(shop):
    """The commit of a repository with a gate and a reference model, before the pull request."""
    git("init", "-q")
    for name in ("runs/seed-1.pth", "runs/old.ckpt"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(f"weights of {name}")
    assert main(INIT) == 0
    return committed()


def gated(
    root: Path, base: str = "", *, status: int | None = 0, **expressions: str
) -> tuple[list[str], Runner]:
    """Return the gated model in a clone of the current commit, and the workflow's runner."""
    committed()
    clone = root.with_name("clone")
    git("clone", "-q", str(root), str(clone))
    given = {"github.event.pull_request.base.sha": base, **expressions}
    runner = Runner(clone, found_workflow()["jobs"]["gate"], given)
    (clone / "tools/stress-harness").write_text(STUB)
    (clone / "tools/stress-harness").chmod(stat.S_IRWXU)
    (clone / "tools/pip").write_text('#!/bin/sh\necho "$*" >> "$PIP_WAS_ASKED"\n')
    assert runner.run() == (status == 0), runner.output
    assert status is None or runner.statuses["Gate"] == status
    asked = clone / "gated.txt"
    return asked.read_text().splitlines() if asked.exists() else [], runner


REPORTS = "--stress-reports=reports"


@pytest.mark.parametrize(
    ("changed", "status", "asked"),
    [
        (["runs/new.ckpt"], 0, ["--candidate=runs/new.ckpt", REPORTS]),
        (["läufe/a b'$(id).onnx"], 0, ["--candidate=läufe/a b'$(id).onnx", REPORTS]),
        (["runs/seed-1.pth"], 0, ["--candidate=runs/seed-1.pth", REPORTS]),
        (["runs/worse.pt"], 1, ["--candidate=runs/worse.pt", REPORTS]),
        (
            ["a/x.pth", "a-x.pth", "notes.md"],
            0,
            [
                "--candidate=a-x.pth",
                f"{REPORTS}/1-a-x.pth",
                "--candidate=a/x.pth",
                f"{REPORTS}/2-a-x.pth",
            ],
        ),
        (
            ["new.pt", "worse.pt"],
            1,
            [
                "--candidate=new.pt",
                f"{REPORTS}/1-new.pt",
                "--candidate=worse.pt",
                f"{REPORTS}/2-worse.pt",
            ],
        ),
        (
            ["broken.pt", "worse.pt"],
            4,
            [
                "--candidate=broken.pt",
                f"{REPORTS}/1-broken.pt",
                "--candidate=worse.pt",
                f"{REPORTS}/2-worse.pt",
            ],
        ),
    ],
    ids=["another-suffix", "odd-name", "changed", "worse", "several", "one-worse", "one-broken"],
)
def test_the_changed_checkpoints_are_gated_and_the_gravest_status_counts(
    base, shop, changed, status, asked
):
    for name in changed:
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("other weights")
    Path("runs/old.ckpt").unlink()
    assert gated(shop, base, status=status)[0] == asked


def test_the_page_of_the_job_has_the_summary_without_its_picture(base, shop):
    Path("runs/new.ckpt").write_text("other weights")
    _, runner = gated(shop, base)
    assert runner.summary.read_text() == "a summary\n"


def test_a_pull_request_without_a_checkpoint_says_so(base, shop):
    Path("notes.md").write_text("more")
    Path("runs/old.ckpt").unlink()
    asked, runner = gated(shop, base)
    assert asked == []
    said = (
        "No candidate (.safetensors, .pth, .pt, .ckpt, .onnx) is added or changed. Nothing was "
        "gated."
    )
    assert f"::notice title=Model quality gate::{said}" in runner.output["Gate"]
    assert said in runner.summary.read_text()


@pytest.mark.parametrize(
    ("before", "changed"),
    [
        *(
            (True, name)
            for name in (
                "stress_tests/checks.toml",
                "models/panel.json",
                "own.py",
                "shop/deep/net.py",
            )
        ),
        *((True, name) for name in ("pytest.ini", "shop.npz")),
        (None, "own.py"),
        (False, "models/incumbent.pth"),
    ],
)
def test_a_change_of_what_decides_gates_the_incumbent_once(base, shop, before, changed):
    """Also where its weights are missing, and where they change with their declaration."""
    declaration = 'schema = 1\nfile = "incumbent.pth"\nsha256 = "a"\n'
    if before is not False:
        Path("models/incumbent.toml").write_text(declaration)
        if before:
            Path("models/incumbent.pth").write_text("weights")
        base = committed()
    Path("models/incumbent.toml").write_text(declaration)
    Path(changed).parent.mkdir(parents=True, exist_ok=True)
    with Path(changed).open("a") as file:
        file.write("# other")
    assert gated(shop, base)[0] == ["--candidate=models/incumbent.pth", REPORTS]


NETWORK, OTHER = "weights of the new network\n", "weights of another network\n"


@pytest.mark.parametrize(
    ("accepted", "asked"),
    [
        (NETWORK, ["--candidate=runs/new.pth", f"{REPORTS}/1-runs-new.pth"]),
        (
            OTHER,
            [
                *("--candidate=runs/new.pth", f"{REPORTS}/1-runs-new.pth"),
                *("--candidate=models/incumbent.pth", f"{REPORTS}/2-models-incumbent.pth"),
            ],
        ),
    ],
    ids=["of-the-checkpoint", "of-another"],
)
def test_a_network_that_accept_copies_is_gated_once(base, shop, accepted, asked):
    """The incumbent has a record of its acceptance.

    Its bytes are not those of the checkpoint.
    """
    Path("models/panel").mkdir(parents=True)
    Path("runs/new.pth").write_text(NETWORK)
    Path("models/incumbent.pth").write_text(f"{accepted}acceptance")
    Path("models/incumbent.toml").write_text('schema = 1\nfile = "incumbent.pth"\nsha256 = "a"\n')
    Path("models/panel/accepted-0123456789ab.pth").write_text(NETWORK)
    Path("models/panel.json").write_text("{}")
    assert gated(shop, base)[0] == asked


def test_reference_models_are_no_candidates(base, shop):
    Path("models/panel/more").mkdir(parents=True)
    for name in ("seed-1.pth", "more/seed-2.safetensors"):
        Path("models/panel", name).write_text("weights")
    asked, runner = gated(shop, base)
    assert asked == []
    assert "Nothing was gated" in runner.output["Gate"]


@pytest.mark.parametrize("unknown", ["", "0" * 40], ids=["none", "gone"])
def test_an_unknown_base_is_no_pass_and_a_checkpoint_by_hand_needs_none(base, shop, unknown):
    Path("runs/new.pth").write_text("weights")
    assert gated(shop, unknown, status=None)[0] == []
    (shop.parent / "clone").rename(shop.parent / "first")
    by_hand = gated(shop, unknown, **{"inputs.candidate": "runs/seed-1.pth"})[0]
    assert by_hand == ["--candidate=runs/seed-1.pth", REPORTS]


# Its text.


def test_it_is_valid_by_githubs_schema_and_only_reads(base):
    command = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.github-workflows",
        WORKFLOW,
    ]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    found = found_workflow()
    steps = {step.get("name", step.get("uses")): step for step in found["jobs"]["gate"]["steps"]}
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert steps["actions/setup-python@v5"]["with"] == {"python-version": version}
    assert found["permissions"] == {"contents": "read"}
    assert steps["Upload the reports"]["if"] == steps["Job summary"]["if"] == "always()"
    assert found["on"]["pull_request"]["paths"] == [
        *("**.safetensors", "**.pth", "**.pt", "**.ckpt", "**.onnx"),
        *("models/*.json", "models/*.npz", "models/*.toml", "stress_tests/**", "**.py", WORKFLOW),
        *(
            "pyproject.toml",
            "pytest.ini",
            ".pytest.ini",
            "tox.ini",
            "setup.cfg",
            "requirements*.txt",
        ),
        *("shop.npz", "shop.npz/**"),
    ]
    assert "default" not in found["on"]["workflow_dispatch"]["inputs"]["candidate"], (
        "no checkpoint is known"
    )


@pytest.mark.parametrize(
    ("files", "installed"),
    [
        ({}, []),
        ({"requirements.txt": "timm\n"}, ["install -r requirements.txt"]),
        ({"setup.py": ""}, ["install ."]),
        (
            {"pyproject.toml": "[build-system]\n", "requirements.txt": ""},
            ["install -r requirements.txt", "install ."],
        ),
        ({"pyproject.toml": "[tool.ruff]\n"}, []),
    ],
    ids=["nothing", "requirements", "a-script", "a-package", "a-table-of-tools"],
)
def test_it_installs_the_repository_with_torch_for_cpus(shop, files, installed):
    git("init", "-q")
    assert main(INIT) == 0
    for name, text in files.items():
        Path(name).write_text(text)
    _, runner = gated(shop, committed())
    assert runner.asked.read_text().splitlines() == ["install stress-harness==0.2.0", *installed]
    assert (
        found_workflow()["jobs"]["gate"]["env"]["PIP_EXTRA_INDEX_URL"]
        == "https://download.pytorch.org/whl/cpu"
    )


def test_a_predictor_without_a_file_is_gated_each_time(shop):
    found = YAML(typ="safe").load(workflow(ModelSettings(), "python:own:it's"))
    assert found["on"]["pull_request"] is None
    assert (
        found["jobs"]["gate"]["env"]["CANDIDATE"] == "${{ inputs.candidate || 'python:own:it''s' }}"
    )
