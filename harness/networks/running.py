"""The settings that say what networks run on."""

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
    """Options of the device and the backend."""

    name: str = PROCESS
    ray: RayOptions = RayOptions()

    @property
    def on_ray(self) -> bool:
        """Return whether networks run on a cluster of Ray's."""
        return self.name == RAY

    @staticmethod
    def of(values: Mapping[str, Any]) -> BackendOptions:
        """Return the options by the values of settings; those that are missing have their defaults.

        Raises `InputError` for those of a cluster where there is none.
        """
        given = with_defaults(values, BACKEND_SETTINGS)
        ray = RayOptions(given["ray-address"], given["ray-workers"], given["ray-gpus"], given["ray-logs"])
        if given["backend"] != RAY and ray != RayOptions():
            raise InputError("are settings of the backend ray; give that, too, or leave them out", setting="ray-…")
        if ray.workers is not None and ray.workers < 1:
            raise InputError("expected a number from 1", setting=f"ray-workers {ray.workers}")
        if ray.gpus < 0:
            raise InputError("expected a number from 0, such as 1, or 0.5 for a half", setting=f"ray-gpus {ray.gpus:g}")
        return BackendOptions(given["backend"], ray)


BACKEND_SETTINGS = (
    Setting(
        "backend",
        "What models run on: this process, or a cluster of Ray's, whose workers take ranges of the images; the results "
        "have the same bits (default: process).",
        "backend",
        default=PROCESS,
        choices=(PROCESS, RAY),
    ),
    Setting(
        "ray-address",
        "The cluster to join, such as 10.0.0.1:6379, or auto for one that runs on this machine (default: RAY_ADDRESS, "
        "or else one that is started for the run).",
        "backend",
        metavar="ADDRESS",
    ),
    Setting(
        "ray-workers",
        "How many workers to use at most, each with one core, and the GPUs given (default: as many as fit).",
        "backend",
        type=int,
        metavar="N",
    ),
    Setting(
        "ray-gpus",
        "How many GPUs a worker has, such as 1, or 0.5 for two workers on each; with 0 all run on CPUs (default: 0).",
        "backend",
        default=0.0,
        type=float,
        metavar="N",
    ),
    Setting("ray-logs", "Show what Ray and its workers print (default: not).", "backend", default=False, flag=True),
)
"""The settings that `BackendOptions` are made of."""
