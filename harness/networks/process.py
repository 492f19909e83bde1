"""Evaluation of networks: settings of the process, evaluation mode, and logits within outputs."""

from __future__ import annotations

import copy
import ctypes
import locale
import os
import platform
import signal
import sys
import threading
import warnings
from contextlib import contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.fx import Proxy

from harness.base.errors import UnusableModelError, end_copy, foreign_code, some_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import nn


_CPU = torch.device("cpu")
_SIGNALS = [
    getattr(signal, name)
    for name in ("SIGALRM", "SIGINT", "SIGTERM", "SIGHUP")
    if hasattr(signal, name)
]
_one_at_a_time = threading.Lock()
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""Parameters of `mallopt`, from glibc's malloc.h."""
_LARGEST_BUFFER = 1 << 26
"""Most bytes of a reused buffer, above a layer's output for a batch, see
`harness.inference.devices`.

Larger blocks are images, which would leave holes between the buffers.
"""
_LARGEST_BUFFER_OLD_GLIBC = 1 << 25
"""The largest such threshold before glibc 2.35."""
_MOST_FREE_BYTES = 1 << 28
"""Most free bytes at the end of the arena."""


def _set_environment(variables: dict[str, str]) -> None:
    for name in os.environ.keys() - variables.keys():
        os.environ.pop(name, None)
    os.environ.update(variables)


def _if_possible(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return the result of a function, or "" where it fails, as for a folder that was deleted."""
    try:
        return function(*arguments)
    except (OSError, locale.Error):
        return ""


def _set_default_device(device: torch.device) -> None:
    # Setting any default device, even the usual one, makes each call slower. PyTorch before 2.7
    # cannot name it then.
    torch.set_default_device(None if device == _CPU else device)


def _deterministic_algorithms() -> tuple[bool, bool]:
    """Return whether PyTorch uses deterministic algorithms only, and whether it then only warns."""
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )


def _set_deterministic_algorithms(settings: tuple[bool, bool]) -> None:
    enabled, warn_only = settings
    torch.use_deterministic_algorithms(enabled, warn_only=warn_only)


def _standard_streams() -> dict[str, Any]:
    return {name: getattr(sys, name) for name in ("stdin", "stdout", "stderr")}


def _attribute(owner: Any, name: str) -> tuple[Callable[[], Any], Callable[[Any], object]]:
    """Return reader and writer of an attribute."""
    return partial(getattr, owner, name), partial(setattr, owner, name)


_SETTINGS: tuple[tuple[Callable[[], Any], Callable[[Any], object]], ...] = (
    (torch.get_default_dtype, torch.set_default_dtype),
    (lambda: torch.empty(0).device, _set_default_device),
    (torch.is_grad_enabled, torch.set_grad_enabled),
    (torch.get_num_threads, torch.set_num_threads),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (_deterministic_algorithms, _set_deterministic_algorithms),
    _attribute(torch.backends.mkldnn, "enabled"),
    _attribute(torch.backends.mkldnn, "deterministic"),
    _attribute(torch.backends.cudnn, "enabled"),
    _attribute(torch.backends.cudnn, "deterministic"),
    _attribute(torch.backends.cudnn, "benchmark"),
    (lambda: dict(os.environ), _set_environment),
    (partial(_if_possible, os.getcwd), partial(_if_possible, os.chdir)),
    (_standard_streams, vars(sys).update),
    (sys.getrecursionlimit, sys.setrecursionlimit),
    (
        partial(locale.setlocale, locale.LC_ALL),
        partial(_if_possible, locale.setlocale, locale.LC_ALL),
    ),
)
"""Reader and writer of each setting."""


class ProcessSettings:
    """Present settings of this process and of this thread."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._values = [read() for read, _ in _SETTINGS]

    def restore(self) -> None:
        """Restore every changed setting; if this process is a fork of the original one, end it."""
        end_copy(self._process)
        with _one_at_a_time:
            for (read, write), value in zip(_SETTINGS, self._values, strict=True):
                if read() != value:
                    write(value)


@contextmanager
def foreign_network() -> Iterator[None]:
    """Run code of a user's network.

    Settings are restored, and `SystemExit` and the like become an `Exception`.
    """
    with settings_kept(), foreign_code():
        yield


class _Open:
    """A stream that ignores `close`."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def close(self) -> None:
        """Do nothing."""


@contextmanager
def streams_open() -> Iterator[None]:
    """Protect the output streams from being closed, since pytest captures with them."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (stream and _Open(stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


@contextmanager
def settings_kept() -> Iterator[None]:
    """Restore all settings after the user's code has run.

    In the main thread, also restore warnings and signal handlers, on which time limits depend.
    """
    settings = ProcessSettings()
    try:
        # Python sets signal handlers in the main thread only, and the filters of warnings and the
        # streams belong to all threads.
        if threading.current_thread() is threading.main_thread():
            with _signal_handlers_kept(), warnings.catch_warnings(), streams_open():
                yield
        else:
            yield
    finally:
        settings.restore()


@contextmanager
def _signal_handlers_kept() -> Iterator[None]:
    """Restore signal handlers, in the main thread only."""
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            # None stands for a handler that was not set from Python, and cannot be set.
            if handler is not None and signal.getsignal(number) != handler:
                signal.signal(number, handler)


@cache
def keep_freed_buffers() -> None:
    """Make glibc's malloc reuse the buffers of layers; without glibc do nothing.

    Layer outputs of a few megabytes are allocated and freed thousands of times a second. By default
    each is a new memory mapping with page faults, which takes about half the time of inference on a
    CPU (mallopt(3)).
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    if not libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_BUFFER):
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_BUFFER_OLD_GLIBC)
    libc.mallopt(_M_TRIM_THRESHOLD, _MOST_FREE_BYTES)
    # Threads other than the main one have arenas of 64 MiB heaps, and malloc unmaps an empty heap
    # at any threshold. This cost 7 ms of system time an image at 224 px, so all threads share the
    # main thread's arena.
    libc.mallopt(_M_ARENA_MAX, 1)


_LOGITS_KEYS = ("logits", "out")
_MATRIX = 2
"""Dimensions of logits, (N, classes)."""


@contextmanager
def evaluating(
    model: nn.Module, hooks: Mapping[str, Callable[..., Any]] | None = None
) -> Iterator[None]:
    """Keep a model in evaluation mode while the context lasts; see `foreign_network`.

    During that time it has a forward hook on each layer that `hooks` names.
    """
    handles = [
        model.get_submodule(name).register_forward_hook(hook)
        for name, hook in (hooks or {}).items()
    ]
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with foreign_network():
            yield
    finally:
        for handle in handles:
            handle.remove()
        for module in training:
            module.training = True


def evaluation_copy(model: nn.Module) -> nn.Module:
    """Return a copy of the model in evaluation mode, its parameters frozen."""
    with foreign_network():
        copied = copy.deepcopy(model)
    return copied.eval().requires_grad_(requires_grad=False)


def logits_of(outputs: Any) -> tuple[Any, str]:
    """Return the logits of a network's output, and a description of their place.

    An object has them as `logits`, a dict under `logits` or `out`. In a tuple they are the first
    tensor, (N, classes), if no other has its shape. The description is "" for a plain tensor.

    Raises:
        UnusableModelError: The output has no logits, or their place is ambiguous.
    """
    # A proxy has every attribute, and its value is not known yet.
    if isinstance(outputs, Tensor | Proxy):
        return outputs, ""

    kind = type(outputs).__name__
    if isinstance(outputs, dict):
        keys = [key for key in _LOGITS_KEYS if isinstance(outputs.get(key), Tensor | Proxy)]
        if len(keys) == 1:
            return outputs[keys[0]], f"its logits are {keys[0]!r} of the dict that it returns"
        all_keys = some_of([repr(key) for key in outputs]) or "nothing"
        raise _without_logits(f"a dict of {all_keys}")

    if isinstance(getattr(outputs, "logits", None), Tensor | Proxy):
        return outputs.logits, f"its logits are .logits of the {kind} that it returns"

    if isinstance(outputs, tuple | list) and outputs and isinstance(outputs[0], Tensor | Proxy):
        first, *others = outputs
        if isinstance(first, Proxy):
            return first, ""
        same_shape = [
            other for other in others if isinstance(other, Tensor) and other.shape == first.shape
        ]
        if first.ndim == _MATRIX and not same_shape:
            return first, f"its logits are the first of the {len(outputs)} that it returns"
        shapes = [_shape_in_words(output) for output in outputs]
        raise _without_logits(f"a {kind} of {some_of(shapes)}")

    raise _without_logits(f"a {kind}")


def _shape_in_words(output: Any) -> str:
    """Return the shape of a tensor, or the type of another output."""
    if isinstance(output, Tensor):
        return str(tuple(output.shape))
    return type(output).__name__


def _without_logits(description: str) -> UnusableModelError:
    """Return the error about an output without logits, or with several."""
    return UnusableModelError(
        f"the model returned {description}; expected logits (N, classes), an object with .logits, "
        "a dict with 'logits' or 'out', or a tuple with logits first. Set model to a callable "
        "that wraps the network and returns the logits alone"
    )
