"""Served models: a model behind a server of the Open Inference Protocol as a candidate."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.data import LabelledImages
    from harness.features.served_models.served_model import ServedModel
    from harness.inference.predictors.kinds import PredictorKind
    from harness.networks.options import NetworkOptions


def stress_predictors() -> dict[str, PredictorKind]:
    from harness.inference.predictors.kinds import PredictorKind

    served = PredictorKind(
        "https://HOST/v2/models/NAME",
        "A served model, by the Open Inference Protocol (KServe v2 REST) of Triton and MLServer.",
        "logits, probabilities or labels",
        extra="http",
        open=_open,
        before="predictions",
    )
    return {"https": served, "http": served}


def _open(spec: str, options: NetworkOptions, images: LabelledImages | None) -> ServedModel:
    from harness.features.served_models.served_model import ServedModel

    return ServedModel(spec, options, images)
