"""Cluster: models run on a Ray cluster, whose tasks take ranges of the images.

The joined results have the bits of one process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.features.cluster.backend import RayCluster
    from harness.inference.backends import Backend
    from harness.networks.options import BackendOptions


def stress_backends() -> dict[str, Backend]:
    from harness.inference.backends import Backend

    return {"ray": Backend(_open)}


def _open(options: BackendOptions) -> RayCluster:
    from harness.features.cluster.backend import cluster_of

    return cluster_of(options)
