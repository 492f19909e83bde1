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

    Attributes:
        families: Names joined by commas; None for the default families.
        copied: Families whose tests are copied, to be changed.
        min_accuracy: A threshold by hand on clean accuracy.
        checkpoint: A model. Its confusions become checks, its run is timed, and a new gate is
            calibrated by it unless `no_calibrate`.
        no_calibrate: Whether the checkpoint sets no thresholds.
        budget: A time limit that determines samples, or `none` for all images.
        workflow: Whether to write a workflow for CI.
        model: Settings of models and data.
        gate: Settings to write into the table of the checks file.
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
    """Make the gate of the repository in a folder.

    No existing file is replaced; families that a checks file lacks are added to it.

    Args:
        request: The gate to make.
        folder: The repository.

    Returns:
        Lines on the gate and on the next steps.

    Raises:
        InputError: The gate cannot be made; then nothing is written.
    """
    # Paths are relative to the folder that pytest runs in.
    with contextlib.chdir(folder):
        if request.budget != "none":
            seconds_in(request.budget)
        is_new = not _CHECKS.exists()
        files, lines = _planned(request, folder)
        write_all_or_none(files)

        calibrates = bool(request.checkpoint) and not request.no_calibrate and is_new
        if _CHECKS in files and request.budget != "none":
            # Calibration then states the drops of its own reference models.
            lines += _on_costs(request, folder, drops=not calibrates)
        if calibrates and request.checkpoint is not None:
            lines += _calibrated(request, request.checkpoint)
        steps = [*_steps_to_run(request), *_steps_to_thresholds(request, new=calibrates)]

    if folder != Path():
        steps.insert(0, f"cd {shlex.quote(str(folder))}")
    return [*lines, "next:", *(f"  {step}" for step in steps)]


def _on_costs(request: InitRequest, folder: Path, *, drops: bool) -> list[str]:
    """Choose samples that fit the budget, and return lines on the cost of a run."""
    try:
        plan = _with_samples(request)
    except InputError as error:
        reason = str(error).splitlines()[0]
        later = "`stress-harness calibrate --budget 30m` chooses samples that fit"
        return [f"how long a run takes is not known ({reason}); {later}"]

    lines = ["cost of a run:", *plan_lines(plan, drops=drops)]
    if plan.samples:
        where = f"{folder / _CHECKS}, [data.samples]"
        lines.append(f"the samples stand in {where}; --budget none leaves them out")
    return lines


def _steps_to_run(request: InitRequest) -> list[str]:
    """Return the next steps to a run of the gate."""
    if request.checkpoint:
        return [f"pytest {TESTS} --candidate {shlex.quote(str(request.checkpoint))}"]
    return [
        f"pytest {TESTS} --candidate FILE    # a checkpoint of yours",
        "stress-harness export-inputs inputs    # for a model elsewhere: gate its predictions:FILE",
    ]


def _steps_to_thresholds(request: InitRequest, *, new: bool) -> list[str]:
    """Return the next steps to more thresholds.

    Without any threshold no model passes, so that none can be accepted.
    """
    checks = read_checks(_CHECKS)
    panel = readable_panel(CalibrationRequest(_CHECKS).paths(checks)[0])
    has_threshold = request.min_accuracy is not None or any(
        check.provenance == "panel" for check in checks.checks
    )
    steps = [
        "stress-harness calibrate --checkpoints FILE FILE ...    # 3 or more set the thresholds"
    ]
    if new and has_threshold and panel and grows_by_use(panel):
        accept = (
            "stress-harness accept --provisional FILE    "
            "# a retraining that passes joins the reference panel"
        )
        return [*steps, accept]

    if request.checkpoint and not request.no_calibrate and not checks.recipe:
        checkpoint = shlex.quote(str(request.checkpoint))
        provisional = (
            f"stress-harness calibrate --checkpoints {checkpoint}    "
            "# provisional thresholds by one model"
        )
        steps.insert(0, provisional)
    if new and not has_threshold:
        by_hand = (
            f"write a threshold as `hand` into {_CHECKS}    # --min-accuracy does so for a new gate"
        )
        steps.insert(0, by_hand)
    if has_threshold:
        accept = "stress-harness accept FILE    # a model that passes becomes the incumbent"
        steps.append(accept)
    return steps


def _planned(request: InitRequest, here: Path) -> tuple[dict[Path, bytes], list[str]]:
    """Return the files to write, and lines on them."""
    families = None
    if request.families is not None:
        families = families_of(request.families)
    settings = _new_entries(request.gate)
    files = _copies(request.copied)
    images = request.model.all_images()
    trial = _trial(request, images)
    augmentation = None
    if "augmentation" in request.model.given:
        augmentation = images.domain.augmentation
    rows = starter_checks(
        images,
        families,
        pairs=trial.pairs,
        min_accuracy=request.min_accuracy,
        augmentation=augmentation,
        model=trial.model,
    )

    checks = _checks_of(images)
    if checks is not None:
        rows = _lacking(checks, rows, request)
    if rows or (checks is not None and settings):
        files[_CHECKS] = with_settings(_checks_text(checks, rows, images), settings).encode()
    if request.workflow:
        files[Path(WORKFLOW)] = workflow(request.model, request.checkpoint).encode()
    files |= _declaration(request)

    unchanged = _unchanged(files, may_change=checks is not None)
    new_files = {path: content for path, content in files.items() if path not in unchanged}
    new_files |= _beside()
    lacking_families: list[str] = []
    if checks is not None:
        unchanged.add(_CHECKS)
        lacking_families = [name for name in offered() if not checks.family(name)]

    lines = [
        _on_rows(rows, lacking_families, images),
        *(f"written: {here / path}" for path in new_files),
        *(f"unchanged: {here / path}" for path in sorted(unchanged - new_files.keys())),
    ]
    if not lacking_families:
        by_hand = ", ".join(row.id for row in rows if "hand" in row.more)
        lines.append(
            f"with a threshold by hand: {by_hand or 'none'}; "
            "all others are informational until calibrated"
        )
    if trial.accuracy is not None:
        advice = _on_threshold(request.min_accuracy, trial.accuracy, rows)
        lines.append(f"{request.checkpoint}: clean accuracy {trial.accuracy:.1%}{advice}")
    lines += _on_augmentation(rows, families, augmentation)
    lines += _on_groups(rows, lacking_families, images)
    return new_files, lines


@dataclass(frozen=True)
class _Trial:
    """Facts about the checkpoint on all images, if init has one.

    Attributes:
        model: The model.
        pairs: Its confused pairs of classes.
        accuracy: Its clean accuracy, in [0, 1].
    """

    model: RoleModel | None = None
    pairs: Sequence[tuple[str, str]] = ()
    accuracy: float | None = None


def _trial(request: InitRequest, images: LabelledImages) -> _Trial:
    """Return what the checkpoint of a request shows; raises `InputError` for one at chance."""
    if request.checkpoint is None:
        return _Trial()
    model = request.model.open(request.checkpoint, images)
    predictions = model.predict(images)
    expect_above_chance(model, predictions, request.checkpoint)
    accuracy = float(predictions.correct.mean())
    return _Trial(model, confused_pairs(predictions), accuracy)


def _checks_of(images: LabelledImages) -> ChecksFile | None:
    """Return the checks file of the repository; None without one for these images."""
    if not _CHECKS.exists():
        return None
    checks = read_checks(_CHECKS)
    if (checks.data.name, checks.data.sha256) != (images.name, images.sha256):
        return None
    return checks


def _checks_text(
    checks: ChecksFile | None, rows: Sequence[StarterCheck], images: LabelledImages
) -> str:
    """Return the text of the checks file with new rows, without settings."""
    if checks is None:
        return starter(images, rows)
    text = _with_rows(checks, rows, images)
    # A panel's thresholds keep their domain.
    if any(check.panel for check in checks.checks):
        return text
    return with_domain(text, images.domain)


def _declaration(request: InitRequest) -> dict[Path, bytes]:
    """Return the file that declares that there is no incumbent, if it is needed."""
    weights = Path("models", f"{ROLES[INCUMBENT].own}.safetensors")
    declaration = declaration_path(weights)
    has_own_data = request.model.part(DataOptions) != DataOptions()
    if not has_own_data or declaration.exists() or weights.exists():
        return {}
    return {declaration: declaration_of_none()}


def _unchanged(files: Mapping[Path, bytes], *, may_change: bool) -> set[Path]:
    """Return the files that exist with the same content.

    Raises `OutputError` if others exist, except the checks file if it `may_change`.
    """
    existing = [path for path in files if path.exists()]
    unchanged = [path for path in existing if path.read_bytes() == files[path]]
    changed = [path for path in existing if path not in unchanged]
    if may_change:
        changed = [path for path in changed if path != _CHECKS]
    if changed:
        raise OutputError(
            f"{', '.join(map(str, changed))}: exists with other content, so nothing was written. "
            "Move the file away if you want a new one"
        )
    return set(unchanged)


def _on_rows(
    rows: Sequence[StarterCheck], lacking_families: Sequence[str], images: LabelledImages
) -> str:
    """Return the line on the checks file."""
    scope = f"for {len(images)} images of {len(images.classes)} classes"
    if not rows:
        names = ", ".join(lacking_families)
        return f"checks: unchanged, {scope}; --families adds some of {names}"
    families = ", ".join(dict.fromkeys(row.family for row in rows))
    return f"checks: {len(rows)} new, of {families}, {scope}"


def _on_augmentation(
    rows: Sequence[StarterCheck], families: Sequence[str] | None, declared: AugmentationRange | None
) -> list[str]:
    """Return lines on checks of geometry that are left out, with the option that adds them."""
    if declared is None:
        if families is not None or not rows:
            return []
        return [
            "no checks of rotated, shifted or flipped images; they come with",
            "  stress-harness init --families rotation,shift "
            '--augmentation "rotate=10,shift_x=2,shift_y=2,flip=false"',
        ]

    if not rows and not families:
        return []
    requested_families = families
    if requested_families is None:
        requested_families = DEFAULT
    families_of_rows = {row.family for row in rows}
    left_out = [
        name for name in requested_families if name in GEOMETRIC and name not in families_of_rows
    ]
    if not left_out:
        return []
    return [f"left out: {', '.join(left_out)}; the augmentation range is {declared.in_words()}"]


def _copies(families: Sequence[str]) -> dict[Path, bytes]:
    """Return copies of the stress tests of these families, by their paths."""
    for name in families:
        if not shipped_tests([name]):
            choices = ",".join(family for family in FAMILIES if shipped_tests([family]))
            raise InputError(
                f"--copy {name}: no stress test of it ships; expected one of {choices}"
            )
    return {Path(TESTS, test.name): test.read_bytes() for test in shipped_tests(families)}


def _on_groups(
    rows: Sequence[StarterCheck], lacking_families: Sequence[str], images: LabelledImages
) -> list[str]:
    """Return lines on the groups of the data, with the next step if no check is about them."""
    groups = {column: values for column, values in images.groups.items() if column != PAIR}
    if not groups:
        return []
    line = f"groups: {printable(groups_in_words(groups))}"
    slice_rows = [row for row in rows if row.family == SLICE]
    if slice_rows:
        if any("paired_by" in row.more for row in slice_rows):
            line += f"; differences are compared by the column {PAIR}"
        return [line]

    is_offered = bool(rows)
    if lacking_families:
        is_offered = SLICE in lacking_families
    if not is_offered:
        return []
    return [f"{line}; each group gets a check by", "  stress-harness init --families slice"]


def _on_threshold(min_accuracy: float | None, accuracy: float, rows: Sequence[StarterCheck]) -> str:
    """Return advice on the first threshold by hand, behind the model's accuracy."""
    if min_accuracy is None:
        if not any(row.id == "clean" for row in rows):
            return ""
        threshold = max(accuracy - _BELOW, 0.01)
        by_hand = f'hand = {{ threshold = {threshold:.2f}, reason = "{UNTIL_CALIBRATED}" }}'
        return f"; for a first threshold, write {by_hand} into the check clean"

    if min_accuracy > accuracy:
        return f", below --min-accuracy {min_accuracy:g}"
    # A threshold far below the accuracy cannot catch a mutant.
    if min_accuracy < accuracy - 4 * _BELOW:
        return (
            f"; a threshold as low as {min_accuracy:g} may miss a mutant, "
            "and a run then ends with 4"
        )
    return ""


_GUARD = '''\
"""Without the plugin of stress-harness no stress test is collected, which is no pass."""

import pytest


def pytest_collection_modifyitems(config):
    if not config.pluginmanager.hasplugin("harness.plugin"):
        raise pytest.UsageError(
            "the gate in stress_tests needs the plugin harness.plugin; add -p harness.plugin"
        )
'''


def _new_entries(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that the table of the checks file lacks.

    Raises `ConfigurationError` if the table has other values for some.
    """
    existing = own_settings(Path())
    conflicts = {
        name: value for name, value in settings.items() if existing.get(name, value) != value
    }
    if conflicts:
        in_table = "; ".join(entries({name: existing[name] for name in conflicts}))
        raise ConfigurationError(
            f"{_CHECKS}: its {HEAD} has {in_table}, but init was given "
            f"{'; '.join(entries(conflicts))}; nothing was written. "
            "Give init the same settings, or edit the table"
        )
    return {name: value for name, value in settings.items() if name not in existing}


def _beside() -> dict[Path, bytes]:
    """Return the configuration of pytest and the ignored files that a repository lacks."""
    return _pytest_configuration() | _ignored_files()


def _pytest_configuration() -> dict[Path, bytes]:
    """Return the configuration of pytest, or a guard beside a configuration that exists.

    With the configuration, pytest loads the gate before other packages' plugins, which may fail to
    import. The guard ends the run if pytest loads no plugins.
    """
    texts = {name: Path(name).read_text("utf-8") for name in _CONFIGURED if Path(name).is_file()}
    is_configured = any(_CONFIGURED[name] in text for name, text in texts.items())
    if not is_configured:
        has_tests = any(Path().glob("test*/")) or any(Path().glob("test_*.py"))
        places = f"testpaths = {TESTS}\n"
        if has_tests:
            places = ""
        return {Path("pytest.ini"): f"[pytest]\n{places}addopts = -p harness.plugin\n".encode()}

    guard = Path(TESTS, "conftest.py")
    if guard.exists() or any("harness.plugin" in text for text in texts.values()):
        return {}
    return {guard: _GUARD.encode()}


def _ignored_files() -> dict[Path, bytes]:
    """Return a `.gitignore` with the reports, in the line ends of an existing one."""
    path = Path(".gitignore")
    if path.is_dir():
        return {}
    text = b""
    if path.is_file():
        text = path.read_bytes()
    patterns = [line.strip().strip(b"!/*") for line in text.splitlines()]
    if b"reports" in patterns:
        return {}

    end = b"\n"
    if b"\r\n" in text:
        end = b"\r\n"
    if text and not text.endswith(b"\n"):
        text += end
    return {path: text + b"reports/" + end}


def _lacking(
    checks: ChecksFile, rows: Sequence[StarterCheck], request: InitRequest
) -> tuple[StarterCheck, ...]:
    """Return the rows of the named families that a checks file lacks; existing rows do not change.

    Raises `InputError` for a threshold by hand that the existing rows do not have.
    """
    thresholds = [check.hand and check.hand.threshold for check in checks.family("clean")]
    if request.min_accuracy is not None and thresholds and request.min_accuracy not in thresholds:
        raise InputError(
            f"--min-accuracy {request.min_accuracy:g}: {checks.path} has rows of the family clean "
            "already, which do not change; "
            f"write hand = {{ threshold = {request.min_accuracy:g} }} into one by hand",
            code=Code.CHECKS,
        )
    if request.families is None and checks.written:
        return ()
    return tuple(row for row in rows if not checks.family(row.family))


def _with_rows(checks: ChecksFile, rows: Sequence[StarterCheck], images: LabelledImages) -> str:
    """Return the text of a checks file with these rows at its end.

    Raises `InputError` if an id is taken, or if the file has another form.
    """
    families_by_id = {check.id: check.family for check in checks.checks}
    for row in rows:
        if row.id in families_by_id:
            raise InputError(
                f"{checks.path}: the row {row.id!r} of {row.family} cannot be added, since one of "
                f"{families_by_id[row.id]} has this id; rename that one",
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
    """Set thresholds by a checkpoint, whose copy joins the panel, and return lines on them."""
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
    """Return the options of a run for the device of a request."""
    if request.model.device == "auto":
        return ()
    return ("--stress-device", request.model.device)


def _with_samples(request: InitRequest) -> Plan:
    """Write samples that fit the budget into the checks file, and return the plan of a run.

    Raises `InputError`, and writes nothing, without a network to measure, or if it fails.
    """
    plans: list[Plan] = []
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = request.checkpoint or _untrained(request, Path(folder))
        choose_samples(
            request.budget,
            read_checks(_CHECKS),
            checkpoint,
            options=_device(request),
            on_fit=plans.append,
            anew=False,
        )
    return plans[0]


def _untrained(request: InitRequest, folder: Path) -> Path:
    """Return the file of an untrained network, which takes as long as a trained one."""
    import torch

    build = request.model.builder()
    if build is None:
        raise InputError("without --checkpoint or --model")
    path = folder / "untrained.pth"
    torch.save(build().state_dict(), path)
    return path
