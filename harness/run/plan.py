"""The plan of a run.

The work that its tests, self-checks and overview ask for, and the time of a measured batch.
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from harness.base.codes import Code
from harness.base.errors import (
    InputError,
    Interruption,
    NotApplicableError,
    foreign_code,
    printable,
)
from harness.inference.standins import Ledger, StandIn
from harness.measures.panel.predictions import PanelPredictions, PanelView
from harness.perturb import IDENTITY, Pose
from harness.run.budget import (
    CHECKS,
    OVERVIEW,
    Costs,
    Plan,
    duration,
    families_by_hand,
    in_cores,
    plan_from,
    rows_passes,
)
from harness.run.self_checks import self_checks
from harness.run.side_by_side import overview_of
from harness.run.time_limit import TimeLimitExceededError, time_limit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.checks import Check, Verdict
    from harness.data import LabelledImages
    from harness.inference import Classifier, RoleModel
    from harness.run.mutants import Judge
    from harness.run.session import StressSession

_TRIED, _SCREENED = 32, (65, 251)
"""Images of the batch measured in float32, and of those tried with screening, which a backend does
for many alone.
"""
_PATIENCE = 20.0
"""Seconds that measuring the latter may take.

Beyond that float32 stands for it, of fewer images if need be.
"""
MEASURING, COUNTING, EACH = 120.0, 120.0, 30.0
"""Seconds after which measuring the batches is given up, and counting: in all, and of one test."""
_SEEN = Pose(7, 1.5, 0.5)
MAP_PASSES = 3
"""Largest cost of a map, in passes, if no batch of it can be measured."""


def asked_by(
    session: StressSession,
    checks: Sequence[Check],
    judge: Judge,
    *,
    overview: bool = True,
    cached: bool = True,
) -> Ledger:
    """Run the tests of these checks, self-checks and overview on models that only count.

    Return what each asks for.

    Families stand in the order of their tests. Work that two families share counts for the first.
    Work of earlier runs counts by itself where `cached`, else as all other work.
    """
    ledger, until = Ledger(), time.monotonic() + COUNTING
    twins = {
        id(model.classifier): StandIn(
            model.provides, ledger=ledger, of=model.classifier, cached=cached
        )
        for model in session.roles.values()
    }
    roles = {
        role: replace(model, classifier=twins[id(model.classifier)])
        for role, model in session.roles.items()
    }
    planned = replace(session, roles=roles, cache=None)

    def ask(session: StressSession, check: Check) -> Verdict | None:
        with suppress(
            Exception
        ):  # A test that cannot cope with made-up answers has been counted up to there.
            return judge(session, check)
        return None

    works: list[tuple[str, Callable[[], object]]] = [
        (check.family, partial(ask, planned, check)) for check in checks
    ]
    works.append((CHECKS, lambda: self_checks(planned, ask)))
    if overview:
        works.append((OVERVIEW, lambda: overview_of(planned)))
    for name, work in works:
        left = max(until - time.monotonic(), 1e-3)
        try:
            with ledger.under(name), time_limit(min(left, EACH), name):
                work()
        except TimeLimitExceededError:
            ledger.uncounted = tuple(dict.fromkeys((*ledger.uncounted, name)))
    return ledger


def plan_of(
    session: StressSession,
    checks: Sequence[Check],
    judge: Judge,
    *,
    budget: float | None = None,
    costs: Costs | None = None,
    overview: bool = True,
    to_calibrate: bool = False,
) -> Plan:
    """Return the plan of a run of these checks.

    Measures costs that are not given, by a few batches of the candidate.

    With a `budget`, in seconds, it has samples that fit. Families with thresholds by hand have
    none, since a sample may not decide on those. For a checks file that is yet `to_calibrate`,
    samples are of families that can have them there. Cached predictions then count as work, and so
    do panel predictions that nobody has recorded. Raises `InputError` where the model gives no
    answer in time.
    """
    images, kept = (
        session.images,
        {*session.other_images.of_rows},
    )  # Every run measures these whole.
    by_hand = [family for family in families_by_hand(checks) if family not in kept]
    sizes = {check.family: session.size_of(check.family) for check in checks}
    sizes |= {name: len(own) for name, own in session.other_images.of_rows.items() if name in sizes}
    if to_calibrate:
        if session.panel_predictions is None:
            labels = session.other_images.labels
            size = len(images) if labels is None else len(labels)
            unknown = np.zeros(size, dtype=np.int16)
            clean = {
                repr(IDENTITY): PanelView(*[unknown] * 4)
            }  # Strata cost the same, whatever they are.
            known = PanelPredictions(images.sha256, images.classes, ("planned",), clean)
            session = replace(session, panel_predictions=known)
        # A file can have samples of families with rows in it alone, which golden ones are not.
        # Calibrated families keep their images where others were added to them.
        calibrated = {check.family for check in checks if check.panel}
        with_rows = {check.family for check in session.checks.written}
        kept |= (sizes.keys() - with_rows) | (calibrated if with_rows - calibrated else set())
    shares: dict[str, float] = {}
    for check in checks:
        shares[check.family] = min(_share_of_images(check, images), shares.get(check.family, 1.0))
    return plan_from(
        lambda samples: asked_by(
            session.with_samples(samples),
            checks,
            judge,
            overview=overview,
            cached=not to_calibrate,
        ),
        sizes,
        costs or measured_costs(session),
        tests=Counter(check.family for check in checks),
        shares=shares,
        images=len(images),
        budget=budget,
        kept=kept,
        by_hand=by_hand,
    )


def _share_of_images(check: Check, images: LabelledImages) -> float:
    """Return the share of the images in the class, or in the smallest group, that a check is about.

    Else 1.
    """
    by, group = str(check.keys.get("by")), check.keys.get("group")
    if check.class_name in images.classes:
        return (
            float((images.labels == images.classes.index(check.class_name)).float().mean()) or 1.0
        )
    if by not in images.groups:
        return 1.0
    names, sizes = np.unique(images.groups[by], return_counts=True)
    chosen = (
        sizes[names == group]
        if isinstance(group, str)
        else sizes[sizes >= int(check.keys.get("least", 1))]
    )
    return float(chosen.min() / len(images)) if len(chosen) else 1.0


def cost_in_brief(session: StressSession, *, start_seconds: float, patience: float) -> str:
    """Say how much the rows ask for at least, and the time of that.

    Measures a batch, unless predictions are cached.

    A batch that takes longer than `patience`, in seconds, is given up.
    """
    images, checks, candidate = session.images, session.checks.checks, session.roles["candidate"]
    passes = rows_passes(session)
    asked = (
        f"{len(checks)} checks on {len(images):,} images of {printable(images.name)}: {passes:,} "
        "image-poses"
    )
    asked += ", without searches and maps; "
    if not candidate.provides.live:
        return f"{asked}the candidate's predictions are recorded"
    posed = next((check.pose for check in checks if check.pose != Pose()), Pose())
    key = candidate.classifier.cache_key("answers", images, posed)
    if session.cache is not None and key is not None and session.cache.has(key):
        return f"{asked}predictions of an earlier run are in the cache"
    took, cores = (
        "how long it takes is not known, a first batch failed or took too long",
        candidate.classifier.workers,
    )
    # The tests report a model that raises or hangs; a line of the plan is worth neither the end of
    # a run nor a wait.
    with suppress(Exception, Interruption), time_limit(patience, "a first batch"), foreign_code():
        seconds = passes * _seconds(candidate, images, _TRIED, exact=True) / cores
        memory = f", {bytes_ / 1e9:.1f} GB of memory so far" if (bytes_ := _peak_bytes()) else ""
        besides = (
            f"plus {duration(start_seconds)} to start, self-checks and the comparison of models"
        )
        took = (
            f"about {duration(seconds)} on {in_cores(cores)}, {besides}{memory} (--stress-plan: "
            "all)"
        )
    return asked + took


def measured_costs(session: StressSession) -> Costs:
    """Measure what an image costs: under a pose, as `predict` runs it, and with its map.

    Raises `InputError` where the model fails, or takes longer than two minutes for its first
    batches.
    """
    candidate = session.roles["candidate"]
    if not candidate.provides.live:
        raise InputError(
            f"candidate {candidate.path}: recorded predictions cost nothing, so plan and budget "
            "mean nothing"
        )
    return costs_of(candidate, session.images, maps=bool(session.checks.family("attention")))


def costs_of(model: RoleModel, images: LabelledImages, *, maps: bool) -> Costs:
    """Measure the cost of an image to a model, as `measured_costs` does.

    `maps` tells whether maps are measured, too.
    """
    try:
        with time_limit(MEASURING, "measuring a batch"), foreign_code():
            classifier, start = model.classifier, time.monotonic()
            _seconds(model, images, 1, exact=True)  # The first call loads what others need, too.
            tried = max(1, min(_TRIED, int(_PATIENCE / max(time.monotonic() - start, 1e-9))))
            each = _seconds(model, images, tried, exact=True)
            screened = next(
                filter(classifier.backend_for(classifier.model).screens_for, _SCREENED), None
            )
            if screened is not None and each * screened < _PATIENCE:
                each = min(each, _seconds(model, images, screened, exact=False))
            map_seconds = MAP_PASSES * each
            if maps:
                some = images.take(torch.arange(min(tried, len(images))))
                fresh, map_seconds = (
                    replace(model, classifier=classifier.like(classifier.plain)),
                    0.0,
                )
                with suppress(NotApplicableError):
                    start = _clock(classifier)
                    fresh.attend(some)
                    map_seconds = (_clock(classifier) - start) / len(some)
            return Costs(each, map_seconds, _peak_bytes(), classifier.workers)
    except TimeLimitExceededError:
        raise InputError(
            f"{model.role} {model.path}: its first batches took longer than {MEASURING:g} s, so "
            "the cost of a run is unknown. A faster device, or smaller images, may help.",
            code=Code.TIME_LIMIT,
        ) from None
    except (Exception, Interruption) as error:
        raise InputError(
            f"{model.role} {model.path}: its first batch failed, so there is no plan: {error}",
            code=Code.MODEL_RAISED,
        ) from error


def _seconds(model: RoleModel, images: LabelledImages, count: int, *, exact: bool) -> float:
    """Return the time of each of so many images, in a pose.

    They run in float32 if `exact`, or else as `predict` runs them.
    """
    classifier = model.classifier
    backend = classifier.backend_for(classifier.model)
    inputs = classifier.inputs(images, _SEEN).only(np.arange(count) % len(images))
    backend.measure_precision_on(inputs.only(np.arange(1)), name="a plan's")
    start = _clock(classifier)
    backend.logits(inputs, classes=len(images.classes), exact=exact)
    return (_clock(classifier) - start) / count


def _clock(classifier: Classifier) -> float:
    """Return the time of all cores.

    For an accelerator or a predictor, which they wait for, that of the clock.
    """
    elsewhere = classifier.device.type != "cpu" or not classifier.provides.network
    return time.perf_counter() if elsewhere else time.process_time()


def _peak_bytes() -> int:
    """Return the most memory that this process had so far, the images and a batch included.

    0 where nobody knows.
    """
    try:
        import resource
    except ImportError:  # Windows.
        return 0
    import sys

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )
