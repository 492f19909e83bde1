"""Equivalence: an export, a quantized or a compiled copy predicts as its original."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.base.features import Command, Family

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.checks.first_checks import Row, StarterData
    from harness.report.page import Section
    from harness.run.feature_records import FeatureRecord
    from harness.run.mutants import Finding, Judge
    from harness.run.outcome import Outcome
    from harness.run.request import RunRequest
    from harness.run.session import StressSession


def stress_commands() -> dict[str, Command]:
    return {
        "equal": Command(
            "Gate",
            "harness.features.equivalence.command",
            "Say whether an export predicts as the model that it was made from.",
            judges=True,
        )
    }


def stress_families() -> list[Family]:
    return [
        Family(
            "equivalence",
            "Equal to the original",
            measures="Distance of an export, a quantized or a compiled copy from its original.",
            failure="Look at the changed predictions by class. Common causes are calibration "
            "images unlike the data, other preprocessing and too few bits.",
            page="equivalence",
            area="changes from the original",
            starter_checks=_starter_checks,
            needs_role="original",
            before="unknown",
        )
    ]


def _starter_checks(about: StarterData) -> list[Row]:
    from harness.features.equivalence.family import starter_checks

    return starter_checks(about)


def stress_self_checks(
    session: StressSession, judge: Judge
) -> dict[str, Callable[[], Finding] | None]:
    from harness.features.equivalence.family import changes_are_noticed

    return {"changed-original": changes_are_noticed(session, judge)}


def stress_record_types() -> dict[str, Callable[[], type[FeatureRecord]]]:
    def record_type() -> type[FeatureRecord]:
        from harness.features.equivalence.report import OriginalDifferences

        return OriginalDifferences

    return {"differences": record_type}


def stress_run_records(
    session: StressSession, request: RunRequest, families: frozenset[str]
) -> dict[str, FeatureRecord]:
    if "equivalence" not in families:
        return {}
    from harness.features.equivalence.report import differences

    record = differences(session, request)
    return {} if record is None else {"differences": record}


def stress_sections(outcome: Outcome) -> list[Section | None]:
    from harness.features.equivalence.report import section

    return [section(outcome)]
