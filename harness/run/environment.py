"""The environment of a run: machine, libraries, precision, seeds and the repository's commit."""

from __future__ import annotations

import inspect
import os
import platform
import subprocess
from dataclasses import field, replace
from typing import TYPE_CHECKING

from harness.base.records import record

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.inference import RoleModel
    from harness.run.session import StressSession

_LIBRARIES = (
    "numpy",
    "onnxruntime",
    "opencv-python",
    "opencv-python-headless",
    "openvino",
    "pillow",
    "safetensors",
    "scipy",
    "torch",
    "torchvision",
    "transformers",
)
"""Libraries that read, change or predict images, if they are installed."""
_OF_PREDICTOR = "unknown: the predictor chooses it"
_OF_CLUSTER = "unknown: workers of a cluster"
_GIT_LIMIT_S = 10


@record
class Environment:
    """Where a run was measured; equal in all runs on a machine that has not changed.

    `cores` are those that the process may use, and `memory_bytes` is the memory of the machine; 0
    if unknown, as for a cluster, whose machines are not those of this process. `accelerator` is the
    name of the device, or none. It and `precision` are those of the candidate. `seeds` are by what
    they draw. `commit` is the commit of the repository in which the run was started, empty outside
    of one. `is_changed` says whether files of that commit had changes.
    """

    system: str
    processor: str
    instructions: str
    cores: int
    memory_bytes: int
    accelerator: str
    precision: str
    libraries: dict[str, str] = field(default_factory=dict)
    seeds: dict[str, int] = field(default_factory=dict)
    commit: str = ""
    is_changed: bool = False


def environment_of(session: StressSession) -> Environment:
    """Return the environment of this process, and of the candidate of a session."""
    import torch

    from harness.inference.devices import available_cores
    from harness.inference.platforms import processor

    candidate = session.roles.get("candidate")
    commit = _git("rev-parse", "HEAD")
    environment = Environment(
        system=platform.platform(),
        processor=processor(),
        instructions=torch.backends.cpu.get_cpu_capability(),
        cores=available_cores(),
        memory_bytes=_memory_bytes(),
        accelerator=_accelerator(candidate),
        precision=_precision(candidate),
        libraries=_libraries(),
        seeds=_seeds(session),
        commit=commit,
        is_changed=bool(commit and _git("status", "--porcelain", "--untracked-files=no")),
    )
    if session.cluster is None:
        return environment
    return replace(
        environment,
        processor=_OF_CLUSTER,
        instructions=_OF_CLUSTER,
        cores=0,
        memory_bytes=0,
        accelerator=_OF_CLUSTER,
    )


def _libraries() -> dict[str, str]:
    from harness.base.cache import installed

    return dict(library.split(" ", maxsplit=1) for library in installed(_LIBRARIES))


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # Not on every system.
        return 0


def _accelerator(candidate: RoleModel | None) -> str:
    """Return the name of the device on which a network runs; none for the processor."""
    import torch

    from harness.inference.predictors.network import Network

    predictor = candidate.classifier.predictor if candidate else None
    if not isinstance(predictor, Network):
        return _OF_PREDICTOR
    if predictor.device.type == "cpu":
        return "none"
    if predictor.device.type == "cuda":
        return torch.cuda.get_device_name(predictor.device)
    return predictor.device.type


def _precision(candidate: RoleModel | None) -> str:
    """Return the precision of the candidate's predictions, as far as the harness decides it."""
    from harness.inference.predictors.network import Network
    from harness.inference.screening import has_bfloat16

    predictor = candidate.classifier.predictor if candidate else None
    if not isinstance(predictor, Network):
        return _OF_PREDICTOR
    if not predictor.provides.layers:
        return "that of the network's file"
    if has_bfloat16(predictor.device):
        return (
            "float32 without TF32; a first pass may use bfloat16, and float32 confirms small leads"
        )
    return "float32 without TF32"


def _seeds(session: StressSession) -> dict[str, int]:
    """Return the seeds of all draws of a run, and of the candidate's training if it is known."""
    from harness.data import stratified_sample
    from harness.inference.anew import SEEDS
    from harness.perturb.backgrounds import with_background
    from harness.perturb.grids import random_poses

    draws: dict[str, Callable[..., object]] = {
        "samples": stratified_sample,
        "poses": random_poses,
        "backgrounds": with_background,
    }
    seeds = {}
    for name, function in draws.items():
        seeds[name] = inspect.signature(function).parameters["seed"].default
    for number, seed in enumerate(SEEDS, start=1):
        seeds[f"hash of texts in process {number}"] = int(seed)

    candidate = session.roles.get("candidate")
    training = candidate.record.training if candidate and candidate.record else None
    training_seed = training.get("seed") if training else None
    if isinstance(training_seed, int):
        seeds["training of the candidate"] = training_seed
    return seeds


def _git(*arguments: str) -> str:
    """Return what git prints about the repository of the working folder; empty without one."""
    # A run changes no input, so git must not write its index.
    command = ["git", "--no-optional-locks", *arguments]
    try:
        with subprocess.Popen(  # noqa: S603  Our own command.
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            try:
                printed, _ = process.communicate(timeout=_GIT_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                return ""
    except (OSError, ValueError):
        return ""
    return printed.strip() if process.returncode == 0 else ""
