"""Measurement of the models of a report: once for each, on the same images, with cached predictions."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.base.errors import NotApplicableError
from harness.data import sample_up_to
from harness.measures import accuracy, calibration_error, confident_errors
from harness.measures.accuracy import confusion_matrix
from harness.measures.confidence import reliability
from harness.measures.failures import changed_positions, compared_at, kinds_for
from harness.measures.panel.label_errors import label_errors, owners, without
from harness.measures.statistics import mean_interval
from harness.measures.worst_poses import persistent_failures
from harness.perturb import augmentation_range_corners
from harness.perturb.grids import why_no_corners
from harness.run.budget import extent_of
from harness.run.overview import (
    CONFIDENT,
    TELLING,
    Changes,
    KindChange,
    KindCount,
    Mistake,
    ModelOverview,
    Overview,
    Rate,
    Reference,
    ReliabilityBin,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.data import LabelledImages
    from harness.inference import Predictions, RoleModel
    from harness.measures import Measurement
    from harness.measures.failures import FailureKind
    from harness.measures.panel.predictions import PanelPredictions, PanelView
    from harness.run.session import StressSession

SAMPLES = 1_000
"""Images at corners: enough for an interval of ±2 points, few enough to take seconds."""
CORNERS, CONFIDENCE = "accuracy rotated and translated", "expected calibration error"
"""Titles of what a run leaves out if it can afford too few images for it."""
CHANGED_SHOWN = 27
"""New failures, and fixed ones, that an overview names, each with the predictions of both models."""
SHOWN, OF_CONFUSION = 300, 20
"""Mistakes that an overview names, at most: of all confusions, and of one."""
_LEFT_OUT = frozenset({"original"})
"""Roles with checks of their own, which a comparison with the candidate adds nothing to."""


def overview_of(
    session: StressSession, *, on_measured: Callable[[int, int], None] | None = None
) -> Overview:
    """Measure the models of a run, each once whatever its roles, on as many images as the run can afford.

    Where families are measured on samples, these are the images.
    """
    extent = extent_of(session)
    return measure_overview(
        {role: model for role, model in session.roles.items() if role not in _LEFT_OUT},
        session.of_family("clean").images,
        corners=extent.corners,
        confidences=extent.confidences,
        panel_predictions=session.panel_predictions,
        labels=session.other_images.labels,
        on_measured=on_measured,
    )


def sample_sizes(images: LabelledImages) -> list[int]:
    """Return the sizes that the sample at corners may have, descending: few, since runs then find it in the cache."""
    least = min(TELLING, len(images))
    most = min(SAMPLES, max(len(images) // 4, least))
    return sorted({least, min(SAMPLES // 2, most), most}, reverse=True)


def measure_overview(
    models: Mapping[str, RoleModel],
    images: LabelledImages,
    *,
    corners: int = SAMPLES,
    confidences: int | None = None,
    panel_predictions: PanelPredictions | None = None,
    labels: np.ndarray | None = None,
    on_measured: Callable[[int, int], None] | None = None,
) -> Overview:
    """Measure models, by role, on the same images; those with equal weights once, under the first of their roles.

    Corners use a stratified sample of at most `corners` images, and confidence, which needs a pass in full precision,
    at most `confidences`, all by default. Either is left out if that is below 200 images, or below all of fewer.
    Images that are too small for the corners are not measured there.
    `labels` are those of the whole split, for the panel predictions of a sample. `on_measured` is called with (models
    done, all).
    """
    roles: dict[str, list[str]] = {}
    for role, model in models.items():
        twin = next(
            (name for name in roles if models[name].model_sha256 == model.model_sha256), role
        )
        roles.setdefault(twin, []).append(role)
    suited = not why_no_corners(images)
    size = next((size for size in sample_sizes(images) if suited and size <= corners), 0)
    sure = len(images) if confidences is None else confidences
    sure = 0 if sure < min(TELLING, len(images)) else sure
    first, found, owned, missing = next(iter(models.values())), None, None, ""
    if panel_predictions is not None:
        with suppress(NotApplicableError):  # The panel has no predictions for clean images.
            owned = owners(first.predict(images), panel_predictions)
        try:
            found = label_errors(images, panel_predictions, labels)
        except NotApplicableError as error:
            missing = str(error)
    kinds = kinds_for(first.predict(images), owned)
    if any(
        model.provides.known == 0 for model in models.values()
    ):  # A kind is counted for every model.
        kinds = tuple(kind for kind in kinds if kind.above is None)
    measured = []
    for role, names in roles.items():
        one = _measured(models[role], images, kinds, size=size, sure=sure)
        if found is not None and found.rows and panel_predictions is not None:
            one["without_label_errors"] = without(
                models[role].predict(images), panel_predictions, found
            )
        measured.append(ModelOverview(name=role, roles=tuple(names), **one))
        if on_measured:
            on_measured(len(measured), len(roles))
    overview = Overview(
        data=images.name,
        n=len(images),
        sample=size,
        classes=images.classes,
        models=tuple(measured),
        mistakes=mistakes_of(first.predict(images), panel_predictions),
        label_errors=found,
        label_errors_missing=missing,
        augmentation=images.domain.augmentation,
        left_out=tuple(
            title
            for title, count in ((CORNERS, size or not suited), (CONFIDENCE, sure))
            if not count
        ),
    )
    if (reference := overview.reference) is None:
        return overview
    return replace(
        overview,
        changes=_changes(first, models[reference.roles[0]], images, kinds, against=reference.name),
    )


def _measured(
    model: RoleModel, images: LabelledImages, kinds: Sequence[FailureKind], *, size: int, sure: int
) -> dict[str, Any]:
    """Measure a model on clean images, its confidence on `sure` of them, and `size` of them at the corners."""
    from harness.networks.training import CURVES

    predictions = model.predict(images)
    confusions = confusion_matrix(predictions)
    found: dict[str, Any] = {
        "path": str(model.path),
        "accuracy": _rate(accuracy(predictions)),
        "per_class": tuple(
            _rate(accuracy(predictions, of_class=name)) if count else None
            for name, count in zip(images.classes, confusions.sum(axis=1), strict=True)
        ),
        "confusion": tuple(tuple(map(int, row)) for row in confusions),
    }
    epochs: Any = model.record.history if model.record else ()
    with suppress(OSError, ValueError, TypeError, KeyError):  # Epochs that make no sense are none.
        epochs = epochs or json.loads(Path(model.path).with_suffix(".history.json").read_bytes())
        curves = tuple({name: float(epoch[name]) for name in CURVES} for epoch in epochs)
        if all(math.isfinite(value) for epoch in curves for value in epoch.values()):
            found["history"] = curves
    if predictions.has_confidence:
        found["confident_errors"] = int(confident_errors(predictions, above=CONFIDENT).value)
        if sure:
            exact = model.predict(sample_up_to(images, sure))
            curve = reliability(exact)
            bins = zip(curve.counts, curve.at, curve.values, strict=True)
            found["calibration_error"] = float(calibration_error(exact).value)
            found["reliability"] = tuple(ReliabilityBin(*each) for each in bins)
    shares: list[float | None] = [None] * len(kinds)
    if size:
        sample = sample_up_to(images, size)
        corners = augmentation_range_corners(images.domain.augmentation)
        moved = [model.predict(sample, corner) for corner in corners]
        views = [model.predict(sample), *moved]
        right = np.stack([each.correct for each in moved]).mean(axis=0)
        predicted = np.stack([each.predicted for each in views], axis=1)
        confidence = None
        if views[0].has_confidence:
            confidence = np.stack([each.confidence_of_errors() for each in views], axis=1)
        shares = [float(np.mean([kind.among(each).mean() for each in moved])) for kind in kinds]
        # Predictions for one image depend on each other, so n is the number of images.
        found["corners"] = Rate(float(right.mean()), *mean_interval(right, (0.0, 1.0)), len(right))
        found["persistent"] = persistent_failures(sample, predicted, confidence)
    failures = zip(kinds, shares, strict=True)
    return found | {
        "failures": tuple(
            KindCount(kind.name, int(kind.among(predictions).sum()), share)
            for kind, share in failures
        )
    }


def _rate(measured: Measurement) -> Rate:
    low, high = measured.interval
    return Rate(float(measured.value), float(low), float(high), measured.n)


def _changes(
    model: RoleModel,
    reference: RoleModel,
    images: LabelledImages,
    kinds: Sequence[FailureKind],
    *,
    against: str,
) -> Changes:
    """Compare a model's failures on clean images with those of the one named `against`; `kinds[0]` is any."""
    import torch

    mine, theirs = model.predict(images), reference.predict(images)
    found = [changed_positions(mine, theirs, kind) for kind in kinds]
    named = []
    for positions in found[0][
        :2
    ]:  # Asked alone: for all images, the correct prediction would cost another pass.
        few = images.take(torch.from_numpy(positions[:CHANGED_SHOWN]))
        both = (model.predict(few), reference.predict(few)) if len(few) else ()
        named.append(compared_at(*both, np.arange(len(few))) if both else ())
    counts = (
        KindChange(kind.name, *map(len, positions))
        for kind, positions in zip(kinds, found, strict=True)
    )
    return Changes(against, tuple(counts), *named)


def mistakes_of(predictions: Predictions, panel: PanelPredictions | None) -> tuple[Mistake, ...]:
    """Return mistakes of each confusion, the most confident first; every confusion has one before any has two."""
    confidence = predictions.confidence_of_errors() if predictions.has_confidence else None
    wrong = np.flatnonzero(~predictions.correct)
    if confidence is not None:
        wrong = wrong[np.argsort(-confidence[wrong], kind="stable")]
    ranks: dict[tuple[int, int], int] = {}
    ranked = []
    for at in wrong.tolist():
        confusion = int(predictions.labels[at]), int(predictions.predicted[at])
        ranks[confusion] = rank = ranks.get(confusion, -1) + 1
        ranked.append((rank, at))
    chosen = [at for rank, at in sorted(ranked, key=lambda item: item[0]) if rank < OF_CONFUSION][
        :SHOWN
    ]
    classes, positions = predictions.classes, predictions.images.positions.numpy()
    view: PanelView | None = None
    if panel is not None and panel.excluded is None and chosen:
        with suppress(NotApplicableError):
            view = panel.view().take(positions[np.array(chosen)])

    def reference(row: int) -> Reference | None:
        if view is None or panel is None or view.wrong[row] < 0:
            return None
        predicted, share = classes[int(view.likeliest[row, 0])], float(view.shares[row, 0])
        return Reference(panel.reference_models, int(view.wrong[row]), predicted, share)

    return tuple(
        Mistake(
            int(positions[at]),
            classes[int(predictions.labels[at])],
            classes[int(predictions.predicted[at])],
            None if confidence is None else float(confidence[at]),
            reference(row),
        )
        for row, at in enumerate(chosen)
    )
