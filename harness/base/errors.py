"""Errors for invalid input, the context for the user's code, and text that can be printed."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.base.codes import Code, coded, explained_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


_PASSWORD = re.compile(r"([A-Za-z][\w+.-]*://[^/\s:@?]*):[^/\s@]+@")
_USER = re.compile(r"(https?://)[^/\s:@?#]+@", re.IGNORECASE)
_QUERY = re.compile(r"([A-Za-z][\w+.-]*://[^\s?'\"]*\?)[^\s'\"]*[^\s'\":;,.)\]]")
_COPY = 4
"""Exit status of a forked process that ends here.

It is the gate's status for an inconclusive run.
"""


class InputError(Exception):
    """Invalid input; the message is for the user and needs no traceback.

    The message is one line, even with odd names of files, and may have more lines `below`.
    `setting` names the setting at fault, such as `size`, perhaps with its value, `size 64y`. It
    begins the text; pytest and the command line put their own option there (`told`). The gate then
    ends with exit status 4, and `stress-harness` with 2. The `code` is that of the class unless
    given, as for an error that repeats another. It is printed in front, see `coded`.
    """

    code: str = Code.USAGE

    def __init_subclass__(cls, code: str = "") -> None:
        cls.code = code or cls.code

    def __init__(
        self, message: str, *, below: Sequence[str] = (), setting: str = "", code: str = ""
    ) -> None:
        self.message = "\n".join(map(printable, (message, *below)))
        self.setting = printable(setting)
        self.code = code or self.code
        super().__init__(f"{self.setting}: {self.message}" if setting else self.message)
        # In a traceback, as of a notebook.
        self.add_note(f"[{self.code}] see `stress-harness docs {explained_at(self.code)}`")


class ConfigurationError(InputError, code=Code.CONFIGURATION):
    """A configuration of pytest, or of a repository's gate, that cannot be used."""


class DataError(InputError, code=Code.DATA):
    """Images, labels, groups or masks that cannot be used."""


class PipelineError(InputError, code=Code.PIPELINE):
    """A pipeline from a picture to pixels that cannot be used, or contradicts another."""


class UnusableModelError(InputError, code=Code.MODEL):
    """A model that cannot be built or opened, or does not fit the data."""


class ServerError(InputError, code=Code.SERVER):
    """A served model with an address, credentials or metadata that cannot be used."""


class AnswersError(InputError, code=Code.ANSWERS):
    """Recorded predictions that are incomplete, or belong to other images or checks."""


class UserCodeError(InputError, code=Code.USER_CODE):
    """The user's own code, which cannot be imported or is not of the expected kind."""


class PackageError(InputError, code=Code.PACKAGE):
    """A package that is missing or too old."""


class FeatureError(InputError, code=Code.FEATURE):
    """A feature of an installed package that cannot be used; every command then ends with 4."""


class PanelError(InputError, code=Code.PANEL):
    """A panel of reference models, or its predictions, that cannot be used."""


class CalibrationError(InputError, code=Code.CALIBRATION):
    """A calibration that cannot set thresholds."""


class IncumbentError(InputError, code=Code.INCUMBENT):
    """A declared incumbent that is missing, or has other content."""


class OutputError(InputError, code=Code.OUTPUT):
    """A file that cannot be written, or would replace an input or a file of another kind."""


class ChangedError(InputError, code=Code.CHANGED):
    """An input that changed while it was used."""


class ClusterError(InputError, code=Code.CLUSTER):
    """A cluster that cannot be joined, or cannot run this model."""


class NotApplicableError(InputError, code=Code.NOT_APPLICABLE):
    """A measurement that this model or these data do not allow.

    An example is attention without a convolution. A stress test that raises it is not applicable,
    with the message as the reason; the run continues.
    """


class NotRecordedError(NotApplicableError):
    """A measurement without recorded values of reference models, so that it has no threshold."""


class NoModelError(NotApplicableError):
    """A role without a model; checks that compare with it are not applicable."""

    def __init__(self, message: str, *, role: str) -> None:
        super().__init__(message)
        self.role = role


class Interruption(BaseException):
    """An interruption from outside, such as Ctrl-C, and not an error of the running code."""

    code: str = Code.INTERRUPTED


def code_of(error: BaseException) -> str:
    """Return the code of an exception of any kind."""
    if isinstance(error, InputError | Interruption):
        return error.code
    if _failed_import(error) is not None:
        return Code.PACKAGE
    kinds = {MemoryError: Code.MEMORY, OSError: Code.FILE, KeyboardInterrupt: Code.INTERRUPTED}
    return next((code for kind, code in kinds.items() if isinstance(error, kind)), Code.INTERNAL)


def reason(error: BaseException) -> str:
    """Return the message of an error with its code in front."""
    return coded(code_of(error), str(error))


def said_of(error: Exception) -> str:
    """Return what an exception of any kind says, of the system without its number and file."""
    return str(getattr(error, "strerror", None) or error or repr(error))


@contextmanager
def foreign_code() -> Iterator[None]:
    """Run the user's code, such as a network, and turn anything that it raises into an `Exception`.

    `SystemExit`, pytest's outcomes and the like are no `Exception`. They would end the process or
    the test, and the user's code would set the verdict. A fork of this process by the code
    (`os.fork`) ends here.
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
    """End this process at once if it is a fork of `process`.

    Two processes would continue the same work.
    """
    if os.getpid() != process:
        os._exit(_COPY)


_DISTRIBUTIONS = {
    "cv2": "opencv-python-headless",
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "xdist": "pytest-xdist",
}
"""Packages with another name for installation than for import."""


def lacking(error: BaseException) -> str:
    """Return one line with the package that cannot be imported, the reason and the remedy.

    Else the error's text.
    """
    cause = _failed_import(error)
    if cause is None:
        return printable(f"{type(error).__name__}: {error}".strip(": "))
    package = _package_of(cause)
    install = f"pip install {_DISTRIBUTIONS.get(package, package)}"
    if package == "cv2" and ".so" in str(cause):
        install += ", or the system's package of that library (libGL.so.1: apt-get install libgl1)"
    return printable(
        f"the package {package} cannot be imported ({cause}), so the candidate was not evaluated; "
        f"repair it: {install}"
    )


def _failed_import(error: BaseException) -> ImportError | None:
    """Return the failed import behind an error; None without one."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ImportError):
        cause = cause.__cause__ or cause.__context__
    return cause


def _package_of(error: ImportError) -> str:
    """Return the package of a failed import.

    The one that the error names, or else the last in its traceback.
    """
    named = (error.name or "").partition(".")[0]
    traceback = None if named not in {"", "harness"} else error.__traceback__
    while traceback is not None:
        package = str(traceback.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
        named = named if package in {"", "importlib"} else package
        traceback = traceback.tb_next
    return named or "of this name"


def raised(error: BaseException) -> RuntimeError:
    """Return an `Exception` that describes another exception."""
    return RuntimeError(f"it raised {type(error).__name__}: {error}")


def printable(text: object) -> str:
    """Return text for one line of a terminal, a log or a page.

    Unprintable characters are escaped as in Python, and secrets in URLs are removed.
    """
    line = without_secrets(str(text))
    if line.isprintable():
        return line
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in line)


def harmless(text: object) -> str:
    """Return text for one line of a terminal or a CI log that is no command of either.

    GitHub runs a line that begins with `::`, and a line with `##[` in it.
    """
    line = printable(text).replace("##[", r"\x23#[")
    return re.sub(r"^(\s*):(?=:)", r"\1\\x3a", line)


def writable(text: str) -> str:
    """Return text that can be written as UTF-8.

    Undecodable bytes of names and arguments are escaped.
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def without_secrets(text: str) -> str:
    """Return text without the secrets of its URLs.

    Passwords, and queries, which may contain signatures.

    `https://host/a.tar?X-Amz-Signature=31f2` becomes `https://host/a.tar?…`. A user without a
    password may be a token, so it is removed too.
    """
    if "://" not in text:
        return text
    return _QUERY.sub(r"\1…", _USER.sub(r"\1…@", _PASSWORD.sub(r"\1:…@", text)))


def some_of(names: Sequence[str], *, shown: int = 5) -> str:
    """Return the first names, joined by commas, and the number of others: `a, b and 3 more`."""
    return ", ".join(names[:shown]) + (
        f" and {len(names) - shown} more" if len(names) > shown else ""
    )


def told(error: InputError, option: Callable[[str], str]) -> str:
    """Return the message of an error, with the option of its setting in front."""
    name, space, value = error.setting.partition(" ")
    return f"{option(name)}{space}{value}: {error.message}" if name else error.message
