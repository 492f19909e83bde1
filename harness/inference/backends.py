"""The place of a run's models and pictures: this process or a cluster."""

from __future__ import annotations

import sys
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, TypeVar

from harness.base.errors import InputError, printable
from harness.inference.devices import pick_device

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from harness.data.parallel import Spread
    from harness.inference.cluster import Cluster
    from harness.networks.running import BackendOptions

T = TypeVar("T")
R = TypeVar("R")


def placed(options: BackendOptions, device: str) -> tuple[Cluster | None, str]:
    """Return the started cluster for the models, None without one, and the device of this process.

    Raises `InputError` for an unavailable device, for a device together with a cluster, and for a cluster that fails.
    """
    if not options.on_ray:
        return None, pick_device(device)
    if device not in {"auto", "cpu"}:
        raise InputError(f"device {device!r}: a cluster's workers get GPUs from ray-gpus; remove the device")
    from harness.inference.cluster import cluster_of

    cluster = cluster_of(options.ray)
    cluster.start()
    return cluster, "cpu"


def spread_of(options: BackendOptions) -> Spread | None:
    """Return the decoder of many pictures on the nodes of the models' cluster; None without a cluster."""
    return partial(_decoded, options) if options.on_ray else None


def _decoded(
    options: BackendOptions,
    call: Callable[[T], R],
    things: Iterable[T],
    *,
    here: Callable[[Iterable[T]], Generator[R, None, None]],
    what: str,
) -> Generator[R, None, None]:
    """Yield the result of `call` for each thing from the nodes, in their order; see `Spread`.

    This process makes the calls that fail on a node, for example without the files; the node gets no more.
    """
    from harness.inference.cluster import cluster_of
    from harness.inference.cluster.nodes import put

    def say(why: str) -> None:
        print(printable(f"{what}: {why}; this process does the remaining work"), file=sys.stderr)

    cluster = cluster_of(options.ray)
    cluster.start()
    try:
        sent = put(call, what)
    except InputError as error:
        say(str(error))
        yield from here(things)
        return
    blind = set(cluster.unlike)
    answers = cluster.run(sent, things, what=what, without=blind)
    for thing, answer in answers:
        if answer is None:
            yield from here(chain([thing], (each for each, _ in answers)))
        elif answer.failed is None:
            yield answer.result
        else:
            # If the thing itself is at fault, this process raises the error as without a cluster.
            yield from here([thing])
            if blind == cluster.unlike:
                say(f"node {answer.name} cannot ({type(answer.failed).__name__}: {answer.failed})")
            blind.add(answer.node)
