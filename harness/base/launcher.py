"""Child processes that call functions for this one, within a time limit, and answer with data.

`harness.base.child` is their side. A child ends with this process. It has a session of its own, so
that Ctrl-C in a terminal reaches this process alone, which then ends the child and the processes
that the child has started.
"""

from __future__ import annotations

import inspect
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from harness.base.errors import InputError, printable
from harness.base.termination import within

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_SCRIPT = Path(__file__).with_name("child.py")
_ENDING_SECONDS = 5.0
"""Seconds that a child may take to end by itself, such as after an answer that is not valid."""
_DRAINING_SECONDS = 0.5
"""Seconds to wait for the last output; a process of the child's may hold the stream open."""
_LINES = 20
"""Most lines of the child's output in an error message."""
_HEADER_BYTES = 1 << 24
"""Most bytes of an answer besides its contents."""
_CLOSED = "its process was closed"


class ChildError(Exception):
    """A call without an answer; the message says why, as in "it raised KeyError"."""


class ChildRaisedError(ChildError):
    """A function that raised no `InputError` but another exception; the child lives on."""


class ChildLostError(ChildError):
    """A child that crashed, was late, sent no valid answer, or was closed.

    Each further call raises the same error.
    """

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status
        """The exit status of the process, negative for a signal."""


@dataclass(frozen=True)
class _Limit:
    """Seconds that a call may take, and the name of their setting; None is no limit."""

    seconds: float | None = None
    name: str = ""

    def __str__(self) -> str:
        setting = f" ({self.name})" if self.name else ""
        return f"{self.seconds:g} s{setting}"


class Child:
    """A process that calls functions one by one; it starts with the first call.

    The functions are those of modules. An answer is a dict, or None for an empty one. Its values
    are those of JSON, or bytes. Calls of several threads wait for each other.

    In the child, folders of `path` come before those in which Python looks for modules. A child
    that is `alone` loads the file of a function without this package, and so without PyTorch.

    A child that `forks` is for `call_in_copy`. A fork of a process with threads may hang, so no
    thread of the child ends it with this process. A function has to call `end_with_parent`.

    `hash_seed` is the seed for the hashes of texts. By default it is that of the environment, or
    else 0, the same in each run.
    """

    def __init__(
        self,
        *,
        path: Sequence[str] = (),
        alone: bool = False,
        forks: bool = False,
        hash_seed: str | None = None,
    ) -> None:
        self._opening = {"path": list(path), "forks": forks, "parent": os.getpid()}
        self._alone = alone
        self._environment = {"PYTHONHASHSEED": "0", **os.environ}
        if hash_seed is not None:
            self._environment["PYTHONHASHSEED"] = hash_seed
        self._one_at_a_time = threading.Lock()
        self._process: _Process | None = None
        self._lost: ChildLostError | None = None
        self._closed = False

    def call(
        self,
        function: Callable[..., dict[str, Any] | None],
        *arguments: Any,
        timeout_s: float | None = None,
        timeout_name: str = "",
        most_bytes: int | None = None,
    ) -> dict[str, Any]:
        """Return the answer of a function, called in the child.

        Args:
            function: A function of a module.
            arguments: What can be pickled.
            timeout_s: Seconds after which the child is killed; None for no limit.
            timeout_name: The setting with these seconds, for the message.
            most_bytes: Most bytes of the answer's contents; None for no limit.

        Raises:
            InputError: As the function raises it.
            ChildRaisedError: For any other exception of the function.
            ChildLostError: If the child is gone, now or since an earlier call.
        """
        request = self._target(function), arguments, False
        limit = _Limit(timeout_s, timeout_name)
        return self._answer(request, limit, most_bytes)

    def call_in_copy(self, function: Callable[..., int], *arguments: Any) -> int:
        """Return the exit status of a copy of the child that ends with the result of a function.

        The copy (`os.fork`) has all that earlier calls have imported and loaded. It leaves nothing
        behind in the child. Raises as `call` does, except that the exit status says what the
        function raised.
        """
        request = self._target(function), arguments, True
        answer = self._answer(request, _Limit(), most_bytes=None)
        status: int = answer["status"]
        return status

    def end(self) -> None:
        """Have the child end by itself, so that it removes its temporary files; then close it."""
        if self._process is not None:
            self._process.end()
        self.close()

    def close(self) -> None:
        """Kill the child and the processes that it started; its call raises `ChildLostError`."""
        self._closed = True
        if self._process is not None:
            self._process.kill()

    def _target(self, function: Callable[..., object]) -> tuple[str, str, str]:
        """Return the module, the file for a child that is alone, and the name of a function."""
        file = inspect.getfile(function) if self._alone else ""
        return function.__module__, file, function.__qualname__

    def _answer(self, request: object, limit: _Limit, most_bytes: int | None) -> dict[str, Any]:
        with self._one_at_a_time:
            if self._closed and self._lost is None:
                self._lost = ChildLostError(_CLOSED, status=-signal.SIGKILL)
            if self._lost is not None:
                raise self._lost
            content = self._exchanged(request, limit, most_bytes)
        if "refusal" in content:
            raise _as_error(content["refusal"])
        if "raised" in content:
            raise ChildRaisedError(f"it raised {printable(content['raised'])}")
        return content

    def _exchanged(self, request: object, limit: _Limit, most_bytes: int | None) -> dict[str, Any]:
        """Return what the child sends; without that, kill the child."""
        content = pickle.dumps(request)
        most = None if most_bytes is None else _HEADER_BYTES + most_bytes
        process = self._started()
        try:
            with within(limit.seconds, process.kill) as late:
                process.connection.send_bytes(content)
                return _decoded(process.connection.recv_bytes(most))
        except (OSError, EOFError, ValueError, LookupError, TypeError) as error:
            if late.is_set():
                fact = f"it gave no answer within {limit}"
            elif self._closed:
                fact = _CLOSED
            else:
                fact = process.how_it_ended(error)
            raise self._failed(process, fact) from None
        except BaseException:  # The next call would get this answer.
            self._failed(process, "it was interrupted")
            raise

    def _started(self) -> _Process:
        """Return the process; the first call starts it."""
        if self._process is None:
            process = _Process(self._environment)
            weakref.finalize(self, process.kill)
            self._process = process
            with suppress(OSError):  # It has ended, and the request will say so.
                process.connection.send_bytes(pickle.dumps(self._opening))
        if self._closed:  # By another thread, since the process began.
            self._process.kill()
        return self._process

    def _failed(self, process: _Process, fact: str) -> ChildLostError:
        """End the child and return the error of this and every later call."""
        status = process.kill()
        printed = process.last_output()
        if printed:
            fact = f"{fact}; it printed: {printable(printed)}"
        self._lost = ChildLostError(fact, status=status)
        return self._lost


def call_in_child(
    function: Callable[..., dict[str, Any] | None],
    *arguments: Any,
    path: Sequence[str] = (),
    alone: bool = False,
    hash_seed: str | None = None,
    timeout_s: float | None = None,
) -> dict[str, Any]:
    """Return the answer of a function, called in a child of its own; see `Child.call`."""
    child = Child(path=path, alone=alone, hash_seed=hash_seed)
    try:
        answer = child.call(function, *arguments, timeout_s=timeout_s)
        child.end()
        return answer
    finally:
        child.close()


class _Process:
    """The process of a child, with the connection to it and its last lines of output."""

    def __init__(self, environment: dict[str, str]) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._popen = subprocess.Popen(  # noqa: S603  Our own script.
                [sys.executable, "-u", "-P", str(_SCRIPT)],
                stdin=theirs.fileno(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=environment,
            )
        self._ours = ours
        self._killed = False
        self.connection = Connection(os.dup(ours.fileno()))
        self._lines: deque[str] = deque(maxlen=_LINES)
        assert self._popen.stdout is not None
        self._reader = threading.Thread(
            target=_keep_lines, args=(self._popen.stdout, self._lines), daemon=True
        )
        self._reader.start()
        threading.Thread(target=_hang_up, args=(self._popen, ours), daemon=True).start()

    def kill(self) -> int:
        """End the process and those that it started in its own session; return its exit status."""
        if not self._killed:  # Later, the number may be that of another process.
            self._killed = True
            with suppress(OSError):
                os.killpg(self._popen.pid, signal.SIGKILL)
        return self._popen.wait()

    def end(self) -> None:
        """Hang up, and wait until the process has ended by itself, a few seconds at most."""
        with suppress(OSError):
            self._ours.shutdown(socket.SHUT_RDWR)
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(_ENDING_SECONDS)

    def how_it_ended(self, error: Exception) -> str:
        """Return why there is no valid answer, which raised `error`."""
        try:
            status = self._popen.wait(_ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            return f"it sent no valid answer ({type(error).__name__}: {error})"
        if status >= 0:
            return f"its process ended with status {status}"
        if status == -signal.SIGKILL:
            return "its process was ended by SIGKILL, possibly for lack of memory"
        return f"its process was ended by {_name_of_signal(-status)}"

    def last_output(self) -> str:
        """Return the last lines that the process printed, in one line."""
        self._reader.join(_DRAINING_SECONDS)
        return " | ".join(line.strip() for line in list(self._lines) if line.strip())


def _keep_lines(stream: IO[bytes], lines: deque[str]) -> None:
    """Keep the last printed lines until the stream ends."""
    with stream:
        while line := stream.readline(1_000):
            lines.append(line.decode("utf-8", "backslashreplace"))


def _hang_up(process: subprocess.Popen[bytes], ours: socket.socket) -> None:
    """End each wait for a process once it has ended; another process may hold its socket."""
    process.wait()
    with ours, suppress(OSError):
        ours.shutdown(socket.SHUT_RDWR)


def _name_of_signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # A real-time signal has no name.
        return str(number)


def _decoded(answer: bytes) -> dict[str, Any]:
    """Return an answer; raises `ValueError`, `LookupError` or `TypeError` if it is not valid."""
    head, _, data = answer.partition(b"\n")
    header: dict[str, Any] = json.loads(head)
    if "refusal" in header or "raised" in header:
        return header
    content: dict[str, Any] = header["fields"]
    start = 0
    for name, length in header["lengths"].items():
        content[name] = data[start : start + length]
        start += length
    return content


def _as_error(refusal: dict[str, str]) -> InputError:
    message, *below = refusal["message"].split("\n")
    return InputError(message, below=below, setting=refusal["setting"], code=refusal["code"])
