"""What is known of a run's models side by side, in plain types that travel between processes."""

from __future__ import annotations

from collections.abc import Mapping

from harness.measures.failures import Comparison, PersistentFailures
from harness.store.records import as_json, read_json, record


@record
class Rate:
    """A share in [0, 1] of `n` images, with its 95% interval."""

    value: float
    low: float
    high: float
    n: int


@record
class ReliabilityBin:
    """Answers whose confidence lies in one bin: how many, their mean confidence and the share that is right."""

    count: int
    confidence: float | None
    accuracy: float | None


@record
class Survival:
    """The share of images, right as they are, that are still right at all poses up to each severity of a path."""

    path: str
    unit: str
    n: int
    severities: tuple[float, ...]
    shares: tuple[float, ...]


@record
class OnObject:
    """How much of the attention lies on the object, of one class or all: mean `ratio` and `lift` over `n` images.

    `ratio` is the share of a map's mass on the object, `uniform` what a map that looks everywhere alike would have,
    and `lift` the mean of their quotient. Dead maps and empty masks are left out.
    """

    ratio: float
    uniform: float
    lift: float
    n: int


@record
class KindCount:
    """Failures of one kind: how many there are of all images at rest, and their share, in [0, 1], of a sample moved.

    Moved means all eight corners of the promised poses.
    """

    kind: str
    count: int
    moved: float


@record
class KindChange:
    """How many images fail in one kind for the model at hand only, for the one before only, and for both."""

    kind: str
    new: int
    fixed: int
    shared: int


@record
class Changes:
    """How the first model's failures on images as they are differ from those of the model named `against`.

    `new_failures` are of any kind, the most confident first, and only the first few.
    """

    against: str
    by_kind: tuple[KindChange, ...]
    new_failures: tuple[Comparison, ...]


@record
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
    calibration_error: float
    reliability: tuple[ReliabilityBin, ...]
    rotation: tuple[Rate, ...]
    shift: tuple[tuple[Rate, ...], ...]
    corners: Rate
    covered: dict[str, float]
    failures: tuple[KindCount, ...] = ()
    persistent: PersistentFailures | None = None
    right_everywhere: Rate | None = None
    survival: tuple[Survival, ...] = ()
    on_object: tuple[OnObject | None, ...] = ()
    on_object_overall: OnObject | None = None
    history: tuple[Mapping[str, float], ...] = ()


@record
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

    def as_wire(self) -> str:
        """Return the overview as JSON, as it travels from a worker to the controller."""
        return as_json(self)

    @staticmethod
    def from_wire(wire: str) -> Overview:
        """Return the overview that `as_wire` sent."""
        return read_json(Overview, wire, where="a worker's overview")
