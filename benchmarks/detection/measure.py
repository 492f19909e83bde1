"""Run the gate on each checkpoint as a user would, and keep what it measured."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from benchmarks.detection.jobs import Job, last_line, python, run_jobs, say
from benchmarks.detection.machine import processor
from benchmarks.detection.make import DIVERGED, checkpoint_path, is_made, read_facts
from benchmarks.detection.mutants import Mutant, mutant_of
from benchmarks.detection.paths import BASELINE, CHECKS, QUICK_CHECKS, QUICK_RESULTS, RESULTS, sha256_of
from benchmarks.detection.results import MEASURED, Result, read_result, write_result
from harness.checks import read_checks
from harness.run.execute import command_to_start, hand_over
from harness.run.request import RunRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from harness.checks import Check


_CLEAN = "clean"


def measure_all(
    mutants: Sequence[Mutant],
    folder: Path,
    *,
    side_by_side: int,
    quick: bool = False,
    results: Path | None = None,
    command: Callable[[Path, Path], tuple[str, ...]] | None = None,
) -> bool:
    """Measure the mutants that are made and have no result of today; returns whether all of them then have one.

    Of a result that lacks rows, such as those that are new in the checks file, these alone are measured. `command` runs
    the gate on a checkpoint with a folder for its reports (default: pytest on all images; if `quick`, in the quick
    profile).
    """
    checks = read_checks(QUICK_CHECKS if quick else CHECKS)
    results = results or (QUICK_RESULTS if quick else RESULTS)
    command = command or (_quick_command if quick else _command)
    made = [mutant for mutant in mutants if is_made(mutant, folder)]
    baseline_sha256 = sha256_of(BASELINE)
    waiting: list[Mutant] = []
    known: dict[str, Result] = {}
    for mutant in made:
        facts, kept = read_facts(mutant, folder), read_result(mutant.id, results)
        if facts.get("outcome") == DIVERGED:
            if kept != (result := diverged(mutant, facts)):
                write_result(result, results)
            continue
        of_these_files = (sha256_of(checkpoint_path(mutant, folder)), baseline_sha256)
        if kept and (kept.checkpoint_sha256, kept.baseline_sha256) == of_these_files:
            known[mutant.id] = kept
        if mutant.id not in known or known[mutant.id].missing(checks.checks):
            waiting.append(mutant)
    total = len(waiting)
    elsewhere = [mutant for mutant in mutants if mutant not in made]
    done = sum(is_measured(mutant, checks.checks, results, baseline_sha256=baseline_sha256) for mutant in elsewhere)
    measured, unmade = len(made) - total + done, len(elsewhere) - done
    say(
        f"{measured} of {len(mutants)} mutants have a result with every row ({done} without a checkpoint here); "
        f"{total} to measure, {unmade} to make first"
    )
    failed: list[str] = []

    def take() -> Job | None:
        if not waiting:
            return None
        mutant = waiting.pop(0)
        reports = folder / ("reports-quick" if quick else "reports") / mutant.id
        shutil.rmtree(reports, ignore_errors=True)  # An old stress.json must not pass as this run's.
        whole = command(checkpoint_path(mutant, folder), reports)
        if kept := known.get(mutant.id):
            asked = RunRequest(record=frozenset(kept.missing(checks.checks)))
            path = hand_over(asked, reports.with_suffix(".request.json"))
            whole = tuple(command_to_start(path, whole[whole.index("pytest") + 1 :]))
        return Job(mutant.id, whole, reports / "output.txt")

    def finish(job: Job, status: int) -> str:
        mutant, path = mutant_of(job.id), job.log.parent / "stress.json"
        stress = json.loads(path.read_bytes()) if path.exists() else {"checks": []}
        result = measured_result(mutant, read_facts(mutant, folder), stress, exit_status=status)
        if kept := known.get(job.id):
            result = kept.with_rows_of(result)
        missing = result.missing(checks.checks)
        if missing or result.clean_accuracy is None:
            failed.append(job.id)
            unmeasured = f"{len(missing)} rows not measured"
            return f"FAILED, exit status {status}, {unmeasured} ({last_line(job.log)}; {job.log})"
        write_result(result, results)
        return f"exit status {result.exit_status}, clean accuracy {result.clean_accuracy:.4f}"

    run_jobs(take, total=total, cost=total, side_by_side=side_by_side, finish=finish, say=say)
    say(f"{measured + total - len(failed)} of {len(mutants)} mutants have a result" + _named("; failed: ", failed))
    return not failed


def is_measured(mutant: Mutant, checks: Iterable[Check], results: Path, *, baseline_sha256: str) -> bool:
    """Return whether the kept result of a mutant lacks no row, and needs its checkpoint no more."""
    kept = read_result(mutant.id, results)
    return kept is not None and kept.complete(checks, baseline_sha256=baseline_sha256)


def measured_result(mutant: Mutant, facts: Mapping[str, Any], stress: Mapping[str, Any], *, exit_status: int) -> Result:
    """Return the result that a `stress.json` holds; a row that ended in an error counts as not measured."""
    rows = {
        row["id"]: row["value"] for row in stress["checks"] if row["role"] == "candidate" and row["status"] != "error"
    }
    return Result(
        id=mutant.id,
        kind=mutant.kind,
        strength=mutant.strength,
        words=mutant.words,
        seed=mutant.seed,
        outcome=MEASURED,
        recipe=facts,
        checkpoint_sha256=(stress.get("candidate") or {}).get("sha256"),
        baseline_sha256=(stress.get("baseline") or {}).get("sha256"),
        checks_sha256=stress.get("checks_sha256"),
        versions={**stress.get("versions", {}), "processor": processor()},
        clean_accuracy=rows.get(_CLEAN),
        exit_status=exit_status,
        rows=rows,
    )


def diverged(mutant: Mutant, facts: Mapping[str, Any]) -> Result:
    """Return the result of a mutant with a diverged training, which leaves nothing to gate."""
    recipe = {name: value for name, value in facts.items() if name != "outcome"}
    return Result(mutant.id, mutant.kind, mutant.strength, mutant.words, mutant.seed, DIVERGED, recipe)


def _command(checkpoint: Path, reports: Path) -> tuple[str, ...]:
    options = ("--candidate", str(checkpoint), "--incumbent", "none", "--stress-reports", str(reports))
    # Without pytest's cache, which belongs to the runs of people in this folder.
    return python("-m", "pytest", "stress_tests", *options, "-p", "no:html", "-p", "no:cacheprovider", "-q")


def _quick_command(checkpoint: Path, reports: Path) -> tuple[str, ...]:
    return (*_command(checkpoint, reports), "--stress-profile", "quick")


def _named(prefix: str, names: Sequence[str]) -> str:
    return prefix + ", ".join(names) if names else ""
