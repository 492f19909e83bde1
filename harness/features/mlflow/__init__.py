"""MLflow: on request, a run of the gate is logged to an experiment."""

from harness.base.features import Feature

FEATURE = Feature(
    settings={"harness.features.mlflow.settings:MlflowSettings": "Reports"},
    before_run="harness.features.mlflow.logged:expect_installed",
    after_run="harness.features.mlflow.logged:log",
)
