"""The one promise that every run keeps.

Its exit status and its reports agree, and 0 is a pass of the named bytes.
"""

import hashlib
import json
from pathlib import Path

PASS, WORSE, INTERRUPTED, INCONCLUSIVE = 0, 1, 2, 4
_VERDICTS = {
    PASS: {"pass", "partial"},
    WORSE: {"fail", "partial"},
    INCONCLUSIVE: {"error", "partial"},
}
"""The verdicts that an exit status may have.

A partial one has the status of the checks that ran.
"""
ASK_NOTHING = {"--stress-plan", "--co", "-h", "--help"}
"""Options of runs that judge nothing on purpose."""


def violations(scenario, ended) -> list[str]:
    """Return what a run did that no run may do."""
    found = [f"input changed: {name}" for name in ended.changed]
    if ended.status is None:
        return [*found, "it hangs"]
    reports = ended.folder / ("elsewhere" if "--stress-reports" in scenario.options else "reports")
    said, wrong = _said(reports)
    if ended.status < 0 or ended.status == INTERRUPTED:
        return [*found, *_of_interrupted(scenario, ended, said)]
    found += [] if scenario.change in {"reports-gone", "reports-link"} else wrong
    if not reports.exists() and scenario.launcher == "pytest" and ended.status != PASS:
        return found  # pytest itself could not start, and had loaded no plugin.
    return [*found, *_of_ended(scenario, ended, said)]


def _of_ended(scenario, ended, said) -> list[str]:
    """Return what is wrong with a run that nobody interrupted."""
    if ended.status not in _VERDICTS:
        return [f"exit status {ended.status}"]
    verdict = None if said is None else said["verdict"]
    if asked_nothing(scenario):
        return [] if verdict in {None, "error"} else ["it judged, and was asked not to"]
    if verdict is None:
        return (
            []
            if ended.status == INCONCLUSIVE
            else [f"exit status {ended.status} without a verdict"]
        )
    if verdict not in _VERDICTS[ended.status]:
        return [f"exit status {ended.status} with the verdict {verdict}"]
    return _of_pass(scenario, ended, said) if ended.status == PASS else []


def asked_nothing(scenario) -> bool:
    """Return whether a run is asked to judge nothing."""
    return bool(ASK_NOTHING & set(scenario.options))


def _of_interrupted(scenario, ended, said) -> list[str]:
    """Return what is wrong with a run that a signal, a limit or another plugin ended."""
    if ended.status == INTERRUPTED and scenario.signal in {"", "SIGKILL"} and said is not None:
        return [f"exit status 2, and nobody interrupted it: {said['verdict']}"]
    ends = scenario.signal or scenario.limits
    if ended.status < 0 and not ends:
        return [f"ended by signal {-ended.status}"]
    # Whoever is killed after the verdict is written has judged.
    return [] if said is None or said["verdict"] != "pass" else _of_pass(scenario, ended, said)


def _of_pass(scenario, ended, said) -> list[str]:
    """Return what is wrong with a run that ends with 0."""
    found = []
    if scenario.launcher == "gate" and said["verdict"] != "pass":
        found.append("the command gate ends with 0, and the verdict is partial")
    judged = said["candidate"].get("sha256")
    if scenario.candidate != "good" and said["verdict"] == "pass":
        found.append(f"a pass of a candidate that is {scenario.candidate}")
    good = hashlib.sha256((ended.folder / "models/augmented.safetensors").read_bytes()).hexdigest()
    if scenario.candidate == "good" and judged != good:
        found.append("a pass of other bytes than the candidate's")
    return found


def _said(reports: Path) -> tuple[dict | None, list[str]]:
    """Return `stress.json`, None without one, and contradictions between the reports."""
    path = reports / "stress.json"
    if not path.exists():
        left = [name for name in ("stress.md", "stress.html") if (reports / name).exists()]
        return None, [f"{name} without stress.json" for name in left]
    said = json.loads(path.read_bytes())
    wrong = []
    for name in ("stress.md", "stress.html"):
        text = (reports / name).read_text("utf-8", "replace") if (reports / name).exists() else ""
        if not text:
            if said["verdict"] != "error" and name == "stress.md":
                wrong.append(f"no {name}")
        elif f"run: `{said['run']}`, verdict `{said['verdict']}`" not in text and not _marked(
            text, said
        ):
            wrong.append(f"{name} is of another run, or has another verdict")
    return said, wrong


def _marked(page: str, said) -> bool:
    return f'data-run="{said["run"]}" data-verdict="{said["verdict"]}"' in page
