"""The workflow for GitHub that gates a repository's checkpoints."""

from __future__ import annotations

import json
import re
import shlex
import sys
import tomllib
from importlib.metadata import packages_distributions, version
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

WORKFLOW = ".github/workflows/model-gate.yml"

_TEXT = """\
# Gates a checkpoint on each pull request that touches it, or one that is named by hand: "Run workflow" asks for its
# path. The test images must be in the repository, or be fetched in a step before the gate. Checks that fail stand as
# annotations beside the pull request, their table on the job's page, and the reports with pictures are an artifact.
# Exit status 1 means that the model is worse, 4 that the run could not judge. Where your package index does not have
# the harness, install it from where it is: the path or the address of its wheel.
name: Model quality gate

on:
  pull_request:
    paths:
@PATHS@
  workflow_dispatch:
    inputs:
      candidate:
        description: Path of the checkpoint to gate
        required: true
        default: @CANDIDATE@

permissions:
  contents: read

jobs:
  gate:
    runs-on: ubuntu-latest
    timeout-minutes: 60
    env:
      CANDIDATE: ${{ inputs.candidate || @CANDIDATE_QUOTED@ }}
    steps:
      - uses: actions/checkout@v4
        with:
          lfs: true
      - uses: actions/setup-python@v5
        with:
          python-version: "@PYTHON@"
      - name: Install
        run: |
@INSTALL@
      - name: Gate
        run: stress-harness gate stress_tests --candidate="$CANDIDATE" -n auto
      - name: Job summary
        if: always()
        run: |
          if [ -f reports/stress.md ]; then cat reports/stress.md >> "$GITHUB_STEP_SUMMARY"; fi
      - name: Upload the reports
        if: always()
        uses: actions/upload-artifact@v4
        with:
          name: stress-reports
          path: reports
          if-no-files-found: warn
"""


def workflow(folder: Path, *, candidate: str, network: str | None) -> str:
    """Return a workflow for the repository in this folder; `candidate` is the path of its checkpoints there.

    It runs this version of Python and of the harness, and installs what the repository says that it needs, or the
    package that `network`, `package.module:callable`, is of.
    """
    pattern = PurePosixPath(candidate).with_name(f"*{PurePosixPath(candidate).suffix}").as_posix()
    paths = (pattern, "models/incumbent.toml", "stress_tests/**")
    lines = {
        "PATHS": [f"      - {json.dumps(path, ensure_ascii=False)}" for path in paths],
        "INSTALL": [f"          {command}" for command in _install(folder, candidate, network)],
        "CANDIDATE": [json.dumps(candidate, ensure_ascii=False)],
        # In an expression a quote is doubled; the YAML around it is plain.
        "CANDIDATE_QUOTED": ["'" + candidate.replace("'", "''") + "'"],
        "PYTHON": [f"{sys.version_info.major}.{sys.version_info.minor}"],
    }
    return re.sub(r"@(\w+)@", lambda found: "\n".join(lines[found[1]]), _TEXT)


def _install(folder: Path, candidate: str, network: str | None) -> list[str]:
    extra = "[onnx]" if candidate.endswith(".onnx") else ""
    commands = [_pip(f"stress-harness{extra}", version("stress-harness"))]
    if (folder / "requirements.txt").is_file():
        commands.append("pip install -r requirements.txt")
    if _is_package(folder):
        commands.append("pip install .")
    module = (network or "").partition(":")[0].partition(".")[0]
    found = packages_distributions().get(module, []) if module and len(commands) == 1 else []
    return [*commands, *(_pip(name, version(name)) for name in found[:1])]


def _is_package(folder: Path) -> bool:
    path = folder / "pyproject.toml"
    return path.is_file() and "project" in tomllib.loads(path.read_text("utf-8"))


def _pip(requirement: str, number: str) -> str:
    """Return the command that installs a package by its version, without what a build adds to it, such as `+cpu`."""
    released = number.partition("+")[0]
    return f"pip install {shlex.quote(f'{requirement}=={released}')}"
