"""Features: the packages of `harness.features`, found by their folders; no room imports one by its name."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Command:
    """A command of the command line: its module has it as `NAME_command`, and help lists it by its purpose.

    One that `judges` a model ends with 4 if it has no verdict.
    """

    purpose: str
    module: str
    summary: str
    judges: bool = False


@dataclass(frozen=True)
class Feature:
    """Additions of a feature: commands by name."""

    commands: Mapping[str, Command]


def features() -> list[Feature]:
    """Return the features that are there; each package of `harness.features` has one as `FEATURE`."""
    folder = Path(__file__).parents[1] / "features"
    return [import_module(f"harness.features.{found.name}").FEATURE for found in iter_modules([str(folder)])]
