"""Evaluation of networks: settings of the whole process, evaluation mode, and the logits within outputs."""

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
from contextlib import contextmanager, nullcontext
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
_LAYERS = 1 << 26
"""Most bytes of a reused buffer, above a layer's output for a batch, see `harness.inference.devices`. Larger blocks
are images, which would leave holes between the buffers."""
_LAYERS_OF_OLD = 1 << 25
"""The largest such threshold before glibc 2.35."""
_KEPT = 1 << 28
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


_SETTINGS: tuple[tuple[Callable[[], Any], Callable[[Any], object]], ...] = (
    (torch.get_default_dtype, torch.set_default_dtype),
    # Setting any default device, even the usual one, makes each call slower. PyTorch before 2.7 cannot name it then.
    (
        lambda: torch.empty(0).device,
        lambda device: torch.set_default_device(None if device == _CPU else device),
    ),
    (torch.is_grad_enabled, torch.set_grad_enabled),
    (torch.get_num_threads, torch.set_num_threads),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (
        lambda: (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
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
    (partial(_if_possible, os.getcwd), partial(_if_possible, os.chdir)),
    (
        lambda: {name: getattr(sys, name) for name in ("stdin", "stdout", "stderr")},
        vars(sys).update,
    ),
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
    """Run code of a user's network: settings are restored, and `SystemExit` and the like become an `Exception`."""
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
    """Restore all settings after the user's code has run, and in the main thread also signal handlers and warnings.

    Time limits depend on these handlers.
    """
    before = ProcessSettings()
    main = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in _SIGNALS} if main else {}
    with warnings.catch_warnings() if main else nullcontext():
        try:
            with streams_open() if main else nullcontext():
                yield
        finally:
            before.restore()
            for number, handler in handlers.items():
                if signal.getsignal(number) != handler and handler is not None:
                    signal.signal(number, handler)


@cache
def keep_freed_buffers() -> None:
    """Make glibc's malloc reuse the buffers of layers, in one arena for all threads; without glibc do nothing.

    Layer outputs of a few megabytes are allocated and freed thousands of times a second. By default each is a new
    memory mapping with page faults, which takes about half the time of inference on a CPU (mallopt(3)). Threads other
    than the main one have arenas of 64 MiB heaps, and malloc unmaps an empty heap at any threshold. This cost 7 ms of
    system time an image at 224 px, so all threads share the main thread's arena.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        if not libc.mallopt(_M_MMAP_THRESHOLD, _LAYERS):
            libc.mallopt(_M_MMAP_THRESHOLD, _LAYERS_OF_OLD)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT)
        libc.mallopt(_M_ARENA_MAX, 1)


_NAMES = ("logits", "out")
_MATRIX = 2


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
    """Return the logits of a network's output, and a description of their place; "" for a plain tensor.

    An object has them as `logits`, a dict under `logits` or `out`. In a tuple they are the first tensor, (N, classes).
    Raises `InputError` for an output without logits and for an ambiguous one.
    """
    if isinstance(
        outputs, Tensor | Proxy
    ):  # A proxy has every attribute, and its value is not known yet.
        return outputs, ""
    found = f"a {type(outputs).__name__}"
    if isinstance(outputs, dict):
        named = [name for name in _NAMES if isinstance(outputs.get(name), Tensor | Proxy)]
        if len(named) == 1:
            return outputs[named[0]], f"its logits are {named[0]!r} of the dict that it returns"
        found = f"a dict of {some_of([repr(name) for name in outputs]) or 'nothing'}"
    elif isinstance(getattr(outputs, "logits", None), Tensor | Proxy):
        return (
            outputs.logits,
            f"its logits are .logits of the {type(outputs).__name__} that it returns",
        )
    elif isinstance(outputs, tuple | list) and outputs and isinstance(outputs[0], Tensor | Proxy):
        first, *others = outputs
        if isinstance(first, Proxy):
            return first, ""
        if first.ndim == _MATRIX and not any(
            isinstance(o, Tensor) and o.shape == first.shape for o in others
        ):
            return first, f"its logits are the first of the {len(outputs)} that it returns"
        shapes = [
            str(tuple(each.shape)) if isinstance(each, Tensor) else type(each).__name__
            for each in outputs
        ]
        found = f"{found} of {some_of(shapes)}"
    raise UnusableModelError(
        f"the model returned {found}; expected logits (N, classes), an object with .logits, a dict with 'logits' or "
        "'out', or a tuple with logits first. Set model to a callable that wraps the network and returns the logits "
        "alone"
    )
