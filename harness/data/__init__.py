"""Labelled images as one tensor: Fashion-MNIST, a folder or an npz file."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.data.fashion_mnist import fetch_fashion_mnist, load_fashion_mnist
    from harness.data.images import LabelledImages, one_in, sample_up_to, split_validation, stratified_sample
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
    """Import what is asked for when it is: settings are needed where NumPy must not be loaded."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from harness.data import fashion_mnist, images, sources

    return next(getattr(module, name) for module in (fashion_mnist, images, sources) if hasattr(module, name))
