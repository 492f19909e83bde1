"""The options that say what networks run on, shared by pytest and `python -m harness`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import InputError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

PROCESS, RAY = "process", "ray"


@dataclass(frozen=True)
class RayOptions:
    """Which cluster, and what of it: `address` as Ray has it, None for `RAY_ADDRESS` or a cluster of this machine's.

    `workers` are as many as the cluster has room for without a number; each has `gpus` GPUs, or none and one core.
    `logs` lets Ray speak.
    """

    address: str | None = None
    workers: int | None = None
    gpus: float = 0.0
    logs: bool = False


@dataclass(frozen=True)
class BackendOptions:
    """What networks run on."""

    name: str = PROCESS
    ray: RayOptions = RayOptions()

    @property
    def on_ray(self) -> bool:
        """Return whether networks run on a cluster of Ray's."""
        return self.name == RAY

    @staticmethod
    def of(options: argparse.Namespace) -> BackendOptions:
        """Return the options as parsed; raises `InputError` for those of a cluster where there is none.

        A command that does not take them runs networks in its process.
        """
        if "stress_backend" not in options:
            return BackendOptions()
        ray = RayOptions(
            options.stress_ray_address, options.stress_ray_workers, options.stress_ray_gpus, options.stress_ray_logs
        )
        if options.stress_backend != RAY and ray != RayOptions():
            raise InputError("--stress-ray-…: are options of --stress-backend ray; give that, too, or leave them out")
        if ray.workers is not None and ray.workers < 1:
            raise InputError(f"--stress-ray-workers {ray.workers}: expected a number from 1")
        if ray.gpus < 0:
            raise InputError(f"--stress-ray-gpus {ray.gpus:g}: expected a number from 0, such as 1, or 0.5 for a half")
        return BackendOptions(options.stress_backend, ray)


def add_backend_options(add: Callable[..., Any]) -> None:
    """Add the options of `BackendOptions`, by a parser's `add_argument` or a pytest group's `addoption`."""
    add(
        "--stress-backend",
        choices=(PROCESS, RAY),
        default=PROCESS,
        help="What models run on: this process, or a cluster of Ray's, whose workers take ranges of the images; the "
        "results have the same bits (default: process).",
    )
    add(
        "--stress-ray-address",
        metavar="ADDRESS",
        help="The cluster to join, such as 10.0.0.1:6379, or auto for one that runs on this machine (default: "
        "RAY_ADDRESS, or else one that is started for the run).",
    )
    add(
        "--stress-ray-workers",
        metavar="N",
        type=int,
        help="How many workers to use at most, each with one core, and the GPUs given (default: as many as fit).",
    )
    add(
        "--stress-ray-gpus",
        metavar="N",
        type=float,
        default=0.0,
        help="How many GPUs a worker has, such as 1, or 0.5 for two workers on each; with 0 all run on CPUs "
        "(default: 0).",
    )
    add(
        "--stress-ray-logs",
        action="store_true",
        help="Show what Ray and its workers print (default: not).",
    )
