"""The parts that there are: those that the modules beside this one declare."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

from harness.run.overview.part import AnyPart, Part


def _declared() -> tuple[AnyPart, ...]:
    """Return each module's parts, the modules in the order of their names."""
    names = sorted(found.name for found in pkgutil.iter_modules([str(Path(__file__).parent)]))
    modules = [importlib.import_module(f"{__package__}.{name}") for name in names if name not in {"parts", "measure"}]
    return tuple(item for module in modules for item in vars(module).values() if isinstance(item, Part))


PARTS: tuple[AnyPart, ...] = _declared()
"""What an overview measures of each model. A new part is a new module here, with a record and a `Part`."""
