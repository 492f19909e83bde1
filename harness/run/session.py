"""What a gate run works with: the images, the gates and the models in their roles, loaded and checked."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from harness.data.options import DataOptions
from harness.errors import InputError, NotApplicableError
from harness.gates import Gate, GatesFile, read_gates
from harness.gates.roles import ROLES, role_title
from harness.networks import NetworkOptions
from harness.networks.running import BackendOptions
from harness.run.made_for import expect_data_of, expect_profile_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from harness.data import LabelledImages
    from harness.gates.file import DataFingerprint
    from harness.inference import RoleModel
    from harness.inference.cluster import Cluster
    from harness.measures.knowledge import Knowledge
    from harness.store import PredictionCache

PROFILES = ("quick", "default", "thorough")
QUICK_SAMPLES = 2_000
"""Images of a quick run whose gates file was made for all."""
SEARCH_SAMPLES, PROBE_SAMPLES = 2_000, 500
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


@dataclass(frozen=True, eq=False)
class StressSession:
    """Images, gates and models of one run; models of one file share their predictions."""

    images: LabelledImages
    gates: GatesFile
    roles: Mapping[str, RoleModel]
    recording: bool = False
    thorough: bool = False
    cache: PredictionCache | None = None
    """Where what a run found out is kept for the next; None to find out everything anew."""
    fitted: Mapping[str, int] = field(default_factory=dict)
    """On how many images families are measured, fewer than their bounds were made for, to fit a run into a time."""
    golden: LabelledImages | None = None
    """Images that must never be wrong again, whatever sample of the data is measured."""
    knowledge: Knowledge | None = None
    """What healthy retrains know of the images; None where nobody recorded it."""
    cluster: Cluster | None = None
    """What models run on, if not this process."""
    whole: LabelledImages | None = None
    """The images of families that measure more than the sample that others do; None where there is no sample."""
    labels: np.ndarray | None = None
    """The labels of the whole split, (S,) int64; None where the images are all of it."""

    def role(self, name: str) -> RoleModel:
        """Return the model of a role.

        Raises `NotApplicableError` where there is none, and where it would be the candidate held against itself.
        """
        if name not in self.roles:
            raise NotApplicableError(f"there is no {ROLES[name].known_as or name} (--{name} none)")
        model = self.roles[name]
        if ROLES[name].of_another and model.model_sha256 == self.roles["candidate"].model_sha256:
            raise NotApplicableError(f"the candidate is the {role_title(name)}")
        return model

    @property
    def golden_images(self) -> LabelledImages:
        """Return the golden set; raises `NotApplicableError` where it has no image."""
        if self.golden is None:
            raise NotApplicableError(f"{self.gates.path} has no golden set (`python -m harness golden add`)")
        return self.golden

    @cached_property
    def search_images(self) -> LabelledImages:
        """Return the images of grid searches: a fixed sample, or all in a thorough run."""
        return self.images if self.thorough else self.panel_images

    @cached_property
    def panel_images(self) -> LabelledImages:
        """Return the images that a panel is asked about in many ways: a fixed sample, the same in a thorough run."""
        return self._sample(SEARCH_SAMPLES)

    @cached_property
    def probe_images(self) -> LabelledImages:
        """Return the images that Hypothesis and the search for breaking poses look at: a fixed sample."""
        return self._sample(PROBE_SAMPLES)

    def _sample(self, size: int) -> LabelledImages:
        from harness.data import stratified_sample

        return self.images if size >= len(self.images) else stratified_sample(self.images, size)

    @property
    def inputs(self) -> dict[str, str]:
        """Return the SHA-256 of all that is judged and judged by, by the path, or name, that it was read from."""
        read = {f"{role} {model.path}": model.sha256 for role, model in self.roles.items()}
        known = {"what the panel knows": self.knowledge.sha256} if self.knowledge else {}
        return {
            f"{self.gates.path}": self.gates.sha256,
            f"data {self.images.name}": self.images.sha256,
            **read,
            **known,
        }

    @property
    def share(self) -> float:
        """Return the share of the images that the gates were made for which this run measures."""
        return len(self.images) / self.gates.data.measured

    @property
    def provenance(self) -> str:
        """Say whose healthy models the bounds come from, and whether the candidate's recipe is theirs."""
        about = str(self.gates.recipe.get("about", "of unknown origin"))
        theirs = self.gates.recipe.get("training")
        record = self.roles["candidate"].record
        own = record.training if record else None
        if not theirs or not own:
            return f"{about}; whether the candidate's recipe is theirs is not known"
        differing = sorted(name for name in theirs if name != "seed" and own.get(name) != theirs[name])
        if differing:
            return f"{about}; the candidate's recipe is another (it differs in {', '.join(differing)})"
        return f"{about}; the candidate's recipe is the same"

    def scaled(self, gate: Gate) -> Gate:
        """Return the gate as it applies to this run: to its images, and without bound when it only records."""
        if self.recording and not ROLES[gate.role].precondition:
            gate = replace(gate, hand=None, panel=None, recorded=True)
        if self.thorough and gate.keys.get("within"):
            gate = replace(gate, hand=None, not_gated="searched ten times as long as its bound was made for")
        return replace(gate, share=self.measured_by(gate.family) / self.gates.data.measured_by(gate.family))

    def measured_by(self, family: str) -> int:
        """Return on how many images the tests of a family are run."""
        made_for = self.gates.data.measured_by(family)
        return min(made_for, self.fitted.get(family, made_for), len(self.whole or self.images))

    def of_family(self, family: str) -> StressSession:
        """Return the session that tests of a family work in: on its own number of images where it has one."""
        size = self.measured_by(family)
        if size == len(self.images):
            return self
        if size not in self._sampled:  # Families of one size share images, and what is predicted of them.
            source = replace(self, images=self.whole) if self.whole and size > len(self.images) else self
            self._sampled[size] = replace(self, images=source._sample(size), whole=None)
        return self._sampled[size]

    @cached_property
    def _sampled(self) -> dict[int, StressSession]:
        return {}


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
        knowledge=knowledge and knowledge.of_others(roles["candidate"].model_sha256),
        cluster=cluster,
        whole=whole,
        labels=labels,
    )


def _knowledge(options: StressOptions, gates: GatesFile, images: LabelledImages) -> Knowledge | None:
    """Return what healthy retrains know, checked against what the bounds were made with."""
    from harness.measures.knowledge import read_knowledge
    from harness.run.asking import Asking

    if options.answers is not None:
        return Asking(images.sha256, images.classes, ("asked",), {}, folder=options.answers)
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

    declared = {"--stress-model-outputs": network.outputs, "--stress-normalisation": network.normalisation}
    given = [name for name, value in declared.items() if value is not None]
    if given and not any(model.architecture in USERS for model in roles.values()):
        models = ", ".join(f"{role} {model.path} is {model.architecture}" for role, model in roles.items())
        raise InputError(
            f"{given[0]}: is about networks of --stress-model and ONNX files, and there is none: {models}; leave the "
            "option out"
        )


def _layer(model: RoleModel, images: LabelledImages, wanted: str | None) -> str | None:
    """Return the layer to look at, checked; a model that lacks the candidate's is looked at where it is by default."""
    from harness.inference.layers import chosen_layer

    try:
        return wanted and chosen_layer(model.classifier, images, wanted)[0]
    except InputError as error:
        if model.role == "candidate":
            raise InputError(f"{model.role} {model.path}: --stress-layer {wanted}: {error}") from error
        return None
