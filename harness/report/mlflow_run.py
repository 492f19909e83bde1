"""A run of the gate as a run of MLflow, which is imported here alone: it comes with the extra mlflow."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from harness.run.outcome import line_of
from harness.run.status import REPORTS

if TYPE_CHECKING:
    from pathlib import Path

    from harness.run.outcome import Outcome


def log_run(outcome: Outcome, folder: Path, *, experiment: str) -> None:
    """Log a run to an experiment, where MLflow's own settings say; raises whatever MLflow does.

    Each measurement is a metric by the id of its row, and the smallest margin of each family one under `margin/`. The
    verdict and the hashes of the inputs are tags under `stress.`. The reports in the folder are artifacts. If
    `MLFLOW_RUN_ID` names a run, such as that of the training, they are logged to it.
    """
    import mlflow

    line, candidate = line_of(outcome), outcome.models["candidate"]
    mlflow.set_experiment(experiment)
    with mlflow.start_run(run_name=f"gate {candidate['sha256'][:8]}"):
        mlflow.set_tags(
            {
                "stress.verdict": outcome.verdict,
                "stress.headline": outcome.headline,
                "stress.profile": outcome.profile,
                "stress.candidate": candidate["path"],
                "stress.candidate_sha256": candidate["sha256"],
                "stress.data_sha256": str(outcome.data["sha256"]),
                "stress.checks_sha256": outcome.checks_sha256,
            }
        )
        measured = {verdict.check.id: verdict.value for verdict in outcome.verdicts}
        margins = {f"margin/{family}": value for family, value in line.margins.items()}
        counts = {"checks_judged": line.judged, "checks_failing": len(line.failing)}
        metrics = {**measured, **margins, **counts}
        known = {name: float(value) for name, value in metrics.items() if value is not None and math.isfinite(value)}
        mlflow.log_metrics(known)
        for name in REPORTS:
            if (folder / name).exists():
                mlflow.log_artifact(str(folder / name), artifact_path="stress")
