"""What the tables rest on: which results there are, by which rows, and on which machines they were made."""

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
"""The seed of the shipped augmented model, the healthy parent of a third of the mutations of weights."""


def state(kept: Mapping[Mutant, Result | None], judged: Sequence[Judged], checks: ChecksFile) -> str:
    """Return in Markdown what is missing, what is out of date, and by what was measured and judged."""
    lines = []
    if missing := [mutant for mutant, result in kept.items() if result is None]:
        retrains = sum(mutant.kind == HEALTHY for mutant in missing)
        lines.append(
            f"**Not finished**: {len(missing)} of {len(kept)} checkpoints are not trained or not measured yet, "
            f"{many(retrains, 'healthy retrain')} among them. All figures are of the others."
        )
    if old := [one for one in judged if one.unmeasured]:
        retrains, undecided = sum(one.healthy for one in old), sum(one.undecided and not one.healthy for one in old)
        newer = {name for one in old for name in one.unmeasured}
        by_families = Counter(check.family for check in checks.checks if check.id in newer)
        lacking = ", ".join(f"{family} ({many(n, 'row')})" for family, n in by_families.most_common())
        lines.append(
            f"**Not measured on every row**: {many(len(old), 'result')}, {many(retrains, 'healthy retrain')} among "
            f"them, lack rows with a threshold that are newer than they are, of the families {lacking}. A mutant that "
            f"fails in the rows it has is detected all the same; one that does not is undecided ({undecided}) and "
            "counts as neither. `train` and `measure` again."
        )
    if shared := sorted({*HEALTHY_SEEDS, *SEEDS, _AUGMENTED_SEED} & _panel_seeds(checks)):
        lines.append(
            f"**Not independent**: the thresholds were made with seeds {', '.join(map(str, shared))}, which are used "
            f"here as well."
        )
    if differing := [one.result.id for one in judged if _contradicts(one, checks)]:
        lines.append(
            f"**Contradiction**: the gate's own exit status differs from this judgement for {', '.join(differing)}."
        )
    if unjudged := [one.result.id for one in judged if one.result.exit_status not in _JUDGED]:
        lines.append(
            f"The gate itself could not judge (exit status {NOT_JUDGED}) {', '.join(unjudged)}; they count "
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
    """Say on which processors and versions of torch the results were measured, and where one result has two."""
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
