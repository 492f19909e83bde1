"""Session of a run: the images, the checks, the models in their roles, and the arguments of stress tests from them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from operator import attrgetter
from typing import TYPE_CHECKING

from harness.base.errors import NoModelError, NotApplicableError, NotRecordedError
from harness.base.features import families_of_features
from harness.checks.roles import INCUMBENT, ROLES, role_title
from harness.checks.rows import ChecksError
from harness.data.groups import groups_sha256
from harness.measures import METRICS
from harness.measures.panel.pairing import PairedIncumbent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np

    from harness.base.cache import Store
    from harness.checks import Check, ChecksFile
    from harness.checks.declaration import Declaration
    from harness.data import LabelledImages as LabelledImages  # noqa: PLC0414  Fixtures name it, too.
    from harness.inference import RoleModel
    from harness.inference.cluster import Cluster
    from harness.measures.panel.confidence import ConfidenceStrata
    from harness.measures.panel.predictions import PanelPredictions


def _panel_predictions(session: StressSession) -> PanelPredictions:
    if session.panel_predictions is None:
        raise NotRecordedError(
            "there are no panel predictions; `stress-harness calibrate` records them"
        )
    return session.panel_predictions


def of_role(role: str) -> tuple[str, Callable[[StressSession], object]]:
    """Return the entry of a role: its model. A test does not apply without one, or if it is the candidate."""
    about = ROLES[role].about
    return f"{about[0].lower()}{about[1:]}", lambda session: session.role(role)


def _images_of(family: str) -> Callable[[StressSession], object]:
    def images(session: StressSession) -> object:
        if family not in session.of_rows:
            raise NotApplicableError(f"the run has no images for rows of family {family!r}")
        return session.of_rows[family]

    return images


ARGUMENTS: dict[str, tuple[str, Callable[[StressSession], object]]] = {
    "images": ("the labeled test images", attrgetter("images")),
    "search_images": (
        "the fixed sample that grids of poses are searched on",
        attrgetter("search_images"),
    ),
    "panel_images": (
        "the fixed sample for what a panel of reference models is asked in many ways, which no profile enlarges",
        attrgetter("panel_images"),
    ),
    "probe_images": (
        "the fixed, smaller sample for searches that draw their poses",
        attrgetter("probe_images"),
    ),
    "unknown_images": (
        "the images from elsewhere, of no class, that the setting `unknown` names; None without it",
        attrgetter("elsewhere"),
    ),
    **{role: of_role(role) for role in ROLES},
    "panel_predictions": (
        "the panel predictions; a test that needs them does not apply where none are recorded",
        _panel_predictions,
    ),
    "paired_incumbent": (
        "the incumbent's correct predictions, those of another reference model while a panel is measured",
        attrgetter("paired_incumbent"),
    ),
    **{
        f"{name}_images": (
            f"the images that the rows of family {name} are about, in their order",
            _images_of(name),
        )
        for name, family in families_of_features().items()
        if family.images
    },
}
"""Each argument as text, and how a session gives it. The plugin adds `stress_session`, `stress_check`, `evidence`."""


def argument(name: str) -> tuple[str, Callable[[StressSession], object]]:
    """Return the entry of an argument, also that of a role which was added later."""
    return ARGUMENTS.get(name) or of_role(name)


SEARCH_SAMPLES, PROBE_SAMPLES, FEW_SAMPLES = 2_000, 500, 32
UNSEEDED = "its predictions depend on the process: on state between calls, `hash`, the order of a set or unseeded code"
"""The reason if a model gives other predictions in another process."""


@dataclass(frozen=True, eq=False)
class StressSession:
    """Images, checks and models of one run; models of one file share their predictions."""

    images: LabelledImages
    checks: ChecksFile
    roles: Mapping[str, RoleModel]
    recording: bool = False
    thorough: bool = False
    cache: Store | None = None
    """Cache of predictions and results for later runs; None to compute everything anew."""
    fitted: Mapping[str, int] = field(default_factory=dict)
    """Images of families that measure fewer than their thresholds were made for, to fit a run into a time."""
    answered: tuple[str, ...] = ()
    """Families that recorded predictions were exported for, empty for all."""
    of_rows: Mapping[str, LabelledImages] = field(default_factory=dict)
    """Images that the rows of a family are about, by its name; every run measures them whole, whatever its sample."""
    elsewhere: LabelledImages | None = None
    """Images of no class that the setting unknown names; None where it names none."""
    panel_predictions: PanelPredictions | None = None
    """Predictions of the reference panel for the images; None without a recording."""
    cluster: Cluster | None = None
    """Backend of the models, if not this process."""
    whole: LabelledImages | None = None
    """The images of families that measure more than the sample of others; None without a sample."""
    waived: str = ""
    """Source of the decision to compare with no incumbent; empty without one."""
    declared: Declaration | None = None
    """The incumbent that the repository declares."""
    labels: np.ndarray | None = None
    """The labels of the whole split, (S,) int64; None if the images are the whole split."""
    stopped: tuple[str, int] | None = None
    """The only check of a run that has stopped, by its id, and the number of images that a whole run gives it."""

    def stopped_at(self, check: str, positions: Sequence[int]) -> StressSession:
        """Return the session of a run that stops: for this check, which fails for certain on these images alone."""
        import torch

        stopped = check, len(self.images)
        return replace(
            self, images=self.images.take(torch.tensor(positions)), whole=None, stopped=stopped
        )

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
        """Return the candidate's incumbent: another reference model while a panel is measured, unless one is named."""
        measured = self.recording and "incumbent" not in self.roles
        reference = self.roles["candidate"].model_sha256 if measured else None
        return PairedIncumbent(lambda: self.role("incumbent"), self.panel_predictions, reference)

    @cached_property
    def search_images(self) -> LabelledImages:
        """Return the images of grid searches: a fixed sample, or all in a thorough run."""
        return self.images if self.thorough else self.panel_images

    @cached_property
    def panel_images(self) -> LabelledImages:
        """Return the images of panel predictions under perturbations: a fixed sample, the same in a thorough run."""
        return self._sample(SEARCH_SAMPLES)

    @cached_property
    def probe_images(self) -> LabelledImages:
        """Return the images that Hypothesis and the search for breaking poses look at: a fixed sample."""
        return self._sample(PROBE_SAMPLES)

    def _sample(self, size: int) -> LabelledImages:
        from harness.data import sample_up_to

        return sample_up_to(self.images, size)

    @property
    def inputs(self) -> dict[str, str]:
        """Return the SHA-256 of all inputs of the verdict, by their path or name."""
        read = {f"{role} {model.path}": model.sha256 for role, model in self.roles.items()}
        known = (
            {"panel predictions": self.panel_predictions.sha256} if self.panel_predictions else {}
        )
        for family, images in self.of_rows.items():
            known[f"{family} {images.name}"] = images.sha256
            if images.groups:
                known[f"groups of {family} {images.name}"] = groups_sha256(images.groups)
        if self.elsewhere is not None:
            known[f"unknown {self.elsewhere.name}"] = self.elsewhere.sha256
        return {
            f"{self.checks.path}": self.checks.sha256,
            f"data {self.images.name}": self.images.sha256,
            **read,
            **known,
        }

    @property
    def foreign_predictions(self) -> dict[str, list[int]]:
        """Return the predictions of a few images, which every process shares, of models with code of the user's."""
        some, models = self._sample(FEW_SAMPLES), self.roles.items()
        return {
            role: model.predict(some).predicted.tolist()
            for role, model in models
            if model.classifier.opening
        }

    @property
    def share(self) -> float:
        """Return the share of the images that the checks were made for which this run measures."""
        return len(self.images) / self.checks.data.measured

    @property
    def provenance(self) -> str:
        """Return the origin of the reference models, and whether the candidate has their recipe, as text."""
        if not self.checks.recipe and not any(check.panel for check in self.checks.checks):
            return "by hand; there is no reference panel yet"
        about = str(self.checks.recipe.get("about", "of unknown origin"))
        theirs = self.checks.recipe.get("training")
        record = self.roles["candidate"].record
        own = record.training if record else None
        if not theirs or not own:
            return f"{about}; whether the candidate's recipe is theirs is not known"
        differing = sorted(
            name for name in theirs if name != "seed" and own.get(name) != theirs[name]
        )
        if differing:
            return (
                f"{about}; the candidate's recipe is another (it differs in {', '.join(differing)})"
            )
        return f"{about}; the candidate's recipe is the same"

    def scaled(self, check: Check) -> Check:
        """Return the check as it applies to this run: to its images, and without a threshold in a recording.

        Raises `ChecksError` for a panel threshold that does not follow from its own numbers. After
        a stop, it does so for all other checks.
        """
        if self.recording and not ROLES[check.role].precondition:
            check = replace(check, hand=None, panel=None, tolerance=None, recorded=True)
        elif not self.recording:
            self.checks.expect_as_calibrated(
                check
            )  # Its metric may have been declared since the file was read.
        if self.thorough and check.keys.get("within"):
            check = replace(
                check,
                hand=None,
                informational="searched ten times as long as its threshold was made for",
            )
        data = self.checks.data
        share = self.size_of(check.family) / data.size_of(check.family)
        counted = (
            self._all_images if self._measures_all(check) else self._counted_among(check.family)
        )
        by_hand = counted / data.by_hand_of(check.family)
        for row in self.checks.family(check.family):
            if row.definition != check.definition:
                continue
            if (
                check.family in self.of_rows
            ):  # Its threshold may be of these images, which are measured whole.
                check, share = replace(check, panel=row.panel, informational=row.informational), 1.0
                by_hand = share
            elif row.informational:  # A feature may have made it so for this run.
                check = replace(check, informational=row.informational)
        if self.stopped is not None:
            only, of = self.stopped
            if check.id != only:
                raise ChecksError(
                    f"check {check.id}: the run has stopped at {only}, and judges no other check"
                )
            check, share, by_hand = replace(check, stopped=of), 1.0, 1.0
        share_by_hand = None if by_hand == share else by_hand
        return replace(
            check, share=share, share_by_hand=share_by_hand, sharing=self.checks.tolerances
        )

    def size_of(self, family: str) -> int:
        """Return the number of images for the tests of a family."""
        made_for = self.checks.data.size_of(family)
        return min(made_for, self.fitted.get(family, made_for), len(self.whole or self.images))

    def expect_answers_for(self, family: str) -> None:
        """Raise `NotApplicableError` for a family that recorded predictions were not exported for."""
        if self.answered and family not in self.answered:
            raise NotApplicableError(
                f"the recorded predictions were exported for {', '.join(self.answered)} alone"
            )

    def of_check(self, check: Check) -> StressSession:
        """Return the session for the test of a check: on a sample by the panel if its metric is weighted.

        A sample to fit into a time has such strata if that holds for all checks of the family.
        Before the first calibration, the incumbent's confidence defines the strata of a sample by
        the panel. Without it, the sample is that of `of_family`. A check with a threshold by hand
        measures all images, unless the file names a sample for its family. Raises as
        `weighted_sample` does.
        """
        family, source, votes = check.family, self.whole or self.images, self._votes
        if self._measures_all(check):
            return self._on(source)
        if votes is None or not self._by_votes(family):
            return self.of_family(family)
        if check.metric not in METRICS or not METRICS[check.metric].weighted:
            return self._on(source)
        sample = self.checks.data.by_panel(family)
        seed = sample.seed if sample else 0
        clean = partial(self.roles["candidate"].predict, source)
        return self._on(votes.weighted_sample(source, self.size_of(family), clean=clean, seed=seed))

    def _measures_all(self, check: Check) -> bool:
        """Return whether only the sample of the whole file, one by the panel, would apply to a threshold by hand.

        While a panel is recorded, no threshold applies, and reference models measure what other
        checks measure.
        """
        data = self.checks.data
        of_all_families = (
            check.family not in data.samples and data.by_panel(check.family) is not None
        )
        return of_all_families and check.hand is not None and not self.recording

    @property
    def _all_images(self) -> int:
        return len(self.whole or self.images)

    def _by_votes(self, family: str) -> bool:
        size = self.size_of(family)
        made = self.checks.data.by_panel(family) is not None
        cut = (
            size < self.checks.data.size_of(family)
            and self.checks.weighted(family)
            and self.has_votes
        )
        return size < self._all_images and (cut or made) and self._votes is not None

    @property
    def has_votes(self) -> bool:
        """Return whether reference models define the strata of samples."""
        return self.panel_predictions is not None and self.panel_predictions.has_votes

    @cached_property
    def _votes(self) -> PanelPredictions | ConfidenceStrata | None:
        from harness.measures.panel.confidence import ConfidenceStrata

        if self.has_votes:
            return self.panel_predictions
        incumbent = None if self.recording else self.roles.get(INCUMBENT)
        return (
            ConfidenceStrata(incumbent.predict)
            if incumbent and incumbent.provides.scores != "labels"
            else None
        )

    def _counted_among(self, family: str) -> int:
        """Return the number of images that counts of a family are of; a weighted one is of all."""
        return self._all_images if self._by_votes(family) else self.size_of(family)

    def _on(self, images: LabelledImages) -> StressSession:
        """Return the session on these images alone; tests with the same images share what is predicted of them."""
        if images is self.images:
            return self
        if images not in self._sampled:
            self._sampled[images] = replace(self, images=images, whole=None)
        return self._sampled[images]

    def of_family(self, family: str) -> StressSession:
        """Return the session for the tests of a family: on its own number of images if it has one."""
        size = self.size_of(family)
        if size == len(self.images):
            return self
        source = (
            replace(self, images=self.whole) if self.whole and size > len(self.images) else self
        )
        return self._on(source._sample(size))

    @cached_property
    def _sampled(self) -> dict[LabelledImages, StressSession]:
        return {}
