"""The user's code: its import by `package.module:name`."""

from __future__ import annotations

import importlib
import io
import operator
import re
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.base.errors import UserCodeError, foreign_code, some_of
from harness.base.imports import digest

if TYPE_CHECKING:
    from collections.abc import Iterator


def is_name(spec: str) -> bool:
    """Return whether text has the form of `package.module:name`."""
    return (
        re.fullmatch(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*(?:\.[^\W\d]\w*)*", spec) is not None
    )


def imported(spec: str, *, setting: str, otherwise: str = "") -> Any:
    """Return the object that `package.module:name` names; the working directory is importable.

    Raises `InputError`, which names the setting, for another form and for a failed import;
    `otherwise` ends the message.
    """
    if not is_name(spec):
        raise UserCodeError("expected package.module:name", setting=f"{setting} {spec}")
    return named_object(spec, setting=setting, otherwise=otherwise)


def named_object(spec: str, *, setting: str, otherwise: str = "") -> Any:
    """Return the object that `module:name` names, with parts of any form; see `imported`.

    For a script, which reads a command line or asks for input, the error says so.
    """
    module_name, _, path = spec.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        with no_script(module_name), foreign_code():
            module = importlib.import_module(module_name)
    except Exception as error:  # The import runs the user's module, which may raise any exception.
        advice = (
            _module_of_file(module_name, path) if isinstance(error, ModuleNotFoundError) else ""
        )
        raise UserCodeError(
            f"cannot be imported ({_happened(error)}){advice}{otherwise}",
            setting=f"{setting} {spec}",
        ) from error
    try:
        return operator.attrgetter(path)(module)
    except AttributeError as error:
        own = [
            name
            for name, value in vars(module).items()
            if getattr(value, "__module__", "") == module_name
        ]
        what = f"AttributeError: {error}; it has {some_of(own) or 'no callable'}"
        raise UserCodeError(
            f"cannot be imported ({what}){otherwise}", setting=f"{setting} {spec}"
        ) from error


@contextmanager
def no_script(name: str) -> Iterator[None]:
    """Give the user's code an empty command line and no input.

    Both belong to pytest or the command.
    """
    before = sys.argv, sys.stdin
    sys.argv, sys.stdin = [name], io.StringIO()
    try:
        yield
    finally:
        sys.argv, sys.stdin = before


def _module_of_file(file: str, path: str) -> str:
    """Return advice for the name of a Python file in place of a module's.

    Empty for any other name.
    """
    location = Path(file)
    if location.suffix != ".py" or location.is_absolute():
        return ""
    module = ".".join(location.with_suffix("").parts)
    return f"; {file} is a file, so write its module, {module}:{path}"


def _happened(error: Exception) -> str:
    """Return a description of a failed import, with the remedy for a script."""
    if isinstance(error.__cause__, SystemExit):
        what = f"it ended the process, {error}, as a script does that reads a command line"
    elif isinstance(error, EOFError):
        what = "it asked for input"
    else:
        return repr(error)
    return (
        f"{what}, when it was imported; put the code of the script under "
        '`if __name__ == "__main__":`'
    )


def source_digest(spec: str) -> str:
    """Return a hash of the file of the imported module in `package.module:name`.

    Empty without a file.
    """
    return digest(str(getattr(sys.modules.get(spec.partition(":")[0]), "__file__", "")))
