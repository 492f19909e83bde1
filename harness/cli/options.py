"""Options that commands share: those of the settings, the checks file, and options for the gate."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from harness.base.errors import InputError, printable
from harness.base.settings import Setting, expect_typed, option_of_command, options_of

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    from harness.run.project import Project

F = TypeVar("F", bound="Callable[..., Any] | click.Command")
OK, NEGATIVE, REFUSED = 0, 1, 2
"""Exit statuses: 0 done, 1 a negative answer, 2 bad usage or input."""
FILE = click.Path(path_type=Path)


class _Model(click.ParamType["Path | str"]):
    """A model: the path of its file, or the SPEC of a predictor as text."""

    name = "model"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path | str:
        """Return the path or the text."""
        from harness.run.request import model_spec

        return model_spec(value)


MODEL = _Model()
REPORTS = Path("reports")
"""The folder of outputs that no option names; no link in it is followed."""
CHECKS = Path("stress_tests/checks.toml")
"""The checks file of a repository that names no other."""
_VALUES, _GIVEN, _PASSED_ON = "harness.values", "harness.given", "harness.passed_on"


class Command(click.Command):
    """A command whose help ends with an example.

    If the command `passes_on`, arguments after `--` go to the gate. An option named in `many` takes all values up to
    the next option, as a shell's pattern gives them.
    """

    def __init__(
        self, *args: Any, example: str = "", passes_on: bool = False, many: Sequence[str] = (), **settings: Any
    ) -> None:
        super().__init__(*args, **settings)
        self.example, self.passes_on, self.many = example, passes_on, many

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse what stands before `--`, and keep what follows."""
        if self.passes_on and "--" in args:
            end = args.index("--")
            ctx.meta[_PASSED_ON] = tuple(args[end + 1 :])
            args = args[:end]
        return super().parse_args(ctx, _one_each(args, self.many))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what is passed on, and the example."""
        if self.passes_on:
            formatter.write_paragraph()
            formatter.write_text(
                "Options after -- go to the gate, for example: -- --stress-data npz:shop.npz --baseline none"
            )
        formatter.write(f"\nExample:\n  stress-harness {self.example}\n")


def _one_each(args: Sequence[str], many: Sequence[str]) -> list[str]:
    """Return arguments in which an option that takes many values stands before each of them."""
    result: list[str] = []
    current, without_value = "", False
    for argument in args:
        if current and not argument.startswith("-"):
            result += [current, argument]
            without_value = False
            continue
        if without_value:  # Click refuses it.
            return [*result, current]
        current, without_value = (argument, True) if argument in many else ("", False)
        if not current:
            result.append(argument)
    return [*result, current] if without_value else result


def passed_on() -> tuple[str, ...]:
    """Return what follows `--`, for the gate."""
    return tuple(click.get_current_context().meta.get(_PASSED_ON, ()))


def setting_options(*settings: Setting) -> Callable[[F], F]:
    """Add an option for each setting; `values` has their values."""

    def add(function: Any) -> Any:
        for setting in reversed(settings):
            how: dict[str, Any] = {"type": setting.type, "metavar": setting.metavar or None}
            if setting.flag:
                how = {"is_flag": True, "default": False}
            elif setting.choices:
                how = {"type": click.Choice([str(choice) for choice in setting.choices])}
            how.setdefault("default", setting.default)
            if setting.multiple:
                how |= {"multiple": True, "default": ()}
            function = click.option(
                option_of_command(setting.name),
                setting.argument,
                help=setting.help,
                expose_value=False,
                callback=partial(_keep, setting),
                **how,
            )(function)
        return function

    return add


def _keep(setting: Setting, context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value is not None and setting.choices:
        value = setting.type(value)
    expect_typed({setting.name: value}, [setting])
    context.meta.setdefault(_VALUES, {})[setting.name] = value
    if context.get_parameter_source(str(parameter.name)) is not click.core.ParameterSource.DEFAULT:
        context.meta.setdefault(_GIVEN, {})[setting] = value


def values() -> dict[str, Any]:
    """Return the values of the command's settings by name."""
    return dict(click.get_current_context().meta.get(_VALUES, {}))


def given_options(option_of: Callable[[str], str], settings: Container[Setting] | None = None) -> list[tuple[str, ...]]:
    """Return the settings on the command line as options of a surface, each with its value; all, or some `settings`."""
    values = click.get_current_context().meta.get(_GIVEN, {})
    given = {setting: value for setting, value in values.items() if settings is None or setting in settings}
    named = [replace(setting, default=None) for setting in given]  # Also one that is as by default.
    return options_of({setting.name: value for setting, value in given.items()}, named, option_of)


def checks_option(function: F) -> F:
    """Add the option that names the checks file."""
    return click.option(
        "--checks",
        "checks_path",
        type=FILE,
        default=CHECKS,
        metavar="FILE",
        help="The checks file; the stress tests are those of its folder (default: stress_tests/checks.toml).",
    )(function)


def json_option(function: F) -> F:
    """Add the option that asks for JSON."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def refuse_own(*own: str) -> None:
    """Raise `InputError` for one of these options after --, which a command gives the gate itself.

    The last one counts: another model would be judged under this one's name, or another run's report be read.
    """
    for option in own:
        if any(each == option or each.startswith(f"{option}=") for each in passed_on()):
            raise InputError(
                f"{option} after --: the command itself sets the candidate, the checks file and the folder of reports; "
                f"leave it out there"
            )


def project_with(checks_path: Path = CHECKS, *, as_json: bool = False, configured: bool = True) -> Project:
    """Return the gate of the repository with the options given here, and say in a line which data it has.

    The line goes to standard error beside JSON.
    """
    from harness.run.project import project_of
    from harness.run.settings import option_of_pytest

    given = [part for option in given_options(option_of_pytest) for part in option]
    project = project_of(checks_path, [*given, *passed_on()], configured=configured)
    print(printable(project.data_line), file=sys.stderr if as_json else sys.stdout, flush=True)
    return project
