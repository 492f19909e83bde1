"""The model before the candidate: what it got right, and what of that every healthy retrain gets right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import NotApplicableError, NotRecordedError
from harness.perturb import IDENTITY

if TYPE_CHECKING:
    from harness.inference import Predictions
    from harness.run.session import StressSession

ASKING = frozenset({"knowledge", "before"})
"""Fixtures by which a stress test asks what healthy retrains know."""


@dataclass(frozen=True, eq=False)
class Before:
    """What was right before the candidate: of the incumbent, as it is in a run.

    While a panel is measured, each member stands for a candidate and the one after it, the last's being the first, for
    its incumbent. So every member takes part twice, once in either place, and as many pairs as members are measured,
    of which none has both networks in common with another: as near to independent as pairs of one panel can be.
    """

    session: StressSession

    def right(self, predictions: Predictions) -> np.ndarray:
        """Return which of the images, as they are, it got right, (N,) bool."""
        pair = self._pair(predictions)
        if pair is None:
            return self.session.role("incumbent").predict(predictions.images).correct
        each, (_, before) = pair
        return np.asarray(~each[before])

    def consensus(self, predictions: Predictions, among: str | None) -> np.ndarray | None:
        """Return which images every healthy retrain gets right, (N,) bool; None unless looked at `among` these.

        Of a pair of members only the others decide. Raises `NotRecordedError` where nobody knows.
        """
        if among is None:
            return None
        pair = self._pair(predictions)
        if pair is not None:
            each, members = pair
            if len(each) == len(members):
                raise NotApplicableError(
                    f"of {len(each)} retrains there is none besides the pair; with a third there is"
                )
            return np.asarray(~np.delete(each, members, axis=0).any(axis=0))
        if self.session.knowledge is None:
            raise NotRecordedError(
                "what retrained reference models know was not recorded; `python -m harness calibrate` does so"
            )
        (known,) = self.session.knowledge.about([predictions])
        return known.consensus

    def _pair(self, predictions: Predictions) -> tuple[np.ndarray, tuple[int, int]] | None:
        """Return what each member gets wrong, (K, N) bool, and which two stand for candidate and incumbent.

        None unless a member of the panel is being measured, and no incumbent was named.
        """
        session = self.session
        if not session.recording or "incumbent" in session.roles or session.knowledge is None:
            return None
        session.knowledge.about([predictions])  # Which leaves the answer there where members are being asked.
        candidate, each = session.roles["candidate"].model_sha256, session.knowledge.view(IDENTITY).each
        if each is None or candidate not in session.knowledge.members:
            raise NotApplicableError("what each retrain gets right was not recorded; calibrate anew")
        at = session.knowledge.members.index(candidate)
        return each[:, predictions.images.positions.numpy()], (at, (at + 1) % len(each))
