"""Fingerprint: statistics of weights tell the training recipe of a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.base.features import Family

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.base.groups import Settings
    from harness.checks.first_checks import Row, StarterData
    from harness.measures import Metric
    from harness.run.feature_records import FeatureRecord
    from harness.run.mutants import Finding, Judge
    from harness.run.outcome import Outcome
    from harness.run.request import RunRequest
    from harness.run.session import StressSession


def stress_families() -> list[Family]:
    return [
        Family(
            "fingerprint",
            "Training recipe",
            measures="Distance of the candidate's weight statistics from those of the reference "
            "models: norms, effective ranks, scales and running variances. No image "
            "counts.",
            failure="The candidate was trained by another recipe than the reference models, so "
            "their thresholds may not hold. Look at learning rate, weight decay, loss, "
            "augmentation, training images and frozen layers. If you changed the recipe"
            " on purpose, calibrate on models of the new one. Until then, set recipe = "
            '"open" in [gate].',
            area="training recipe",
            explains=True,
            starter_checks=_starter_checks,
            needs_row=True,
            before="rotation",
        )
    ]


def _starter_checks(about: StarterData) -> list[Row]:
    from harness.features.fingerprint.family import starter_checks

    return starter_checks(about)


def stress_metrics() -> list[Metric]:
    from harness.features.fingerprint.metrics import WEIGHT_DISTANCE

    return [WEIGHT_DISTANCE]


def stress_settings() -> dict[type[Settings], str]:
    from harness.features.fingerprint.settings import RecipeSettings

    return {RecipeSettings: "Scope"}


def stress_session_opened(session: StressSession, request: RunRequest) -> StressSession:
    from harness.features.fingerprint.family import with_recipe

    return with_recipe(session, request)


def stress_self_checks(
    session: StressSession, judge: Judge
) -> dict[str, Callable[[], Finding] | None]:
    from harness.features.fingerprint.family import another_recipe_is_noticed

    return {"other-recipe": another_recipe_is_noticed(session, judge)}


def stress_record_types() -> dict[str, Callable[[], type[FeatureRecord]]]:
    def record_type() -> type[FeatureRecord]:
        from harness.features.fingerprint.report import RecipeStatement

        return RecipeStatement

    return {"fingerprint": record_type}


def stress_run_records(request: RunRequest, families: frozenset[str]) -> dict[str, FeatureRecord]:
    from harness.features.fingerprint.report import FAMILY, RecipeStatement

    if FAMILY not in families:
        return {}
    return {"fingerprint": RecipeStatement(request.recipe or "same")}


def stress_notes(outcome: Outcome) -> list[str]:
    from harness.features.fingerprint.report import recipe_note

    return recipe_note(outcome)
