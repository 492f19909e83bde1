"""The child's side of `harness.base.launcher`: a script that calls functions for its parent.

It needs the standard library only, and imports this package only for a function of it. A request is
pickled, since it comes from the parent. An answer is JSON and bytes, since the parent must not
unpickle what an untrusted network or the user's code has written. The socket is the standard input
until the first request, so that the user's code finds that empty.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import json
import operator
import os
import pickle
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Request = tuple[tuple[str, str, str], tuple[Any, ...], bool]

_LONGEST_ERROR = 500
"""Most characters of an error's text in an answer."""


def main() -> None:
    """Answer requests until the parent closes its end."""
    connection = Connection(os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)

    opening = pickle.loads(connection.recv_bytes())  # noqa: S301  Written by the parent.
    sys.path[:] = dict.fromkeys([*opening["path"], *sys.path])
    if not opening["forks"]:
        parent = opening["parent"]
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()

    process = os.getpid()
    while True:
        try:
            request = connection.recv_bytes()
        except EOFError:
            return
        answer = _answer_to(request, connection)
        if os.getpid() != process:  # The function forked this process, and the fork returned here.
            os._exit(0)
        connection.send_bytes(answer)


def _end_with(parent: int) -> None:
    """End this process once its parent has ended, whatever its main thread does."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(0)


def _answer_to(request: bytes, connection: Connection) -> bytes:
    """Return the answer to a request: what the function returns, or what it raises."""
    process, file, in_copy = os.getpid(), "", False
    try:
        (module, file, name), arguments, in_copy = _unpickled(request)
        del request  # A function that limits its memory would count it.
        function = _function(module, file, name)
        if in_copy:
            return _encoded({"status": _status_of_copy(function, arguments, connection)})
        return _encoded(function(*arguments))
    except BaseException as error:  # The answer reports any exception of the function.
        if in_copy and os.getpid() != process:
            raise
        return json.dumps(_as_answer(error, file)).encode() + b"\n"


def _unpickled(request: bytes) -> Request:
    unpickled: Request = pickle.loads(request)  # noqa: S301  Written by the parent.
    return unpickled


def _function(module: str, file: str, name: str) -> Callable[..., Any]:
    """Return a function of a module: imported, or loaded from `file` without its packages."""
    if module not in sys.modules:
        # Collections during imports find next to nothing, and take a tenth of their time or more.
        gc.disable()
        try:
            if file:
                _load_alone(module, file)
            else:
                importlib.import_module(module)
        finally:
            gc.enable()
    function: Callable[..., Any] = operator.attrgetter(name)(sys.modules[module])
    return function


def _load_alone(module: str, file: str) -> None:
    spec = importlib.util.spec_from_file_location(module, file)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[module] = loaded
    spec.loader.exec_module(loaded)


def _status_of_copy(
    function: Callable[..., Any], arguments: tuple[Any, ...], connection: Connection
) -> int:
    """Return the exit status of a copy of this process that ends with the result of a function."""
    copy = os.fork()
    if copy == 0:
        connection.close()
        sys.exit(function(*arguments))
    _, status = os.waitpid(copy, 0)
    return os.waitstatus_to_exitcode(status)


def _encoded(answer: dict[str, Any] | None) -> bytes:
    """Return an answer as a line of JSON, and the bytes of those of its values that are bytes."""
    answer = answer or {}
    contents = {name: value for name, value in answer.items() if isinstance(value, bytes)}
    fields = {name: value for name, value in answer.items() if name not in contents}
    lengths = {name: len(content) for name, content in contents.items()}
    header = json.dumps({"fields": fields, "lengths": lengths})
    return b"".join([header.encode(), b"\n", *contents.values()])


def _as_answer(error: BaseException, file: str) -> dict[str, Any]:
    """Return the answer for an exception; that for an `InputError` has all that makes it again."""
    errors = sys.modules.get("harness.base.errors")
    if errors is not None and isinstance(error, errors.InputError):
        refusal = {"message": error.message, "setting": error.setting, "code": error.code}
        return {"refusal": refusal}
    return {"raised": _as_text(error, file)}


def _as_text(error: BaseException, file: str) -> str:
    """Return the text of an exception, and its last place outside of this file and `file`."""
    text = "".join(traceback.format_exception_only(type(error), error)).strip()[:_LONGEST_ERROR]
    frames = traceback.extract_tb(error.__traceback__)
    others = [frame for frame in frames if frame.filename not in {__file__, file}]
    if not others:
        return text
    return f"{text} ({Path(others[-1].filename).name}:{others[-1].lineno})"


if __name__ == "__main__":
    main()
