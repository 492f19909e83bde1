"""Segmentation of clothes on a noisy background, scored by Dice.

Data, tiny models, and their scores for an export.

The truth of an image is the outline of its clothes. A model is a linear one of local means of
brightness, fitted to the outlines of 200 other images. Another seed draws other images, so seeds
stand for retrained models.
"""

import argparse
import json
import re
from functools import cache
from pathlib import Path

import numpy as np
from scipy.ndimage import binary_erosion, gaussian_filter, uniform_filter

from harness.data import load_fashion_mnist
from harness.perturb import Pose
from harness.perturb.poses import moved_masks

TEST, TRAINED_ON = 600, 200
WINDOWS = (1, 3, 5, 9)
FAULTS = {
    "eroded": lambda masks: binary_erosion(masks, np.ones((1, 3, 3))),
    "shifted": lambda masks: np.roll(masks, 1, axis=2),
    "mirrored": lambda masks: masks[:, :, ::-1],
    "upper-half": lambda masks: masks & (np.arange(masks.shape[1]) < 18)[None, :, None],
    "holes": lambda masks: masks & (np.random.default_rng(0).random(masks.shape) > 0.1),
}
"""Faults of a system around the model, by what happens to its masks."""


@cache
def clothes():
    """Return pixels on a noisy background, outlines and labels of all images.

    Pixels are (N, 28, 28) uint8, outlines (N, 28, 28) bool.
    """
    images = load_fashion_mnist("test")
    pixels = images.pixels[:][:, 0].numpy()
    noise = np.random.default_rng(0).integers(0, 90, pixels.shape, dtype=np.uint8)
    return np.maximum(pixels, noise), pixels > 20, images.labels.numpy(), images.classes


def write_data(path):
    """Write the test images: the first 600, with their outlines."""
    pixels, outlines, labels, classes = clothes()
    content = {"images": pixels[:TEST], "labels": labels[:TEST], "masks": outlines[:TEST]}
    np.savez(path, classes=np.array(classes), **content)


def features(pixels):
    """Return the local means around each pixel, (N, 28, 28, features).

    Pixels are (N, 28, 28) in [0, 1].
    """
    means = [uniform_filter(pixels, (0, size, size)) for size in WINDOWS]
    return np.stack([*means, *np.sqrt(means), np.ones_like(pixels)], axis=-1)


def fit(seed):
    """Return the weights of a model, (features,), fitted to images outside of the test set.

    The seed draws the test set.
    """
    pixels, outlines, *_ = clothes()
    generator = np.random.default_rng(seed)
    chosen = generator.choice(np.arange(TEST, len(pixels)), TRAINED_ON, replace=False)
    seen = features(pixels[chosen] / 255).reshape(-1, 2 * len(WINDOWS) + 1)
    return np.linalg.lstsq(seen, outlines[chosen].ravel().astype(float), rcond=None)[0]


def dice(masks, truth):
    """Return the Dice coefficient of each mask, (N,) in [0, 1]; two empty masks agree."""
    both = (masks & truth).sum(axis=(1, 2))
    total = masks.sum(axis=(1, 2)) + truth.sum(axis=(1, 2))
    return np.where(total > 0, 2 * both / np.maximum(total, 1), 1.0)


def read_export(folder):
    """Return the line, the names and pixels of an export, and the truth of each of its images."""
    manifest = json.loads((folder / "manifest.json").read_text())
    shards = [np.load(path) for path in sorted(folder.glob("shard-*.npz"))]
    names, pixels, index, number = (
        np.concatenate([shard[key] for shard in shards])
        for key in ("image", "pixels", "index", "perturbation")
    )
    truth = clothes()[1][index]
    for at, entry in enumerate(manifest["perturbations"]):
        # The outline moves with the image; corruptions leave it where it is.
        moved = number == at
        if "Pose" in entry["perturbation"]:
            settings = re.findall(r"(degrees|dx|dy)=([-\d.]+)", entry["perturbation"])
            pose = Pose(**{name: float(value) for name, value in settings})
            truth[moved] = moved_masks(truth[moved], pose)
    return manifest["export"], names, pixels[:, 0], truth


def write_scores(folder, path, seed, fault):
    """Write the Dice coefficient of each exported image as a file of scores."""
    line, names, pixels, truth = read_export(folder)
    if fault == "blurred-input":
        pixels = gaussian_filter(pixels, (0, 1.5, 1.5))
    masks = features(pixels) @ fit(seed) > 0.5
    if fault in FAULTS:
        masks = FAULTS[fault](masks)
    np.savez(path, export=line, image=names, scores=dice(masks, truth))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("data", help="write silhouettes.npz")
    scoring = commands.add_parser("score", help="fit a model, and score its masks of an export")
    scoring.add_argument("seed", type=int)
    scoring.add_argument("path", type=Path)
    scoring.add_argument("--export", type=Path, default=Path("inputs"))
    scoring.add_argument("--fault", choices=[*FAULTS, "blurred-input"])
    arguments = parser.parse_args()
    if arguments.command == "data":
        write_data("silhouettes.npz")
    else:
        arguments.path.parent.mkdir(parents=True, exist_ok=True)
        write_scores(arguments.export, arguments.path, arguments.seed, arguments.fault)


if __name__ == "__main__":
    main()
