"""Common corruptions of images: noise, blur, light, compression, warps and missing parts, at five severities each."""

from harness.perturb.corruptions import shipped  # noqa: F401  It declares those that ship.
from harness.perturb.corruptions.named import (
    ALL,
    CORRUPTIONS,
    SEVERITIES,
    SHIPPED,
    Corruption,
    corruption,
    corruptions_of,
)

__all__ = ["ALL", "CORRUPTIONS", "SEVERITIES", "SHIPPED", "Corruption", "corruption", "corruptions_of"]
