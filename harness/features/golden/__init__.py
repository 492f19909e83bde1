"""Golden images: each must never be predicted wrongly again, and is a check of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.base.features import Command, Family

if TYPE_CHECKING:
    from pathlib import Path

    from harness.checks import Check, ChecksFile
    from harness.checks.damages import Damage
    from harness.data import LabelledImages
    from harness.measures import Metric
    from harness.report.page import Section
    from harness.run.outcome import Outcome
    from harness.run.request import RunRequest


def stress_commands() -> dict[str, Command]:
    return {
        "golden": Command(
            "Gate", "harness.features.golden.command", "Keep images that must never be wrong again."
        )
    }


def stress_families() -> list[Family]:
    return [
        Family(
            "golden",
            "Golden images",
            measures="Images of an incident or a complaint; the prediction of each must be "
            "correct.",
            failure="If reference models are correct, look for more errors among similar "
            "images. If not, the training data lack such images.",
            area="golden images",
            damage=_moved_answers,
            needs_row=True,
            rows=_rows,
            images=_images,
            before="slice",
        )
    ]


def _moved_answers() -> Damage:
    from harness.features.golden.mutant import ANSWERS_MOVED

    return ANSWERS_MOVED


def _rows(checks: Path, table: Any) -> tuple[Check, ...]:
    from harness.features.golden.golden_set import rows

    return rows(checks, table)


def _images(
    checks: ChecksFile, images: LabelledImages, request: RunRequest
) -> LabelledImages | None:
    from harness.features.golden.golden_set import labelled_images

    return labelled_images(checks, images, request)


def stress_metrics() -> list[Metric]:
    from harness.features.golden.measures import GOLDEN_RIGHT

    return [GOLDEN_RIGHT]


def stress_sections(outcome: Outcome) -> list[Section | None]:
    from harness.features.golden.report import section

    return [section(outcome)]
