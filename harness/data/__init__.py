"""Labelled images as one tensor: Fashion-MNIST, a folder or an npz file."""

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
