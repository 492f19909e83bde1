"""Peers of the harness.

Foolbox's attack, plain loops, libraries of Grad-CAM, the notebook's training, Matplotlib.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

from harness.data import LabelledImages
from harness.measures.failures import Answer
from harness.run.examples import Example, ModelView

_DPI, WIDTH, HEIGHT = 100, 520, 312


def foolbox_survivors(model: nn.Module, images: LabelledImages) -> np.ndarray:
    """Return which images Foolbox's grid search over 775 poses does not break, (N,) bool.

    Foolbox gives translations in units of W/2 of a grid that spans W - 1 pixels: its 3 px are 2.89
    px at 28 x 28. They are scaled to 3 px here.
    """
    import foolbox

    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    width = images.pixels.shape[-1]
    attack = foolbox.attacks.SpatialAttack(
        max_translation=3 * width / (width - 1),
        max_rotation=30,
        num_translations=5,
        num_rotations=31,
        grid_search=True,
    )
    with torch.no_grad():
        _, _, broken = attack(wrapped, images.pixels.float() / 255, images.labels)
    return ~broken.numpy().astype(bool)


def plain_loop(model: nn.Module, images: LabelledImages, *, batch: int) -> np.ndarray:
    """Evaluate as a plain script does: eager, batch after batch; returns classes, (N,) int64."""
    pixels = images.pixels.float() / 255
    with torch.no_grad():
        return torch.cat([model(part).argmax(1) for part in torch.split(pixels, batch)]).numpy()


def captums_maps(model: nn.Module, images: LabelledImages, *, layer: str, batch: int) -> np.ndarray:
    """Predict, and compute Grad-CAM of each predicted class with captum, (N, h, w).

    It runs the model once for each.
    """
    from captum.attr import LayerGradCam

    attributes = LayerGradCam(model, model.get_submodule(layer))

    def maps(pixels: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            predicted = model(pixels).argmax(1)
        return attributes.attribute(pixels, target=predicted, relu_attributions=True)[:, 0].detach()

    return torch.cat(
        [maps(part) for part in torch.split(images.pixels.float() / 255, batch)]
    ).numpy()


def grad_cams_maps(
    model: nn.Module, images: LabelledImages, *, layer: str, batch: int
) -> np.ndarray:
    """Compute Grad-CAM of each predicted class with pytorch-grad-cam, (N, H, W).

    It scales each map to 0 to 1.
    """
    from pytorch_grad_cam import GradCAM

    with GradCAM(model=model, target_layers=[model.get_submodule(layer)]) as cam:
        parts = torch.split(images.pixels.float() / 255, batch)
        return np.concatenate([cam(input_tensor=part, targets=None) for part in parts])


class PicturesOneByOne(torch.utils.data.Dataset[Any]):
    """The notebook's data set: PIL pictures, transformed one by one."""

    def __init__(self, images: LabelledImages) -> None:
        from PIL import Image
        from torchvision import transforms

        self.pictures = [Image.fromarray(picture[0].numpy()) for picture in images.pixels]
        self.labels = images.labels.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomRotation(10),
                transforms.RandomAffine(0, translate=(0.1, 0.1)),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize((0.2860,), (0.3530,)),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.pictures[number]), self.labels[number]


def notebook_epoch(model: nn.Module, images: PicturesOneByOne) -> None:
    """Train for one epoch as the notebook does.

    Adam, batches of 128, a DataLoader in this process.
    """
    loader = torch.utils.data.DataLoader(images, batch_size=128, shuffle=True)
    optimizer, loss = torch.optim.Adam(model.parameters(), lr=0.001), nn.CrossEntropyLoss()
    model.train()
    for pixels, labels in loader:
        optimizer.zero_grad()
        loss(model(pixels), labels).backward()
        optimizer.step()


def some_cases(images: LabelledImages, count: int) -> list[Example]:
    """Return as many cases of these images, with answers and maps drawn at random."""
    rng = np.random.default_rng(0)

    def view(true: str) -> ModelView:
        shares = rng.dirichlet(np.full(len(images.classes), 0.3))
        taken = int(shares.argmax())
        answer = Answer(
            0, true, images.classes[taken], float(shares[taken]), tuple(shares.tolist())
        )
        # As smooth as a map of 7 x 7 cells is: noise would be what takes long to encode.
        looked = cv2.resize(rng.random((7, 7), dtype=np.float32), images.pixels.shape[-2:])
        return ModelView(answer, looked)

    cases = []
    for number in range(count):
        image, true = (
            images.pixels[number].permute(1, 2, 0).numpy(),
            images.classes[int(images.labels[number])],
        )
        cases.append(Example(number, image, image, true, images.classes, view(true), view(true)))
    return cases


def figure_of(case: Example, width: int, height: int) -> Figure:
    """Draw a case as one would with Matplotlib.

    Image, two overlays, and the bars of both models below.
    """
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    axes = figure.subplots(2, 3, height_ratios=[1, 1])
    axes[0, 0].imshow(case.original[..., 0], cmap="gray")
    axes[0, 0].set_title(f"image {case.index}\ntrue: {case.true}")
    axes[1, 0].axis("off")
    for column, role, view in ((1, "baseline", case.other), (2, "candidate", case.candidate)):
        assert view is not None
        assert view.attention is not None
        axes[0, column].imshow(case.seen[..., 0], cmap="gray")
        axes[0, column].imshow(view.attention / view.attention.max(), cmap="viridis", alpha=0.5)
        axes[0, column].set_title(f"{role}\n{view.answer.predicted} {view.answer.confidence:.0%}")
        colours = ["#0072b2" if name == case.true else "#8c8c8c" for name in case.classes]
        bars = axes[1, column].barh(
            range(len(case.classes)), view.answer.probabilities, color=colours
        )
        axes[1, column].bar_label(bars, [f"{share:.0%}" for share in view.answer.probabilities])
        axes[1, column].set_yticks(range(len(case.classes)), case.classes if column == 1 else [])
        axes[1, column].invert_yaxis()
    for axis in axes[0]:
        axis.axis("off")
    return figure
