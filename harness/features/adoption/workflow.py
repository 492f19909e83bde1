"""The workflow for GitHub that gates the checkpoints of a pull request."""

from __future__ import annotations

import json
import re
import shlex
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.run.settings import ModelSettings

WORKFLOW = ".github/workflows/model-gate.yml"
SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".onnx")
"""Suffixes of checkpoints, in addition to that of the given one."""
_PANEL = "models/panel"
"""Folder of the reference models; `accept` and `init --checkpoint` copy models there."""
_OTHERS = (
    *("models/*.json", "models/*.npz", "models/*.toml", "stress_tests/**", "**.py", WORKFLOW),
    *("pyproject.toml", "pytest.ini", ".pytest.ini", "tox.ini", "setup.cfg", "requirements*.txt"),
)
"""Files besides checkpoints and images that decide a verdict.

They are the panel, the checks, code and configuration.
"""

_TEXT = """\
# Gates each checkpoint that a pull request adds or changes, or the one that "Run workflow" asks
# for. If checks, panel, code, images or configuration change, it gates the incumbent, too.
#
# It gates a network once: reference models, in @PANEL@, are no candidates, and neither is an
# incumbent with the network of a checkpoint that was gated, which `stress-harness accept` copies.
#
# The test images must be in the repository, or a step before the gate fetches them. Failing checks
# are annotations of the pull request, their table is on the job's page, and the reports with
# pictures are an artifact. Exit status 1 means that a checkpoint is worse, 4 that a run is
# inconclusive.
#
# If your package index lacks the harness, name the path or the address of its wheel instead.
# requirements.txt names what your data and models need besides, such as stress-harness[onnx].
name: Model quality gate

on:
  pull_request:@PATHS@
  workflow_dispatch:
    inputs:
      candidate:
        description: Path of the checkpoint to gate
        required: true@DEFAULT@

permissions:
  contents: read

jobs:
  gate:
    runs-on: ubuntu-latest
    timeout-minutes: 60
    env:
      BASE: ${{ github.event.pull_request.base.sha }}
      CANDIDATE: @CANDIDATE@
      PIP_EXTRA_INDEX_URL: https://download.pytorch.org/whl/cpu
    steps:
      - uses: actions/checkout@v4
        with:
          fetch-depth: 0
          lfs: true
      - uses: actions/setup-python@v5
        with:
          python-version: "@PYTHON@"
      - name: Install
        run: |
          pip install @HARNESS@
          if [ -f requirements.txt ]; then pip install -r requirements.txt; fi
          if [ -f setup.py ] || grep -qs build-system pyproject.toml; then pip install .; fi
      - name: Gate
        run: |
          changed="$(mktemp)"
          if [ -n "$CANDIDATE" ]; then
            printf '%s\\0' "$CANDIDATE" > "$changed"
          else
            since="${BASE:?is the base of a pull request}...HEAD"
            touched="$(mktemp)"
            git diff --name-only --no-renames --diff-filter=d -z "$since" -- @PATTERNS@ > "$touched"
            others="$(git diff --name-only "$since" -- @OTHERS@)"
            incumbent="models/$(sed -n 's/^file = "\\(.*\\)"$/\\1/p' models/incumbent.toml || true)"
            grep -vzxF -e "$incumbent" "$touched" > "$changed" || true
            if grep -qzxF -e "$incumbent" "$touched" ||
              { [ -n "$others" ] && [ "$incumbent" != models/ ] && [ "$incumbent" != models/none ]; }; then
              printf '%s\\0' "$incumbent" >> "$changed"  # The last one, so that its network may have been gated.
            fi
          fi
          mapfile -d '' -t checkpoints < "$changed"
          if [ "${#checkpoints[@]}" -eq 0 ]; then
            said="No candidate (@SUFFIXES@) is added or changed. Nothing was gated."
            echo "::notice title=Model quality gate::$said"
            mkdir -p reports && echo "$said" > reports/stress.md
            exit 0
          fi
          printf 'to gate: %q\\n' "${checkpoints[@]}"
          holds_the_incumbent() {  # Whether a record of these is of a candidate with the incumbent's network.
            python -c '
          import json, sys
          for path in sys.argv[1:]:
              with open(path, encoding="utf-8") as file:
                  record = json.load(file)
              candidate, incumbent = ((record.get(role) or {}).get("sha256") for role in ("candidate", "incumbent"))
              if candidate and candidate == incumbent:
                  sys.exit(0)
          sys.exit(1)' "$@"
          }
          status=0
          number=0
          records=()
          for checkpoint in "${checkpoints[@]}"; do
            if [ "$checkpoint" = "${incumbent:-}" ] && holds_the_incumbent "${records[@]}"; then
              printf '%q holds the network of a checkpoint that was gated\\n' "$checkpoint"
              continue
            fi
            number=$((number + 1))
            reports=reports
            if [ "${#checkpoints[@]}" -gt 1 ]; then reports="reports/$number-${checkpoint//[^A-Za-z0-9._-]/-}"; fi
            code=0
            stress-harness gate stress_tests --candidate="$checkpoint" --stress-reports="$reports" -n auto || code=$?
            printf 'exit status %s of %q, reports in %s\\n' "$code" "$checkpoint" "$reports"
            if [ "$code" -gt "$status" ]; then status=$code; fi
            if [ -f "$reports/stress.json" ]; then records+=("$reports/stress.json"); fi
          done
          exit "$status"
      - name: Job summary
        if: always()
        run: |
          for report in reports/stress.md reports/*/stress.md; do
            if [ -f "$report" ]; then  # Without the picture, whose file is in the artifact.
              sed '/^<img src="/d' "$report" >> "$GITHUB_STEP_SUMMARY"
            fi
          done
      - name: Upload the reports
        if: always()
        uses: actions/upload-artifact@v4
        with:
          name: stress-reports
          path: reports
          if-no-files-found: warn
"""  # noqa: E501 - commands of a shell, one a line


def workflow(model: ModelSettings, checkpoint: Path | str | None) -> str:
    """Return a workflow for the repository in this folder.

    It uses this version of Python and of the harness. The repository's packages come from its
    requirements and its own package.

    Args:
        model: Settings of models and data.
        checkpoint: A checkpoint in the repository becomes the default of "Run workflow". A
            predictor has no file that could change, so that each pull request gates it.
    """
    is_predictor = isinstance(checkpoint, str)
    candidate = _candidate(checkpoint)
    suffixes = SUFFIXES
    if candidate and not is_predictor:
        own_suffix = re.findall(r"\.[A-Za-z0-9]+$", candidate)
        suffixes = tuple(dict.fromkeys([*own_suffix, *SUFFIXES]))
    others = [*_OTHERS, *_data_patterns(model)]

    values = {
        "PATHS": "",
        "DEFAULT": "",
        "CANDIDATE": "${{ inputs.candidate }}",
        "PATTERNS": " ".join(
            [*(f"'*{suffix}'" for suffix in suffixes), f"':(exclude,glob){_PANEL}/**'"]
        ),
        "PANEL": _PANEL,
        "SUFFIXES": ", ".join(suffixes),
        "OTHERS": shlex.join([_pathspec(pattern) for pattern in others]),
        "HARNESS": f"stress-harness=={version('stress-harness')}",
        "PYTHON": f"{sys.version_info.major}.{sys.version_info.minor}",
    }
    if candidate:
        values["DEFAULT"] = f"\n        default: {json.dumps(candidate, ensure_ascii=False)}"
    if is_predictor:
        # An expression doubles each quote.
        quoted = "'" + (candidate or "").replace("'", "''") + "'"
        values["CANDIDATE"] = f"${{{{ inputs.candidate || {quoted} }}}}"
    else:
        patterns = [*(f"**{suffix}" for suffix in suffixes), *others]
        lines = [f"\n      - {json.dumps(pattern)}" for pattern in patterns]
        values["PATHS"] = "\n    paths:" + "".join(lines)
    return re.sub(r"@([A-Z]+)@", lambda mark: values[mark[1]], _TEXT)


def _candidate(checkpoint: Path | str | None) -> str | None:
    """Return the predictor, or the path of a checkpoint in the repository; None for another one."""
    if not isinstance(checkpoint, Path):
        return checkpoint
    path = checkpoint.resolve()
    root = Path.cwd()
    if not path.is_relative_to(root):
        return None
    return path.relative_to(root).as_posix()


def _data_patterns(model: ModelSettings) -> list[str]:
    """Return the patterns of the images, if they are in the repository."""
    data = model.data.partition(":")[2]
    if not data or Path(data).is_absolute() or not Path(data).exists():
        return []
    return [data, f"{data}/**"]


def _pathspec(pattern: str) -> str:
    """Return the pattern of a workflow as one of git."""
    if "/" in pattern:
        return f":(glob){pattern}"
    return pattern.replace("**", "*")
