"""Outcomes and verdicts made up, for tests of what follows from them."""

from dataclasses import fields, replace
from pathlib import Path

from harness.base.files import read_regular
from harness.checks import Check, Threshold, Verdict
from harness.report.refusal import mark_of_page, mark_of_summary
from harness.run.outcome import Outcome, RunFacts, RunInputs
from harness.run.results import Results
from harness.run.status import MAX_BYTES, PAGE, SUMMARY, report_in

EMPTY = Outcome(
    RunFacts(
        command="pytest stress_tests",
        profile="default",
        versions={"python": "3", "torch": "2", "hypothesis": "6", "harness": "0"},
    ),
    RunInputs(
        models={
            "candidate": {
                "path": "c.safetensors",
                "sha256": "c" * 64,
                "architecture": "fashion-cnn",
            },
            "baseline": {
                "path": "b.safetensors",
                "sha256": "b" * 64,
                "architecture": "fashion-cnn",
            },
        },
        data={"name": "fashion-mnist", "split": "test", "sha256": "d" * 64, "n": 10_000},
        recipe={},
        checks_sha256="e" * 64,
    ),
    Results(verdicts=(), errors=(), omissions=(), failed_tests=()),
)


def outcome_with(outcome: Outcome, **facts) -> Outcome:
    """Return an outcome with other facts.

    Each goes to the record of the outcome with a field of its name.
    """
    groups = {}
    for group in ("run", "inputs", "results", "findings", "images"):
        record = getattr(outcome, group)
        own = {item.name: facts.pop(item.name) for item in fields(record) if item.name in facts}
        groups[group] = replace(record, **own)
    return replace(outcome, **groups, **facts)


def verdict(
    status: str,
    name: str = "clean",
    *,
    family: str = "clean",
    value: float = 0.8,
    threshold=0.85,
    std=None,
) -> Verdict:
    """Return a verdict as a check gives it; a status other than pass or fail has no threshold."""
    reason = "few models" if status == "informational" else ""
    check = Check(
        name, family, "accuracy", informational=reason, panel=Threshold(threshold, std=std)
    )
    if status in {"error", "not_applicable"}:
        return check.unjudged(status, "")
    measured = Verdict(check, status, "accuracy", value=value, n=100, interval=(0.7, 0.9))
    return measured if status == "informational" else replace(measured, threshold=threshold)


PASS, FAIL = verdict("pass", "good", value=0.9), verdict("fail", "bad")
REPORTED, MISSING = verdict("informational", "shown"), verdict("not_applicable", "absent")
BROKEN = verdict("error", "broken")

OLD_REPORTS = {
    "stress.html": "<!DOCTYPE html><title>Model quality gate</title>an earlier run: PASS",
    "stress.json": '{"schema": 2, "verdict": "pass", "headline": "an earlier run: PASS"}',
    "stress.md": "## Model quality gate: an earlier run: PASS",
}
"""Reports of an earlier run, by their names."""


def leave_old_reports(folder) -> None:
    """Leave the reports of an earlier run in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in OLD_REPORTS.items():
        (folder / name).write_text(text)


def agreed_verdict(folder: Path, *, run: str) -> str:
    """Return the verdict that all three reports of this run carry.

    Empty if one is missing or differs.
    """
    report = report_in(folder)
    verdict = str(report.get("verdict", ""))
    marks = {SUMMARY: mark_of_summary(run, verdict), PAGE: mark_of_page(run, verdict)}
    try:
        told = (
            mark.encode() in read_regular(folder / name, max_bytes=MAX_BYTES)
            for name, mark in marks.items()
        )
        return verdict if report.get("run") == run and all(told) else ""
    except OSError:
        return ""
