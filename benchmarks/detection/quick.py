"""Mutants that the quick profile detects, compared with the whole gate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.detection.alarms import false_alarms
from benchmarks.detection.judgement import Judged, judge
from benchmarks.detection.mutants import HEALTHY, KINDS, STRENGTHS, Mutant
from benchmarks.detection.results import MEASURED, Result
from benchmarks.detection.wording import accuracies_of, families_of, many, table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.checks import ChecksFile


def quick_tables(
    quick: Mapping[Mutant, Result | None],
    quick_checks: ChecksFile,
    kept: Mapping[Mutant, Result | None],
    checks: ChecksFile,
) -> str:
    """Return what the quick profile detects of the mutants that are not trivial, beside the whole gate, in Markdown.

    A mutant is trivial by its accuracy on all images where that is known, so both profiles judge the same mutants.
    """
    judged = _judged(quick, quick_checks)
    whole = _judged(kept, checks)
    bad = [mutant for mutant in judged if mutant.kind != HEALTHY and not whole.get(mutant, judged[mutant]).trivial]
    both = [mutant for mutant in bad if mutant in whole and whole[mutant].detected]
    sections = [
        f"Judged against the checks file with SHA-256 `{quick_checks.sha256[:16]}…`: {len(quick_checks.checks)} rows "
        f"on a sample of {quick_checks.data.sample} images. The quick gate detects "
        f"**{sum(judged[mutant].detected for mutant in bad)}** of {many(len(bad), 'mutant')} that are not trivial. The "
        f"whole gate detects {len(both)} of these, and the quick gate "
        f"**{sum(judged[mutant].detected for mutant in both)}** of those {len(both)}." + _to_come(quick, judged, whole),
        table(
            ("kind", "strength", "quick gate", "caught by", "whole gate", "clean accuracy of the sample"),
            [_row([mutant for mutant in bad if mutant.cell == cell], judged, whole) for cell in _cells(bad)],
        ),
        false_alarms([one for one in judged.values() if one.healthy]),
    ]
    return "\n\n".join(sections)


def _judged(kept: Mapping[Mutant, Result | None], checks: ChecksFile) -> dict[Mutant, Judged]:
    return {
        mutant: judge(result, checks)
        for mutant, result in kept.items()
        if result is not None and result.outcome == MEASURED
    }


def _to_come(
    quick: Mapping[Mutant, Result | None], judged: Mapping[Mutant, Judged], whole: Mapping[Mutant, Judged]
) -> str:
    """Say how many are missing, less those that the whole gate knows to be trivial, and how many lack newer rows."""
    absent = [mutant for mutant, result in quick.items() if result is None and mutant.kind != HEALTHY]
    absent = [mutant for mutant in absent if mutant not in whole or not whole[mutant].trivial]
    undecided = sum(one.undecided for one in judged.values() if not one.healthy and not one.trivial)
    parts = [f"{many(len(absent), 'mutant')} not trained or not measured in this profile yet" if absent else ""]
    parts += [f"{undecided} of those judged lack newer rows, and fail in none that they have" if undecided else ""]
    return f" ({'; '.join(filter(None, parts))}.)" if any(parts) else ""


def _cells(mutants: list[Mutant]) -> list[str]:
    present = {mutant.cell for mutant in mutants}
    ordered = (f"{kind}-{strength}" for kind in KINDS for strength in STRENGTHS)
    return [cell for cell in ordered if cell in present]


def _row(
    mutants: list[Mutant], judged: Mapping[Mutant, Judged], whole: Mapping[Mutant, Judged]
) -> tuple[str, str, str, str, str, str]:
    by_quick = [judged[mutant] for mutant in mutants]
    by_whole = [whole[mutant] for mutant in mutants if mutant in whole]
    return (
        mutants[0].kind,
        mutants[0].words,
        f"{sum(one.detected for one in by_quick)} of {len(by_quick)}",
        families_of(by_quick),
        f"{sum(one.detected for one in by_whole)} of {len(by_whole)}" if by_whole else "to come",
        accuracies_of(by_quick),
    )
