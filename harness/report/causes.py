"""Likely cause of the failures of a run, from the checks that fail and their distance from reference models.

The rules are simple, stated, and measured on mutants: see `benchmarks/causes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from harness.base.errors import some_of
from harness.base.features import resolve
from harness.checks.families import FAMILIES, families_in_words
from harness.checks.roles import ROLES
from harness.measures import METRICS
from harness.measures.accuracy import ACCURACY, CONFIDENT_ERRORS
from harness.measures.confidence import CALIBRATION_ERROR
from harness.measures.slices import GROUP_ACCURACY, GROUP_DIFFERENCE
from harness.perturb import IDENTITY
from harness.report.signs import FAR, deviation, rare
from harness.report.wording import points
from harness.run.overview import EXPECTED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.base.features import Family
    from harness.checks import Verdict
    from harness.run.outcome import InputFaults
    from harness.run.overview import Overview

CLASSES, GROUP, GEOMETRY, CORRUPTION = "class confusion", "one group of images", "geometry", "a corruption family"
CALIBRATION, ATTENTION, DRIFT, PIPELINE = "calibration", "attention", "drift of everything", "broken pipeline"
LABELS = "training labels"
MISSING, WEIGHTS = "a class that is never predicted", "changed weights"
UNCLEAR = "unclear"

AREAS = {
    "clean images": ("clean", "regression", "flips"),
    "classes": ("class", "class-difference", "pairs"),
    "geometry": ("rotation", "shift", "flip", "pose", "search", "gain"),
    "corruptions": ("corruption",),
    "confidence": ("confidence",),
    "attention": ("attention",),
    "groups": ("slice",),
    "unknown images": ("unknown",),
}
"""Families by what they are about; all others are other checks, or have an area of their own."""
_OTHER = "other checks"
_OF_ALL = {"clean", "regression"}
_APART_FROM_OTHERS = {"clean images", "classes", "geometry", "corruptions", "confidence", "attention"}
"""Where a rule asks in how many areas a model is worse, all areas but these count as one."""
_TWO, _LEAST_CLASSES = 2, 5
"""Classes that may carry a confusion, and how many are measured at least to say so."""
_CARRY = 0.85
"""Share of the accuracy lost by all classes that two of them carry in a confusion."""
_OTHERS = 1 / 2
"""Largest rise of the log odds of an error of any other group of a column, as a share of that of the cause."""
_BESIDE = 0.1
"""Smallest miss of a threshold that bears on the cause, as a share of the largest; both in standard deviations."""
_APART = 2.0
"""Smallest miss of one class or two that is the cause, as a multiple of the largest of a check that is of no class."""
_FAR_CLASS = 4.0
"""Smallest deviation of the accuracy of one class that is the cause; one of 60 healthy controls has it."""
_OF_ONE_CLASS = {"clean images", "classes", "confidence", "attention"}
"""Areas that fail if one class is confused on clean images."""
_UNSURE = 0.05
"""Smallest difference of accuracy and confidence, a share, that wrong training labels explain."""
_COMPARE_PIXELS = "Compare the pixels of training and gate: decoder, size, scale and normalization."
_LOOK_AT_TRAINING = "Look at wrong training labels, label smoothing, weight decay, training time and scaled logits."
_LOOK_AT_LABELS = "Look at the labels of these classes and at the last layer."
_LOOK_FOR_CLASS = "Look for its images in the training data, at the list of classes, and at its row of the last layer."
_BETTER, _SURELY_BETTER, _FAR_BETTER, _WORSE = 1.5, 2.0, 3.0, 5.0
"""Differences of corruptions under another pipeline, in standard deviations of reference models.

By chance, 9 of 60 healthy controls have two kinds of corruption that are better by 1.5, and none has two by 2.
"""


_Shown: TypeAlias = tuple[str, str, str]
"""A group, the evidence for it, and the next step."""


@dataclass(frozen=True)
class Cause:
    """Likely cause of failures: a group, the evidence for it, the next step, and the failing checks by area.

    `counted` is text, such as `geometry 37 of 55, classes 3 of 25`.
    """

    group: str
    evidence: str
    advice: str
    counted: str

    @property
    def sentence(self) -> str:
        """Return group and evidence as one line."""
        return f"Likely cause: {self.group}. {self.evidence}"


def likely_cause(
    verdicts: Sequence[Verdict],
    faults: InputFaults | None = None,
    overview: Overview | None = None,
) -> Cause | None:
    """Return the likely cause of what fails, the group `unclear` if no rule holds; None if no check fails.

    `faults` are the input faults that the run tried, and `overview` has the candidate's predictions by class.
    """
    known = [each for each in verdicts if not ROLES[each.check.role].precondition]
    judged = [_area(each) for each in known if each.judged]
    failed = [_area(each) for each in known if each.status == "fail"]
    if not failed:
        return None
    counted = ", ".join(f"{area} {failed.count(area)} of {judged.count(area)}" for area in _by_count(failed))
    own = {area: family for area, family in _own_areas().items() if area in failed}
    found = _Evidence(known, overview)
    shown = _shown_by_pixels(faults) or _shown_by_classes(found) or _shown_by_family(found)
    return Cause(*(shown or _shown_by_rule(found, own) or _rest(own, failed)), counted)


def _shown_by_pixels(faults: InputFaults | None) -> _Shown | None:
    if faults is None or not faults.explain:
        return None
    shares = f"{faults.correct_with / faults.n:.1%} with {faults.best}, {faults.correct / faults.n:.1%} without"
    images = f"{faults.n:,} images that reference models predict correctly"
    return PIPELINE, f"{shares}: the pixels, not the weights ({images}).", _COMPARE_PIXELS


def _shown_by_classes(found: _Evidence) -> _Shown | None:
    evidence = _never_predicted(found)
    return (MISSING, evidence, _LOOK_FOR_CLASS) if evidence else None


def _shown_by_family(found: _Evidence) -> _Shown | None:
    """Return the cause that the checks of one family show; None if corruptions show that other pixels are expected."""
    if found.expects_other_pixels(by=_SURELY_BETTER):
        return None
    for family in FAMILIES.values():
        if family.cause and (shown := resolve(family.cause)(found.verdicts)):
            return tuple(shown)
    return None


def _shown_by_rule(found: _Evidence, own: Mapping[str, Family]) -> _Shown | None:
    for group, advice, rule in _RULES:
        if evidence := rule(found):
            aside = "".join(f" Left aside are failing checks of {area}." for area in own)
            return group, f"{evidence}{aside}", advice
    return None


def _rest(own: Mapping[str, Family], failed: Sequence[str]) -> _Shown:
    """Return the cause where no rule holds: an area of its own that fails, or none."""
    for area, family in own.items():
        others = "no rule explains the others" if set(failed) - {area} else "no others"
        return area, f"Checks of {area} fail, and {others}.", family.failure
    return UNCLEAR, "No rule explains the checks that fail.", "Look at the checks one by one."


def _area(verdict: Verdict) -> str:
    name = verdict.check.family
    known = next((area for area, families in AREAS.items() if name in families), "")
    return known or (FAMILIES[name].area if name in FAMILIES else "") or _OTHER


def _own_areas() -> dict[str, Family]:
    """Return the families whose area is a cause of its own, by area."""
    return {family.area: family for family in FAMILIES.values() if family.explains}


def _missed(verdict: Verdict) -> float | None:
    """Return by how much a value misses its threshold, binding or not, in standard deviations of reference models."""
    known, panel = verdict.check.reference, verdict.check.panel
    threshold = verdict.threshold if verdict.threshold is not None or panel is None else panel.threshold
    if verdict.value is None or threshold is None or known is None or not known.std:
        return None
    return abs(verdict.value - threshold) / known.std


class _Evidence:
    """Verdicts on the candidate, and those of them that tell of a cause.

    `failed` are failing checks, and informational ones beyond reference models, without those that miss by little.
    Checks without reference models have no comparable miss, so all of them count. Those of an area that is a cause of
    its own, such as batch norms, do not. `misses` has the miss of each.
    `lost` is by how much each class lies below reference models on clean images, a share not below 0. `carrying` are
    the two classes that carry most of it, none if others lose as well. `kinds` is the mean deviation by corruption.
    `never_predicted` has the classes that the candidate never predicts, with the number of their images, and
    `predicted` has all others. Without an overview, such as in the quick profile, the accuracy of a class tells.
    """

    def __init__(self, verdicts: Sequence[Verdict], overview: Overview | None = None) -> None:
        self.verdicts = verdicts
        of_classes = [each for each in verdicts if _is_of_class(each) and each.check.class_name]
        classes = [str(each.check.class_name) for each in of_classes] if overview is None else overview.classes
        self.never_predicted = _never_correct(of_classes) if overview is None else overview.never_predicted
        self.predicted = [name for name in classes if name not in self.never_predicted]
        beyond = [each for each in verdicts if each.status == "fail"] + [each for _, each in rare(verdicts)[1]]
        own = _own_areas()
        beyond = [each for each in beyond if _area(each) not in own]
        least = _BESIDE * max((miss for miss in map(_missed, beyond) if miss is not None), default=0.0)
        self.failed = [each for each in beyond if (miss := _missed(each)) is None or miss >= least]
        self.misses = [_missed(each) or 0.0 for each in self.failed]
        self.areas = {_area(each) for each in self.failed}
        self.clean_holds = all(each.check.family not in _OF_ALL for each in self.failed)
        self.lost = {
            each.check.class_name: max(each.check.panel.mean - each.value, 0.0)
            for each in verdicts
            if _is_of_class(each) and each.check.class_name and each.value is not None
            if each.check.panel and each.check.panel.mean is not None
        }
        named = sorted(self.lost, key=lambda name: -self.lost[name])[:_TWO]
        carried = sum(self.lost[name] for name in named)
        enough = len(self.lost) >= _LEAST_CLASSES and carried > 0 and carried >= _CARRY * sum(self.lost.values())
        self.carrying = named if enough else []
        kinds: dict[str, list[float]] = {}
        for each in verdicts:
            is_share = (each.check.family, each.metric) == ("corruption", ACCURACY.name)
            if is_share and (away := deviation(each)) is not None:
                kinds.setdefault(str(each.check.keys.get("corruption")).replace("-", " "), []).append(away)
        self.kinds = {kind: float(np.mean(values)) for kind, values in kinds.items()}

    def better(self, by: float) -> list[str]:
        """Return the kinds of corruption that are better by so many standard deviations, the best first."""
        return sorted((kind for kind in self.kinds if self.kinds[kind] <= -by), key=lambda kind: self.kinds[kind])

    def expects_other_pixels(self, *, by: float) -> bool:
        """Return whether two kinds of corruption are better by so many standard deviations, and one is far worse."""
        return len(self.better(by)) >= _TWO and max(self.kinds.values()) >= _WORSE

    def mostly(self, area: str) -> bool:
        """Return whether half of the failing checks are of an area, and half of those of a family there fail.

        Overall accuracy on clean images must pass.
        """
        inside = [each.check.family for each in self.failed if _area(each) == area]
        judged = [each.check.family for each in self.verdicts if each.judged]
        whole = any(2 * inside.count(family) >= judged.count(family) for family in inside)
        return self.clean_holds and 2 * len(inside) >= len(self.failed) and whole


def _never_correct(of_classes: Sequence[Verdict]) -> dict[str, int]:
    """Return the only class without a correct prediction, with the number of its images.

    It is empty if other classes lose as well, since their images may be predicted as this one.
    """
    missing = {
        str(verdict.check.class_name): verdict.n
        for verdict in of_classes
        if verdict.value == 0 and verdict.n * _usual_accuracy(verdict) >= EXPECTED
    }
    lost = sum(max(_usual_accuracy(verdict) - (verdict.value or 0.0), 0.0) for verdict in of_classes)
    of_missing = sum(_usual_accuracy(verdict) for verdict in of_classes if verdict.check.class_name in missing)
    return missing if len(missing) == 1 and of_missing >= _CARRY * lost else {}


def _usual_accuracy(verdict: Verdict) -> float:
    panel = verdict.check.panel
    return 0.5 if panel is None or panel.mean is None else panel.mean


def _is_of_class(verdict: Verdict) -> bool:
    """Return whether a check is of the accuracy of a class on clean images."""
    check = verdict.check
    return (check.family, verdict.metric, check.pose) == ("class", ACCURACY.name, IDENTITY)


def _never_predicted(found: _Evidence) -> str:
    """Name the classes that are never predicted, if they carry the loss of accuracy and most others are predicted."""
    missing, lost = found.never_predicted, found.lost
    if not missing or len(missing) > len(found.predicted):
        return ""
    carried = sum(lost.get(name, 0.0) for name in missing)
    if carried < _CARRY * sum(lost.values()):
        return ""
    return f"{_said_missing(found)}."


def _said_missing(found: _Evidence) -> str:
    missing = found.never_predicted
    verb = "is" if len(missing) == 1 else "are"
    return f"{some_of([*missing])} {verb} never predicted (of {sum(missing.values()):,} images)"


def _labels(found: _Evidence) -> str:
    of_all = [each for each in found.verdicts if each.check.family in {"clean", "confidence"}]
    clean = {each.metric: each for each in reversed(of_all) if each.check.pose == IDENTITY}
    named = [clean.get(metric.name) for metric in (ACCURACY, CALIBRATION_ERROR, CONFIDENT_ERRORS)]
    known = [(each.value, each.status, deviation(each) or 0.0) for each in named if each is not None]
    match known:
        case [(float(right), "fail", lost), (float(gap), "fail", unsure), (_, _, errors)] if (
            unsure > lost and errors <= 0
        ):
            said = f"Accuracy {right:.1%} is far above mean confidence, about {right - gap:.1%}: labels that contradict"
            return f"{said} each other make a model unsure." if gap >= _UNSURE else ""
    return ""


def _calibration(found: _Evidence) -> str:
    if "confidence" not in found.areas or not found.areas <= {"confidence", "attention"} or max(found.misses) < FAR:
        return ""
    if _by_class(found):
        return ""
    return "Checks of confidence fail, and none of accuracy."


def _attention(found: _Evidence) -> str:
    return "Only checks of attention fail." if found.areas == {"attention"} else ""


def _geometry(found: _Evidence) -> str:
    if not found.mostly("geometry"):
        return ""
    families = _by_count([each.check.family for each in found.failed if _area(each) == "geometry"])
    named = families_in_words(families)
    return f"Clean accuracy passes, and most failing checks rotate, translate or flip images ({named})."


def _group(found: _Evidence) -> str:
    """Compare the odds of an error, by column and group: damage to all moves all odds alike, but not accuracy."""
    ratios: dict[str, dict[str, float]] = {}
    for each in found.verdicts:
        panel, keys = each.check.panel, each.check.keys
        if (each.metric, each.check.pose) != (GROUP_ACCURACY.name, IDENTITY) or each.value is None:
            continue
        if panel and panel.mean is not None:
            own, usual = (each.n * right + 0.5 for right in (each.value, panel.mean))
            odds = (each.n + 1 - own) / own, (each.n + 1 - usual) / usual
            ratios.setdefault(str(keys.get("by")), {})[str(keys.get("group"))] = float(np.log(odds[0] / odds[1]))
    different = [each.check.keys for each in found.failed if each.metric == GROUP_DIFFERENCE.name]
    for by, of_groups in ratios.items():
        falling = {str(keys.get("group")) for keys in different if keys.get("by") == by}
        others = [ratio for group, ratio in of_groups.items() if group not in falling]
        (group,) = falling if len(falling) == 1 else ("",)
        rise = of_groups.get(group, 0.0)
        if rise > 0 and others and max(others) <= _OTHERS * rise:
            return (
                f"The odds of an error on {by} {group} are {np.exp(rise):.1f} times those of reference models, on "
                f"any other group by {by} at most {np.exp(max(others)):.1f} times."
            )
    return ""


def _by_margin(found: _Evidence) -> str:
    """Compare the largest miss of each class with that of the checks that are not about one class."""
    own: dict[str, float] = {}
    for each, miss in zip(found.failed, found.misses, strict=True):
        if not ((metric := METRICS.get(each.metric)) and metric.about_one) and each.check.family != "pairs":
            name = each.check.class_name or ""
            own[name] = max(own.get(name, 0.0), miss)
    others, most = own.pop("", 0.0), max(own.values(), default=0.0)
    apart = [name for name, miss in own.items() if miss >= most / _APART]
    if len(apart) > _TWO or most < max(_APART * others, FAR):
        return ""
    said = f"Checks of {' and '.join(apart)} miss by up to {most:.1f} standard deviations of reference models"
    return f"{said}, checks of no class by at most {others:.1f}."


def _by_class(found: _Evidence) -> str:
    """Compare the accuracies of classes where accuracy, geometry and corruptions hold.

    One class with wrong labels costs confidence first, and its accuracy less than its threshold tells.
    """
    if not found.clean_holds or found.areas - _OF_ONE_CLASS:
        return ""
    deviations = {
        verdict.check.class_name or "": deviation(verdict) or 0.0 for verdict in found.verdicts if _is_of_class(verdict)
    }
    if len(deviations) < _LEAST_CLASSES:
        return ""
    name, second, *_ = sorted(deviations, key=lambda name: -deviations[name])
    if deviations[name] < _FAR_CLASS or deviations[name] < _APART * deviations[second]:
        return ""
    return (
        f"{name} lies {deviations[name]:.1f} standard deviations of reference models below them, "
        f"any other class at most {max(deviations[second], 0.0):.1f}."
    )


def _by_points(found: _Evidence) -> str:
    named, lost = found.carrying, found.lost
    failing = {each.check.class_name for each in found.failed if each.check.class_name and _is_of_class(each)}
    if not named or failing - set(named):
        return ""
    if len(found.better(_FAR_BETTER)) >= _TWO or not found.areas & {"clean images", "classes"}:
        return ""
    gaps = " and ".join(f"{name} {points(-lost[name])} points" for name in named if lost[name])
    share = sum(lost[name] for name in named) / sum(lost.values())
    return f"{gaps} against reference models: {share:.0%} of what all classes lose."


def _pipeline(found: _Evidence) -> str:
    if not found.expects_other_pixels(by=_BETTER) or found.areas <= {"corruptions"}:
        return ""
    better, worst = found.better(_BETTER), max(found.kinds, key=lambda kind: found.kinds[kind])
    under = f"Under {better[0]} and {better[1]} the model is better than reference models, under {worst} worse"
    return f"{under}: it expects other pixels than it gets."


def _corruption(found: _Evidence) -> str:
    if not found.mostly("corruptions"):
        return ""
    kinds = _by_count([str(each.check.keys.get("corruption")) for each in found.failed if _area(each) == "corruptions"])
    return f"Clean accuracy passes, and most failing checks are of corruptions ({some_of(kinds)})."


def _named(found: _Evidence) -> str:
    """Return the detail of the failing check that names the cause and misses by most.

    The accuracy of all images must pass, and what tells of the whole network by its probabilities or statistics, too.
    """
    named, failing = [], [each for each in found.verdicts if each.status == "fail"]
    for each in failing:
        metric = METRICS.get(each.metric)
        if metric and metric.names_cause:
            named.append((_missed(each) or 0.0, each.detail))
        elif each.check.family in _OF_ALL or (metric and metric.heavy_tailed):
            return ""
    return f"{max(named)[1]}." if named else ""


def _drift(found: _Evidence) -> str:
    misses = zip(found.failed, found.misses, strict=True)
    if any(each.metric == GROUP_DIFFERENCE.name and 4 * miss >= max(found.misses) for each, miss in misses):
        return ""  # Neither everything nor, as far as odds tell, one group alone.
    if found.clean_holds and len({area if area in _APART_FROM_OTHERS else _OTHER for area in found.areas}) <= _TWO:
        return ""
    named = " and ".join(found.carrying)
    most = f"{named} lose most" if named else "no class, pose or corruption stands out"
    if len(found.never_predicted) > len(found.predicted):
        most = f"the only classes predicted are {some_of(found.predicted)}"
        if len(found.predicted) == 1:
            most = f"{found.predicted[0]} is the only class predicted"
    elif found.never_predicted:
        most = _said_missing(found)
    return f"Checks of {some_of(sorted(found.areas), shown=6)} fail, and {most}."


def _by_count(names: Sequence[str]) -> list[str]:
    """Return each name once, the most frequent first."""
    return sorted(dict.fromkeys(names), key=lambda name: -names.count(name))


_RULES: tuple[tuple[str, str, Callable[[_Evidence], str]], ...] = (
    (LABELS, "Look at wrong training labels first.", _labels),
    (CALIBRATION, _LOOK_AT_TRAINING, _calibration),
    (ATTENTION, "Look at what stands beside the objects in training images.", _attention),
    (GEOMETRY, "Look at the augmentation: its angles, shifts and flips.", _geometry),
    (GROUP, "Look at this group's pictures, labels and share of the training data.", _group),
    (CLASSES, _LOOK_AT_LABELS, _by_points),
    (CLASSES, _LOOK_AT_LABELS, _by_margin),
    (CLASSES, _LOOK_AT_LABELS, _by_class),
    (PIPELINE, _COMPARE_PIXELS, _pipeline),
    (CORRUPTION, "Look at the augmentation and at the pixels of training images.", _corruption),
    (CLASSES, "Look at the labels of these classes in training, and for stamps and marks in its images.", _named),
    (DRIFT, "Look at weights, precision, training time and data, then at the pixels of training and gate.", _drift),
)
"""Rules in their order: the first with evidence names the group."""
