"""The diagnosis of a served model: lines for people, and a record for tools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.checks.tolerance import what_decides
from harness.features.skew.explanation import ALPHA, least_changes
from harness.features.skew.probabilities import MATERIAL
from harness.features.skew.trials import AFFINE
from harness.inference.levels import levels_between
from harness.measures.statistics import related

if TYPE_CHECKING:
    from harness.features.skew.diagnosis import SkewDiagnosis
    from harness.features.skew.probabilities import Moves
    from harness.features.skew.trials import Trial
    from harness.inference.levels import Levels

_VERDICTS = {"equal": "Served as judged", "different": "Different", "inconclusive": "Cannot tell"}


def diagnosis_lines(found: SkewDiagnosis) -> list[str]:
    """Return the outcome in a sentence, the reference pipeline, and the explanation.

    The explanation is of the served predictions.
    """
    lines = [_sentence(found)]
    if found.moves is not None:
        lines.append(f"probabilities: {_moved(found.moves)}")
    if found.order:
        lines.append(f"cause: classes: {found.order}")
    lines.append(f"reference: {found.serving.reference}")
    if found.serving.note:
        lines.append(f"note: {found.serving.note}")
    if found.undecided:
        tie = f"{found.undecided:,} predictions tie and count as changed"
        lines.append(f"undecided: {tie}; write more digits, or labels")
    if (best := found.best) is None:
        return lines
    if not found.named:
        return [*lines, *_not_proven(found, best)]
    title = "cause, a pair of stages" if len(best.causes) > 1 else "cause"
    lines.append(
        f"{title if len(found.causes) == 1 else 'cause, one of several'}: {_words(found, best)}"
    )
    lines.append(f"  {_share(found, best)}; p {related(found.p)}")
    others = {each.causes: each for each in reversed(found.alike) if each.causes != best.causes}
    alike = (others[causes] for causes in found.causes[1:])
    lines += [f"  not told apart from it: {_words(found, each)}; {_net(each)}" for each in alike]
    if found.runner_up is not None:
        said = (
            f"{_words(found, found.runner_up)}; {_net(found.runner_up)}, p of the difference "
            f"{related(found.p_next)}"
        )
        lines.append(f"runner-up: {said}")
    return lines


def _sentence(found: SkewDiagnosis) -> str:
    counts = found.reference
    changed = f"{counts.changed:,} of {counts.n:,} predictions ({found.checks[0].in_brief})"
    verdict = "Skew found" if _only_probabilities_differ(found) else _VERDICTS[found.outcome]
    start = f"{verdict}: {changed} are not those of the reference pipeline"
    if found.order:
        return f"{start} once the classes are in the data's order."
    decides, more = what_decides(found.checks, found.outcome)
    lost = (
        f"{abs(found.lost):,} correct predictions are {'lost' if found.lost >= 0 else 'won'}, net"
    )
    return f"{start}{decides}; {lost}{more}."


def _only_probabilities_differ(found: SkewDiagnosis) -> bool:
    by_predictions = found.order or any(check.outcome == "different" for check in found.checks)
    return found.is_moved and not by_predictions


def _moved(moves: Moves) -> str:
    """Say how many images moved and by how much, and why that is a skew or is none."""
    material = (
        f"{moves.material:,} of {moves.n:,} images ({moves.material / moves.n:.1%}) move by more "
        f"than {MATERIAL:g}"
    )
    counted = f"{material}, the largest by {moves.largest:.2g}"
    noise = moves.noise
    explained = f"{noise.precision} alone explains moves up to {moves.limit:.2g}"
    if not noise.declared:
        explained = f"the precision is unknown, and {explained}"
    if moves.proven:
        proof = (
            "the same weights get another input"
            if noise.declared
            else "another input, or another model"
        )
        return (
            f"skew found: {counted}. {moves.beyond:,} move further than the noise ({explained}): "
            f"{proof}."
        )
    more = "" if noise.declared else " --served-precision tells smaller moves from noise."
    return f"{counted}. This is within the noise: {explained}.{more}"


def _not_proven(found: SkewDiagnosis, best: Trial) -> list[str]:
    """Say why no cause is named.

    Too few changed predictions, or no pipeline that explains enough of them.
    """
    needed, changed = least_changes(max(found.comparisons, 1)), best.explains.changed
    if changed < needed:
        more = f"{-(-needed * best.explains.n // max(changed, 1)):,} or so"
        return [
            f"cause: not proven. It takes {needed} {_counted(found)} to name a cause; give more "
            f"images, {more}",
            f"  the likeliest so far: {_words(found, best)}; {_net(best)}",
        ]
    if found.probable:
        said = (
            f"{_share(found, best)}; p {related(found.p)}. Give more images, or look for a second "
            "cause"
        )
        return [f"cause: not proven: probably {_words(found, best)}", f"  {said}"]
    remedy = "look for another model file, or a step that the catalog lacks"
    if found.unrelated:
        remedy = (
            "predictions for other images agree as often; compare image with the numbers or names "
            "of the data"
        )
    said = f"{_words(found, best)}, {_net(best)}; p {related(found.p)}, expected below {ALPHA}"
    return ["cause: none of them", f"  the best, {said}", f"  {remedy}"]


def diagnosis_json(found: SkewDiagnosis) -> dict[str, Any]:
    """Return the diagnosis as a record.

    `causes` has each cause, with the order of classes if it differs.
    """
    classes = ["classes"] if found.order else []
    stages = [[*classes, *causes] for causes in found.causes] if found.named else []
    return {
        "outcome": "as judged" if found.outcome == "equal" else found.outcome,
        "named": found.named or bool(found.order),
        "images": found.reference.n,
        "changed": found.reference.changed,
        "correct_lost": found.lost,
        "probabilities": found.moves and _moves_record(found.moves),
        "upper": found.checks[0].limits[1],
        "tolerance": found.checks[0].tolerance,
        "reference": str(found.serving.reference),
        "causes": stages or ([classes] if classes else []),
        "best": found.best and _record(found, found.best),
        "alike": [_record(found, each) for each in found.alike],
        "runner_up": found.runner_up and _record(found, found.runner_up),
        **{name: getattr(found, name) for name in _AS_THEY_ARE},
    }


_AS_THEY_ARE = (
    "undecided",
    "order",
    "probable",
    "p",
    "p_next",
    "comparisons",
    "unrelated",
    "by_probabilities",
)


def _moves_record(moves: Moves) -> dict[str, Any]:
    return {
        "proven": moves.proven,
        "images": moves.n,
        "moved": moves.material,
        "largest": moves.largest,
        "beyond_noise": moves.beyond,
        "noise": moves.limit,
        "precision": moves.noise.precision,
        "precision_given": moves.noise.declared,
        "sentence": _moved(moves),
    }


def _record(found: SkewDiagnosis, trial: Trial) -> dict[str, Any]:
    counts, levels = trial.explains, _levels(found, trial)
    return {
        "skew": trial.skew,
        "stages": list(trial.causes),
        "words": _words(found, trial),
        "pipeline": str(trial.pipeline),
        "gain": levels and levels.gain,
        "offset": levels and levels.offset,
        "explained": counts.explained,
        "introduced": counts.introduced,
        "agreement": counts.agreement,
        "explained_share": counts.explained / max(counts.changed, 1),
        "interval": list(counts.interval),
    }


def _words(found: SkewDiagnosis, trial: Trial) -> str:
    """Return the stages in which a pipeline differs as text, with the name of its skew, if any."""
    words = trial.pipeline.words
    stages = trial.pipeline.differing(found.serving.reference)
    if not trial.skew and (levels := _levels(found, trial)) is not None:
        return f"{AFFINE}: {levels}"
    text = " and ".join(f"{stage}: {words[stage] or 'not saved anew'}" for stage in stages)
    return f"{text} (skew {trial.skew})" if trial.skew else text


def _levels(found: SkewDiagnosis, trial: Trial) -> Levels | None:
    """Return the gain and offset of pixels that a pipeline amounts to.

    None for one that does anything else.
    """
    return (
        levels_between(trial.pipeline, found.serving.reference)
        if trial.causes == (AFFINE,)
        else None
    )


def _share(found: SkewDiagnosis, trial: Trial) -> str:
    counts = trial.explains
    low, high = counts.interval
    share = (
        f"{counts.explained:,} of {counts.changed:,} {_counted(found)} "
        f"({counts.explained / counts.changed:.1%}"
    )
    return (
        f"explains {share}, 95% CI {low:.1%} to {high:.1%}) and changes {counts.introduced:,} "
        "others"
    )


def _counted(found: SkewDiagnosis) -> str:
    return "probabilities that moved" if found.by_probabilities else "changed predictions"


def _net(trial: Trial) -> str:
    return f"explains {max(trial.explains.net, 0):.1%}, net"
