"""Features: the packages of `harness.features`, found by their folders; no room imports one by its name.

A feature is a table of names. It names its code as `module:attribute`, which is imported where it is used.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

T = TypeVar("T")


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
class Family:
    """Checks of one behavior.

    `measures` says what the checks measure, and `failure` what a failure means. `page` is the family's page in docs/,
    by default the one of its name. `area` is the title under which its failures are counted. An area that `explains`
    is a likely cause if no rule explains the other checks that fail. `cause` is a function of a run's verdicts on the
    candidate. It returns the group, evidence and advice of a cause that the family's checks show, or None. It comes
    before the rules of the report. `starter_checks` makes the checks of a first
    checks file; `init` does not offer a family without. `damage` makes a mutant of the candidate that a check of the
    family must fail. A family that `needs_row` is no part of a run without one. Nor is one that `needs_role` without a
    model in that role, unless it has a row.

    `rows` makes rows from the path of a checks file and the file's table of the family's name, or None. Their files lie
    in a folder of that name. `images` opens their images, which every run measures whole, or returns None for a run
    without. With `rows`, each row has one, in their order. They are an argument of stress tests, `NAME_images`. In the
    list of families it stands `before` another.
    """

    name: str
    title: str
    measures: str
    failure: str
    page: str = ""
    area: str = ""
    explains: bool = False
    cause: str = ""
    starter_checks: Any = None
    damage: Any = None
    needs_row: bool = False
    needs_role: str = ""
    rows: str = ""
    images: str = ""
    before: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "page", self.page or f"behaviours/{self.name}")


@dataclass(frozen=True)
class Feature:
    """Additions of a feature; stress tests that ship with it lie in its folder `stress_tests`.

    `sections` of the report are functions of an outcome, each with the name of the section that it stands before.
    `lines` are functions that return lines of the summary, and `notes` those that return notes on a run, which every
    report shows at its top. `self_checks` by name are functions of a session and of its
    judge of a check; they return a function for the result, or None. `settings` are models, each with the title of its
    group. `rows` is a function of a run's request, which returns rows besides those of the checks file. `opened` is one
    of a session and the request, which returns the session of the run. `differences` is one of both, too. After the
    tests it returns the feature's `record` of the run, or None. That names a class of the feature's, a `FeatureRecord`,
    and `record_key` is its key in `stress.json`. `metrics` are
    those of its own, beside its functions that compute them. `begun` is a function of a session and the request, which
    is called before the tests. It returns None, or the id of a check and positions of images: the run then stops there,
    see `StressSession.stopped_at`.
    """

    commands: Mapping[str, Command] = field(default_factory=dict)
    families: tuple[Family, ...] = ()
    sections: Mapping[str, str] = field(default_factory=dict)
    lines: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    self_checks: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    rows: str = ""
    opened: str = ""
    differences: str = ""
    record: str = ""
    record_key: str = ""
    begun: str = ""
    metrics: tuple[str, ...] = ()

    def concerns(self, checks: Any) -> bool:
        """Return whether a family of this feature has checks; `opened` is called for such runs."""
        return any(checks.family(family.name) for family in self.families)


@cache
def features() -> tuple[Feature, ...]:
    """Return the features that are there; each package of `harness.features` has one as `FEATURE`."""
    folder = Path(__file__).parents[1] / "features"
    names = sorted(found.name for found in iter_modules([str(folder)]))
    return tuple(import_module(f"harness.features.{name}").FEATURE for name in names)


def families_of_features() -> dict[str, Family]:
    """Return the families that features add, by name."""
    return {family.name: family for feature in features() for family in feature.families}


def families_with_rows() -> dict[str, Family]:
    """Return the families whose rows a feature makes, by name."""
    return {name: family for name, family in families_of_features().items() if family.rows}


def record_keys() -> set[str]:
    """Return the keys of `stress.json` under which features have a record."""
    return {feature.record_key for feature in features() if feature.record_key}


def resolve(named: Any) -> Any:
    """Return what `module:attribute` names; anything but a text is returned unchanged."""
    if not isinstance(named, str):
        return named
    module, _, attribute = named.partition(":")
    return getattr(import_module(module), attribute)


def with_added(own: Mapping[str, T], added: Iterable[tuple[str, T, str]]) -> dict[str, T]:
    """Return a table with more entries, each before the one that it names, or else at the end."""
    found = list(own.items())
    for name, value, before in added:
        at = next((at for at, (other, _) in enumerate(found) if other == before), len(found))
        found.insert(at, (name, value))
    return dict(found)
