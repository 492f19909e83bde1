"""Write what the gate detected into the READMEs, from kept results and today's checks file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.detection import sections
from benchmarks.detection.besides import AgainstParent, read_parents
from benchmarks.detection.judgement import TRIVIAL, Judged, families, judge, weakest_detected
from benchmarks.detection.make import DIVERGED
from benchmarks.detection.mutants import HEALTHY, KINDS, MUTANTS, STRENGTHS, Mutant
from benchmarks.detection.paths import (
    CHECKS,
    PROJECT_README,
    QUICK_CHECKS,
    QUICK_RESULTS,
    README,
    RESULTS,
)
from benchmarks.detection.results import MEASURED, Result, read_result
from benchmarks.detection.sections import (
    beyond,
    false_alarms,
    false_alarms_in_short,
    like_healthy,
    yes_or_no,
)
from benchmarks.runner import many, percent, table, write_between
from harness.base.errors import some_of
from harness.checks import ChecksFile, read_checks
from harness.measures.metric import Unit

_WHY_KINDS = 7
NEWER = frozenset({"skew"})
"""Families that came after most results; the tables do not count their checks."""
Kept = Mapping[Mutant, Result | None]


def write_report() -> None:
    """Judge the results against today's checks file and write the tables of the READMEs."""
    kept, quick = (
        {mutant: read_result(mutant.id, at) for mutant in MUTANTS}
        for at in (RESULTS, QUICK_RESULTS)
    )
    checks, quick_checks = (without_newer(path) for path in (CHECKS, QUICK_CHECKS))
    write_between(README, "detection", tables(kept, checks))
    write_between(README, "quick", quick_tables(quick, quick_checks, kept, checks))
    write_between(PROJECT_README, "why", why_table(kept, checks))
    print(
        f"{README}: written, {sum(result is not None for result in kept.values())} of {len(kept)} "
        "mutants in it"
    )


def without_newer(path: Path) -> ChecksFile:
    """Return a checks file without the families that came after most results."""
    checks = read_checks(path)
    return replace(
        checks, checks=tuple(check for check in checks.checks if check.family not in NEWER)
    )


def tables(kept: Kept, checks: ChecksFile) -> str:
    """Return the README's results in Markdown."""
    judged = list(_judged(kept, checks).values())
    healthy, bad = (
        [one for one in judged if one.healthy],
        [one for one in judged if not one.healthy],
    )
    diverged = [
        result.id for result in kept.values() if result is not None and result.outcome == DIVERGED
    ]
    parts = [
        sections.state(kept, judged, checks),
        _summary(bad, diverged),
        "### Detected\n\n" + _detected(kept, bad),
        "### The weakest strength detected\n\n" + _weakest(kept, bad),
        "### Not detected\n\n"
        + _undetected(bad, [one for one in healthy if not one.detected], read_parents()),
        "### Trivial mutants\n\n" + _trivial(bad),
        "### False alarms\n\n" + false_alarms(healthy),
        sections.backdoors(judged),
        sections.colour(),
        sections.flipped(checks),
    ]
    return "\n\n".join(part for part in parts if part)


def why_table(kept: Kept, checks: ChecksFile) -> str:
    """Return kinds that pass by clean accuracy and fail the gate, in Markdown.

    Each is at its greatest strength. A page has room for those that the most checks fail. The share
    of false alarms stands below.
    """
    judged = _judged(kept, checks).values()
    alarms = false_alarms_in_short([one for one in judged if one.healthy], checks)
    passed = [one for one in judged if one.detected and not one.caught_by_clean and not one.healthy]
    strongest = {
        one.result.kind: one for one in sorted(passed, key=lambda one: one.result.strength)
    }
    rows, chosen = [], sorted(strongest, key=lambda kind: -len(strongest[kind].failed))[:_WHY_KINDS]
    for kind in (slug for slug in KINDS if slug in chosen):
        one = strongest[kind]
        worst = one.failed[0]
        form = "g" if worst.unit is Unit.IMAGES else ".3f"
        limit = f"must be {worst.check.direction.replace('_', ' ')} {worst.threshold:{form}}"
        failed = (
            f"{many(len(one.failed), 'check')}; the worst is `{worst.check.id}`: "
            f"{worst.value:{form}}, {limit}"
        )
        rows.append((f"{kind}: {one.result.words}", percent(one.clean_accuracy), failed))
    return _table(("what is wrong", "clean accuracy", "what fails"), rows) + f"\n\n{alarms}"


def quick_tables(quick: Kept, quick_checks: ChecksFile, kept: Kept, checks: ChecksFile) -> str:
    """Return the detections of the quick profile beside the whole gate's, in Markdown.

    Trivial mutants are left out. A mutant is trivial by its accuracy on all images where that is
    known, so both profiles judge the same mutants.
    """
    judged, whole = _judged(quick, quick_checks), _judged(kept, checks)
    bad = [
        mutant
        for mutant in judged
        if mutant.kind != HEALTHY and not whole.get(mutant, judged[mutant]).trivial
    ]
    both = [mutant for mutant in bad if mutant in whole and whole[mutant].detected]
    rows = []
    for kind, strength, words in _cells():
        if group := [
            mutant for mutant in bad if (mutant.kind, mutant.strength) == (kind, strength)
        ]:
            by_quick = [judged[mutant] for mutant in group]
            by_whole = [whole[mutant] for mutant in group if mutant in whole]
            beside = _share(by_whole) if by_whole else "to come"
            rows.append(
                (kind, words, _share(by_quick), _families(by_quick), beside, _accuracies(by_quick))
            )
    head = (
        "kind",
        "strength",
        "quick gate",
        "caught by",
        "whole gate",
        "clean accuracy of the sample",
    )
    return "\n\n".join(
        [
            f"Judged against the checks file with SHA-256 `{quick_checks.sha256[:16]}…`: "
            f"{len(quick_checks.checks)} rows on a sample of {quick_checks.data.sample} images. "
            f"The quick gate detects **{sum(judged[mutant].detected for mutant in bad)}** of "
            f"{many(len(bad), 'mutant')} that are not trivial. The whole gate detects {len(both)} "
            f"of these, and the quick gate **{sum(judged[mutant].detected for mutant in both)}** "
            f"of those {len(both)}." + _to_come(quick, judged, whole),
            _table(head, rows),
            false_alarms([one for one in judged.values() if one.healthy]),
        ]
    )


def _to_come(quick: Kept, judged: Mapping[Mutant, Judged], whole: Mapping[Mutant, Judged]) -> str:
    """Say how many are missing, and how many lack newer rows.

    Mutants that the whole gate knows to be trivial are not missing.
    """
    absent = [
        mutant for mutant, result in quick.items() if result is None and mutant.kind != HEALTHY
    ]
    absent = [mutant for mutant in absent if mutant not in whole or not whole[mutant].trivial]
    undecided = sum(one.undecided for one in judged.values() if not one.healthy and not one.trivial)
    parts = [
        f"{many(len(absent), 'mutant')} not trained or not measured in this profile yet"
    ] * bool(absent)
    parts += [
        f"{undecided} of those judged lack newer rows, and fail in none that they have"
    ] * bool(undecided)
    return f" ({'; '.join(parts)}.)" if parts else ""


def _judged(kept: Kept, checks: ChecksFile) -> dict[Mutant, Judged]:
    """Return the verdicts on the mutants that were measured."""
    return {
        mutant: judge(result, checks)
        for mutant, result in kept.items()
        if result is not None and result.outcome == MEASURED
    }


def _summary(bad: Sequence[Judged], diverged: Sequence[str]) -> str:
    parts = []
    for name, group in (
        ("mutants that are not trivial", [one for one in bad if not one.trivial]),
        (
            f"trivial mutants (clean accuracy below {TRIVIAL:.0%})",
            [one for one in bad if one.trivial],
        ),
    ):
        if group:
            caught, clean = (
                sum(one.detected for one in group),
                sum(one.caught_by_clean for one in group),
            )
            undecided = sum(one.undecided for one in group)
            parts.append(
                f"The gate detects **{caught}** of {len(group)} {name}, the threshold of clean "
                f"accuracy alone {clean}."
                + (
                    f" It passes {len(group) - caught - undecided}; {undecided} are undecided."
                    if undecided
                    else ""
                )
            )
    if diverged:
        parts.append(
            f"{many(len(diverged), 'training')} diverged and left no checkpoint to judge, counted "
            f"nowhere: {', '.join(diverged)}."
        )
    return "\n".join(parts)


def _detected(kept: Kept, bad: Sequence[Judged]) -> str:
    rows = []
    for kind, strength, words in _cells():
        group = [one for one in _of(bad, kind, strength) if not one.trivial]
        if not group:
            continue
        cell = [
            result
            for mutant, result in kept.items()
            if (mutant.kind, mutant.strength) == (kind, strength)
        ]
        due, undecided = cell.count(None), sum(one.undecided for one in group)
        apart = ", ".join(
            [f"{undecided} undecided"] * bool(undecided) + [f"{due} to come"] * bool(due)
        )
        clean = f"{sum(one.caught_by_clean for one in group)} of {len(group)}"
        caught = _share(group) + (f" ({apart})" if apart else "")
        rows.append((kind, words, caught, _families(group), clean, _accuracies(group)))
    return _table(
        ("kind", "strength", "detected", "caught by", "clean accuracy alone", "clean accuracy"),
        rows,
    )


def _weakest(kept: Kept, bad: Sequence[Judged]) -> str:
    rows = []
    for kind in (
        kind for kind in KINDS if kind != HEALTHY and any(one.result.kind == kind for one in bad)
    ):
        decided = {
            level: [one for one in _of(bad, kind, level) if not one.undecided]
            for level in STRENGTHS
        }
        cells = []
        for caught in (
            {level: [one.detected for one in group] for level, group in decided.items()},
            {level: [one.caught_by_clean for one in group] for level, group in decided.items()},
        ):
            weakest = weakest_detected(caught)
            if weakest is None:
                cells.append("none")
                continue
            trivial = " (trivial)" if all(one.trivial for one in decided[weakest]) else ""
            cells.append(
                f"{STRENGTHS[weakest]}: {KINDS[kind].strengths[weakest - 1].words}{trivial}"
            )
        n, planned = sum(map(len, decided.values())), sum(mutant.kind == kind for mutant in kept)
        rows.append((kind, *cells, f"{n} of {planned}" if n < planned else str(n)))
    return _table(("kind", "by the gate", "by clean accuracy alone", "mutants judged"), rows)


def _undetected(
    bad: Sequence[Judged], healthy: Sequence[Judged], parents: Mapping[str, AgainstParent]
) -> str:
    passed = [one for one in bad if not one.detected and not one.undecided]
    undecided = [one for one in bad if one.undecided]
    if not (passed or undecided):
        return "Every mutant judged so far is detected." if bad else "Nothing is judged yet."
    lines = [like_healthy(passed, healthy), ""] if passed and healthy else []
    lines += [_passed(one, healthy, parents) for one in passed]
    if undecided:
        lines += ["", "Undecided, since newer rows were not measured on them:", ""]
        lines += [_passed(one, healthy, parents) for one in undecided]
    return "\n".join(lines).strip()


def _passed(one: Judged, healthy: Sequence[Judged], parents: Mapping[str, AgainstParent]) -> str:
    """Return what is known of a mutant that no row fails."""
    said = [
        f"- `{one.result.id}` ({one.result.words}): clean accuracy {percent(one.clean_accuracy)}."
    ]
    changes = parents.get(one.result.id)
    if changes is not None and changes.checkpoint_sha256 == one.result.checkpoint_sha256:
        said.append(
            f"It loses {changes.lost} correct predictions of its parent and gains {changes.gained} "
            f"(exact McNemar's p = {changes.p_value:.2g})."
        )
    if nearest := one.nearest:
        said.append(
            f"Its nearest threshold is `{nearest[0]}`, {nearest[1]:.1f} standard deviations inside."
        )
    worse, compared = beyond(one, healthy)
    if compared:
        said.append(
            f"It is worse than all {len(healthy)} controls that pass in {worse} of {compared} rows."
        )
    return " ".join(said)


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
            _accuracies([one]),
        )
        for kind, strength, _ in _cells()
        for one in _of(trivial, kind, strength)
    ]
    return _table(
        ("mutant", "strength", "detected", "clean accuracy alone", "clean accuracy"), rows
    )


def _cells() -> list[tuple[str, int, str]]:
    """Return the kinds and strengths of mutants, in the order of the table.

    Each strength is text.
    """
    return [
        (kind.slug, level, kind.strengths[level - 1].words)
        for kind in KINDS.values()
        if kind.slug != HEALTHY
        for level in STRENGTHS
    ]


def _of(judged: Sequence[Judged], kind: str, strength: int) -> list[Judged]:
    return [one for one in judged if (one.result.kind, one.result.strength) == (kind, strength)]


def _share(group: Sequence[Judged]) -> str:
    return f"{sum(one.detected for one in group)} of {len(group)}"


def _families(group: Sequence[Judged]) -> str:
    """Name the families whose rows failed on any of the mutants, the worst miss first.

    A dash for none.
    """
    return some_of(families(group), shown=3) or "–"


def _accuracies(group: Sequence[Judged]) -> str:
    return ", ".join(percent(one.clean_accuracy) for one in group)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return table(head, rows) if rows else "Nothing is judged yet."
