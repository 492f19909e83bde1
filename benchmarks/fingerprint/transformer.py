"""A small vision transformer, so that the fingerprint is not chosen on convolutions alone."""

from __future__ import annotations

import torch
from torch import nn


class Transformer(nn.Module):
    """Patches of 4 x 4 pixels and two encoder layers.

    Pixels are (N, channels, side, side) in [0, 1].
    """

    def __init__(self, channels: int, classes: int, side: int, width: int) -> None:
        super().__init__()
        size = 8 * width
        self.patches = nn.Conv2d(channels, size, 4, stride=4)
        self.positions = nn.Parameter(0.02 * torch.randn(1, (side // 4) ** 2, size))
        layers = [
            nn.TransformerEncoderLayer(
                size, 4, 2 * size, dropout=0.0, batch_first=True, norm_first=True
            )
            for _ in range(2)
        ]
        self.encoder = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(size)
        self.fc = nn.Linear(size, classes)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the logits, (N, classes)."""
        tokens = self.patches(pixels - 0.4).flatten(2).transpose(1, 2) + self.positions
        logits: torch.Tensor = self.fc(self.norm(self.encoder(tokens)).mean(dim=1))
        return logits
