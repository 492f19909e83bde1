"""Skews of serving pipelines, and images as another pipeline serves them."""

from harness.data.serving.catalog import SKEWS, Skew, catalog

__all__ = ["SKEWS", "Skew", "catalog"]
