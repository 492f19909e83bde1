"""Conditions of a check: the state of the run that measures it, which is no part of its row."""

from __future__ import annotations

from harness.base.records import record


@record
class Conditions:
    """State of the run that measures a check, as far as the verdict depends on it.

    `share` is that of the images that the thresholds were made for, in (0, 1]. `share_by_hand` is
    the same share for a threshold by hand, if it is another: of the images that a count is of.
    `recorded` is true during calibration, which needs the contribution of each image. `sharing` is
    the number of checks with a tolerance in the file; they share the probability of a wrong
    verdict. In a run that stops, `stopped` is the number of images that a whole run gives the
    check, else 0.
    """

    share: float = 1.0
    share_by_hand: float | None = None
    recorded: bool = False
    sharing: int = 1
    stopped: int = 0

    @property
    def share_of_counts(self) -> float:
        """Return the share of the images that a count with a threshold by hand is of."""
        return self.share if self.share_by_hand is None else self.share_by_hand
