"""The user's own code as a predictor, in a child process that imports nothing of this package."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections import deque
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from harness.base import imports
from harness.base.errors import UnusableModelError, printable
from harness.base.files import hash_of_file
from harness.base.user_code import is_name
from harness.data.exported import FLOAT32, UINT8, as_stored
from harness.data.images import unit_range
from harness.inference.predictors.answers import provided
from harness.inference.predictors.child import LARGEST
from harness.inference.predictors.encoded import EncodedPictures
from harness.inference.predictors.protocol import Identity, PredictorError, Provides, within

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.data import LabelledImages
    from harness.networks.options import NetworkOptions

_CHILD = Path(__file__).with_name("child.py")
_ENCODED = "encoded"
_PIXELS = (UINT8, FLOAT32, _ENCODED)
_ENDING = 5.0
"""Seconds that a child may take to end once it has closed its connection or sent no valid answer."""
_SAID = 20
"""Most lines of the child's output in an error message."""
_HEADER = 1 << 24
"""Most bytes of the header of an answer."""


class CallablePredictor:
    """A callable in a child process; it gets pixels (N, H, W, C), uint8 or float32 by its declaration.

    If it declares encoded pictures, it gets a list of N files as bytes, see `EncodedPictures`. The code can only affect
    its own process. Once it crashes or hangs, every later call fails with the same error.

    Raises `InputError` for a SPEC other than `python:package.module:callable`, and `PredictorError` for code that
    cannot be imported.
    """

    def __init__(self, spec: str, options: NetworkOptions, images: LabelledImages | None) -> None:
        self._name = spec.partition(":")[2]
        if not is_name(self._name):
            raise UnusableModelError("expected python:package.module:callable")
        self._options, self._images, self._files = options, images, EncodedPictures(images)
        classes = (options.class_names or images.classes) if images else ()
        self._broken, self._code = "", dict[str, str]()
        self._said: deque[str] = deque(maxlen=_SAID)
        self._one_at_a_time = threading.Lock()
        ours, theirs = socket.socketpair()
        with theirs:
            self._child = subprocess.Popen(  # noqa: S603  Our own script.
                [sys.executable, "-P", str(_CHILD)],
                stdin=theirs.fileno(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={
                    "PYTHONHASHSEED": "0",
                    **os.environ,
                },  # The same in each run; other processes have other seeds.
            )
        self._connection = Connection(os.dup(ours.fileno()))
        self.close = weakref.finalize(self, _ended, self._child)
        for target, arguments in (
            (_kept, (self._child.stdout, self._said)),
            (_hung_up, (self._child, ours)),
        ):
            threading.Thread(target=target, args=arguments, daemon=True).start()
        here = str(Path.cwd())
        path = [here, *(part for part in sys.path if part not in {"", here})]
        facts = self._exchanged(
            {"spec": self._name, "classes": classes, "path": path}, b"", "import"
        )[0]["facts"]
        self._facts, self._classes = facts, tuple(facts["classes"] or classes)
        self._pixels = UINT8 if facts["pixels"] is None else str(facts["pixels"])
        if self._pixels not in _PIXELS:
            self.close()
            raise PredictorError(
                f"declares pixels = {facts['pixels']!r}, expected {' or '.join(_PIXELS)}"
            )

    @cached_property
    def identity(self) -> Identity:
        """Return the hashes of the code and of the files that it declares; lasting only if it declares them."""
        _ = self.provides  # The first answers import the rest of the code.
        code = sorted(
            (Path(file).name, sha256)
            for file, sha256 in self._code.items()
            if not file.endswith(os.sep)
        )
        facts = {"callable": self._name, "sources_sha256": _hash_of(code), "pixels": self._pixels}
        if files := sorted(Path(file) for file in self._facts["files"] or ()):
            if gone := [file for file in files if not file.is_file()]:
                raise UnusableModelError(f"declares the file {gone[0]}, which does not exist")
            facts["files_sha256"] = _hash_of([(file.name, hash_of_file(file)) for file in files])
        # Different files may have the same pixels, and a cache only knows pixels.
        lasting = self._facts["files"] is not None and self._pixels != _ENCODED
        versions = [platform.python_version(), *self._facts["versions"]]
        return Identity("python", facts, lasting=lasting, runtime="\n".join(versions))

    @cached_property
    def provides(self) -> Provides:
        """Return the kind of the answers, from those for the first images and from the declarations."""
        if self._images is None:
            return Provides()
        some = self._images.pixels[: self._options.images_per_call]
        first = self.predict(unit_range(some).numpy())
        found = provided(
            first, self._options.model_outputs, self._facts["outputs"], top=self._facts["top"]
        )
        return replace(found, classes=tuple(self._facts["classes"] or ()))

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        """Return the callable's answers for pixels (N, C, H, W); see `Predictor`."""
        header: dict[str, Any] = {"dtype": self._pixels}
        if self._pixels == _ENCODED:
            files = self._files.of(pixels)
            header["lengths"], content = [len(file) for file in files], b"".join(files)
        else:
            laid_out = (
                as_stored(pixels, UINT8) if self._pixels == UINT8 else pixels.transpose(0, 2, 3, 1)
            )
            header["shape"], content = laid_out.shape, laid_out.tobytes()
        most = 8 * max(LARGEST, len(pixels) * len(self._classes))
        answer, data = self._exchanged(header, content, f"{len(pixels)} images", most=most)
        return np.frombuffer(data, dtype=answer["dtype"]).reshape(answer["shape"])

    def _exchanged(
        self, header: dict[str, Any], content: bytes, what: str, *, most: int = 0
    ) -> tuple[dict[str, Any], bytes]:
        """Return the child's answer to a request, of at most so many bytes; raises `PredictorError` without one."""
        with self._one_at_a_time:
            if self._broken:
                raise PredictorError(self._broken)
            try:
                with within(self._options.predictor_timeout, self.close) as late:
                    self._connection.send_bytes(json.dumps(header).encode() + b"\n" + content)
                    head, _, data = self._connection.recv_bytes(_HEADER + most).partition(b"\n")
                    answer = json.loads(head)
            except (OSError, EOFError, ValueError) as error:
                how = f"it gave no answer within {self._options.predictor_timeout:g} s (predictor_timeout)"
                raise self._failed(
                    f"on {what} {how if late.is_set() else self._how_it_ended(error)}"
                ) from None
            except BaseException:  # The next request would get a late answer.
                self._failed("it was interrupted")
                raise
        self._code |= answer["code"]
        imports.include(answer["code"])
        if "error" in answer:
            raise PredictorError(f"on {what} it raised {printable(answer['error'])}")
        return answer, data

    def _failed(self, happened: str) -> PredictorError:
        """End the child and return the error of this and every later call."""
        self.close()
        said = " | ".join(line.strip() for line in self._said if line.strip())
        self._broken = happened + (f"; it printed: {printable(said)}" if said else "")
        return PredictorError(self._broken)

    def _how_it_ended(self, error: Exception) -> str:
        try:
            status = self._child.wait(_ENDING)
        except subprocess.TimeoutExpired:
            return f"it sent no valid answer ({type(error).__name__}: {error})"
        if status >= 0:
            return f"its process ended with status {status}"
        name = signal.Signals(-status).name if -status in set(signal.Signals) else str(-status)
        return f"its process was ended by {name}{', possibly for lack of memory' * (name == 'SIGKILL')}"


def _kept(stream: IO[bytes], lines: deque[str]) -> None:
    """Keep the last printed lines until the stream ends."""
    with stream:
        while line := stream.readline(1_000):
            lines.append(line.decode("utf-8", "backslashreplace"))


def _hung_up(child: subprocess.Popen[bytes], ours: socket.socket) -> None:
    """End each wait for a child once it has ended; another process may hold its socket."""
    child.wait()
    with ours, suppress(OSError):
        ours.shutdown(socket.SHUT_RDWR)


def _ended(child: subprocess.Popen[bytes]) -> None:
    """End the child, and the processes that it started in its own session."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except OSError:  # The group has ended.
        child.kill()
    child.wait()


def _hash_of(files: Sequence[tuple[str, str | None]]) -> str:
    return hashlib.sha256(repr(files).encode()).hexdigest()
