"""Self-checks of the gate: equal inputs give equal results, and mutants of the candidate fail the right checks."""

from __future__ import annotations

import copy
import hashlib
import platform
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from harness.base.cache import installed
from harness.base.errors import InputError, NotApplicableError
from harness.base.records import as_json, read_json
from harness.checks.equivalence import EQUIVALENCE
from harness.checks.families import damages
from harness.data import sample_up_to
from harness.inference.attention import attend
from harness.inference.platforms import measuring_code
from harness.inference.predictors import UnknownPixelsError
from harness.measures.localisation import rank_correlation
from harness.perturb import PROTOCOL
from harness.run.mutants import CHANGED, FOLLOW, changes_are_noticed, checks_follow_the_candidate, is_noticed
from harness.run.outcome import SelfCheck
from harness.run.sampling import extent_of
from harness.run.steadiness import (
    ANSWERS,
    answers_are_the_models,
    identity_changes_nothing,
    model_equals_itself,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from harness.base import PredictionCache
    from harness.run.mutants import Judge
    from harness.run.session import StressSession

SAMPLES = 1_000
"""Images on which mutants are judged, at most: the damage is gross, and a sample keeps the checks to seconds."""
ALIKE = 0.5
"""Mean rank correlation from which on two models look at the same: reference models of one recipe reach 0.6 here."""

STOOD_IN = 200
"""Images on which stand-ins are judged at first."""

MAPS = "maps-follow-weights"
_LIBRARIES = ("stress-harness", "torch", "numpy", "scipy", "hypothesis", "opencv-python", "onnxruntime")


@dataclass(frozen=True)
class Memory:
    """Self-checks of earlier runs, in the user's cache; without a `cache`, or a `key`, everything is checked anew.

    A check that fails is never kept, and no verdict of a gate is: those are a matter of each run.
    """

    cache: PredictionCache | None = None
    key: str = ""

    def remembered(self, name: str, check: Callable[[], SelfCheck]) -> SelfCheck:
        """Return what the check of this name found before, or finds now."""
        if self.cache is None or not self.key:
            return check()
        key = hashlib.sha256(f"self-check {name} {self.key}".encode()).hexdigest()
        if (kept := self.cache.load_text(key)) is not None:
            return read_json(SelfCheck, kept, where="a self-check of an earlier run")
        found = check()
        if found.status != "fail":
            self.cache.store_text(key, as_json(found))
        return found


def memory_of(session: StressSession, tests: Iterable[str]) -> Memory:
    """Return the memory of a session, in which the tests of these checks are run.

    The key is all that decides a check: the models' computations and tensors, images, checks file, this package's code,
    versions and platform. The cache compares the user's code. For a model that cannot be traced, nothing is remembered.
    """
    models = [
        (role, model.classifier.fingerprint, model.model_sha256, model.layer, repr(model.classifier.backend.decides))
        for role, model in sorted(session.roles.items())
    ]
    if any(fingerprint is None for _, fingerprint, *_ in models):
        return Memory()
    images = session.images.sha256, tuple(session.images.pixels.shape), session.checks.sha256
    ours = PROTOCOL, measuring_code(), platform.python_version(), platform.platform(), installed(_LIBRARIES)
    decisive = sorted(tests), *images, sorted(session.fitted.items()), session.thorough, models, *ours
    return Memory(session.cache, hashlib.sha256(repr(decisive).encode()).hexdigest())


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
    extent, model = extent_of(session), session.roles["candidate"]
    sizes = sorted({min(size, SAMPLES, len(session.images)) for size in (extent.damaged, SAMPLES)})
    rest = session.of_family("clean")  # The clean images that the run has predicted already, a sample of all or all.
    anew = _sample(rest, min(SAMPLES, extent.anew))
    if not model.provides.live:
        # Recorded predictions cover only the images of the checks, and cost nothing.
        sizes, anew = [len(session.images)], rest
    # One classifier for all repeated predictions: it remembers only those of these checks.
    fresh, most = model.classifier.like(model.classifier.model), min(ANSWERS, extent.answers // extent.few)
    checks: dict[str, Callable[[], SelfCheck]] = {
        "identity-equals-clean": lambda: identity_changes_nothing(fresh, anew),
        "model-equals-itself": lambda: model_equals_itself([*rest.roles.values()], rest.images),
        "answers-are-the-models": lambda: answers_are_the_models(model, most=most, few=extent.few),
    }
    broken: dict[str, Callable[[StressSession], SelfCheck]] = {
        **{
            damage.name: partial(is_noticed, family, damage, judge=judge)
            for family, damage in damages(session.checks).items()
        },
        FOLLOW: partial(checks_follow_the_candidate, judge=judge),
        MAPS: _maps_follow_weights,
    }
    for name, on_sample in broken.items():
        until = partial(_until_it_holds, on_sample, session, [*([STOOD_IN] if name == FOLLOW else []), *sizes])
        checks[name] = partial((memory or Memory()).remembered, name, until)
    if "original" in session.roles and session.checks.family(EQUIVALENCE):
        checks[CHANGED] = lambda: changes_are_noticed(session, judge)
    found = []
    for name, check in checks.items():
        if on_check:
            on_check(name, len(checks))
        try:
            found.append(check())
        except UnknownPixelsError:
            why = "recorded predictions have none for the images of this check"
            found.append(SelfCheck(name, "not_applicable", why))
        except NotApplicableError as error:  # For example, a predictor of labels has no confidence to damage.
            found.append(SelfCheck(name, "not_applicable", str(error)))
    return tuple(found)


def _until_it_holds(
    check: Callable[[StressSession], SelfCheck], session: StressSession, sizes: Sequence[int]
) -> SelfCheck:
    """Return the result of the check on the first of these samples on which it does not fail, or else on the last.

    On few images, the interval of a check is wide and may excuse a mutant. That must not end a run.
    """
    for size in sizes:
        found = check(_sample(session, size))
        if found.status != "fail":
            break
    return found


def _sample(session: StressSession, size: int) -> StressSession:
    return replace(session, images=sample_up_to(session.images, size), whole=None)


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
