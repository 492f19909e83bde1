"""Handwritten digits in color on pieces of photographs, with a small network.

The data ship with scikit-learn. `python digits_on_photos.py data` writes digits.npz; `python
digits_on_photos.py train runs/seed-1.pth --seed 1` trains.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images
from torch import Tensor, nn
from torch.nn import functional

SIZE, DIGIT = 28, 20
"""Pixels of an image's side, and of the digit's on it."""
CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TRAINING = 1_197
"""Digits to train on; the other 600 are for the test."""


def pictures(split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return images, labels and masks of "train" or "test".

    The shapes are (N, 28, 28, 3) uint8, (N,) int64 and (N, 28, 28) bool. Backgrounds are cut from
    the left part of the photographs for training, from the right part for the test.
    """
    chosen = slice(TRAINING) if split == "train" else slice(TRAINING, None)
    digits, labels = load_digits(return_X_y=True)
    photos = load_sample_images().images
    rng = np.random.default_rng(0 if split == "train" else 1)
    images, masks = [], []
    for strokes in digits[chosen].reshape(-1, 8, 8):
        ink = Image.fromarray((strokes * 255 / 16).astype(np.uint8)).resize(
            (DIGIT, DIGIT), Image.Resampling.BILINEAR
        )
        top, left = rng.integers(0, SIZE - DIGIT + 1, 2)
        opacity = np.zeros((SIZE, SIZE, 1))
        opacity[top : top + DIGIT, left : left + DIGIT, 0] = np.asarray(ink) / 255
        photo = photos[rng.integers(len(photos))]
        middle = (photo.shape[1] - SIZE) // 2
        row, column = (
            rng.integers(photo.shape[0] - SIZE),
            rng.integers(middle) + (0 if split == "train" else middle),
        )
        behind = photo[row : row + SIZE, column : column + SIZE].astype(float)
        # A color far from that of the background, as on a sign.
        colour = np.where(
            behind.mean((0, 1)) > 127, rng.integers(0, 60, 3), rng.integers(195, 256, 3)
        )
        images.append((behind * (1 - opacity) + colour * opacity).round().astype(np.uint8))
        masks.append(opacity[..., 0] > 0.5)
    return np.stack(images), labels[chosen].astype(np.int64), np.stack(masks)


class Reader(nn.Module):
    """A small network for these images.

    Pixels (N, 3, 28, 28), normalized, to probabilities (N, 10) or logits.
    """

    def __init__(self, *, width: int = 24, probabilities: bool = False) -> None:
        super().__init__()
        self.probabilities = probabilities
        self.conv1 = nn.Conv2d(3, width, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(2 * width)
        self.conv3 = nn.Conv2d(2 * width, 2 * width, 3, padding=1)
        self.bn3 = nn.BatchNorm2d(2 * width)
        self.fc = nn.Linear(2 * width * 9, len(CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        """Return the answers."""
        x = functional.relu(functional.max_pool2d(self.bn1(self.conv1(x)), 2))
        x = functional.relu(functional.max_pool2d(self.bn2(self.conv2(x)), 2))
        x = functional.relu(functional.max_pool2d(self.bn3(self.conv3(x)), 2))
        logits: Tensor = self.fc(x.flatten(1))
        return logits.softmax(dim=1) if self.probabilities else logits


def train(path: Path, *, seed: int, epochs: int = 25, digits: int = TRAINING) -> None:
    """Train a network, turning and moving images a little, and save its state dict."""
    from harness.perturb import pose_each

    torch.manual_seed(seed)
    images, labels, _ = pictures("train")
    pixels = torch.from_numpy(images[:digits]).permute(0, 3, 1, 2).float() / 255
    truth = torch.from_numpy(labels[:digits])
    model, batch = Reader(), 64
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    steps = epochs * -(-len(truth) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.01, total_steps=steps)
    for _ in range(epochs):
        for chosen in torch.randperm(len(truth)).split(batch):
            turn, right, down = (torch.rand(3, len(chosen)) * 2 - 1) * torch.tensor(
                [[15.0], [3.0], [3.0]]
            )
            seen = pose_each(pixels[chosen], turn, right, down)
            loss = functional.cross_entropy(model((seen - 0.5) / 0.25), truth[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), path)


def main() -> None:
    """Run one of the two commands."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("data", help="write digits.npz, the test images")
    command = commands.add_parser("train", help="train a network")
    command.add_argument("path", type=Path)
    command.add_argument("--seed", type=int, required=True)
    command.add_argument("--epochs", type=int, default=25)
    command.add_argument("--digits", type=int, default=TRAINING, help="how many to train on")
    options = parser.parse_args()
    if options.command == "data":
        images, labels, masks = pictures("test")
        np.savez_compressed(
            "digits.npz", images=images, labels=labels, masks=masks, classes=np.array(CLASSES)
        )
    else:
        train(options.path, seed=options.seed, epochs=options.epochs, digits=options.digits)


if __name__ == "__main__":
    main()
