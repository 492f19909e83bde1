"""Loading of the model that a SPEC names: a checkpoint, an ONNX file, or a predictor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.inference.predictors.kinds import KINDS, open_predictor
from harness.inference.predictors.network import PredictorNetwork
from harness.inference.predictors.protocol import OF_NETWORKS, Provides, Remote
from harness.networks import NetworkOptions
from harness.networks.checkpoints import Checkpoint
from harness.networks.declared import load_model

if TYPE_CHECKING:
    from torch import nn

    from harness.base import PredictionCache
    from harness.data import LabelledImages


def load(spec: Path | str, options: NetworkOptions | None = None, images: LabelledImages | None = None) -> Checkpoint:
    """Load the model that a SPEC names; without images, a predictor only gives its identity.

    Raises `CheckpointRefused` for an irregular file, and `InputError` for a predictor that cannot be opened.
    """
    options = options or NetworkOptions()
    if isinstance(spec, Path):
        return load_model(spec, options)
    predictor = open_predictor(spec, options, images)
    classes = images.classes if images else ()
    named = (predictor.provides.classes if images else ()) or options.class_names
    network = PredictorNetwork(predictor, classes=classes, named=named)
    if images is None:
        predictor.close()
    return Checkpoint(spec, predictor.identity.sha256, network.eval(), predictor.identity.kind, None)


def provides_of(checkpoint: Checkpoint) -> Provides:
    """Return the kind of a loaded model's answers."""
    if isinstance(checkpoint.model, PredictorNetwork):
        return checkpoint.model.provides
    return Provides() if f".{checkpoint.architecture}" in KINDS else OF_NETWORKS


def keep_answers(model: nn.Module, cache: PredictionCache | None) -> None:
    """Store the answers of a remote predictor beside a cache, one by one; do nothing for other models.

    Raises `InputError` if the cache has answers of another model of the same name.
    """
    if cache is not None and isinstance(model, PredictorNetwork) and isinstance(model.predictor, Remote):
        model.predictor.keep_in(cache)


def is_lasting(checkpoint: Checkpoint) -> bool:
    """Return whether the hash of a loaded model determines its answers, so results may be cached under it."""
    return not isinstance(checkpoint.model, PredictorNetwork) or checkpoint.model.identity.lasting


def close(model: nn.Module) -> None:
    """Close a predictor's processes and connections; other models have none."""
    if isinstance(model, PredictorNetwork):
        model.predictor.close()
