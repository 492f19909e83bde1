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
from harness.run.session import StressSession

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.data import LabelledImages
    from harness.inference import RoleModel
    from harness.measures.panel.predictions import PanelPredictions
    from harness.run.request import RunRequest

EXAMPLES = {"quick": 100, "default": 100, "thorough": 1_000}
"""Poses that Hypothesis draws for a test, by profile."""


_ahead: dict[str, LabelledImages] = {}
"""Images that this process loaded before its runs, by the settings that make them."""


def load_ahead(options: Sequence[str]) -> None:
    """Load the images of later runs in this process and its copies; one that cannot load them will say so."""
    with suppress(Exception):
        request = request_of(options, root=Path())
        _ahead[_made_by(request)] = request.load(request.transform_named)


def _made_by(request: RunRequest) -> str:
    return f"{request.part(DataOptions)!r} {request.part(NetworkOptions)!r}"


def checks_of(request: RunRequest) -> ChecksFile:
    """Return the checks of a run: those of its file, and those that features make of its request."""
    expect_new_names()
    checks = read_checks(request.checks_path)
    rows_of_features = listed("stress_rows", request=request)
    return replace(checks, checks=(*checks.checks, *rows_of_features))


def open_session(
    request: RunRequest, *, checks: ChecksFile | None = None, workers: int | None = None
) -> StressSession:
    """Load and check everything that a run needs; raises `InputError` for anything that cannot be used.

    `checks` is the checks file if it has been read: all that use it then have the same content.
    """
    from harness.base.cache import Store
    from harness.checks.slices import expect_elsewhere_of
    from harness.data import stratified_sample
    from harness.data.sources import load_elsewhere
    from harness.inference import open_model, placed, spread_of
    from harness.inference.engine import Engine
    from harness.run.recorded import scope_of_recorded

    network, words = request.part(NetworkOptions), request.transform_named
    checks = checks or checks_of(request)
    if (images := _ahead.get(_made_by(request))) is None:
        images = request.load(words, spread=spread_of(request))
    expect_data_of(checks, images)
    expect_profile_of(checks, request.profile)
    if request.record is None and request.answers is None:
        expect_domain_of(checks, images)
        checks.expect_rows_as_calibrated()
    if checks.data.classes:
        images = replace(images, classes=checks.data.classes)
    elsewhere = None
    if request.unknown is not None:
        elsewhere = load_elsewhere(request.unknown, images, request.whole_pipeline(words))
    expect_elsewhere_of(checks, elsewhere, recording=request.record is not None)
    panel_predictions, whole, labels = (
        _panel_predictions(request, checks, images),
        None,
        images.labels.numpy(),
    )
    if (size := request.sample_size(checks.data)) is not None:
        whole = None if request.samples is not None else images
        images = stratified_sample(images, size)
    cluster, device = placed(request, request.device)
    cache = None if request.no_cache else Store.of_user()
    if cache:
        cache.prune()
    roles: dict[str, RoleModel] = {}
    for role in () if request.instead else filter(request.checkpoints.__contains__, ROLES):
        model = open_model(
            request.checkpoints[role],
            images,
            role=role,
            network=network,
            device=device,
            workers=workers,
            cache=cache,
            backend=cluster or Engine,
            others=roles.values(),
            rounded=checks.data.pixels is not None,
        )
        roles[role] = replace(model, layer=_layer(model, images, request.layer))
    if panel_predictions and roles:  # The candidate may be one of the reference models.
        panel_predictions = panel_predictions.without(roles["candidate"].model_sha256)
    _expect_declared(request, roles)
    if request.record is not None and not all(model.provides.live for model in roles.values()):
        checks.data.expect_numbers(
            {check.family for check in checks.checks}, "the models are recorded predictions"
        )
    recorded = scope_of_recorded(roles, checks, profile=request.profile, measured=request.samples)
    if recorded and recorded.samples and request.record is not None:
        raise AnswersError(
            "the predictions are of an export with --budget, and thresholds need all images; export without it"
        )
    session = StressSession(
        images,
        checks,
        roles,
        recording=request.record is not None,
        thorough=request.profile == "thorough",
        cache=cache,
        fitted=recorded.samples if recorded else {},
        answered=recorded.families if recorded else (),
        of_rows=_images_of_rows(checks, images, request),
        elsewhere=elsewhere,
        panel_predictions=panel_predictions,
        cluster=cluster,
        whole=whole,
        waived=request.waived,
        declared=request.declared,
        labels=labels,
    )
    for reopen in implementations("stress_session_opened"):
        session = reopen(session=session, request=request) or session
    return session if request.stopped is None else session.stopped_at(*request.stopped)


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
    """Raise `InputError` where nothing was named and there is nothing by default, before anything is trained."""
    if request.shipped and checks.data.name != request.data:
        raise DataError(
            f'{checks.path}: made for the data {checks.data.name!r}; name them by data = "…" '
            "below [gate] in stress_tests/checks.toml, or by --stress-set data=…"
        )
    named = "candidate" in request.roles or "candidate" in request.shipped
    candidate = request.checkpoints["candidate"]
    if not (named or isinstance(candidate, str) or candidate.exists()):
        raise UnusableModelError(
            f"{candidate}: there is no such file, and no shipped model is for these data; name the checkpoint to judge "
            "with --candidate"
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
    """Return what reference models know, checked against what the thresholds were made with."""
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
    """Raise `InputError` for an incumbent that was loaded by its declaration, and has another SHA-256."""
    loaded, declared = roles.get(INCUMBENT), request.declared
    if loaded is None or declared is None or INCUMBENT in request.roles:
        return
    if loaded.sha256 != declared.sha256:
        raise IncumbentError(declared.refusal(loaded.sha256))


def _layer(model: RoleModel, images: LabelledImages, wanted: str | None) -> str | None:
    """Return the layer to look at, checked; a model that lacks the candidate's is looked at where it is by default.

    A model that gives predictions only has none.
    """
    from harness.inference.layers import chosen_layer

    if wanted is None or not model.provides.layers:
        return None
    try:
        return chosen_layer(model.classifier, images, wanted)[0]
    except InputError as error:
        if model.role == "candidate":
            raise InputError(
                f"{model.role} {model.path}: {error}", setting=f"layer {wanted}", code=error.code
            ) from error
        return None
