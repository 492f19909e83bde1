"""Parts of pages that follow from the code: `python docs/from_the_code.py` writes them.

`--check` names stale pages. A part stands between `<!-- from: NAME -->` and `<!-- end -->`. A name
is an entry of `PARTS`, or that of a module or function. These are listed with signatures and the
first paragraphs of docstrings.
"""

from __future__ import annotations

import inspect
import re
import sys
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _pytest.fixtures import FixtureFunctionDefinition

import harness.measures
from docs import options_page
from docs.options_page import code, escaped, table
from harness.base.errors import InputError
from harness.checks.families import FAMILIES
from harness.features import hookspecs
from harness.measures import METRICS
from harness.perturb.corruptions import CORRUPTIONS
from harness.plugin import fixtures

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCS = Path(__file__).parent
MOST_TYPED = 8
"""Parameters of a call that is shown with types, at most."""
PART = re.compile(r"(<!-- from: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True)
class Unquoted:
    """An annotation, which a signature shows without quotes."""

    text: str

    def __repr__(self) -> str:
        return self.text


def summary(thing: object) -> str:
    """Return the first paragraph of a docstring."""
    return escaped((inspect.getdoc(thing) or "").split("\n\n")[0])


def signature(name: str, function: Any) -> str:
    """Return the call of a function or a class, without `self`; a long one has no types."""
    found = inspect.signature(function)
    parameters = [each for each in found.parameters.values() if each.name != "self"]
    typed = len(parameters) <= MOST_TYPED
    parameters = [
        each.replace(annotation=_unquoted(each.annotation, shown=typed)) for each in parameters
    ]
    result = _unquoted(found.return_annotation, shown=inspect.isroutine(function))
    text = str(found.replace(parameters=parameters, return_annotation=result))
    text = re.sub(
        r"ForwardRef\('(.*?)'\)|<class '(?:\w+\.)*(\w+)'>", lambda match: match[1] or match[2], text
    )
    return name + re.sub(r"<(?:factory|\w+ (\w+) at 0x\w+)>", lambda match: match[1] or "…", text)


def _unquoted(annotation: Any, *, shown: bool) -> Any:
    if not shown:
        return inspect.Parameter.empty
    return Unquoted(annotation) if isinstance(annotation, str) else annotation


def module(name: str) -> Iterator[str]:
    """Yield a line for each public class and function of a module.

    Below a class there is a line for each of its members.
    """
    try:
        thing: Any = import_module(name)
    except ModuleNotFoundError:
        home, _, member = name.rpartition(".")
        thing = import_module(home)
        yield from _member(member, getattr(thing, member))
        return
    source = Path(inspect.getfile(thing)).relative_to(DOCS.parent)
    yield f"{summary(thing)} Source: [`{source.as_posix()}`](../../{source.as_posix()}).\n"
    for public in getattr(thing, "__all__", vars(thing)):
        member = getattr(thing, public)
        here = hasattr(thing, "__all__") or getattr(member, "__module__", "") == name
        if (
            here
            and not public.startswith("_")
            and (inspect.isclass(member) or inspect.isroutine(member))
        ):
            yield from _member(public, member)


def _member(name: str, thing: Any) -> Iterator[str]:
    called = name if inspect.isclass(thing) and issubclass(thing, Enum) else signature(name, thing)
    yield f"- {code(called)}: {summary(thing)}"
    for public, member in vars(thing).items() if inspect.isclass(thing) else ():
        function = getattr(member, "__func__", member)
        if public.startswith("_") or not summary(function):
            continue
        if isinstance(function, property | cached_property):
            yield f"  - {code(public)}: {summary(function)}"
        elif inspect.isroutine(function):
            yield f"  - {code(signature(public, function))}: {summary(function)}"


def measures() -> str:
    """Return the functions of `harness.measures` that return a measurement."""
    found = [each for each in vars(harness.measures).items() if inspect.isroutine(each[1])]
    return "\n".join(
        line
        for name, each in found
        if inspect.signature(each).return_annotation == "Measurement"
        for line in _member(name, each)
    )


def metrics() -> str:
    """Return a table of the metrics."""
    rows = (
        (code(name), each.unit.value, each.better, escaped(each.sentence))
        for name, each in METRICS.items()
    )
    return table(("metric", "unit", "better", "meaning"), rows)


def families() -> str:
    """Return a table of the families."""
    rows = (
        (code(name), f"[{each.title}](../{each.page}.md)", escaped(each.measures))
        for name, each in FAMILIES.items()
    )
    return table(("family", "page", "what its checks measure"), rows)


def given_to_tests() -> str:
    """Return a table of the fixtures of a stress test."""
    found = [
        each for each in vars(fixtures).values() if isinstance(each, FixtureFunctionDefinition)
    ]
    values = ((each.name, summary(each).removeprefix("Return ")) for each in found)
    rows = ((code(name), value[:1].upper() + value[1:]) for name, value in values)
    return table(("fixture", "value"), rows)


def corruptions() -> str:
    """Return a table of the corruptions."""
    rows = ((name, kind.effect, kind.levels_in_words) for name, kind in CORRUPTIONS.items())
    return table(("corruption", "effect", "level at severities 1 to 5"), rows)


def hooks() -> str:
    """Return the hooks of features in the order of their module.

    With the result and the arguments of each, and the moment of its call.
    """
    specified = [each for each in vars(hookspecs).items() if each[0].startswith("stress_")]
    return "\n\n".join(_hook(name, function) for name, function in specified)


def _hook(name: str, function: Any) -> str:
    """Return a section on a hook, with the parts of its docstring in the Google style."""
    described, *rest = re.split(
        r"\n\n(?=(?:Args|Returns|Raises):\n)", inspect.getdoc(function) or ""
    )
    paragraphs = " ".join(described.split())
    lines = [f"### {name}", "", code(signature(name, function)), "", escaped(paragraphs), ""]
    for part in rest:
        title, _, text = part.partition(":\n")
        if title == "Returns":
            lines.append(f"- Returns: {escaped(' '.join(text.split()))}")
            continue
        verb = "Raises " if title == "Raises" else ""
        for entry in re.split(r"\n(?=    \w+: )", text):
            argument, _, meaning = " ".join(entry.split()).partition(": ")
            lines.append(f"- {verb}{code(argument)}: {escaped(meaning)}")
    return "\n".join(lines)


PARTS = {
    "options": options_page.page,
    "measures": measures,
    "metrics": metrics,
    "families": families,
    "fixtures": given_to_tests,
    "corruptions": corruptions,
    "hooks": hooks,
}


def filled(page: str) -> str:
    """Return a page with its parts as the code has them."""

    def part(match: re.Match[str]) -> str:
        name = match[2]
        if name not in PARTS and not name.startswith("harness"):
            raise InputError(
                f"no part is called {name}; expected a module, or one of {', '.join(PARTS)}"
            )
        text = PARTS[name]() if name in PARTS else "\n".join(module(name))
        return f"{match[1]}\n{text.strip()}\n\n{match[3]}"

    return PART.sub(part, page)


def stale() -> dict[Path, str]:
    """Return the pages that differ from the code, each with the text that it should have."""
    pages = {path: path.read_text("utf-8") for path in sorted(DOCS.glob("**/*.md"))}
    return {path: now for path, text in pages.items() if (now := filled(text)) != text}


if __name__ == "__main__":
    found = stale()
    if sys.argv[1:] == ["--check"]:
        sys.exit(
            f"stale, run python -m docs.from_the_code: {', '.join(map(str, found))}" if found else 0
        )
    for path, text in found.items():
        path.write_text(text, "utf-8")
