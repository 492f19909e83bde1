"""ONNX: networks in ONNX files as candidates, computed by ONNX Runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from harness.inference.predictors.kinds import PredictorKind
    from harness.networks.checkpoints import Checkpoint
    from harness.networks.formats import NetworkFormat
    from harness.networks.options import NetworkOptions


def stress_predictors() -> dict[str, PredictorKind]:
    from harness.inference.predictors.kinds import PredictorKind

    onnx_file = PredictorKind(
        "runs/new.onnx",
        "A network in an ONNX file, run by ONNX Runtime.",
        "logits or probabilities",
        extra="onnx",
        before="python",
    )
    return {".onnx": onnx_file}


def stress_network_formats() -> dict[str, NetworkFormat]:
    from harness.networks.formats import NetworkFormat

    return {".onnx": NetworkFormat(_load)}


def _load(path: Path, options: NetworkOptions) -> Checkpoint:
    from harness.features.onnx.network_file import load_onnx

    return load_onnx(path, batch=options.predictor_batch)
