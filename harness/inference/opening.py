"""A checkpoint opened for some images: loaded, held against them, and ready to predict."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from harness.errors import InputError
from harness.inference.classifier import Classifier
from harness.inference.devices import pick_device
from harness.inference.role import RoleModel
from harness.networks import NetworkOptions
from harness.networks.declared import expect_fit, load_model
from harness.networks.process import settings_kept

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from harness.data import LabelledImages
    from harness.data.parallel import Spread
    from harness.inference.backend import MakeBackend
    from harness.inference.cluster import Cluster
    from harness.networks.running import BackendOptions
    from harness.store import PredictionCache


def placed(options: BackendOptions, device: str) -> tuple[Cluster | None, str]:
    """Return the cluster that models are to run on, started, or None, and the device that this process has them on.

    Raises `InputError` for a device that there is not, for one beside a cluster, and for a cluster that cannot be used.
    """
    if not options.on_ray:
        return None, pick_device(device)
    if device not in {"auto", "cpu"}:
        raise InputError(f"device {device!r}: a cluster's workers have GPUs by --stress-ray-gpus; leave it out")
    from harness.inference.cluster import cluster_of

    cluster = cluster_of(options.ray)
    cluster.start()
    return cluster, "cpu"


def spread_of(options: BackendOptions) -> Spread | None:
    """Return what decodes many pictures: the nodes of the cluster that models run on; None for this process."""
    if not options.on_ray:
        return None
    from harness.inference.cluster.nodes import OnNodes

    return OnNodes(options.ray)


@settings_kept()
def open_model(
    path: Path,
    images: LabelledImages,
    *,
    role: str = "",
    network: NetworkOptions | None = None,
    device: str = "auto",
    workers: int | None = None,
    cache: PredictionCache | None = None,
    backend: str | MakeBackend = "process",
    others: Iterable[RoleModel] = (),
) -> RoleModel:
    """Load a checkpoint, check that it fits the images, and return it as the model of a role.

    The precision of its answers is measured on these images. ONNX Runtime computes in float32 alone, so that bfloat16
    does not screen for it. If one of `others` is the same network, the two share what they remember. Raises
    `CheckpointRefused` for a file out of order, and `InputError`, which names role and file, for a device or backend
    that there is not and for a model that does not fit the images or fails on the first of them.
    """
    device = pick_device(device)
    network = (network or NetworkOptions()).after(images)
    checkpoint = load_model(path, network)
    twin = next((other for other in others if other.model_sha256 == checkpoint.model_sha256), None)
    try:
        if twin:
            classifier = twin.classifier
        else:
            screen = checkpoint.architecture != "onnx"
            classifier = Classifier(
                checkpoint.model, device=device, workers=workers, cache=cache, screen=screen, backend=backend
            )
            classifier.measure_precision_on(images)
        where = expect_fit(checkpoint.model, images, outputs=network.outputs)
        classifier.predict(images.take(torch.tensor([0])))
    except InputError as error:
        raise InputError(f"{role} {path}: {error}".strip()) from error
    except Exception as error:  # The model's own, which may fail in any way, and at any call.
        raise InputError(f"{role} {path}: the model failed on the first images: {error}".strip()) from error
    return RoleModel(
        role,
        path,
        checkpoint.sha256,
        checkpoint.model_sha256,
        checkpoint.architecture,
        checkpoint.record,
        classifier,
        note="; ".join(filter(None, (checkpoint.note, where))),
    )
