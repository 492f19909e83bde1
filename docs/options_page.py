"""Text of the page of all options, made from the settings and the commands."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING

import click

from harness.checks.roles import ROLES
from harness.cli import COMMANDS
from harness.cli.group import commands
from harness.run.request import setting_of
from harness.run.settings import GROUPS, IN_TABLE, ON_LINE, SET, SETTINGS, option_of_pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from harness.base.features import Command
    from harness.base.groups import Setting

_GATE = """\
## pytest stress_tests

These options change from run to run. `--candidate`, `--baseline`, `--incumbent`, `--original` and
`--checks` are options where a folder `stress_tests` has a gate. Commands have the same without the
prefix.

Help texts name settings without dashes: `samples` is `--stress-samples` for pytest, and `--samples`
for a command.
"""
_TABLE = """\
## Settings of a project

They stand in the table `[gate]` of `stress_tests/checks.toml`, such as `size = 64`. The command
`init` writes it. `--stress-set size=64` replaces one for a run of pytest, `--set size=64` for a
command, and `size=64` in `harness.gate`. The command line wins, then `set`, then the table, then
the default.
"""


_COMMANDS = """\
## Options of many commands

Commands that load data also have the [settings](#settings-of-a-project) that their sections name
last.
"""
_MANY = 3
"""Number of commands from which on an option of theirs is described once."""


def page() -> str:
    """Return the whole page."""
    line = (*map(setting_of, ROLES), *ON_LINE.values(), SET)
    options = table(("option", "meaning"), map(_setting, line))
    return "\n".join(
        [_summaries(), _GATE, options, _TABLE, *_settings(), _COMMANDS, _of_many(), *_commands()]
    )


def _by_purpose() -> list[tuple[str, Command]]:
    order = list(dict.fromkeys(command.purpose for command in COMMANDS.values()))
    return sorted(COMMANDS.items(), key=lambda item: order.index(item[1].purpose))


def _summaries() -> str:
    rows = [(f"[`{name}`](#{name})", command.summary) for name, command in _by_purpose()]
    gate = ("[`pytest stress_tests`](#pytest-stress-tests)", "Run the stress tests on a candidate.")
    return table(("command", "what it does"), [gate, *rows])


def _settings() -> Iterator[str]:
    """Yield the settings of a project, by topic."""
    order = list(dict.fromkeys(GROUPS.values()))
    settings = sorted(IN_TABLE.values(), key=lambda each: order.index(GROUPS[each.group]))
    for title, those in groupby(settings, key=lambda each: GROUPS[each.group]):
        yield f"### {title}\n\n{table(('setting', 'meaning'), map(_setting, those))}"


def _setting(setting: Setting) -> tuple[str, str]:
    return code(f"{option_of_pytest(setting.name)} {setting.value}"), escaped(setting.help)


def _commands() -> Iterator[str]:
    """Yield a section for each command."""
    for name, _ in _by_purpose():
        command = commands.get_command(click.Context(commands), name)
        assert command is not None
        yield _section(f"## {name}", f"stress-harness {name}", command)


def _section(heading: str, line: str, command: click.Command) -> str:
    """Return the section of a command: its purpose, its command line and its options.

    Then those of its commands.
    """
    context = click.Context(command, info_name=line)
    usage = " ".join([line, *command.collect_usage_pieces(context)])
    example = getattr(command, "example", "")
    shown = f"{usage}\nstress-harness {example}" if example else usage
    parts = [f"{heading}\n", f"{escaped(command.help or '')}\n", f"```text\n{shown}\n```\n"]
    options = [each for each in command.params if isinstance(each, click.Option)]
    shared = [each for each in options if _is_shared(each) or _key(each) in _options_of_many()]
    rows = [
        (_option(each, context), escaped(each.help or "")) for each in options if each not in shared
    ]
    if rows:
        parts.append(table(("option", "meaning"), rows))
    if shared:
        parts.append(f"Described above: {', '.join(code(each.opts[0]) for each in shared)}.\n")
    if isinstance(command, click.Group):
        parts += [
            _section(f"#{heading} {name}", f"{line} {name}", each)
            for name, each in command.commands.items()
        ]
    return "\n".join(parts)


@cache
def _options_of_many() -> dict[tuple[str, str], click.Option]:
    """Return the options that many commands have, by `_key`."""
    every = [commands.get_command(click.Context(commands), name) for name in COMMANDS]
    every += [
        each
        for group in every
        if isinstance(group, click.Group)
        for each in group.commands.values()
    ]
    options = [
        option
        for each in every
        if each
        for option in each.params
        if isinstance(option, click.Option)
    ]
    counts = Counter(map(_key, options))
    return {
        _key(each): each for each in options if counts[_key(each)] >= _MANY and not _is_shared(each)
    }


def _key(option: click.Option) -> tuple[str, str]:
    return option.opts[0], option.help or ""


def _of_many() -> str:
    context = click.Context(commands)
    rows = (
        (_option(each, context), escaped(each.help or "")) for each in _options_of_many().values()
    )
    return table(("option", "meaning"), rows)


def _is_shared(option: click.Option) -> bool:
    """Return whether an option is that of a setting, which says the same for pytest."""
    setting = {**SETTINGS, SET.name: SET}.get(option.opts[0].removeprefix("--"))
    return setting is not None and setting.help == option.help


def _option(option: click.Option, context: click.Context) -> str:
    value = "" if option.is_flag else option.make_metavar(context)
    return code(f"{', '.join((*option.opts, *option.secondary_opts))} {value}")


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a table in Markdown."""
    lines = [
        head,
        ("---",) * len(head),
        *([cell.replace("|", r"\|") for cell in row] for row in rows),
    ]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def code(text: str) -> str:
    """Return a text as code."""
    return f"`{text.strip()}`"


def escaped(text: str) -> str:
    """Return a text on one line, in which Markdown finds no markup but code."""
    parts = re.split("(`[^`]*`)", " ".join(text.split()))
    plain = (
        part if part.startswith("`") else re.sub(r"([*_<>\[\]])", r"\\\1", part) for part in parts
    )
    return "".join(plain)
