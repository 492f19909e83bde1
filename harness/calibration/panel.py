"""Reference panel: the measurements of each reference model, and their file, `panel.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.base.errors import InputError, PanelError
from harness.base.files import read_regular
from harness.base.records import as_plain, read_record, record, refusal_of_schema
from harness.checks.file import PanelSample
from harness.data.domain import Domain, domain_in_words
from harness.measures import METRICS
from harness.measures.metric import Curve, Unit, unpacked
from harness.measures.panel.threshold import PanelCheck
from harness.perturb import PROTOCOL
from harness.run.request import model_spec

if TYPE_CHECKING:
    from harness.checks import ChecksFile

SCHEMA = 2
MAX_BYTES = 256 << 20
"""Size of the largest file that is read."""
_NEXT = "`stress-harness calibrate` makes a panel"
ALONE = 0.4
"""Variance of a mean between trainings, as a part of that between images, with one model.

One training does not show how trainings differ. On the shipped panel, this part is between 0.24 and
0.37 for 90% of the yes-or-no checks, with a median of 0.29.
"""


@record
class ReferenceModel:
    """One reference model: its value of each check, and the curves behind them that figures draw.

    A panel of an earlier version has no curves.
    """

    path: str
    sha256: str
    seed: int | None
    values: dict[str, int | float]
    curves: tuple[Curve, ...] = ()


@record
class Chance:
    """Variance of a check's value by chance alone, as if models erred independently on each image.

    Attributes:
        variance: The variance of the value, in the square of the check's unit.
        rest: The mean value on the same clean images; None without a perturbation.
        answers: Whether each image contributes yes or no.
        hidden: The variance by sampling that reference models do not show, see `Sampling`.
    """

    variance: float
    rest: float | None = None
    answers: bool = False
    hidden: float = 0.0

    @staticmethod
    def of(measured: Sequence[Mapping[str, Any]]) -> Chance | None:
        """Return the variance by chance of a check from its entries in the reports of K models.

        Raises:
            InputError: If the models have different numbers of images.

        Returns:
            The variance, or None if the reports have no contributions of images.
        """
        texts = [str(entry.get("each") or "") for entry in measured]
        if not all(texts):
            return None
        contributions = [unpacked(text) for text in texts]
        if len({len(by_image) for by_image in contributions}) > 1:
            raise PanelError(
                f"check {measured[0]['id']}: networks have different numbers of images; measure "
                "again"
            )

        sum_of_variances = _sum_of_variances(contributions)
        variance = sum_of_variances
        if Unit(measured[0]["unit"]) is not Unit.IMAGES:
            variance = sum_of_variances / len(contributions[0]) ** 2  # Of a mean, not a count.

        rests = [entry["rest"] for entry in measured if entry.get("rest") is not None]
        rest = None
        if len(rests) == len(measured):
            rest = float(np.mean(rests))

        samplings = [entry.get("sampling") or {} for entry in measured]
        hidden = float(np.mean([sampling.get("hidden", 0.0) for sampling in samplings]))
        return Chance(
            variance=variance,
            rest=rest,
            answers=all(by_image.dtype == np.bool_ for by_image in contributions),
            hidden=max(hidden, 0.0),
        )


def _sum_of_variances(contributions: Sequence[np.ndarray]) -> float:
    """Return the sum over the images of the variance between models, (images,) for each of K.

    With errors that are independent given the image, it is the variance of the sum of all
    contributions (Jordan 2023, arXiv:2304.01910). The estimate of each image is unbiased.
    """
    by_model = [by_image.astype(np.float64) for by_image in contributions]
    if len(by_model) == 1:
        images = len(by_model[0])
        return float(ALONE * images * np.var(by_model[0]))
    return float(np.var(by_model, axis=0, ddof=1).sum())


@record
class Panel:
    """Reference models of one recipe, measured on the same images by the same tests.

    `sample` is the number of images that a quick profile measured, among those with this hash; None
    for all.
    """

    data_sha256: str
    protocol: int
    recipe: Mapping[str, Any]
    checks: tuple[PanelCheck, ...]
    models: tuple[ReferenceModel, ...]
    sample: int | PanelSample | None = None
    chance: dict[str, Chance] = field(default_factory=dict)
    """Variances by chance, by the check's id; a check without contributions of images has none."""
    groups_sha256: str | None = None
    """SHA-256 of the groups that checks of family `slice` measured."""
    domain: Domain = field(default_factory=Domain)
    """The augmentation range and the border of the measurements."""
    classes: int = 0
    """Number of classes of the data; 0 in a panel of an earlier version."""
    scored: bool = False
    """True if the models give a score for each image, and no classes."""

    def family(self, name: str) -> tuple[PanelCheck, ...]:
        """Return the checks of a family."""
        return tuple(check for check in self.checks if check.family == name)

    @property
    def families(self) -> tuple[str, ...]:
        """Return the names of the families, in the order of their checks."""
        return tuple(dict.fromkeys(check.family for check in self.checks))

    def values(self, checks: tuple[PanelCheck, ...]) -> np.ndarray:
        """Return the models' values of the checks, (models, checks) float64."""
        return np.array(
            [[model.values[check.id] for check in checks] for model in self.models],
            dtype=np.float64,
        )

    def at_chance(self, check: PanelCheck) -> float | None:
        """Return the value of a check for a model at chance level.

        None if the metric has no such value, if the number of classes is not known, and for scores.
        """
        if self.scored:
            return None
        metric = METRICS.get(check.metric)
        if metric is None or metric.at_chance is None or not self.classes:
            return None
        return metric.at_chance(self.classes)

    def curves(self) -> dict[str, tuple[Curve, ...]]:
        """Return the curves of all models by their name."""
        by_name: dict[str, list[Curve]] = {}
        for model in self.models:
            for curve in model.curves:
                by_name.setdefault(curve.name, []).append(curve)
        return {name: tuple(curves) for name, curves in by_name.items()}

    def joined(self, other: Panel, rows: Sequence[PanelCheck], *, curved: bool = False) -> Panel:
        """Return the panel with checks of another panel of the same models in front of its own.

        Args:
            other: The other panel.
            rows: The checks of the other panel to take.
            curved: Whether to take the other panel's curves, too. The panel keeps its own curve
                where both have one of the same name.
        """
        ids = [row.id for row in rows]
        models = []
        for model, other_model in zip(self.models, other.models, strict=True):
            values = {check_id: other_model.values[check_id] for check_id in ids}
            curves: dict[str, Curve] = {}
            if curved:
                curves.update((curve.name, curve) for curve in other_model.curves)
            curves.update((curve.name, curve) for curve in model.curves)
            models.append(
                replace(model, values=values | model.values, curves=tuple(curves.values()))
            )

        chance = {name: by_chance for name, by_chance in other.chance.items() if name in ids}
        return replace(
            self,
            checks=(*rows, *self.checks),
            models=tuple(models),
            chance=chance | self.chance,
        )

    def as_bytes(self) -> bytes:
        """Return the content of the file."""
        content = {"schema": SCHEMA, **as_plain(self)}
        if self.domain == Domain():
            del content["domain"]
        if not self.scored:
            del content["scored"]
        return (json.dumps(content, indent=1) + "\n").encode()


def recorded_curves(checks: ChecksFile, root: Path) -> dict[str, tuple[Curve, ...]]:
    """Return the curves of the reference models by name, from the panel of a checks file.

    Args:
        checks: The checks file, whose recipe names the panel's file.
        root: The folder that this name is relative to.

    Raises:
        InputError: As `read_panel` does, if that file exists.
    """
    name = checks.recipe.get("panel")
    if not name:
        return {}
    path = root / str(name)
    if not path.exists():
        return {}
    return read_panel(path, checks).curves()


def reference_models_of(checks: ChecksFile, root: Path = Path()) -> list[tuple[Path | str, str]]:
    """Return SPEC and SHA-256 of each model in the panel of a checks file, in a project at `root`.

    Raises `InputError` without a panel.
    """
    name = checks.recipe.get("panel")
    if not name:
        raise PanelError("the checks file names no panel")

    models: list[tuple[Path | str, str]] = []
    for model in read_panel(root / str(name), checks).models:
        spec = model_spec(model.path)
        if isinstance(spec, Path):
            spec = root / spec
        models.append((spec, model.sha256))
    return models


def readable_panel(path: Path) -> Panel | None:
    """Return the panel in a file; None if it cannot be read."""
    try:
        return read_panel(path)
    except InputError:
        return None


def read_panel(path: Path, checks: ChecksFile | None = None) -> Panel:
    """Read a panel; raises `InputError` if it is invalid or does not fit the checks."""
    try:
        panel = _parsed_panel(path)
    except OSError as unreadable:
        raise PanelError(f"{path}: cannot be read ({unreadable.strerror}); {_NEXT}") from None
    except (ValueError, RecursionError) as invalid:
        raise PanelError(f"{path}: not a panel ({invalid}); {_NEXT}") from None
    except PanelError as refused:
        raise PanelError(f"{refused}; {_NEXT}") from None

    if panel.protocol != PROTOCOL:
        raise PanelError(
            f"{path}: measured under protocol {panel.protocol}, this is {PROTOCOL}; calibrate again"
        )
    if checks is None:
        return panel
    _expect_data_of(checks, panel, path)
    return replace(panel, classes=len(checks.data.classes))


def _parsed_panel(path: Path) -> Panel:
    """Return the panel in a file, with a value of each check and a curve of each name per model."""
    plain = json.loads(read_regular(path, max_bytes=MAX_BYTES))
    schema = None
    if isinstance(plain, dict):
        schema = plain.pop("schema", None)
    if schema != SCHEMA:
        raise PanelError(refusal_of_schema(path, schema, expected=SCHEMA))
    plain.pop("multipliers", None)  # Earlier versions wrote them.
    panel = read_record(Panel, plain, where=f"{path}", error=PanelError)

    for model in panel.models:
        lacking = [check.id for check in panel.checks if check.id not in model.values]
        if lacking:
            raise PanelError(
                f"{path}: not a panel: {model.path} has no value for check {lacking[0]}"
            )
    for name, curves in panel.curves().items():
        lengths = set[int]().union(*map(_lengths_of, curves))
        if len(lengths) > 1 or len(curves) != len(panel.models):
            raise PanelError(
                f"{path}: not a panel: curves {name!r}: expected one of each model, as many points"
            )
    return panel


def _lengths_of(curve: Curve) -> set[int]:
    """Return the numbers of places, values and counts; a curve may have no counts."""
    lengths = {len(curve.at), len(curve.values)}
    if curve.counts:
        lengths.add(len(curve.counts))
    return lengths


def _expect_data_of(checks: ChecksFile, panel: Panel, path: Path) -> None:
    """Raise `InputError` for a panel of other images than those of the checks file."""
    if panel.data_sha256 != checks.data.sha256:
        raise PanelError(
            f"{path}: measured on data with SHA-256 {panel.data_sha256[:12]}, {checks.path} is for "
            f"{checks.data.sha256[:12]}; calibrate again"
        )
    expect_sample_of(checks, panel, path)
    if panel.domain != checks.data.domain:
        raise PanelError(
            f"{path}: measured with {domain_in_words(panel.domain)}, {checks.path} is for "
            f"{domain_in_words(checks.data.domain)}; calibrate again"
        )


def expect_sample_of(checks: ChecksFile, panel: Panel, path: Path) -> None:
    """Raise `InputError` for a panel of another sample than that of the checks file."""
    if panel.sample == checks.data.sample:
        return
    raise PanelError(
        f"{path}: measured on {_images_in_words(panel.sample)}, {checks.path} is for "
        f"{_images_in_words(checks.data.sample)}; name its own --panel"
    )


def _images_in_words(sample: int | PanelSample | None) -> str:
    if not sample:
        return "all images"
    return f"a sample of {sample} images"
