"""Machine that made or measured a network; two machines round differently, so results name theirs."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path

_TELLING = ("model name", "cpu family", "model")


def machine() -> dict[str, str]:
    """Return the processor and the version of torch, which decide the last bits of a training."""
    return {"processor": processor(), "torch": version("torch")}


def processor() -> str:
    """Return the processor's name, family and model; virtual machines hide the name, and the others tell them apart."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    found = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    name, *numbers = (found.get(key) for key in _TELLING)
    if name is None:
        return platform.processor() or platform.machine()
    return name if None in numbers else f"{name} ({numbers[0]}/{numbers[1]})"
