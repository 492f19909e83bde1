"""Mistakes of the first model on clean images, a few of each confusion, with what reference models predict."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import NotApplicableError
from harness.base.records import record

if TYPE_CHECKING:
    from harness.inference import Predictions
    from harness.measures.panel.predictions import PanelPredictions, PanelView

SHOWN, OF_CONFUSION = 300, 20
"""Mistakes that an overview names, at most: of all confusions, and of one."""


@record
class Reference:
    """Predictions of `models` reference models for an image: `wrong` of them err. Their mean has a class and share."""

    models: int
    wrong: int
    predicted: str
    confidence: float


@record
class Mistake:
    """An image whose class is `true` and is predicted as `predicted`; None without confidence or reference models."""

    index: int
    true: str
    predicted: str
    confidence: float | None = None
    reference: Reference | None = None


def mistakes_of(predictions: Predictions, panel: PanelPredictions | None) -> tuple[Mistake, ...]:
    """Return mistakes of each confusion, the most confident first; every confusion has one before any has two."""
    confidence = predictions.confidence_of_errors() if predictions.has_confidence else None
    wrong = np.flatnonzero(~predictions.correct)
    if confidence is not None:
        wrong = wrong[np.argsort(-confidence[wrong], kind="stable")]
    ranks: dict[tuple[int, int], int] = {}
    ranked = []
    for at in wrong.tolist():
        confusion = int(predictions.labels[at]), int(predictions.predicted[at])
        ranks[confusion] = rank = ranks.get(confusion, -1) + 1
        ranked.append((rank, at))
    chosen = [at for rank, at in sorted(ranked, key=lambda item: item[0]) if rank < OF_CONFUSION][:SHOWN]
    known = _view(predictions, np.array(chosen, dtype=np.int64), panel)
    classes, positions = predictions.classes, predictions.images.positions.numpy()
    return tuple(
        Mistake(
            index=int(positions[at]),
            true=classes[int(predictions.labels[at])],
            predicted=classes[int(predictions.predicted[at])],
            confidence=None if confidence is None else float(confidence[at]),
            reference=None if known is None or panel is None else _reference(known, row, classes, panel),
        )
        for row, at in enumerate(chosen)
    )


def _view(predictions: Predictions, at: np.ndarray, panel: PanelPredictions | None) -> PanelView | None:
    """Return what reference models predict for the images at these places; None where that is not recorded."""
    if panel is None or panel.excluded is not None or not len(at):
        return None
    with suppress(NotApplicableError):
        return panel.view().take(predictions.images.positions.numpy()[at])
    return None


def _reference(view: PanelView, row: int, classes: tuple[str, ...], panel: PanelPredictions) -> Reference | None:
    if view.wrong[row] < 0:
        return None
    likeliest, share = int(view.likeliest[row, 0]), float(view.shares[row, 0])
    return Reference(panel.reference_models, int(view.wrong[row]), classes[likeliest], share)
