"""The gate tests itself: what must be equal is, and damaged copies of the candidate fail where they should."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor, nn

from harness.base.errors import InputError, printable
from harness.checks import Check, Verdict
from harness.checks.families import damages
from harness.data import sample_up_to
from harness.inference import Predictions
from harness.inference.attention import attend
from harness.measures.flips import flips
from harness.measures.localisation import rank_correlation
from harness.measures.statistics import mcnemar_p
from harness.perturb import pose_each
from harness.run.original import original_checks
from harness.run.outcome import SelfCheck
from harness.run.remembered import Memory
from harness.run.sampling import extent_of
from harness.run.session import StressSession

if TYPE_CHECKING:
    from harness.checks.damages import Damage
    from harness.inference import Classifier

SAMPLES = 1_000
"""Images on which copies are judged at most: the damage is gross, and a sample keeps the checks to seconds."""
STATE_SAMPLES, TOLERANCE = 100, 1e-3
"""Images on which the model is run as it was given, at most, and how far its logits may be, relative or absolute."""
ANSWERS = 16
"""How many perturbations are asked for again, at most."""
HURTS = 0.001
"""A damage counts as one when McNemar's p, of failures with it and without, is below this."""
ALIKE = 0.5
"""Mean rank correlation from which on two models look at the same: reference models of one recipe reach 0.6 here."""

MAPS = "maps-follow-weights"

Judge = Callable[[StressSession, Check], Verdict | None]
"""Runs the stress test of a check's family in a session; None when there is no such test."""


def self_checks(
    session: StressSession,
    judge: Judge,
    *,
    memory: Memory | None = None,
    on_check: Callable[[str, int], None] | None = None,
) -> tuple[SelfCheck, ...]:
    """Check the run itself, on samples of its images that it can afford, past all predictions remembered.

    What `memory` knows of damage and of maps is not checked again. Always made anew, on few images, are the checks of
    what an earlier run cannot tell: that this process answers as it did. `on_check` is called before each check, with
    its name and how many there are.
    """
    memory, damaging = memory or Memory(), damages(session.checks)
    extent = extent_of(session)
    sizes = sorted({min(size, SAMPLES, len(session.images)) for size in (extent.damaged, SAMPLES)})
    rest = session.of_family("clean")  # What the run has predicted at rest already, in a sampled one.
    anew = _sample(rest, min(SAMPLES, extent.anew))
    # One for all that is asked anew, since it remembers what these checks have asked it, and nothing else.
    candidate = session.roles["candidate"].classifier
    fresh = candidate.like(candidate.model)

    def remembered(name: str, check: Callable[[StressSession], SelfCheck]) -> Callable[[], SelfCheck]:
        return lambda: memory.remembered(name, lambda: _until_it_holds(check, session, sizes))

    def noticed(family: str, damage: Damage) -> Callable[[], SelfCheck]:
        return remembered(damage.name, lambda sampled: _is_noticed(family, damage, sampled, judge))

    checks: dict[str, Callable[[], SelfCheck]] = {
        "identity-equals-clean": lambda: _identity_changes_nothing(fresh, anew),
        "model-equals-itself": lambda: _model_equals_itself(fresh, rest, anew),
        "model-keeps-no-state": lambda: _model_keeps_no_state(fresh, anew),
        "answers-are-the-models": lambda: _answers_are_the_models(
            fresh, session, most=min(ANSWERS, extent.answers // extent.few), few=extent.few
        ),
        **{damage.name: noticed(family, damage) for family, damage in damaging.items()},
        MAPS: remembered(MAPS, _maps_follow_weights),
        **original_checks(session, _sample(session, len(anew.images)), judge),
    }
    found = []
    for name, check in checks.items():
        if on_check:
            on_check(name, len(checks))
        found.append(check())
    return tuple(found)


def _until_it_holds(
    check: Callable[[StressSession], SelfCheck], session: StressSession, sizes: Sequence[int]
) -> SelfCheck:
    """Return what the check finds on the first of these samples on which it does not fail, or else on the last.

    On few images a check's interval may allow what it does not on more, and a run must not end for that.
    """
    found = check(_sample(session, sizes[0]))
    for size in sizes[1:]:
        if found.status != "fail":
            break
        found = check(_sample(session, size))
    return found


def _sample(session: StressSession, size: int) -> StressSession:
    images = sample_up_to(session.images, size)
    return replace(session, images=images, whole=None)


def _identity_changes_nothing(fresh: Classifier, sampled: StressSession) -> SelfCheck:
    images = sampled.images
    equal = np.array_equal(fresh.predict(images, _AtRest()).logits, fresh.predict(images).logits)
    return SelfCheck(
        "identity-equals-clean",
        "pass" if equal else "fail",
        f"turned by 0° and shifted by 0 px, {len(images)} images give "
        + ("the same logits, bit for bit" if equal else "other logits: the geometry or the model is not deterministic"),
    )


def _model_equals_itself(fresh: Classifier, session: StressSession, sampled: StressSession) -> SelfCheck:
    candidate, images = session.roles["candidate"], sampled.images
    anew = fresh.predict(images)
    kept = candidate.predict(session.images)
    chosen = np.isin(session.images.positions.numpy(), images.positions.numpy())
    changed = flips(anew, Predictions(kept.answers[chosen], images, kept.perturbation))
    count = len(changed.lost) + len(changed.gained)
    return SelfCheck(
        "model-equals-itself",
        "fail" if count else "pass",
        f"predicted a second time, {count} of {len(images)} answers flip"
        + ("; the model is not deterministic" if count else ""),
    )


def _model_keeps_no_state(fresh: Classifier, sampled: StressSession) -> SelfCheck:
    """Check that the model, run twice as it was given, answers as it does in the run.

    In the run its computation is traced where it can be, and what its code keeps from one call to the next is lost.
    """
    classifier = sampled.roles["candidate"].classifier
    images = sampled.images.take(torch.arange(min(STATE_SAMPLES, len(sampled.images))))
    backend = classifier.backend_for(copy.deepcopy(classifier.plain), workers=1, screen=False)

    def as_given() -> np.ndarray:
        inputs = classifier.inputs(images)
        return backend.exact_logits(len(images), inputs, classes=len(images.classes), what="images, as it was given")

    in_the_run = fresh.predict(images).logits
    alike = all(np.allclose(as_given(), in_the_run, rtol=TOLERANCE, atol=TOLERANCE) for _ in range(2))
    return SelfCheck(
        "model-keeps-no-state",
        "pass" if alike else "fail",
        f"run as it was given, twice, it gives {len(images)} images "
        + ("the logits of this run" if alike else "other logits than in this run: it keeps state between calls"),
    )


def _answers_are_the_models(fresh: Classifier, session: StressSession, *, most: int, few: int) -> SelfCheck:
    """Check that what was answered in this run, from the cache or not, is what the model answers now.

    `few` images of at most `most` of the perturbations that were asked for: answers of another model are wrong on
    many.
    """
    candidate = session.roles["candidate"]
    answered = candidate.classifier.answered
    some = answered[:: -(-len(answered) // most)] if answered else ()
    count = differing = 0
    under: list[object] = []
    for before in some:
        chosen = np.unique(np.linspace(0, len(before.labels) - 1, few).astype(np.int64))
        anew = fresh.predict(before.images.take(torch.from_numpy(chosen)), before.perturbation)
        count += len(chosen)
        if others := int((anew.predicted != before.predicted[chosen]).sum()):
            differing += others
            under.append(before.perturbation)
    return SelfCheck(
        "answers-are-the-models",
        "fail" if differing else "pass",
        f"{differing} of {count} answers of this run are others when predicted anew, such as under "
        f"{printable(under[0])}; empty the cache with `stress-harness cache --clear`, and see that perturbations of "
        "your own do the same to an image in any batch"
        if differing
        # Without their number: with workers each process has answers of its own.
        else f"answers of this run, from the cache or not, are the same when predicted anew, {few} "
        f"images of each of {most} perturbations at most",
    )


def _is_noticed(family: str, damage: Damage, sampled: StressSession, judge: Judge) -> SelfCheck:
    def result(status: Literal["pass", "fail", "not_applicable"], detail: str) -> SelfCheck:
        return SelfCheck(damage.name, status, detail)

    checks = [
        check
        for check in sampled.checks.family(family)
        if check.binding and check.role == "candidate" and damage.concerns(check)
    ]
    if not checks:
        return result("not_applicable", f"no check of family {family!r} that is about this has a threshold")
    candidate = sampled.roles["candidate"]
    damaged = damage.apply(candidate, checks, sampled.images.classes)
    fails, failed = damage.fails(damaged.predict(sampled.images)), damage.fails(candidate.predict(sampled.images))
    if not _is_worse(fails, failed):
        return result(
            "not_applicable",
            f"no harm to this model: its copy fails {fails.sum()} of {len(fails)} images, {failed.sum()} before",
        )
    broken = replace(sampled, roles={**sampled.roles, "candidate": damaged})
    harm = f"the damaged copy fails {fails.sum()} of {len(fails)} images, {failed.sum()} before, and"
    passed = []
    for check in checks:
        verdict = judge(broken, check)
        if verdict is not None and verdict.status == "fail":
            return result("pass", f"{harm} check {check.id} of family {family!r} notices")
        if verdict is not None:
            passed.append((check, verdict))
    if not passed:
        but = "was collected, or only with fixtures that a self-check cannot give"
        return result("not_applicable", f"no test of family {family!r} {but}")
    # A check that this model fails as it is can fail: what damage makes right, such as the one image of a golden check,
    # says nothing against its threshold.
    blind = [now for check, now in passed if (own := judge(sampled, check)) is None or own.status != "fail"]
    if not blind:
        return result(
            "not_applicable",
            f"the model fails all {len(passed)} checks of family {family!r} as it is, and the damage mends that",
        )
    return result(
        "fail",
        f"{harm} all {len(blind)} checks of family {family!r} let it pass, such as {blind[0].explain()}; "
        f"set thresholds that can fail in {sampled.checks.path}, or correct the test",
    )


def _maps_follow_weights(sampled: StressSession) -> SelfCheck:
    """Check that maps tell of what the model has learnt: with its weights shuffled, it must look elsewhere.

    The model parameter randomisation test of Adebayo et al. (2018), "Sanity Checks for Saliency Maps", section 4, by
    Spearman's rank correlation: an edge detector, or a bias to the middle, gives the same maps whatever the weights.
    Each tensor's values are shuffled and not drawn anew, so that it works for any layer and keeps their scale.
    """
    name, images, candidate = MAPS, sampled.images, sampled.roles["candidate"]
    if not sampled.checks.family("attention"):
        return SelfCheck(name, "not_applicable", "there is no check of family 'attention'")
    classifier = candidate.classifier
    shuffled = classifier.like(_shuffled(classifier.plain))
    try:
        own = candidate.attend(images)
        correlations = rank_correlation(own, attend(shuffled, images, layer=own.layer))
    except InputError as error:  # No layer to look at, or weights that give no finite answer once shuffled.
        return SelfCheck(name, "not_applicable", str(error))
    counted = correlations[~np.isnan(correlations)]
    if not len(counted):
        return SelfCheck(name, "not_applicable", "no image has a map with the weights as they are and shuffled")
    mean, uncounted = float(counted.mean()), len(correlations) - len(counted)
    facts = (
        f"with all weights shuffled, the maps of layer {own.layer} correlate by {mean:.2f} with the model's own "
        f"(mean rank correlation; {len(counted)} maps, {uncounted} dead or flat ones left out)"
    )
    if mean < ALIKE:
        return SelfCheck(name, "pass", f"{facts}, below {ALIKE}")
    advice = "they do not tell what the model has learnt; name another layer with --stress-layer"
    return SelfCheck(name, "fail", f"{facts}, not below {ALIKE}: {advice}")


def _shuffled(model: nn.Module) -> nn.Module:
    copied, generator = copy.deepcopy(model), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in copied.parameters():
            order = torch.randperm(weights.numel(), generator=generator).to(weights.device)
            weights.copy_(weights.flatten()[order].view_as(weights))
    return copied


def _is_worse(fails: np.ndarray, failed: np.ndarray) -> bool:
    new, gone = int((fails & ~failed).sum()), int((failed & ~fails).sum())
    return new > gone and mcnemar_p(new, gone) < HURTS


class _AtRest:
    """The pose of each image, all of them zero: the whole path of interpolation, to no effect."""

    def __call__(self, images: Tensor) -> Tensor:
        rest = torch.zeros(len(images), device=images.device)
        return pose_each(images, rest, rest, rest)

    def __repr__(self) -> str:
        return "AtRest()"
