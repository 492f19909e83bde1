"""The table of backends, and the place of a run's models: this process or a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.base.errors import InputError
from harness.inference.devices import pick_device
from harness.inference.engine import Engine

if TYPE_CHECKING:
    import torch
    from torch import nn

    from harness.data.parallel import Spread
    from harness.inference.backend import Backend, MakeBackend
    from harness.inference.cluster import Cluster
    from harness.networks.running import BackendOptions


def _on_ray(model: nn.Module, *, device: torch.device, workers: int, screen: bool) -> Backend:
    """Run models on the cluster of `RAY_ADDRESS`, or on processes of this machine; see `harness.inference.cluster`."""
    from harness.inference.cluster import cluster_of
    from harness.networks.running import RayOptions

    return cluster_of(RayOptions())(model, device=device, workers=workers, screen=screen)


BACKENDS: dict[str, MakeBackend] = {
    "process": Engine,
    "ray": _on_ray,
}
"""Backends by name."""


def backend_named(name: str | MakeBackend) -> MakeBackend:
    """Return the maker of a backend; raises `InputError`, which lists the names, for an unknown one."""
    if not isinstance(name, str):
        return name
    if name not in BACKENDS:
        raise InputError(f"backend {name!r} is unknown; expected {' or '.join(BACKENDS)}")
    return BACKENDS[name]


def placed(options: BackendOptions, device: str) -> tuple[Cluster | None, str]:
    """Return the started cluster for the models, None without one, and the device of this process.

    Raises `InputError` for an unavailable device, for a device together with a cluster, and for a cluster that fails.
    """
    if not options.on_ray:
        return None, pick_device(device)
    if device not in {"auto", "cpu"}:
        raise InputError(f"device {device!r}: a cluster's workers get GPUs from ray-gpus; remove the device")
    from harness.inference.cluster import cluster_of

    cluster = cluster_of(options.ray)
    cluster.start()
    return cluster, "cpu"


def spread_of(options: BackendOptions) -> Spread | None:
    """Return the decoder of many pictures on the nodes of the models' cluster; None without a cluster."""
    if not options.on_ray:
        return None
    from harness.inference.cluster.nodes import OnNodes

    return OnNodes(options.ray)
