"""Reference panel: the measurements of each reference model, and their file, `models/panel.json`."""

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
"""Size of the largest file."""
_NEXT = "`stress-harness calibrate` makes a panel"
ALONE = 0.4
"""Variance of a mean between trainings as a part of the variance between images, for a panel of one model.

It is between 0.24 and 0.37 for 90% of the yes-or-no checks of the shipped panel, with a median of 0.29."""


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

    `rest` is the mean value on the same clean images, if the check has one. `answers` is true if each image contributes
    yes or no. `hidden` is the variance by sampling that reference models do not show, see `Sampling`.
    """

    variance: float
    rest: float | None = None
    answers: bool = False
    hidden: float = 0.0

    @staticmethod
    def of(measured: Sequence[Mapping[str, Any]]) -> Chance | None:
        """Return the variance by chance of a check from its entries in the reports of K models.

        It is the sum over the images of the unbiased variance of the models' contributions, over n^2 except for counts.
        None if the reports have no contributions. Raises `InputError` for different numbers of images.
        """
        texts = [str(entry.get("each") or "") for entry in measured]
        if not all(texts):
            return None
        found = [unpacked(text) for text in texts]
        each = [values.astype(np.float64) for values in found]
        if len({len(values) for values in each}) > 1:
            raise PanelError(
                f"check {measured[0]['id']}: networks have different numbers of images; measure again"
            )
        n = len(each[0])
        by_image = (
            np.var(each, axis=0, ddof=1).sum() if len(each) > 1 else ALONE * n * np.var(each[0])
        )
        rests = [entry["rest"] for entry in measured if entry.get("rest") is not None]
        return Chance(
            variance=float(
                by_image if Unit(measured[0]["unit"]) is Unit.IMAGES else by_image / n**2
            ),
            rest=float(np.mean(rests)) if len(rests) == len(measured) else None,
            answers=all(values.dtype == np.bool_ for values in found),
            hidden=max(
                float(
                    np.mean(
                        [(entry.get("sampling") or {}).get("hidden", 0.0) for entry in measured]
                    )
                ),
                0.0,
            ),
        )


@record
class Panel:
    """Reference models of one recipe, measured on the same images by the same tests.

    `sample` is the number of images that a quick profile measured, among those with this hash; None for all.
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
        """Return the value of a model at chance level; None if the metric has none or the classes are not known."""
        metric = METRICS.get(check.metric)
        return (
            metric.at_chance(self.classes) if metric and metric.at_chance and self.classes else None
        )

    def curves(self) -> dict[str, tuple[Curve, ...]]:
        """Return the curves of all models by their name."""
        names = dict.fromkeys(curve.name for model in self.models for curve in model.curves)
        return {
            name: tuple(
                curve for model in self.models for curve in model.curves if curve.name == name
            )
            for name in names
        }

    def joined(self, other: Panel, rows: Sequence[PanelCheck], *, curved: bool = False) -> Panel:
        """Return the panel with these checks of another panel of the same models in front, and its curves if `curved`.

        Of curves with one name, it keeps its own.
        """
        ids = [row.id for row in rows]
        models = tuple(
            replace(
                model,
                values={**{name: old.values[name] for name in ids}, **model.values},
                curves=tuple(
                    {
                        each.name: each for each in (*(old.curves if curved else ()), *model.curves)
                    }.values()
                ),
            )
            for model, old in zip(self.models, other.models, strict=True)
        )
        chance = {
            **{name: found for name, found in other.chance.items() if name in ids},
            **self.chance,
        }
        return replace(self, checks=(*rows, *self.checks), models=models, chance=chance)

    def as_bytes(self) -> bytes:
        """Return the content of the file."""
        content = {"schema": SCHEMA, **as_plain(self)}
        if self.domain == Domain():
            del content["domain"]
        return (json.dumps(content, indent=1) + "\n").encode()


def recorded_curves(checks: ChecksFile, root: Path) -> dict[str, tuple[Curve, ...]]:
    """Return the curves of the reference models by name, from the panel below `root`; raises as `read_panel` does."""
    named = checks.recipe.get("panel")
    return (
        read_panel(path, checks).curves() if named and (path := root / str(named)).exists() else {}
    )


def reference_models_of(checks: ChecksFile, root: Path = Path()) -> list[tuple[Path | str, str]]:
    """Return path and SHA-256 of each model in the panel of a checks file, in a project at `root`.

    Raises `InputError` without a panel.
    """
    if not (named := checks.recipe.get("panel")):
        raise PanelError("the checks file names no panel")
    specs = [
        (model_spec(each.path), each.sha256)
        for each in read_panel(root / str(named), checks).models
    ]
    return [(root / spec if isinstance(spec, Path) else spec, sha256) for spec, sha256 in specs]


def readable_panel(path: Path) -> Panel | None:
    """Return the panel in a file; None if it cannot be read."""
    try:
        return read_panel(path)
    except InputError:
        return None


def read_panel(path: Path, checks: ChecksFile | None = None) -> Panel:
    """Read a panel; raises `InputError` if it is invalid or does not fit the checks."""
    try:
        plain = json.loads(read_regular(path, max_bytes=MAX_BYTES))
        schema = plain.pop("schema", None) if isinstance(plain, dict) else None
        if schema != SCHEMA:
            raise PanelError(refusal_of_schema(path, schema, expected=SCHEMA))
        plain.pop("multipliers", None)  # Earlier versions wrote them.
        panel = read_record(Panel, plain, where=f"{path}", error=PanelError)
        for model in panel.models:
            if lacking := [check.id for check in panel.checks if check.id not in model.values]:
                raise PanelError(
                    f"{path}: not a panel: {model.path} has no value for check {lacking[0]}"
                )
        for name, curves in panel.curves().items():
            points = {
                len(row)
                for curve in curves
                for row in (curve.at, curve.values, curve.counts or curve.at)
            }
            if len(points) > 1 or len(curves) != len(panel.models):
                raise PanelError(
                    f"{path}: not a panel: curves {name!r}: expected one of each model, as many points"
                )
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
    if checks is not None:
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
        panel = replace(panel, classes=len(checks.data.classes))
    return panel


def expect_sample_of(checks: ChecksFile, panel: Panel, path: Path) -> None:
    """Raise `InputError` for a panel of another sample than that of the checks file."""
    if panel.sample != checks.data.sample:
        measured, made_for = (
            f"a sample of {size}" if size else "all" for size in (panel.sample, checks.data.sample)
        )
        raise PanelError(
            f"{path}: measured on {measured} images, {checks.path} is for {made_for}; name its own --panel"
        )
