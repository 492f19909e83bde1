"""Sections of the page.

The basis of the tables, the controls, and what is measured besides the gate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from benchmarks.detection.besides import NET_LOSS, read_backdoors, read_flipped
from benchmarks.detection.colour import read_colour
from benchmarks.detection.judgement import Judged, upper_bound
from benchmarks.detection.mutants import HEALTHY, HEALTHY_SEEDS, SEEDS, Mutant
from benchmarks.detection.recipes import TARGET
from benchmarks.detection.results import Result
from benchmarks.runner import many, percent, table
from harness.checks import ChecksFile
from harness.run.status import NOT_JUDGED, PASSED, WORSE

_NAMED_ROWS = 5
_JUDGED = (PASSED, WORSE)
_AUGMENTED_SEED = 42
"""The seed of the shipped augmented model, the parent of a third of the mutations of weights."""


def yes_or_no(yes: bool) -> str:  # noqa: FBT001  Its only argument.
    """Write a boolean, its no in bold."""
    return "yes" if yes else "**no**"


# The basis of the tables: the results, their rows, and the machines that made them.


def state(
    kept: Mapping[Mutant, Result | None], judged: Sequence[Judged], checks: ChecksFile
) -> str:
    """Return in Markdown the missing and outdated results, the checks file, and the machines."""
    lines = []
    if missing := [mutant for mutant, result in kept.items() if result is None]:
        controls = sum(mutant.kind == HEALTHY for mutant in missing)
        lines.append(
            f"**Not finished**: {len(missing)} of {len(kept)} checkpoints are not trained or not "
            f"measured yet, {many(controls, 'control')} among them. All figures are of the others."
        )
    if old := [one for one in judged if one.unmeasured]:
        controls, undecided = (
            sum(one.healthy for one in old),
            sum(one.undecided and not one.healthy for one in old),
        )
        newer = {name for one in old for name in one.unmeasured}
        by_families = Counter(check.family for check in checks.checks if check.id in newer)
        lacking = ", ".join(
            f"{family} ({many(n, 'row')})" for family, n in by_families.most_common()
        )
        lines.append(
            f"**Not measured on every row**: {many(len(old), 'result')}, "
            f"{many(controls, 'control')} among them, lack newer rows with a threshold. The rows "
            f"are of the families {lacking}. A mutant that fails in the rows it has is detected "
            f"all the same. Any other is undecided ({undecided}) and counts as neither. Run "
            "`train` and `measure` again."
        )
    seeds = checks.recipe.get("seeds", [])
    if shared := sorted(
        {*HEALTHY_SEEDS, *SEEDS, _AUGMENTED_SEED} & set(seeds if isinstance(seeds, list) else [])
    ):
        lines.append(
            "**Not independent**: the panel of the thresholds has seeds "
            f"{', '.join(map(str, shared))}, and so has this benchmark."
        )
    if differing := [one.result.id for one in judged if _contradicts(one, checks)]:
        lines.append(
            "**Contradiction**: the gate's own exit status differs from this verdict for "
            f"{', '.join(differing)}."
        )
    if unjudged := [one.result.id for one in judged if one.result.exit_status not in _JUDGED]:
        lines.append(
            f"The gate itself was inconclusive (exit status {NOT_JUDGED}) for "
            f"{', '.join(unjudged)}. They count by the rows that it measured."
        )
    gated = sum(check.role == "candidate" and check.binding is not None for check in checks.checks)
    lines.append(
        f"Judged against the checks file with SHA-256 `{checks.sha256[:16]}…`, "
        f"{many(gated, 'row')} with a threshold on the "
        f"candidate{f', {about}' if (about := checks.recipe.get('about')) else ''}."
    )
    if judged:
        later = _counted(part["versions"] for one in judged for part in one.result.later)
        added = f" Newer rows of the same checkpoints were added by {later}." if later else ""
        lines.append(f"Measured by {_counted(one.result.versions for one in judged)}.{added}")
    return "\n\n".join(lines)


def _counted(versions: Iterable[Mapping[str, str]]) -> str:
    """Return versions of torch on processors, each with its number of results."""
    words = (
        f"torch {each.get('torch', 'unknown')} on "
        f"{each.get('processor', 'a processor not recorded')}"
        for each in versions
    )
    return ", ".join(f"{name} ({n})" for name, n in Counter(words).most_common())


def _contradicts(one: Judged, checks: ChecksFile) -> bool:
    """Return whether the gate, with these very thresholds, said otherwise."""
    same, status = one.result.checks_sha256 == checks.sha256, one.result.exit_status
    return same and status in _JUDGED and (status == WORSE) != one.detected


# Controls: the share that the gate fails, and the distance of a mutant that it passes.


def false_alarms(healthy: Sequence[Judged]) -> str:
    """Return how many controls fail, of those measured on every row, and of all.

    Those of the second kind count by the rows that they have. A control that lacks rows proves
    nothing for them, so it never counts as one that the whole gate passes.
    """
    if not healthy:
        return "No control is judged yet."
    whole = [one for one in healthy if not one.unmeasured]
    older = [one for one in healthy if one.unmeasured]
    parts = [_rate(whole, "measured on every row")] if whole else []
    if older:
        lacking = max(len(one.unmeasured) for one in older)
        parts.append(
            f"{many(len(older), 'more control' if whole else 'control')} lack up to "
            f"{many(lacking, 'row')} that the checks file has now; for these rows they prove "
            "nothing. " + _rate(healthy, "by the rows that each was measured on")
        )
    parts.append(
        "The confidence bound is exact and one-sided (Clopper & Pearson 1934). It does not prove "
        "the rate of 1% that the thresholds aim at."
    )
    if alarms := [one for one in healthy if one.detected]:
        parts.append("\n".join(map(_alarm, alarms)))
    return "\n\n".join(parts)


def false_alarms_in_short(healthy: Sequence[Judged], checks: ChecksFile) -> str:
    """Return the share of failing controls with its bound and its rows, for a first page."""
    if not healthy:
        return "No control is judged yet."
    failed, n = sum(one.detected for one in healthy), len(healthy)
    gated = sum(check.role == "candidate" and check.binding is not None for check in checks.checks)
    measured = gated - max(len(one.unmeasured) for one in healthy)
    rows = f"all {gated}" if measured == gated else f"at least {measured} of the {gated}"
    return (
        f"The gate fails {failed} of {n} healthy networks outside the reference panel. Each was "
        f"measured on {rows} checks with a threshold. With 95% confidence, at most "
        f"{upper_bound(failed, n):.1%} of healthy networks fail."
    )


def like_healthy(missed: Sequence[Judged], healthy: Sequence[Judged]) -> str:
    """Return how many mutants come no nearer to a threshold than passing controls."""
    limit = min((one.nearest[1] for one in healthy if one.nearest), default=None)
    if limit is None:
        return ""
    alike = sum(one.nearest is not None and one.nearest[1] >= limit for one in missed)
    own = [beyond(one, [other for other in healthy if other is not one])[0] for one in healthy]
    return (
        f"Controls that pass come as near as {limit:.1f} standard deviations to a threshold. The "
        f"gate passes {many(len(missed), 'mutant')}: {alike} keep that distance, "
        f"{len(missed) - alike} do not. Such a control is worse than all {len(healthy) - 1} "
        f"others in {min(own)} to {max(own)} rows."
    )


def beyond(one: Judged, healthy: Sequence[Judged]) -> tuple[int, int]:
    """Return the number of rows worse than every control's, and of common rows."""
    worse = compared = 0
    for verdict in one.verdicts:
        others = [
            value
            for other in healthy
            if (value := other.result.rows.get(verdict.check.id)) is not None
        ]
        if verdict.value is None or not others:
            continue
        compared += 1
        worst = max(others) if verdict.check.direction == "at_most" else min(others)
        worse += verdict.value != worst and verdict.check.holds(worst, verdict.value)
    return worse, compared


def _rate(healthy: Sequence[Judged], how: str) -> str:
    failed, n = sum(one.detected for one in healthy), len(healthy)
    accuracies = [one.clean_accuracy for one in healthy]
    return (
        f"The gate fails **{failed} of {n}** controls {how} (clean accuracy "
        f"{percent(min(accuracies))} to {percent(max(accuracies))}). This proves, with 95% "
        f"confidence, that no more than {upper_bound(failed, n):.1%} of such networks raise a "
        "false alarm."
    )


def _alarm(one: Judged) -> str:
    named = ", ".join(f"`{verdict.check.id}`" for verdict in one.failed[:_NAMED_ROWS])
    more = len(one.failed) - _NAMED_ROWS
    return f"- `{one.result.id}` fails {named}" + (
        f" and {many(more, 'row')} more" if more > 0 else ""
    )


# Measured besides the gate; each is empty where it has not run.


def backdoors(judged: Sequence[Judged]) -> str:
    """Return the success rate of each backdoor beside the gate's verdict."""
    if not (found := read_backdoors()):
        return ""
    verdicts = {one.result.id: one for one in judged}
    rows = []
    for name, one in found.items():
        verdict = verdicts.get(name)
        of_gate = (
            (percent(verdict.clean_accuracy), yes_or_no(verdict.detected))
            if verdict
            else ("–", "–")
        )
        rows.append((name, percent(one.stamped), percent(one.unstamped), *of_gate))
    return (
        "### Backdoors\n\nThe table has the share of test images of other classes that are "
        f"predicted as {TARGET}, with the trigger on them and without it. The gate has no stamped "
        "image and does not know the trigger. It may notice the cost of learning the trigger on "
        "other images, never the backdoor itself.\n\n"
        + table(("network", "with the trigger", "without", "clean accuracy", "gate fails it"), rows)
    )


def colour() -> str:
    """Return the verdicts of the example's gate on each order of channels."""
    if not (found := read_colour()):
        return ""
    rows = []
    for order in dict.fromkeys(one.order for one in found):
        group = [one for one in found if one.order == order]
        failed = f"{sum(bool(one.failed) for one in group)} of {len(group)}"
        by = ", ".join(many(len(one.failed), "row") for one in group)
        rows.append((order, failed, by, ", ".join(percent(one.clean_accuracy) for one in group)))
    return (
        "### Channels in the wrong order\n\nThe garments are gray, so this table uses the colored "
        "digits of `examples/digits_on_photos` and the example's own checks. Its network, trained "
        "anew, sees the channels in the order of its training (RGB) and in two wrong orders.\n\n"
        + table(("shown", "the gate fails", "by", "clean accuracy"), rows)
    )


def flipped(checks: ChecksFile) -> str:
    """Return the share of draws that the checks on clean images fail."""
    if (drawn := read_flipped()) is None:
        return ""
    old = (
        ""
        if drawn.checks_sha256 == checks.sha256
        else " **An older checks file judged them**: run `flip` again."
    )
    return (
        f"### A hundred correct predictions lost\n\nControls lose {NET_LOSS} net correct "
        f"predictions of 10,000 at random ({drawn.networks} networks, {drawn.draws} draws). The "
        f"checks on clean images fail **{drawn.failed / drawn.draws:.1%}** of these draws. The "
        f"threshold of clean accuracy alone fails {drawn.failed_by_clean / drawn.draws:.1%}.{old}"
    )
