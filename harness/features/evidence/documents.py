"""An assessment as Markdown for people, and as JSON for tools."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from harness.base.errors import some_of
from harness.base.markdown import code, plain
from harness.base.outputs import OutputKind
from harness.base.records import as_plain
from harness.features.evidence.assessment import Status
from harness.report.wording import measured_and_required

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.checks import Verdict
    from harness.features.evidence.assessment import AssessedClause, Assessment

STATUSES: tuple[Status, ...] = get_args(Status)
"""Every status of a clause, from full cover to none."""
TITLE = "# Evidence of a gate run"
KIND = "evidence of stress-harness"
MARKDOWN = OutputKind("a page of evidence", rb"# Evidence of a gate run\n")
JSON = OutputKind("evidence as JSON", rb'\s*\{\s*"kind"\s*:\s*"evidence of stress-harness"')
_LONGEST = 100
"""Characters of a value in a cell."""
_NOTE = (
    "This page lists which clauses on testing the record of a run has evidence for. It is no "
    "assessment of conformity, and no legal advice. Clauses are paraphrased in our own words; read "
    "the originals. A check counts only if it judged the candidate by a threshold. A pass by a "
    "threshold of reference models means that the candidate is no worse than these, not that it is "
    "good enough for its purpose."
)
_MEANINGS = {
    "covered": "Every family of checks and every field that the row names is there.",
    "covered in part": "Some of it is there; the last column names the rest.",
    "tested and failed": "There is a test, and the model fails it.",
    "declared": "A person declared it in the table `[evidence]`; nothing measured it.",
    "not covered": "The record has nothing for it.",
}


@dataclass(frozen=True)
class RecordFile:
    """The name and the content of the file with a record."""

    name: str
    content: bytes

    @property
    def sha256(self) -> str:
        """Return the SHA-256 of the content."""
        return hashlib.sha256(self.content).hexdigest()


def as_json(assessment: Assessment, record: Mapping[str, Any], file: RecordFile) -> bytes:
    """Return the assessment of a record, which this file has, as JSON."""
    document = {
        "kind": KIND,
        "schema": 1,
        "record": {"name": file.name, "sha256": file.sha256},
        **_facts(record),
        "limits": assessment.limits,
        "accuracy": as_plain(assessment.claim),
        "rows": [_row_as_json(row) for row in assessment.rows],
    }
    return (json.dumps(document, indent=1, default=str) + "\n").encode()


def _facts(record: Mapping[str, Any]) -> dict[str, Any]:
    names = ("run", "day", "verdict", "headline", "candidate", "data", "evidence")
    return {name: record.get(name) for name in names}


def _row_as_json(row: AssessedClause) -> dict[str, Any]:
    return {
        "source": row.clause.source,
        "clause": row.clause.number,
        "paraphrase": row.clause.paraphrase,
        "status": row.status,
        "judged": [_verdict_as_json(verdict) for verdict in row.judged],
        "failing": row.failing,
        "not_counted": dict(row.not_counted),
        "fields": {path: shortened(value) for path, value in row.fields.items()},
        "comparison": row.comparison,
        "missing": row.missing,
    }


def _verdict_as_json(verdict: Verdict) -> dict[str, Any]:
    return {
        "id": verdict.check.id,
        "family": verdict.check.family,
        "metric": verdict.metric,
        "status": verdict.status,
        "value": verdict.value,
        "threshold": verdict.threshold,
        "provenance": verdict.check.provenance,
        "n": verdict.out_of,
        "interval": verdict.interval,
    }


def as_markdown(assessment: Assessment, record: Mapping[str, Any], file: RecordFile) -> bytes:
    """Return the assessment of a record, which this file has, as Markdown."""
    candidate = record["candidate"] or {}
    lines = [
        TITLE,
        "",
        _NOTE,
        "",
        f"- record: {code(file.name)}, SHA-256 {code(file.sha256)}",
        f"- run: {code(record['run'])} on {plain(record['day'])}",
        f"- candidate: {code(str(candidate.get('path', '')))}, SHA-256 "
        f"{code(str(candidate.get('sha256', '')))}",
        f"- verdict: **{plain(record['headline'])}**",
    ]
    lines.append(f"- thresholds of the judged checks: {_thresholds(record)}")
    lines += [f"- notice: {plain(str(notice))}" for notice in record["notices"]]
    lines += [f"- limit: {plain(limit)}" for limit in assessment.limits]
    lines += ["", "| status | clauses | meaning |", "| --- | --- | --- |"]
    for status in STATUSES:
        lines.append(f"| {status} | {assessment.count(status)} | {_MEANINGS[status]} |")
    for source in dict.fromkeys(row.clause.source for row in assessment.rows):
        rows = [row for row in assessment.rows if row.clause.source == source]
        lines += ["", f"## {source}", "", *_table(rows)]
    return ("\n".join(lines) + "\n").encode()


def _thresholds(record: Mapping[str, Any]) -> str:
    """Return the number of judged checks by the origin of their thresholds."""
    origins = Counter(
        check["provenance"] for check in record["checks"] if check["status"] in {"pass", "fail"}
    )
    return ", ".join(f"{count} by {plain(str(name))}" for name, count in origins.items()) or "none"


def _table(rows: Sequence[AssessedClause]) -> list[str]:
    lines = [
        "| clause | asks to (our paraphrase) | status | what covers it | missing or not counted |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        status = row.status if row.status == "covered" else f"**{row.status}**"
        cells = (
            plain(row.clause.number),
            plain(row.clause.paraphrase),
            status,
            _evidence(row),
            _missing(row),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _evidence(row: AssessedClause) -> str:
    parts = []
    if row.comparison:
        parts.append(plain(row.comparison))
    if row.judged:
        passing = len(row.judged) - len(row.failing)
        parts.append(f"{passing} of {len(row.judged)} judged checks pass; closest to failing:")
    for verdict in row.closest:
        value, required = measured_and_required(verdict)
        check = f"{verdict.check.id}, {verdict.metric} {value}, required {required}"
        parts.append(plain(f"{verdict.check.family}: {check}, {verdict.out_of} images"))
    if row.failing:
        parts.append(f"failing: {_ids(row.failing)}")
    for path, value in row.fields.items():
        parts.append(f"{code(path)}: {plain(shortened(value))}")
    return "<br>".join(parts) or "–"


def _missing(row: AssessedClause) -> str:
    parts = [plain(item) for item in row.missing]
    for reason, ids in row.not_counted.items():
        parts.append(f"not counted, {plain(reason)}: {len(ids)} ({_ids(ids)})")
    return "<br>".join(parts) or "–"


def _ids(ids: Sequence[str]) -> str:
    return plain(some_of(ids))


def shortened(value: Any) -> str:
    """Return a value of a record as a short text: a list as its length if it is long."""
    if isinstance(value, list):
        text = ", ".join(str(item) for item in value)
        is_short = len(text) <= _LONGEST and not any(isinstance(item, dict) for item in value)
        return text if is_short else f"{len(value)} entries"
    if isinstance(value, dict):
        return "; ".join(f"{name}: {item}" for name, item in value.items())
    return str(value)
