"""Stopping: a run ends at the first certain failure, found on the images that are hardest for reference models."""

from harness.base.features import Feature

FEATURE = Feature(
    settings={"harness.features.stopping.settings:StopSettings": "Scope"},
    begun="harness.features.stopping.certain:certain_failure",
)
