"""Page of all options, made from the table of settings and the commands: `python docs/options_page.py` writes it."""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli import COMMANDS
from harness.cli.group import commands
from harness.run.settings import SETTINGS, option_of_pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from harness.base.settings import Setting

PAGE = Path(__file__).parent / "reference/options.md"
_BEGIN = """\
# Options and commands

`python docs/options_page.py` writes this page from the table of settings and from the commands. `--help` says the same.

"""
_GATE = """\
## pytest stress_tests

`--candidate`, `--baseline`, `--incumbent`, `--original` and `--checks` are options where a folder `stress_tests` has a
gate. Options of your own project belong into `addopts` of its pytest configuration.

Help texts name settings without the prefix: `data` is `--stress-data` for pytest, and `--data` for a command.
"""
_GROUPS = {
    "models": "Models",
    "data": "Images",
    "network": "Networks and predictors",
    "scope": "Scope",
    "backend": "Backend",
    "report": "Reports",
}
"""Title of each group of settings."""


def page() -> str:
    """Return the whole page."""
    return "\n".join([_BEGIN + _summaries(), _GATE, *_settings(), *_commands()])


def _summaries() -> str:
    rows = [(f"[`{name}`](#{name})", told) for each in COMMANDS.values() for name, (_, told) in each.items()]
    gate = ("[`pytest stress_tests`](#pytest-stress-tests)", "Run the stress tests on a candidate.")
    return _table(("command", "what it does"), [gate, *rows])


def _settings() -> Iterator[str]:
    """Yield the options of the gate, by group."""
    settings = sorted(SETTINGS.values(), key=lambda each: list(_GROUPS).index(each.group))
    for group, those in groupby(settings, key=lambda each: each.group):
        yield f"### {_GROUPS[group]}\n\n{_table(('option', 'meaning'), map(_setting, those))}"


def _setting(setting: Setting) -> tuple[str, str]:
    choices = "|".join(map(str, setting.choices))
    value = "" if setting.flag else setting.metavar or choices or setting.type.__name__.upper()
    return _code(f"{option_of_pytest(setting.name)} {value}"), _escaped(setting.help)


def _commands() -> Iterator[str]:
    """Yield a section for each command."""
    for name in (name for each in COMMANDS.values() for name in each):
        command = commands.get_command(click.Context(commands), name)
        assert command is not None
        yield _section(f"## {name}", f"stress-harness {name}", command)


def _section(heading: str, line: str, command: click.Command) -> str:
    """Return the section of a command: its purpose, its command line and its options; then those of its commands."""
    context = click.Context(command, info_name=line)
    usage = " ".join([line, *command.collect_usage_pieces(context)])
    example = getattr(command, "example", "")
    shown = f"{usage}\nstress-harness {example}" if example else usage
    parts = [f"{heading}\n", f"{_escaped(command.help or '')}\n", f"```text\n{shown}\n```\n"]
    options = [each for each in command.params if isinstance(each, click.Option)]
    shared = [each for each in options if _is_shared(each)]
    rows = [(_option(each, context), _escaped(each.help or "")) for each in options if each not in shared]
    if shared:
        names = ", ".join(_code(each.opts[0]) for each in shared)
        rows.append((names, "See [the options of pytest](#pytest-stress-tests), there with the prefix `--stress-`."))
    if rows:
        parts.append(_table(("option", "meaning"), rows))
    if isinstance(command, click.Group):
        parts += [_section(f"#{heading} {name}", f"{line} {name}", each) for name, each in command.commands.items()]
    return "\n".join(parts)


def _is_shared(option: click.Option) -> bool:
    """Return whether an option is that of a setting, which says the same for pytest."""
    setting = SETTINGS.get(option.opts[0].removeprefix("--"))
    return setting is not None and setting.help == option.help


def _option(option: click.Option, context: click.Context) -> str:
    value = "" if option.is_flag else option.make_metavar(context)
    return _code(f"{', '.join((*option.opts, *option.secondary_opts))} {value}")


def _table(head: tuple[str, str], rows: Iterable[tuple[str, str]]) -> str:
    lines = [head, ("---", "---"), *rows]
    return "".join(f"| {first} | {second} |\n" for first, second in lines)


def _code(text: str) -> str:
    return f"`{text.strip()}`".replace("|", r"\|")


def _escaped(text: str) -> str:
    """Return a text on one line, in which Markdown finds no markup but code."""
    parts = re.split("(`[^`]*`)", " ".join(text.split()))
    plain = (part if part.startswith("`") else re.sub(r"([*_<>\[\]])", r"\\\1", part) for part in parts)
    return "".join(plain).replace("|", r"\|")


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
