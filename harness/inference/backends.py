"""The place of a run's models: this process or a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.base.errors import InputError
from harness.inference.devices import pick_device
from harness.networks.options import BackendOptions

if TYPE_CHECKING:
    from harness.data.parallel import Spread
    from harness.inference.cluster import Cluster


def placed(options: BackendOptions, device: str) -> tuple[Cluster | None, str]:
    """Return the started cluster for the models, None without one, and the device of this process.

    Raises `InputError` for an unavailable device, for a device together with a cluster, and for a cluster that fails.
    """
    if not options.on_ray:
        return None, pick_device(device)
    if device not in {"auto", "cpu"}:
        raise InputError(f"device {device!r}: a cluster's workers get GPUs from ray_gpus; remove the device")
    from harness.inference.cluster import cluster_of

    cluster = cluster_of(options.part(BackendOptions))
    cluster.start()
    return cluster, "cpu"


def spread_of(options: BackendOptions) -> Spread | None:
    """Return the decoder of many pictures on the nodes of the models' cluster; None without a cluster."""
    if not options.on_ray:
        return None
    from harness.inference.cluster.nodes import OnNodes

    return OnNodes(options.part(BackendOptions))
