"""Self-checks of the gate: equal inputs give equal results, and mutants of the candidate fail the right checks."""

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
    ANSWERS,
    answers_are_the_models,
    identity_changes_nothing,
    model_equals_itself,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.checks.damages import Damage
    from harness.run.session import StressSession

SAMPLES = 1_000
"""Images on which mutants are judged, at most: the damage is gross, and a sample keeps the checks to seconds."""
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
    """Check the run itself, on samples of its images that it can afford, without the cache of predictions.

    Checks of mutants and maps are not repeated if `memory` has their results. Each run repeats, on few images, the
    checks that its own process answers as before. `on_check` is called before each check, with its name and the number
    of all checks.
    """
    memory, damaging = memory or Memory(), damages(session.checks)
    extent = extent_of(session)
    sizes = sorted({min(size, SAMPLES, len(session.images)) for size in (extent.damaged, SAMPLES)})
    rest = session.of_family("clean")  # The clean images that the run has predicted already, a sample of all or all.
    anew = _sample(rest, min(SAMPLES, extent.anew))
    if not session.roles["candidate"].provides.live:
        # Recorded predictions cover only the images of the checks, and cost nothing.
        sizes, anew = [len(session.images)], rest
    # One classifier for all repeated predictions: it remembers only those of these checks.
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
        "model-equals-itself": lambda: model_equals_itself([*rest.roles.values()], rest.images),
        "answers-are-the-models": lambda: answers_are_the_models(
            session.roles["candidate"], most=min(ANSWERS, extent.answers // extent.few), few=extent.few
        ),
        **{damage.name: noticed(family, damage) for family, damage in damaging.items()},
        FOLLOW: lambda: memory.remembered(FOLLOW, lambda: _until_it_holds(followed, session, [STOOD_IN, *sizes])),
        MAPS: remembered(MAPS, _maps_follow_weights),
        **original_checks(session, judge),
    }
    found = []
    for name, check in checks.items():
        if on_check:
            on_check(name, len(checks))
        try:
            found.append(check())
        except UnknownPixelsError:
            found.append(
                SelfCheck(name, "not_applicable", "recorded predictions have none for the images of this check")
            )
        except NotApplicableError as error:  # For example, a predictor of labels has no confidence to damage.
            found.append(SelfCheck(name, "not_applicable", str(error)))
    return tuple(found)


def _until_it_holds(
    check: Callable[[StressSession], SelfCheck], session: StressSession, sizes: Sequence[int]
) -> SelfCheck:
    """Return the result of the check on the first of these samples on which it does not fail, or else on the last.

    On few images, the interval of a check is wide and may excuse a mutant. That must not end a run.
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
    """Check that maps depend on what the model has learned: with its weights shuffled, it must look elsewhere.

    This is the model parameter randomization test of Adebayo et al. 2018, "Sanity Checks for Saliency Maps", section 4,
    by Spearman's rank correlation. An edge detector, or a bias to the middle, gives the same maps whatever the weights.
    Each tensor's values are shuffled, not drawn anew: that works for any layer and keeps their scale.
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
        return SelfCheck(name, "not_applicable", "no image has a map both with the own and with the shuffled weights")
    mean, uncounted = float(counted.mean()), len(correlations) - len(counted)
    facts = (
        f"with all weights shuffled, the maps of layer {own.layer} correlate by {mean:.2f} with the model's own "
        f"(by rank; {len(counted)} maps, {uncounted} dead or flat)"
    )
    if mean < ALIKE:
        return SelfCheck(name, "pass", f"{facts}, below {ALIKE}")
    advice = "they do not depend on what the model has learned; name another by the setting layer"
    return SelfCheck(name, "fail", f"{facts}, not below {ALIKE}: {advice}")


def _shuffled(model: nn.Module) -> nn.Module:
    copied, generator = copy.deepcopy(model), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in copied.parameters():
            order = torch.randperm(weights.numel(), generator=generator).to(weights.device)
            weights.copy_(weights.flatten()[order].view_as(weights))
    return copied
