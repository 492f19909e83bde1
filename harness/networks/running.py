"""The settings of the backend that runs networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.base.errors import InputError
from harness.base.settings import Setting, with_defaults

if TYPE_CHECKING:
    from collections.abc import Mapping

PROCESS, RAY = "process", "ray"


@dataclass(frozen=True)
class RayOptions:
    """The cluster and its use: `address` in Ray's form, None for `RAY_ADDRESS` or else a new cluster on this machine.

    `workers` is None for as many as fit into the cluster; each has `gpus` GPUs, or no GPU and one core. `logs` shows
    Ray's output.
    """

    address: str | None = None
    workers: int | None = None
    gpus: float = 0.0
    logs: bool = False


@dataclass(frozen=True)
class BackendOptions:
    """Options of the device and the backend."""

    name: str = PROCESS
    ray: RayOptions = RayOptions()

    @property
    def on_ray(self) -> bool:
        """Return whether networks run on a Ray cluster."""
        return self.name == RAY

    @staticmethod
    def of(values: Mapping[str, Any]) -> BackendOptions:
        """Return the options for the values of settings; a missing one has its default.

        Raises `InputError` for an option of a cluster without the backend ray, and for an invalid number.
        """
        given = with_defaults(values, BACKEND_SETTINGS)
        ray = RayOptions(given["ray-address"], given["ray-workers"], given["ray-gpus"], given["ray-logs"])
        if given["backend"] != RAY and ray != RayOptions():
            raise InputError("are settings of the backend ray; set that too, or remove them", setting="ray-…")
        if ray.workers is not None and ray.workers < 1:
            raise InputError("expected a number from 1", setting=f"ray-workers {ray.workers}")
        if ray.gpus < 0:
            raise InputError("expected a number from 0, such as 1, or 0.5 for a half", setting=f"ray-gpus {ray.gpus:g}")
        return BackendOptions(given["backend"], ray)


BACKEND_SETTINGS = (
    Setting(
        "backend",
        "Run models in this process, or on a Ray cluster with workers for ranges of the images; the results have the "
        "same bits (default: process).",
        "backend",
        default=PROCESS,
        choices=(PROCESS, RAY),
    ),
    Setting(
        "ray-address",
        "The cluster to join, such as 10.0.0.1:6379, or auto for a running one on this machine (default: RAY_ADDRESS, "
        "else a new cluster for the run).",
        "backend",
        metavar="ADDRESS",
    ),
    Setting(
        "ray-workers",
        "Use at most this many workers, each with one core and its GPUs (default: as many as fit).",
        "backend",
        type=int,
        metavar="N",
    ),
    Setting(
        "ray-gpus",
        "Give each worker this many GPUs, such as 1, or 0.5 for two workers on each; 0 uses CPUs only (default: 0).",
        "backend",
        default=0.0,
        type=float,
        metavar="N",
    ),
    Setting("ray-logs", "Show the output of Ray and its workers (default: off).", "backend", default=False, flag=True),
)
"""The settings of `BackendOptions`."""
