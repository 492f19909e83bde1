"""First gate of a repository: tests, checks, the table of its settings, a workflow, ignored reports."""

from __future__ import annotations

import contextlib
import re
import tempfile
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base import outputs
from harness.base.codes import Code
from harness.base.errors import ConfigurationError, InputError, OutputError
from harness.base.files import write_all_or_none
from harness.calibration.ci_workflow import WORKFLOW, workflow
from harness.calibration.rewrite import fit_for, samples_in_toml, with_samples
from harness.checks import read_checks
from harness.checks.declaration import declaration_of_none, declaration_path
from harness.checks.roles import INCUMBENT, ROLES
from harness.checks.slices import SLICE
from harness.checks.starter import families_of, offered, starter, starter_checks
from harness.checks.starter_check import shipped_tests
from harness.checks.tables import HEAD, entries, with_settings
from harness.data.groups import groups_sha256
from harness.data.options import DataOptions
from harness.measures.accuracy import confused_pairs
from harness.run.budget import seconds_in
from harness.run.request import own_settings
from harness.run.settings import ModelSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from harness.checks import ChecksFile
    from harness.checks.starter_check import StarterCheck
    from harness.data import LabelledImages
    from harness.networks import NetworkOptions
    from harness.run.budget import Plan

TESTS, CHECKS = "stress_tests", "checks.toml"
_PYTEST = Path("pytest.ini")
_CONFIGURED = {
    **dict.fromkeys(("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini"), ""),
    "pyproject.toml": "[tool.pytest",
    "tox.ini": "[pytest]",
    "setup.cfg": "[tool:pytest]",
}
"""The files that may configure pytest, each with the text that does so."""


@dataclass(frozen=True)
class InitRequest:
    """A gate to make in a repository; paths are relative to its folder.

    `families` are names joined by commas, None for the default ones. `checkpoint` is a model: its confusions become
    checks, and its run is timed. `budget` is a time limit that determines samples, or `none` for all images.
    `gate` are the settings to write into the table of the checks file.
    """

    families: str | None = None
    min_accuracy: float | None = None
    checkpoint: Path | str | None = None
    budget: str = "30m"
    workflow: bool = False
    model: ModelSettings = field(default_factory=ModelSettings)
    gate: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Initialized:
    """The first gate of a repository: `written` and `unchanged` files, for these images and checks.

    `lacking` are families that the checks file did not have before. `accuracy` is that of the checkpoint on the clean
    images. `fit` is the plan of a run within the budget, and `unfit` the reason for a missing plan.
    """

    written: tuple[Path, ...]
    unchanged: tuple[Path, ...]
    images: LabelledImages
    rows: tuple[StarterCheck, ...]
    lacking: tuple[str, ...] = ()
    accuracy: float | None = None
    fit: Plan | None = None
    unfit: str = ""


def initialize(request: InitRequest, folder: Path) -> Initialized:
    """Make the gate of the repository in this folder; raises `InputError` before anything is written.

    No existing file is replaced; families that a checks file lacks are added to it.
    """
    with contextlib.chdir(folder):  # Paths are relative to the folder that pytest runs in.
        if request.budget != "none":
            seconds_in(request.budget)
        files, done = _planned(request)
        write_all_or_none(files)
        checks = Path(TESTS, CHECKS)
        if checks not in files or request.budget == "none":
            return done
        try:
            return replace(done, fit=_with_samples(request, checks))
        except InputError as error:
            return replace(done, unfit=str(error).splitlines()[0])


def _planned(request: InitRequest) -> tuple[dict[Path, bytes], Initialized]:
    families = None if request.families is None else families_of(request.families)
    table = _new_entries(request.gate)
    images = request.model.all_images()
    pairs: list[tuple[str, str]] = []
    accuracy: float | None = None
    if request.checkpoint is not None:
        predictions = request.model.open(request.checkpoint, images).predict(images)
        pairs, accuracy = confused_pairs(predictions), float(predictions.correct.mean())
    rows = starter_checks(images, families, pairs=pairs, min_accuracy=request.min_accuracy)
    checks = _checks_there(Path(TESTS, CHECKS), images)
    if checks:
        rows = _lacking(checks, rows, request)
    tests = [test for test in shipped_tests() if any(test.takes_check(row.family, row.metric) for row in rows)]
    texts = {Path(TESTS, test.name): test.text for test in tests if not (checks and Path(TESTS, test.name).exists())}
    if rows or (checks and table):
        text = _with_rows(checks, rows, images) if checks else starter(images, rows)
        texts[Path(TESTS, CHECKS)] = with_settings(text, table)
    if request.workflow:
        predictor = isinstance(request.checkpoint, str)
        candidate = _candidate(request.checkpoint)
        texts[Path(WORKFLOW)] = workflow(Path(), request.model, candidate=candidate, predictor=predictor)
    files = {path: text.encode() for path, text in texts.items()} | _no_incumbent(request)
    there = [path for path in files if path.exists() and path.read_bytes() == files[path]]
    ours = {Path(TESTS, CHECKS)} if checks else set()
    if other := [path for path in files if path.exists() and path not in {*there, *ours}]:
        raise OutputError(
            f"{', '.join(map(str, other))}: exists with other content, so nothing was written. Move the file away if "
            "you want a new one"
        )
    new = {path: content for path, content in files.items() if path not in there} | _configuration() | _ignored()
    kept = [Path(TESTS, CHECKS), *sorted(Path(TESTS).glob("test_*.py"))] if checks else []
    unchanged = tuple(dict.fromkeys(path for path in (*kept, *there) if path not in new))
    lacking = tuple(name for name in offered() if checks and not checks.family(name))
    return new, Initialized(tuple(new), unchanged, images, tuple(rows), lacking, accuracy)


def _no_incumbent(request: InitRequest) -> dict[Path, bytes]:
    weights = Path("models", f"{ROLES[INCUMBENT].own}.safetensors")
    path = declaration_path(weights)
    shipped = request.model.part(DataOptions) == DataOptions()
    return {} if shipped or path.exists() or weights.exists() else {path: declaration_of_none()}


def _new_entries(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that the table of the checks file lacks; raises `InputError` if it has other values."""
    path = Path(TESTS, CHECKS)
    there = own_settings(Path())
    if other := {name: value for name, value in wanted.items() if there.get(name, value) != value}:
        raise ConfigurationError(
            f"{path}: its {HEAD} has {'; '.join(entries({name: there[name] for name in other}))}, but init was given "
            f"{'; '.join(entries(other))}; nothing was written. Give init the same settings, or edit the table"
        )
    return {name: value for name, value in wanted.items() if name not in there}


def _configuration() -> dict[Path, bytes]:
    """Return a configuration of pytest, by its path; nothing if the repository has one.

    With it, pytest loads the gate before other packages' plugins, which may fail to import.
    """
    if any(Path(name).is_file() and mark in Path(name).read_text("utf-8") for name, mark in _CONFIGURED.items()):
        return {}
    own_tests = any(Path().glob("test*/")) or any(Path().glob("test_*.py"))
    places = "" if own_tests else f"testpaths = {TESTS}\n"
    return {_PYTEST: f"[pytest]\n{places}addopts = -p harness.plugin\n".encode()}


def _ignored() -> dict[Path, bytes]:
    path, line = Path(".gitignore"), b"reports/"
    text = path.read_bytes() if path.is_file() else b""
    if path.is_dir() or b"reports" in (known.strip().strip(b"!/*") for known in text.splitlines()):
        return {}
    end = b"\r\n" if b"\r\n" in text else b"\n"
    return {path: text + (end if text and not text.endswith(b"\n") else b"") + line + end}


def _candidate(path: Path | str | None) -> str | None:
    if not isinstance(path, Path):
        return path
    inside = path.resolve().is_relative_to(Path.cwd())
    return path.resolve().relative_to(Path.cwd()).as_posix() if inside else None


def _checks_there(path: Path, images: LabelledImages) -> ChecksFile | None:
    """Return the existing checks file if it is for these images; None for one of other images, or without one.

    Raises `InputError` for one that cannot be read.
    """
    if not path.exists():
        return None
    checks = read_checks(path)
    data, wanted = checks.data, (images.name, images.split, len(images), images.sha256)
    return checks if (data.name, data.split, data.n, data.sha256) == wanted else None


def _lacking(checks: ChecksFile, rows: Sequence[StarterCheck], request: InitRequest) -> tuple[StarterCheck, ...]:
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
    """Return the text of a checks file with these rows of the images at its end.

    Raises `InputError` if they cannot be added.
    """
    known = {check.id: check.family for check in checks.checks}
    for row in rows:
        if row.id in known:
            raise InputError(
                f"{checks.path}: the row {row.id!r} of {row.family} cannot be added, since one of {known[row.id]} has "
                "this id; rename that one",
                code=Code.CHECKS,
            )
    content = checks.path.read_text("utf-8")
    if any(row.family == SLICE for row in rows) and checks.data.groups_sha256 is None:
        content = re.sub(
            r"(?m)^\[data\]\n", f'[data]\ngroups_sha256 = "{groups_sha256(images.groups)}"\n', content, count=1
        )
    made = "\n\n".join([content.rstrip("\n"), *(row.as_toml() for row in rows)]) + "\n"
    try:
        found = [row["id"] for row in tomllib.loads(made)["check"]]
    except (ValueError, TypeError):
        found = []
    if found != [*(check.id for check in checks.written), *(row.id for row in rows)]:
        raise InputError(
            f"{checks.path}: rows cannot be added to it; write them as [[check]] by hand", code=Code.CHECKS
        )
    return made


def _with_samples(request: InitRequest, checks: Path) -> Plan:
    """Write samples that fit the budget into the checks file, and return the plan of a run.

    Calibrated families keep their images. Raises `InputError`, and writes nothing, without a network to measure, or if
    it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = request.checkpoint or _untrained(request.model, Path(folder))
        device = () if request.model.device == "auto" else ("--stress-device", request.model.device)
        fit = fit_for(request.budget, checks, checkpoint, tests=checks.parent, options=device)
    if fit.samples:
        known = read_checks(checks).data.samples
        lines = samples_in_toml({**known, **fit.samples}, fit)
        outputs.Output(checks, outputs.CHECKS).write(with_samples(checks.read_text("utf-8"), lines).encode())
    return fit


def _untrained(network: NetworkOptions, folder: Path) -> Path:
    import torch

    if (build := network.builder()) is None:
        raise InputError("without --checkpoint or --model")
    path = folder / "untrained.pth"
    torch.save(build().state_dict(), path)
    return path
