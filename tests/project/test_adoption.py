"""A repository of its own adopts the gate by the package alone: made, calibrated, used, and run by the workflow."""

import json
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from ruamel.yaml import YAML
from test_wheel import python, run, wheel
from workflow_runner import Runner

__all__ = ["python", "wheel"]
pytestmark = pytest.mark.wheel

BUILDER = """
import torch


class Bright(torch.nn.Module):
    \"\"\"Compares the upper half with the lower.\"\"\"

    def __init__(self, gain=1.0):
        super().__init__()
        self.weigh = torch.nn.Linear(64, 2)
        self.gain = gain

    def forward(self, x):
        return self.gain * self.weigh(x.mean(1).flatten(1))
"""
DATA = "data: folder:photos/test, size 8 (from stress_tests/checks.toml)"


def saved(path: Path, *, seed: int, sign: float = 1.0) -> None:
    """Save a network whose weights are the same but for a little noise; one of another sign mistakes the classes."""
    noise = torch.randn(64, generator=torch.Generator().manual_seed(seed)) / 20
    weight = sign * (torch.cat([-torch.ones(32), torch.ones(32)]) + noise)
    path.parent.mkdir(exist_ok=True)
    torch.save({"weigh.weight": torch.stack([weight, -weight]), "weigh.bias": torch.zeros(2)}, path)


@pytest.fixture
def shop(tmp_path) -> Path:
    """A repository with photographs of two cameras, a network, and weights of three reference models."""
    root, rng = tmp_path / "shop", np.random.default_rng(0)
    rows = ["path,camera"]
    for name, bright in (("floor", slice(4, 8)), ("sky", slice(0, 4))):
        (root / "photos/test" / name).mkdir(parents=True)
        for number in range(200):
            pixels = rng.integers(0, 200, (8, 8, 3), dtype=np.uint8)
            pixels[bright] += 14
            Image.fromarray(pixels).save(root / f"photos/test/{name}/{number}.png")
            rows.append(f"{name}/{number}.png,{'front' if number % 2 else 'rear'}")
    (root / "photos/test/groups.csv").write_text("\n".join(rows) + "\n")
    (root / "bright.py").write_text(BUILDER)
    for seed in (1, 2, 3):
        saved(root / f"runs/seed-{seed}.pth", seed=seed)
    return root


def git(root: Path, *arguments: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    return subprocess.run(
        ["git", *who, *arguments], cwd=root, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_a_repository_adopts_the_gate(shop, python, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTEST_XDIST_AUTO_NUM_WORKERS", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def harness(*arguments: str, ok: int = 0) -> str:
        done = run(python, "-m", "harness", *arguments, cwd=shop, ok=(ok,))
        return done.stdout

    given = ("--data", "folder:photos/test", "--size", "8", "--model", "bright:Bright", "--set", "model_args.gain=4")
    wanted = ("--families", "clean,class,regression", "--min-accuracy", "0.5", "--budget", "none", "--ci", "github")
    said = harness("init", *given, *wanted, "--checkpoint", "runs/seed-1.pth")
    assert (
        "groups: camera (rear 200, front 200); each group gets a check by\n  stress-harness init --families slice\n"
        in said
    )
    git(shop, "init", "-q")
    assert said.endswith("set the thresholds\n")
    assert re.findall(r"--candidate (\S+)", said) == ["runs/seed-1.pth"]

    said = harness("calibrate", "--checkpoints", *(f"runs/seed-{seed}.pth" for seed in (1, 2, 3)))
    assert said.splitlines()[0] == DATA
    assert "replaces the one by hand, 0.5, that was until calibrated" in said

    git(shop, "add", "-A")
    git(shop, "commit", "-q", "-m", "a gate")
    base = git(shop, "rev-parse", "HEAD")
    saved(shop / "runs/good.pth", seed=4)
    saved(shop / "runs/bad.pth", seed=5, sign=-1)
    said = harness("gate", "stress_tests", "--candidate", "runs/bad.pth", ok=1)
    assert "stress: 4 checks on 400 images of test" in said

    said = harness("accept", "runs/good.pth")
    assert "accepted, models/incumbent.safetensors is the last accepted model" in said
    said = harness("compare", "runs/bad.pth", "models/incumbent.safetensors")
    assert said.splitlines()[0] == DATA
    assert "incumbent" in said
    harness("init", "--families", "slice")
    assert "slice-camera-front" in (shop / "stress_tests/checks.toml").read_text()

    git(shop, "stash", "-q", "--", "stress_tests")
    git(shop, "add", "runs")
    git(shop, "commit", "-q", "-m", "two checkpoints")
    git(shop, "clone", "-q", str(shop), str(tmp_path / "clone"))
    job = YAML(typ="safe").load(shop / ".github/workflows/model-gate.yml")["jobs"]["gate"]
    environment = {"PYTHONPATH": "", "XDG_CACHE_HOME": os.environ["XDG_CACHE_HOME"]}
    expressions = {"github.event.pull_request.base.sha": base}
    runner = Runner(tmp_path / "clone", job, expressions, Path(python).parent, environment)
    assert not runner.run()
    assert runner.statuses["Gate"] == 1, runner.output
    reports = map(json.loads, map(Path.read_text, (tmp_path / "clone/reports").glob("*/stress.json")))
    assert {each["candidate"]["path"]: each["verdict"] for each in reports} == {
        "runs/bad.pth": "fail",
        "runs/good.pth": "pass",
    }
