"""Options that commands share: those of the settings, the checks file, and options for the gate."""

from __future__ import annotations

import json
import math
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import click

from harness.base.errors import InputError, harmless
from harness.run.settings import IN_TABLE, SET, SETTINGS, as_options, option_of_command
from harness.run.status import NOT_JUDGED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from harness.base.groups import Setting
    from harness.base.outputs import Inputs, Output, OutputKind
    from harness.run.project import Project

F = TypeVar("F", bound="Callable[..., Any] | click.Command")
OK, NEGATIVE = 0, 1
"""Exit statuses: done, and a negative answer."""
STATUSES = {"equal": OK, "different": NEGATIVE, "inconclusive": NOT_JUDGED}
"""Exit statuses by the outcome of a comparison with a tolerance."""
FILE = click.Path(path_type=Path)


def MODEL(value: str) -> Path | str:  # noqa: N802  A type of click.
    """Return a model: the path of its file, or the SPEC of a predictor as text."""
    from harness.run.request import model_spec

    return model_spec(value)


REPORTS = Path("reports")
"""The folder of outputs that no option names; no link in it is followed."""
CHECKS = Path("stress_tests/checks.toml")
"""The checks file of a repository that names no other."""
_GIVEN, _PASSED_ON = "harness.given", "harness.passed_on"


class CommandWithExample(click.Command):
    """A command whose help ends with an example.

    If the command `passes_on`, arguments after `--` go to the gate. An option named in `many`
    takes all values up to the next option, as a shell's pattern gives them.
    """

    def __init__(
        self,
        *args: Any,
        example: str = "",
        passes_on: bool = False,
        many: Sequence[str] = (),
        **settings: Any,
    ) -> None:
        super().__init__(*args, **settings)
        self.example, self.passes_on, self.many = example, passes_on, many

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse what stands before `--`, and keep what follows."""
        if self.passes_on and "--" in args:
            end = args.index("--")
            ctx.meta[_PASSED_ON] = tuple(args[end + 1 :])
            args = args[:end]
        try:
            return super().parse_args(ctx, _one_each(args, self.many))
        except click.NoSuchOption as error:
            name = (
                error.option_name.lstrip("-")
                .replace("-", "_")
                .replace("normalisation", "normalization")
            )
            if name in IN_TABLE:
                raise InputError(
                    f"{error.option_name} is a setting of the project; give --set {name}=VALUE"
                ) from None
            raise

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what is passed on, and the example."""
        if self.passes_on:
            formatter.write_paragraph()
            formatter.write_text(
                "Options after -- go to the gate, for example: -- --stress-samples 500 --baseline "
                "none"
            )
        formatter.write(f"\nExample:\n  stress-harness {self.example}\n")


def help_without_command(context: click.Context) -> None:
    """Print the help of a group that was called without a command."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def _one_each(args: Sequence[str], many: Sequence[str]) -> list[str]:
    """Return arguments in which an option that takes many values stands before each of them."""
    result: list[str] = []
    current = ""
    for argument, after in zip(args, [*args[1:], "-"], strict=False):
        if argument in many:
            current = argument
            if after.startswith("-"):  # Click refuses it.
                return [*result, current]
        elif argument.startswith("-"):
            current = ""
            result.append(argument)
        else:
            result += [current, argument] if current else [argument]
    return result


def passed_on() -> tuple[str, ...]:
    """Return what follows `--`, for the gate."""
    return tuple(click.get_current_context().meta.get(_PASSED_ON, ()))


def setting_options(*settings: Setting) -> Callable[[F], F]:
    """Add an option for each setting; `given` has the values of those on the command line."""

    def add(function: Any) -> Any:
        for setting in reversed(settings):
            how: dict[str, Any] = {"type": setting.type, "metavar": setting.metavar or None}
            if setting.flag:
                how = {"is_flag": True, "default": None}
            elif setting.choices:
                how = {"type": click.Choice(setting.choices)}
            elif setting.name in {"set", "model-arg"}:
                how |= {"multiple": True}
            function = click.option(
                f"--{setting.name.replace('_', '-')}",
                help=setting.help,
                expose_value=False,
                callback=partial(_keep, setting.name),
                **how,
            )(function)
        return function

    return add


def _keep(name: str, context: click.Context, _: click.Parameter, value: Any) -> None:
    if value is not None and value != ():
        context.meta.setdefault(_GIVEN, {})[name] = value


def run_options(*more: str) -> Callable[[F], F]:
    """Add the options `--NAME` for more settings of a run, and `--set`."""
    return setting_options(*(SETTINGS[name] for name in more), SET)


def augmentation_option(about: str) -> Callable[[F], F]:
    """Add the option `--augmentation`, which names the limits of the setting in one text."""
    return click.option(
        "--augmentation",
        type=_limits,
        metavar="LIMITS",
        help=about,
        expose_value=False,
        callback=partial(_keep, "augmentation"),
    )


def _limits(text: str) -> dict[str, Any]:
    from harness.data.domain import limits_in

    return limits_in(text)


model_options = run_options("data", "size", "model", "samples", "device", "backend")
"""Adds the options of commands on a model."""


def given() -> dict[str, Any]:
    """Return the settings on the command line by name, from their own options and from `--set`."""
    from harness.run.request import set_values

    found = dict(click.get_current_context().meta.get(_GIVEN, {}))
    return {**set_values(found.pop("set", ())), **found}


def given_line() -> list[str]:
    """Return the settings on the command line as options of the command."""
    return as_options(given(), option_of_command)


def for_gate(*without: str) -> tuple[str, ...]:
    """Return settings on the command line, and what follows `--`, as options of pytest."""
    return (
        *as_options({name: value for name, value in given().items() if name not in without}),
        *passed_on(),
    )


checks_option = click.option(
    "--checks",
    "checks_path",
    type=FILE,
    default=CHECKS,
    metavar="FILE",
    help="The checks file; the stress tests are those of its folder (default: "
    "stress_tests/checks.toml).",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def page_option(default: str) -> Callable[[F], F]:
    """Add the option that names the page of a command."""
    return output_option("HTML", "The page", default=default)


def output_option(
    metavar: str, about: str, *, default: str = "", in_words: str = ""
) -> Callable[[F], F]:
    """Add the option `--output`, the file that a command writes, or a folder with metavar `DIR`.

    For a `default` that depends on other arguments, help shows `in_words`, and the command gets
    None.
    """
    text = f"{about} (default: {in_words or default})."
    path = Path(default) if default else None
    return click.option("--output", type=FILE, default=path, metavar=metavar, help=text)


def share(text: str) -> float:
    """Return a finite share, such as 1% or 0.01."""
    try:
        return number(text.removesuffix("%")) / 100 if text.endswith("%") else number(text)
    except click.BadParameter:
        raise click.BadParameter(f"{text!r} is no share; write 1% or 0.01") from None


def number(text: str) -> float:
    """Return a finite number: no option has a meaning for NaN, which fails every comparison."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise click.BadParameter(f"{text!r} is no finite number")
    return value


def share_within_one(text: str) -> float:
    """Return a share from 0% to 100%."""
    value = share(text)
    if not 0 <= value <= 1:
        raise click.BadParameter(f"{text!r} is no share from 0% to 100%")
    return value


def tolerance_option(about: str) -> Callable[[F], F]:
    """Add the option of a tolerance, 1% by default."""
    return click.option("--tolerance", type=share, default="1%", metavar="SHARE", help=about)


def say(plain: object, lines: Iterable[object], *, as_json: bool) -> None:
    """Print a result: its plain types as JSON, or its lines."""
    if as_json:
        print(json.dumps(plain))
    else:
        tell(*lines)


def tell(*lines: object, to: TextIO | None = None) -> None:
    """Print lines, by default to standard output, so that they control no terminal and no CI."""
    for line in lines:
        print(harmless(line), file=to or sys.stdout, flush=True)


def own_output(path: Path, kind: OutputKind, inputs: Inputs) -> Output:
    """Return the output of a command; raises `InputError` where something else is in its place."""
    from harness.base.outputs import Output

    output = Output(path, kind, inputs, within=REPORTS)
    output.expect_own()
    return output


def project_with(checks_path: Path = CHECKS, *, as_json: bool = False) -> Project:
    """Return the gate of the repository with the settings given here, and print which data it has.

    With JSON, this line goes to standard error.
    """
    from harness.run.project import project_of

    project = project_of(checks_path, given(), passed_on())
    tell(project.data_line, to=sys.stderr if as_json else sys.stdout)
    return project
