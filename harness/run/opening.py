"""From the request of a run to its session: everything that it needs is loaded and checked."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.errors import (
    AnswersError,
    DataError,
    IncumbentError,
    InputError,
    UnusableModelError,
)
from harness.base.features import implementations, listed
from harness.checks import ChecksFile, read_checks
from harness.checks.families import FAMILIES
from harness.checks.roles import INCUMBENT, ROLES
from harness.data.options import DataOptions
from harness.networks import NetworkOptions
from harness.run.added_names import expect_new_names
from harness.run.inputs import expect_data_of, expect_domain_of, expect_profile_of
from harness.run.request import request_of
from harness.run.session import OtherImages, RunScope, StressSession

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.base.cache import Store
    from harness.data import LabelledImages
    from harness.data.exported import Export
    from harness.inference import RoleModel
    from harness.inference.backends import Cluster
    from harness.measures.panel.predictions import PanelPredictions
    from harness.run.request import RunRequest

EXAMPLES = {"quick": 100, "default": 100, "thorough": 1_000}
"""Poses that Hypothesis draws for a test, by profile."""


_ahead: dict[str, LabelledImages] = {}
"""Images that this process loaded before its runs, by the settings that make them."""


def load_ahead(options: Sequence[str]) -> None:
    """Load the images of later runs in this process and its copies.

    A run that cannot load them will say so.
    """
    with suppress(Exception):
        request = request_of(options, root=Path())
        _ahead[_made_by(request)] = request.load(request.transform_named)


def _made_by(request: RunRequest) -> str:
    return f"{request.part(DataOptions)!r} {request.part(NetworkOptions)!r}"


def checks_of(request: RunRequest) -> ChecksFile:
    """Return the checks of a run: of its file, and those that features make of its request."""
    expect_new_names()
    checks = read_checks(request.checks_path)
    rows_of_features = listed("stress_rows", request=request)
    return replace(checks, checks=(*checks.checks, *rows_of_features))


def open_session(
    request: RunRequest, *, checks: ChecksFile | None = None, workers: int | None = None
) -> StressSession:
    """Load and check everything that a run needs.

    Args:
        request: what the run is asked for.
        checks: the checks file if it has been read: all that use it then have the same content.
        workers: the most threads of a model; None for all cores.

    Raises:
        InputError: something cannot be used.
    """
    from harness.data import stratified_sample

    checks = checks or checks_of(request)
    all_images = _images_of(request, checks)
    elsewhere = _images_elsewhere(request, checks, all_images)
    panel_predictions = _panel_predictions(request, checks, all_images)

    images = all_images
    whole = None
    size = request.sample_size(checks.data)
    if size is not None:
        images = stratified_sample(all_images, size)
        if request.samples is None:  # A sample that was asked for is all that the run knows.
            whole = all_images
    cluster, roles, cache = _models_of(request, checks, images, workers=workers)
    if panel_predictions and roles:  # The candidate may be one of the reference models.
        panel_predictions = panel_predictions.without(roles["candidate"].model_sha256)
    _expect_declared(request, roles)
    if request.record is None:
        _expect_kind_of_panel(checks, roles)

    export = _recorded_scope(request, checks, roles)
    scope = RunScope(
        recording=request.record is not None,
        thorough=request.profile == "thorough",
        fitted=export.samples if export else {},
        answered=export.families if export else (),
    )
    of_rows = _images_of_rows(checks, images, request)
    session = StressSession(
        images,
        checks,
        roles,
        panel_predictions,
        scope,
        OtherImages(whole, all_images.labels.numpy(), of_rows, elsewhere),
        declared=request.declared,
        waived=request.waived,
        cache=cache,
        cluster=cluster,
    )
    for reopen in implementations("stress_session_opened"):
        session = reopen(session=session, request=request) or session
    return session if request.stopped is None else session.stopped_at(*request.stopped)


def _images_of(request: RunRequest, checks: ChecksFile) -> LabelledImages:
    """Return all images of the data, which are those that the checks file was made for."""
    from harness.inference import spread_of

    images = _ahead.get(_made_by(request))
    if images is None:
        images = request.load(request.transform_named, spread=spread_of(request))
    expect_data_of(checks, images)
    expect_profile_of(checks, request.profile)
    if request.record is None and request.answers is None:
        expect_domain_of(checks, images)
        checks.expect_rows_as_calibrated()
    if checks.data.classes:
        images = replace(images, classes=checks.data.classes)
    return images


def _images_elsewhere(
    request: RunRequest, checks: ChecksFile, images: LabelledImages
) -> LabelledImages | None:
    """Return the images of none of the classes, if the request names some."""
    from harness.checks.slices import expect_elsewhere_of
    from harness.data.sources import load_elsewhere

    elsewhere = None
    if request.unknown is not None:
        pipeline = request.whole_pipeline(request.transform_named)
        elsewhere = load_elsewhere(request.unknown, images, pipeline)
    expect_elsewhere_of(checks, elsewhere, recording=request.record is not None)
    return elsewhere


def _models_of(
    request: RunRequest, checks: ChecksFile, images: LabelledImages, *, workers: int | None
) -> tuple[Cluster | None, dict[str, RoleModel], Store | None]:
    """Return the cluster that models run on, the models by role, and their cache of predictions.

    Work in place of a run has no models.
    """
    from harness.base.cache import Store
    from harness.inference import open_model, placed
    from harness.inference.engine import Engine

    cluster, device = placed(request, request.device)
    cache = None if request.no_cache else Store.of_user()
    if cache is not None:
        cache.prune()

    roles: dict[str, RoleModel] = {}
    for role in ROLES:
        if request.instead or role not in request.checkpoints:
            continue
        model = open_model(
            request.checkpoints[role],
            images,
            role=role,
            network=request.part(NetworkOptions),
            device=device,
            workers=workers,
            cache=cache,
            backend=cluster or Engine,
            others=roles.values(),
            rounded=checks.data.pixels is not None,
        )
        roles[role] = replace(model, layer=_layer(model, images, request.layer))
    return cluster, roles, cache


def _recorded_scope(
    request: RunRequest, checks: ChecksFile, roles: Mapping[str, RoleModel]
) -> Export | None:
    """Return what recorded predictions were exported for; `InputError` if that does not suffice."""
    from harness.run.recorded import scope_of_recorded

    is_recording = request.record is not None
    if is_recording and not all(model.provides.live for model in roles.values()):
        families = {check.family for check in checks.checks}
        checks.data.expect_numbers(families, "the models are recorded predictions")

    scope = scope_of_recorded(roles, checks, profile=request.profile, measured=request.samples)
    if is_recording and scope and scope.samples:
        raise AnswersError(
            "the predictions are of an export with --budget, and thresholds need all images; "
            "export without it"
        )
    return scope


def _images_of_rows(
    checks: ChecksFile, images: LabelledImages, request: RunRequest
) -> dict[str, LabelledImages]:
    """Return the images that the rows of a family are about, by the family's name."""
    of_rows = {}
    for name, family in FAMILIES.items():
        if family.images is None or not checks.family(name):
            continue
        images_of_family = family.images(checks, images, request)
        if images_of_family is not None:
            of_rows[name] = images_of_family
    return of_rows


def expect_candidate(request: RunRequest, checks: ChecksFile) -> None:
    """Raise `InputError` where no candidate is named, and the default is missing."""
    if request.shipped and checks.data.name != request.data:
        raise DataError(
            f'{checks.path}: made for the data {checks.data.name!r}; name them by data = "…" '
            "below [gate] in stress_tests/checks.toml, or by --stress-set data=…"
        )
    if "candidate" in request.roles or "candidate" in request.shipped:
        return
    candidate = request.checkpoints["candidate"]
    if isinstance(candidate, Path) and not candidate.exists():
        raise UnusableModelError(
            f"{candidate}: there is no such file, and no shipped model is for these data; name the "
            "checkpoint to judge with --candidate"
        )


def train_missing(request: RunRequest) -> dict[str, Path]:
    """Train the shipped models that are missing, and return their paths, by role.

    Raises `InputError` where another checkpoint is missing, before anything is trained.
    """
    from harness.networks.checkpoints import require_file
    from harness.networks.training import train_or_load

    files = {role: path for role, path in request.checkpoints.items() if isinstance(path, Path)}
    missing = [role for role in sorted(request.shipped) if not files[role].exists()]
    if not missing:
        return {}
    for role in files.keys() - request.shipped:
        require_file(files[role])
    return {role: train_or_load(files[role].stem) for role in missing}


def _panel_predictions(
    request: RunRequest, checks: ChecksFile, images: LabelledImages
) -> PanelPredictions | None:
    """Return the predictions of reference models that the thresholds were made with."""
    from harness.measures.panel.collection import PredictionRecorder
    from harness.measures.panel.predictions import read_panel_predictions

    if request.answers is not None:
        return PredictionRecorder(
            images.sha256, images.classes, ("asked",), {}, folder=request.answers
        )
    path = request.panel_predictions or checks.panel_predictions
    if path is None:
        return None
    panel_predictions = read_panel_predictions(path)
    if request.record is None or request.panel_predictions is None:
        checks.expect_panel_predictions(path, panel_predictions.sha256)
    panel_predictions.expect(images)
    return panel_predictions


def _expect_declared(request: RunRequest, roles: Mapping[str, RoleModel]) -> None:
    """Raise `InputError` if the incumbent was loaded by its declaration, and is another file."""
    loaded = roles.get(INCUMBENT)
    declared = request.declared
    if loaded is None or declared is None or INCUMBENT in request.roles:
        return
    if loaded.sha256 != declared.sha256:
        raise IncumbentError(declared.refusal(loaded.sha256))


def _expect_kind_of_panel(checks: ChecksFile, roles: Mapping[str, RoleModel]) -> None:
    """Raise `InputError` if thresholds of accuracies would judge scores, or the other way round."""
    candidate = roles.get("candidate")
    of_panel = [check for check in checks.checks if check.panel and check.by_hand is None]
    if candidate is None or not of_panel:
        return
    scored = candidate.provides.scored
    if scored == bool(checks.recipe.get("scores", False)):
        return
    gives, expected = "predicts classes", "scores of images"
    if scored:
        gives, expected = "gives a score for each image", "predicted classes"
    raise AnswersError(
        f"candidate {candidate.path}: {gives}, and the thresholds of {checks.path} are made for "
        f"{expected}; calibrate with reference models of the candidate's kind"
    )


def _layer(model: RoleModel, images: LabelledImages, name: str | None) -> str | None:
    """Return the layer for Grad-CAM, checked; None for the default layer.

    The default stands also for a layer that another model than the candidate lacks. A model that
    gives only predictions has no layer.
    """
    from harness.inference.layers import chosen_layer

    if name is None or not model.provides.layers:
        return None
    try:
        return chosen_layer(model.classifier, images, name)[0]
    except InputError as error:
        if model.role == "candidate":
            raise InputError(
                f"{model.role} {model.path}: {error}", setting=f"layer {name}", code=error.code
            ) from error
        return None
