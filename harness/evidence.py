"""What a stress test shows: its verdict, and the pictures of the images behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np

    from harness.data import LabelledImages
    from harness.gates import Verdict
    from harness.inference import Predictions
    from harness.perturb import Perturbation
    from harness.session import StressSession


@dataclass(frozen=True, eq=False)
class Case:
    """One image as two models see it: `original` and `seen` are (H, W, C) uint8; confidences in [0, 1]."""

    index: int
    original: np.ndarray
    seen: np.ndarray
    true: str
    candidate: tuple[str, float]
    baseline: tuple[str, float] | None


class Seen(Protocol):
    """What a model was measured on: images, and the perturbation under which it saw each."""

    @property
    def images(self) -> LabelledImages:
        """Return the images."""

    def perturbation_of(self, position: int) -> Perturbation:
        """Return the perturbation under which the image at this position was seen."""


class Evidence:
    """Takes what the running test shows; one object serves all tests of a session, since Hypothesis asks for that."""

    def __init__(self) -> None:
        self.verdict: Verdict | None = None
        self.seen: Seen | None = None

    def show(self, verdict: Verdict, seen: Seen | None = None) -> None:
        """Record the verdict of the running test, and what the candidate saw when it was measured.

        A test that Hypothesis runs many times shows many verdicts: the worst counts, and of failures the last, which
        is the one that Hypothesis shrank.
        """
        if self.verdict is None or not verdict.passed or verdict.is_worse_than(self.verdict):
            self.verdict, self.seen = verdict, seen

    def clear(self) -> None:
        """Forget the last test."""
        self.verdict = self.seen = None

    def cases(self, session: StressSession) -> list[Case]:
        """Return the images to show: the most telling ones of a failed gate, or of a count of failures."""
        verdict, seen = self.verdict, self.seen
        if verdict is None or seen is None or (verdict.passed and verdict.unit != "images"):
            return []
        return [_case(seen, position, session) for position in verdict.failures]


def _case(seen: Seen, position: int, session: StressSession) -> Case:
    """Return one of the images seen as the candidate and the baseline, if there is one, see it."""
    import torch

    from harness.data.images import unit_range

    perturbation = seen.perturbation_of(position)
    image = seen.images.take(torch.tensor([position]))
    pixels = perturbation(unit_range(image.pixels)).mul(255).round().to(torch.uint8)
    candidate, baseline = session.roles["candidate"], session.roles.get("baseline")
    return Case(
        index=int(image.positions[0]),
        original=image.pixels[0].permute(1, 2, 0).numpy(),
        seen=pixels[0].permute(1, 2, 0).numpy(),
        true=image.classes[int(image.labels[0])],
        candidate=_answer(candidate.predict(image, perturbation)),
        baseline=_answer(baseline.predict(image, perturbation)) if baseline else None,
    )


def _answer(predictions: Predictions) -> tuple[str, float]:
    return predictions.classes[int(predictions.predicted[0])], float(predictions.confidence[0])
