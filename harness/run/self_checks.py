"""Self-checks of a run: equal inputs give equal results, and mutants fail the right checks."""

from __future__ import annotations

import copy
import hashlib
import platform
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor, nn

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
"""Images on which mutants are judged, at most: a few show gross damage, within seconds."""
ALIKE = 0.5
"""Mean rank correlation from which on two models look at the same objects.

Reference models of one recipe reach 0.6 here.
"""
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
    """Self-checks of earlier runs, in the user's cache.

    Without a `cache` or a `key`, everything is checked anew. A failing self-check is never kept,
    and no verdict is, because each run has to find them itself.
    """

    cache: Store | None = None
    key: str = ""

    def remembered(self, name: str, check: Callable[[], SelfCheck]) -> SelfCheck:
        """Return the result of the self-check of this name in an earlier run, or run it now."""
        if self.cache is None or not self.key:
            return check()
        key = hashlib.sha256(f"self-check {name} {self.key}".encode()).hexdigest()
        text = self.cache.load_text(key)
        if text is not None:
            return read_json(SelfCheck, text, where="a self-check of an earlier run")

        result = check()
        if result.status != "fail":
            self.cache.store_text(key, as_json(result))
        return result


def memory_of(session: StressSession, tests: Iterable[str]) -> Memory:
    """Return the memory of a session, in which the tests of these checks are run.

    For a model that cannot be traced, nothing is remembered.
    """
    models = []
    for role, model in sorted(session.roles.items()):
        fingerprint = model.classifier.fingerprint
        decisive_settings = repr(model.classifier.backend.decides)
        models.append((role, fingerprint, model.model_sha256, model.layer, decisive_settings))
    if any(fingerprint is None for _, fingerprint, *_ in models):
        return Memory()

    images = session.images
    images_of_rows = [
        (row_images.sha256, groups_sha256(row_images.groups))
        for row_images in session.other_images.of_rows.values()
    ]

    # The key holds all that decides a check: computations and tensors of the models, images, the
    # checks file, the code of this package, versions and platform. The user's code is part of it,
    # so another checkout with other tests remembers nothing. The cache also compares the code that
    # was imported later.
    decisive = (
        sorted(tests),
        sorted(imports.ran().values()),
        images.sha256,
        tuple(images.pixels.shape),
        images.domain,
        session.checks.sha256,
        *sorted(images_of_rows),
        sorted(session.scope.fitted.items()),
        session.scope.thorough,
        models,
        PROTOCOL,
        measuring_code(),
        platform.python_version(),
        platform.platform(),
        installed(_LIBRARIES),
    )
    return Memory(session.cache, hashlib.sha256(repr(decisive).encode()).hexdigest())


def self_checks(
    session: StressSession,
    judge: Judge,
    *,
    memory: Memory | None = None,
    on_check: Callable[[str, int], None] | None = None,
) -> tuple[SelfCheck, ...]:
    """Check the run itself, on samples of its images that it can afford.

    Predictions are computed anew, without the cache.

    Args:
        session: The session of the run.
        judge: A function that runs the test of a check with other models.
        memory: The results of earlier runs, which replace checks of mutants and maps. Checks of
            the run's own predictions, on few images, are always repeated.
        on_check: A function that is called before each check, with its name and the number of all
            checks.
    """
    clean_images = session.of_family("clean").images
    mutant_checks = _mutant_checks(session, judge)
    checks = _prediction_checks(session, clean_images) | mutant_checks
    if mutant_checks:
        for feature_checks in results("stress_self_checks", session=session, judge=judge):
            for name, check in feature_checks.items():
                if check is not None:
                    checks[name] = check

    conclusions = []
    for name, check in checks.items():
        if on_check:
            on_check(name, len(checks))
        conclude = partial(_conclude, name, check)
        if memory is not None and name in mutant_checks:
            conclusions.append(memory.remembered(name, conclude))
        else:
            conclusions.append(conclude())
    return tuple(conclusions)


def _prediction_checks(
    session: StressSession, clean_images: LabelledImages
) -> dict[str, Callable[[], Finding]]:
    """Return the checks that the run's predictions are those of the models.

    `clean_images` are those that the run has predicted already: all, or a sample.
    """
    extent = extent_of(session)
    candidate = session.roles["candidate"]
    models = [*session.of_family("clean").roles.values()]
    images = clean_images
    if candidate.provides.live:
        images = sample_up_to(clean_images, min(SAMPLES, extent.anew))
    few = extent.few
    most = min(MAX_PERTURBATIONS, extent.answers // few)
    return {
        "identity-equals-clean": lambda: _identity_changes_nothing(candidate, images),
        "model-equals-itself": lambda: _unless(
            unsteady(models, clean_images),
            "asked again in other orders, batches and processes, as far as its kind allows, each "
            "model gives the logits of the run",
        ),
        # Without their number: with workers each process has predictions of its own.
        "answers-are-the-models": lambda: _unless(
            other_answers(candidate, most=most, few=few),
            "predictions of this run, from the cache or not, are the same when predicted anew, "
            f"{few} images of each of {most} perturbations at most",
        ),
    }


def _mutant_checks(session: StressSession, judge: Judge) -> dict[str, Callable[[], Finding]]:
    """Return the checks that guard against a wrong pass; none for a run that has stopped."""
    if session.scope.stopped is not None:
        return {}
    checks: dict[str, Callable[[StressSession], Finding]] = {}
    for family, damage in damages(session.checks).items():
        checks[damage.name] = partial(is_noticed, family, damage, judge=judge)
    checks[FOLLOW] = partial(checks_follow_the_candidate, judge=judge)
    checks[MAPS] = _maps_follow_weights

    sizes = _sample_sizes(session)
    sizes_of_check = dict.fromkeys(checks, sizes) | {FOLLOW: [STOOD_IN, *sizes]}
    return {
        name: partial(_until_it_holds, check, session, sizes_of_check[name])
        for name, check in checks.items()
    }


def _sample_sizes(session: StressSession) -> list[int]:
    """Return the sizes of the samples that mutants are judged on, ascending."""
    if not session.roles["candidate"].provides.live:
        # Recorded predictions cover only the images of the checks, and cost nothing.
        return [len(session.images)]
    largest = min(SAMPLES, len(session.images))
    return sorted({min(extent_of(session).damaged, largest), largest})


def _conclude(name: str, check: Callable[[], Finding]) -> SelfCheck:
    """Return the result of a self-check."""
    try:
        finding = check()
    except UnknownPixelsError:
        why = "recorded predictions have none for the images of this check"
        return SelfCheck(name, "not_applicable", why)
    except CannotNoticeError as error:
        return SelfCheck(name, "not_applicable", str(error), cannot_notice=True)
    except NotApplicableError as error:
        # For example, a predictor of labels has no confidence to damage.
        return SelfCheck(name, "not_applicable", str(error))
    status: Literal["pass", "fail"] = "pass" if finding.holds else "fail"
    return SelfCheck(name, status, finding.detail, check=finding.check)


def _unless(mistake: str, detail: str) -> Finding:
    return Finding(holds=not mistake, detail=mistake or detail)


def _identity_changes_nothing(model: RoleModel, images: LabelledImages) -> Finding:
    """Check that the identity pose gives the logits of clean images."""
    fresh = model.classifier.like(model.classifier.model)
    posed_logits = fresh.predict(images, _AtRest()).computed
    clean_logits = fresh.predict(images).computed
    is_equal = np.array_equal(posed_logits, clean_logits)
    result = "the same logits, bit for bit"
    if not is_equal:
        result = "other logits: the geometry or the model is not deterministic"
    detail = f"rotated by 0° and translated by 0 px, {len(images)} images give {result}"
    return Finding(holds=is_equal, detail=detail)


class _AtRest:
    """The pose of each image, all of them zero: the whole path of interpolation, to no effect."""

    def __init__(self, border: str = DEFAULT_BORDER) -> None:
        self._border = border

    def within_border(self, border: str) -> _AtRest:
        return _AtRest(border)

    def __call__(self, images: Tensor) -> Tensor:
        zeros = torch.zeros(len(images), device=images.device)
        return pose_each(images, zeros, zeros, zeros, border=self._border)

    def __repr__(self) -> str:
        return f"AtRest({self._border})"


def _until_it_holds(
    check: Callable[[StressSession], Finding], session: StressSession, sizes: Sequence[int]
) -> Finding:
    """Return the result of a check on the first of these samples on which it holds, or on the last.

    On few images, the interval of a check is wide and may excuse a mutant. That must not end a run.
    """
    for size in sizes:
        sampled = session.on_images(sample_up_to(session.images, size))
        try:
            finding = check(sampled)
        except CannotNoticeError:
            if size == sizes[-1]:
                raise
            continue
        if finding.holds:
            break
    return finding


def _maps_follow_weights(sampled: StressSession) -> Finding:
    """Check that a model with shuffled weights looks elsewhere.

    This is the model parameter randomization test of Adebayo et al. (2018), "Sanity Checks for
    Saliency Maps", section 4, by Spearman's rank correlation. An edge detector, or a bias to the
    middle, gives the same maps whatever the weights.
    """
    images = sampled.images
    candidate = sampled.roles["candidate"]
    if not sampled.checks.family("attention"):
        raise NotApplicableError("there is no check of family 'attention'")
    try:
        own_maps = candidate.attend(images)
        shuffled = candidate.classifier.like(_with_shuffled_weights(candidate.classifier.plain))
        shuffled_maps = attend(shuffled, images, layer=own_maps.layer)
        correlations = rank_correlation(own_maps, shuffled_maps)
    except InputError as error:
        # There is no layer to look at, or shuffled weights give no finite logits.
        raise NotApplicableError(str(error)) from None

    counted = correlations[~np.isnan(correlations)]
    if not len(counted):
        raise NotApplicableError(
            "no image has a map both with the own and with the shuffled weights"
        )
    mean = float(counted.mean())
    uncounted = len(correlations) - len(counted)
    facts = (
        f"with all weights shuffled, the maps of layer {own_maps.layer} correlate by {mean:.2f} "
        f"with the model's own (by rank; {len(counted)} maps, {uncounted} dead or flat)"
    )
    if mean < ALIKE:
        return Finding(holds=True, detail=f"{facts}, below {ALIKE}")
    advice = "they do not depend on what the model has learned; name another by the setting layer"
    return Finding(holds=False, detail=f"{facts}, not below {ALIKE}: {advice}")


def _with_shuffled_weights(network: nn.Module) -> nn.Module:
    """Return a copy of a network in which the values of each tensor of weights are shuffled.

    Shuffling works for any layer and keeps the scale of the weights, unlike random values.
    """
    shuffled = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in shuffled.parameters():
            order = torch.randperm(weights.numel(), generator=generator).to(weights.device)
            weights.copy_(weights.flatten()[order].view_as(weights))
    return shuffled
