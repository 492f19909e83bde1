"""Measurements of the gate on each mutant: one small file per mutant, in the repository."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.detection.mutants import MUTANTS, Mutant
from benchmarks.detection.paths import RESULTS
from benchmarks.runner import by_line, read, write
from harness.base.errors import InputError
from harness.checks import Check

MEASURED = "measured"
AGAINST_INCUMBENT = frozenset({"regression", "flips"})
"""Families of rows that hold a candidate against the incumbent.

Mutants are measured without one.
"""


@dataclass(frozen=True)
class Result:
    """Results of one mutant; without a checkpoint only its recipe.

    `rows` holds the candidate's value per row of the checks file, in full precision, None where the
    gate had none to give. `exit_status`, `checks_sha256` and `versions` are those of the run that
    measured first; thresholds may have changed since. `later` tells of rows that were measured
    afterwards by other versions: {"rows": ids, "versions": versions}.
    """

    id: str
    kind: str
    strength: int
    words: str
    seed: int
    outcome: str
    recipe: Mapping[str, Any]
    checkpoint_sha256: str | None = None
    baseline_sha256: str | None = None
    checks_sha256: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    clean_accuracy: float | None = None
    exit_status: int | None = None
    rows: Mapping[str, float | None] = field(default_factory=dict)
    later: Sequence[Mapping[str, Any]] = ()

    @classmethod
    def of(cls, mutant: Mutant, outcome: str, recipe: Mapping[str, Any], **facts: Any) -> Result:
        """Return a result of a mutant."""
        return cls(
            mutant.id,
            mutant.kind,
            mutant.strength,
            mutant.words,
            mutant.seed,
            outcome,
            recipe,
            **facts,
        )

    def missing(self, checks: Iterable[Check]) -> list[str]:
        """Return the ids of the candidate's rows in the checks file that have not been measured.

        A row without a value was not, as without panel predictions. Rows that
        need an incumbent are the exception: mutants have none.
        """
        return [
            check.id
            for check in checks
            if check.role == "candidate"
            and check.family not in AGAINST_INCUMBENT
            and self.rows.get(check.id) is None
        ]

    def complete(self, checks: Iterable[Check], *, baseline_sha256: str) -> bool:
        """Return whether there is nothing left to measure.

        No row is missing, or there is no checkpoint to judge.
        """
        if self.outcome != MEASURED:
            return True
        return self.baseline_sha256 == baseline_sha256 and not self.missing(checks)

    def with_rows_of(self, newer: Result) -> Result:
        """Return this result with the rows of a newer one of the same checkpoint.

        Notes them if versions differ.
        """
        later = [
            {**part, "rows": sorted(set(part["rows"]) - set(newer.rows))} for part in self.later
        ]
        if newer.versions != self.versions:
            same = [part for part in later if part["versions"] == newer.versions]
            rows = sorted({*newer.rows, *(name for part in same for name in part["rows"])})
            later = [
                *(part for part in later if part not in same),
                {"rows": rows, "versions": dict(newer.versions)},
            ]
        return replace(
            self, rows={**self.rows, **newer.rows}, later=[part for part in later if part["rows"]]
        )


def read_result(identifier: str, folder: Path = RESULTS) -> Result | None:
    """Return the kept result of a mutant, None without one.

    Raises:
        InputError: For a file that is none.
    """
    path = folder / f"{identifier}.json"
    kept = read(path)
    try:
        return None if kept is None else Result(**kept)
    except TypeError as error:
        raise InputError(
            f"{path}: not a result of this version ({error}); delete it and measure again"
        ) from None


def write_result(result: Result, folder: Path) -> None:
    """Write a result, one line per key."""
    render = partial(json.dumps, ensure_ascii=False)
    write(folder / f"{result.id}.json", by_line(asdict(result), render) + "\n")


def measured_results() -> list[Result]:
    """Return the kept results of all measured checkpoints, in the order of their making."""
    found = (read_result(mutant.id) for mutant in MUTANTS)
    return [result for result in found if result is not None and result.outcome == MEASURED]
