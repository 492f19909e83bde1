"""Found slices: groups of images that nobody named, with more errors than expected."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.base.features import Family

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.checks.damages import Damage
    from harness.checks.first_checks import Row, StarterData
    from harness.measures import Metric
    from harness.report.page import Section
    from harness.run.feature_records import FeatureRecord
    from harness.run.outcome import Outcome
    from harness.run.request import RunRequest
    from harness.run.session import StressSession


def stress_families() -> list[Family]:
    return [
        Family(
            "slices",
            "Found slices",
            measures="Probability of the label that the candidate loses on images that reference"
            " models predict alike.",
            failure="Look at the pictures of the slice for what its images share, and at such "
            "images in training.",
            area="clean images",
            starter_checks=_starter_checks,
            damage=_moved_slice,
            needs_row=True,
            before="rotation",
        )
    ]


def _starter_checks(about: StarterData) -> list[Row]:
    from harness.features.slices.measures import starter_checks

    return starter_checks(about)


def _moved_slice() -> Damage:
    from harness.features.slices.mutant import MOVED

    return MOVED


def stress_metrics() -> list[Metric]:
    from harness.features.slices.measures import SLICE_LOSS, WORST_SLICE

    return [WORST_SLICE, SLICE_LOSS]


def stress_record_types() -> dict[str, Callable[[], type[FeatureRecord]]]:
    def record_type() -> type[FeatureRecord]:
        from harness.features.slices.report import WorstSlice

        return WorstSlice

    return {"slices": record_type}


def stress_run_records(
    session: StressSession, request: RunRequest, families: frozenset[str]
) -> dict[str, FeatureRecord]:
    if "slices" not in families:
        return {}
    from harness.features.slices.report import differences

    record = differences(session, request)
    return {} if record is None else {"slices": record}


def stress_sections(outcome: Outcome) -> list[Section | None]:
    from harness.features.slices.report import found_slices

    return [found_slices(outcome)]
