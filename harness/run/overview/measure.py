"""Measuring what a report compares: once for each model, on the same images, through what is remembered and cached."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.measures import accuracy, calibration_error, confident_errors, right_at_every_pose
from harness.measures.confidence import BINS, bin_of
from harness.measures.failures import kinds_for
from harness.measures.statistics import mean_interval
from harness.perturb import Pose, promised_corners, promised_poses
from harness.perturb.covering import SIDES, Covered
from harness.run.overview.failing import changes_between, failing
from harness.run.overview.results import ModelOverview, OnObject, Overview, Rate, ReliabilityBin, Survival

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness.data import LabelledImages
    from harness.inference import Predictions, RoleModel
    from harness.measures import Measurement
    from harness.run.session import StressSession

SAMPLES = 1_000
"""Images of curves: enough for an interval of ±2 points, few enough to take seconds."""
DEGREES = (-30.0, -20.0, -15.0, -10.0, -5.0, 0.0, 5.0, 10.0, 15.0, 20.0, 30.0)
SHIFTS = (-4.0, -2.0, 0.0, 2.0, 4.0)
CONFIDENT = 0.9
"""Errors above this confidence are counted as confident, as in the study."""
_LEAST = 100


def overview_of(session: StressSession, *, searched: bool = True) -> Overview:
    """Measure the models of a run, each once whatever its roles.

    What a search finds is only measured where the run has `searched` anyway: survival of the candidate, which is then
    at hand, and of the others, with how many images are right at every pose, on half as many images.
    """
    probe = session.probe_images
    fewer = _sample(probe, -(-len(probe) // 2))
    others = dict.fromkeys(set(session.roles) - {"candidate"}, fewer)
    return measure_overview(
        session.roles,
        session.images,
        survival={"candidate": probe, **others} if searched else {},
        everywhere=others if searched else {},
    )


def measure_overview(
    models: Mapping[str, RoleModel],
    images: LabelledImages,
    *,
    survival: Mapping[str, LabelledImages],
    everywhere: Mapping[str, LabelledImages],
    on_measured: Callable[[int, int], None] | None = None,
) -> Overview:
    """Measure models, by role, on the same images; those with equal weights once, under the first of their roles.

    Curves and maps are of a stratified sample of at most a thousand images. `survival` and `everywhere` name the
    images on which survival curves, and how many are right at every promised pose, are measured for a role: both end
    at an image's first failure, and cost most for the best models. `on_measured` is called with (steps done, all).
    """
    roles: dict[str, list[str]] = {}
    for role, model in models.items():
        twin = next((name for name in roles if models[name].model_sha256 == model.model_sha256), role)
        roles.setdefault(twin, []).append(role)
    size = min(SAMPLES, max(len(images) // 4, min(len(images), _LEAST)))
    sample = _sample(images, size)
    fewer = _sample(sample, -(-len(sample) // 2))
    kinds = kinds_for(next(iter(models.values())).predict(images))
    steps: list[tuple[str, Callable[[], dict[str, Any]]]] = []
    for role in roles:
        model = models[role]
        steps += [
            (role, partial(_clean, model, images)),
            (role, partial(_turned, model, sample)),
            (role, partial(_moved, model, sample, fewer)),
            (role, partial(failing, model, images, sample, kinds)),
            (role, partial(_looking, model, sample)),
        ]
        if role in survival:
            steps.append((role, partial(_surviving, model, survival[role])))
        if role in everywhere:
            steps.append((role, partial(_everywhere, model, everywhere[role])))
    measured: dict[str, dict[str, Any]] = {role: {} for role in roles}
    for done, (role, measure) in enumerate(steps, start=1):
        measured[role].update(measure())
        if on_measured:
            on_measured(done, len(steps))
    overviews = tuple(
        ModelOverview(
            name=names[0],
            roles=tuple(names),
            path=str(models[role].path),
            history=_history(models[role]),
            **measured[role],
        )
        for role, names in roles.items()
    )
    overview = Overview(images.name, len(images), len(sample), images.classes, overviews, DEGREES, SHIFTS)
    if (reference := overview.reference) is None:
        return overview
    first, other = (models[each.roles[0]] for each in (overview.models[0], reference))
    return replace(overview, changes=changes_between(first, other, images, kinds, against=reference.name))


def _clean(model: RoleModel, images: LabelledImages) -> dict[str, Any]:
    predictions = model.predict(images)
    count = len(images.classes)
    pairs = np.bincount(predictions.labels * count + predictions.predicted, minlength=count * count)
    present = np.bincount(predictions.labels, minlength=count) > 0
    return {
        "accuracy": _rate(accuracy(predictions)),
        "per_class": tuple(
            _rate(accuracy(predictions, of_class=name)) if there else None
            for name, there in zip(images.classes, present, strict=True)
        ),
        "confusion": tuple(tuple(map(int, row)) for row in pairs.reshape(count, count)),
        "confident_errors": int(confident_errors(predictions, above=CONFIDENT).value),
        "calibration_error": float(calibration_error(predictions).value),
        "reliability": reliability(predictions),
    }


def reliability(predictions: Predictions) -> tuple[ReliabilityBin, ...]:
    """Return the answers by confidence, in the bins of the expected calibration error."""
    confidence = predictions.confidence
    which = bin_of(confidence)
    chosen = [which == number for number in range(BINS)]
    return tuple(
        ReliabilityBin(
            int(answers.sum()),
            float(confidence[answers].mean()) if answers.any() else None,
            float(predictions.correct[answers].mean()) if answers.any() else None,
        )
        for answers in chosen
    )


def _turned(model: RoleModel, sample: LabelledImages) -> dict[str, Any]:
    return {"rotation": tuple(_rate(accuracy(model.predict(sample, Pose(degrees)))) for degrees in DEGREES)}


def _moved(model: RoleModel, sample: LabelledImages, fewer: LabelledImages) -> dict[str, Any]:
    right = np.stack([model.predict(sample, corner).correct for corner in promised_corners()]).mean(axis=0)
    # Answers about one image go together, so that there are only as many as images.
    low, high = mean_interval(right, (0.0, 1.0))
    before = model.predict(sample).predicted
    changed = {side: model.predict(sample, Covered(side)).predicted != before for side in SIDES}
    return {
        "corners": Rate(float(right.mean()), low, high, len(right)),
        "shift": tuple(
            tuple(_rate(accuracy(model.predict(fewer, Pose(dx=dx, dy=dy)))) for dx in SHIFTS) for dy in SHIFTS
        ),
        "covered": {side: float(answers.mean()) for side, answers in changed.items()},
    }


def _looking(model: RoleModel, sample: LabelledImages) -> dict[str, Any]:
    """Measure attention on the object where the model has any and the object is known."""
    from harness.data.masks import object_masks
    from harness.errors import NotApplicableError

    try:
        masks, maps = object_masks(sample), model.attend(sample).upsampled()
    except NotApplicableError:
        return {}
    mass, area = maps.sum(axis=(1, 2)), masks.mean(axis=(1, 2))
    known = (mass > 0) & (area > 0)
    ratio = np.where(masks, maps, 0).sum(axis=(1, 2)) / np.where(known, mass, 1)

    def mean_of(chosen: np.ndarray) -> OnObject | None:
        if not chosen.any():
            return None
        shares, uniform = ratio[chosen].astype(np.float64), area[chosen]
        return OnObject(
            float(shares.mean()), float(uniform.mean()), float((shares / uniform).mean()), int(chosen.sum())
        )

    labels = sample.labels.numpy()
    return {
        "on_object": tuple(mean_of(known & (labels == label)) for label in range(len(sample.classes))),
        "on_object_overall": mean_of(known),
    }


def _surviving(model: RoleModel, images: LabelledImages) -> dict[str, Any]:
    from harness.inference.search import breaking
    from harness.perturb.grids import PATHS

    curves = [breaking(model.classifier, images, PATHS[name]) for name in ("rotation", "shift")]
    return {
        "survival": tuple(
            Survival(curve.path.name, curve.path.unit, len(curve.severity), *map(_floats, curve.survival()))
            for curve in curves
            if len(curve.severity)
        )
    }


def _everywhere(model: RoleModel, images: LabelledImages) -> dict[str, Any]:
    from harness.inference.search import first_failures
    from harness.perturb.grids import most_dangerous_first

    found = first_failures(model.classifier, images, most_dangerous_first(promised_poses()))
    return {"right_everywhere": _rate(right_at_every_pose(found))}


def _history(model: RoleModel) -> tuple[Mapping[str, float], ...]:
    """Return the epochs that the checkpoint's record tells of, or the file beside it; none when they make no sense."""
    from harness.networks.training import Epoch

    epochs: Any = model.record.history if model.record else ()
    beside = model.path.with_suffix(".history.json")
    try:
        epochs = epochs or json.loads(beside.read_bytes())
        return tuple({name: float(epoch[name]) for name in Epoch.__dataclass_fields__} for epoch in epochs)
    except (OSError, ValueError, TypeError, KeyError):
        return ()


def _sample(images: LabelledImages, size: int) -> LabelledImages:
    from harness.data import stratified_sample

    return images if size >= len(images) else stratified_sample(images, size)


def _rate(measured: Measurement) -> Rate:
    low, high = measured.interval
    return Rate(float(measured.value), float(low), float(high), measured.n)


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(map(float, values))
