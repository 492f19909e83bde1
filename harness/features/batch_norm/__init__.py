"""Batch norms: a network's running statistics against its activations on test images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.base.features import Family

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.checks import Verdict
    from harness.checks.first_checks import Row, StarterData
    from harness.measures import Metric
    from harness.run.mutants import Finding, Judge
    from harness.run.session import StressSession


def stress_families() -> list[Family]:
    return [
        Family(
            "batch_norm",
            "Batch-norm statistics",
            measures="Distance of a network's running statistics from those of its activations "
            "on test images, clean or augmented as in training.",
            failure="Too far: the weights were changed, the statistics are stale, or test "
            "images come from elsewhere. Too near: the statistics were made from few "
            "images or without augmentation.",
            page="behaviours/batch-norm",
            area="batch norms",
            explains=True,
            cause=_cause,
            starter_checks=_starter_checks,
            needs_row=True,
            before="rotation",
        )
    ]


def _cause(verdicts: Sequence[Verdict]) -> tuple[str, str, str] | None:
    from harness.features.batch_norm.cause import cause_of_batch_norms

    return cause_of_batch_norms(verdicts)


def _starter_checks(about: StarterData) -> list[Row]:
    from harness.features.batch_norm.family import starter_checks

    return starter_checks(about)


def stress_metrics() -> list[Metric]:
    from harness.features.batch_norm import metrics

    return [
        metrics.BATCH_NORM_DISTANCE,
        metrics.BATCH_NORM_DISTANCE_MINIMUM,
        metrics.BATCH_NORM_MISFIT,
    ]


def stress_self_checks(
    session: StressSession, judge: Judge
) -> dict[str, Callable[[], Finding] | None]:
    from harness.features.batch_norm.family import stale_statistics_are_noticed

    return {"stale-statistics": stale_statistics_are_noticed(session, judge)}
