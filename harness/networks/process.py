"""Settings of the whole process: what code of others changes is put back, and what ours needs is set.

Torch's own decide the last bits of what is computed, of other models too; the rest decides what a run reports, where
to, and whether it ends. What is changed in other ways, such as our own modules, cannot be put back.
"""

from __future__ import annotations

import ctypes
import locale
import os
import platform
import signal
import sys
import threading
import warnings
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from harness.base.errors import end_copy, foreign_code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CPU = torch.device("cpu")
_SIGNALS = [getattr(signal, name) for name in ("SIGALRM", "SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_one_at_a_time = threading.Lock()
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LAYERS = 1 << 26
"""Bytes of a buffer that is reused: above what a layer puts out for a batch, see `harness.inference.devices`. What is
larger are images, which would leave holes between the buffers."""
_LAYERS_OF_OLD = 1 << 25
"""The largest threshold of a mapping that glibc took before 2.35."""
_KEPT = 1 << 28
"""Bytes that are kept free at most at the end of the arena."""


def _set_environment(variables: dict[str, str]) -> None:
    for name in os.environ.keys() - variables.keys():
        os.environ.pop(name, None)
    os.environ.update(variables)


def _set_streams(streams: tuple[Any, ...]) -> None:
    sys.stdin, sys.stdout, sys.stderr = streams


def _set_locale(name: str) -> None:
    with suppress(locale.Error):
        locale.setlocale(locale.LC_ALL, name)


def _folder() -> str:
    try:
        return str(Path.cwd())
    except OSError:  # Somebody deleted it.
        return ""


def _set_folder(folder: str) -> None:
    with suppress(OSError):
        os.chdir(folder)


_SETTINGS: tuple[tuple[Callable[[], Any], Callable[[Any], object]], ...] = (
    (torch.get_default_dtype, torch.set_default_dtype),
    # A default device that is set, be it the usual one, costs time in each call.
    (torch.get_default_device, lambda device: torch.set_default_device(None if device == _CPU else device)),
    (torch.is_grad_enabled, torch.set_grad_enabled),
    (torch.get_num_threads, torch.set_num_threads),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (
        lambda: (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()),
        lambda set_to: torch.use_deterministic_algorithms(set_to[0], warn_only=set_to[1]),
    ),
    *(
        (partial(getattr, backend, name), partial(setattr, backend, name))
        for backend, name in (
            *((torch.backends.mkldnn, name) for name in ("enabled", "deterministic")),
            *((torch.backends.cudnn, name) for name in ("enabled", "deterministic", "benchmark")),
        )
    ),
    (lambda: dict(os.environ), _set_environment),
    (_folder, _set_folder),
    (lambda: (sys.stdin, sys.stdout, sys.stderr), _set_streams),
    (sys.getrecursionlimit, sys.setrecursionlimit),
    (lambda: locale.setlocale(locale.LC_ALL), _set_locale),
)
"""Reader and writer of each setting."""


class Settings:
    """Present settings of this process and of this thread."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._values = [read() for read, _ in _SETTINGS]

    def restore(self) -> None:
        """Put back what is another now; a copy of the process that made this ends."""
        end_copy(self._process)
        with _one_at_a_time:
            for (read, write), value in zip(_SETTINGS, self._values, strict=True):
                if read() != value:
                    write(value)


@contextmanager
def foreign_network() -> Iterator[None]:
    """Run code of a user's network: what it changes is put back, and what it raises is an `Exception`."""
    with settings_kept(), foreign_code():
        yield


class _Open:
    """A stream that stays open, whoever closes it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def close(self) -> None:
        """Do nothing."""


@contextmanager
def streams_open() -> Iterator[None]:
    """Keep the output streams from being closed: pytest's own would be, or those that it captures by."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (stream and _Open(stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


@contextmanager
def settings_kept() -> Iterator[None]:
    """Put back, after code of others has run, all settings, and what only the main thread can change.

    That is how signals are handled, a time limit's among them, and which warnings are shown.
    """
    before = Settings()
    if threading.current_thread() is not threading.main_thread():
        try:
            yield
        finally:
            before.restore()
        return
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    with warnings.catch_warnings():
        try:
            with streams_open():
                yield
        finally:
            before.restore()
            for number, handler in handlers.items():
                if signal.getsignal(number) != handler and handler is not None:
                    signal.signal(number, handler)


@cache
def keep_freed_buffers() -> None:
    """Tell glibc's malloc to reuse the buffers of layers, for all threads alike; elsewhere do nothing.

    Layer outputs of a few megabytes are allocated and freed thousands of times a second. By default each one is a new
    memory mapping whose pages fault in again, which takes about half the time of inference on a CPU (mallopt(3)).
    Another thread than the main one has an arena of heaps of 64 MiB, each unmapped once it is empty whatever the
    thresholds say, which cost 7 ms of system time an image at 224 px; so all threads share the one of the main thread.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        if not libc.mallopt(_M_MMAP_THRESHOLD, _LAYERS):
            libc.mallopt(_M_MMAP_THRESHOLD, _LAYERS_OF_OLD)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT)
        libc.mallopt(_M_ARENA_MAX, 1)
