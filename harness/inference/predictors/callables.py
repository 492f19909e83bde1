"""The user's own code as a predictor, in a child process that imports nothing of this package."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import queue
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from harness.base import imports
from harness.base.errors import UnusableModelError, printable
from harness.base.files import hash_of_file
from harness.base.user_code import is_name
from harness.inference.predictors.encoded import EncodedPictures
from harness.inference.predictors.protocol import Identity, PredictorError, Provides
from harness.inference.predictors.scores import provided

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.data import LabelledImages
    from harness.networks.options import NetworkOptions

_CHILD = Path(__file__).with_name("child.py")
_ENCODED = "encoded"
_PIXELS = ("uint8", "float32", _ENCODED)
_LOOK = 0.2
"""Seconds between two checks that the child is alive."""
_ENDING = 5.0
"""Seconds that a child may take to end once it has closed its output or mixed up its answers."""
_SAID = 20
"""Most lines of the child's output in an error message."""
_HEADER = 1 << 24
"""Most bytes of the first line of an answer."""
_KIND = "python"


def open_callable(spec: str, options: NetworkOptions, images: LabelledImages | None) -> CallablePredictor:
    """Start the child process of `python:package.module:callable`, which imports the user's code.

    Raises `InputError` for a SPEC of another form, and `PredictorError` for code that cannot be imported.
    """
    name = spec.partition(":")[2]
    if not is_name(name):
        raise UnusableModelError("expected python:package.module:callable")
    predictor = CallablePredictor(name, options, images)
    predictor.start()
    return predictor


class CallablePredictor:
    """A callable in a child process; it gets pixels (N, H, W, C), uint8 or float32 by its declaration.

    If it declares encoded pictures, it gets a list of N files as bytes, see `EncodedPictures`. The code can only affect
    its own process. Once it crashes or hangs, every later call fails with the same error.
    """

    def __init__(self, name: str, options: NetworkOptions, images: LabelledImages | None) -> None:
        self.name, self._options = name, options
        self._images = images
        self._files = None if images is None else EncodedPictures(images)
        self._classes = (options.class_names or images.classes) if images else ()
        self._timeout = options.predictor_timeout
        self._said: deque[str] = deque(maxlen=_SAID)
        self._broken = ""
        self._one_at_a_time, self._talking = threading.Lock(), threading.Lock()
        self._number = 0
        self._code: dict[str, str] = {}

    def start(self) -> None:
        """Start the child, which imports the code; raises `PredictorError` if that fails."""
        self._child = subprocess.Popen(  # noqa: S603  Our own script.
            [sys.executable, "-P", str(_CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env={"PYTHONHASHSEED": "0", **os.environ},  # The same in each run; other processes have other seeds.
        )
        self._end = weakref.finalize(self, _ended, self._child, self._talking)
        assert self._child.stderr is not None
        threading.Thread(target=_kept, args=(self._child.stderr, self._said), daemon=True).start()
        here = str(Path.cwd())
        path = [here, *(part for part in sys.path if part not in {"", here})]
        opening = {"spec": self.name, "classes": self._classes, "path": path}
        self._facts = self._exchanged(opening, b"", "import")[0]["facts"]
        if self._pixels not in _PIXELS:
            self.close()
            raise PredictorError(f"declares pixels = {self._facts['pixels']!r}, expected {' or '.join(_PIXELS)}")
        top = self._facts["top"]
        if top is not None and (not isinstance(top, int) or top < 1):
            self.close()
            raise PredictorError(f"declares top = {top!r}, expected a number of classes, 1 or more")

    @property
    def _pixels(self) -> str:
        return "uint8" if self._facts["pixels"] is None else str(self._facts["pixels"])

    @cached_property
    def identity(self) -> Identity:
        """Return the hashes of the code and of the files that it declares; lasting only if it declares them."""
        _ = self.provides  # The first answers import the rest of the code.
        code = sorted((Path(file).name, sha256) for file, sha256 in self._code.items() if not file.endswith(os.sep))
        files = [Path(file) for file in self._facts["files"] or ()]
        for file in files:
            if hash_of_file(file) is None:
                raise UnusableModelError(f"declares the file {file}, which does not exist")
        facts = {"callable": self.name, "sources_sha256": _hash_of(code), "pixels": self._pixels}
        declared = [(file.name, hash_of_file(file)) for file in sorted(files)]
        facts |= {"files_sha256": _hash_of(declared)} if files else {}
        versions = [platform.python_version(), *self._facts["versions"]]
        # Different files may have the same pixels, and a cache only knows pixels.
        lasting = self._facts["files"] is not None and self._pixels != _ENCODED
        return Identity(_KIND, facts, lasting=lasting, runtime="\n".join(versions))

    @cached_property
    def provides(self) -> Provides:
        """Return the kind of the answers, from those for the first images and from the declarations."""
        if self._images is None:
            return Provides()
        some = self._images.pixels[: self._options.predictor_batch].numpy().astype(np.float32) / np.float32(255)
        answers = self.predict(some)
        top = self._facts["top"]
        found = provided(answers, self._options.model_outputs, self._facts["outputs"], top=top)
        return replace(found, classes=tuple(self._facts["classes"] or ()))

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        """Return the callable's answers for pixels (N, C, H, W); see `Predictor`."""
        if self._pixels == _ENCODED and self._files is not None:
            files = self._files.of(pixels)
            whole = b"".join(files)
            header = {"lengths": [len(file) for file in files], "dtype": _ENCODED, "bytes": len(whole)}
            return self._asked(header, whole, len(files))
        laid_out = np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))
        if self._pixels == "uint8":
            laid_out = np.rint(laid_out * 255).clip(0, 255).astype(np.uint8)
        content = laid_out.tobytes()
        header = {"shape": laid_out.shape, "dtype": self._pixels, "bytes": len(content)}
        return self._asked(header, content, len(pixels))

    def _asked(self, header: dict[str, Any], content: bytes, count: int) -> np.ndarray:
        answer, data = self._exchanged(header, content, f"{count} images")
        return np.frombuffer(data, dtype=answer["dtype"]).reshape(answer["shape"])

    def close(self) -> None:
        """End the child."""
        self._end()

    def _exchanged(self, header: dict[str, Any], content: bytes, what: str) -> tuple[dict[str, Any], bytes]:
        """Return the child's answer to a request; raises `PredictorError` without one."""
        with self._one_at_a_time:
            if self._broken:
                raise PredictorError(self._broken)
            done: queue.SimpleQueue[tuple[dict[str, Any], bytes] | Exception] = queue.SimpleQueue()
            request = {**header, "number": self._number}
            arguments = (self._child, self._talking, request, content, done)
            threading.Thread(target=_talk, args=arguments, daemon=True).start()
            answer = self._awaited(done, what)
            if isinstance(answer, Exception) or answer[0].get("number") != self._number:
                raise self._failed(f"on {what} {self._how_it_ended() or f'it answered out of turn ({answer})'}")
            self._number += 1
        self._code |= answer[0]["code"]
        imports.include(answer[0]["code"])
        if "error" in answer[0]:
            raise PredictorError(f"on {what} it raised {printable(answer[0]['error'])}")
        return answer

    def _awaited(
        self, done: queue.SimpleQueue[tuple[dict[str, Any], bytes] | Exception], what: str
    ) -> tuple[dict[str, Any], bytes] | Exception:
        until, gone = time.monotonic() + self._timeout, False
        while True:
            try:
                return done.get(timeout=_LOOK)
            except queue.Empty:
                if gone:  # The last output of the ended child has been read by now.
                    raise self._failed(f"on {what} {self._how_it_ended()}") from None
                gone = self._child.poll() is not None
                if time.monotonic() > until:
                    raise self._failed(
                        f"on {what} it gave no answer within {self._timeout:g} s (predictor_timeout)"
                    ) from None

    def _failed(self, happened: str) -> PredictorError:
        """End the child and return the error of this and every later call."""
        self.close()
        said = " | ".join(line.strip() for line in self._said if line.strip())
        self._broken = happened + (f"; it printed: {printable(said)}" if said else "")
        return PredictorError(self._broken)

    def _how_it_ended(self) -> str:
        try:
            status = self._child.wait(_ENDING)
        except subprocess.TimeoutExpired:
            return ""
        if status >= 0:
            return f"its process ended with status {status}"
        name = signal.Signals(-status).name if -status in set(signal.Signals) else str(-status)
        hint = ", possibly for lack of memory" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{hint}"


def _talk(
    child: subprocess.Popen[bytes],
    talking: threading.Lock,
    header: dict[str, Any],
    content: bytes,
    done: queue.SimpleQueue[tuple[dict[str, Any], bytes] | Exception],
) -> None:
    """Write a request and read its answer; in a thread of its own, since both may wait forever."""
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        with talking:
            child.stdin.write(json.dumps(header).encode() + b"\n" + content)
            child.stdin.flush()
            answer = json.loads(child.stdout.readline(_HEADER))
            data = child.stdout.read(answer["bytes"])
        if len(data) != answer["bytes"]:
            raise EOFError("the answer is truncated")
        done.put((answer, data))
    except Exception as error:  # The waiting thread reports it.
        done.put(error)


def _kept(stream: IO[bytes], lines: deque[str]) -> None:
    """Keep the last printed lines until the stream ends; a process of another session may keep it open."""
    with stream:
        while line := stream.readline(1_000):
            lines.append(line.decode("utf-8", "backslashreplace"))


def _ended(child: subprocess.Popen[bytes], talking: threading.Lock) -> None:
    """End the child, and the processes that it started in its own session.

    A process of another session may keep the streams open, and a thread that reads them never ends. In that case the
    streams stay open.
    """
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except (AttributeError, OSError):  # On Windows, and for a group that has ended.
        child.kill()
    child.wait()
    if not talking.acquire(timeout=1):
        return
    for stream in (child.stdin, child.stdout):
        if stream is not None:
            with suppress(OSError):  # Buffered bytes can no longer be written.
                stream.close()


def _hash_of(files: Sequence[tuple[str, str | None]]) -> str:
    return hashlib.sha256(repr(files).encode()).hexdigest()
