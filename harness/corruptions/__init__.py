"""Common corruptions of images: noise, blur, light, compression, warps and missing parts, at five severities each."""

from harness.corruptions.corruption import ALL, CORRUPTIONS, SEVERITIES, Corruption, under_corruption

__all__ = ["ALL", "CORRUPTIONS", "SEVERITIES", "Corruption", "under_corruption"]
