"""Basis of the tables: the results, their rows, and the machines that made them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from benchmarks.detection.mutants import HEALTHY, HEALTHY_SEEDS, SEEDS, Mutant
from benchmarks.detection.wording import many
from harness.run.status import NOT_JUDGED, PASSED, WORSE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.detection.judgement import Judged
    from benchmarks.detection.results import Result
    from harness.checks import ChecksFile

_JUDGED = (PASSED, WORSE)
_AUGMENTED_SEED = 42
"""The seed of the shipped augmented model, the parent of a third of the mutations of weights."""


def state(kept: Mapping[Mutant, Result | None], judged: Sequence[Judged], checks: ChecksFile) -> str:
    """Return in Markdown the missing and outdated results, the checks file, and the machines."""
    lines = []
    if missing := [mutant for mutant, result in kept.items() if result is None]:
        controls = sum(mutant.kind == HEALTHY for mutant in missing)
        lines.append(
            f"**Not finished**: {len(missing)} of {len(kept)} checkpoints are not trained or not measured yet, "
            f"{many(controls, 'control')} among them. All figures are of the others."
        )
    if old := [one for one in judged if one.unmeasured]:
        controls, undecided = sum(one.healthy for one in old), sum(one.undecided and not one.healthy for one in old)
        newer = {name for one in old for name in one.unmeasured}
        by_families = Counter(check.family for check in checks.checks if check.id in newer)
        lacking = ", ".join(f"{family} ({many(n, 'row')})" for family, n in by_families.most_common())
        lines.append(
            f"**Not measured on every row**: {many(len(old), 'result')}, {many(controls, 'control')} among "
            f"them, lack newer rows with a threshold, of the families {lacking}. A mutant that "
            f"fails in the rows it has is detected all the same. Any other is undecided ({undecided}) and "
            "counts as neither. Run `train` and `measure` again."
        )
    if shared := sorted({*HEALTHY_SEEDS, *SEEDS, _AUGMENTED_SEED} & _panel_seeds(checks)):
        lines.append(
            f"**Not independent**: the panel of the thresholds has seeds {', '.join(map(str, shared))}, and so has "
            f"this benchmark."
        )
    if differing := [one.result.id for one in judged if _contradicts(one, checks)]:
        lines.append(
            f"**Contradiction**: the gate's own exit status differs from this verdict for {', '.join(differing)}."
        )
    if unjudged := [one.result.id for one in judged if one.result.exit_status not in _JUDGED]:
        lines.append(
            f"The gate itself was inconclusive (exit status {NOT_JUDGED}) for {', '.join(unjudged)}. They count "
            "by the rows that it measured."
        )
    gated = sum(check.role == "candidate" and check.binding is not None for check in checks.checks)
    lines.append(
        f"Judged against the checks file with SHA-256 `{checks.sha256[:16]}…`, {many(gated, 'row')} with a threshold "
        f"on the candidate{f', {about}' if (about := checks.recipe.get('about')) else ''}."
    )
    if judged:
        lines.append(_measured_by(judged))
    return "\n\n".join(lines)


def _measured_by(judged: Sequence[Judged]) -> str:
    """Return the processors and versions of torch that measured the results, and those of rows added later."""
    counts = Counter(_by(one.result.versions) for one in judged)
    counted = ", ".join(f"{name} ({n})" for name, n in counts.most_common())
    later = Counter(_by(part["versions"]) for one in judged for part in one.result.later)
    added = ", ".join(f"{name} ({n})" for name, n in later.most_common())
    return f"Measured by {counted}." + (f" Newer rows of the same checkpoints were added by {added}." if added else "")


def _by(versions: Mapping[str, str]) -> str:
    return f"torch {versions.get('torch', 'unknown')} on {versions.get('processor', 'a processor not recorded')}"


def _contradicts(one: Judged, checks: ChecksFile) -> bool:
    """Return whether the gate, with these very thresholds, said otherwise."""
    same, status = one.result.checks_sha256 == checks.sha256, one.result.exit_status
    return same and status in _JUDGED and (status == WORSE) != one.detected


def _panel_seeds(checks: ChecksFile) -> set[int]:
    seeds = checks.recipe.get("seeds", [])
    return {seed for seed in seeds if isinstance(seed, int)} if isinstance(seeds, list) else set()
