"""The gate tests itself: what must be equal is, and damaged copies of the candidate fail where they should."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from harness.base.errors import InputError, NotApplicableError
from harness.checks.families import damages
from harness.data import sample_up_to
from harness.inference.attention import attend
from harness.inference.predictors import UnknownPixelsError
from harness.measures.localisation import rank_correlation
from harness.run.following import FOLLOW, checks_follow_the_candidate
from harness.run.noticed import Judge, is_noticed
from harness.run.original import original_checks
from harness.run.outcome import SelfCheck
from harness.run.remembered import Memory
from harness.run.sampling import extent_of
from harness.run.steadiness import (
    answers_are_the_models,
    batch_changes_nothing,
    identity_changes_nothing,
    model_equals_itself,
    model_keeps_no_state,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.checks.damages import Damage
    from harness.run.session import StressSession

SAMPLES = 1_000
"""Images on which copies are judged at most: the damage is gross, and a sample keeps the checks to seconds."""
ANSWERS = 16
"""Largest number of perturbations that are predicted again."""
ALIKE = 0.5
"""Mean rank correlation from which on two models look at the same: reference models of one recipe reach 0.6 here."""

STOOD_IN = 200
"""Images on which stand-ins are judged at first."""

MAPS = "maps-follow-weights"


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
    if not session.roles["candidate"].provides.live:
        # Answers are known of the images of the checks alone, which cost nothing to ask.
        sizes, anew = [len(session.images)], rest
    # One for all that is asked anew, since it remembers what these checks have asked it, and nothing else.
    candidate = session.roles["candidate"].classifier
    fresh = candidate.like(candidate.model)

    def remembered(name: str, check: Callable[[StressSession], SelfCheck]) -> Callable[[], SelfCheck]:
        return lambda: memory.remembered(name, lambda: _until_it_holds(check, session, sizes))

    def noticed(family: str, damage: Damage) -> Callable[[], SelfCheck]:
        return remembered(damage.name, lambda sampled: is_noticed(family, damage, sampled, judge))

    def followed(sampled: StressSession) -> SelfCheck:
        return checks_follow_the_candidate(sampled, judge)

    checks: dict[str, Callable[[], SelfCheck]] = {
        "identity-equals-clean": lambda: identity_changes_nothing(fresh, anew),
        "model-equals-itself": lambda: model_equals_itself(fresh, rest, anew),
        "model-keeps-no-state": lambda: model_keeps_no_state(fresh, anew),
        "batch-changes-nothing": lambda: batch_changes_nothing(fresh, anew),
        "answers-are-the-models": lambda: answers_are_the_models(
            fresh, session, most=min(ANSWERS, extent.answers // extent.few), few=extent.few
        ),
        **{damage.name: noticed(family, damage) for family, damage in damaging.items()},
        FOLLOW: lambda: memory.remembered(FOLLOW, lambda: _until_it_holds(followed, session, [STOOD_IN, *sizes])),
        MAPS: remembered(MAPS, _maps_follow_weights),
        **original_checks(session, _sample(session, len(anew.images)), judge),
    }
    found = []
    for name, check in checks.items():
        if on_check:
            on_check(name, len(checks))
        try:
            found.append(check())
        except UnknownPixelsError:
            found.append(SelfCheck(name, "not_applicable", "recorded answers have none for the images of this check"))
        except NotApplicableError as error:  # Such as damage to confidence, of a predictor of labels.
            found.append(SelfCheck(name, "not_applicable", str(error)))
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
