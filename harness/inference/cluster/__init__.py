"""Models on a Ray cluster: each actor takes ranges of the images; the joined results have the same bits."""

from harness.inference.cluster.backend import Cluster, Tasks, cluster_of, placed, spread_of

__all__ = ["Cluster", "Tasks", "cluster_of", "placed", "spread_of"]
