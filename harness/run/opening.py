"""From the options of a run to its session: everything that it needs is loaded and checked."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.data.options import DataOptions
from harness.errors import InputError
from harness.gates import GatesFile, read_gates
from harness.gates.roles import ROLES
from harness.networks import NetworkOptions
from harness.networks.running import BackendOptions
from harness.run.made_for import expect_data_of, expect_profile_of
from harness.run.session import StressSession

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.data import LabelledImages
    from harness.gates.file import DataFingerprint
    from harness.inference import RoleModel
    from harness.measures.panel.predictions import PanelPredictions

QUICK_SAMPLES = 2_000
"""Images of a quick run whose gates file was made for all."""
TIMEOUT_SECONDS = {"quick": 1_800.0, "default": 1_800.0, "thorough": 18_000.0}
"""How long a gate may take, by profile: far more than a network of the size of a ResNet-50 needs on one core."""
EXAMPLES = {"quick": 100, "default": 100, "thorough": 1_000}
"""Poses that Hypothesis draws for a test, by profile."""


@dataclass(frozen=True)
class StressOptions:
    """The options of a gate run, paths resolved.

    `checkpoints` are those of the roles that have one; `shipped` names the roles whose path is that of a shipped model.
    """

    checkpoints: Mapping[str, Path]
    gates: Path
    shipped: frozenset[str] = frozenset()
    network: NetworkOptions = field(default_factory=NetworkOptions)
    layer: str | None = None
    data: DataOptions = field(default_factory=DataOptions)
    profile: str = "default"
    samples: int | None = None
    device: str = "auto"
    backend: BackendOptions = field(default_factory=BackendOptions)
    cache: bool = True
    overview: bool = True
    """Whether the models are compared for the report."""
    knowledge: Path | None = None
    """The file of what the panel knows, if not the one that the gates file's recipe names."""
    answers: Path | None = None
    """Where a retrain's answers are left for what the panel knows; None for a run that does not ask."""
    budget_seconds: float | None = None
    """The time that the run is to fit into, or that a plan is to find samples for."""
    record: frozenset[str] | None = None
    """Families, or rows, to measure without judging, empty for all; None for a run that judges."""
    timeout_seconds: float = TIMEOUT_SECONDS["default"]
    """How long one gate may take; 0 for no limit."""
    reports: Path = Path("reports")
    history: Path | None = None
    """The file in which the run leaves a line; None for no line."""
    mlflow: str | None = None
    """The experiment of MLflow that the run is logged to, if any."""

    def sample_size(self, made_for: DataFingerprint) -> int | None:
        """Return how many images are measured, None for all, by gates that were made for these."""
        if self.samples is not None:
            return self.samples
        return (made_for.sample or QUICK_SAMPLES) if self.profile == "quick" else None


def open_session(
    options: StressOptions, *, gates: GatesFile | None = None, workers: int | None = None
) -> StressSession:
    """Load and check everything that a run needs; raises `InputError` for anything that cannot be used.

    `gates` is the gates file if it has been read, so that it is the same for whoever read it.
    """
    from harness.data import stratified_sample
    from harness.inference import open_model, placed, spread_of
    from harness.run.golden import golden_images
    from harness.store import PredictionCache

    gates = gates or read_gates(options.gates)
    images = options.data.load(options.network.transform, spread=spread_of(options.backend))
    expect_data_of(gates, images)
    expect_profile_of(gates, options.profile)
    if options.record is None and options.answers is None:
        gates.expect_rows_as_calibrated()
    if gates.data.classes:
        images = replace(images, classes=gates.data.classes)
    knowledge, whole, labels = _knowledge(options, gates, images), None, images.labels.numpy()
    if (size := options.sample_size(gates.data)) is not None:
        whole = None if options.samples is not None else images
        images = stratified_sample(images, size)
    cluster, device = placed(options.backend, options.device)
    cache = PredictionCache.of_user() if options.cache else None
    if cache:
        cache.prune()
    roles: dict[str, RoleModel] = {}
    for role in filter(options.checkpoints.__contains__, ROLES):
        model = open_model(
            options.checkpoints[role],
            images,
            role=role,
            network=options.network,
            device=device,
            workers=workers,
            cache=cache,
            backend=cluster or "process",
            others=roles.values(),
        )
        roles[role] = replace(model, layer=_layer(model, images, options.layer))
    _expect_use(options.network, roles)
    return StressSession(
        images,
        gates,
        roles,
        recording=options.record is not None,
        thorough=options.profile == "thorough",
        cache=cache,
        golden=golden_images(gates, images, options.data, options.network.transform),
        knowledge=knowledge and knowledge.without(roles["candidate"].model_sha256),
        cluster=cluster,
        whole=whole,
        labels=labels,
    )


def _knowledge(options: StressOptions, gates: GatesFile, images: LabelledImages) -> PanelPredictions | None:
    """Return what healthy retrains know, checked against what the bounds were made with."""
    from harness.measures.panel.collection import PredictionRecorder
    from harness.measures.panel.predictions import read_knowledge

    if options.answers is not None:
        return PredictionRecorder(images.sha256, images.classes, ("asked",), {}, folder=options.answers)
    path = options.knowledge or gates.knowledge
    if path is None:
        return None
    knowledge = read_knowledge(path)
    if options.record is None or options.knowledge is None:
        gates.expect_knowledge(path, knowledge.sha256)
    knowledge.expect(images)
    return knowledge


def _expect_use(network: NetworkOptions, roles: Mapping[str, RoleModel]) -> None:
    """Raise `InputError` for what was declared and is of no network here, lest it be thought to hold."""
    from harness.networks.declared import USERS

    declared = {"model-outputs": network.outputs, "normalisation": network.normalisation}
    given = [name for name, value in declared.items() if value is not None]
    if given and not any(model.architecture in USERS for model in roles.values()):
        models = ", ".join(f"{role} {model.path} is {model.architecture}" for role, model in roles.items())
        raise InputError(
            f"is about networks of the setting model and ONNX files, and there is none: {models}; leave it out",
            setting=given[0],
        )


def _layer(model: RoleModel, images: LabelledImages, wanted: str | None) -> str | None:
    """Return the layer to look at, checked; a model that lacks the candidate's is looked at where it is by default."""
    from harness.inference.layers import chosen_layer

    try:
        return wanted and chosen_layer(model.classifier, images, wanted)[0]
    except InputError as error:
        if model.role == "candidate":
            raise InputError(f"{model.role} {model.path}: {error}", setting=f"layer {wanted}") from error
        return None
