"""Images without labels in a run.

The predictions of the reference models, and thresholds on these images.

The images get the class on which all reference models agree as their label, and no class where
these differ.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from harness.base.errors import InputError, PanelError
from harness.base.progress import Progress
from harness.calibration.panel import reference_models_of
from harness.checks import Threshold
from harness.checks.damages import Damage, moved
from harness.data.sources import OF_NO_CLASS, load_elsewhere
from harness.features.unlabeled.measures import ROWS, thresholds_on, unanimous
from harness.features.unlabeled.report import FAMILY
from harness.inference import open_model
from harness.inference.platforms import computing_code
from harness.measures.panel.threshold import PROVISIONAL
from harness.networks import NetworkOptions

if TYPE_CHECKING:
    from harness.base.cache import Store
    from harness.checks import ChecksFile
    from harness.data import LabelledImages
    from harness.run.request import RunRequest
    from harness.run.session import StressSession

ANSWERS_MOVED = Damage("unlabeled-moved", logits=moved, fault="predictions moved to the next class")


def unlabeled_images(
    _: ChecksFile, images: LabelledImages, request: RunRequest
) -> LabelledImages | None:
    """Return the images that the request names, all of them and of no class.

    None where it names none.
    """
    if (spec := request.unlabeled) is None:
        return None
    pipeline = request.whole_pipeline(request.transform_named)
    found = load_elsewhere(spec, images, pipeline, setting=FAMILY, most=None, grouped=True)
    return replace(found, name=found.name.removeprefix("elsewhere "), split="field")


def with_thresholds(session: StressSession, request: RunRequest) -> StressSession:
    """Return the session with the unanimous classes as labels, and with thresholds for the rows.

    A candidate that is one of the reference models is left out. Raises `InputError` without weights
    of three reference models, and if they agree on no image.
    """
    if (images := session.other_images.of_rows.get(FAMILY)) is None:
        return session
    try:
        models = reference_models_of(session.checks, request.root)
        votes, networks = _votes(models, images, request, session.cache)
        others = [
            at
            for at, sha256 in enumerate(networks)
            if sha256 != session.roles["candidate"].model_sha256
        ]
        if len(others) < PROVISIONAL:
            raise PanelError(
                f"there are {len(others)} other reference models, expected at least {PROVISIONAL}"
            )
        labels = unanimous(votes := votes[others])
        if (labels == OF_NO_CLASS).all():
            raise PanelError(
                f"the {len(votes)} reference models agree on none of {len(images)} images"
            )
    except InputError as error:
        hint = (
            "images without labels are judged by the predictions of reference models, with their "
            "weights"
        )
        raise PanelError(
            f"{error.message}; {hint}", setting=f"{FAMILY} {request.unlabeled}", code=error.code
        ) from None
    known = thresholds_on(
        votes, images.groups, tuple(name for name in ROWS if images.groups or "group" not in name)
    )
    judged = []
    for row in session.checks.checks:
        if (found := known.get(row.id)) is not None:
            numbers: dict[str, Any] = {
                **found.written,
                "date": datetime.now(UTC).date().isoformat(),
            }
            row = replace(row, panel=Threshold(**numbers), informational=found.informational)  # noqa: PLW2901
        judged.append(row)
    of_rows = {
        **session.other_images.of_rows,
        FAMILY: replace(images, labels=torch.from_numpy(labels)),
    }
    return replace(
        session,
        checks=replace(session.checks, checks=tuple(judged)),
        other_images=replace(session.other_images, of_rows=of_rows),
    )


def _votes(
    models: list[tuple[Path | str, str]],
    images: LabelledImages,
    request: RunRequest,
    cache: Store | None,
) -> tuple[np.ndarray, list[str]]:
    """Return the class that each reference model predicts for each image, (K, N) int64.

    It is computed once for a set of images. Also return the SHA-256 of the models' networks, which
    a network has in any file.
    """
    shape, network = (len(models), len(images)), request.part(NetworkOptions)
    inputs = images.sha256, tuple(images.pixels.shape)
    decisive = [sha256 for _, sha256 in models], *inputs, network, request.device, computing_code()
    key = hashlib.sha256(f"unlabeled {decisive!r}".encode()).hexdigest()
    if (
        cache is not None
        and (kept := cache.load(key, shape)) is not None
        and (named := cache.load_text(f"{key}-of"))
    ):
        return kept.astype(np.int64), named.split()
    votes, networks = np.empty(shape, dtype=np.int64), list[str]()
    asked = Progress(
        models, desc="reference models on images without labels", unit="network", delay=2
    )
    for at, (path, sha256) in enumerate(asked):
        if isinstance(path, Path) and not path.exists():
            raise PanelError(f"{path}: the weights of this reference model are missing")
        model = open_model(path, images, network=network, device=request.device, ordered=False)
        if model.sha256 != sha256:
            raise PanelError(f"{path}: is another file than the reference model of the panel")
        votes[at] = model.predict(images).predicted
        networks.append(model.model_sha256)
    if cache is not None:
        cache.store(key, votes)
        cache.store_text(f"{key}-of", " ".join(networks))
    return votes, networks
