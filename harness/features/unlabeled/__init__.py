"""Images without labels: predictions as of the reference models, and as of the incumbent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.base.features import Family

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.base.groups import Settings
    from harness.checks import Check, ChecksFile
    from harness.checks.damages import Damage
    from harness.data import LabelledImages
    from harness.report.page import Section
    from harness.run.feature_records import FeatureRecord
    from harness.run.outcome import Outcome
    from harness.run.request import RunRequest
    from harness.run.session import StressSession


def stress_families() -> list[Family]:
    return [
        Family(
            "unlabeled",
            "Images without labels",
            measures="Predictions of images without labels, against the unanimous reference "
            "models and the incumbent.",
            failure="Look at the worst images in the section on images without labels. If they "
            "show a defect of the model, add such images to the data. If they show "
            "other pictures, check the pipeline.",
            page="unlabeled",
            area="images without labels",
            damage=_moved_answers,
            needs_row=True,
            images=_images,
            before="equivalence",
        )
    ]


def _moved_answers() -> Damage:
    from harness.features.unlabeled.opening import ANSWERS_MOVED

    return ANSWERS_MOVED


def _images(
    checks: ChecksFile, images: LabelledImages, request: RunRequest
) -> LabelledImages | None:
    from harness.features.unlabeled.opening import unlabeled_images

    return unlabeled_images(checks, images, request)


def stress_settings() -> dict[type[Settings], str]:
    from harness.features.unlabeled.settings import UnlabeledSettings

    return {UnlabeledSettings: "Images"}


def stress_rows(request: RunRequest) -> tuple[Check, ...]:
    from harness.features.unlabeled.settings import rows

    return rows(request)


def stress_session_opened(session: StressSession, request: RunRequest) -> StressSession:
    if not session.checks.family("unlabeled"):
        return session
    from harness.features.unlabeled.opening import with_thresholds

    return with_thresholds(session, request)


def stress_record_types() -> dict[str, Callable[[], type[FeatureRecord]]]:
    def record_type() -> type[FeatureRecord]:
        from harness.features.unlabeled.report import Disagreements

        return Disagreements

    return {"unlabeled": record_type}


def stress_run_records(
    session: StressSession, request: RunRequest, families: frozenset[str]
) -> dict[str, FeatureRecord]:
    if "unlabeled" not in families:
        return {}
    from harness.features.unlabeled.report import differences

    record = differences(session, request)
    return {} if record is None else {"unlabeled": record}


def stress_sections(outcome: Outcome) -> list[Section | None]:
    from harness.features.unlabeled.report import section

    return [section(outcome)]
