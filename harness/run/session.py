"""Session of a run: images, checks and models in their roles, and the images of each check."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

from harness.base.errors import NoModelError, NotApplicableError
from harness.checks.conditions import Conditions
from harness.checks.roles import INCUMBENT, ROLES, role_title
from harness.checks.rows import ChecksError
from harness.data.groups import groups_sha256
from harness.measures import METRICS
from harness.measures.panel.pairing import PairedIncumbent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from harness.base.cache import Store
    from harness.checks import Check, ChecksFile
    from harness.checks.declaration import Declaration
    from harness.data import LabelledImages as LabelledImages  # noqa: PLC0414  Fixtures name it, too.
    from harness.inference import RoleModel
    from harness.inference.backends import Cluster
    from harness.measures.panel.confidence import ConfidenceStrata
    from harness.measures.panel.predictions import PanelPredictions

SEARCH_SAMPLES, PROBE_SAMPLES, FEW_SAMPLES = 2_000, 500, 32
UNSEEDED = (
    "its predictions depend on the process: on state between calls, `hash`, the order of a set or "
    "unseeded code"
)
"""The reason if a model gives other predictions in another process."""


@dataclass(frozen=True, eq=False)
class RunScope:
    """Scope of a run: its use of the checks, and those that it leaves out.

    `recording` measures for calibration and judges nothing. `thorough` searches longer. `fitted`
    has the number of images of families that measure fewer than their thresholds were made for, to
    fit a run into a time. `answered` are the families that recorded predictions were exported for,
    empty for all. `stopped` is the only check of a run that has stopped, by its id, and the number
    of images that a whole run gives it.
    """

    recording: bool = False
    thorough: bool = False
    fitted: Mapping[str, int] = field(default_factory=dict)
    answered: tuple[str, ...] = ()
    stopped: tuple[str, int] | None = None

    def expect_answers_for(self, family: str) -> None:
        """Raise `NotApplicableError` for a family that predictions were not exported for."""
        if self.answered and family not in self.answered:
            raise NotApplicableError(
                f"the recorded predictions were exported for {', '.join(self.answered)} alone"
            )


@dataclass(frozen=True, eq=False)
class OtherImages:
    """Images of a run besides those that most of its checks measure.

    `whole` are the images of families that measure more than the sample of others; None without a
    sample. `labels` are those of the whole split, (S,) int64; None if the images are the whole
    split. `of_rows` are images that the rows of a family are about, by its name; every run measures
    them whole. `elsewhere` are images of no class that the setting `unknown` names; None where it
    names none.
    """

    whole: LabelledImages | None = None
    labels: np.ndarray | None = None
    of_rows: Mapping[str, LabelledImages] = field(default_factory=dict)
    elsewhere: LabelledImages | None = None


@dataclass(frozen=True, eq=False)
class StressSession:
    """Images, checks and models of one run; models of one file share their predictions.

    `panel_predictions` are those of the reference panel for the images; None without a recording.
    The incumbent that the repository declares is `declared`. `waived` is the source of the decision
    to compare with no incumbent, empty without one. `cache` keeps predictions and results for later
    runs; None computes everything anew. `cluster` is the backend of the models, if not this
    process.
    """

    images: LabelledImages
    checks: ChecksFile
    roles: Mapping[str, RoleModel]
    panel_predictions: PanelPredictions | None = None
    scope: RunScope = field(default_factory=RunScope)
    other_images: OtherImages = field(default_factory=OtherImages)
    declared: Declaration | None = None
    waived: str = ""
    cache: Store | None = None
    cluster: Cluster | None = None

    def on_images(self, images: LabelledImages) -> StressSession:
        """Return the session on these images alone, which no family enlarges."""
        return replace(self, images=images, other_images=replace(self.other_images, whole=None))

    def with_samples(self, samples: Mapping[str, int]) -> StressSession:
        """Return the session in which families measure so many images."""
        return replace(self, scope=replace(self.scope, fitted=samples))

    def stopped_at(self, check: str, positions: Sequence[int]) -> StressSession:
        """Return the session of a run that stops.

        It has this check alone, which fails for certain on the images at these positions.
        """
        import torch

        of_images = self.on_images(self.images.take(torch.tensor(positions)))
        return replace(of_images, scope=replace(self.scope, stopped=(check, len(self.images))))

    def role(self, name: str) -> RoleModel:
        """Return the model of a role.

        Raises `NotApplicableError` without one, and if the candidate would be compared with itself.
        """
        if name not in self.roles:
            why = (self.waived or "none is declared") if name == INCUMBENT else f"--{name} none"
            raise NoModelError(f"there is no {ROLES[name].known_as or name} ({why})", role=name)
        model = self.roles[name]
        if ROLES[name].of_another and model.model_sha256 == self.roles["candidate"].model_sha256:
            raise NotApplicableError(f"the candidate is the {role_title(name)}")
        return model

    @property
    def paired_incumbent(self) -> PairedIncumbent:
        """Return the candidate's incumbent, by its correct predictions.

        While a panel is measured, it is another reference model, unless an incumbent is named.
        """
        measured = self.scope.recording and INCUMBENT not in self.roles
        reference = self.roles["candidate"].model_sha256 if measured else None
        return PairedIncumbent(lambda: self.role(INCUMBENT), self.panel_predictions, reference)

    @cached_property
    def search_images(self) -> LabelledImages:
        """Return the images of grid searches: a fixed sample, or all in a thorough run."""
        return self.images if self.scope.thorough else self.panel_images

    @cached_property
    def panel_images(self) -> LabelledImages:
        """Return the images of panel predictions under perturbations, also in a thorough run."""
        return _sample_of(self.images, SEARCH_SAMPLES)

    @cached_property
    def probe_images(self) -> LabelledImages:
        """Return the images of Hypothesis and of the search for breaking poses."""
        return _sample_of(self.images, PROBE_SAMPLES)

    @property
    def inputs(self) -> dict[str, str]:
        """Return the SHA-256 of all inputs of the verdict, by their path or name."""
        inputs = {
            f"{self.checks.path}": self.checks.sha256,
            f"data {self.images.name}": self.images.sha256,
        }
        for role, model in self.roles.items():
            inputs[f"{role} {model.path}"] = model.sha256
        if self.panel_predictions:
            inputs["panel predictions"] = self.panel_predictions.sha256
        for family, images in self.other_images.of_rows.items():
            inputs[f"{family} {images.name}"] = images.sha256
            if images.groups:
                inputs[f"groups of {family} {images.name}"] = groups_sha256(images.groups)
        elsewhere = self.other_images.elsewhere
        if elsewhere is not None:
            inputs[f"unknown {elsewhere.name}"] = elsewhere.sha256
        return inputs

    @property
    def foreign_predictions(self) -> dict[str, list[int]]:
        """Return predictions of models with the user's code, for images that processes share."""
        images = _sample_of(self.images, FEW_SAMPLES)
        predictions = {}
        for role, model in self.roles.items():
            if model.classifier.opening:
                predictions[role] = model.predict(images).predicted.tolist()
        return predictions

    @property
    def share(self) -> float:
        """Return the share of the images that the checks were made for that this run measures."""
        return len(self.images) / self.checks.data.measured

    def scaled(self, check: Check) -> Check:
        """Return the check under the conditions of this run: without a threshold in a recording.

        Raises `ChecksError` for a panel threshold that does not follow from its own numbers. After
        a stop, it does so for all other checks.
        """
        check = self._with_thresholds_of_scope(check)
        check = self._with_thresholds_of_rows(check)
        return replace(check, conditions=self._conditions_of(check))

    def _with_thresholds_of_scope(self, check: Check) -> Check:
        if not self.scope.recording:
            # Its metric may have been declared since the file was read.
            self.checks.expect_as_calibrated(check)
        elif not ROLES[check.role].precondition:
            check = replace(check, hand=None, panel=None, tolerance=None)
        if self.scope.thorough and check.keys.get("within"):
            why = "searched ten times as long as its threshold was made for"
            check = replace(check, hand=None, informational=why)
        return check

    def _with_thresholds_of_rows(self, check: Check) -> Check:
        """Return the check as features have made its row for this run."""
        for row in self._rows_like(check):
            if self._measures_rows_images(check):
                # The threshold may be of these images, which are measured whole.
                check = replace(check, panel=row.panel, informational=row.informational)
            elif row.informational:
                check = replace(check, informational=row.informational)
        return check

    def _conditions_of(self, check: Check) -> Conditions:
        recorded = self.scope.recording and not ROLES[check.role].precondition
        whole = Conditions(recorded=recorded, sharing=self.checks.tolerances)
        if self.scope.stopped is not None:
            only, images = self.scope.stopped
            if check.id != only:
                raise ChecksError(
                    f"check {check.id}: the run has stopped at {only}, and judges no other check"
                )
            return replace(whole, stopped=images)
        if self._measures_rows_images(check) and self._rows_like(check):
            return whole

        data = self.checks.data
        share = self.size_of(check.family) / data.size_of(check.family)
        by_hand = self._counted_among(check) / data.by_hand_of(check.family)
        share_by_hand = None if by_hand == share else by_hand
        return replace(whole, share=share, share_by_hand=share_by_hand)

    def _rows_like(self, check: Check) -> list[Check]:
        """Return the rows of this run that measure the same as the check."""
        rows = self.checks.family(check.family)
        return [row for row in rows if row.definition == check.definition]

    def _measures_rows_images(self, check: Check) -> bool:
        return check.family in self.other_images.of_rows

    def size_of(self, family: str) -> int:
        """Return the number of images for the tests of a family."""
        made_for = self.checks.data.size_of(family)
        fitted = self.scope.fitted.get(family, made_for)
        return min(made_for, fitted, len(self._all_images))

    def of_family(self, family: str) -> StressSession:
        """Return the session for the tests of a family: on its number of images if it has one."""
        size = self.size_of(family)
        if size == len(self.images):
            return self
        source = self._all_images if size > len(self.images) else self.images
        return self._on(_sample_of(source, size))

    def of_check(self, check: Check) -> StressSession:
        """Return the session for the test of a check.

        A weighted metric has a sample by the panel, if the file or a time limit asks for samples. A
        sample to fit into a time has such strata if that holds for all checks of the family. Before
        the first calibration, the incumbent's confidence defines the strata of a sample by the
        panel. Without it, the sample is that of `of_family`. A check with a threshold by hand
        measures all images, unless the file names a sample for its family. Raises as
        `weighted_sample` does.
        """
        votes = self._votes
        if self._measures_all(check):
            return self._on(self._all_images)
        if votes is None or not self._by_votes(check.family):
            return self.of_family(check.family)
        if check.metric not in METRICS or not METRICS[check.metric].weighted:
            return self._on(self._all_images)

        size = self.size_of(check.family)
        sample = self.checks.data.by_panel(check.family)
        seed = sample.seed if sample else 0
        clean = partial(self.roles["candidate"].predict, self._all_images)
        return self._on(votes.weighted_sample(self._all_images, size, clean=clean, seed=seed))

    @property
    def has_votes(self) -> bool:
        """Return whether reference models define the strata of samples."""
        return self.panel_predictions is not None and self.panel_predictions.has_votes

    @property
    def _all_images(self) -> LabelledImages:
        return self.other_images.whole or self.images

    def _measures_all(self, check: Check) -> bool:
        """Return whether a threshold by hand is kept from a sample of the whole file by the panel.

        While a panel is recorded, no threshold applies, and reference models measure what other
        checks measure.
        """
        data = self.checks.data
        by_panel = data.by_panel(check.family) is not None
        of_all_families = check.family not in data.samples and by_panel
        return of_all_families and check.hand is not None and not self.scope.recording

    def _by_votes(self, family: str) -> bool:
        """Return whether the sample of a family has strata by votes of models."""
        size = self.size_of(family)
        by_panel = self.checks.data.by_panel(family) is not None
        is_cut = size < self.checks.data.size_of(family)
        cut_by_votes = is_cut and self.checks.weighted(family) and self.has_votes
        is_sample = size < len(self._all_images)
        return is_sample and (by_panel or cut_by_votes) and self._votes is not None

    @cached_property
    def _votes(self) -> PanelPredictions | ConfidenceStrata | None:
        from harness.measures.panel.confidence import ConfidenceStrata

        if self.has_votes:
            return self.panel_predictions
        incumbent = None if self.scope.recording else self.roles.get(INCUMBENT)
        if incumbent is None or incumbent.provides.known == 0:
            return None
        return ConfidenceStrata(incumbent.predict)

    def _counted_among(self, check: Check) -> int:
        """Return the number of images that a count of a check is of; a weighted one is of all."""
        if self._measures_all(check) or self._by_votes(check.family):
            return len(self._all_images)
        return self.size_of(check.family)

    def _on(self, images: LabelledImages) -> StressSession:
        """Return the session on these images alone; equal images share their predictions."""
        if images is self.images:
            return self
        if images not in self._sampled:
            self._sampled[images] = self.on_images(images)
        return self._sampled[images]

    @cached_property
    def _sampled(self) -> dict[LabelledImages, StressSession]:
        return {}


def _sample_of(images: LabelledImages, size: int) -> LabelledImages:
    from harness.data import sample_up_to

    return sample_up_to(images, size)
