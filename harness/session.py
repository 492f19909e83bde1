"""What a gate run works with: the images, the gates and the models in their roles, loaded and checked."""

from __future__ import annotations

import ast
import importlib
import sys
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import InputError
from harness.gates import Gate, GatesFile, read_gates

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import nn

    from harness.attention import Attention
    from harness.checkpoints import Record
    from harness.data import LabelledImages
    from harness.inference import Classifier, Predictions
    from harness.perturb import Perturbation

ROLES = ("candidate", "baseline", "incumbent")
PROFILES = ("quick", "default", "thorough")
QUICK_SAMPLES = 2_000
SEARCH_SAMPLES, PROBE_SAMPLES = 2_000, 500
EXAMPLES = {"quick": 100, "default": 100, "thorough": 1_000}
"""Poses that Hypothesis draws for a test, by profile."""


@dataclass(frozen=True)
class StressOptions:
    """The options of a gate run, paths resolved; `shipped` names the roles whose path is that of a shipped model."""

    candidate: Path
    baseline: Path | None
    incumbent: Path | None
    gates: Path
    shipped: frozenset[str] = frozenset()
    model: str | None = None
    model_arguments: tuple[str, ...] = ()
    layer: str | None = None
    data: str = "fashion-mnist"
    profile: str = "default"
    samples: int | None = None
    device: str = "auto"
    cache: bool = True
    record: frozenset[str] | None = None
    """Families to measure without judging, empty for all; None for a run that judges."""
    reports: Path = Path("reports")

    @property
    def sample_size(self) -> int | None:
        """Return how many images are measured, None for all."""
        if self.samples is not None:
            return self.samples
        return QUICK_SAMPLES if self.profile == "quick" else None


@dataclass(frozen=True, eq=False)
class RoleModel:
    """A checkpoint in a role: candidate, baseline or incumbent."""

    role: str
    path: Path
    sha256: str
    model_sha256: str = field(repr=False)
    architecture: str
    record: Record | None = field(repr=False)
    classifier: Classifier = field(repr=False)
    layer: str | None = None
    """The layer whose attention is looked at; None for the default, see `harness.attention`."""

    def predict(self, images: LabelledImages, perturbation: Perturbation | None = None) -> Predictions:
        """Predict every image under the perturbation (default: none); see `Classifier.predict`."""
        from harness.perturb import IDENTITY

        return self.classifier.predict(images, perturbation or IDENTITY)

    def attend(self, images: LabelledImages, perturbation: Perturbation | None = None) -> Attention:
        """Predict every image under the perturbation (default: none) and say where the model looks; see `attend`."""
        from harness.attention import attend
        from harness.perturb import IDENTITY

        return attend(self.classifier, images, perturbation or IDENTITY, layer=self.layer)

    def as_json(self) -> dict[str, str]:
        """Return the model's entry in `stress.json`."""
        return {"path": str(self.path), "sha256": self.sha256, "architecture": self.architecture}


@dataclass(frozen=True, eq=False)
class StressSession:
    """Images, gates and models of one run; models of one file share their predictions."""

    images: LabelledImages
    gates: GatesFile
    roles: Mapping[str, RoleModel]
    recording: bool = False
    thorough: bool = False

    @cached_property
    def search_images(self) -> LabelledImages:
        """Return the images of grid searches: a fixed sample, or all in a thorough run."""
        return self._sample(len(self.images) if self.thorough else SEARCH_SAMPLES)

    @cached_property
    def probe_images(self) -> LabelledImages:
        """Return the images that Hypothesis and the search for breaking poses look at: a fixed sample."""
        return self._sample(PROBE_SAMPLES)

    def _sample(self, size: int) -> LabelledImages:
        from harness.data import stratified_sample

        return self.images if size >= len(self.images) else stratified_sample(self.images, size)

    @property
    def share(self) -> float:
        """Return the share of the images that the gates were made for which this run measures."""
        return len(self.images) / self.gates.data.n

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
        if self.recording and gate.role != "baseline":
            gate = replace(gate, hand=None, panel=None)
        if self.thorough and gate.within is not None:
            gate = replace(gate, hand=None, not_gated="searched ten times as long as its bound was made for")
        return replace(gate, share=self.share)


def open_session(options: StressOptions, *, workers: int | None = None) -> StressSession:
    """Load and check everything that a run needs; raises `InputError` for anything that cannot be used."""
    import torch

    from harness.cache import PredictionCache, default_folder
    from harness.checkpoints import load_checkpoint
    from harness.data import load_images, stratified_sample
    from harness.inference import Classifier, pick_device

    gates = read_gates(options.gates)
    images = load_images(options.data)
    _check_data(images, gates)
    if options.sample_size is not None:
        images = stratified_sample(images, options.sample_size)
    device = pick_device(options.device)
    cache = PredictionCache(default_folder()) if options.cache else None
    if cache:
        cache.prune()
    builder = None if options.model is None else import_builder(options.model, options.model_arguments)
    roles: dict[str, RoleModel] = {}
    for role in ROLES:
        path: Path | None = getattr(options, role)
        if path is None:
            continue
        checkpoint = load_checkpoint(path, builder=builder)
        model_sha256 = checkpoint.model_sha256
        twin = next((other for other in roles.values() if other.model_sha256 == model_sha256), None)
        classifier = (
            twin.classifier if twin else Classifier(checkpoint.model, device=device, workers=workers, cache=cache)
        )
        roles[role] = RoleModel(
            role, path, checkpoint.sha256, model_sha256, checkpoint.architecture, checkpoint.record, classifier
        )
        try:
            classifier.predict(images.take(torch.tensor([0])))
            roles[role] = replace(roles[role], layer=_layer(role, classifier, images, options.layer))
        except InputError as error:
            raise InputError(f"{role} {path}: {error}") from error
    return StressSession(
        images, gates, roles, recording=options.record is not None, thorough=options.profile == "thorough"
    )


def _layer(role: str, classifier: Classifier, images: LabelledImages, wanted: str | None) -> str | None:
    """Return the layer to look at, checked; a model that lacks the candidate's is looked at where it is by default."""
    from harness.attention import chosen_layer

    try:
        return wanted and chosen_layer(classifier, images, wanted)[0]
    except InputError as error:
        if role == "candidate":
            raise InputError(f"--stress-layer {wanted}: {error}") from error
        return None


def _check_data(images: LabelledImages, gates: GatesFile) -> None:
    made_for = gates.data
    for name, found, expected in (
        ("name", images.name, made_for.name),
        ("split", images.split, made_for.split),
        ("n", len(images), made_for.n),
        ("sha256", images.sha256, made_for.sha256),
    ):
        if found != expected:
            raise InputError(
                f"{gates.path}: made for other data: its [data] {name} is {expected!r}, the data at "
                f"hand have {found!r}; name the gates file of these data with --gates, "
                "or the gates file's data with --stress-data"
            )


def parse_arguments(arguments: Sequence[str], *, option: str) -> dict[str, Any]:
    """Return `key=value` arguments as a dict; values are Python literals where they are one, else strings.

    Raises `InputError`, naming the command-line option, for an argument of another form.
    """
    keywords: dict[str, Any] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not (key.isidentifier() and equals):
            raise InputError(f"{option} {argument}: expected key=value")
        try:
            keywords[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            keywords[key] = value
    return keywords


def import_builder(spec: str, arguments: Sequence[str]) -> Callable[[], nn.Module]:
    """Return a function that builds the user's network from `package.module:callable` and `key=value` arguments.

    The working directory is importable. Raises `InputError` when the callable cannot be imported or an argument is
    malformed.
    """
    module_name, colon, attribute = spec.partition(":")
    if not (module_name and colon and attribute):
        raise InputError(f"--stress-model {spec}: expected package.module:callable")
    keywords = parse_arguments(arguments, option="--stress-model-arg")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        function = getattr(importlib.import_module(module_name), attribute)
    except Exception as error:  # Importing runs the user's module, which may fail in any way.
        raise InputError(f"--stress-model {spec}: cannot be imported ({error!r})") from error

    def build_model() -> nn.Module:
        from torch import nn

        try:
            model: nn.Module = function(**keywords)
        except Exception as error:
            raise InputError(f"--stress-model {spec}: building the network failed ({error!r})") from error
        if not isinstance(model, nn.Module):
            raise InputError(f"--stress-model {spec}: returned {type(model).__name__}, expected a torch.nn.Module")
        return model

    return build_model
