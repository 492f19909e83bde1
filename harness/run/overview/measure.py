"""Measurement of the models of a report: once for each, on the same images, with cached predictions."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from harness.base.errors import NotApplicableError
from harness.checks.roles import INCUMBENT
from harness.data import sample_up_to
from harness.measures.failures import kinds_for
from harness.measures.panel.label_errors import label_errors, owners
from harness.run.overview.failing import changes_between
from harness.run.overview.looking import LOOKING
from harness.run.overview.mistakes import mistakes_of
from harness.run.overview.part import TELLING, Subject
from harness.run.overview.posed import DEGREES, MOVED, SHIFTED, SHIFTS, TURNED
from harness.run.overview.results import PARTS, ModelOverview, Overview
from harness.run.sampling import extent_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    import numpy as np

    from harness.data import LabelledImages
    from harness.inference import RoleModel
    from harness.measures.panel.predictions import PanelPredictions
    from harness.run.session import StressSession

T = TypeVar("T")

SAMPLES = 1_000
"""Images of curves: enough for an interval of ±2 points, few enough to take seconds."""
CONFIDENCE = "expected calibration error"
CURVES = (MOVED, TURNED, LOOKING, SHIFTED)
"""Parts of the sample of curves, the most telling first; the last ones are left out if a run has no time for all."""
_LEFT_OUT = frozenset({"original"})
"""Roles with checks of their own, which a comparison with the candidate adds nothing to."""


def overview_of(
    session: StressSession, *, searched: bool = True, on_measured: Callable[[int, int], None] | None = None
) -> Overview:
    """Measure the models of a run, each once whatever its roles, on as many images as the run can afford.

    Survival is only measured if the run has `searched` anyway: the candidate's predictions are cached, and the others
    are searched on half as many images. Robust accuracy of the incumbent is that of its own run, since a
    smaller sample would give a second number. Where families are measured on samples, these are the images. Parts of
    too few images are left out.
    """
    extent, images = extent_of(session), session.of_family("clean").images
    probe, least = session.of_family("search").probe_images, least_of(images)
    models = {role: model for role, model in session.roles.items() if role not in _LEFT_OUT}
    others: dict[str, LabelledImages] = {}
    if searched and extent.searches >= least:
        fewer = sample_up_to(probe, min(max(-(-len(probe) // 2), least), extent.searches))
        others = dict.fromkeys(set(models) - {"candidate"}, fewer)
    every = {part.record: part.passes for part in CURVES}
    affordable = extent.curves * sum(every.values())
    return measure_overview(
        models,
        images,
        survival={"candidate": probe, **others} if searched and len(probe) >= least else {},
        robust={role: sampled for role, sampled in others.items() if role != INCUMBENT},
        curves=max(extent.curves, least),
        confidences=extent.confidences if extent.confidences >= least else 0,
        without=left_out({record: passes * least for record, passes in every.items()}, affordable),
        panel_predictions=session.panel_predictions,
        labels=session.labels,
        on_measured=on_measured,
    )


def least_of(images: LabelledImages) -> int:
    """Return the number of images that a figure needs: as many as tell anything, or all."""
    return min(TELLING, len(images))


def curve_sizes(images: LabelledImages) -> list[int]:
    """Return the sizes that the sample of curves may have, ascending: few, since runs then find it in the cache."""
    least = least_of(images)
    most = min(SAMPLES, max(len(images) // 4, least))
    return sorted({least, min(SAMPLES // 2, most), most})


def samples_of(images: LabelledImages, curves: int | None = None) -> tuple[LabelledImages, LabelledImages]:
    """Return the samples of an overview: of curves, at most so many images, and of maps, about half of them."""
    least, sizes = least_of(images), curve_sizes(images)
    sample = sample_up_to(images, max((size for size in sizes if size <= (curves or SAMPLES)), default=least))
    return sample, sample_up_to(sample, max(-(-len(sample) // 2), least))


def left_out(costs: Mapping[T, float], affordable: float) -> frozenset[T]:
    """Return what does not fit when the parts of these costs are taken one after the other, as long as one fits."""
    without = set()
    for record, cost in costs.items():
        if cost <= affordable:
            affordable -= cost
        else:
            without.add(record)
    return frozenset(without)


def measure_overview(
    models: Mapping[str, RoleModel],
    images: LabelledImages,
    *,
    survival: Mapping[str, LabelledImages],
    robust: Mapping[str, LabelledImages],
    curves: int | None = None,
    confidences: int | None = None,
    without: Collection[type] = (),
    panel_predictions: PanelPredictions | None = None,
    labels: np.ndarray | None = None,
    on_measured: Callable[[int, int], None] | None = None,
) -> Overview:
    """Measure models, by role, on the same images; those with equal weights once, under the first of their roles.

    Curves and maps use a stratified sample of at most 1,000 images, and at most `curves`. Confidence uses at most
    `confidences` images, and is left out at 0. Parts with a record in `without` are left out, too. `survival` and
    `robust` have the images for survival curves and robust accuracy by role. Both searches end at an image's first
    failure, so the best models cost most. `labels` are those of the whole split, for the panel predictions of a sample.
    `on_measured` is called with (steps done, all).
    """
    roles: dict[str, list[str]] = {}
    for role, model in models.items():
        twin = next((name for name in roles if models[name].model_sha256 == model.model_sha256), role)
        roles.setdefault(twin, []).append(role)
    sample, fewer = samples_of(images, curves)
    sure = None if confidences == 0 else sample_up_to(images, confidences or len(images))
    first, found, owned, missing = next(iter(models.values())), None, None, ""
    if panel_predictions is not None:
        with suppress(NotApplicableError):  # The panel has no predictions for clean images.
            owned = owners(first.predict(images), panel_predictions)
        try:
            found = label_errors(images, panel_predictions, labels)
        except NotApplicableError as error:
            missing = str(error)
    kinds = kinds_for(first.predict(images), owned)
    if any(model.provides.known == 0 for model in models.values()):  # A kind is counted for every model.
        kinds = tuple(kind for kind in kinds if kind.above is None)
    overviews: list[ModelOverview] = []
    for names in roles.values():
        role = names[0]
        searched = survival.get(role), robust.get(role)
        subject = Subject(
            *(models[role], images, sample, fewer, sure, kinds, *searched, panel_predictions, found),
            without=frozenset(without),
        )
        parts = []
        for part in PARTS:
            parts.append(part.record() if part.record in without else part.measure(subject))
            if on_measured:
                on_measured(len(PARTS) * len(overviews) + len(parts), len(PARTS) * len(roles))
        overviews.append(ModelOverview(role, tuple(names), str(models[role].path), tuple(parts)))
    sizes = len(images), len(sample)
    facts = (images.name, *sizes, images.classes, tuple(overviews), DEGREES, SHIFTS)
    titles = [part.title for part in PARTS if part.record in without]
    titles += [CONFIDENCE] if sure is None else []
    overview = Overview(
        *facts,
        mistakes=mistakes_of(first.predict(images), panel_predictions),
        label_errors=found,
        label_errors_missing=missing,
        left_out=tuple(titles),
    )
    if (reference := overview.reference) is None:
        return overview
    other = models[reference.roles[0]]
    return replace(overview, changes=changes_between(first, other, images, kinds, against=reference.name))
