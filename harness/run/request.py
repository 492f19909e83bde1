"""Request for a gate run: its settings, from a command line, a project's table or Python."""

from __future__ import annotations

import argparse
import os
import shlex
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from harness.base.errors import ConfigurationError, IncumbentError, InputError
from harness.base.groups import Place, Setting, add_settings, unknown, values_in, values_of
from harness.checks.roles import INCUMBENT, ROLES
from harness.checks.tables import HEAD, read_table
from harness.data.options import DataOptions
from harness.run.budget import seconds_in
from harness.run.settings import (
    HISTORY_FILE,
    IN_TABLE,
    ON_LINE,
    SET,
    SETTINGS,
    RunSettings,
    as_options,
    option_of_pytest,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.checks.declaration import Declaration
    from harness.checks.file import DataFingerprint

OWN = Path("stress_tests/checks.toml")
"""The checks file of a project, with the table of its settings; relative to its root."""
QUICK_SAMPLES = 2_000
"""Images of a quick run whose checks file was made for all."""
TIMEOUT_SECONDS = {"quick": 1_800.0, "default": 1_800.0, "thorough": 18_000.0}
"""Time limit of a check, by profile: far more than a ResNet-50 needs on one core."""
_ON_CI = ("CI", "BUILD_NUMBER", "TF_BUILD")
"""Environment variables of which CI sets at least one; pytest looks at the first two."""
Spec = str | Path


def model_spec(spec: Spec) -> Path | str:
    """Return a path, or the SPEC of a predictor as text.

    See `harness.inference.predictors.kinds.model_spec`.
    """
    if ":" not in str(spec):  # Most are paths, and PyTorch is not imported for them.
        return Path(spec)
    from harness.inference.predictors import kinds

    return kinds.model_spec(spec)


class RunRequest(RunSettings):
    """All that a gate run is asked for: the settings, and more.

    `roles` are the named checkpoints, "none" for none. A missing value, or None, means the default,
    relative to `root`, the folder of the project. `tests` are files or folders of stress tests, and
    `options` further options of pytest.

    Only calibration uses the next three. `record` has the families or rows to measure without
    judging, empty for all. `answers` is the folder for the candidate's predictions.
    `panel_predictions` replaces the file that the recipe of the checks file names.

    `instead` names a module, and what its function `run_instead` does in place of a run. `run_id`
    is the id of the run, or empty. A run that has `stopped` has a check's id and the positions of
    its images; its workers get them.
    """

    roles: dict[str, Place] = Field(default_factory=dict)
    tests: tuple[str, ...] = Field(default=(), strict=False)
    options: tuple[str, ...] = Field(default=(), strict=False)
    record: frozenset[str] | None = Field(default=None, strict=False)
    answers: Path | None = Field(default=None, strict=False)
    panel_predictions: Path | None = Field(default=None, strict=False)
    instead: tuple[str, dict[str, Any]] | None = Field(default=None, strict=False)
    root: Path = Field(default=Path(), strict=False)
    run_id: str = ""
    stopped: tuple[str, list[int]] | None = Field(default=None, strict=False)

    @staticmethod
    def of(*layers: Mapping[str, Any], **more: Any) -> RunRequest:
        """Return the request of settings by name.

        Of layers with the same setting, the later one wins; tables are joined entry by entry.
        """
        values: dict[str, Any] = {}
        for layer in layers:
            for name, value in layer.items():
                if isinstance(value, dict):
                    value = {**values.get(name, {}), **value}  # noqa: PLW2901
                values[name] = value

        roles = dict(values.pop("roles", {}))
        for role in ROLES:
            checkpoint = values.pop(role, None)
            if checkpoint is not None:
                roles[role] = checkpoint
        return RunRequest(**{**values, "roles": roles, **more})

    @property
    def plain(self) -> dict[str, Any]:
        """Return what was given, as JSON that another process makes it of."""
        return self.model_dump(mode="json", exclude_unset=True)

    @cached_property
    def checkpoints(self) -> dict[str, Path | str]:
        """Return the model of each role that has one: a path, or the SPEC of a predictor as text.

        Raises `InputError` for a role that needs one.
        """
        checkpoints: dict[str, Path | str] = {}
        for name, role in ROLES.items():
            checkpoint = self.roles.get(name)
            if checkpoint is None:
                path = role.default(self.root / "models", shipped_data=self._ours)
                if path is not None:
                    checkpoints[name] = path
            elif checkpoint != "none":
                checkpoints[name] = model_spec(checkpoint)
            elif not role.optional:
                raise InputError(
                    f"the gate needs a {name}; name a checkpoint", setting=f"{name} none"
                )
        return checkpoints

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

    @property
    def incumbent(self) -> Path | str:
        """Return the incumbent; `InputError` without one, or if it is not the declared one."""
        self.expect_incumbent()
        incumbent = self.checkpoints.get(INCUMBENT)
        if incumbent is None:
            raise IncumbentError(
                "there is no incumbent yet; `stress-harness accept` makes one, or name two models"
            )
        return incumbent

    def expect_incumbent(self) -> None:
        """Raise `InputError` if none is named, and the declared one is missing or another file."""
        if INCUMBENT not in self.roles and self.declared is not None:
            self.declared.expect_weights()

    @property
    def shipped(self) -> frozenset[str]:
        """Return the roles whose checkpoint is that of a shipped model."""
        return frozenset(name for name in self.checkpoints if self._ours and name not in self.roles)

    @property
    def _ours(self) -> bool:
        """Return whether the data are those of the shipped models."""
        return self.part(DataOptions) == DataOptions()

    @property
    def checks_path(self) -> Path:
        """Return the path of the checks file."""
        if self.checks is not None:
            return Path(self.checks)
        quick = self.default_checks_path.with_name("checks-quick.toml")
        if self.profile == "quick" and quick.exists():
            return quick
        return self.default_checks_path

    @property
    def default_checks_path(self) -> Path:
        """Return the path of the checks file of the default profile."""
        return self.root / OWN

    @property
    def reports_folder(self) -> Path:
        """Return the folder that reports go to."""
        return self.root / Path(self.reports)

    @property
    def history_path(self) -> Path | None:
        """Return the file of the run history; by default in the folder of reports, in CI none."""
        if self.history is not None:
            return None if self.history == "none" else self.root / self.history
        # A machine of CI keeps no file for the next run.
        on_ci = any(os.environ.get(name, "") not in {"", "0", "false"} for name in _ON_CI)
        return None if on_ci else self.reports_folder / HISTORY_FILE

    @property
    def budget_seconds(self) -> float | None:
        """Return the time that the run must fit into; `InputError` for a text that is no time."""
        return None if self.budget is None else seconds_in(self.budget)

    @property
    def timeout_seconds(self) -> float:
        """Return the time limit of a check in seconds, 0 for no limit."""
        return TIMEOUT_SECONDS[self.profile] if self.timeout is None else self.timeout

    def sample_size(self, made_for: DataFingerprint) -> int | None:
        """Return the number of images to measure, None for all, by checks made for these data."""
        if self.samples is not None:
            return self.samples
        if self.profile != "quick":
            return None
        return QUICK_SAMPLES if made_for.sample is None else made_for.measured

    def expect_sound(self) -> None:
        """Raise `InputError` for a setting that contradicts another, before anything is loaded."""
        # Both are made of settings, and raise for wrong ones.
        _ = self.checkpoints
        _ = self.budget_seconds


def own_settings(root: Path) -> dict[str, Any]:
    """Return the settings in the table of a project's own checks file.

    They apply whatever checks file a run uses. Raises `InputError` for an
    unknown setting or a wrong value.
    """
    table = read_table(root / OWN)
    where = f"{root / OWN}: {HEAD}"
    for name in table.keys() - IN_TABLE.keys():
        if name in ON_LINE:
            raise ConfigurationError(
                f"{where} {name}: it changes from run to run; give {option_of_pytest(name)}"
            )
        raise ConfigurationError(f"{where} {unknown(name, IN_TABLE)}")
    try:
        return RunSettings(**table).given
    except InputError as error:
        raise ConfigurationError(f"{where} {error}") from None


def set_values(pairs: Sequence[str]) -> dict[str, Any]:
    """Return the settings of `KEY=VALUE` pairs.

    Raises `InputError` for a setting that pytest has an option for.
    """
    keys = {pair.partition("=")[0] for pair in pairs if "=" in pair}
    for name in ON_LINE:
        if name in keys:
            raise InputError(
                f"it is an option of its own, {option_of_pytest(name)}", setting=f"set {name}"
            )
    return values_of(pairs, IN_TABLE)


def setting_of(role: str) -> Setting:
    """Return the setting that names the checkpoint of a role."""
    facts = ROLES[role]
    about = facts.about
    metavar = "MODEL"
    if facts.optional:
        about = f"{about}, or none"
        metavar = "MODEL|none"
    text = f"{about} (default: {facts.default_in_words})."
    return Setting(role, text, "", metavar=metavar, line=True, reads=True)


def add_options(add: Any, *, bare: bool = True) -> None:
    """Add pytest's options to a parser, see `line_values`.

    Options with a common name are added only if they may be `bare`, without the prefix `--stress`.
    """
    settings = [*map(setting_of, ROLES), *ON_LINE.values()]
    if not bare:
        settings = [
            setting for setting in settings if option_of_pytest(setting.name).startswith("--stress")
        ]
    add_settings(add, settings, option_of_pytest)
    add(
        option_of_pytest(SET.name),
        dest="stress_set",
        action="append",
        default=[],
        metavar=SET.metavar,
        help=SET.help,
    )


def line_values(namespace: object) -> dict[str, Any]:
    """Return the settings in the result of a parser with `add_options`; the last value counts."""
    values = values_in(namespace)
    last_pairs = {pair.partition("=")[0]: pair for pair in values.pop("set", ())}
    return {**set_values(list(last_pairs.values())), **values}


def read_line(arguments: Sequence[str]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the settings on a command line of pytest, and its other arguments.

    Raises `InputError` for a wrong setting.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    add_options(parser.add_argument)
    try:
        namespace, others = parser.parse_known_args(list(arguments))
    except argparse.ArgumentError as error:
        raise InputError(str(error)) from None
    return line_values(namespace), tuple(others)


def request_of(arguments: Sequence[str], *, root: Path | None = None) -> RunRequest:
    """Return the request of a command line of pytest.

    Other arguments, such as paths of tests, stand in `options`. With the `root` of a project, its
    own settings count, too. Raises `InputError` for a wrong value.
    """
    of_project = own_settings(root) if root else {}
    of_line, options = read_line(arguments)
    return RunRequest.of(of_project, of_line, options=options, root=root or Path())


def with_options_read(request: RunRequest) -> RunRequest:
    """Return a request with the settings among its options in their own places.

    Raises `InputError` for a wrong setting.
    """
    settings, options = read_line(request.options)
    return RunRequest.of(request.given, settings, options=options)


def command_line(request: RunRequest) -> list[str]:
    """Return how a person starts the run of a request; fields of calibration have no option."""
    settings = {name: value for name, value in request.given.items() if name in SETTINGS}
    return [*request.tests, *as_options({**request.roles, **settings}), *request.options]


def rerun_command(command: Sequence[str], check: str) -> str:
    """Return the shell line that runs one check of a run again.

    Its reports go into a folder of the check's name in that of the run.

    Args:
        command: the command line of the run, whose `-k` does not apply.
        check: the id of the check.
    """
    option = option_of_pytest("reports")
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(option, dest="reports", default="reports")
    parser.add_argument("-k")
    namespace, others = parser.parse_known_args(command)
    folder = namespace.reports.rstrip("/")
    return shlex.join([*others, "-k", f"[{check}]", option, f"{folder}/{check}"])
