"""Clauses beside the record of a run: what covers each, and what does not count."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from harness.features.evidence import TABLE
from harness.features.evidence.claim import claim_of
from harness.features.evidence.clauses import CLAUSES, DECLARED_ACCURACY
from harness.features.evidence.declared import DeclaredFacts
from harness.run.margins import margin

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.checks import Verdict
    from harness.features.evidence.claim import AccuracyClaim
    from harness.features.evidence.clauses import Clause
    from harness.run.outcome import Outcome

Status = Literal["covered", "covered in part", "tested and failed", "declared", "not covered"]
_UNKNOWN = ("unknown", "of unknown origin", "by hand")
"""Beginnings of texts in a record that say that a fact is not known."""
_OTHER_MODELS = ("baseline.sha256", "incumbent.sha256")
"""Models that the candidate is compared with; a comparison with itself says nothing."""
WITHOUT_VERDICT = "the run has no verdict, so its record shows a refusal and no test result"
"""Why the record of a run that refused covers no clause."""


@dataclass(frozen=True)
class AssessedClause:
    """A clause with its evidence.

    `judged` are the verdicts that count. `not_counted` has the ids of other checks by the reason.
    `fields` has the known values of the record by their paths. `missing` says what the clause lacks
    for full cover.
    """

    clause: Clause
    status: Status
    judged: tuple[Verdict, ...] = ()
    not_counted: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    comparison: str = ""

    @property
    def failing(self) -> tuple[str, ...]:
        """Return the ids of the judged checks that fail."""
        return tuple(verdict.check.id for verdict in self.judged if verdict.status == "fail")

    @property
    def closest(self) -> tuple[Verdict, ...]:
        """Return the verdict of each family that is nearest to failing."""
        by_family: dict[str, Verdict] = {}
        for verdict in sorted(self.judged, key=lambda verdict: margin(verdict) or 0.0):
            by_family.setdefault(verdict.check.family, verdict)
        families = [family for family in self.clause.families if family in by_family]
        return tuple(by_family[family] for family in families)


@dataclass(frozen=True)
class Assessment:
    """Rows for all clauses, the limits of the run that every reader must know, and the claim."""

    rows: tuple[AssessedClause, ...]
    limits: tuple[str, ...]
    claim: AccuracyClaim | None = None

    def count(self, status: Status) -> int:
        """Return the number of clauses with a status."""
        return sum(row.status == status for row in self.rows)


def assessment_of(outcome: Outcome | None, plain: Mapping[str, Any]) -> Assessment:
    """Return the assessment of a run.

    Args:
        outcome: The outcome in the record; None for a refusal.
        plain: The content of the record, in plain types.
    """
    if outcome is None or outcome.verdict == "error":
        return _of_a_refusal(plain)

    limits = _limits(outcome)
    declared = outcome.part(DeclaredFacts)
    claim = None
    if declared is not None and declared.declared_accuracy is not None:
        claim = claim_of(declared.declared_accuracy, outcome)
    rows = tuple(_row(clause, outcome, plain, limits, claim) for clause in CLAUSES)
    return Assessment(rows, limits, claim)


def _of_a_refusal(plain: Mapping[str, Any]) -> Assessment:
    reasons = tuple(f"refused: {reason}" for reason in plain["errors"])
    rows = tuple(
        AssessedClause(clause, "not covered", missing=(WITHOUT_VERDICT,)) for clause in CLAUSES
    )
    return Assessment(rows, (WITHOUT_VERDICT, *reasons))


def _limits(outcome: Outcome) -> tuple[str, ...]:
    """Return why checks of a run cover less than those of a whole one."""
    results = outcome.results
    limits = [f"partial run: {omission}" for omission in results.omissions]
    if outcome.verdict == "partial" and not limits:
        limits.append("partial run: a sample leaves checks open")
    if outcome.run.stopped:
        limits.append(f"the run {outcome.run.stopped}")
    if outcome.run.scope:
        limits.append(outcome.run.scope)
    if results.provisional:
        limits.append("thresholds are provisional: they come from one or two reference models")
    limits += [f"self-check {check.name} fails" for check in outcome.findings.unsound]
    limits += outcome.cautions
    return tuple(limits)


def _row(
    clause: Clause,
    outcome: Outcome,
    plain: Mapping[str, Any],
    limits: Sequence[str],
    claim: AccuracyClaim | None,
) -> AssessedClause:
    judged, not_counted = _checks_of(clause, outcome)
    known, missing = _fields_of(clause, plain)
    judged_families = {verdict.check.family for verdict in judged}
    for family in clause.families:
        if family not in judged_families:
            missing.append(f"no judged check of family {family}")
    if clause.families:
        missing += limits
    if clause.gap:
        missing.append(clause.gap)

    status = _status(clause, judged, known, missing)
    comparison = ""
    if claim is not None and DECLARED_ACCURACY in clause.fields:
        comparison = claim.in_words
        status = _status_of_claim(claim)
    return AssessedClause(
        clause,
        status,
        judged=tuple(judged),
        not_counted=not_counted,
        fields=known,
        missing=tuple(missing),
        comparison=comparison,
    )


def _fields_of(clause: Clause, plain: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the known fields of a clause by their paths, and what is missing among all."""
    known = {}
    missing = []
    for path in clause.fields:
        value = value_at(plain, path)
        if not is_known(value):
            missing.append(f"no value of {path}")
        elif path in _OTHER_MODELS and value == value_at(plain, "candidate.sha256"):
            missing.append(f"{path} is that of the candidate")
        else:
            known[path] = value
    if "environment.commit" in known and value_at(plain, "environment.is_changed"):
        missing.append("environment.commit does not have the files as they were: some had changes")
    return known, missing


def _status(
    clause: Clause,
    judged: Sequence[Verdict],
    known: Mapping[str, Any],
    missing: Sequence[str],
) -> Status:
    if any(verdict.status == "fail" for verdict in judged):
        return "tested and failed"
    if clause.families and not judged:
        return "not covered"
    if not judged and not known:
        return "not covered"
    if not judged and all(path.startswith(f"{TABLE}.") for path in known):
        return "declared"
    return "covered in part" if missing else "covered"


def _status_of_claim(claim: AccuracyClaim) -> Status:
    """Return the status of a clause on declared accuracy, which a run covers in part at best."""
    if claim.ruling == "contradicted":
        return "tested and failed"
    return "declared" if claim.ruling == "not measured" else "covered in part"


def _checks_of(
    clause: Clause, outcome: Outcome
) -> tuple[list[Verdict], dict[str, tuple[str, ...]]]:
    """Return the verdicts that count for a clause, and the other checks by the reason."""
    judged: list[Verdict] = []
    others: dict[str, tuple[str, ...]] = {}
    for verdict in outcome.results.verdicts:
        if verdict.check.family not in clause.families:
            continue
        reason = _why_not_counted(verdict, outcome)
        if reason:
            others[reason] = (*others.get(reason, ()), verdict.check.id)
        else:
            judged.append(verdict)
    return judged, others


def _why_not_counted(verdict: Verdict, outcome: Outcome) -> str:
    """Return why a verdict is no evidence about the candidate; empty if it is."""
    if not verdict.judged:
        return verdict.status.replace("_", " ")
    if verdict.check.role != "candidate":
        return f"about the {verdict.check.role}"
    if any(check.doubts(verdict) for check in outcome.findings.unsound):
        return "in doubt by a self-check"
    return ""


def value_at(plain: Any, path: str) -> Any:
    """Return the value at a path into a record, such as `data.sha256`; None if it is not there."""
    for name in path.split("."):
        if not isinstance(plain, dict) or name not in plain:
            return None
        plain = plain[name]
    return plain


def is_known(value: Any) -> bool:
    """Return whether a value of a record says anything."""
    if isinstance(value, str):
        return bool(value.strip()) and not value.startswith(_UNKNOWN)
    if isinstance(value, bool | float):
        return True
    return bool(value)
