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
from harness.base.codes import Code
from harness.base.errors import InputError, NotApplicableError, printable
from harness.base.features import results
from harness.base.records import as_json, read_json
from harness.checks.families import damages
from harness.data import sample_up_to
from harness.data.domain import DEFAULT_BORDER
from harness.data.groups import groups_sha256
from harness.inference.anew import WAYS, asked_elsewhere, ways_for
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
from harness.run.session import UNSEEDED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from harness.base.cache import Store
    from harness.data import LabelledImages
    from harness.inference import Classifier, RoleModel
    from harness.run.mutants import Judge
    from harness.run.session import StressSession

SAMPLES = 1_000
"""Images on which mutants are judged, at most: the damage is gross, and a sample keeps the checks to seconds."""
ALIKE = 0.5
"""Mean rank correlation from which on two models look at the same: reference models of one recipe reach 0.6 here."""

STOOD_IN = 200
"""Images on which stand-ins are judged at first."""

ASKED, TOLERANCE = 32, 1e-3
"""Images that are asked about otherwise, at most, and the tolerance of their logits, relative or absolute."""
ROUNDING = 1e-5
"""Tolerance of a logit by the largest one of its image: other batches add in another order, in float32."""
ALONE = 4
"""Images that are predicted alone to find out whether others in their batches change them."""
ANSWERS = 16
"""Largest number of perturbations that are predicted again."""
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
    most, few = min(ANSWERS, extent.answers // extent.few), extent.few
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


def expect_steady(models: Sequence[RoleModel], images: LabelledImages) -> None:
    """Raise `InputError` for a model that predicts otherwise if it is asked otherwise, or again."""
    if found := next(filter(None, map(other_answers, models)), "") or unsteady(models, images):
        raise InputError(found, code=Code.SELF_CHECK)


def unsteady(models: Sequence[RoleModel], images: LabelledImages) -> str:
    """Say which model gives other predictions for these images if it is asked otherwise; empty if none does.

    It is asked as it was given, in another order and without padding. If it runs code of the user's, other processes
    are asked, too. In a run, tracing loses state between calls, and all batches are filled up to one size. Where the
    model is served they are not.
    """
    some, live = sample_up_to(images, ASKED), [model for model in models if model.provides.live]
    in_the_run = {
        id(model): model.classifier.like(model.classifier.model).predict(some).computed
        for model in live
    }
    foreign = [model for model in live if model.classifier.opening]
    for answers in asked_elsewhere(
        [model.classifier.opening for model in foreign if model.classifier.opening], some
    ):
        for model, given in zip(foreign, answers, strict=True):
            for way, logits in given.items():
                if found := _others(logits, in_the_run[id(model)][way.positions(len(some))]):
                    why = UNSEEDED if way == WAYS[0] else way.reason(model.provides)
                    return f"{model.path}: asked {way.how} in another process, {found}: {why}"
    for model in live:  # After the other processes, since the code may depend on the time.
        for way in ways_for(model.classifier):
            try:
                logits = way.logits(model.classifier, some)
            except InputError as error:
                why = way.reason(model.provides)
                return f"{model.path}: asked {way.how}, the model fails ({error}): {why}"
            if found := _others(logits, in_the_run[id(model)][way.positions(len(some))]):
                return f"{model.path}: asked {way.how}, {found}: {way.reason(model.provides)}"
    return ""


def _others(logits: np.ndarray, in_the_run: np.ndarray) -> str:
    """Say how many images have other logits than in the run; empty for none."""
    # Sums of large terms round to a part of the largest, also where they cancel to a small logit.
    largest = np.abs(in_the_run).max(axis=1, keepdims=True, initial=0)
    within = np.maximum(TOLERANCE, ROUNDING * largest) + TOLERANCE * np.abs(in_the_run)
    distances = np.abs(logits - in_the_run)
    others = ~(distances <= within).all(axis=1)
    by = distances.max(initial=0)
    return (
        f"{others.sum()} of {len(others)} images get other logits, by up to {by:.3g}"
        if others.any()
        else ""
    )


def other_answers(model: RoleModel, *, most: int = ANSWERS, few: int = ASKED) -> str:
    """Say how many predictions of this run, from the cache or not, the model gives otherwise now; empty for none.

    The model is asked about `few` images of at most `most` of the run's perturbations: predictions of another model
    differ on many images.
    """
    fresh, answered = model.classifier.like(model.classifier.model), model.classifier.answered
    count, changed_count, example = 0, 0, None
    for before in answered[:: -(-len(answered) // most)] if answered else ():
        chosen = np.unique(np.linspace(0, len(before.labels) - 1, few).astype(np.int64))
        anew = fresh.predict(before.images.take(torch.from_numpy(chosen)), before.perturbation)
        count += len(chosen)
        if others := int((anew.predicted != before.predicted[chosen]).sum()):
            changed_count += others
            example = example or anew
    if example is None:
        return ""
    changes = (
        f"{changed_count} of {count} predictions of this run are others when predicted anew, "
        f"as under {printable(example.perturbation)}"
    )
    if _depends_on_batch(fresh, example.images):
        shared = "its prediction for an image depends on the others in its batch"
        return f"{changes}: {shared}. {model.provides.batch_advice}."
    return (
        f"{changes}: it keeps state, or the cache is of another. Empty it with "
        "`stress-harness cache --clear`. Your own perturbations must change an image alike in any batch."
    )


def _depends_on_batch(fresh: Classifier, images: LabelledImages) -> bool:
    """Return whether images get other logits alone in a batch, and beside the same images do not."""

    def computed(positions: Sequence[int]) -> np.ndarray:
        return fresh.predict(images.take(torch.tensor(positions)), keep=False).computed

    everywhere = range(len(images))
    before, again = computed(everywhere), computed(everywhere)
    if _others(again, before):
        return False
    some = everywhere[:: -(-len(images) // ALONE)]
    alone = np.concatenate([computed([position]) for position in some])
    return bool(_others(alone, before[some]))
