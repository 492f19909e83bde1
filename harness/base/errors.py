"""The error of bad input, what was found, expected and to do next; and what runs code that is not ours."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


_PASSWORD = re.compile(r"([A-Za-z][\w+.-]*://[^/\s:@?]*):[^/\s@]+@")
_USER = re.compile(r"(https?://)[^/\s:@?#]+@", re.IGNORECASE)
_QUERY = re.compile(r"([A-Za-z][\w+.-]*://[^\s?'\"]*\?)[^\s'\"]*[^\s'\":;,.)\]]")
_COPY = 4
"""Exit status of a copy of a process, should somebody ask: of the gate's, that nothing was judged."""


class InputError(Exception):
    """An input that the harness cannot work with; its message is written for the user and needs no traceback.

    The message is one line, whatever stands in the names of files, with lines `below` where there is more to say.
    `setting` names the setting that it is about, such as `size`, perhaps with the value given, `size 64y`. It leads the
    text of the error; a surface puts its own option there instead (`harness.base.settings.told`).
    The gate ends with exit status 4 on it, `stress-harness` with 2.
    """

    def __init__(self, message: str, *, below: Sequence[str] = (), setting: str = "") -> None:
        self.message = "\n".join(map(printable, (message, *below)))
        self.setting = printable(setting)
        super().__init__(f"{self.setting}: {self.message}" if setting else self.message)


class NotApplicableError(InputError):
    """Something that this model or these data cannot be asked, such as attention of a model without a convolution.

    A stress test that raises it is not applicable, with the message as the reason; the run goes on.
    """


class NotRecordedError(NotApplicableError):
    """Something that reference models were not asked, so that no threshold on it can be held, should there be one."""


class NoModelError(NotApplicableError):
    """A role without a model: a check that compares with it does not apply."""

    def __init__(self, message: str, *, role: str) -> None:
        super().__init__(message)
        self.role = role


class Interruption(BaseException):
    """An interruption from outside, such as Ctrl-C; the code that it is raised in has not caused it."""


@contextmanager
def foreign_code() -> Iterator[None]:
    """Run code that is not ours, such as a user's network: what it raises is an `Exception`, whatever it is.

    `SystemExit`, pytest's outcomes and the like are no `Exception`, so that they would end the process, or the test,
    with the code's own word for a verdict. A copy of this process that it makes (`os.fork`) does not come back.
    """
    process = os.getpid()
    try:
        yield
    except (Exception, KeyboardInterrupt, Interruption):
        raise
    except BaseException as error:
        raise raised(error) from error
    finally:
        end_copy(process)


def end_copy(process: int) -> None:
    """End this process at once if it is a copy of that one: else two would go on with one piece of work."""
    if os.getpid() != process:
        os._exit(_COPY)


_DISTRIBUTIONS = {"cv2": "opencv-python-headless", "PIL": "pillow", "sklearn": "scikit-learn", "xdist": "pytest-xdist"}
"""Packages that are installed by another name than they are imported by."""


def lacking(error: BaseException) -> str:
    """Say in one line which package cannot be imported, why, and what to install; of another error what it says."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ImportError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return printable(f"{type(error).__name__}: {error}".strip(": "))
    package = _package_of(cause)
    install = f"pip install {_DISTRIBUTIONS.get(package, package)}"
    if package == "cv2" and ".so" in str(cause):
        install += ", or the system's package of that library (libGL.so.1: apt-get install libgl1)"
    return printable(
        f"the package {package} cannot be imported ({cause}); the candidate was not evaluated; mend it: {install}"
    )


def _package_of(error: ImportError) -> str:
    """Return the package that an import failed in: the one that the error names, or else the last in its traceback."""
    named = (error.name or "").partition(".")[0]
    traceback = None if named not in {"", "harness"} else error.__traceback__
    while traceback is not None:
        package = str(traceback.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
        named = named if package in {"", "importlib"} else package
        traceback = traceback.tb_next
    return named or "of this name"


def raised(error: BaseException) -> RuntimeError:
    """Return an `Exception` that says what code raised that is none."""
    return RuntimeError(f"it raised {type(error).__name__}: {error}")


def printable(text: object) -> str:
    """Return text fit for a line of a terminal, a log or a page.

    What cannot be printed is escaped as in Python, and secrets in URLs are left out.
    """
    line = without_secrets(str(text))
    if line.isprintable():
        return line
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in line)


def writable(text: str) -> str:
    """Return text that can be written as UTF-8: names and arguments may hold bytes that are none, which are escaped."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def without_secrets(text: str) -> str:
    """Return text less what gives whoever reads it access to the URLs in it: passwords, and queries, which sign them.

    `https://host/a.tar?X-Amz-Signature=31f2` becomes `https://host/a.tar?…`. A user of a web server without a password
    may be a token, so it is left out, too.
    """
    if "://" not in text:
        return text
    return _QUERY.sub(r"\1…", _USER.sub(r"\1…@", _PASSWORD.sub(r"\1:…@", text)))


def some_of(names: Sequence[str], *, shown: int = 5) -> str:
    """Return the first names, joined by commas, and how many more there are: `a, b and 3 more`."""
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")
