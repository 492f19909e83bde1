"""A small network with batch norms, and its training in seconds.

It normalizes its input in place.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

_BATCH, _RATE = 64, 3e-3


class Small(nn.Module):
    """Two convolutions with batch norms and a linear layer.

    Pixels are (N, channels, side, side) in [0, 1]. The normalization changes its argument, as
    `Tensor.sub_` does: a mutant that looks at the pixels afterwards finds others.
    """

    def __init__(self, channels: int, classes: int, side: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.conv2, self.bn2 = nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32)
        self.fc = nn.Linear(32 * (side // 4) ** 2, classes)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the logits, (N, classes)."""
        out = pixels.sub_(0.3).div_(0.35)
        out = functional.max_pool2d(functional.relu(self.bn1(self.conv1(out))), 2)
        out = functional.max_pool2d(functional.relu(self.bn2(self.conv2(out))), 2)
        logits: torch.Tensor = self.fc(out.flatten(1))
        return logits


def trained(
    images: np.ndarray, labels: np.ndarray, *, seed: int, epochs: int, shift_px: int
) -> Small:
    """Return a network trained on images (N, H, W, C) uint8 and labels (N,).

    Batches are shifted at random.
    """
    torch.manual_seed(seed)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    targets = torch.from_numpy(labels).long()
    network = Small(pixels.shape[1], int(labels.max()) + 1, pixels.shape[2])
    optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=0.01)
    steps = epochs * -(-len(pixels) // _BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps)

    for _ in range(epochs):
        for batch in torch.randperm(len(pixels)).split(_BATCH):
            down, right = torch.randint(-shift_px, shift_px + 1, (2,)).tolist()
            shifted = pixels[batch].roll((down, right), dims=(2, 3))
            optimizer.zero_grad()
            functional.cross_entropy(network(shifted), targets[batch]).backward()
            optimizer.step()
            schedule.step()
    return network.eval()
