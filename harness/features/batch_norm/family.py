"""First checks of the family `batch_norm`, and the self-check that they can fail."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from harness.features.batch_norm.metrics import GROUPS
from harness.run.mutants import finding_of_family, with_changed_network

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.checks import Check
    from harness.checks.first_checks import Row, StarterData
    from harness.run.mutants import Finding, Judge
    from harness.run.session import StressSession

FAMILY = "batch_norm"
_MAXIMUM = "batch_norm_distance"
_MAXIMA = (_MAXIMUM, "batch_norm_misfit")
_SHRUNK = 4
"""Factor of the running variances in the mutant."""


def starter_checks(_: StarterData) -> list[Row]:
    """Return a minimum and a maximum for each group of layers."""
    return [
        (f"batch-norm-{group}{end}", f"{_MAXIMUM}{metric}", {"layers": group})
        for group in GROUPS
        for end, metric in (("", ""), ("-minimum", "_minimum"))
    ]


def stale_statistics_are_noticed(
    session: StressSession, judge: Judge
) -> Callable[[], Finding] | None:
    """Return what finds out whether running statistics of another scale pass.

    None without checks that can tell.

    Smaller variances lie farther away, so no minimum can.
    """
    checks = [
        check
        for check in session.checks.family(FAMILY)
        if check.binding and check.metric in _MAXIMA
    ]
    return partial(_noticed, session, judge, checks) if checks else None


def _noticed(session: StressSession, judge: Judge, checks: Sequence[Check]) -> Finding:
    from harness.features.batch_norm.distance import running_norms

    def shrink(network: Any) -> None:
        for layer in running_norms(network).values():
            layer.running_var.div_(_SHRUNK)

    mutant = with_changed_network(session, shrink)
    harm = f"the model has a {_SHRUNK}th of its running variances:"
    return finding_of_family(
        FAMILY, checks, mutant, session, judge, harm=harm, fault="stale statistics"
    )
