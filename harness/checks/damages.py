"""Ways to break a model, so that a run can prove that its checks notice.

A damage wraps the model, whatever its layers, and so works for any classifier.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.perturb import Pose

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from harness.checks.check import Check
    from harness.inference import Predictions, RoleModel


def errors(predictions: Predictions) -> np.ndarray:
    """Return the wrong answers, (N,) bool."""
    return ~predictions.correct


def confident_errors(predictions: Predictions) -> np.ndarray:
    """Return the wrong answers over 90% confidence, the study's limit, (N,) bool."""
    return predictions.confidence_of_errors() > 0.9  # noqa: PLR2004


@dataclass(frozen=True)
class Damage:
    """A way to break a model, and the images that the broken model fails.

    `breaks` takes the model and the number of the class that the first check concerned watches, or else 0. With a
    `metric`, only checks of this metric are asked; those of the metric `unmoved`, which such damage does not change,
    never.
    """

    name: str
    breaks: Callable[[nn.Module, int], nn.Module]
    fails: Callable[[Predictions], np.ndarray] = errors
    metric: str = ""
    unmoved: str = ""

    def concerns(self, check: Check) -> bool:
        """Return whether a check of the family must notice."""
        return self.metric in {"", check.metric} and check.metric != self.unmoved

    def apply(self, candidate: RoleModel, checks: Sequence[Check], classes: Sequence[str]) -> RoleModel:
        """Return the candidate with a damaged copy of its model, which has nothing remembered."""
        watched = next((classes.index(check.class_name) for check in checks if check.class_name in classes), 0)
        breaks = self.breaks
        if isinstance(breaks, OnPixels) and breaks.costs_accuracy and not candidate.provides.live:
            breaks = on_logits(MoveLogits)  # Recorded answers have none for other pixels.
        broken = breaks(candidate.classifier.model, watched)
        return replace(candidate, classifier=candidate.classifier.like(broken))


@dataclass(frozen=True)
class OnPixels:
    """Puts a layer before a model, which makes it wrong more often if it `costs_accuracy`."""

    layer: Callable[[], nn.Module]
    costs_accuracy: bool = True

    def __call__(self, model: nn.Module, watched: int) -> nn.Module:  # noqa: ARG002  Whatever the class.
        """Return the model behind the layer."""
        return nn.Sequential(self.layer(), model)


def on_logits(layer: Callable[[], nn.Module]) -> Callable[[nn.Module, int], nn.Module]:
    """Return what puts a layer behind a model."""
    return lambda model, _: nn.Sequential(model, layer())


class SwapLogits(nn.Module):
    """Swaps the logit of a class with that of the next."""

    def __init__(self, first: int) -> None:
        super().__init__()
        self.first = first

    def forward(self, logits: Tensor) -> Tensor:
        """Return the logits (N, C) with two columns swapped."""
        order = list(range(logits.shape[1]))
        second = (self.first + 1) % len(order)
        order[self.first], order[second] = second, self.first
        return logits[:, order]


class MoveLogits(nn.Module):
    """Gives each class the logit of the class before it."""

    def forward(self, logits: Tensor) -> Tensor:
        """Return the logits (N, C), rolled by one class."""
        return logits.roll(1, dims=1)


class ScaleLogits(nn.Module):
    """Multiplies logits by ten: confidence rises, its order and the classes stay."""

    def forward(self, logits: Tensor) -> Tensor:
        """Return the logits (N, C), scaled."""
        return logits * 10


class BlankLeftHalf(nn.Module):
    """Blanks the left half of each image."""

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the images (N, C, H, W), half of them zero."""
        right = torch.arange(pixels.shape[-1], device=pixels.device) >= pixels.shape[-1] // 2
        return pixels * right


class BlankAll(nn.Module):
    """Blanks each image."""

    def forward(self, pixels: Tensor) -> Tensor:
        """Return zeros of the images' shape."""
        return pixels * 0


class Blur(nn.Module):
    """Takes the mean over a square of a quarter of the width."""

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the images (N, C, H, W), blurred."""
        reach = max(1, pixels.shape[-1] // 8)
        return functional.avg_pool2d(pixels, 2 * reach + 1, stride=1, padding=reach)


class Turn(nn.Module):
    """Turns each image by 20 degrees."""

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the images (N, C, H, W), rotated."""
        return Pose(20.0)(pixels)
