"""Photographs, told from their pieces.

Crops of pictures that two packages ship, and heads fitted to deep networks. `python photographs.py
crops` writes photos/test; `python photographs.py retrain resnet18 runs` fits nine heads.
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

CLASSES = ("astronaut", "cat", "coffee", "flower", "motorcycle", "rocket", "temple")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet: the networks expect pixels normalized by them."""
NETWORKS = {
    "resnet18": ("torchvision.models", "resnet18", {}),
    "vit": ("timm", "create_model", {"model_name": "vit_tiny_patch16_224"}),
}
"""The module, the callable and the arguments that build each network, besides the number of
classes.
"""


def photographs() -> dict[str, np.ndarray]:
    """Return the pictures, (H, W, 3) uint8, by class: five of scikit-image, two of scikit-learn."""
    from skimage import data
    from sklearn.datasets import load_sample_images

    temple, flower = load_sample_images().images
    folder = Path(data.__file__).parent
    files = {
        "astronaut": "astronaut.png",
        "cat": "chelsea.png",
        "coffee": "coffee.png",
        "rocket": "rocket.jpg",
    }
    files["motorcycle"] = "motorcycle_left.png"
    read = {
        name: np.asarray(Image.open(folder / file).convert("RGB")) for name, file in files.items()
    }
    return dict(sorted({**read, "temple": temple, "flower": flower}.items()))


def crops(split: str, *, count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `count` crops, (N, size, size, 3) uint8, and labels (N,) int64, of "train" or "test".

    Those for training come from the left halves of the pictures, flipped at random. Those for the
    test come from the right halves.
    """
    rng = np.random.default_rng(0 if split == "train" else 1)
    pictures = list(photographs().values())
    pixels, labels = (
        np.empty((count, size, size, 3), dtype=np.uint8),
        np.arange(count) % len(pictures),
    )
    for at, label in enumerate(labels):
        middle = pictures[label].shape[1] // 2
        half = pictures[label][:, :middle] if split == "train" else pictures[label][:, middle:]
        side = rng.integers(min(half.shape[:2]) // 2, min(half.shape[:2]) + 1)
        top, left = rng.integers(half.shape[0] - side + 1), rng.integers(half.shape[1] - side + 1)
        piece = half[top : top + side, left : left + side]
        if split == "train" and rng.random() < 0.5:
            piece = piece[:, ::-1]
        pixels[at] = np.asarray(
            Image.fromarray(piece).resize((size, size), Image.Resampling.BICUBIC)
        )
    return pixels, labels.astype(np.int64)


def built(name: str, *, size: int) -> nn.Module:
    """Return a network without weights of anyone's: random, and the same each time."""
    module, function, arguments = NETWORKS[name]
    torch.manual_seed(0)
    if name == "vit":
        arguments = {**arguments, "img_size": size}
    network: nn.Module = getattr(importlib.import_module(module), function)(
        num_classes=len(CLASSES), **arguments
    )
    return network


def head_of(network: nn.Module) -> nn.Linear:
    """Return the last layer, which is called `fc` in a ResNet and `head` in a transformer."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    return layers[-1]


def features(network: nn.Module, pixels: np.ndarray) -> Tensor:
    """Return what reaches the head, (N, F).

    Batch norms take their statistics from these very images.
    """
    seen: list[Tensor] = []
    hook = head_of(network).register_forward_hook(
        lambda _layer, inputs, _output: seen.append(inputs[0].detach())
    )
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = None  # A plain average over all batches.
        network.train()
        for batch in images.split(64):
            network((batch / 255 - mean) / std)
        network.eval()
        seen.clear()
        for batch in images.split(64):
            network((batch / 255 - mean) / std)
    hook.remove()
    return torch.cat(seen)


def fit_head(network: nn.Module, inputs: Tensor, labels: Tensor, *, seed: int) -> None:
    """Fit the head alone, to a bootstrap sample of the training crops, which the seed draws."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(inputs), (len(inputs),), generator=generator)
    mean, std = inputs.mean(0), inputs.std(0) + 1e-6
    head = nn.Linear(inputs.shape[1], len(CLASSES))
    nn.init.zeros_(head.weight)
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=100)
    sample, truth = ((inputs - mean) / std)[drawn], labels[drawn]

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = nn.functional.cross_entropy(head(sample), truth) + 1e-3 * head.weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    with torch.no_grad():
        # The head includes the standardization, so the file needs the network alone.
        target = head_of(network)
        target.weight.copy_(head.weight / std)
        target.bias.copy_(head.bias - (head.weight * mean / std).sum(1))


def main() -> None:
    """Run one of the two commands."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    commands = parser.add_subparsers(dest="command", required=True)
    test = commands.add_parser("crops", help="write the test images, photos/test/CLASS/NUMBER.png")
    retrain = commands.add_parser(
        "retrain", help="fit heads: seed-1.pth to seed-8.pth, new.pth, and bad.pth"
    )
    retrain.add_argument("network", choices=NETWORKS)
    retrain.add_argument("folder", type=Path)
    for command in (test, retrain):
        command.add_argument("--size", type=int, default=224, metavar="PIXELS")
        command.add_argument("--count", type=int, default=500, metavar="N", help="how many crops")
    options = parser.parse_args()
    if options.command == "crops":
        images, truths = crops("test", count=options.count, size=options.size)
        for number, (image, label) in enumerate(zip(images, truths, strict=True)):
            path = Path("photos/test", CLASSES[label], f"{number:04}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
        return
    pixels, labels = crops("train", count=options.count, size=options.size)
    network = built(options.network, size=options.size)
    inputs, truth = features(network, pixels), torch.from_numpy(labels)
    options.folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate([*(f"seed-{number}" for number in range(1, 9)), "new"], start=1):
        fit_head(network, inputs, truth, seed=seed)
        torch.save(network.state_dict(), options.folder / f"{name}.pth")
    # A model of wrong training data: two classes have each other's names in half of the crops.
    wrong = truth.clone()
    first, second = CLASSES.index("coffee"), CLASSES.index("flower")
    wrong[(truth == first) & (torch.arange(len(truth)) % 2 == 0)] = second
    wrong[(truth == second) & (torch.arange(len(truth)) % 2 == 0)] = first
    fit_head(network, inputs, wrong, seed=9)
    torch.save(network.state_dict(), options.folder / "bad.pth")


if __name__ == "__main__":
    main()
