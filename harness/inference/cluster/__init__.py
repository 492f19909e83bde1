"""Models on a Ray cluster: each actor takes ranges of the images; the joined results have the same bits."""

from harness.inference.cluster.backend import Cluster, cluster_of

__all__ = ["Cluster", "cluster_of"]
