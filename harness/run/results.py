"""Results of the tests of a run: verdicts of checks, other tests, and what was left out."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING

from harness.base.records import record
from harness.checks import Verdict
from harness.checks.roles import INCUMBENT, ROLES

if TYPE_CHECKING:
    from collections.abc import Sequence

SETTLED = 3
"""Reference models from which on thresholds are not provisional."""


@record
class OtherTest:
    """A test without a check, or an error of one with a check: its outcome and its text."""

    name: str
    outcome: str
    text: str = ""


@record
class FamilyCost:
    """Cost of a family's tests: seconds of all cores, and the images of its largest check.

    Predictions that families share cost the first one that asks.
    """

    cpu_seconds: float
    images: int


@record
class Results:
    """Results of the tests of a run.

    `errors` has the reasons of an inconclusive run, and `omissions` the parts that it did not
    cover. `failed_tests` are the failing tests without a check, and `tests` all of those that have
    something to show. `notices` are lines for every reader of the verdict, and `remarks` have
    further facts. `costs` are by family; a clock measures them, so equal runs differ in them.
    """

    verdicts: tuple[Verdict, ...]
    errors: tuple[str, ...]
    omissions: tuple[str, ...]
    failed_tests: tuple[str, ...]
    tests: tuple[OtherTest, ...] = ()
    notices: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    costs: dict[str, FamilyCost] = field(default_factory=dict)

    @property
    def failed(self) -> tuple[Verdict, ...]:
        """Return the checks that fail."""
        return tuple(verdict for verdict in self.verdicts if verdict.status == "fail")

    @property
    def fails(self) -> bool:
        """Return whether a check, or a test without one, fails."""
        return bool(self.failed or self.failed_tests)

    @property
    def inconclusive(self) -> tuple[Verdict, ...]:
        """Return tolerances whose bounds cannot tell.

        Those of a family with another check that fails are left out: it says that models differ.
        """
        undecided = [verdict for verdict in self.verdicts if verdict.status == "inconclusive"]
        differing_families = {verdict.check.family for verdict in self.failed}
        return tuple(
            verdict
            for verdict in undecided
            if not verdict.is_open and verdict.check.family not in differing_families
        )

    @property
    def open_checks(self) -> tuple[Verdict, ...]:
        """Return the checks with a threshold by hand that their sample does not decide."""
        return tuple(verdict for verdict in self.verdicts if verdict.is_open)

    @property
    def judged(self) -> bool:
        """Return whether a threshold or a failing test says something of the candidate."""
        return self.decided or _judge_candidate(self.open_checks)

    @property
    def decided(self) -> bool:
        """Return whether a threshold or a failing test decided about the candidate."""
        compared = [verdict for verdict in self.verdicts if verdict.judged]
        return bool(self.failed_tests) or _judge_candidate(compared)

    @property
    def informational(self) -> int:
        """Return the number of checks that were measured without a threshold."""
        return sum(verdict.status == "informational" for verdict in self.verdicts)

    @property
    def compared(self) -> int:
        """Return the number of checks whose measurement was compared with a threshold."""
        return sum(verdict.judged or verdict.status == "inconclusive" for verdict in self.verdicts)

    @property
    def passing(self) -> int:
        """Return the number of checks that pass."""
        return sum(verdict.status == "pass" for verdict in self.verdicts)

    @property
    def mostly_informational(self) -> bool:
        """Return whether fewer checks were judged than measured without a threshold."""
        return self.informational > sum(verdict.judged for verdict in self.verdicts)

    @property
    def provisional(self) -> bool:
        """Return whether a threshold that counted rests on one or two reference models."""
        checks = [verdict.check for verdict in self.verdicts if verdict.judged]
        by_panel = [check.panel for check in checks if check.panel and not check.hand]
        return any((panel.reference_models or SETTLED) < SETTLED for panel in by_panel)

    @property
    def without_incumbent(self) -> bool:
        """Return whether a check with a threshold lacks an incumbent."""
        return bool(binding_checks_without_incumbent(self.verdicts))


def binding_checks_without_incumbent(verdicts: Sequence[Verdict]) -> list[str]:
    """Return the ids of checks with a threshold that have no verdict for want of an incumbent."""
    lacking = [verdict for verdict in verdicts if verdict.without == INCUMBENT]
    return [verdict.check.id for verdict in lacking if verdict.check.binding is not None]


def _judge_candidate(verdicts: Sequence[Verdict]) -> bool:
    """Return whether a check among these is more than a precondition on another model."""
    return any(not ROLES[verdict.check.role].precondition for verdict in verdicts)
