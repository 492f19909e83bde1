"""What a stress test shows: its verdict, and the pictures of the images behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from harness.gates import Verdict
    from harness.inference import Predictions
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


class Evidence:
    """Takes what the running test shows; one object serves all tests of a session, since Hypothesis asks for that."""

    def __init__(self) -> None:
        self.verdict: Verdict | None = None
        self._predictions: Predictions | None = None

    def show(self, verdict: Verdict, predictions: Predictions | None = None) -> None:
        """Record the verdict of the running test, and the candidate's predictions that it was measured on."""
        self.verdict, self._predictions = verdict, predictions

    def clear(self) -> None:
        """Forget the last test."""
        self.verdict = self._predictions = None

    def cases(self, session: StressSession) -> list[Case]:
        """Return the images to show: the most telling ones of a failed gate, or of a count of failures."""
        verdict, predictions = self.verdict, self._predictions
        if verdict is None or predictions is None or (verdict.passed and verdict.unit != "images"):
            return []
        return cases(predictions, verdict.failures, session)


def cases(predictions: Predictions, positions: tuple[int, ...], session: StressSession) -> list[Case]:
    """Return these images of the predictions as the candidate and the baseline, if there is one, see them."""
    import torch

    from harness.data.images import unit_range

    if not positions:
        return []
    chosen = predictions.images.take(torch.tensor(positions))
    seen = predictions.perturbation(unit_range(chosen.pixels)).mul(255).round().to(torch.uint8)
    baseline = session.roles.get("baseline")
    reference = baseline.predict(chosen, predictions.perturbation) if baseline else None
    return [
        Case(
            index=int(chosen.positions[number]),
            original=chosen.pixels[number].permute(1, 2, 0).numpy(),
            seen=seen[number].permute(1, 2, 0).numpy(),
            true=chosen.classes[int(chosen.labels[number])],
            candidate=_answer(predictions, position),
            baseline=_answer(reference, number) if reference else None,
        )
        for number, position in enumerate(positions)
    ]


def _answer(predictions: Predictions, position: int) -> tuple[str, float]:
    return predictions.classes[int(predictions.predicted[position])], float(predictions.confidence[position])
