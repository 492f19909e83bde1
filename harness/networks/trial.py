"""The trial of a network in native code: it computes one image in a process with limits.

That process loads this file and the file of the computation alone, so both import nothing of the
package.
"""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from runpy import run_path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


def try_network(
    library: str,
    computation: tuple[str, str],
    network: tuple[bytes, bytes],
    shape: Sequence[int],
    limits: tuple[int, int],
) -> dict[str, Any]:
    """Compute one blank image by a network; called in a child process.

    Args:
        library: The module of the library that computes. Its import is not limited.
        computation: The file and the name of the function that computes one image of a shape by a
            network.
        network: Its description and its external weights.
        shape: The (C, H, W) of the image.
        limits: Megabytes of memory, and seconds of one core.

    Returns:
        Whether the memory was `exhausted`. Any other error counts for nothing, since it is found
        again, with a message, by the process that uses the network.
    """
    import_module(library)
    file, name = computation
    compute_one_image = run_path(file)[name]
    _limit_process(*limits)
    try:
        compute_one_image(*network, shape)
    except Exception as error:
        lacks_memory = isinstance(error, MemoryError) or "alloc" in str(error).lower()
        return {"exhausted": lacks_memory}
    return {"exhausted": False}


def _limit_process(megabytes: int, seconds: int) -> None:
    with suppress(ImportError):  # Windows has no such limits; the caller still limits the time.
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (megabytes << 20, megabytes << 20))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
