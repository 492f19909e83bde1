"""Exports answered by a checkpoint, as a script of a user's would."""

import json

import numpy as np
import torch

from harness.inference import Classifier
from harness.networks.checkpoints import load_checkpoint


def scores_of(pixels, checkpoint):
    """Return the logits of a checkpoint in float32, as a script of its own computes them."""
    classifier = Classifier(load_checkpoint(checkpoint).model, workers=1)
    pixels = torch.from_numpy(pixels)
    backend = classifier.backend_for(classifier.model, screen=False)
    return backend.exact_logits(len(pixels), lambda at: pixels[torch.from_numpy(at)], classes=4, what="exported images")


def answer(folder, checkpoint, path, **changed):
    """Write a checkpoint's answers to an export as npz, in another order."""
    shards = [np.load(shard) for shard in sorted(folder.glob("shard-*.npz"))]
    names = np.concatenate([shard["image"] for shard in shards])
    scores = scores_of(np.concatenate([shard["pixels"] for shard in shards]), checkpoint)
    order = np.random.default_rng(0).permutation(len(names))
    content = {"export": manifest(folder)["export"], "image": names[order], "logits": scores[order], **changed}
    np.savez(path, **{name: value for name, value in content.items() if value is not None})
    return f"predictions:{path}"


def manifest(folder):
    return json.loads((folder / "manifest.json").read_text())
