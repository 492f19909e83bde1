"""The child process of a callable: it imports the user's code and answers batches from a socket.

It runs as a script, `python -P child.py`, with only NumPy and the standard library. A request is a line of JSON and the
bytes of an array, and so is an answer. The socket is the standard input until the user's code is imported, which finds
that empty.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import json
import operator
import os
import runpy
import sys
import threading
import time
import traceback
from itertools import accumulate
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

_SHORT = 500
"""Most characters of an error's text in a report."""
_STARTS = {
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.spawn",
    "os.system",
    "subprocess.Popen",
}
"""Audit events of code that starts another process."""
LARGEST = 1_000_000
"""Most values of an answer with a wrong shape that the child sends for inspection."""


def _end_with(parent: int) -> None:
    """End this process once its parent has ended, whatever the user's code does."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(0)


def _happened(error: BaseException) -> str:
    said = "".join(traceback.format_exception_only(type(error), error)).strip()
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__
    ]
    return said[:_SHORT] + (
        f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    )


def _load(spec: str, classes: Sequence[str]) -> tuple[Any, Callable[[np.ndarray], Any]]:
    """Return the object that `package.module:callable` names, and the function that predicts.

    A class is instantiated without arguments, or with the names of the classes if it takes `classes`. If an object has
    `predict`, that is the function.
    """
    module, _, name = spec.partition(":")
    found = operator.attrgetter(name)(importlib.import_module(module))
    if inspect.isclass(found):
        made: Callable[..., Any] = found
        found = (
            made(classes=list(classes))
            if "classes" in inspect.signature(made).parameters
            else made()
        )
    function = getattr(found, "predict", found)
    if not callable(function):
        raise TypeError(
            f"{spec} is a {type(found).__name__}, expected a callable, or a class with predict"
        )
    return found, function


def _facts(found: Any, function: Callable[[np.ndarray], Any]) -> dict[str, Any]:
    """Return the declarations of the user's code: attributes of the callable, or of the object that it belongs to."""
    names = ("pixels", "outputs", "top", "files", "classes")
    facts = {name: getattr(function, name, None) for name in names}
    facts = {
        name: getattr(found, name, None) if value is None else value
        for name, value in facts.items()
    }
    if (files := facts["files"]) is not None:
        files = [files] if isinstance(files, str | os.PathLike) else files
        facts["files"] = [str(Path(file).absolute()) for file in files]
    if facts["classes"] is not None:
        facts["classes"] = list(map(str, facts["classes"]))
    whole = [
        (name, module) for name, module in list(sys.modules.items()) if "." not in name
    ]  # A part may load lazily.
    loaded = {name: getattr(module, "__version__", None) for name, module in whole}
    versions = [f"{name} {each}" for name, each in loaded.items() if isinstance(each, str)]
    return {**facts, "versions": sorted(versions)}


def _code() -> Callable[[], dict[str, str]]:
    """Return a function that returns the hash of each file of code that has run since; see `harness.base.imports`.

    Code in another process cannot be followed.
    """
    imports = runpy.run_path(str(Path(__file__).parents[2] / "base/imports.py"))
    started: list[str] = []
    sys.addaudithook(lambda event, _: started.append(event) if event in _STARTS else None)

    def code() -> dict[str, str]:
        others = started or any(
            name.startswith("multiprocessing.popen_") for name in list(sys.modules)
        )
        return {**imports["files"](), **({"another process": imports["CHANGED"]} if others else {})}

    return code


def _plain(value: Any) -> Any:
    """Return a declaration that JSON does not have: an integer of NumPy, or else a text that the parent refuses."""
    with contextlib.suppress(TypeError):
        return operator.index(value)
    return repr(value)[:_SHORT]


def _array(answer: Any, classes: Sequence[str], images: int) -> np.ndarray:
    """Return an answer as scores, float32, or as labels, int64; labels may be the names of classes."""
    import numpy as np

    array = np.asarray(answer)
    if array.size > max(LARGEST, images * len(classes)):
        raise ValueError(
            f"it returned an array of shape {array.shape}, expected {(images, len(classes))} scores"
        )
    if array.ndim == 1 and all(isinstance(each, str) for each in array.tolist()):
        numbers = {name: number for number, name in enumerate(classes)}
        if unknown := sorted(set(array.tolist()) - numbers.keys()):
            raise ValueError(
                f"it returned the label {unknown[0]!r}, expected one of {', '.join(classes)}"
            )
        array = np.array([numbers[each] for each in array.tolist()], dtype=np.int64)
    if array.dtype.kind not in "fiu":
        raise TypeError(
            f"it returned {type(answer).__name__} of {array.dtype}, expected an array of numbers"
        )
    scores = array.dtype.kind == "f" or array.ndim > 1
    return np.ascontiguousarray(array, dtype=np.float32 if scores else np.int64)


def main() -> None:
    """Answer requests until the parent closes its end."""
    connection = Connection(os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    process = os.getpid()
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    with contextlib.suppress(
        OSError
    ):  # If memory runs out, Linux kills this process before the run.
        Path("/proc/self/oom_score_adj").write_text("1000", "ascii")
    code = _code()
    opening: dict[str, Any] = {}
    images: Any = None
    function: Callable[[np.ndarray], Any] | None = None
    while True:
        try:
            line, _, content = connection.recv_bytes().partition(b"\n")
            header = json.loads(line)
        except EOFError:
            os._exit(0)
        try:
            if function is None:
                opening, sys.path[:], sys.argv = header, header["path"], [header["spec"]]
                found, function = _load(opening["spec"], opening["classes"])
                facts = _facts(found, function)
                answer: dict[str, Any] = {"facts": facts}
            else:
                import numpy as np

                if lengths := header.get("lengths"):  # Files, not pixels.
                    images = [
                        content[end - size : end]
                        for size, end in zip(lengths, accumulate(lengths), strict=True)
                    ]
                else:
                    images = np.frombuffer(content, header["dtype"]).reshape(header["shape"]).copy()
                array = _array(
                    function(images), facts["classes"] or opening["classes"], len(images)
                )
                answer, content = {"shape": array.shape, "dtype": str(array.dtype)}, array.tobytes()
        except BaseException as error:  # The answer reports any exception of the user's code.
            answer, content = {"error": _happened(error)}, b""
        if (
            os.getpid() != process
        ):  # The user's code forked this process, and the fork returned here.
            os._exit(0)
        connection.send_bytes(
            json.dumps({"code": code(), **answer}, default=_plain).encode() + b"\n" + content
        )


if __name__ == "__main__":
    main()
