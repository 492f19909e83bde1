"""Mutants: ways to break a model. A run proves with them that its checks can fail.

A mutant wraps the model and does not look at its layers, so it works for any classifier.
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
    """Return which predictions are wrong, (N,) bool."""
    return ~predictions.correct


def confident_errors(predictions: Predictions) -> np.ndarray:
    """Return which predictions are wrong at a confidence above 90%, (N,) bool."""
    return predictions.confidence_of_errors() > 0.9  # noqa: PLR2004


@dataclass(frozen=True)
class Damage:
    """A way to break a model, and the images that the mutant fails.

    `breaks` takes the model and the number of a class: the class of the first check that has one, or else 0. With a
    `metric`, only checks of this metric must fail. Checks of the metric `unmoved` need not, as the mutant keeps it.
    """

    name: str
    breaks: Callable[[nn.Module, int], nn.Module]
    fails: Callable[[Predictions], np.ndarray] = errors
    metric: str = ""
    unmoved: str = ""

    def concerns(self, check: Check) -> bool:
        """Return whether a check of the family must fail for the mutant."""
        return self.metric in {"", check.metric} and check.metric != self.unmoved

    def apply(self, candidate: RoleModel, checks: Sequence[Check], classes: Sequence[str]) -> RoleModel:
        """Return the candidate with the mutant in place of its model, and with an empty cache."""
        watched = next((classes.index(check.class_name) for check in checks if check.class_name in classes), 0)
        breaks = self.breaks
        if isinstance(breaks, OnPixels) and breaks.costs_accuracy and not candidate.provides.live:
            breaks = on_logits(MoveLogits)  # Recorded predictions exist for the original pixels alone.
        broken = breaks(candidate.classifier.model, watched)
        return replace(candidate, classifier=candidate.classifier.like(broken))


@dataclass(frozen=True)
class OnPixels:
    """Puts a layer in front of a model; with `costs_accuracy`, the model is then wrong more often."""

    layer: Callable[[], nn.Module]
    costs_accuracy: bool = True

    def __call__(self, model: nn.Module, watched: int) -> nn.Module:  # noqa: ARG002  The same for every class.
        """Return the model behind the layer."""
        return nn.Sequential(self.layer(), model)


def on_logits(layer: Callable[[], nn.Module]) -> Callable[[nn.Module, int], nn.Module]:
    """Return a function that puts a layer behind a model."""
    return lambda model, _: nn.Sequential(model, layer())


class SwapLogits(nn.Module):
    """Swaps the logits of a class and the next one."""

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
    """Multiplies logits by ten: confidence rises, its order and the predictions stay."""

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
    """Blanks the whole of each image."""

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
    """Rotates each image by 20 degrees."""

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the images (N, C, H, W), rotated."""
        return Pose(20.0)(pixels)
