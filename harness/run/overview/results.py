"""What is known of a run's models side by side, in plain types that travel between processes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from harness.measures.failures import Answer, Comparison, PersistentFailure, PersistentFailures

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


@dataclass(frozen=True)
class Rate:
    """A share in [0, 1] of `n` images, with its 95% interval."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class ReliabilityBin:
    """Answers whose confidence lies in one bin: how many, their mean confidence and the share that is right."""

    count: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Survival:
    """The share of images, right as they are, that are still right at all poses up to each severity of a path."""

    path: str
    unit: str
    n: int
    severities: tuple[float, ...]
    shares: tuple[float, ...]


@dataclass(frozen=True)
class OnObject:
    """How much of the attention lies on the object, of one class or all: mean `ratio` and `lift` over `n` images.

    `ratio` is the share of a map's mass on the object, `uniform` what a map that looks everywhere alike would have,
    and `lift` the mean of their quotient. Dead maps and empty masks are left out.
    """

    ratio: float
    uniform: float
    lift: float
    n: int


@dataclass(frozen=True)
class KindCount:
    """Failures of one kind: how many there are of all images at rest, and their share, in [0, 1], of a sample moved.

    Moved means all eight corners of the promised poses.
    """

    kind: str
    count: int
    moved: float


@dataclass(frozen=True)
class KindChange:
    """How many images fail in one kind for the model at hand only, for the one before only, and for both."""

    kind: str
    new: int
    fixed: int
    shared: int


@dataclass(frozen=True)
class Changes:
    """How the first model's failures on images as they are differ from those of the model named `against`.

    `new_failures` are of any kind, the most confident first, and only the first few.
    """

    against: str
    by_kind: tuple[KindChange, ...]
    new_failures: tuple[Comparison, ...]


@dataclass(frozen=True)
class ModelOverview:
    """One model, in one role or several: all that the report draws of it.

    `per_class` and `on_object` follow the classes' order, None for a class without images. `confusion` counts images,
    a row for each true class and a column for each predicted one. `rotation` follows `Overview.degrees`, `shift` has a
    row for each dy and a column for each dx of `Overview.shifts`. `corners` is the mean accuracy at the promised
    poses' corners. `covered` is the share of answers that change when a side of the image is blacked out. `failures`
    counts by kind, and `persistent` lists what is wrong at most of the corners and rest.
    """

    name: str
    roles: tuple[str, ...]
    path: str
    accuracy: Rate
    per_class: tuple[Rate | None, ...]
    confusion: tuple[tuple[int, ...], ...]
    confident_errors: int
    reliability: tuple[ReliabilityBin, ...]
    rotation: tuple[Rate, ...]
    shift: tuple[tuple[Rate, ...], ...]
    corners: Rate
    covered: Mapping[str, float]
    failures: tuple[KindCount, ...] = ()
    persistent: PersistentFailures | None = None
    right_everywhere: Rate | None = None
    survival: tuple[Survival, ...] = ()
    on_object: tuple[OnObject | None, ...] = ()
    on_object_overall: OnObject | None = None
    history: tuple[Mapping[str, float], ...] = ()

    @property
    def calibration_error(self) -> float:
        """Return the expected calibration error in [0, 1]: |accuracy - confidence| over the bins, by their counts.

        Guo et al. (2017), "On Calibration of Modern Neural Networks", equation 3.
        """
        gaps = [
            item.count * abs(item.accuracy - item.confidence)
            for item in self.reliability
            if item.accuracy is not None and item.confidence is not None
        ]
        return sum(gaps) / sum(item.count for item in self.reliability)


@dataclass(frozen=True)
class Overview:
    """The models of a run side by side, the one under test first; `n` images, of which curves show a `sample`."""

    data: str
    n: int
    sample: int
    classes: tuple[str, ...]
    models: tuple[ModelOverview, ...]
    degrees: tuple[float, ...]
    shifts: tuple[float, ...]
    changes: Changes | None = None

    @property
    def reference(self) -> ModelOverview | None:
        """Return the model that the first is compared with: the incumbent if it is another, else the next."""
        others = self.models[1:]
        return next((model for model in others if "incumbent" in model.roles), others[0] if others else None)

    def of_role(self, role: str) -> ModelOverview | None:
        """Return the model in this role, None when there is none."""
        return next((model for model in self.models if role in model.roles), None)

    def as_wire(self) -> dict[str, Any]:
        """Return the overview in plain types, as it travels from a worker to the controller."""
        return asdict(self)

    @staticmethod
    def from_wire(wire: Mapping[str, Any]) -> Overview:
        """Return the overview that `as_wire` sent."""
        models = tuple(_model_from(model) for model in wire["models"])
        known = {name: tuple(wire[name]) for name in ("classes", "degrees", "shifts")}
        changes = wire.get("changes") and _changes_from(wire["changes"])
        return Overview(**{**wire, **known, "models": models, "changes": changes})


def _changes_from(wire: Mapping[str, Any]) -> Changes:
    def answer(item: Mapping[str, Any]) -> Answer:
        return Answer(**{**item, "probabilities": tuple(item["probabilities"])})

    return Changes(
        wire["against"],
        tuple(KindChange(**item) for item in wire["by_kind"]),
        tuple(Comparison(answer(item["after"]), answer(item["before"])) for item in wire["new_failures"]),
    )


def _persistent_from(wire: Mapping[str, Any] | None) -> PersistentFailures | None:
    if wire is None:
        return None
    return PersistentFailures(**{**wire, "rows": tuple(PersistentFailure(**row) for row in wire["rows"])})


def _model_from(wire: Mapping[str, Any]) -> ModelOverview:
    def rates(items: Sequence[Mapping[str, Any] | None]) -> tuple[Any, ...]:
        return tuple(item and Rate(**item) for item in items)

    read: Mapping[str, Callable[[Any], Any]] = {
        "roles": tuple,
        "accuracy": lambda item: Rate(**item),
        "per_class": rates,
        "confusion": lambda rows: tuple(map(tuple, rows)),
        "reliability": lambda items: tuple(ReliabilityBin(**item) for item in items),
        "rotation": rates,
        "shift": lambda rows: tuple(map(rates, rows)),
        "corners": lambda item: Rate(**item),
        "failures": lambda items: tuple(KindCount(**item) for item in items),
        "persistent": _persistent_from,
        "right_everywhere": lambda item: item and Rate(**item),
        "survival": lambda items: tuple(
            Survival(**{**item, "severities": tuple(item["severities"]), "shares": tuple(item["shares"])})
            for item in items
        ),
        "on_object": lambda items: tuple(item and OnObject(**item) for item in items),
        "on_object_overall": lambda item: item and OnObject(**item),
        "history": tuple,
    }
    names = [item.name for item in fields(ModelOverview)]
    return ModelOverview(**{name: read.get(name, lambda item: item)(wire[name]) for name in names})
