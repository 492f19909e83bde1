"""A runner of GitHub's workflows and actions, as far as these need one.

The scripts of the steps, in a folder.
"""

import json
import os
import re
import stat
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
SHELL = ("bash", "--noprofile", "--norc", "-eo", "pipefail")
"""The shell of a step on Linux that names none."""


@dataclass
class Runner:
    """Executes the steps of a job as GitHub's runner does, with a `pip` that only records."""

    root: Path
    job: dict
    expressions: dict = field(default_factory=dict)
    """GitHub puts these in place of `${{ NAME }}` in variables; outputs of a step join them."""

    scripts: Path = Path(sys.executable).parent
    """The folder with `stress-harness`."""
    environment: dict = field(default_factory=dict)
    """Variables of the environment in place of those of this checkout."""

    def __post_init__(self) -> None:
        tools = self.root / "tools"
        tools.mkdir()
        (tools / "pip").write_text('#!/bin/sh\necho "$*" > "$PIP_WAS_ASKED"\n')
        (tools / "pip").chmod(stat.S_IRWXU)
        self.summary, self.asked = self.root / "summary.md", self.root / "asked.txt"
        self.outputs = self.root / "outputs.txt"
        self.summary.write_text("")
        self.output: dict[str, str] = {}
        self.statuses: dict[str, int] = {}
        self.environment = {
            **os.environ,
            **self._filled_in(self.job),
            "PATH": os.pathsep.join([str(tools), str(self.scripts), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "XDG_CACHE_HOME": str(self.root / "cache"),
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_STEP_SUMMARY": str(self.summary),
            "GITHUB_OUTPUT": str(self.outputs),
            "PIP_WAS_ASKED": str(self.asked),
            **self.environment,
        }

    def _filled_in(self, part: dict) -> dict[str, str]:
        """Return the variables of a job or a step."""
        return {name: self._filled(value) for name, value in part.get("env", {}).items()}

    def _filled(self, value: str) -> str:
        """Return a variable with its expression evaluated: a name, or else the text behind `||`."""
        found = re.fullmatch(r"\$\{\{ ([\w.-]+)(?: \|\| '(.*)')? \}\}", value)
        return (
            value
            if found is None
            else self.expressions.get(found[1]) or (found[2] or "").replace("''", "'")
        )

    def run(self) -> bool:
        """Run all steps that a runner would; return whether the job succeeds."""
        failed = False
        for step in self.job["steps"]:
            if "run" not in step or (failed and step.get("if") != "always()"):
                continue
            script = self.root / "step.sh"
            script.write_text(step["run"])
            self.outputs.write_text("")
            done = subprocess.run(
                [*SHELL, str(script)],
                cwd=self.root,
                env=self.environment | self._filled_in(step),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            self.output[step["name"]], self.statuses[step["name"]] = done.stdout, done.returncode
            for line in self.outputs.read_text().splitlines():
                name, _, value = line.partition("=")
                self.expressions[f"steps.{step['id']}.outputs.{name}"] = value
            failed |= done.returncode != 0
        return not failed

    def report(self, folder: str = "reports") -> dict:
        return json.loads((self.root / folder / "stress.json").read_text())
