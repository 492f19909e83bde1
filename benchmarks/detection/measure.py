"""Run the gate on each checkpoint as a user would, and keep what it measured."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.detection.jobs import Job, python, run_jobs, say
from benchmarks.detection.make import DIVERGED, is_made, read_facts
from benchmarks.detection.mutants import BY_ID, Mutant
from benchmarks.detection.paths import BASELINE, CHECKS, QUICK_CHECKS, QUICK_RESULTS, RESULTS
from benchmarks.detection.results import MEASURED, Result, read_result, write_result
from benchmarks.runner import processor, read
from harness.base.files import hash_of_file
from harness.checks import Check, read_checks
from harness.run.inner import execute
from harness.run.request import RunRequest

_CLEAN = "clean"


def _kept_results(
    made: Sequence[Mutant],
    folder: Path,
    results: Path,
    checks: Sequence[Check],
    baseline_sha256: str,
) -> tuple[list[Mutant], dict[str, Result]]:
    """Return the mutants that lack a row, and the kept results of today's checkpoints by id.

    A diverged training leaves no network to gate, and gets its result here.
    """
    waiting: list[Mutant] = []
    known: dict[str, Result] = {}
    for mutant in made:
        facts = read_facts(mutant, folder)
        kept = read_result(mutant.id, results)
        if facts.pop("outcome", None) == DIVERGED:
            result = Result.of(mutant, DIVERGED, facts)
            if kept != result:
                write_result(result, results)
            continue

        today = (hash_of_file(mutant.checkpoint(folder)), baseline_sha256)
        if kept and (kept.checkpoint_sha256, kept.baseline_sha256) == today:
            known[mutant.id] = kept
        if mutant.id not in known or known[mutant.id].missing(checks):
            waiting.append(mutant)
    return waiting, known


def measure_all(
    mutants: Sequence[Mutant],
    folder: Path,
    *,
    side_by_side: int,
    quick: bool = False,
    results: Path | None = None,
) -> bool:
    """Measure the mutants that are made and have no result of today.

    Returns whether all of them then have one.

    The gate runs by pytest on all images; if `quick`, in the quick profile. Of a result that lacks
    rows, such as those that are new in the checks file, these alone are measured.
    """
    checks = checks_of_today(quick=quick)
    results = results or (QUICK_RESULTS if quick else RESULTS)
    baseline_sha256 = hash_of_file(BASELINE)
    made = [mutant for mutant in mutants if is_made(mutant, folder)]
    waiting, known = _kept_results(made, folder, results, checks, baseline_sha256)
    total = len(waiting)
    elsewhere = [mutant for mutant in mutants if mutant not in made]
    done = sum(is_measured(mutant, quick=quick, results=results) for mutant in elsewhere)
    measured = len(made) - total + done
    say(
        f"{measured} of {len(mutants)} mutants have a result with every row ({done} without a "
        f"checkpoint here); {total} to measure, {len(elsewhere) - done} to make first"
    )
    failed: list[str] = []

    def take() -> Job | None:
        if not waiting:
            return None
        mutant = waiting.pop(0)
        reports = folder / ("reports-quick" if quick else "reports") / mutant.id
        shutil.rmtree(
            reports, ignore_errors=True
        )  # An old stress.json must not pass as this run's.
        options = [
            "stress_tests",
            "--candidate",
            str(mutant.checkpoint(folder)),
            "--incumbent",
            "none",
        ]
        # Without pytest's cache, which belongs to the runs of people in this folder.
        options += [
            "--stress-reports",
            str(reports),
            "-p",
            "no:html",
            "-p",
            "no:cacheprovider",
            "-q",
        ]
        options += ["--stress-profile", "quick"] if quick else []
        whole = python("-m", "pytest", *options)
        if kept := known.get(mutant.id):
            request = RunRequest(record=frozenset(kept.missing(checks)), options=tuple(options))
            asked = reports.with_suffix(".request.json")
            asked.parent.mkdir(parents=True, exist_ok=True)
            asked.write_text(json.dumps(request.plain))
            whole = python("-m", "benchmarks.detection", "rows", str(asked), str(reports))
        return Job(mutant.id, whole, reports / "output.txt")

    def finish(job: Job, status: int) -> str:
        mutant, stress = BY_ID[job.id], read(job.log.parent / "stress.json", {"checks": []})
        result = measured_result(mutant, read_facts(mutant, folder), stress, exit_status=status)
        if kept := known.get(job.id):
            result = kept.with_rows_of(result)
        missing = result.missing(checks)
        if missing or result.clean_accuracy is None:
            failed.append(job.id)
            return (
                f"FAILED, exit status {status}, {len(missing)} rows not measured "
                f"({job.last_line}; {job.log})"
            )
        write_result(result, results)
        return f"exit status {result.exit_status}, clean accuracy {result.clean_accuracy:.4f}"

    run_jobs(take, finish, total=total, cost=total, side_by_side=side_by_side)
    named = f"; failed: {', '.join(failed)}" if failed else ""
    say(f"{measured + total - len(failed)} of {len(mutants)} mutants have a result{named}")
    return not failed


def measure_rows(request: Path, reports: Path) -> bool:
    """Measure the rows of a request as JSON, without a verdict.

    The folder of reports gets the output of the run.
    """
    result = execute(RunRequest(**json.loads(request.read_text())), on_line=print)
    reports.mkdir(parents=True, exist_ok=True)
    (reports / "stress.json").write_text(json.dumps(result.report or {"checks": []}))
    return result.report is not None


def is_measured(mutant: Mutant, *, quick: bool, results: Path | None = None) -> bool:
    """Return whether the kept result of a mutant is complete.

    It then lacks no row of today's, and needs its checkpoint no more.
    """
    kept = read_result(mutant.id, results or (QUICK_RESULTS if quick else RESULTS))
    baseline_sha256 = str(hash_of_file(BASELINE))
    return kept is not None and kept.complete(
        checks_of_today(quick=quick), baseline_sha256=baseline_sha256
    )


@cache
def checks_of_today(*, quick: bool) -> tuple[Check, ...]:
    """Return the checks of a profile's checks file."""
    return tuple(read_checks(QUICK_CHECKS if quick else CHECKS).checks)


def measured_result(
    mutant: Mutant, facts: Mapping[str, Any], stress: Mapping[str, Any], *, exit_status: int
) -> Result:
    """Return the result that a `stress.json` holds.

    A row that ended in an error counts as not measured.
    """
    rows = {
        row["id"]: row["value"]
        for row in stress["checks"]
        if row["role"] == "candidate" and row["status"] != "error"
    }
    return Result.of(
        mutant,
        MEASURED,
        facts,
        checkpoint_sha256=(stress.get("candidate") or {}).get("sha256"),
        baseline_sha256=(stress.get("baseline") or {}).get("sha256"),
        checks_sha256=stress.get("checks_sha256"),
        versions={**stress.get("versions", {}), "processor": processor()},
        clean_accuracy=rows.get(_CLEAN),
        exit_status=exit_status,
        rows=rows,
    )
