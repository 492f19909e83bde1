"""Self-checks of the gate: equal inputs give equal results, and mutants of the candidate fail the right checks."""

from __future__ import annotations

import copy
import hashlib
import platform
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from harness.base import imports
from harness.base.cache import installed
from harness.base.errors import InputError, NotApplicableError
from harness.base.features import results
from harness.base.records import as_json, read_json
from harness.checks.families import damages
from harness.data import sample_up_to
from harness.data.domain import DEFAULT_BORDER
from harness.data.groups import groups_sha256
from harness.inference.attention import attend
from harness.inference.platforms import measuring_code
from harness.inference.predictors.protocol import UnknownPixelsError
from harness.measures.localisation import rank_correlation
from harness.perturb import PROTOCOL, pose_each
from harness.run.budget import extent_of
from harness.run.findings import SelfCheck
from harness.run.mutants import (
    FOLLOW,
    CannotNoticeError,
    Finding,
    checks_follow_the_candidate,
    is_noticed,
)
from harness.run.steadiness import MAX_PERTURBATIONS, other_answers, unsteady

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from harness.base.cache import Store
    from harness.data import LabelledImages
    from harness.inference import RoleModel
    from harness.run.mutants import Judge
    from harness.run.session import StressSession

SAMPLES = 1_000
"""Images on which mutants are judged, at most: the damage is gross, and a sample keeps the checks to seconds."""
ALIKE = 0.5
"""Mean rank correlation from which on two models look at the same: reference models of one recipe reach 0.6 here."""

STOOD_IN = 200
"""Images on which stand-ins are judged at first."""

MAPS = "maps-follow-weights"
_LIBRARIES = (
    "stress-harness",
    "torch",
    "numpy",
    "scipy",
    "hypothesis",
    "opencv-python",
    "onnxruntime",
)


@dataclass(frozen=True)
class Memory:
    """Self-checks of earlier runs, in the user's cache; without a `cache`, or a `key`, everything is checked anew.

    A check that fails is never kept, and no verdict of a gate is: those are a matter of each run.
    """

    cache: Store | None = None
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
    versions and platform. The contents of the user's code are part of it: another checkout with other tests remembers
    nothing. The cache also compares what ran later. For a model that cannot be traced, nothing is remembered.
    """
    models = [
        (
            role,
            model.classifier.fingerprint,
            model.model_sha256,
            model.layer,
            repr(model.classifier.backend.decides),
        )
        for role, model in sorted(session.roles.items())
    ]
    if any(fingerprint is None for _, fingerprint, *_ in models):
        return Memory()
    of_rows = sorted(
        (each.sha256, groups_sha256(each.groups)) for each in session.other_images.of_rows.values()
    )
    own = session.images
    images = own.sha256, tuple(own.pixels.shape), own.domain, session.checks.sha256, *of_rows
    ours = (
        PROTOCOL,
        measuring_code(),
        platform.python_version(),
        platform.platform(),
        installed(_LIBRARIES),
    )
    users = sorted(imports.ran().values())
    decisive = (
        sorted(tests),
        users,
        *images,
        sorted(session.scope.fitted.items()),
        session.scope.thorough,
        models,
        *ours,
    )
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
    rest = session.of_family(
        "clean"
    )  # The clean images that the run has predicted already, a sample of all or all.
    anew = sample_up_to(rest.images, min(SAMPLES, extent.anew))
    if not model.provides.live:
        # Recorded predictions cover only the images of the checks, and cost nothing.
        sizes, anew = [len(session.images)], rest.images
    most, few = min(MAX_PERTURBATIONS, extent.answers // extent.few), extent.few
    checks: dict[str, Callable[[], Finding]] = {
        "identity-equals-clean": lambda: _identity_changes_nothing(model, anew),
        "model-equals-itself": lambda: _unless(
            unsteady([*rest.roles.values()], rest.images),
            "asked again in other orders, batches and processes, as far as its kind allows, each model gives the "
            "logits of the run",
        ),
        # Without their number: with workers each process has answers of its own.
        "answers-are-the-models": lambda: _unless(
            other_answers(model, most=most, few=few),
            f"predictions of this run, from the cache or not, are the same when predicted anew, {few} images of each "
            f"of {most} perturbations at most",
        ),
    }
    broken: dict[str, Callable[[StressSession], Finding]] = {
        **{
            damage.name: partial(is_noticed, family, damage, judge=judge)
            for family, damage in damages(session.checks).items()
        },
        FOLLOW: partial(checks_follow_the_candidate, judge=judge),
        MAPS: _maps_follow_weights,
    }
    if session.scope.stopped is not None:  # The others guard against a wrong pass.
        broken = {}
    for name, on_sample in broken.items():
        checks[name] = partial(
            _until_it_holds, on_sample, session, [*([STOOD_IN] if name == FOLLOW else []), *sizes]
        )
    if broken:
        for added in results("stress_self_checks", session=session, judge=judge):
            checks |= {name: check for name, check in added.items() if check is not None}

    def conclude(name: str) -> SelfCheck:
        try:
            finding = checks[name]()
        except UnknownPixelsError:
            return SelfCheck(
                name,
                "not_applicable",
                "recorded predictions have none for the images of this check",
            )
        except CannotNoticeError as error:
            return SelfCheck(name, "not_applicable", str(error), cannot_notice=True)
        except (
            NotApplicableError
        ) as error:  # For example, a predictor of labels has no confidence to damage.
            return SelfCheck(name, "not_applicable", str(error))
        status: Literal["pass", "fail"] = "pass" if finding.holds else "fail"
        return SelfCheck(name, status, finding.detail, check=finding.check)

    found = []
    for name in checks:
        if on_check:
            on_check(name, len(checks))
        kept = memory if memory and name in broken else Memory()
        found.append(kept.remembered(name, partial(conclude, name)))
    return tuple(found)


def _unless(mistake: str, detail: str) -> Finding:
    return Finding(holds=not mistake, detail=mistake or detail)


def _identity_changes_nothing(model: RoleModel, images: LabelledImages) -> Finding:
    """Check that the identity pose gives the logits of clean images."""
    fresh = model.classifier.like(model.classifier.model)
    equal = np.array_equal(
        fresh.predict(images, _AtRest()).computed, fresh.predict(images).computed
    )
    same = (
        "the same logits, bit for bit"
        if equal
        else "other logits: the geometry or the model is not deterministic"
    )
    return Finding(
        holds=equal,
        detail=f"rotated by 0° and translated by 0 px, {len(images)} images give {same}",
    )


class _AtRest:
    """The pose of each image, all of them zero: the whole path of interpolation, to no effect."""

    def __init__(self, border: str = DEFAULT_BORDER) -> None:
        self._border = border

    def within_border(self, border: str) -> _AtRest:
        return _AtRest(border)

    def __call__(self, images: Tensor) -> Tensor:
        rest = torch.zeros(len(images), device=images.device)
        return pose_each(images, rest, rest, rest, border=self._border)

    def __repr__(self) -> str:
        return f"AtRest({self._border})"


def _until_it_holds(
    check: Callable[[StressSession], Finding], session: StressSession, sizes: Sequence[int]
) -> Finding:
    """Return the result of the check on the first of these samples on which it does not fail, or else on the last.

    On few images, the interval of a check is wide and may excuse a mutant. That must not end a run.
    """
    for size in sizes:
        sampled = session.on_images(sample_up_to(session.images, size))
        try:
            found = check(sampled)
        except CannotNoticeError:
            if size == sizes[-1]:
                raise
            continue
        if found.holds:
            break
    return found


def _maps_follow_weights(sampled: StressSession) -> Finding:
    """Check that maps depend on what the model has learned: with its weights shuffled, it must look elsewhere.

    This is the model parameter randomization test of Adebayo et al. 2018, "Sanity Checks for Saliency Maps", section 4,
    by Spearman's rank correlation. An edge detector, or a bias to the middle, gives the same maps whatever the weights.
    Each tensor's values are shuffled, not drawn anew: that works for any layer and keeps their scale.
    """
    images, candidate = sampled.images, sampled.roles["candidate"]
    if not sampled.checks.family("attention"):
        raise NotApplicableError("there is no check of family 'attention'")
    try:
        own = candidate.attend(images)
        copied, generator = (
            copy.deepcopy(candidate.classifier.plain),
            torch.Generator().manual_seed(0),
        )
        with torch.no_grad():
            for weights in copied.parameters():
                order = torch.randperm(weights.numel(), generator=generator).to(weights.device)
                weights.copy_(weights.flatten()[order].view_as(weights))
        correlations = rank_correlation(
            own, attend(candidate.classifier.like(copied), images, layer=own.layer)
        )
    except (
        InputError
    ) as error:  # No layer to look at, or weights that give no finite answer once shuffled.
        raise NotApplicableError(str(error)) from None
    counted = correlations[~np.isnan(correlations)]
    if not len(counted):
        raise NotApplicableError(
            "no image has a map both with the own and with the shuffled weights"
        )
    mean, uncounted = float(counted.mean()), len(correlations) - len(counted)
    facts = (
        f"with all weights shuffled, the maps of layer {own.layer} correlate by {mean:.2f} with the model's own "
        f"(by rank; {len(counted)} maps, {uncounted} dead or flat)"
    )
    if mean < ALIKE:
        return Finding(holds=True, detail=f"{facts}, below {ALIKE}")
    advice = "they do not depend on what the model has learned; name another by the setting layer"
    return Finding(holds=False, detail=f"{facts}, not below {ALIKE}: {advice}")
