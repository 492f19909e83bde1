"""Serving pipelines as data: from the bytes of a picture to the pixels that a network sees, stage by stage."""

from harness.data.serving.catalog import SKEWS, Skew, catalog
from harness.data.serving.pipeline import ServingPipeline
from harness.data.serving.resizing import Resize
from harness.data.serving.stages import Color, Crop, Decode, Jpeg, Normalise, Orient, Scale

__all__ = [
    "SKEWS",
    "Color",
    "Crop",
    "Decode",
    "Jpeg",
    "Normalise",
    "Orient",
    "Resize",
    "Scale",
    "ServingPipeline",
    "Skew",
    "catalog",
]
