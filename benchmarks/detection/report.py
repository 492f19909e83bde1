"""Write what the gate detected into the READMEs, from kept results and today's checks file."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeGuard

from benchmarks.detection.alarms import beyond, false_alarms, like_healthy
from benchmarks.detection.backdoors import backdoors_table, read_backdoors
from benchmarks.detection.colour import colour_table, read_colour
from benchmarks.detection.flipped import NET_LOSS, Flipped, read_flipped
from benchmarks.detection.judgement import TRIVIAL, Judged, judge, weakest_detected
from benchmarks.detection.make import DIVERGED
from benchmarks.detection.mutants import HEALTHY, KINDS, MUTANTS, STRENGTHS, Mutant
from benchmarks.detection.parents import AgainstParent, read_parents
from benchmarks.detection.paths import (
    BACKDOORS,
    CHECKS,
    COLOUR,
    FLIPPED,
    PARENTS,
    PROJECT_README,
    QUICK_CHECKS,
    QUICK_RESULTS,
    README,
    RESULTS,
)
from benchmarks.detection.quick import quick_tables
from benchmarks.detection.results import MEASURED, Result, read_result
from benchmarks.detection.state import state
from benchmarks.detection.wording import accuracies_of, families_of, many, percent, table, yes_or_no
from benchmarks.pages import write_between
from harness.checks import read_checks
from harness.measures.metric import Unit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from harness.checks import ChecksFile

BEGIN, END = "<!-- detection: begin -->", "<!-- detection: end -->"
QUICK_BEGIN, QUICK_END = "<!-- quick: begin -->", "<!-- quick: end -->"
WHY_BEGIN, WHY_END = "<!-- why: begin -->", "<!-- why: end -->"
_WHY_KINDS = 7
NEWER = frozenset({"skew"})
"""Families that came after most results; the tables do not count their checks."""


def write_report(*, readme: Path = README, project_readme: Path = PROJECT_README) -> None:
    """Judge every kept result and replace the READMEs' texts between the markers."""
    kept = {mutant: read_result(mutant.id, RESULTS) for mutant in MUTANTS}
    quick = {mutant: read_result(mutant.id, QUICK_RESULTS) for mutant in MUTANTS}
    checks, quick_checks = (without_newer(read_checks(path)) for path in (CHECKS, QUICK_CHECKS))
    for path, begin, end, body in (
        (readme, BEGIN, END, tables(kept, checks)),
        (readme, QUICK_BEGIN, QUICK_END, quick_tables(quick, quick_checks, kept, checks)),
        (project_readme, WHY_BEGIN, WHY_END, why_table(kept, checks)),
    ):
        write_between(path, begin, end, body)
    print(f"{readme}: written, {sum(result is not None for result in kept.values())} of {len(kept)} mutants in it")


def without_newer(checks: ChecksFile) -> ChecksFile:
    """Return a checks file without the families that came after most results."""
    return replace(checks, checks=tuple(check for check in checks.checks if check.family not in NEWER))


def tables(kept: Mapping[Mutant, Result | None], checks: ChecksFile) -> str:
    """Return the README's results in Markdown."""
    results = [result for result in kept.values() if result is not None]
    judged = [judge(result, checks) for result in results if _has_rows(result)]
    healthy, bad = [one for one in judged if one.healthy], [one for one in judged if not one.healthy]
    sections = [
        state(kept, judged, checks),
        _summary(bad, [result.id for result in results if result.outcome == DIVERGED]),
        "### Detected\n\n" + _detected(kept, bad),
        "### The weakest strength detected\n\n" + _weakest(kept, bad),
        "### Not detected\n\n" + _undetected(bad, [one for one in healthy if not one.detected], read_parents(PARENTS)),
        "### Trivial mutants\n\n" + _trivial(bad),
        "### False alarms\n\n" + false_alarms(healthy),
        backdoors_table(read_backdoors(BACKDOORS), judged),
        colour_table(read_colour(COLOUR)),
        _flipped(read_flipped(FLIPPED), checks),
    ]
    return "\n\n".join(section for section in sections if section)


def why_table(kept: Mapping[Mutant, Result | None], checks: ChecksFile) -> str:
    """Return kinds that clean accuracy lets pass and the gate does not, at their greatest strength, in Markdown.

    A page has room for those that the most checks fail.
    """
    judged = [judge(result, checks) for result in kept.values() if _has_rows(result)]
    missed = [one for one in judged if one.detected and not one.caught_by_clean and not one.healthy]
    strongest = {one.result.kind: one for one in sorted(missed, key=lambda one: one.result.strength)}
    rows, chosen = [], sorted(strongest, key=lambda kind: -len(strongest[kind].failed))[:_WHY_KINDS]
    for kind in (slug for slug in KINDS if slug in chosen):
        one = strongest[kind]
        worst = one.failed[0]
        value, limit = (
            f"{it:g}" if worst.unit is Unit.IMAGES else f"{it:.3f}" for it in (worst.value, worst.threshold)
        )
        threshold = f"must be {worst.check.direction.replace('_', ' ')} {limit}"
        rows.append(
            (
                f"{kind}: {one.result.words}",
                percent(one.clean_accuracy),
                f"{many(len(one.failed), 'check')}; the worst is `{worst.check.id}`: {value}, {threshold}",
            )
        )
    return table(("what is wrong", "clean accuracy", "what fails"), rows)


def _has_rows(result: Result | None) -> TypeGuard[Result]:
    return result is not None and result.outcome == MEASURED


def _summary(bad: Sequence[Judged], diverged: Sequence[str]) -> str:
    parts = []
    for name, group in (
        ("mutants that are not trivial", [one for one in bad if not one.trivial]),
        (f"trivial mutants (clean accuracy below {TRIVIAL:.0%})", [one for one in bad if one.trivial]),
    ):
        if group:
            caught, clean = sum(one.detected for one in group), sum(one.caught_by_clean for one in group)
            undecided = sum(one.undecided for one in group)
            parts.append(
                f"The gate detects **{caught}** of {len(group)} {name}, the threshold of clean accuracy alone {clean}."
                + (f" It passes {len(group) - caught - undecided}; {undecided} are undecided." if undecided else "")
            )
    if diverged:
        parts.append(
            f"{many(len(diverged), 'training')} diverged and left no checkpoint to judge, counted nowhere: "
            f"{', '.join(diverged)}."
        )
    return "\n".join(parts)


def _detected(kept: Mapping[Mutant, Result | None], bad: Sequence[Judged]) -> str:
    rows = []
    for kind, strength, words in _cells():
        group = [one for one in _of(bad, kind, strength) if not one.trivial]
        if not group:
            continue
        due = sum(
            result is None for mutant, result in kept.items() if (mutant.kind, mutant.strength) == (kind, strength)
        )
        caught, undecided = sum(one.detected for one in group), sum(one.undecided for one in group)
        clean = sum(one.caught_by_clean for one in group)
        apart = ", ".join([f"{undecided} undecided"] * bool(undecided) + [f"{due} to come"] * bool(due))
        rows.append(
            (
                kind,
                words,
                f"{caught} of {len(group)}" + (f" ({apart})" if apart else ""),
                families_of(group),
                f"{clean} of {len(group)}",
                accuracies_of(group),
            )
        )
    return table(("kind", "strength", "detected", "caught by", "clean accuracy alone", "clean accuracy"), rows)


def _weakest(kept: Mapping[Mutant, Result | None], bad: Sequence[Judged]) -> str:
    kinds = [kind for kind in KINDS if kind != HEALTHY and any(one.result.kind == kind for one in bad)]
    rows = []
    for kind in kinds:
        by_strength = {
            strength: [one for one in _of(bad, kind, strength) if not one.undecided] for strength in STRENGTHS
        }
        cells = []
        for caught in (
            {strength: [one.detected for one in group] for strength, group in by_strength.items()},
            {strength: [one.caught_by_clean for one in group] for strength, group in by_strength.items()},
        ):
            weakest = weakest_detected(caught)
            if weakest is None:
                cells.append("none")
                continue
            trivial = all(one.trivial for one in by_strength[weakest])
            cells.append(
                f"{STRENGTHS[weakest]}: {KINDS[kind].strengths[weakest - 1].words}{' (trivial)' if trivial else ''}"
            )
        n = sum(map(len, by_strength.values()))
        planned = sum(mutant.kind == kind for mutant in kept)
        rows.append((kind, *cells, f"{n} of {planned}" if n < planned else str(n)))
    return table(("kind", "by the gate", "by clean accuracy alone", "mutants judged"), rows)


def _undetected(bad: Sequence[Judged], healthy: Sequence[Judged], parents: Mapping[str, AgainstParent]) -> str:
    missed = [one for one in bad if not one.detected and not one.undecided]
    undecided = [one for one in bad if one.undecided]
    if not (missed or undecided):
        return "Every mutant judged so far is detected." if bad else "Nothing is judged yet."
    lines = [like_healthy(missed, healthy), ""] if missed and healthy else []
    lines += [_passed(one, healthy, parents) for one in missed]
    if undecided:
        lines += ["", "Undecided, since newer rows were not measured on them:", ""]
        lines += [_passed(one, healthy, parents) for one in undecided]
    return "\n".join(lines).strip()


def _passed(one: Judged, healthy: Sequence[Judged], parents: Mapping[str, AgainstParent]) -> str:
    """Return what is known of a mutant that no row fails."""
    nearest, (worse, compared) = one.nearest, beyond(one, healthy)
    margin = (
        f" Its nearest threshold is `{nearest[0]}`, {nearest[1]:.1f} standard deviations inside." if nearest else ""
    )
    all_of = f"all {len(healthy)} controls that pass"
    rank = f" It is worse than {all_of} in {worse} of {compared} rows." if compared else ""
    return (
        f"- `{one.result.id}` ({one.result.words}): clean accuracy {percent(one.clean_accuracy)}."
        f"{_against(parents.get(one.result.id), one.result)}{margin}{rank}"
    )


def _against(changes: AgainstParent | None, result: Result) -> str:
    if changes is None or changes.checkpoint_sha256 != result.checkpoint_sha256:
        return ""
    return (
        f" It loses {changes.lost} correct predictions of its parent and gains {changes.gained} "
        f"(exact McNemar's p = {changes.p_value:.2g})."
    )


def _trivial(bad: Sequence[Judged]) -> str:
    trivial = [one for one in bad if one.trivial]
    if not trivial:
        return f"None of the mutants judged so far has a clean accuracy below {TRIVIAL:.0%}."
    rows = [
        (
            one.result.id,
            one.result.words,
            yes_or_no(one.detected),
            yes_or_no(one.caught_by_clean),
            percent(one.clean_accuracy),
        )
        for kind, strength, _ in _cells()
        for one in _of(trivial, kind, strength)
    ]
    return table(("mutant", "strength", "detected", "clean accuracy alone", "clean accuracy"), rows)


def _flipped(drawn: Flipped | None, checks: ChecksFile) -> str:
    if drawn is None:
        return ""
    old = "" if drawn.checks_sha256 == checks.sha256 else " **An older checks file judged them**: run `flip` again."
    return (
        "### A hundred correct predictions lost\n\n"
        f"Controls lose {NET_LOSS} net correct predictions of 10,000 at random ({drawn.networks} networks, "
        f"{drawn.draws} draws). The checks on clean images fail "
        f"**{drawn.failed / drawn.draws:.1%}** of these draws. The threshold of clean accuracy alone fails "
        f"{drawn.failed_by_clean / drawn.draws:.1%}.{old}"
    )


def _cells() -> list[tuple[str, int, str]]:
    return [
        (kind.slug, strength, kind.strengths[strength - 1].words)
        for kind in KINDS.values()
        if kind.slug != HEALTHY
        for strength in STRENGTHS
    ]


def _of(judged: Sequence[Judged], kind: str, strength: int) -> list[Judged]:
    return [one for one in judged if (one.result.kind, one.result.strength) == (kind, strength)]
