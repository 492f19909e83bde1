"""Findings of a run besides its verdicts: self-checks, models side by side, input faults."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Literal

from harness.base.codes import Code, coded
from harness.base.records import record
from harness.measures.metric import Curve
from harness.run.overview import Overview

if TYPE_CHECKING:
    from harness.checks import Check, Verdict

STEADINESS = ("identity-equals-clean", "model-equals-itself", "answers-are-the-models")
"""Self-checks that put all values of a run in doubt. The others guard against a wrong pass."""

_LEFT = 0.5
"""Largest share of the errors that remains under an input fault that explains them."""
_SIGNIFICANT = 0.001
"""Largest p-value of an input fault that explains errors."""


def named_check(check: Check) -> str:
    """Return a check with its family, as details of self-checks name it."""
    return f"check {check.id} of family {check.family!r}"


@record
class SelfCheck:
    """Result of a self-check; `fail` means that a pass of the run cannot be trusted.

    `check` is the id of the only check that a failure puts in doubt, if there is one.
    `cannot_notice` says that healthy thresholds are too lenient for the mutant, by arithmetic; that
    changes no status of the run. `cause` is the error that kept self-checks from running.
    """

    name: str
    status: Literal["pass", "fail", "not_applicable"]
    detail: str
    check: str = ""
    cannot_notice: bool = False
    cause: str = ""

    @property
    def reason(self) -> str:
        """Return why a run with this failed self-check is inconclusive, with its code."""
        return coded(Code.SELF_CHECK, f"self-check {self.name}: {self.detail}")

    def doubts(self, verdict: Verdict) -> bool:
        """Return whether a failed self-check puts the failure of a check in doubt."""
        concerns = self.name in STEADINESS or self.check == verdict.check.id
        return self.status == "fail" and concerns


@record
class InputFaults:
    """Correct predictions without and with the input fault that mends most errors.

    `n` images were predicted, `correct` of them correctly, and `correct_with` with the `best` of
    the input faults that were `tried`, which is a number. The images are of the consensus set, or
    any without panel predictions. `p` is McNemar's.
    """

    tried: int
    best: str
    n: int
    correct: int
    correct_with: int
    p: float

    @property
    def explain(self) -> bool:
        """Return whether the best fault mends most errors."""
        errors = self.n - self.correct
        errors_with_fault = self.n - self.correct_with
        return errors_with_fault <= _LEFT * errors and self.p <= _SIGNIFICANT


@record
class Findings:
    """Findings of a process after its tests; the sum over all processes is that of the run.

    Without an `overview` of the models, `overview_missing` may say why. `reference_curves` are
    those of the reference models behind the candidate's, by name, one for each model.
    `input_faults` are other pixels that were tried after a failure on clean images.
    """

    self_checks: tuple[SelfCheck, ...] = ()
    overview: Overview | None = None
    overview_missing: str = ""
    reference_curves: dict[str, tuple[Curve, ...]] = field(default_factory=dict)
    input_faults: InputFaults | None = None

    def __add__(self, other: Findings) -> Findings:
        return Findings(
            self.self_checks + other.self_checks,
            self.overview or other.overview,
            self.overview_missing + other.overview_missing,
            self.reference_curves | other.reference_curves,
            self.input_faults or other.input_faults,
        )

    @property
    def unsound(self) -> tuple[SelfCheck, ...]:
        """Return the self-checks that fail."""
        return tuple(check for check in self.self_checks if check.status == "fail")
