"""Outputs: the files that a command or a run makes, and their kinds.

None replaces an input or a foreign file.

Each kind of output has a pattern for the beginning of its files. The harness writes files through
`Output`; the list in `tests/project/test_writers.py` has the other writers, caches and temporary
files, each with its reason.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.errors import OutputError, said_of
from harness.base.files import append_line, write_all_or_none, write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_HEAD = 1 << 18
"""Number of bytes that identify the kind of a file."""
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_START = len(_PNG) + 25
"""Bytes of a PNG file up to the end of its first chunk, IHDR."""
_MARK = b"tEXtSoftware\0stress-harness"


@dataclass(frozen=True)
class OutputKind:
    """A kind of output.

    Its name in messages, and a pattern (DOTALL) that the beginning of its own files matches.

    An empty file is of every kind.
    """

    name: str
    pattern: bytes


PAGE = OutputKind(
    "a page of the harness",
    rb'(?i)\s*<!doctype html>.*?(?:class="stress"|content="stress-harness")',
)
_VERDICT = rb'(?i)[^\0]*?(?:pass|fail|partial|error|verdict|quality gate|id="head-title")'
"""Pattern of a text that could pass as the verdict of a run.

That of an earlier run must not remain.
"""
REPORT_PAGE = OutputKind("the page of a gate run", _VERDICT)
REPORT_JSON = OutputKind("the record of a gate run", _VERDICT)
REPORT_MARKDOWN = OutputKind("the summary of a gate run", _VERDICT)
REPORT_PICTURE = OutputKind("a picture of a gate run", rb"RIFF.{4}WEBP")
HISTORY = OutputKind("a run history", rb'(?:[^\0]*\n)?\s*(?:\{[^\n]*"candidate"\s*:|<{7}|>{7})')
PICTURE = OutputKind("a picture of the harness", re.escape(_PNG) + rb".{25,70}" + re.escape(_MARK))
FIGURE = OutputKind(
    "a figure of the harness", rb"\s*<\?xml[^\0]*?<dc:title>Matplotlib v|" + PICTURE.pattern
)
CURVES = OutputKind(
    "curves of a training",
    re.escape(_PNG) + rb".{25,70}tEXtSoftware\0(?:stress-harness|Matplotlib)",
)
CHECKPOINT = OutputKind(
    "a native checkpoint", rb'.{8}\{.*?"__metadata__"\s*:\s*\{[^\n]*?"harness"\s*:'
)
ONNX = OutputKind("an ONNX file", rb"\x08[\x01-\x20][\x12\x1a\x22\x28\x32\x3a\x42]")
TRAINING_STATE = OutputKind("the state of a training", rb".{32}PK\x03\x04")
EPOCHS = OutputKind("the epochs of a training", rb'\[\s*(?:\{\s*"epoch"|\])')
PANEL = OutputKind(
    "a reference panel",
    rb'\s*\{\s*"schema"(?!.*?"verdict"\s*:)(?=.*?"data_sha256"\s*:)(?=.*?"recipe"\s*:)',
)
PANEL_PREDICTIONS = OutputKind(
    "the predictions of a reference panel", rb"PK\x03\x04.{26}panel_predictions\.npy"
)
INCUMBENT_DECLARATION = OutputKind(
    "the declaration of an incumbent", rb"(?:#[^\n]*\n|\s)*schema\s*=\s*\d+\s*\n\s*file\s*="
)
CHECKS = OutputKind("a checks file", rb"(?:[^\0]*\n)?\s*schema\s*=\s*\d")


def table_kind(name: str, first_title: str) -> OutputKind:
    """Return the kind of CSV files called `name`, with this title first in the line of titles."""
    return OutputKind(name, re.escape(first_title.encode()) + rb",")


@dataclass(frozen=True)
class Inputs:
    """The files and folders that a command reads; every file in such a folder is an input too."""

    paths: tuple[Path, ...] = ()

    def holding(self, path: Path) -> Path | None:
        """Return the input that a path leads to or lies in, under any name; None if it is no input.

        Links, hard links and names that the file system treats as equal lead to the same file.
        """
        place = path.resolve()
        for each in self.paths:
            if _same(each, place) or (
                each.is_dir() and any(_same(each, parent) for parent in place.parents)
            ):
                return each
        return None

    def without(self, paths: Iterable[Path]) -> Inputs:
        """Return the inputs without those at these paths, which the command replaces."""
        left_out = {path.resolve() for path in paths}
        return Inputs(tuple(path for path in self.paths if path.resolve() not in left_out))

    def and_more(self, others: Iterable[Path]) -> Inputs:
        """Return these inputs and others."""
        return Inputs((*self.paths, *others))


def _same(one: Path, place: Path) -> bool:
    try:
        return one.samefile(place)
    except (OSError, ValueError):
        return one.resolve() == place


@dataclass(frozen=True)
class Output:
    """A file that a command makes, of a kind; `inputs` are files that it must not replace.

    No link between the folder `within` and the file is followed. A link elsewhere leads to the file
    that is written.
    """

    path: Path
    kind: OutputKind
    inputs: Inputs = Inputs()
    within: Path | None = None

    def expect_own(self) -> Path:
        """Return the path to write.

        Raises `InputError` if that would replace anything but an output of this kind.

        It is called before long work begins, and again at the write.
        """
        try:
            place = self.path.resolve()
            refusal = self._refusal(place)
        except (OSError, RuntimeError, ValueError) as error:  # For example a link to itself.
            refusal = f"cannot be written ({said_of(error)}); name another file"
        if refusal:
            raise OutputError(f"{self.path}: {refusal}")
        return place

    def _refusal(self, place: Path) -> str:
        """Return why the file at this place is not written; empty if it may be."""
        path = Path(os.path.abspath(self.path))  # noqa: PTH100
        within = Path(os.path.abspath(self.within or self.path))  # noqa: PTH100
        steps = [path, *path.parents]
        for step in steps[: steps.index(within)] if within in steps else ():
            if step.is_symlink():
                return (
                    f"{step} is a link to {step.readlink()}, but outputs in {within} follow no "
                    "links; remove it"
                )
        if (read := self.inputs.holding(self.path)) is not None:
            same = "" if read == self.path else f", by the name {read}"
            return (
                f"is an input of this command{same}, and {self.kind.name} would replace it; name "
                "another file"
            )
        try:
            regular = stat.S_ISREG(place.stat().st_mode)
        except FileNotFoundError:
            folder = next(parent for parent in place.parents if parent.exists())
            denied = "" if os.access(folder, os.W_OK) else os.strerror(errno.EACCES)
            return denied and f"cannot be written ({denied}); name another file"
        if not regular:
            what = "a folder" if place.is_dir() else "no regular file"
            return f"is {what}, expected a file for {self.kind.name}; name another file"
        with place.open("rb") as file:
            head = file.read(_HEAD)
        if not head or re.match(self.kind.pattern, head, re.DOTALL):
            return ""
        return (
            f"exists and is not {self.kind.name}, so it is not replaced; name another file, or "
            "move this one away"
        )

    def write(self, content: bytes, *, durable: bool = True) -> None:
        """Write the content, complete or not at all; raises `InputError` as `expect_own` does."""
        write_atomically(self.expect_own(), marked_png(content), durable=durable)

    def append_line(self, line: str) -> None:
        """Append a line.

        Raises `InputError` as `expect_own` does, and `OSError` if it cannot be written completely.
        """
        append_line(self.expect_own(), line)

    def remove(self) -> None:
        """Remove the file if it exists; for a link, remove only the link.

        Raises `InputError` for a file of another kind.
        """
        if not self.path.is_symlink():
            self.expect_own()
        self.path.unlink(missing_ok=True)


def write_together(contents: Mapping[Output, bytes]) -> None:
    """Write several outputs, or none of them.

    Raises `InputError` as `Output.expect_own` does, and `OSError`.
    """
    write_all_or_none({output.expect_own(): content for output, content in contents.items()})


def marked_png(content: bytes) -> bytes:
    """Return a PNG file's content with the harness's mark; other content does not change."""
    if not content.startswith(_PNG) or _MARK in content[:_HEAD]:
        return content
    chunk = (len(_MARK) - 4).to_bytes(4, "big") + _MARK + zlib.crc32(_MARK).to_bytes(4, "big")
    return content[:_PNG_START] + chunk + content[_PNG_START:]
