"""What the numbers say, in words for someone who has never seen the project."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.perturb import IDENTITY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.gates import Gate, Verdict
    from harness.run.outcome import Outcome
    from harness.run.overview import ModelOverview, Overview

FAMILIES: Mapping[str, str] = {
    "clean": "Images as they are",
    "class": "Single classes",
    "pairs": "Telling similar classes apart",
    "confidence": "Sure, but wrong",
    "rotation": "Turned images",
    "shift": "Moved images",
    "pose": "Images turned and moved at once",
    "search": "The worst turn and shift for each image",
    "flip": "Mirrored images",
    "gain": "Better than the plain model under pose",
    "regression": "No worse than the accepted model",
    "baseline": "The plain model itself",
    "attention": "Looking at the object, and deciding by it",
    "corruption": "Damaged images",
}
"""The families of gates that ship; others go by their own name."""

_METRICS: Mapping[str, str] = {
    "attention_ratio": "share of attention on the object",
    "attention_lift": "attention against a look that is everywhere alike",
    "attention_drift": "how far attention drifts",
    "dead_maps": "maps that show nothing",
    "kept": "answers that stay",
    "lost": "answers that go with the object",
    "calibration_error": "how far sureness is from being right",
    "negative_log_likelihood": "log loss of the probabilities",
    "brier_score": "squared error of the probabilities",
    "confidence_on_errors": "how sure it is of its mistakes",
    "risk_coverage_area": "mistakes among the surest answers, over all shares of them",
    "confidence_rise": "how much surer it becomes as damage grows",
    "mean_corruption_error": "mistakes against the plain model's, over all damages",
    "invariance": "answers that stay",
    "monotonicity": "images that it never grows surer of as severity grows",
    "symmetry": "answers that are the same both ways",
}
_ON_GRIDS: Mapping[str, str] = {
    "right_at_every_pose": "right at all of the {} poses",
    "random_pose_accuracy": "random {} poses",
    "worst_of_ten": "right at ten random {} poses",
}
_PERCENT = {"share", "difference"}
_HINT_POINTS = 10.0
"""Percentage points by which a confusion, or accuracy under pose, must have changed to be named."""
_UNSEEN, _SEEN = 0.02, 0.10
"""A side of the image counts as not looked at when covering it changes so few answers, and so many of another model."""

_LOOKS = 1.1
"""Times an even look from which on a model is said to look at the object; healthy ones reach 1.3."""
_LESS = 0.85
"""A model looks at the object less when its lift is at most so much of another's."""


def sentence(outcome: Outcome) -> str:
    """Return the verdict as a plain sentence."""
    gated = sum(verdict.status in {"pass", "fail"} for verdict in outcome.verdicts)
    failed = len(outcome.failed) + len(outcome.failures)
    if outcome.verdict == "error":
        return "No verdict: this run could not judge the model."
    if outcome.verdict == "partial":
        if failed:
            return f"This model got worse, as far as it was measured: {failed} of {gated} checks fail."
        return f"No verdict yet, only a part was measured; so far all {gated} checks hold."
    if failed:
        return f"This model got worse: {failed} of {gated} checks fail."
    if outcome.scope:
        return f"All {gated} quick checks hold; only the full gate can say that this model is fit to ship."
    return f"This model is fit to ship: all {gated} checks hold."


def family(name: str) -> str:
    """Return what a family of gates is about."""
    return FAMILIES.get(name, name.replace("-", " ").replace("_", " ").capitalize())


def case(gate: Gate) -> str:
    """Return what a row of the gates file is about, within its family; its id where nothing else is known."""
    parts = []
    if gate.class_name:
        parts.append(gate.class_name)
    if gate.pair:
        parts.append(f"{gate.pair[0]} and {gate.pair[1]} taken for each other")
    if gate.confidence is not None:
        parts.append(f"mistakes over {gate.confidence:.0%} sure")
    if gate.path and gate.share_broken:
        parts.append(f"{gate.path}: {gate.share_broken:.0%} of the images break by")
    if gate.grid:
        parts.append(_ON_GRIDS.get(gate.metric, "{} poses").format(gate.grid))
    if gate.metric in _METRICS:
        parts.append(_METRICS[gate.metric])
    if gate.answers:
        parts.append(f"{gate.answers} answers")
    if gate.background:
        seen = "another image's background" if gate.background == "swapped" else f"background of {gate.background}"
        parts.append(seen + (f" at {gate.strength:.0%}" if gate.strength else ""))
    if gate.corruption:
        strength = f", {gate.severity} of 5" if gate.severity else ""
        parts.append(gate.corruption.replace("-", " ") + strength)
    if gate.within:
        limit = gate.within
        parts.append(f"any pose within ±{limit.degrees:g}°, ±{max(limit.dx, limit.dy):g} px")
    if gate.pose != IDENTITY:
        parts.append(gate.pose.in_words())
    if not parts:
        return "all images" if gate.family in FAMILIES else gate.id
    return ", ".join(parts)


def quantity(value: float | None, unit: str) -> str:
    """Return a value as people read it: a share in percent, a difference in points, a severity with its unit."""
    if value is None:
        return ""
    known = {
        "share": f"{100 * value:.1f}%",
        "difference": f"{100 * value:+.1f} points",
        "images": f"{value:.0f} images",
        "degrees": f"{value:.1f}°",
        "pixels": f"{value:.2f} px",
        "factor": f"{value:.2f} times",
        "score": f"{value:.3f}",
    }
    return known.get(unit, f"{value:.4g}")


def required(verdict: Verdict) -> str:
    """Return the bound of a verdict in words."""
    if verdict.limit is None:
        return ""
    return (
        f"{'at least' if verdict.gate.direction == 'at_least' else 'at most'} {quantity(verdict.limit, verdict.unit)}"
    )


def healthy(verdict: Verdict) -> str:
    """Return what healthy models reach, as mean ± standard deviation; empty where nobody knows."""
    known = verdict.gate.healthy
    if known is None or known.mean is None or known.std is None:
        return ""
    if verdict.unit == "images" and verdict.gate.share != 1:
        return quantity(known.mean * verdict.gate.share, verdict.unit)
    spread = f"{100 * known.std:.1f}" if verdict.unit in _PERCENT else f"{known.std:.2g}"
    return f"{quantity(known.mean, verdict.unit)} ± {spread}"


def hints(overview: Overview | None) -> list[tuple[str, str]]:
    """Return what the mistakes of the first model have in common, each as (finding, figures), causes before effects.

    These point a reader the right way; no verdict follows from them.
    """
    if overview is None or (reference := overview.reference) is None:
        return []
    return [
        *_blind_sides(overview.models[0], reference),
        *_looking_elsewhere(overview.models[0], reference),
        *_confusions(overview, reference),
        *_fragile(overview.models[0], reference),
    ]


def _confusions(overview: Overview, reference: ModelOverview) -> list[tuple[str, str]]:
    from harness.report.matrices import shares

    mine, theirs = np.nan_to_num(shares(overview.models[0])), np.nan_to_num(shares(reference))
    rise = mine - theirs
    np.fill_diagonal(rise, 0)
    found = []
    for at in np.argsort(-rise, axis=None)[:3]:
        true, taken = divmod(int(at), len(overview.classes))
        if rise[true, taken] >= _HINT_POINTS:
            found.append(
                (
                    f"{overview.classes[true]} is taken for {overview.classes[taken]}",
                    f"{mine[true, taken]:.0f}% of the time, against {theirs[true, taken]:.0f}% ({reference.name})",
                )
            )
    return found


def _blind_sides(model: ModelOverview, reference: ModelOverview) -> list[tuple[str, str]]:
    return [
        (
            f"It does not look at the {side} half of the image",
            f"blacking it out changes {model.covered[side]:.0%} of its answers, "
            f"against {reference.covered[side]:.0%} ({reference.name})",
        )
        for side in model.covered
        if model.covered[side] <= _UNSEEN and reference.covered.get(side, 0) >= _SEEN
    ]


def _fragile(model: ModelOverview, reference: ModelOverview) -> list[tuple[str, str]]:
    lost = 100 * (reference.corners.value - model.corners.value)
    if lost < _HINT_POINTS or lost < 200 * (reference.accuracy.value - model.accuracy.value):
        return []
    return [
        (
            "It breaks when images are turned and moved a little",
            f"{model.corners.value:.0%} right there, against {reference.corners.value:.0%} ({reference.name})",
        )
    ]


def where_it_looks(overview: Overview | None) -> str:
    """Return in a sentence whether the first model looks at the object; empty when a hint says so, or nobody knows."""
    found = overview and overview.models[0].on_object_overall
    if not (overview and found):
        return ""
    reference = overview.reference
    if reference and _looking_elsewhere(overview.models[0], reference):
        return ""  # Said among the hints.
    theirs = reference.on_object_overall if reference else None
    beside = f"; {reference.name} {theirs.ratio:.0%}" if reference and theirs else ""
    says = "It looks at the object" if found.lift >= _LOOKS else "It hardly looks at the object more than elsewhere"
    return f"{says}: {found.ratio:.0%} of its attention is there, an even look would have {found.uniform:.0%}{beside}."


def _looking_elsewhere(model: ModelOverview, reference: ModelOverview) -> list[tuple[str, str]]:
    mine, theirs = model.on_object_overall, reference.on_object_overall
    if mine is None or theirs is None or mine.lift > _LESS * theirs.lift:
        return []
    return [
        (
            "It looks at the object less",
            f"{mine.ratio:.0%} of its attention is on the object, against {theirs.ratio:.0%} ({reference.name}); an "
            f"even look would have {mine.uniform:.0%}",
        )
    ]
