"""A run of the gate as one of MLflow; no verdict depends on it."""

from __future__ import annotations

import importlib.util
import math
from typing import TYPE_CHECKING

from harness.base.errors import PackageError, foreign_code, said_of
from harness.run.outcome import line_of
from harness.run.status import PICTURES, REPORTS

if TYPE_CHECKING:
    from pathlib import Path

    from harness.run.outcome import Outcome
    from harness.run.request import RunRequest


def expect_installed(request: RunRequest) -> None:
    """Raise `InputError` where MLflow is asked for and not installed, which is better known before a run."""
    named = request.given.get("mlflow")
    if named is not None and importlib.util.find_spec("mlflow") is None:
        raise PackageError(
            "MLflow is not installed; pip install 'stress-harness[mlflow]', or leave the setting out",
            setting=f"mlflow {named}",
        )


def log(outcome: Outcome, request: RunRequest) -> str:
    """Log a run where MLflow is asked for; return in a line why it could not be logged, or nothing."""
    try:
        if (experiment := request.given.get("mlflow")) is not None:
            with foreign_code():
                log_run(outcome, request.reports_folder, experiment=experiment)
    except Exception as error:  # Its server may be away, and its code is not ours.
        return f"MLflow: this run was not logged ({said_of(error)})"
    return ""


def log_run(outcome: Outcome, folder: Path, *, experiment: str) -> None:
    """Log a run to an experiment, where MLflow's own settings say; raises whatever MLflow does.

    Each measurement is a metric by the id of its row, and the smallest margin of each family one under `margin/`. The
    verdict and the hashes of the inputs are tags under `stress.`. The reports in the folder are artifacts. If
    `MLFLOW_RUN_ID` names a run, such as that of the training, they are logged to it.
    """
    import mlflow

    line, candidate = line_of(outcome), outcome.models["candidate"]
    tags = {
        "verdict": outcome.verdict,
        "headline": outcome.headline,
        "profile": outcome.profile,
        "candidate": candidate["path"],
        "candidate_sha256": candidate["sha256"],
        "data_sha256": str(outcome.data["sha256"]),
        "checks_sha256": outcome.checks_sha256,
    }
    metrics = {verdict.check.id: verdict.value for verdict in outcome.verdicts}
    metrics |= {f"margin/{family}": value for family, value in line.margins.items()}
    metrics |= {"checks_judged": line.judged, "checks_failing": len(line.failing)}
    mlflow.set_experiment(experiment)
    with mlflow.start_run(run_name=f"gate {candidate['sha256'][:8]}"):
        mlflow.set_tags({f"stress.{name}": value for name, value in tags.items()})
        known = {name: float(value) for name, value in metrics.items() if value is not None and math.isfinite(value)}
        mlflow.log_metrics(known)
        for name in REPORTS:
            if (folder / name).exists():
                mlflow.log_artifact(str(folder / name), artifact_path="stress")
        if (folder / PICTURES).is_dir():
            mlflow.log_artifacts(str(folder / PICTURES), artifact_path=f"stress/{PICTURES}")
