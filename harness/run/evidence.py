"""Evidence of a stress test: its verdict, and the pictures of the images behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.measures import Unit, never_judged
from harness.run.examples import Example, PerturbedImages, Tile, telling_examples, telling_tiles

if TYPE_CHECKING:
    from harness.checks import Verdict
    from harness.run.session import StressSession


class Evidence:
    """Takes what the running test shows.

    One object serves all tests of a session, since Hypothesis asks for that.
    """

    def __init__(self) -> None:
        self.verdict: Verdict | None = None
        self.seen: PerturbedImages | None = None
        self._failed_last: tuple[Verdict, PerturbedImages | None] | None = None

    def show(self, verdict: Verdict, seen: PerturbedImages | None = None) -> None:
        """Record the verdict of the running test, and what the candidate saw when it was measured.

        Of several verdicts the gravest counts: an error before a failure, a failure before a pass.
        Of equals the worse one counts.
        """
        if self.verdict is None or verdict.outranks(self.verdict):
            self.verdict, self.seen = verdict, seen
        if verdict.status == "fail":
            self._failed_last = verdict, seen

    def settle_on_last_failure(self) -> None:
        """Have the failure shown last stand for all failures.

        Of a Hypothesis test it is the shrunk one.
        """
        if (
            self.verdict is not None
            and self.verdict.status == "fail"
            and self._failed_last is not None
        ):
            self.verdict, self.seen = self._failed_last

    def clear(self) -> None:
        """Forget the last test."""
        self.verdict = self.seen = self._failed_last = None

    @property
    def has_examples(self) -> bool:
        """Return whether there may be images to show.

        Those of a failure, a count of failures, or a screen.

        Pictures show predicted classes, which a model of scores does not have.
        """
        verdict = self.verdict
        if verdict is None or self.seen is None or getattr(self.seen, "scored", False):
            return False
        screens = bool(verdict.failures and never_judged(verdict.metric))
        return not verdict.passed or verdict.unit is Unit.IMAGES or screens

    def examples(self, session: StressSession) -> list[Example]:
        """Return the images to show, the most telling ones."""
        if self.verdict is None or self.seen is None or not self.has_examples:
            return []
        return telling_examples(session, self.verdict, self.seen)

    def gallery(self, session: StressSession) -> tuple[list[Tile], int]:
        """Return the most telling failures of a check on a pair of classes, and their number."""
        from harness.inference import Predictions
        from harness.measures.failures import confusion

        verdict, seen = self.verdict, self.seen
        if (
            verdict is None
            or not verdict.check.keys.get("pair")
            or not isinstance(seen, Predictions)
        ):
            return [], 0
        return telling_tiles(session, seen, confusion(*verdict.check.keys["pair"]))
