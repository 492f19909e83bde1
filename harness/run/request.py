"""Request for a gate run, as Python values and as a command line of pytest."""

from __future__ import annotations

import argparse
import os
import shlex
import threading
import uuid
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.base.errors import InputError
from harness.base.settings import add_settings, expect_typed, options_of, value_behind, values_in
from harness.checks.roles import INCUMBENT, ROLES
from harness.data.options import DataOptions
from harness.networks.options import NetworkOptions
from harness.networks.running import BackendOptions
from harness.run.budget import seconds_in
from harness.run.pytest_configuration import added_options
from harness.run.settings import HISTORY_FILE, SETTINGS, option_of_pytest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.checks.declaration import Declaration
    from harness.checks.file import DataFingerprint
    from harness.run.export.request import ExportOrder

QUICK_SAMPLES = 2_000
"""Images of a quick run whose checks file was made for all."""
TIMEOUT_SECONDS = {"quick": 1_800.0, "default": 1_800.0, "thorough": 18_000.0}
"""Time limit of a check, by profile: far more than a ResNet-50 needs on one core."""
_ON_CI = ("CI", "BUILD_NUMBER", "TF_BUILD")
"""Environment variables of continuous integration, at least one of them set; pytest looks at the first two."""
_PATHS = {*(f"--{role}" for role in ROLES), "--checks", "--stress-reports", "--stress-history"}
"""Options with a path behind them, which pytest would treat as a place of tests."""

Spec = str | Path


def model_spec(given: Spec) -> Path | str:
    """Return a path, or the SPEC of a predictor as text; see `harness.inference.predictors.kinds.model_spec`."""
    if ":" not in str(given):  # Most are paths, and PyTorch is not imported for them.
        return Path(given)
    from harness.inference.predictors import kinds

    return kinds.model_spec(given)


@dataclass(frozen=True)
class RunRequest:
    """All that a gate run is asked for: the settings, each by its name, as in `harness.run.settings`.

    `roles` are the named checkpoints, "none" for none. A missing value, or None, means the default, relative to `root`,
    the folder of the project. `tests` are files or folders of stress tests, and `options` further options of pytest.
    Only calibration uses the next three. `record` has the families or rows to measure without judging, empty for all.
    `answers` is the folder for the candidate's predictions. `panel_predictions` replaces the file that the recipe of
    the checks file names. An `export` writes the images of the tests in place of a run. `run_id` is the id of the run,
    as `new_run_id` makes it, or empty.
    """

    roles: Mapping[str, Spec] = field(default_factory=dict)
    checks: Spec | None = None
    model: str | None = None
    model_arg: Sequence[str] = ()
    model_outputs: str | None = None
    normalisation: str | None = None
    checkpoint_key: str | None = None
    strip_prefix: str | None = None
    predictor_batch: int = 32
    predictor_timeout: float = 120.0
    classes: str | None = None
    http_concurrency: int = 4
    http_rate: float | None = None
    http_output: str | None = None
    data: str = "fashion-mnist"
    size: str | None = None
    channels: int | None = None
    resize: str | None = None
    crop: str | None = None
    interpolation: str | None = None
    antialias: str = "yes"
    transform: str | None = None
    unknown: str | None = None
    layer: str | None = None
    profile: str = "default"
    samples: int | None = None
    device: str = "auto"
    no_cache: bool = False
    plan: bool = False
    budget: str | None = None
    timeout: float | None = None
    backend: str = "process"
    ray_address: str | None = None
    ray_workers: int | None = None
    ray_gpus: float = 0.0
    ray_logs: bool = False
    no_overview: bool = False
    no_wait: bool = False
    reports: Spec = "reports"
    history: Spec | None = None
    mlflow: str | None = None
    tests: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    record: frozenset[str] | None = None
    answers: Path | None = None
    panel_predictions: Path | None = None
    export: ExportOrder | None = None
    root: Path = Path()
    run_id: str = ""

    @staticmethod
    def of(values: Mapping[str, Any], **more: Any) -> RunRequest:
        """Return the request of these values of settings, by name; those that are missing have their defaults."""
        known = {name: value for name, value in values.items() if name in SETTINGS}
        roles = {role: known.pop(role) for role in ROLES if role in known}
        named = {role: path for role, path in roles.items() if path is not None}
        return RunRequest(named, **{SETTINGS[name].argument: value for name, value in known.items()}, **more)

    @property
    def values(self) -> dict[str, Any]:
        """Return the value of every setting by its name."""
        return {
            name: self.roles.get(name) if name in ROLES else getattr(self, setting.argument)
            for name, setting in SETTINGS.items()
        }

    @cached_property
    def data_options(self) -> DataOptions:
        """Return the options of the data; raises `InputError` for options that contradict each other."""
        return DataOptions.of(self.values)

    @cached_property
    def network_options(self) -> NetworkOptions:
        """Return the options of the networks."""
        return NetworkOptions.of(self.values)

    @cached_property
    def backend_options(self) -> BackendOptions:
        """Return the options of the backend; raises `InputError` for a wrong one."""
        return BackendOptions.of(self.values)

    @cached_property
    def checkpoints(self) -> dict[str, Path | str]:
        """Return the models of the roles that have one: a path, or the SPEC of a predictor as text.

        Raises `InputError` for a role that needs one.
        """
        found: dict[str, Path | str] = {}
        for name, role in ROLES.items():
            given = self.roles.get(name)
            if given == "none":
                if not role.optional:
                    raise InputError(f"the gate needs a {name}; name a checkpoint", setting=f"{name} none")
            elif given is not None:
                found[name] = model_spec(given)
            elif (path := role.default(self.root / "models", shipped_data=self._ours)) is not None:
                found[name] = path
        return found

    @cached_property
    def declared(self) -> Declaration | None:
        """Return the incumbent that the repository declares; None where it declares none."""
        return ROLES[INCUMBENT].declared(self.root / "models")

    @property
    def waived(self) -> str:
        """Return the source of the decision to compare with no incumbent; empty without one."""
        if self.roles.get(INCUMBENT) == "none":
            return f"--{INCUMBENT} none"
        if INCUMBENT in self.roles or self.declared is None or self.declared.weights is not None:
            return ""
        return f"{self.declared.path.relative_to(self.root)}: {self.declared.reason}"

    def expect_incumbent(self) -> None:
        """Raise `InputError` for a declared incumbent that is missing, or another file, where none is named."""
        if INCUMBENT not in self.roles and self.declared is not None:
            self.declared.expect_weights()

    @property
    def shipped(self) -> frozenset[str]:
        """Return the roles whose checkpoint is that of a shipped model."""
        return frozenset(name for name in self.checkpoints if self._ours and name not in self.roles)

    @property
    def _ours(self) -> bool:
        return self.data_options == DataOptions()

    @property
    def checks_path(self) -> Path:
        """Return the path of the checks file."""
        if self.checks is not None:
            return Path(self.checks)
        quick = self.default_checks_path.with_name("checks-quick.toml")
        return quick if self.profile == "quick" and quick.exists() else self.default_checks_path

    @property
    def default_checks_path(self) -> Path:
        """Return the path of the checks file of the default profile."""
        return self.root / "stress_tests/checks.toml"

    @property
    def reports_folder(self) -> Path:
        """Return the folder that reports go to."""
        return self.root / self.reports

    @property
    def history_path(self) -> Path | None:
        """Return the file of the run history; by default in the folder of reports, in CI none."""
        if self.history is not None:
            return None if self.history == "none" else self.root / self.history
        on_ci = any(os.environ.get(name, "") not in {"", "0", "false"} for name in _ON_CI)
        return None if on_ci else self.reports_folder / HISTORY_FILE

    @property
    def budget_seconds(self) -> float | None:
        """Return the time that the run must fit into; raises `InputError` for a text that is no time."""
        return None if self.budget is None else seconds_in(self.budget)

    @property
    def timeout_seconds(self) -> float:
        """Return the time limit of a check in seconds, 0 for no limit; raises `InputError` for any other value."""
        if self.timeout is None:
            return TIMEOUT_SECONDS[self.profile]
        if not 0 <= self.timeout < threading.TIMEOUT_MAX:
            raise InputError("expected seconds, 0 for no limit", setting=f"timeout {self.timeout:g}")
        return self.timeout

    def sample_size(self, made_for: DataFingerprint) -> int | None:
        """Return the number of images to measure, None for all, by checks made for these data."""
        if self.samples is not None:
            return self.samples
        return (made_for.sample or QUICK_SAMPLES) if self.profile == "quick" else None

    def expect_sound(self) -> None:
        """Raise `InputError` for a wrong setting, or one that contradicts another, before anything is loaded."""
        expect_typed(self.values, SETTINGS.values())
        _ = self.checkpoints, self.backend_options, self.budget_seconds, self.timeout_seconds


def new_run_id() -> str:
    """Return an id that no other run has: 32 hexadecimal digits."""
    return uuid.uuid4().hex


def command_line(request: RunRequest) -> list[str]:
    """Return the arguments of pytest for a request; the fields of calibration have no option."""
    given = [part for option in options_of(request.values, SETTINGS.values(), option_of_pytest) for part in option]
    return joined([*request.tests, *given, *request.options])


def request_of(arguments: Sequence[str], *, tests: Path | None = None) -> RunRequest:
    """Return the request of a command line of pytest; other arguments, such as paths of tests, stand in `options`.

    With `tests`, their folder, the options in the configuration of its project count, too. Raises `InputError` for a
    wrong value.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    add_settings(parser.add_argument, SETTINGS.values(), option_of_pytest)
    line = [*(added_options(tests) if tests else ()), *arguments]
    try:
        found, rest = parser.parse_known_args(line)
    except argparse.ArgumentError as error:
        raise InputError(str(error)) from None
    return RunRequest.of(values_in(found), options=tuple(rest))


def value_in(arguments: Sequence[str], name: str) -> str | None:
    """Return the last value of a setting on a command line, which may be wrong elsewhere; None without a value."""
    return value_behind(arguments, option_of_pytest(name))


def rerun_command(command: Sequence[str], check: str) -> str:
    """Return the shell line that runs one check of a run again; `command` is the command line of the run.

    Its reports go into a folder of the check's name in that of the run, and it selects nothing else by `-k`.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    reports = parser.add_argument(option_of_pytest("reports"), dest="reports", default="reports").option_strings[0]
    parser.add_argument("-k")
    found, kept = parser.parse_known_args(command)
    return shlex.join([*kept, "-k", f"[{check}]", reports, f"{found.reports.rstrip('/')}/{check}"])


def joined(arguments: Sequence[str]) -> list[str]:
    """Return a command line with the paths of our options joined to them by an equals sign, as pytest needs it.

    It looks for its root directory before it knows our options, and treats a path behind one as a place of tests.
    """
    result: list[str] = []
    for argument in arguments:
        if result and result[-1] in _PATHS and not argument.startswith("-"):
            result[-1] += f"={argument}"
        else:
            result.append(argument)
    return result


def paths_behind(arguments: Sequence[str]) -> set[str]:
    """Return the arguments behind our options that take a path."""
    return {after for name, after in pairwise(arguments) if name in _PATHS}
