"""Artifacts beside the zoo's model.

Copies with other weights, predictors of labels, and the zoo's images in groups.
"""

import numpy as np
import torch
from zoo import ARGUMENTS, CLASSES, images_of, network

from harness.networks.checkpoints import Record, save_checkpoint

SERVED = """
import numpy as np

MEANS = np.load("means.npz")["means"]

class Labels:
    outputs = "labels"
    shift = 0

    def predict(self, pixels):
        flat = pixels.reshape(len(pixels), -1).astype(np.float32) + self.shift
        return ((flat[:, None] - MEANS) ** 2).sum(axis=2).argmin(axis=1)

class Dimmed(Labels):
    shift = -60
"""


def save_artifact(folder, *, jitter=0.0, change=None, name="artifact.safetensors"):
    """Save a network with shaken weights, whose last layer `change` may change.

    Returns its name.
    """
    model = network(jitter=jitter, seed=4)
    if change:
        with torch.no_grad():
            change(model.fc1)
    save_checkpoint(folder / name, model, Record("fashion-cnn", ARGUMENTS, CLASSES))
    return name


def means_of(images):
    """Return the mean pixels of each class."""
    pixels = images.pixels.flatten(1).float()
    return torch.stack([pixels[images.labels == label].mean(dim=0) for label in range(4)])


def save_predictors(folder):
    """Save `served:Labels` and `served:Dimmed`, which predict the class of the nearest mean."""
    np.savez(folder / "means.npz", means=means_of(images_of()).numpy())
    (folder / "served.py").write_text(SERVED)


def save_groups(path):
    """Save the zoo's images with a camera for each."""
    images = images_of()
    cameras = np.where(np.arange(400) % 2 == 0, "front", "back")
    np.savez(
        path,
        images=images.pixels[:, 0].numpy(),
        labels=images.labels.numpy(),
        classes=np.array(CLASSES),
        groups=np.array(list(zip(cameras)), dtype=[("camera", "U5")]),
    )
