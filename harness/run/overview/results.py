"""The models of a run side by side: a record for each part measured, and their way between processes."""

from __future__ import annotations

import importlib
import json
import pkgutil
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from harness.base import records
from harness.base.records import read_record, record
from harness.measures.panel.label_errors import LabelErrors
from harness.run.overview.failing import Changes
from harness.run.overview.mistakes import Mistake
from harness.run.overview.part import AnyPart, Part

T = TypeVar("T")


def _declared() -> tuple[AnyPart, ...]:
    """Return each module's parts, the modules in the order of their names."""
    beside = sorted(found.name for found in pkgutil.iter_modules([str(Path(__file__).parent)]))
    modules = [
        importlib.import_module(f"{__package__}.{name}") for name in beside if name not in {"results", "measure"}
    ]
    return tuple(item for module in modules for item in vars(module).values() if isinstance(item, Part))


PARTS: tuple[AnyPart, ...] = _declared()
"""Parts of the overview of each model. A new part is a new module here, with a record and a `Part`."""


@dataclass(frozen=True)
class ModelOverview:
    """One model, in one role or several: all that the report draws of it.

    `parts` are what was measured, each a record of its own kind; `model[Clean]` is the one of kind `Clean`.
    """

    name: str
    roles: tuple[str, ...]
    path: str
    parts: tuple[Any, ...]

    def __getitem__(self, kind: type[T]) -> T:
        """Return the part of this kind; raises `KeyError` where it was not measured."""
        for part in self.parts:
            if isinstance(part, kind):
                return part
        raise KeyError(f"the overview of {self.name} has no part {kind.__name__}")

    def as_plain(self) -> dict[str, Any]:
        """Return the model in plain types, the fields of its parts beside its own."""
        plain: dict[str, Any] = {"name": self.name, "roles": list(self.roles), "path": self.path}
        for part in self.parts:
            plain |= records.as_plain(part)
        return plain


@record
class _Named:
    """Facts about a model besides its parts."""

    name: str
    roles: tuple[str, ...]
    path: str


@record
class Overview:
    """The models of a run side by side, the candidate first, on `n` images; curves use a `sample` of them."""

    data: str
    n: int
    sample: int
    classes: tuple[str, ...]
    models: tuple[ModelOverview, ...]
    degrees: tuple[float, ...]
    shifts: tuple[float, ...]
    changes: Changes | None = None
    mistakes: tuple[Mistake, ...] = ()
    """Mistakes of the first model on clean images, a few of each confusion."""
    label_errors: LabelErrors | None = None
    """Images whose labels reference models agree against; None where nobody knows."""
    label_errors_missing: str = ""
    """Why reference models, which there are, do not tell."""
    left_out: tuple[str, ...] = ()
    """Parts that would have been of too few images, by their titles."""

    @property
    def reference(self) -> ModelOverview | None:
        """Return the model that the first is compared with: the incumbent if it is another, else the next."""
        others = self.models[1:]
        return next((model for model in others if "incumbent" in model.roles), others[0] if others else None)

    @property
    def of_recipe(self) -> ModelOverview | None:
        """Return the model whose values may alarm: the reference, unless it is the baseline, of another recipe."""
        found = self.reference
        return None if found is None or ("baseline" in found.roles and "incumbent" not in found.roles) else found

    def as_plain(self) -> dict[str, Any]:
        """Return the overview in plain types, as `stress.json` has it."""
        return {**records.as_plain(replace(self, models=())), "models": [model.as_plain() for model in self.models]}

    def as_wire(self) -> str:
        """Return the overview as JSON, as it travels from a worker to the controller."""
        return json.dumps(self.as_plain())

    @staticmethod
    def from_wire(wire: str) -> Overview:
        """Return the overview that `as_wire` sent; raises `InputError` for anything else."""
        plain = json.loads(wire)
        models = tuple(_read_model(model) for model in plain["models"])
        return replace(read_record(Overview, {**plain, "models": []}, where=_WHERE), models=models)


_WHERE = "a worker's overview"


def _read_model(plain: dict[str, Any]) -> ModelOverview:
    parts = []
    for part in PARTS:
        own = {field.name: plain.pop(field.name) for field in fields(part.record) if field.name in plain}
        parts.append(read_record(part.record, own, where=_WHERE))
    named = read_record(_Named, plain, where=_WHERE)
    return ModelOverview(named.name, named.roles, named.path, tuple(parts))
