"""Paired incumbent: the model that a candidate is compared with.

During calibration, it is another model of the panel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

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

    During calibration, the next model of the panel is the incumbent; the first follows the last.
    Each model therefore has both roles once. No two pairs share both models, so the pairs are as
    independent as one panel allows.

    Attributes:
        incumbent: Returns the incumbent of a run.
        panel: The panel predictions, if there are any.
        reference: During calibration, the hash of the reference model in the role of the candidate.
    """

    incumbent: Callable[[], RoleModel]
    panel: PanelPredictions | None
    reference: str | None = None

    def right(self, predictions: Predictions) -> np.ndarray:
        """Return the clean images that the incumbent predicts correctly, (N,) bool."""
        pair = self._pair(predictions)
        if pair is None:
            return self.incumbent().predict(predictions.images).correct
        return np.asarray(~pair.errors[pair.incumbent])

    def consensus(self, predictions: Predictions, among: str | None) -> np.ndarray | None:
        """Return the images of the consensus set, (N,) bool; None unless the check is `among` them.

        For a pair of the panel, only the other models count.

        Raises:
            NotRecordedError: There are no panel predictions.
            NotApplicableError: The panel has no model besides the pair.
        """
        if among is None:
            return None
        pair = self._pair(predictions)
        if pair is not None:
            return pair.consensus_of_others()
        if self.panel is None:
            raise NotRecordedError(
                "there are no panel predictions; `stress-harness calibrate` records them"
            )
        consensus_set = self.panel.consensus_sets([predictions])[0]
        return consensus_set.consensus

    def correction(self, among: str | None) -> float:
        """Return the factor of the flips `among` the consensus set; 1 for other flips.

        See `PanelPredictions.correction`.
        """
        if among is None or self.panel is None or self.reference is None:
            return 1.0
        if self.panel.correction == 1:
            return 1.0
        # An image is a flip if the incumbent and the models of the set predict it correctly: K - 1
        # models for a pair of the panel, and K + 1 in a run.
        count = len(self.panel.models)
        return (count - 1) / (count + 1)

    def _pair(self, predictions: Predictions) -> _Pair | None:
        """Return the pair of models during calibration; None in a run."""
        if self.panel is None or self.reference is None:
            return None
        self.panel.consensus_sets([predictions])  # A recorder takes the predictions here.
        each = self.panel.view().each
        if each is None or self.reference not in self.panel.models:
            raise NotApplicableError(
                "the errors of each reference model were not recorded; calibrate again"
            )
        candidate = self.panel.models.index(self.reference)
        return _Pair(
            each[:, predictions.images.positions.numpy()],
            candidate=candidate,
            incumbent=(candidate + 1) % len(each),
        )


class _Pair(NamedTuple):
    """The errors of K reference models, (K, N) bool, and the positions of two of them."""

    errors: np.ndarray
    candidate: int
    incumbent: int

    def consensus_of_others(self) -> np.ndarray:
        """Return the images that all other models predict correctly, (N,) bool."""
        errors_of_others = np.delete(self.errors, (self.candidate, self.incumbent), axis=0)
        if not len(errors_of_others):
            raise NotApplicableError(
                f"a panel of {len(self.errors)} has no reference model besides the pair; add a "
                "third one"
            )
        return np.asarray(~errors_of_others.any(axis=0))
