"""Models on a cluster, by Ray's actors: ranges of the images on each, joined by position, with the same bits."""

from harness.inference.cluster.backend import Cluster, cluster_of

__all__ = ["Cluster", "cluster_of"]
