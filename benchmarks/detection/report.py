"""Write what the gate detected into the READMEs, from kept results and today's gates file."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, TypeGuard

from benchmarks.detection.flipped import NET_LOSS, Flipped, read_flipped
from benchmarks.detection.judgement import TRIVIAL, Judged, families, judge, upper_bound, weakest_detected
from benchmarks.detection.make import DIVERGED
from benchmarks.detection.mutants import HEALTHY, HEALTHY_SEEDS, KINDS, MUTANTS, SEEDS, STRENGTHS, Mutant
from benchmarks.detection.parents import AgainstParent, read_parents
from benchmarks.detection.paths import (
    FLIPPED,
    GATES,
    PARENTS,
    PROJECT_README,
    QUICK_GATES,
    QUICK_RESULTS,
    README,
    RESULTS,
)
from benchmarks.detection.results import MEASURED, Result, read_result
from benchmarks.pages import write_between
from harness.errors import some_of
from harness.gates import read_gates
from harness.run.outcome import NOT_JUDGED, PASSED, WORSE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from harness.gates import GatesFile

BEGIN, END = "<!-- detection: begin -->", "<!-- detection: end -->"
QUICK_BEGIN, QUICK_END = "<!-- quick: begin -->", "<!-- quick: end -->"
WHY_BEGIN, WHY_END = "<!-- why: begin -->", "<!-- why: end -->"
_NAMED_FAMILIES = 3
_NAMED_ROWS = 5
_JUDGED = (PASSED, WORSE)
_AUGMENTED_SEED = 42
"""The seed of the shipped augmented model, the healthy parent of half the mutations of weights."""


def write_report(*, readme: Path = README, project_readme: Path = PROJECT_README) -> None:
    """Judge every kept result and replace the READMEs' texts between the markers."""
    kept = {mutant: read_result(mutant.id, RESULTS) for mutant in MUTANTS}
    quick = {mutant: read_result(mutant.id, QUICK_RESULTS) for mutant in MUTANTS}
    gates, quick_gates = read_gates(GATES), read_gates(QUICK_GATES)
    for path, begin, end, body in (
        (readme, BEGIN, END, tables(kept, gates)),
        (readme, QUICK_BEGIN, QUICK_END, quick_tables(quick, quick_gates, kept, gates)),
        (project_readme, WHY_BEGIN, WHY_END, why_table(kept, gates)),
    ):
        write_between(path, begin, end, body)
    print(f"{readme}: written, {sum(result is not None for result in kept.values())} of {len(kept)} mutants in it")


def tables(kept: Mapping[Mutant, Result | None], gates: GatesFile) -> str:
    """Return the README's results in Markdown."""
    results = [result for result in kept.values() if result is not None]
    judged = [judge(result, gates) for result in results if _has_rows(result)]
    healthy, bad = [one for one in judged if one.healthy], [one for one in judged if not one.healthy]
    sections = [
        _state(kept, judged, gates),
        _summary(bad, [result.id for result in results if result.outcome == DIVERGED]),
        "### Detected\n\n" + _detected(kept, bad),
        "### The weakest strength detected\n\n" + _weakest(kept, bad),
        "### Not detected\n\n" + _undetected(bad, healthy, read_parents(PARENTS)),
        "### Trivial mutants\n\n" + _trivial(bad),
        "### False alarms\n\n" + _false_alarms(healthy),
        _flipped(read_flipped(FLIPPED), gates),
    ]
    return "\n\n".join(section for section in sections if section)


def quick_tables(
    quick: Mapping[Mutant, Result | None],
    quick_gates: GatesFile,
    kept: Mapping[Mutant, Result | None],
    gates: GatesFile,
) -> str:
    """Return what the quick profile detects of the strongest mutants, beside the whole gate, in Markdown."""
    judged = {mutant: judge(result, quick_gates) for mutant, result in quick.items() if _has_rows(result)}
    whole = {mutant: judge(result, gates) for mutant, result in kept.items() if _has_rows(result)}
    strong = [mutant for mutant in judged if mutant.strength == max(STRENGTHS)]
    caught = sum(judged[mutant].detected for mutant in strong)
    to_come = sum(mutant.strength == max(STRENGTHS) for mutant in quick) - len(strong)
    rows = [
        (
            mutant.kind,
            mutant.words,
            _yes_or_no(judged[mutant].detected),
            _families([judged[mutant]]),
            _yes_or_no(whole[mutant].detected) if mutant in whole else "to come",
            _percent(judged[mutant].clean_accuracy),
        )
        for mutant in strong
    ]
    sections = [
        f"Judged against the gates file with SHA-256 `{quick_gates.sha256[:16]}…`: {len(quick_gates.gates)} rows on a "
        f"sample of {quick_gates.data.sample} images. Of {len(strong)} strong mutants the quick gate detects "
        f"**{caught}**" + (f" ({to_come} are not trained or not measured yet)." if to_come else "."),
        _table(("kind", "strength", "quick gate", "caught by", "whole gate", "clean accuracy of the sample"), rows),
        _false_alarms([one for one in judged.values() if one.healthy]),
    ]
    return "\n\n".join(sections)


def why_table(kept: Mapping[Mutant, Result | None], gates: GatesFile) -> str:
    """Return the kinds that clean accuracy lets pass and the gate does not, at their greatest strength, in Markdown."""
    judged = [judge(result, gates) for result in kept.values() if _has_rows(result)]
    missed = [one for one in judged if one.detected and not one.caught_by_clean and not one.healthy]
    strongest = {one.result.kind: one for one in sorted(missed, key=lambda one: one.result.strength)}
    rows = []
    for kind in (slug for slug in KINDS if slug in strongest):
        one = strongest[kind]
        worst = one.failed[0]
        bound = f"must be {worst.gate.direction.replace('_', ' ')} {worst.limit:.3f}"
        rows.append(
            (
                f"{kind}: {one.result.words}",
                _percent(one.clean_accuracy),
                f"{_many(len(one.failed), 'gate')}; the worst is `{worst.gate.id}`: {worst.value:.3f}, {bound}",
            )
        )
    return _table(("what is wrong", "accuracy on images as they are", "what fails"), rows)


def _has_rows(result: Result | None) -> TypeGuard[Result]:
    return result is not None and result.outcome == MEASURED


def _state(kept: Mapping[Mutant, Result | None], judged: Sequence[Judged], gates: GatesFile) -> str:
    lines = []
    if missing := [mutant for mutant, result in kept.items() if result is None]:
        retrains = sum(mutant.kind == HEALTHY for mutant in missing)
        lines.append(
            f"**Not finished**: {len(missing)} of {len(kept)} checkpoints are not trained or not measured yet, "
            f"{_many(retrains, 'healthy retrain')} among them. All figures are of the others."
        )
    if old := [one.result.id for one in judged if one.result.missing(gates.gates)]:
        lines.append(
            f"**Out of date**: {_many(len(old), 'result')} lack rows that the gates file has now; they are judged by "
            "the rows they have. `measure` again."
        )
    if shared := sorted({*HEALTHY_SEEDS, *SEEDS, _AUGMENTED_SEED} & _panel_seeds(gates)):
        lines.append(
            f"**Not independent**: the bounds were made with seeds {', '.join(map(str, shared))}, which are used here "
            "as well."
        )
    if differing := [one.result.id for one in judged if _contradicts(one, gates)]:
        lines.append(
            f"**Contradiction**: the gate's own exit status differs from this judgement for {', '.join(differing)}."
        )
    if unjudged := [one.result.id for one in judged if one.result.exit_status not in _JUDGED]:
        lines.append(
            f"The gate itself could not judge (exit status {NOT_JUDGED}) {', '.join(unjudged)}; they count "
            "by the rows that it measured."
        )
    gated = sum(gate.role == "candidate" and gate.threshold is not None for gate in gates.gates)
    lines.append(
        f"Judged against the gates file with SHA-256 `{gates.sha256[:16]}…`, {_many(gated, 'row')} with a bound on the "
        f"candidate{f', {about}' if (about := gates.recipe.get('about')) else ''}."
    )
    versions = Counter(one.result.versions.get("torch", "unknown") for one in judged)
    if versions:
        lines.append("Measured with torch " + ", ".join(f"{name} ({n})" for name, n in versions.items()) + ".")
    return "\n\n".join(lines)


def _contradicts(one: Judged, gates: GatesFile) -> bool:
    """Return whether the gate, with these very bounds, said otherwise."""
    same, status = one.result.gates_sha256 == gates.sha256, one.result.exit_status
    return same and status in _JUDGED and (status == WORSE) != one.detected


def _panel_seeds(gates: GatesFile) -> set[int]:
    seeds = gates.recipe.get("seeds", [])
    return {seed for seed in seeds if isinstance(seed, int)} if isinstance(seeds, list) else set()


def _summary(bad: Sequence[Judged], diverged: Sequence[str]) -> str:
    parts = []
    for name, group in (
        ("mutants that are not trivial", [one for one in bad if not one.trivial]),
        (f"trivial mutants (clean accuracy below {TRIVIAL:.0%})", [one for one in bad if one.trivial]),
    ):
        if group:
            caught, clean = sum(one.detected for one in group), sum(one.caught_by_clean for one in group)
            parts.append(
                f"Of {len(group)} {name} the gate detects **{caught}**, the floor of clean accuracy alone {clean}."
            )
    if diverged:
        parts.append(
            f"{_many(len(diverged), 'training')} diverged and left no checkpoint to judge, counted nowhere: "
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
        caught = sum(one.detected for one in group)
        clean = sum(one.caught_by_clean for one in group)
        rows.append(
            (
                kind,
                words,
                f"{caught} of {len(group)}" + (f" ({due} to come)" if due else ""),
                _families(group),
                f"{clean} of {len(group)}",
                _accuracies(group),
            )
        )
    return _table(("kind", "strength", "detected", "caught by", "clean accuracy alone", "clean accuracy"), rows)


def _weakest(kept: Mapping[Mutant, Result | None], bad: Sequence[Judged]) -> str:
    kinds = [kind for kind in KINDS if kind != HEALTHY and any(one.result.kind == kind for one in bad)]
    rows = []
    for kind in kinds:
        by_strength = {strength: _of(bad, kind, strength) for strength in STRENGTHS}
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
    return _table(("kind", "by the gate", "by clean accuracy alone", "mutants judged"), rows)


def _undetected(bad: Sequence[Judged], healthy: Sequence[Judged], parents: Mapping[str, AgainstParent]) -> str:
    missed = [one for one in bad if not one.detected]
    if not missed:
        return "Every mutant judged so far is detected." if bad else "Nothing is judged yet."
    lines = [_like_healthy(missed, healthy), ""] if healthy else []
    for one in missed:
        nearest = one.nearest
        margin = f"; nearest to its bound: {nearest[0]}, {nearest[1]:.1f} standard deviations inside" if nearest else ""
        lines.append(
            f"- `{one.result.id}` ({one.result.words}): clean accuracy {_percent(one.clean_accuracy)}"
            f"{_against(parents.get(one.result.id))}{margin}"
        )
    return "\n".join(lines)


def _like_healthy(missed: Sequence[Judged], healthy: Sequence[Judged]) -> str:
    """Say how many come no nearer to a bound than healthy retrains do, so that nothing measured tells them apart."""
    limit = min(one.nearest[1] for one in healthy if one.nearest)
    alike = sum(one.nearest is not None and one.nearest[1] >= limit for one in missed)
    passed = _many(len(missed), "mutant")
    return (
        f"Healthy retrains come as near as {limit:.1f} standard deviations to a bound. Of the {passed} that the gate "
        f"passes, {alike} come no nearer: by all that it measures they are as good as a healthy retrain. The other "
        f"{len(missed) - alike} come nearer, and are missed."
    )


def _against(changes: AgainstParent | None) -> str:
    if changes is None:
        return ""
    return (
        f"; of its healthy parent's answers {changes.lost} are lost and {changes.gained} mended "
        f"(exact McNemar's p = {changes.p_value:.2g})"
    )


def _trivial(bad: Sequence[Judged]) -> str:
    trivial = [one for one in bad if one.trivial]
    if not trivial:
        return f"None of the mutants judged so far has a clean accuracy below {TRIVIAL:.0%}."
    rows = [
        (
            one.result.id,
            one.result.words,
            _yes_or_no(one.detected),
            _yes_or_no(one.caught_by_clean),
            _percent(one.clean_accuracy),
        )
        for kind, strength, _ in _cells()
        for one in _of(trivial, kind, strength)
    ]
    return _table(("mutant", "strength", "detected", "clean accuracy alone", "clean accuracy"), rows)


def _false_alarms(healthy: Sequence[Judged]) -> str:
    if not healthy:
        return "No healthy retrain is judged yet."
    alarms, n = [one for one in healthy if one.detected], len(healthy)
    accuracies = [one.clean_accuracy for one in healthy]
    bound = upper_bound(len(alarms), n)
    lines = [
        f"The gate fails **{len(alarms)} of {n}** healthy retrains (clean accuracy {_percent(min(accuracies))} to "
        f"{_percent(max(accuracies))}). In words: {len(alarms)} of {n} proves, with 95% confidence, only that "
        f"no more than {bound:.1%} of healthy retrains raise a false alarm (exact one-sided bound, Clopper & Pearson "
        "1934). It does not show that the rate is the one that the bounds aim at."
    ]
    for one in alarms:
        named = ", ".join(f"`{verdict.gate.id}`" for verdict in one.failed[:_NAMED_ROWS])
        more = len(one.failed) - _NAMED_ROWS
        lines.append(f"- `{one.result.id}` fails {named}" + (f" and {_many(more, 'row')} more" if more > 0 else ""))
    return lines[0] + ("\n\n" + "\n".join(lines[1:]) if alarms else "")


def _flipped(drawn: Flipped | None, gates: GatesFile) -> str:
    if drawn is None:
        return ""
    old = "" if drawn.gates_sha256 == gates.sha256 else " **By an older gates file**: run `flip` again."
    return (
        "### A hundred right answers lost\n\n"
        f"{NET_LOSS} net right answers of 10,000 lost at random by healthy retrains ({drawn.networks} networks, "
        f"{drawn.draws} draws): by what it measures on images as they are the gate fails "
        f"**{drawn.failed / drawn.draws:.1%}**, by the floor of clean accuracy alone "
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


def _families(group: Sequence[Judged]) -> str:
    return some_of(families(group), shown=_NAMED_FAMILIES) or "–"


def _accuracies(group: Sequence[Judged]) -> str:
    return ", ".join(_percent(one.clean_accuracy) for one in group)


def _percent(share: float) -> str:
    return f"{share:.2%}"


def _yes_or_no(yes: bool) -> str:  # noqa: FBT001  What it puts into words.
    return "yes" if yes else "**no**"


def _many(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return "Nothing is judged yet."
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))
