"""Models on a Ray cluster: tasks take ranges of the images, and the joined results have the same bits."""

from harness.inference.cluster.backend import Cluster, cluster_of, placed, spread_of

__all__ = ["Cluster", "cluster_of", "placed", "spread_of"]
