"""Mutants: ways to break a model. A run proves with them that its checks can fail.

A mutant wraps the model and does not look at its layers, so it works for any classifier.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.base.errors import NotApplicableError
from harness.inference.predictors.protocol import NO_CLASSES
from harness.inference.standins import CERTAIN
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

    `pixels` changes the images (N, C, H, W) before the model, and `logits` its logits (N, C).
    Before these, the latter takes the numbers of two classes: those of the first check that has a
    pair. Without any, they are the class of the first check that has one, or else 0, and the next
    class.

    With a `metric`, only checks of this metric must fail. Checks of the metric `unmoved` need not,
    as the mutant keeps it. Unless it `costs_accuracy`, recorded predictions need pixels, too.
    `fault` names what is wrong with the mutant, as text (default: its name).
    """

    name: str
    pixels: Callable[[Tensor], Tensor] | None = None
    logits: Callable[[tuple[int, int], Tensor], Tensor] | None = None
    fails: Callable[[Predictions], np.ndarray] = errors
    metric: str = ""
    unmoved: str = ""
    costs_accuracy: bool = True
    fault: str = ""

    @property
    def in_words(self) -> str:
        """Return what is wrong with the mutant, as text."""
        return self.fault or self.name

    def concerns(self, check: Check) -> bool:
        """Return whether a check of the family must fail for the mutant."""
        return self.metric in {"", check.metric} and check.metric != self.unmoved

    def apply(
        self, candidate: RoleModel, checks: Sequence[Check], classes: Sequence[str]
    ) -> RoleModel:
        """Return the candidate with the mutant in place of its model, and with an empty cache."""
        pixels = self.pixels
        logits = self.logits
        if pixels and self.costs_accuracy and not candidate.provides.live:
            # Recorded predictions exist for the original pixels alone.
            pixels = None
            logits = moved

        before = pixels or nn.Identity()
        after: Callable[[Tensor], Tensor] = nn.Identity()
        if logits:
            after = partial(logits, _watched(checks, classes))
        damaged = _Damaged(before, candidate.classifier.model, after)
        return replace(candidate, classifier=candidate.classifier.like(damaged))


class _Damaged(nn.Module):
    def __init__(
        self, before: Callable[[Tensor], Tensor], model: Any, after: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.before, self.model, self.after = before, model, after

    def forward(self, pixels: Tensor) -> Any:
        return self.after(self.model(self.before(pixels)))


class Redirected(nn.Module):
    """A mutant that answers otherwise for some images, which it chooses before the model sees them.

    A model may change its input in place, so pixels show nothing any more once it has run.
    """

    def __init__(
        self,
        model: Any,
        chosen: Callable[[Tensor], Tensor],
        answer: Callable[[Tensor, Tensor], Tensor],
    ) -> None:
        super().__init__()
        self.model, self.chosen, self.answer = model, chosen, answer

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the logits of a batch, (N, classes), redirected for the chosen images."""
        chosen = self.chosen(pixels)
        logits: Tensor = self.model(pixels)
        return self.answer(logits, chosen)


def half_wrong(candidate: RoleModel, checks: Sequence[Check], classes: Sequence[str]) -> RoleModel:
    """Return the mutant that mistakes about every second image and is always certain.

    It predicts the next class instead. Each of the two watched classes is predicted as the other.

    Raises:
        NotApplicableError: The model gives scores, so it has no classes.
    """
    if candidate.provides.scored:
        raise NotApplicableError(NO_CLASSES)
    replacements = torch.arange(1, len(classes) + 1) % len(classes)
    first, second = _watched(checks, classes)
    replacements[[first, second]] = torch.tensor([second, first])

    answer = partial(_with_classes_replaced, replacements)
    mutant = Redirected(candidate.classifier.model, _odd, answer)
    return replace(candidate, classifier=candidate.classifier.like(mutant))


def _odd(pixels: Tensor) -> Tensor:
    """Return which images have an odd sum of pixels in 8 bits, (N,) bool.

    They are about half, whatever the batch.
    """
    levels = (pixels * 255).round().long()
    return levels.flatten(1).sum(dim=1) % 2 == 1


def _with_classes_replaced(replacements: Tensor, logits: Tensor, chosen: Tensor) -> Tensor:
    """Return certain logits, for the chosen images of the class that replaces the predicted one."""
    predicted = logits.argmax(dim=1)
    replaced = replacements.to(logits.device)[predicted]
    predicted = torch.where(chosen, replaced, predicted)
    return CERTAIN * functional.one_hot(predicted, logits.shape[1]).to(torch.float32)


def _watched(checks: Sequence[Check], classes: Sequence[str]) -> tuple[int, int]:
    """Return the numbers of the two classes that the checks watch most closely."""
    for check in checks:
        pair = tuple(dict.fromkeys(check.keys.get("pair") or ()))
        if len(pair) == 2 and set(pair) <= set(classes):  # noqa: PLR2004
            return classes.index(pair[0]), classes.index(pair[1])

    first = 0
    for check in checks:
        if check.class_name in classes:
            first = classes.index(check.class_name)
            break
    return first, (first + 1) % len(classes)


def swapped(watched: tuple[int, int], logits: Tensor) -> Tensor:
    """Swap the logits of the two classes that are watched."""
    first, second = watched
    order = list(range(logits.shape[1]))
    order[first], order[second] = second, first
    return logits[:, order]


def moved(_: tuple[int, int], logits: Tensor) -> Tensor:
    """Give each class the logit of the class before it."""
    return logits.roll(1, dims=1)


def _scaled(_: tuple[int, int], logits: Tensor) -> Tensor:
    """Multiply the logits by ten: confidence rises, its order and the predictions stay."""
    logits = logits.float()  # Ten times a logit of half precision may be beyond its range.
    # Confidence depends on the distances from the largest logit alone. An infinite distance becomes
    # a finite one.
    distances = logits.amax(dim=1, keepdim=True) - logits
    return -(distances * 10).clamp(max=torch.finfo(torch.float32).max)


def _without_left_half(pixels: Tensor) -> Tensor:
    width = pixels.shape[-1]
    columns = torch.arange(width, device=pixels.device)
    return pixels * (columns >= width // 2)


def _blank(pixels: Tensor) -> Tensor:
    return pixels * 0


def _blurred(pixels: Tensor) -> Tensor:
    """Take the mean over a square of a quarter of the width."""
    reach = max(1, pixels.shape[-1] // 8)
    return functional.avg_pool2d(pixels, 2 * reach + 1, stride=1, padding=reach)


def _turned(pixels: Tensor) -> Tensor:
    return Pose(20.0)(pixels)


DAMAGES = {
    "clean": Damage(
        "left-half-blanked", _without_left_half, fault="a blanked left half of each image"
    ),
    "class": Damage("swapped-logits", logits=swapped, fault="two swapped classes"),
    "rotation": Damage("turned-020", _turned, fault="a rotation by 20°"),
    "confidence": Damage(
        "overconfident",
        logits=_scaled,
        fails=confident_errors,
        unmoved="risk_coverage_area",
        fault="overconfidence at this accuracy",
    ),
    "search": Damage(
        "turned-020-searched", _turned, metric="robust_accuracy", fault="a rotation by 20°"
    ),
    "attention": Damage(
        "blind",
        _blank,
        metric="object_dependence",
        costs_accuracy=False,
        fault="a model that sees no pixel",
    ),
    "corruption": Damage("blurred", _blurred, metric="accuracy", fault="blurred images"),
}
"""The mutants that shipped families must catch."""
