"""Platforms: code, libraries, processor and device.

They determine the last bits of predictions.
"""

from __future__ import annotations

import hashlib
import platform
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from harness.base.cache import installed
from harness.base.errors import some_of
from harness.base.features import features, implementations
from harness.inference import screening

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PACKAGE = Path(__file__).parents[1]
_ROOMS = ("data", "perturb", "networks", "inference")
"""The rooms that compute pixels, perturbations and predictions."""
_COMPUTING_HOOKS = ("stress_backends", "stress_network_formats", "stress_predictors")
"""The hooks of features that do so."""
# A wheel has the tests inside the package, a checkout beside it.
_MEASURING = (
    "base",
    *_ROOMS,
    "measures",
    "checks",
    "run",
    "plugin",
    "features",
    "stress_tests",
    "../stress_tests",
)
"""The rooms that determine measurements, and the stress tests that ship."""
LIBRARIES = ("numpy", "opencv-python", "opencv-python-headless", "scipy", "torch")
"""Libraries that compute; another release may round differently."""
TOLERANCE = 2 / 10_000
"""Largest share of images with different predictions between kinds of processors."""


@cache
def computing_code() -> str:
    """Return a hash of the sources that compute cached values, and of the libraries' versions.

    Each process computes it once.
    """
    return hashlib.sha256(repr((hash_of_code(_PACKAGE), installed(LIBRARIES))).encode()).hexdigest()


@cache
def measuring_code(package: Path = _PACKAGE) -> str:
    """Return a hash of the sources of all rooms that measure.

    The stress tests that ship and installed features count, too.
    """
    own = hash_of_code(package, _MEASURING)
    installed_files = [path for feature in features() for path in feature.installed_files]
    if not installed_files:
        return own
    digest = hashlib.sha256(own.encode())
    for path in installed_files:
        digest.update(f"{path.name}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def hash_of_code(package: Path, rooms: Sequence[str] | None = None) -> str:
    """Return a hash of the names and contents of the Python files in these rooms of a package.

    By default, these are the rooms and the features that compute. A version number is not enough,
    since it stays the same while somebody edits a checkout.
    """
    if rooms is None:
        rooms = _computing_rooms()
    digest = hashlib.sha256()
    for path in sorted(path for room in rooms for path in (package / room).rglob("*.py")):
        digest.update(
            f"{path.relative_to(package.parent).as_posix()}\0".encode() + path.read_bytes() + b"\0"
        )
    return digest.hexdigest()


def _computing_rooms() -> list[str]:
    """Return the folders of the package whose code decides a cached value.

    An installed feature is not among them: its predictor has an identity, which has to change with
    its code.
    """
    names = set()
    for hook in _COMPUTING_HOOKS:
        for implementation in implementations(hook):
            if not implementation.feature.entry_point:
                names.add(implementation.feature.name)
    return [*_ROOMS, *(f"features/{name}" for name in sorted(names))]


@dataclass(frozen=True)
class Platform:
    """The platform of a process, which determines the last bits of its results.

    Its `kind`, and a hash of the code.
    """

    kind: str
    bfloat16: bool
    code: str


@cache
def this_platform(device: torch.device) -> Platform:
    """Return the platform of this process on a device."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    on = "" if name == "cpu" else f"{name} of "
    kind = (
        f"{on}{processor()} ({torch.backends.cpu.get_cpu_capability()}), "
        f"{', '.join(installed(LIBRARIES))}"
    )
    return Platform(kind, screening.has_bfloat16(device), hash_of_code(_PACKAGE))


def processor() -> str:
    """Return the processor's model name from Linux, or else its kind."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def note_on_platforms(kinds: Mapping[str, int], margins: Sequence[tuple[str, float]]) -> str:
    """Return a note on a run with workers of several kinds; "" if all are of one kind.

    `margins` has rows of the checks file with the distance from the threshold, as a share of the
    images.
    """
    if len(kinds) < 2:  # noqa: PLR2004  One kind, or none yet.
        return ""
    said = "; ".join(f"{count} on {kind}" for kind, count in sorted(kinds.items()))
    margins = sorted(margins, key=lambda row: row[1])
    close = [f"{name} ({margin:.4f})" for name, margin in margins if margin <= TOLERANCE]
    if close:
        by = f"checks within this margin of their threshold: {some_of(close)}"
    elif margins:
        by = (
            f"no check is so close to its threshold, the closest is {margins[0][0]} "
            f"({margins[0][1]:.4f})"
        )
    else:
        by = "no check has a threshold on a share"
    return (
        f"the workers of the cluster are of {len(kinds)} kinds, so 2 of 10,000 predictions may "
        f"differ between them: {said}; {by}"
    )
