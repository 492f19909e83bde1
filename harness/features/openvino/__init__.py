"""OpenVINO: networks in OpenVINO's format as candidates, computed on the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.data import LabelledImages
    from harness.features.openvino.predictor import OpenVinoPredictor
    from harness.inference.predictors.kinds import PredictorKind
    from harness.networks.options import NetworkOptions


def stress_predictors() -> dict[str, PredictorKind]:
    from harness.inference.predictors.kinds import PredictorKind

    network = PredictorKind(
        "openvino:model.xml",
        "A network in OpenVINO's format, float or int8, run on the CPU.",
        "logits, probabilities or labels",
        extra="openvino",
        open=_open,
        before="predictions",
    )
    return {"openvino": network}


def _open(spec: str, options: NetworkOptions, images: LabelledImages | None) -> OpenVinoPredictor:
    from harness.features.openvino.predictor import OpenVinoPredictor

    return OpenVinoPredictor(spec, options, images)
