"""Backends that run models elsewhere than in this process, such as on a cluster.

Features add them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from harness.base.errors import InputError
from harness.base.registry import Registry
from harness.inference.devices import pick_device
from harness.networks.options import BackendOptions

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Generator, Iterable

    import torch

    from harness.data.decoding import Spread
    from harness.inference.engine import Engine

T = TypeVar("T")
R = TypeVar("R")


class Cluster(Protocol):
    """Workers on other machines, which run models, decode pictures and run whole gates.

    Attributes:
        lost: Why every further call fails; "" while the cluster works.
        kinds: The kinds of the workers' platforms at the start, with the number of workers of each;
            they determine the bits.
    """

    lost: str
    kinds: Counter[str]

    def start(self) -> None:
        """Join the cluster, unless this process has done so.

        Raises `InputError` for one that cannot be joined, or has no room for a worker.
        """

    @property
    def workers(self) -> int:
        """Return the number of parallel calls with a model."""

    @property
    def cores(self) -> list[int]:
        """Join the cluster, and return a number for each task that can run in parallel."""

    def __call__(self, model: Any, *, device: torch.device, workers: int, screen: bool) -> Engine:
        """Return an engine that computes on the workers, with the bits of this process."""

    def decoded(
        self,
        call: Callable[[T], R],
        things: Iterable[T],
        *,
        here: Callable[[Iterable[T]], Generator[R, None, None]],
        what: str,
    ) -> Generator[R, None, None]:
        """Yield the result of `call` for each thing, in their order; see `Spread`."""

    def result(self, what: str, function: Callable[[int], T]) -> T:
        """Return the result of a function of the number of a core, called on a worker.

        Raises `BackendLostError` if the cluster is lost, and any `InputError` of the function.
        """


@dataclass(frozen=True)
class Backend:
    """A kind of cluster.

    Attributes:
        open: A function of the options that returns the cluster, one for this process.
    """

    open: Callable[[BackendOptions], Cluster]


BACKENDS = Registry("backend", Backend, {}, hook="stress_backends")
"""The backends by the value of the setting `backend`, besides this process."""


def cluster_of(options: BackendOptions) -> Cluster | None:
    """Return the cluster of these options; None if models run in this process."""
    if not options.on_cluster:
        return None
    return BACKENDS[options.backend].open(options.part(BackendOptions))


def placed(options: BackendOptions, device: str) -> tuple[Cluster | None, str]:
    """Return the started cluster for the models, None without one, and the device of this process.

    Raises `InputError` for an unavailable device, for a device together with a cluster, and for a
    cluster that fails.
    """
    cluster = cluster_of(options)
    if cluster is None:
        return None, pick_device(device)
    if device not in {"auto", "cpu"}:
        raise InputError(
            f"device {device!r}: a cluster's workers get GPUs from ray_gpus; remove the device"
        )
    cluster.start()
    return cluster, "cpu"


def spread_of(options: BackendOptions) -> Spread | None:
    """Return the decoder of many pictures on the cluster of the models; None without a cluster."""
    cluster = cluster_of(options)
    return None if cluster is None else cluster.decoded
