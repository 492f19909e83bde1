"""Damaged copies of a candidate: ways to break a model, and the family of gates that must notice each.

A damage wraps the model, whatever it is made of, so that it works for any classifier.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.perturb import Pose

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from harness.gates import Gate
    from harness.inference import Predictions, RoleModel
    from harness.run.session import StressSession


@dataclass(frozen=True)
class Damage:
    """A way to break a model, the family that must notice, and which images the broken model fails.

    With a `metric`, only the family's rows of this metric are asked; those of the metric `unmoved`, which such damage
    does not change, never.
    """

    name: str
    family: str
    before: nn.Module
    after: nn.Module
    fails: Callable[[Predictions], np.ndarray]
    metric: str = ""
    unmoved: str = ""

    def concerns(self, gate: Gate) -> bool:
        """Return whether a row of the family must notice."""
        return self.metric in {"", gate.metric} and gate.metric != self.unmoved

    def apply(self, candidate: RoleModel) -> RoleModel:
        """Return the candidate with a damaged copy of its model, which has nothing remembered."""
        model = nn.Sequential(self.before, candidate.classifier.model, self.after)
        return replace(candidate, classifier=candidate.classifier.like(model))


def damages(session: StressSession) -> tuple[Damage, ...]:
    """Return the damages: logits swapped or scaled up tenfold, images half or all blanked, turned by 20° or blurred.

    Where there is a golden set, also answers that are all moved by one class.
    """
    classes = session.images.classes
    gated = [gate.class_name for gate in session.gates.family("class") if gate.threshold and gate.class_name in classes]
    first = classes.index(gated[0]) if gated and gated[0] else 0
    keep = nn.Identity()
    golden = [Damage("answers-moved", "golden", keep, _MoveLogits(), _errors)] if session.golden is not None else []
    return (
        Damage("swapped-logits", "class", keep, _SwapLogits(first, (first + 1) % len(classes)), _errors),
        Damage("left-half-blanked", "clean", _BlankLeftHalf(), keep, _errors),
        # The order of answers by how sure they are stays as it is, whatever the logits are multiplied by.
        Damage("overconfident", "confidence", keep, _ScaleLogits(10), _confident_errors, unmoved="risk_coverage_area"),
        Damage("turned-020", "rotation", _Turn(20.0), keep, _errors),
        Damage("turned-020-searched", "search", _Turn(20.0), keep, _errors, metric="right_at_every_pose"),
        Damage("blind", "attention", _BlankAll(), keep, _errors, metric="lost"),
        Damage("blurred", "corruption", _Blur(), keep, _errors, metric="accuracy"),
        *golden,
    )


def _errors(predictions: Predictions) -> np.ndarray:
    return ~predictions.correct


def _confident_errors(predictions: Predictions) -> np.ndarray:
    return predictions.confidence_of_errors() > 0.9  # noqa: PLR2004  The study's limit.


class _SwapLogits(nn.Module):
    def __init__(self, first: int, second: int) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, logits: Tensor) -> Tensor:
        order = list(range(logits.shape[1]))
        order[self.first], order[self.second] = self.second, self.first
        return logits[:, order]


class _MoveLogits(nn.Module):
    """Each class's logit becomes that of the class after it."""

    def forward(self, logits: Tensor) -> Tensor:
        return logits.roll(1, dims=1)


class _ScaleLogits(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, logits: Tensor) -> Tensor:
        return logits * self.factor


class _BlankLeftHalf(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        right = torch.arange(pixels.shape[-1], device=pixels.device) >= pixels.shape[-1] // 2
        return pixels * right


class _BlankAll(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        return pixels * 0


class _Blur(nn.Module):
    """The mean over a square of a quarter of the width."""

    def forward(self, pixels: Tensor) -> Tensor:
        reach = max(1, pixels.shape[-1] // 8)
        return functional.avg_pool2d(pixels, 2 * reach + 1, stride=1, padding=reach)


class _Turn(nn.Module):
    def __init__(self, degrees: float) -> None:
        super().__init__()
        self.pose = Pose(degrees)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.pose(pixels)
