"""The setting of MLflow."""

from harness.base.groups import Settings, Text, setting


class MlflowSettings(Settings):
    """Where a run is logged to."""

    mlflow: Text | None = setting(
        "Log the run to this experiment of MLflow: measurements as metrics, the verdict as a tag, the reports as "
        "artifacts. Needs the extra mlflow; where to is MLflow's own MLFLOW_TRACKING_URI (default: no).",
        metavar="EXPERIMENT",
    )
