"""The child's side of a callable: it imports the user's code, and gives that the images of a batch.

A child of `harness.base.launcher` loads this file alone, with only NumPy and the standard library.
One process has one callable.
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
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

_LONGEST_TEXT = 500
"""Most characters of a declaration in a report."""
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
_opened: list[tuple[Callable[[Any], Any], Sequence[str], Callable[[], dict[str, str]]]] = []
"""The user's function, the names of its classes, and the function that hashes the user's code."""


def open_callable(spec: str, classes: Sequence[str]) -> dict[str, Any]:
    """Import the callable `package.module:callable`; return its declarations and code hashes."""
    with contextlib.suppress(OSError):
        # If memory runs out, Linux kills this process before the run.
        Path("/proc/self/oom_score_adj").write_text("1000", "ascii")
    hashes_of_code = _follow_code()
    sys.argv = [spec]

    named, function = _load(spec, classes)
    facts = _facts(named, function)
    _opened.append((function, facts["classes"] or classes, hashes_of_code))
    as_json = json.dumps(facts, default=_plain)
    return {"facts": json.loads(as_json), "code": hashes_of_code()}


def predict_pixels(content: bytes, dtype: str, shape: Sequence[int]) -> dict[str, Any]:
    """Return the callable's answer for pixels (N, H, W, C)."""
    import numpy as np

    pixels = np.frombuffer(content, dtype).reshape(shape).copy()
    return _predicted(pixels)


def predict_files(content: bytes, lengths: Sequence[int]) -> dict[str, Any]:
    """Return the callable's answer for files, which stand one after the other in the content."""
    ends = accumulate(lengths)
    files = [content[end - length : end] for end, length in zip(ends, lengths, strict=True)]
    return _predicted(files)


def _predicted(images: Any) -> dict[str, Any]:
    ((function, classes, hashes_of_code),) = _opened
    answer = _array(function(images), classes, len(images))
    return {
        "answer": answer.tobytes(),
        "shape": answer.shape,
        "dtype": str(answer.dtype),
        "code": hashes_of_code(),
    }


def _load(spec: str, classes: Sequence[str]) -> tuple[Any, Callable[[Any], Any]]:
    """Return the object that `package.module:callable` names, and the function that predicts.

    A class is instantiated without arguments, or with the names of the classes if it takes
    `classes`. If an object has `predict`, that is the function.
    """
    module, _, name = spec.partition(":")
    named = operator.attrgetter(name)(importlib.import_module(module))
    if inspect.isclass(named):
        make: Callable[..., Any] = named
        takes_classes = "classes" in inspect.signature(make).parameters
        named = make(classes=list(classes)) if takes_classes else make()
    function = getattr(named, "predict", named)
    if not callable(function):
        kind = type(named).__name__
        raise TypeError(f"{spec} is a {kind}, expected a callable, or a class with predict")
    return named, function


def _facts(named: Any, function: Callable[[Any], Any]) -> dict[str, Any]:
    """Return the declarations of the user's code, attributes of the callable or of its object."""
    facts: dict[str, Any] = {}
    for name in ("pixels", "outputs", "top", "files", "classes"):
        declared = getattr(function, name, None)
        facts[name] = getattr(named, name, None) if declared is None else declared

    files = facts["files"]
    if files is not None:
        files = [files] if isinstance(files, str | os.PathLike) else files
        facts["files"] = [str(Path(file).absolute()) for file in files]
    if facts["classes"] is not None:
        facts["classes"] = list(map(str, facts["classes"]))
    return {**facts, "versions": _versions()}


def _versions() -> list[str]:
    """Return the versions of all packages that are loaded."""
    versions = []
    for name, module in list(sys.modules.items()):
        if "." in name:  # A part of a package may load lazily.
            continue
        version = getattr(module, "__version__", None)
        if isinstance(version, str):
            versions.append(f"{name} {version}")
    return sorted(versions)


def _follow_code() -> Callable[[], dict[str, str]]:
    """Return a function that returns the hash of each file of code that has run since.

    See `harness.base.imports`. Code in another process cannot be followed.
    """
    imports = runpy.run_path(str(Path(__file__).parents[2] / "base/imports.py"))
    started: list[str] = []

    def note_start(event: str, _: object) -> None:
        if event in _STARTS:
            started.append(event)

    sys.addaudithook(note_start)

    def hashes_of_code() -> dict[str, str]:
        hashes: dict[str, str] = imports["files"]()
        by_multiprocessing = any(
            name.startswith("multiprocessing.popen_") for name in list(sys.modules)
        )
        if started or by_multiprocessing:
            return {**hashes, "another process": imports["CHANGED"]}
        return dict(hashes)

    return hashes_of_code


def _plain(value: Any) -> Any:
    """Return a declaration that JSON does not have as an integer, or as a text."""
    with contextlib.suppress(TypeError):
        return operator.index(value)
    return repr(value)[:_LONGEST_TEXT]


def _array(answer: Any, classes: Sequence[str], images: int) -> np.ndarray:
    """Return an answer as scores, float32, or as labels, int64; labels may be class names."""
    import numpy as np

    array = np.asarray(answer)
    if array.size > max(LARGEST, images * len(classes)):
        expected = (images, len(classes))
        raise ValueError(f"it returned an array of shape {array.shape}, expected {expected} scores")
    if array.ndim == 1 and all(isinstance(label, str) for label in array.tolist()):
        array = _numbers_of(array.tolist(), classes)
    if array.dtype.kind not in "fiu":
        kind = type(answer).__name__
        raise TypeError(f"it returned {kind} of {array.dtype}, expected an array of numbers")
    scores = array.dtype.kind == "f" or array.ndim > 1
    return np.ascontiguousarray(array, dtype=np.float32 if scores else np.int64)


def _numbers_of(labels: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Return the positions of labels among the classes, (N,) int64."""
    import numpy as np

    numbers = {name: number for number, name in enumerate(classes)}
    unknown = sorted(set(labels) - numbers.keys())
    if unknown:
        expected = ", ".join(classes)
        raise ValueError(f"it returned the label {unknown[0]!r}, expected one of {expected}")
    return np.array([numbers[label] for label in labels], dtype=np.int64)
