"""Stopping: a run ends at the first certain failure, on the images that are hardest."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.base.groups import Settings
    from harness.run.request import RunRequest
    from harness.run.session import StressSession


def stress_settings() -> dict[type[Settings], str]:
    from harness.features.stopping.settings import StopSettings

    return {StopSettings: "Scope"}


def stress_certain_failure(
    session: StressSession, request: RunRequest
) -> tuple[str, list[int]] | None:
    from harness.features.stopping.certain import certain_failure

    return certain_failure(session, request)
