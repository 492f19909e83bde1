"""Exports answered by a checkpoint, as a script of a user's would."""

import json

import numpy as np
import torch

from harness.inference import Classifier
from harness.inference.devices import FLOAT32_BATCH
from harness.inference.engine import Logits
from harness.networks.checkpoints import load_checkpoint


class Exported:
    """Exported pixels as inputs of a model, which have their perturbation applied."""

    def __init__(self, pixels):
        self.pixels, self.device = pixels, pixels.device

    def __len__(self):
        return len(self.pixels)

    def __call__(self, numbers):
        return self.pixels[torch.from_numpy(numbers)]


def scores_of(pixels, checkpoint):
    """Return the logits of a checkpoint in float32, as a script of its own computes them."""
    model = Classifier(load_checkpoint(checkpoint).model).model
    return Logits(classes=4)(model, Exported(torch.from_numpy(pixels)), FLOAT32_BATCH, workers=1)


def answer(folder, checkpoint, path, **changed):
    """Write a checkpoint's answers to an export as npz, in another order."""
    shards = [np.load(shard) for shard in sorted(folder.glob("shard-*.npz"))]
    names = np.concatenate([shard["image"] for shard in shards])
    scores = scores_of(np.concatenate([shard["pixels"] for shard in shards]), checkpoint)
    order = np.random.default_rng(0).permutation(len(names))
    content = {
        "export": manifest(folder)["export"],
        "image": names[order],
        "logits": scores[order],
        **changed,
    }
    np.savez(path, **{name: value for name, value in content.items() if value is not None})
    return f"predictions:{path}"


def score(folder, checkpoint, path, *, labels, measure, **changed):
    """Write a score of each image of an export as npz, in another order.

    `measure` returns the scores, (N,), of a checkpoint's logits, (N, classes), and the labels,
    (N,).
    """
    shards = [np.load(shard) for shard in sorted(folder.glob("shard-*.npz"))]
    names = np.concatenate([shard["image"] for shard in shards])
    logits = scores_of(np.concatenate([shard["pixels"] for shard in shards]), checkpoint)
    index = np.concatenate([shard["index"] for shard in shards])
    order = np.random.default_rng(0).permutation(len(names))
    content = {
        "export": manifest(folder)["export"],
        "image": names[order],
        "scores": measure(logits, labels[index])[order],
        **changed,
    }
    np.savez(path, **{name: value for name, value in content.items() if value is not None})
    return f"scores:{path}"


def manifest(folder):
    return json.loads((folder / "manifest.json").read_text())


def order(folder, *, families=(), speed=100.0, overview=False):
    """Return what a run is asked for to export its images in place of it."""
    what = {"folder": str(folder), "families": families, "speed": speed, "overview": overview}
    return {"instead": ("harness.features.exports.image_export", what)}
