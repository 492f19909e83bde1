"""Labeled images as one tensor: Fashion-MNIST, or images of your own.

Your own images come from files, archives, tables or a data set in Python.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.data.fashion_mnist import fetch_fashion_mnist, load_fashion_mnist
    from harness.data.images import (
        LabelledImages,
        one_in,
        sample_up_to,
        split_validation,
        stratified_sample,
    )
    from harness.data.sources import load_images

__all__ = [
    "LabelledImages",
    "fetch_fashion_mnist",
    "load_fashion_mnist",
    "load_images",
    "one_in",
    "sample_up_to",
    "split_validation",
    "stratified_sample",
]


def __getattr__(name: str) -> Any:
    """Import a name at its first use: the settings of this package are needed without NumPy."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from harness.data import fashion_mnist, images, sources

    modules = (fashion_mnist, images, sources)
    owner = next(module for module in modules if hasattr(module, name))
    return getattr(owner, name)
