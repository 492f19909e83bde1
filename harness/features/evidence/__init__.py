"""Evidence: which clauses on testing the record of a run covers, and which it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.base.features import Command

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.features.evidence.declared import DeclaredFacts
    from harness.run.session import StressSession

TABLE = "evidence"
"""The name of the table in a checks file, and the key of its record in `stress.json`."""


def stress_commands() -> dict[str, Command]:
    return {
        "evidence": Command(
            "Gate",
            "harness.features.evidence.command",
            "Say which clauses on testing the record of a run covers.",
        )
    }


def stress_tables() -> dict[str, Callable[[], type[DeclaredFacts]]]:
    return {TABLE: _declared_facts}


def stress_record_types() -> dict[str, Callable[[], type[DeclaredFacts]]]:
    return {TABLE: _declared_facts}


def _declared_facts() -> type[DeclaredFacts]:
    from harness.features.evidence.declared import DeclaredFacts

    return DeclaredFacts


def stress_run_records(session: StressSession) -> dict[str, DeclaredFacts] | None:
    facts = session.checks.tables.get(TABLE)
    return {TABLE: facts} if facts else None
