"""The user's code: its import by `package.module:name`, and a registry of what it declares beside what ships."""

from __future__ import annotations

import importlib
import inspect
import io
import operator
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar

from harness.base.errors import InputError, UserCodeError, foreign_code, some_of
from harness.base.imports import digest

T = TypeVar("T")


def is_name(spec: str) -> bool:
    """Return whether text has the form of `package.module:name`."""
    return (
        re.fullmatch(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*(?:\.[^\W\d]\w*)*", spec) is not None
    )


def imported(spec: str, *, setting: str, otherwise: str = "") -> Any:
    """Return the object that `package.module:name` names; the working directory is importable.

    Raises `InputError`, which names the setting, for another form and for a failed import; `otherwise` ends the
    message.
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
    """Give the user's code an empty command line and no input, since both belong to pytest or the command."""
    before = sys.argv, sys.stdin
    sys.argv, sys.stdin = [name], io.StringIO()
    try:
        yield
    finally:
        sys.argv, sys.stdin = before


def _module_of_file(file: str, path: str) -> str:
    """Return advice for the name of a Python file in place of a module's; empty for any other name."""
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
    return f'{what}, when it was imported; put the code of the script under `if __name__ == "__main__":`'


def source_digest(spec: str) -> str:
    """Return a hash of the file of the imported module in `package.module:name`; empty without a file."""
    return digest(str(getattr(sys.modules.get(spec.partition(":")[0]), "__file__", "")))


class Registry(Mapping[str, T]):
    """A table of things by name, first those that ship, to which the user's code may add.

    `what` names the kind of things in messages. An installed package lists its declaring modules in the entry point
    group `group`. The registry imports them for a name that does not ship, and for a list of all names.
    """

    def __init__(
        self, what: str, shipped: Mapping[str, T] | Callable[[], Mapping[str, T]], *, group: str
    ) -> None:
        self.what, self.group, self._shipped = what, group, shipped
        self._added: dict[str, tuple[T, str, Path | None]] = {}
        self._loaded = False

    @cached_property
    def shipped(self) -> Mapping[str, T]:
        """Return the things that ship; a function gives them at the first look, when all modules are there."""
        return self._shipped() if callable(self._shipped) else self._shipped

    def add(self, name: str, thing: T, *, declared_by: Any) -> None:
        """Add a thing under a name; `declared_by` is the function or class of the declaration.

        Raises `InputError`, which names both, if the name is taken. The same code may declare it again.
        """
        try:
            file = Path(inspect.getfile(declared_by)).resolve()
        except TypeError:  # An object without a file.
            file = None
        by = f"{declared_by.__module__}.{declared_by.__qualname__}" + (f" ({file})" if file else "")
        if name in self.shipped:
            raise UserCodeError(
                f"{self.what} {name!r} is declared by {by}, but one of this name ships with the harness; choose "
                "another name"
            )
        if (old := self._added.get(name)) and old[1] != by:
            raise UserCodeError(
                f"{self.what} {name!r} is declared twice, by {old[1]} and by {by}; rename one of them"
            )
        self._added[name] = thing, by, file

    def sources(self) -> tuple[Path, ...]:
        """Return the files of code of all declarations, including whole packages with an entry point.

        Any module of such a package may affect the declared things.
        """
        self._load()
        files = {file for _, _, file in self._added.values() if file}
        for point in entry_points(group=self.group):
            top = sys.modules.get(point.module.partition(".")[0])
            for place in map(
                Path, [getattr(top, "__file__", None) or "", *getattr(top, "__path__", ())]
            ):
                files |= {place} if place.is_file() else set(place.rglob("*.py"))
        return tuple(sorted(files))

    def __getitem__(self, name: str) -> T:
        """Return the thing of this name; raises `KeyError` for an unknown name."""
        if name in self.shipped:
            return self.shipped[name]
        if name not in self._added:
            self._load()
        return self._added[name][0]

    def __iter__(self) -> Iterator[str]:
        self._load()
        yield from (*self.shipped, *self._added)

    def __len__(self) -> int:
        self._load()
        return len(self.shipped) + len(self._added)

    def _load(self) -> None:
        """Import the modules of installed packages once; raises `InputError` if an import fails."""
        if self._loaded:
            return
        self._loaded = True
        for point in entry_points(group=self.group):
            try:
                with foreign_code():
                    point.load()
            except InputError:
                raise
            except Exception as error:
                package = point.dist.name if point.dist else "an installed package"
                raise UserCodeError(
                    f"entry point {point.name} = {point.value} of {package} ({self.group}): cannot be loaded "
                    f"({error!r}); repair or remove the package"
                ) from None
