"""First gate of a repository: checks, the table of its settings, a workflow, ignored reports."""

from __future__ import annotations

import contextlib
import shlex
import tempfile
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.codes import Code
from harness.base.errors import ConfigurationError, InputError, OutputError, printable
from harness.base.files import write_all_or_none
from harness.calibration.calibrate import CalibrationRequest, calibrate
from harness.calibration.growth import grows_by_use, kept_for_panel
from harness.calibration.panel import readable_panel
from harness.calibration.samples import choose_samples
from harness.checks import read_checks
from harness.checks.declaration import declaration_of_none, declaration_path
from harness.checks.edits import with_data, with_domain, with_rows, with_settings
from harness.checks.families import (
    DEFAULT,
    FAMILIES,
    GEOMETRIC,
    families_of,
    offered,
    starter,
    starter_checks,
)
from harness.checks.roles import INCUMBENT, ROLES
from harness.checks.shipped import shipped_tests
from harness.checks.slices import PAIR, SLICE
from harness.checks.tables import HEAD, UNTIL_CALIBRATED, entries
from harness.data.groups import groups_in_words, groups_sha256
from harness.data.options import DataOptions
from harness.features.adoption.trial import expect_above_chance
from harness.features.adoption.workflow import WORKFLOW, workflow
from harness.measures.accuracy import confused_pairs
from harness.report.costs import plan_lines
from harness.run.budget import seconds_in
from harness.run.request import own_settings
from harness.run.settings import ModelSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager
    from typing import Any

    from harness.checks import ChecksFile
    from harness.checks.first_checks import StarterCheck
    from harness.data import LabelledImages
    from harness.data.domain import AugmentationRange
    from harness.inference import RoleModel
    from harness.run.budget import Plan

TESTS = "stress_tests"
_CHECKS = Path(TESTS, "checks.toml")
_CONFIGURED = {
    **dict.fromkeys(("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini"), ""),
    "pyproject.toml": "[tool.pytest",
    "tox.ini": "[pytest]",
    "setup.cfg": "[tool:pytest]",
}
"""The files that may configure pytest, each with the text that does so."""
_BELOW = 0.05
"""Distance of a proposed first threshold by hand below the model's accuracy."""


@dataclass(frozen=True)
class InitRequest:
    """A gate to make in a repository; paths are relative to its folder.

    `families` are names joined by commas, None for the default ones. The tests of `copied` families are copied, to be
    changed. `checkpoint` is a model: its confusions become checks, its run is timed, and a new gate is calibrated by it
    unless `no_calibrate`. `budget` is a time limit that determines samples, or `none` for all images. `gate` are the
    settings to write into the table of the checks file.
    """

    families: str | None = None
    copied: Sequence[str] = ()
    min_accuracy: float | None = None
    checkpoint: Path | str | None = None
    no_calibrate: bool = False
    budget: str = "30m"
    workflow: bool = False
    model: ModelSettings = field(default_factory=ModelSettings)
    gate: Mapping[str, Any] = field(default_factory=dict)


def initialize(request: InitRequest, folder: Path) -> list[str]:
    """Make the gate of the repository in this folder, and return lines on it and on the next steps.

    No existing file is replaced; families that a checks file lacks are added to it. Raises `InputError` before
    anything is written.
    """
    with contextlib.chdir(folder):  # Paths are relative to the folder that pytest runs in.
        if request.budget != "none":
            seconds_in(request.budget)
        first = bool(request.checkpoint) and not request.no_calibrate and not _CHECKS.exists()
        files, lines = _planned(request, folder)
        write_all_or_none(files)
        if _CHECKS in files and request.budget != "none":
            try:
                fit = _with_samples(request)
            except InputError as error:
                later = "`stress-harness calibrate --budget 30m` chooses samples that fit"
                lines.append(
                    f"how long a run takes is not known ({str(error).splitlines()[0]}); {later}"
                )
            else:
                # Calibration then states the drops of its own reference models.
                lines += ["cost of a run:", *plan_lines(fit, drops=not first)]
                if fit.samples:
                    where = f"{folder / _CHECKS}, [data.samples]"
                    lines.append(f"the samples stand in {where}; --budget none leaves them out")
        if first and request.checkpoint is not None:
            lines += _calibrated(request, request.checkpoint)
        further = _steps_to_thresholds(request, new=first)
    steps = [f"pytest {TESTS} --candidate {shlex.quote(str(request.checkpoint))}"]
    if not request.checkpoint:
        steps = [f"pytest {TESTS} --candidate FILE    # a checkpoint of yours"]
        steps += [
            "stress-harness export-inputs inputs    # for a model elsewhere: gate its predictions:FILE"
        ]
    if folder != Path():
        steps.insert(0, f"cd {shlex.quote(str(folder))}")
    return [*lines, "next:", *(f"  {step}" for step in [*steps, *further])]


def _steps_to_thresholds(request: InitRequest, *, new: bool) -> list[str]:
    """Return the next steps to more thresholds; without any, no model passes, so none can be accepted."""
    checks = read_checks(_CHECKS)
    panel = readable_panel(CalibrationRequest(_CHECKS).paths(checks)[0])
    judged = request.min_accuracy is not None or any(
        check.provenance == "panel" for check in checks.checks
    )
    accept = "stress-harness accept FILE    # a model that passes becomes the incumbent"
    steps = [
        "stress-harness calibrate --checkpoints FILE FILE ...    # 3 or more set the thresholds"
    ]
    if new and judged and panel and grows_by_use(panel):
        accept = "stress-harness accept --provisional FILE    # a retraining that passes joins the reference panel"
        return [*steps, accept]
    if request.checkpoint and not request.no_calibrate and not checks.recipe:
        own = shlex.quote(str(request.checkpoint))
        steps.insert(
            0,
            f"stress-harness calibrate --checkpoints {own}    # provisional thresholds by one model",
        )
    if new and not judged:
        steps.insert(
            0,
            f"write a threshold as `hand` into {_CHECKS}    # --min-accuracy does so for a new gate",
        )
    return [*steps, accept] if judged else steps


def _planned(request: InitRequest, here: Path) -> tuple[dict[Path, bytes], list[str]]:
    """Return the files to write, and lines on them."""
    families = None if request.families is None else families_of(request.families)
    table, files = _new_entries(request.gate), _copies(request.copied)
    images, accuracy, pairs = request.model.all_images(), None, list[tuple[str, str]]()
    model: RoleModel | None = None
    if request.checkpoint is not None:
        model = request.model.open(request.checkpoint, images)
        predictions = model.predict(images)
        expect_above_chance(model, predictions, request.checkpoint)
        pairs, accuracy = confused_pairs(predictions), float(predictions.correct.mean())
    declared = images.domain.augmentation if "augmentation" in request.model.given else None
    rows = starter_checks(
        images,
        families,
        pairs=pairs,
        min_accuracy=request.min_accuracy,
        augmentation=declared,
        model=model,
    )
    checks = read_checks(_CHECKS) if _CHECKS.exists() else None
    if checks and (checks.data.name, checks.data.sha256) == (images.name, images.sha256):
        rows = _lacking(checks, rows, request)
    else:
        checks = None
    if rows or (checks and table):
        text = _with_rows(checks, rows, images) if checks else starter(images, rows)
        if checks and not any(
            check.panel for check in checks.checks
        ):  # A panel's thresholds keep their domain.
            text = with_domain(text, images.domain)
        files[_CHECKS] = with_settings(text, table).encode()
    if request.workflow:
        files[Path(WORKFLOW)] = workflow(request.model, request.checkpoint).encode()
    weights, data = (
        Path("models", f"{ROLES[INCUMBENT].own}.safetensors"),
        request.model.part(DataOptions),
    )
    declaration = declaration_path(weights)
    if not (data == DataOptions() or declaration.exists() or weights.exists()):
        files[declaration] = declaration_of_none()
    same = [path for path in files if path.exists() and path.read_bytes() == files[path]]
    if other := [
        path
        for path in files
        if path.exists() and path not in same and not (checks and path == _CHECKS)
    ]:
        raise OutputError(
            f"{', '.join(map(str, other))}: exists with other content, so nothing was written. Move the file away if "
            "you want a new one"
        )
    new = {path: content for path, content in files.items() if path not in same} | _beside()
    lacking = [name for name in offered() if checks and not checks.family(name)]
    said = (
        f"{len(rows)} new, of {', '.join(dict.fromkeys(row.family for row in rows))}"
        if rows
        else "unchanged"
    )
    more = "" if rows else f"; --families adds some of {', '.join(lacking)}"
    lines = [
        f"checks: {said}, for {len(images)} images of {len(images.classes)} classes{more}",
        *(f"written: {here / path}" for path in new),
        *(
            f"unchanged: {here / path}"
            for path in sorted({*same, *([_CHECKS] if checks else [])} - new.keys())
        ),
    ]
    if not lacking:
        held = ", ".join(row.id for row in rows if "hand" in row.more)
        lines.append(
            f"with a threshold by hand: {held or 'none'}; all others are informational until calibrated"
        )
    if accuracy is not None:
        advice = _on_threshold(request.min_accuracy, accuracy, rows)
        lines.append(f"{request.checkpoint}: clean accuracy {accuracy:.1%}{advice}")
    lines += _on_augmentation(rows, families, declared)
    return new, lines + _on_groups(rows, lacking, images)


def _on_augmentation(
    rows: Sequence[StarterCheck], families: Sequence[str] | None, declared: AugmentationRange | None
) -> list[str]:
    """Return lines on checks of geometry that are left out, with the option that they come with."""
    if declared is None:
        if families is not None or not rows:
            return []
        return [
            "no checks of rotated, shifted or flipped images; they come with",
            '  stress-harness init --families rotation,shift --augmentation "rotate=10,shift_x=2,shift_y=2,flip=false"',
        ]
    made = {row.family for row in rows}
    wanted = DEFAULT if families is None else families
    lacking = [name for name in wanted if name in GEOMETRIC and name not in made]
    if not lacking or not (rows or families):
        return []
    return [f"left out: {', '.join(lacking)}; the augmentation range is {declared.in_words()}"]


def _copies(families: Sequence[str]) -> dict[Path, bytes]:
    if unknown := [name for name in families if not shipped_tests([name])]:
        known = ",".join(name for name in FAMILIES if shipped_tests([name]))
        raise InputError(
            f"--copy {unknown[0]}: no stress test of it ships; expected one of {known}"
        )
    return {Path(TESTS, test.name): test.read_bytes() for test in shipped_tests(families)}


def _on_groups(
    rows: Sequence[StarterCheck], lacking: Sequence[str], images: LabelledImages
) -> list[str]:
    """Return lines on the groups of the data, with the next step if no check is about them."""
    groups = {column: values for column, values in images.groups.items() if column != PAIR}
    said = f"groups: {printable(groups_in_words(groups))}"
    if groups and (new := [row for row in rows if row.family == SLICE]):
        paired = any("paired_by" in row.more for row in new)
        return [said + (f"; differences are compared by the column {PAIR}" if paired else "")]
    if groups and (SLICE in lacking if lacking else rows):
        return [f"{said}; each group gets a check by", "  stress-harness init --families slice"]
    return []


def _on_threshold(wanted: float | None, accuracy: float, rows: Sequence[StarterCheck]) -> str:
    """Return advice on the first threshold by hand; one far below the accuracy cannot catch a mutant."""
    if wanted is None:
        first = f'hand = {{ threshold = {max(accuracy - _BELOW, 0.01):.2f}, reason = "{UNTIL_CALIBRATED}" }}'
        new = any(row.id == "clean" for row in rows)
        return f"; for a first threshold, write {first} into the check clean" if new else ""
    if wanted > accuracy:
        return f", below --min-accuracy {wanted:g}"
    low = wanted < accuracy - 4 * _BELOW
    return (
        f"; a threshold as low as {wanted:g} may miss a mutant, and a run then ends with 4"
        if low
        else ""
    )


_GUARD = '''\
"""The stress tests are in the package stress-harness; without its plugin none is collected, which is no pass."""

import pytest


def pytest_collection_modifyitems(config):
    if not config.pluginmanager.hasplugin("harness.plugin"):
        raise pytest.UsageError("the gate in stress_tests needs the plugin harness.plugin; add -p harness.plugin")
'''


def _new_entries(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that the table of the checks file lacks; raises `InputError` if it has other values."""
    there = own_settings(Path())
    if other := {name: value for name, value in wanted.items() if there.get(name, value) != value}:
        has = "; ".join(entries({name: there[name] for name in other}))
        raise ConfigurationError(
            f"{_CHECKS}: its {HEAD} has {has}, but init was given {'; '.join(entries(other))}; nothing was written. "
            "Give init the same settings, or edit the table"
        )
    return {name: value for name, value in wanted.items() if name not in there}


def _beside() -> dict[Path, bytes]:
    """Return a configuration of pytest and a list of ignored files, where the repository lacks them.

    With the configuration, pytest loads the gate before other packages' plugins, which may fail to import. A
    guard stands beside a configuration that exists: it ends the run if pytest loads no plugins.
    """
    files: dict[Path, bytes] = {}
    texts = {name: Path(name).read_text("utf-8") for name in _CONFIGURED if Path(name).is_file()}
    guard = Path(TESTS, "conftest.py")
    if not any(_CONFIGURED[name] in text for name, text in texts.items()):
        own_tests = any(Path().glob("test*/")) or any(Path().glob("test_*.py"))
        places = "" if own_tests else f"testpaths = {TESTS}\n"
        files[Path("pytest.ini")] = f"[pytest]\n{places}addopts = -p harness.plugin\n".encode()
    elif not (guard.exists() or any("harness.plugin" in text for text in texts.values())):
        files[guard] = _GUARD.encode()
    path = Path(".gitignore")
    text = path.read_bytes() if path.is_file() else b""
    if not path.is_dir() and b"reports" not in (
        known.strip().strip(b"!/*") for known in text.splitlines()
    ):
        end = b"\r\n" if b"\r\n" in text else b"\n"
        files[path] = text + (end if text and not text.endswith(b"\n") else b"") + b"reports/" + end
    return files


def _lacking(
    checks: ChecksFile, rows: Sequence[StarterCheck], request: InitRequest
) -> tuple[StarterCheck, ...]:
    """Return the rows of the named families that a checks file lacks; existing rows do not change.

    Raises `InputError` for a threshold by hand that the existing rows do not have.
    """
    thresholds = [check.hand and check.hand.threshold for check in checks.family("clean")]
    if request.min_accuracy is not None and thresholds and request.min_accuracy not in thresholds:
        raise InputError(
            f"--min-accuracy {request.min_accuracy:g}: {checks.path} has rows of the family clean already, which do "
            f"not change; write hand = {{ threshold = {request.min_accuracy:g} }} into one by hand",
            code=Code.CHECKS,
        )
    if request.families is None and checks.written:
        return ()
    return tuple(row for row in rows if not checks.family(row.family))


def _with_rows(checks: ChecksFile, rows: Sequence[StarterCheck], images: LabelledImages) -> str:
    """Return the text of a checks file with these rows of the images at its end; raises `InputError` if none fits."""
    known = {check.id: check.family for check in checks.checks}
    if taken := next((row for row in rows if row.id in known), None):
        raise InputError(
            f"{checks.path}: the row {taken.id!r} of {taken.family} cannot be added, since one of {known[taken.id]} "
            "has this id; rename that one",
            code=Code.CHECKS,
        )
    text = checks.path.read_bytes().decode()
    if any(row.family == SLICE for row in rows) and checks.data.groups_sha256 is None:
        text = with_data(text, {"groups_sha256": groups_sha256(images.groups)})
    text = with_rows(text, [row.as_toml() for row in rows])
    # Checks in another form than tables take no further ones.
    with contextlib.suppress(ValueError):
        if len(tomllib.loads(text)["check"]) == len(checks.written) + len(rows):
            return text
    raise InputError(
        f"{checks.path}: rows cannot be added; write them as [[check]] by hand", code=Code.CHECKS
    )


def _calibrated(request: InitRequest, model: Path | str) -> list[str]:
    """Set thresholds by the checkpoint, and return lines on them; the panel has a copy of a file."""
    calibration = CalibrationRequest(_CHECKS, model=request.model, gate_options=_device(request))
    keeping: AbstractContextManager[Path | str] = contextlib.nullcontext(model)
    if isinstance(model, Path) and model.is_file():
        keeping = kept_for_panel(model, calibration.paths(read_checks(_CHECKS))[0])
    try:
        with keeping as kept:
            return calibrate(replace(calibration, checkpoints=(kept,)))
    except InputError as error:
        return [
            f"no threshold is set: {error}",
            "`stress-harness calibrate --checkpoints FILE` sets them later",
        ]


def _device(request: InitRequest) -> tuple[str, ...]:
    return () if request.model.device == "auto" else ("--stress-device", request.model.device)


def _with_samples(request: InitRequest) -> Plan:
    """Write samples that fit the budget into the checks file, and return the plan of a run.

    Without a checkpoint, an untrained network is timed. Raises `InputError`, and writes nothing, without a network to
    measure, or if it fails.
    """
    plans: list[Plan] = []
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = request.checkpoint
        if not checkpoint:
            import torch

            if (build := request.model.builder()) is None:
                raise InputError("without --checkpoint or --model")
            checkpoint = Path(folder, "untrained.pth")
            torch.save(build().state_dict(), checkpoint)
        checks, options = read_checks(_CHECKS), _device(request)
        choose_samples(
            request.budget, checks, checkpoint, options=options, on_fit=plans.append, anew=False
        )
    return plans[0]
