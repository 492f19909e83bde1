"""Reference panel: the measurements of each reference model, and their file, `models/panel.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.base.errors import InputError
from harness.base.files import read_regular
from harness.base.outputs import PANEL, Output
from harness.base.records import as_plain, read_record, record, refusal_of_schema
from harness.measures.metric import Unit, unpacked
from harness.measures.panel.threshold import PanelCheck
from harness.perturb import PROTOCOL
from harness.run.request import model_spec

if TYPE_CHECKING:
    from harness.checks import ChecksFile

SCHEMA = 2
MAX_BYTES = 256 << 20
"""Larger files are refused."""
ALONE = 0.4
"""Variance of one model's mean between trainings as a part of the variance between images.

It is between 0.24 and 0.37 for nine of ten yes-or-no checks of the shipped panel, with a median of 0.29."""


@record
class ReferenceModel:
    """One reference model and its value of each check."""

    path: str
    sha256: str
    seed: int | None
    values: dict[str, int | float]


@record
class Chance:
    """Variance of a check's value by chance alone, as if models erred independently on each image.

    `rest` is the mean value on the same images unperturbed, where the check has one. `answers` says whether each image
    contributes a yes or no.
    """

    variance: float
    rest: float | None = None
    answers: bool = False

    @staticmethod
    def of(measured: Sequence[Mapping[str, Any]]) -> Chance | None:
        """Return the variance by chance of a check by its entries in the reports of K models.

        It is the sum over the images of the unbiased variance of the models' contributions, over n^2 except for counts.
        None where the reports hold no contributions. Raises `InputError` for different numbers of images.
        """
        texts = [str(entry.get("each") or "") for entry in measured]
        if not all(texts):
            return None
        each = [unpacked(text) for text in texts]
        if len({len(values) for values in each}) > 1:
            raise InputError(f"check {measured[0]['id']}: networks tell of different numbers of images; measure again")
        n = len(each[0])
        by_image = np.var(each, axis=0, ddof=1).sum() if len(each) > 1 else ALONE * n * np.var(each[0])
        rests = [entry["rest"] for entry in measured if entry.get("rest") is not None]
        return Chance(
            variance=float(by_image if Unit(measured[0]["unit"]) is Unit.IMAGES else by_image / n**2),
            rest=float(np.mean(rests)) if len(rests) == len(measured) else None,
            answers=all(text.startswith("bool") for text in texts),
        )


@record
class Panel:
    """Reference models of one recipe, measured on the same images by the same tests.

    `sample` is how many images, of those with this hash, a quick profile measured; None for all.
    """

    data_sha256: str
    protocol: int
    recipe: Mapping[str, Any]
    checks: tuple[PanelCheck, ...]
    models: tuple[ReferenceModel, ...]
    sample: int | None = None
    chance: dict[str, Chance] = field(default_factory=dict)
    """By the check's id; a check whose measure does not say what each image contributes has none."""
    groups_sha256: str | None = None
    """Of the groups that checks of family `slice` were measured on."""
    multipliers: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """The multipliers k of each check's thresholds, by the check's id: one for each calibration that made others."""

    def family(self, name: str) -> tuple[PanelCheck, ...]:
        """Return the checks of a family."""
        return tuple(check for check in self.checks if check.family == name)

    @property
    def families(self) -> tuple[str, ...]:
        """Return the names of the families, in the order of their checks."""
        return tuple(dict.fromkeys(check.family for check in self.checks))

    def values(self, checks: tuple[PanelCheck, ...]) -> np.ndarray:
        """Return the models' values of the checks, (models, checks) float64."""
        return np.array([[model.values[check.id] for check in checks] for model in self.models], dtype=np.float64)

    def with_multipliers(self, made: Mapping[str, float], *, before: Panel | None) -> Panel:
        """Return the panel with the multipliers of thresholds made now, and those of the same models `before`.

        Several checks files may share a panel, each with thresholds of another calibration.
        """
        same = before is not None and [model.sha256 for model in before.models] == [
            model.sha256 for model in self.models
        ]
        earlier = before.multipliers if before is not None and same else {}
        return replace(
            self, multipliers={check: tuple(dict.fromkeys((*earlier.get(check, ()), k))) for check, k in made.items()}
        )

    def write(self, path: Path) -> None:
        """Write the panel as JSON, complete or not at all."""
        Output(path, PANEL).write(self.as_bytes())

    def as_bytes(self) -> bytes:
        """Return what `write` writes."""
        return (json.dumps({"schema": SCHEMA, **as_plain(self)}, indent=1) + "\n").encode()


def reference_models_of(checks: ChecksFile) -> list[tuple[Path | str, str]]:
    """Return path and SHA-256 of each model of the panel that a checks file names; raises `InputError` without one."""
    if not (named := checks.recipe.get("panel")):
        raise InputError("the checks file names no panel")
    return [(model_spec(member.path), member.sha256) for member in read_panel(Path(str(named)), checks).models]


def panel_at_hand(path: Path, checks: ChecksFile, *, partly: bool, expect_own: bool) -> Panel | None:
    """Return the panel in a file that is measured again `partly`; None where all is measured anew.

    With `expect_own`, raises `InputError` for a panel of another sample of the same data, which would be overwritten.
    """
    if expect_own:
        try:
            there = read_panel(path)
        except InputError:  # It is made anew.
            there = None
        if there and there.data_sha256 == checks.data.sha256:
            expect_sample_of(checks, there, path)
    return read_panel(path, checks) if partly else None


def read_panel(path: Path, checks: ChecksFile | None = None) -> Panel:
    """Read a panel that `Panel.write` wrote; raises `InputError` when it cannot be used, or not with these checks."""
    next_step = "`stress-harness calibrate` makes a panel"
    try:
        content = json.loads(read_regular(path, max_bytes=MAX_BYTES))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {next_step}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a panel ({error}); {next_step}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a panel, but {type(content).__name__}; {next_step}")
    if (schema := content.pop("schema", None)) != SCHEMA:
        raise InputError(f"{refusal_of_schema(path, schema, expected=SCHEMA)}; {next_step}")
    try:
        panel = read_record(Panel, content, where=f"{path}")
    except InputError as error:
        raise InputError(f"{error}; {next_step}") from None
    for model in panel.models:
        if lacking := [check.id for check in panel.checks if check.id not in model.values]:
            raise InputError(f"{path}: not a panel: {model.path} has no value for check {lacking[0]}; {next_step}")
    if panel.protocol != PROTOCOL:
        raise InputError(f"{path}: measured under protocol {panel.protocol}, this is {PROTOCOL}; calibrate anew")
    if checks is not None and panel.data_sha256 != checks.data.sha256:
        raise InputError(
            f"{path}: measured on data with SHA-256 {panel.data_sha256[:12]}, {checks.path} is for "
            f"{checks.data.sha256[:12]}; calibrate anew"
        )
    if checks is not None:
        expect_sample_of(checks, panel, path)
    return panel


def expect_sample_of(checks: ChecksFile, panel: Panel, path: Path) -> None:
    """Raise `InputError` for a panel that was measured on another sample than the checks file is for."""
    if panel.sample != checks.data.sample:
        measured, made_for = (f"a sample of {size}" if size else "all" for size in (panel.sample, checks.data.sample))
        raise InputError(
            f"{path}: measured on {measured} images, {checks.path} is for {made_for}; name its own --panel"
        )
