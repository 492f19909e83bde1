"""What a run would cost: what its tests, self-checks and overview ask for, and what a measured batch says it takes."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from harness.errors import NotApplicableError
from harness.inference.planning import Asked, Ledger, PlannedClassifier
from harness.perturb import Pose
from harness.run.affordable import rows_passes
from harness.run.overview import overview_of
from harness.run.selfcheck import self_checks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.gates import Gate, Verdict
    from harness.inference import Classifier
    from harness.run.selfcheck import Judge
    from harness.run.session import StressSession

CHECKS, OVERVIEW = "self-checks", "overview"
_TRIED, _SCREENED = 32, 251
"""Images of the batch measured in float32, and of the one with screening, which a backend does for many alone."""
_PATIENCE = 20.0
"""Seconds that measuring the latter may take; beyond that float32 stands for it."""
_SEEN = Pose(7, 1.5, 0.5)
MAP_PASSES = 3
"""What a map costs at most, in passes, where no batch of it can be measured."""


@dataclass(frozen=True)
class Costs:
    """Seconds of one core, or of the accelerator, that an image takes under a pose, and with its map; peak bytes."""

    seconds: float
    map_seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Plan:
    """What a run asks for, by family, self-checks and overview last, on so many images; and what it costs.

    Counts are upper bounds where a search ends early. `rows` is how many tests there are of each family, and `sizes`
    how many images these may look at.
    """

    images: int
    rows: dict[str, int]
    asked: dict[str, Asked]
    costs: Costs
    sizes: dict[str, int]

    def seconds(self, asked: Asked) -> float:
        """Return how long one core, or the accelerator, takes for what is not cached."""
        return asked.poses * self.costs.seconds + asked.maps * self.costs.map_seconds

    @property
    def total(self) -> Asked:
        """Return what is asked for in all."""
        each = self.asked.values()
        return Asked(*(sum(getattr(one, name) for one in each) for name in ("passes", "poses", "maps", "cached")))


def asked_by(session: StressSession, gates: Sequence[Gate], judge: Judge, *, overview: bool = True) -> dict[str, Asked]:
    """Run the tests of these gates, self-checks and overview on models that only count; return what each asks for.

    By family, in the order in which they are first asked, so that what two families share is the first one's.
    """
    ledger = Ledger()
    twins = {id(model.classifier): PlannedClassifier(model.classifier, ledger) for model in session.roles.values()}
    roles = {role: replace(model, classifier=twins[id(model.classifier)]) for role, model in session.roles.items()}
    planned = replace(session, roles=roles, cache=None)

    def ask(session: StressSession, gate: Gate) -> Verdict | None:
        with suppress(Exception):  # A test that cannot cope with made-up answers has been counted up to there.
            return judge(session, gate)
        return None

    for gate in gates:
        with ledger.under(gate.family):
            ask(planned, gate)
    with ledger.under(CHECKS):
        self_checks(planned, ask)
    if overview:
        with ledger.under(OVERVIEW):
            overview_of(planned, searched=any(gate.keys.get("path") for gate in gates))
    return ledger.asked


def plan_of(session: StressSession, gates: Sequence[Gate], judge: Judge, *, overview: bool = True) -> Plan:
    """Return the plan of a run of these gates; runs two batches of the candidate, and counts the rest."""
    rows: dict[str, int] = {}
    for gate in gates:
        rows[gate.family] = rows.get(gate.family, 0) + 1
    asked = asked_by(session, gates, judge, overview=overview)
    sizes = {family: len(session.of_family(family).images) for family in rows}
    return Plan(len(session.images), rows, asked, measured_costs(session), sizes)


def in_brief(session: StressSession) -> str:
    """Say in a line how much the rows ask for at least, and what that takes; measures one batch of the candidate.

    Nothing is measured where an earlier run has left the answers.
    """
    images, candidate = session.images, session.roles["candidate"]
    poses = rows_passes(session)
    said = (
        f"{len(session.gates.gates)} rows on {len(images):,} images: {poses:,} image-poses, without searches and maps"
    )
    posed = next((gate.pose for gate in session.gates.gates if gate.pose != Pose()), Pose())
    key = candidate.classifier.cache_key("answers", images, posed)
    if session.cache is not None and key is not None and session.cache.has(key):
        return f"{said}; answers of an earlier run are in the cache"
    return (
        f"{said}; at most {in_words(poses * _seconds(session, _TRIED, exact=True))} on one core (--stress-plan: more)"
    )


def in_words(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    if seconds < 100:  # noqa: PLR2004
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"  # noqa: PLR2004
    return f"{seconds / 60:.0f} min" if seconds < 6_000 else f"{seconds / 3600:.1f} h"  # noqa: PLR2004


def measured_costs(session: StressSession) -> Costs:
    """Measure what an image costs: under a pose, as `predict` runs it, and with its map."""
    classifier = session.roles["candidate"].classifier
    _seconds(session, 1, exact=True)  # The first call loads what others need, too.
    each = _seconds(session, _TRIED, exact=True)
    if classifier.backend_for(classifier.model).screens_for(_SCREENED) and each * _SCREENED < _PATIENCE:
        each = min(each, _seconds(session, _SCREENED, exact=False))
    return Costs(each, _map_seconds(session, each), _peak_bytes())


def _seconds(session: StressSession, count: int, *, exact: bool) -> float:
    """Return what each of so many images takes, in a pose, in float32 (`exact`) or as `predict` runs them."""
    classifier, images = session.roles["candidate"].classifier, session.images
    positions = np.arange(count) % len(images)
    backend = classifier.backend_for(classifier.model)

    def inputs(chosen: np.ndarray) -> torch.Tensor:
        return _SEEN(classifier.pixels(images, positions[chosen]))

    run = backend.exact_logits if exact else backend.logits
    backend.measure_precision_on(1, inputs, name="a plan's")
    start = _clock(classifier)
    run(count, inputs, classes=len(images.classes), what="a plan's images")
    return (_clock(classifier) - start) / count


def _map_seconds(session: StressSession, each: float) -> float:
    candidate = session.roles["candidate"]
    if not session.gates.family("attention"):
        return MAP_PASSES * each
    some = session.images.take(torch.arange(min(_TRIED, len(session.images))))
    fresh = replace(candidate, classifier=candidate.classifier.like(candidate.classifier.plain))
    start = _clock(candidate.classifier)
    try:
        fresh.attend(some)
    except NotApplicableError:
        return 0.0
    return (_clock(candidate.classifier) - start) / len(some)


def _clock(classifier: Classifier) -> float:
    """Return the time of all cores, or, of an accelerator, which they wait for, that of the clock."""
    return time.process_time() if classifier.device.type == "cpu" else time.perf_counter()


def _peak_bytes() -> int:
    """Return the most memory that this process had so far, the images and a batch included; 0 where nobody knows."""
    try:
        import resource
    except ImportError:  # Windows.
        return 0
    import sys

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
