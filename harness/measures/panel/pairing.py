"""Paired incumbent: the model that a candidate is compared with, another of the panel during calibration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import NotApplicableError, NotRecordedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.inference import Predictions, RoleModel
    from harness.measures.panel.predictions import PanelPredictions


PANEL_FIXTURES = frozenset({"panel_predictions", "paired_incumbent"})
"""Fixtures of stress tests that need panel predictions."""


@dataclass(frozen=True, eq=False)
class PairedIncumbent:
    """Correct predictions of the incumbent on the candidate's images, and the consensus set.

    `incumbent` returns the incumbent of a run. During calibration, `reference` is the hash of the reference model in
    the role of the candidate. The next model of the panel is then its incumbent; the first follows the last. Each model
    therefore has both roles once. No two pairs share both models, so the pairs are as independent as one panel allows.
    """

    incumbent: Callable[[], RoleModel]
    panel: PanelPredictions | None
    reference: str | None = None

    def right(self, predictions: Predictions) -> np.ndarray:
        """Return the clean images that the incumbent predicts correctly, (N,) bool."""
        pair = self._pair(predictions)
        return (
            self.incumbent().predict(predictions.images).correct
            if pair is None
            else ~pair[0][pair[1][1]]
        )

    def consensus(self, predictions: Predictions, among: str | None) -> np.ndarray | None:
        """Return the images of the consensus set, (N,) bool, or None unless the check is `among` these.

        For a pair of the panel, only the other models count. Raises `NotRecordedError` without panel predictions.
        """
        if among is None:
            return None
        if pair := self._pair(predictions):
            each, models = pair
            if len(each) == len(models):
                raise NotApplicableError(
                    f"a panel of {len(each)} has no reference model besides the pair; add a third one"
                )
            return np.asarray(~np.delete(each, models, axis=0).any(axis=0))
        if self.panel is None:
            raise NotRecordedError(
                "there are no panel predictions; `stress-harness calibrate` records them"
            )
        return self.panel.consensus_sets([predictions])[0].consensus

    def correction(self, among: str | None) -> float:
        """Return the factor of the flips `among` the consensus set, see `PanelPredictions.correction`; 1 for others.

        The two models of a pair and the others judge a pair of the panel; in a run, one model more than the panel has.
        So K - 1 models predict an image of the set correctly, and K + 1 in a run.
        """
        if (
            among is None
            or self.panel is None
            or self.reference is None
            or self.panel.correction == 1
        ):
            return 1.0
        count = len(self.panel.models)
        return (count - 1) / (count + 1)

    def _pair(self, predictions: Predictions) -> tuple[np.ndarray, tuple[int, int]] | None:
        # The errors of each reference model, (K, N), and the numbers of candidate and incumbent, during calibration.
        if self.panel is None or self.reference is None:
            return None
        self.panel.consensus_sets([predictions])  # A recorder takes the predictions here.
        each = self.panel.view().each
        if each is None or self.reference not in self.panel.models:
            raise NotApplicableError(
                "the errors of each reference model were not recorded; calibrate again"
            )
        candidate = self.panel.models.index(self.reference)
        return each[:, predictions.images.positions.numpy()], (
            candidate,
            (candidate + 1) % len(each),
        )
