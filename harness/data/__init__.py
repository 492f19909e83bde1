"""Labelled images as one tensor: Fashion-MNIST, with its resolution order and checksums."""

from harness.data.fashion_mnist import fetch_fashion_mnist, load_fashion_mnist
from harness.data.images import LabelledImages, load_images, split_validation, stratified_sample

__all__ = [
    "LabelledImages",
    "fetch_fashion_mnist",
    "load_fashion_mnist",
    "load_images",
    "split_validation",
    "stratified_sample",
]
