"""Measurement of the models of a run side by side, each once, on the same images."""

from __future__ import annotations

import json
import math
from collections import Counter
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
    from harness.measures.panel.label_errors import LabelErrors
    from harness.measures.panel.predictions import PanelPredictions
    from harness.run.session import StressSession

SAMPLES = 1_000
"""Images at corners: enough for an interval of ±2 points, few enough to take seconds."""
CORNERS = "accuracy rotated and translated"
CONFIDENCE = "expected calibration error"
"""Titles of measurements that a run leaves out if it can afford too few images for them."""
CHANGED_SHOWN = 27
"""New failures, and fixed ones, that an overview names with the predictions of both models."""
SHOWN = 300
"""Mistakes that an overview names, at most."""
OF_CONFUSION = 20
"""Mistakes of one confusion that an overview names, at most."""
_LEFT_OUT = frozenset({"original"})
"""Roles with checks of their own, which a comparison with the candidate adds nothing to."""


def overview_of(
    session: StressSession, *, on_measured: Callable[[int, int], None] | None = None
) -> Overview:
    """Measure the models of a run, each once whatever its roles.

    The images are as many as the run can afford. Where families are measured on samples, these are
    the images.
    """
    extent = extent_of(session)
    models = {role: model for role, model in session.roles.items() if role not in _LEFT_OUT}
    return measure_overview(
        models,
        session.of_family("clean").images,
        corners=extent.corners,
        confidences=extent.confidences,
        panel_predictions=session.panel_predictions,
        labels=session.other_images.labels,
        on_measured=on_measured,
    )


def sample_sizes(images: LabelledImages) -> list[int]:
    """Return the sizes that the sample at corners may have, descending.

    They are few, so that later runs find its predictions in the cache.
    """
    smallest = min(TELLING, len(images))
    largest = min(SAMPLES, max(len(images) // 4, smallest))
    return sorted({smallest, min(SAMPLES // 2, largest), largest}, reverse=True)


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
    """Measure models on the same images; models of equal weights once, under their first role.

    Corners and confidences are left out if they would be measured on fewer than 200 images, or on
    fewer than all of a smaller set. Corners are also left out of images that are too small for
    them.

    Args:
        models: The models by role; the first is compared with the others.
        images: The images.
        corners: The largest size of the stratified sample at the corners of the augmentation range.
        confidences: The largest number of images for confidence, which needs a pass in full
            precision; by default all.
        panel_predictions: Predictions of the reference models for the images.
        labels: The labels of the whole split, for the panel predictions of a sample.
        on_measured: A function that is called with the number of models done, and of all.
    """
    roles = _roles_by_model(models)
    has_corners = not why_no_corners(images)
    corner_images = _corner_images(images, corners) if has_corners else 0
    confident_images = _confident_images(images, confidences)

    candidate = next(iter(models.values()))
    predictions = candidate.predict(images)
    errors, errors_missing = _label_errors(images, panel_predictions, labels)
    kinds = kinds_for(predictions, _owners(predictions, panel_predictions))
    if any(model.provides.known == 0 for model in models.values()):
        # A kind is counted for every model, also for one without confidence.
        kinds = tuple(kind for kind in kinds if kind.above is None)

    measured = []
    for role, names in roles.items():
        model = models[role]
        facts = _measured(model, images, kinds, size=corner_images, sure=confident_images)
        if errors is not None and errors.rows and panel_predictions is not None:
            own = model.predict(images)
            facts["without_label_errors"] = without(own, panel_predictions, errors)
        measured.append(ModelOverview(name=role, roles=tuple(names), **facts))
        if on_measured:
            on_measured(len(measured), len(roles))

    left_out = []
    if has_corners and not corner_images:
        left_out.append(CORNERS)
    if not confident_images:
        left_out.append(CONFIDENCE)
    overview = Overview(
        data=images.name,
        n=len(images),
        sample=corner_images,
        classes=images.classes,
        models=tuple(measured),
        mistakes=mistakes_of(predictions, panel_predictions),
        label_errors=errors,
        label_errors_missing=errors_missing,
        augmentation=images.domain.augmentation,
        left_out=tuple(left_out),
    )
    reference = overview.reference
    if reference is None:
        return overview
    other = models[reference.roles[0]]
    changes = _changes(candidate, other, images, kinds, against=reference.name)
    return replace(overview, changes=changes)


def _roles_by_model(models: Mapping[str, RoleModel]) -> dict[str, list[str]]:
    """Return the roles of each model, by its first one."""
    first_roles: dict[str, str] = {}
    roles: dict[str, list[str]] = {}
    for role, model in models.items():
        first_role = first_roles.setdefault(model.model_sha256, role)
        roles.setdefault(first_role, []).append(role)
    return roles


def _corner_images(images: LabelledImages, limit: int) -> int:
    """Return the size of the sample at the corners; 0 if `limit` allows none."""
    for size in sample_sizes(images):
        if size <= limit:
            return size
    return 0


def _confident_images(images: LabelledImages, limit: int | None) -> int:
    """Return the number of images for confidence; 0 if `limit` allows too few."""
    count = len(images) if limit is None else limit
    return count if count >= min(TELLING, len(images)) else 0


def _owners(
    predictions: Predictions, panel: PanelPredictions | None
) -> dict[str, frozenset[int]] | None:
    """Return whose errors the candidate's are; None without panel predictions of clean images."""
    if panel is None:
        return None
    with suppress(NotApplicableError):
        return owners(predictions, panel)
    return None


def _label_errors(
    images: LabelledImages, panel: PanelPredictions | None, labels: np.ndarray | None
) -> tuple[LabelErrors | None, str]:
    """Return suspected label errors, or None and why the reference models cannot tell."""
    if panel is None:
        return None, ""
    try:
        return label_errors(images, panel, labels), ""
    except NotApplicableError as error:
        return None, str(error)


def _measured(
    model: RoleModel, images: LabelledImages, kinds: Sequence[FailureKind], *, size: int, sure: int
) -> dict[str, Any]:
    """Return the fields of a model's overview.

    Confidence is measured on `sure` images, and `size` of them are measured at the corners.
    """
    predictions = model.predict(images)
    confusions = confusion_matrix(predictions)
    class_accuracies: list[Rate | None] = []
    for name, count in zip(images.classes, confusions.sum(axis=1), strict=True):
        rate = _rate(accuracy(predictions, of_class=name)) if count else None
        class_accuracies.append(rate)
    facts: dict[str, Any] = {
        "path": str(model.path),
        "accuracy": _rate(accuracy(predictions)),
        "per_class": tuple(class_accuracies),
        "confusion": tuple(tuple(map(int, row)) for row in confusions),
        "history": _epochs(model),
    }
    if predictions.has_confidence:
        facts["confident_errors"] = int(confident_errors(predictions, above=CONFIDENT).value)
        if sure:
            facts |= _confidence_facts(model.predict(sample_up_to(images, sure)))

    corner_shares: list[float | None] = [None] * len(kinds)
    if size:
        corner_facts, corner_shares = _at_corners(model, sample_up_to(images, size), kinds)
        facts |= corner_facts
    counts = []
    for kind, share in zip(kinds, corner_shares, strict=True):
        counts.append(KindCount(kind.name, int(kind.among(predictions).sum()), share))
    return facts | {"failures": tuple(counts)}


def _epochs(model: RoleModel) -> tuple[dict[str, float], ...]:
    """Return the epochs of a model's training; none if they are not recorded, or make no sense."""
    from harness.networks.training import CURVES

    with suppress(OSError, ValueError, TypeError, KeyError):
        epochs: Any = model.record.history if model.record else ()
        if not epochs:
            path = Path(model.path).with_suffix(".history.json")
            epochs = json.loads(path.read_bytes())
        curves = tuple({name: float(epoch[name]) for name in CURVES} for epoch in epochs)
        if all(math.isfinite(value) for epoch in curves for value in epoch.values()):
            return curves
    return ()


def _confidence_facts(exact: Predictions) -> dict[str, Any]:
    curve = reliability(exact)
    bins = zip(curve.counts, curve.at, curve.values, strict=True)
    return {
        "calibration_error": float(calibration_error(exact).value),
        "reliability": tuple(ReliabilityBin(*values) for values in bins),
    }


def _at_corners(
    model: RoleModel, sample: LabelledImages, kinds: Sequence[FailureKind]
) -> tuple[dict[str, Any], list[float | None]]:
    """Return the facts of a model at the corners, and the share of each kind of failure there."""
    corners = augmentation_range_corners(sample.domain.augmentation)
    moved = [model.predict(sample, corner) for corner in corners]
    views = [model.predict(sample), *moved]
    accuracies = np.stack([view.correct for view in moved]).mean(axis=0)
    predicted = np.stack([view.predicted for view in views], axis=1)
    confidence = None
    if views[0].has_confidence:
        confidence = np.stack([view.confidence_of_errors() for view in views], axis=1)
    shares: list[float | None] = [_mean_share(kind, moved) for kind in kinds]
    # Predictions for one image depend on each other, so n is the number of images.
    interval = mean_interval(accuracies, (0.0, 1.0))
    facts = {
        "corners": Rate(float(accuracies.mean()), *interval, len(accuracies)),
        "persistent": persistent_failures(sample, predicted, confidence),
    }
    return facts, shares


def _mean_share(kind: FailureKind, views: Sequence[Predictions]) -> float:
    return float(np.mean([kind.among(view).mean() for view in views]))


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
    """Return how a model's failures on clean images differ from those of the one named `against`.

    The first of the `kinds` is any failure.
    """
    import torch

    own_predictions = model.predict(images)
    other_predictions = reference.predict(images)
    positions_by_kind = [
        changed_positions(own_predictions, other_predictions, kind) for kind in kinds
    ]
    new_and_fixed = positions_by_kind[0][:2]
    comparisons = []
    for positions in new_and_fixed:
        # Predicted alone: for all images, the correct prediction would cost another pass.
        shown = images.take(torch.from_numpy(positions[:CHANGED_SHOWN]))
        if len(shown):
            own, other = model.predict(shown), reference.predict(shown)
            comparisons.append(compared_at(own, other, np.arange(len(shown))))
        else:
            comparisons.append(())
    counts = []
    for kind, new_fixed_shared in zip(kinds, positions_by_kind, strict=True):
        counts.append(KindChange(kind.name, *map(len, new_fixed_shared)))
    return Changes(against, tuple(counts), *comparisons)


def mistakes_of(predictions: Predictions, panel: PanelPredictions | None) -> tuple[Mistake, ...]:
    """Return mistakes of each confusion, the most confident first.

    Every confusion has one before any has two.
    """
    confidence = predictions.confidence_of_errors() if predictions.has_confidence else None
    chosen = _chosen_mistakes(predictions, confidence)
    classes = predictions.classes
    positions = predictions.images.positions.numpy()
    references = _references(panel, positions[chosen], classes)
    mistakes = []
    for at, reference in zip(chosen.tolist(), references, strict=True):
        mistake = Mistake(
            index=int(positions[at]),
            true=classes[int(predictions.labels[at])],
            predicted=classes[int(predictions.predicted[at])],
            confidence=None if confidence is None else float(confidence[at]),
            reference=reference,
        )
        mistakes.append(mistake)
    return tuple(mistakes)


def _chosen_mistakes(predictions: Predictions, confidence: np.ndarray | None) -> np.ndarray:
    """Return the indices of the mistakes that the overview names, in their order, int64."""
    wrong = np.flatnonzero(~predictions.correct)
    if confidence is not None:
        wrong = wrong[np.argsort(-confidence[wrong], kind="stable")]
    counts: Counter[tuple[int, int]] = Counter()
    ranked = []
    for at in wrong.tolist():
        confusion = int(predictions.labels[at]), int(predictions.predicted[at])
        if counts[confusion] < OF_CONFUSION:
            ranked.append((counts[confusion], at))
        counts[confusion] += 1
    ranked.sort(key=lambda item: item[0])
    return np.array([at for _, at in ranked[:SHOWN]], dtype=np.int64)


def _references(
    panel: PanelPredictions | None, positions: np.ndarray, classes: Sequence[str]
) -> list[Reference | None]:
    """Return the reference models' predictions for images at these positions of the split."""
    references: list[Reference | None] = [None] * len(positions)
    if panel is None or panel.excluded is not None or not len(positions):
        return references
    try:
        view = panel.view().take(positions)
    except NotApplicableError:  # The panel has no predictions for clean images.
        return references
    for row in range(len(positions)):
        wrong = int(view.wrong[row])
        if wrong >= 0:
            predicted = classes[int(view.likeliest[row, 0])]
            share = float(view.shares[row, 0])
            references[row] = Reference(panel.reference_models, wrong, predicted, share)
    return references
