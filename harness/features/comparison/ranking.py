"""Ranking of finished runs of the gate by their `stress.json`."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.base.errors import InputError, said_of, some_of
from harness.base.files import read_regular
from harness.base.records import Unbounded, read_record, record, refusal_of_schema
from harness.report.page import aligned
from harness.run.history import FARTHEST
from harness.run.margins import spread
from harness.run.status import MAX_BYTES, SCHEMA

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence, Set

_LED = 1.0
"""Lead over the next candidate that wins a check, in standard deviations of reference models."""
_ORDER = ("pass", "partial", "fail", "error")
"""Verdicts, the best first."""
_COMPARED = frozenset({"pass", "fail", "inconclusive"})
"""Statuses of a check whose measurement was compared with a threshold."""
_NAMED = 5
"""Checks won by a candidate that the terminal names."""
_TITLES = (
    "rank",
    "candidate",
    "verdict",
    "beats",
    "failing",
    "smallest margin",
    "wins",
    "best behaviors",
)
_TEXT = (0, 1, 2, 3, 5, 6, 7)


@record
class RankedCheck:
    """One check of the candidate, as its entry in `stress.json` has it."""

    id: str
    family: str
    status: str
    direction: Literal["at_least", "at_most"]
    n: int | None
    value: Unbounded | None
    threshold: Unbounded | None
    reference_mean: Unbounded | None
    reference_std: Unbounded | None

    def score(self, value: float) -> float:
        """Return a value in units of this check's spread; more is better.

        See `harness.run.margins.spread`.
        """
        threshold = self.threshold
        if threshold is None:
            threshold = self.reference_mean or 0.0

        sign = -1 if self.direction == "at_most" else 1
        return sign * value / spread(threshold, self.reference_std)


@record
class _Record:
    """The entries of `stress.json` that a ranking needs."""

    protocol: int
    profile: str
    verdict: Literal["pass", "partial", "fail", "error"]
    candidate: dict[str, Any] | None
    data: dict[str, Any]
    checks_sha256: str
    checks: tuple[dict[str, Any], ...]
    errors: tuple[str, ...]
    failed_tests: tuple[str, ...]
    stopped: str = ""


@dataclass(frozen=True)
class Run:
    """A finished run of the gate.

    Attributes:
        source: The path of its record.
        path: The path of the candidate.
        sha256: The hash of the candidate.
        verdict: The verdict of the run.
        alike: What only runs that are ranked together share: data, checks file, profile, protocol.
        rows: The checks of the candidate.
        compared: Number of checks with a threshold, of any role, as the reports of the run say it.
        failed_tests: The failing tests without a check.
    """

    source: str
    path: str
    sha256: str
    verdict: str
    alike: Mapping[str, object]
    rows: tuple[RankedCheck, ...]
    compared: int
    failed_tests: tuple[str, ...] = ()

    @property
    def failing(self) -> list[str]:
        return [row.id for row in self.rows if row.status == "fail"]

    @property
    def margins(self) -> dict[str, float]:
        """Return the smallest margin of each family, the smallest first.

        See `harness.run.margins.margin`.
        """
        margins: dict[str, float] = {}
        for row in self.rows:
            is_judged = row.status in {"pass", "fail"}
            if not is_judged or row.value is None or row.threshold is None:
                continue

            margin = row.score(row.value) - row.score(row.threshold)
            if row.status == "pass":
                margin = max(margin, 0.0)
            else:
                margin = max(min(margin, 0.0), -FARTHEST)
            margins[row.family] = min(margin, margins.get(row.family, FARTHEST))
        return dict(sorted(margins.items(), key=lambda item: item[1]))


@dataclass(frozen=True)
class Pair:
    """Two candidates on their common checks: how many the first leads, and how many the second."""

    ahead: int
    behind: int

    @property
    def won(self) -> bool:
        """Return whether the first candidate leads more checks than the second."""
        return self.ahead > self.behind


@dataclass(frozen=True)
class Ranking:
    """Candidates in their order, with the checks and families that each wins.

    Attributes:
        runs: Runs by the name of their candidates, the best first.
        pairs: Comparison of each candidate with each other one, by their names.
        wins: Checks in which a candidate leads all others, with its lead; the greatest lead first.
        best: Families in which the smallest margin of a candidate leads all others.
    """

    runs: Mapping[str, Run]
    pairs: Mapping[str, Mapping[str, Pair]]
    wins: Mapping[str, Mapping[str, float]]
    best: Mapping[str, Sequence[str]]

    @property
    def lines(self) -> list[str]:
        """Return the ranking as lines for the terminal, with the checks that each wins."""
        table = [_TITLES, *(tuple(row.values()) for row in self._rows)]
        lines = aligned(table, text=_TEXT)

        unit = "standard deviations of the reference models ahead of the next"
        for name, run in self.runs.items():
            if run.failed_tests:
                lines.append(f"{name} fails tests without a check: {some_of(run.failed_tests)}")
            won = [f"{check} by {lead:.1f}" for check, lead in self.wins[name].items()]
            if won:
                lines.append(f"{name} wins {some_of(won, shown=_NAMED)} ({unit})")
        return lines

    def as_json(self) -> dict[str, Any]:
        """Return the ranking in plain types."""
        candidates = []
        for row, (name, run) in zip(self._rows, self.runs.items(), strict=True):
            facts = {
                "path": run.path,
                "record": run.source,
                "failing": run.failing,
                "failed_tests": run.failed_tests,
                "margins": run.margins,
                "won": self.wins[name],
                "pairs": {other: asdict(pair) for other, pair in self.pairs[name].items()},
            }
            candidates.append({**row, **facts})
        return {"ranking": candidates}

    @property
    def _rows(self) -> list[dict[str, str]]:
        """Return the cells of each candidate's row by their titles."""
        rows = []
        for place, (name, run) in enumerate(self.runs.items(), start=1):
            margins = [f"{family} {margin:+.1f}" for family, margin in run.margins.items()]
            smallest_margin = margins[0] if margins else "–"
            cells = (
                str(place),
                name,
                run.verdict,
                f"{_beaten(self.pairs[name])} of {len(self.pairs[name])}",
                f"{len(run.failing)} of {run.compared}",
                smallest_margin,
                f"{len(self.wins[name])} checks",
                ", ".join(self.best[name]) or "–",
            )
            rows.append(dict(zip(_TITLES, cells, strict=True)))
        return rows


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """Read finished runs from their `stress.json`.

    Raises:
        InputError: If a file is no record of a run with a verdict, two have the same candidate, or
            they judge by other images or checks.
    """
    runs: list[Run] = []
    for path in paths:
        try:
            plain = json.loads(read_regular(path, max_bytes=MAX_BYTES))
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(
                f"{path}: cannot be read as the stress.json of a run ({said_of(error)})"
            ) from None

        run = run_of(plain, str(path))
        for other in runs:
            if run.sha256 == other.sha256:
                raise InputError(
                    f"{path}: its candidate is the network of {other.source}; leave one of them out"
                )
        if runs:
            _expect_alike(run, runs[0])
        runs.append(run)
    return runs


def _expect_alike(run: Run, first: Run) -> None:
    """Raise `InputError` for a run that judges by other images or checks than the first."""
    unlike = [name for name, value in run.alike.items() if value != first.alike[name]]
    if unlike:
        raise InputError(
            f"{run.source}: its run has another {' and '.join(unlike)} than {first.source}; "
            "leave it out"
        )


def run_of(plain: Any, source: str) -> Run:
    """Return the run of a record, the content of `stress.json`.

    Raises:
        InputError: If it is no record of this version, or has no verdict.
    """
    plain = plain if isinstance(plain, dict) else {}
    if plain.get("schema") != SCHEMA:
        raise InputError(refusal_of_schema(source, plain.get("schema"), expected=SCHEMA))

    run: _Record = _entries_of(_Record, plain, source)
    if run.verdict == "error" or run.candidate is None:
        why = some_of(run.errors, shown=1) or "no reason is given"
        raise InputError(f"{source}: the run is inconclusive and has no rank ({why}); leave it out")
    if run.stopped:
        raise InputError(f"{source}: the run {run.stopped}, so it has no rank; leave it out")

    alike = {
        "set of images": run.data.get("sha256"),
        "checks file": run.checks_sha256,
        "number of images": run.data.get("n"),
        "protocol": run.protocol,
        "profile": run.profile,
    }
    rows = tuple(
        _entries_of(RankedCheck, entry, f"{source}: check {entry.get('id')}")
        for entry in run.checks
        if entry.get("role") == "candidate"
    )
    # Also checks of another role, such as the baseline: the headline of the run counts them.
    compared = sum(entry.get("status") in _COMPARED for entry in run.checks)
    return Run(
        source=source,
        path=str(run.candidate.get("path")),
        sha256=str(run.candidate.get("sha256")),
        verdict=run.verdict,
        alike=alike,
        rows=rows,
        compared=compared,
        failed_tests=run.failed_tests,
    )


def _entries_of(kind: Any, plain: Mapping[str, Any], where: str) -> Any:
    """Return a record of a kind from those entries of a table that it has fields for."""
    entries = {field.name: plain.get(field.name) for field in fields(kind)}
    return read_record(kind, entries, where=where)


def rank(runs: Sequence[Run]) -> Ranking:
    """Rank runs by verdict, then by the number of other candidates that each beats.

    One candidate beats another if it leads more of their common checks. A lead is at least one
    standard deviation of the reference models. Ties are broken by the checks led less those behind
    over all pairs, then by failures and the smallest margin.

    A candidate has the name of its file, or of its record where several share that. A check has a
    winner if every candidate has a value of as many images, and a threshold or reference models are
    known. So has a family that judges all of them.
    """
    stems = [run.path if "://" in run.path else Path(run.path).stem for run in runs]
    candidates: dict[str, Run] = {}
    for stem, run in zip(stems, runs, strict=True):
        name = stem if stems.count(stem) == 1 else run.source
        candidates[name] = run

    pairs = _pairs(candidates)

    def badness(name: str) -> tuple[int, int, int, int, float, str]:
        run = candidates[name]
        verdict = _ORDER.index(run.verdict)
        beaten = _beaten(pairs[name])
        net_lead = sum(pair.ahead - pair.behind for pair in pairs[name].values())
        failures = len(run.failing) + len(run.failed_tests)
        smallest = next(iter(run.margins.values()), -math.inf)
        return verdict, -beaten, -net_lead, failures, -smallest, name

    wins, unequal_families = _wins(candidates)
    return Ranking(
        runs={name: candidates[name] for name in sorted(candidates, key=badness)},
        pairs=pairs,
        wins=wins,
        best=_best_families(candidates, runs[0].margins.keys() - unequal_families),
    )


def _wins(candidates: Mapping[str, Run]) -> tuple[dict[str, dict[str, float]], set[str]]:
    """Return the checks that each candidate wins, and the families with unlike numbers of images.

    Numbers of images differ where samples are chosen to fit a time, for example.
    """
    rows = {
        name: {row.id: row for row in run.rows if row.value is not None}
        for name, run in candidates.items()
    }
    common_checks = set.intersection(*(set(by_id) for by_id in rows.values()))

    wins: dict[str, dict[str, float]] = {name: {} for name in candidates}
    unequal_families: set[str] = set()
    for check in common_checks:
        of_check = {name: by_id[check] for name, by_id in rows.items()}
        first = next(iter(of_check.values()))
        if len({row.n for row in of_check.values()}) > 1:
            unequal_families.add(first.family)
            continue
        if first.reference_std is None and first.threshold is None:
            continue

        scores = {name: row.score(row.value or 0.0) for name, row in of_check.items()}
        name, lead = _leader(scores)
        if lead >= _LED:
            wins[name][check] = lead

    in_order = {
        name: dict(sorted(won.items(), key=lambda item: (-item[1], item[0])))
        for name, won in wins.items()
    }
    return in_order, unequal_families


def _best_families(candidates: Mapping[str, Run], families: Set[str]) -> dict[str, list[str]]:
    """Return the families in which the smallest margin of each candidate leads all others."""
    best: dict[str, list[str]] = {name: [] for name in candidates}
    for family in families:
        margins = {
            name: run.margins[family] for name, run in candidates.items() if family in run.margins
        }
        name, lead = _leader(margins)
        if len(margins) == len(candidates) and lead >= _LED:
            best[name].append(family)
    return best


def _pairs(runs: Mapping[str, Run]) -> dict[str, dict[str, Pair]]:
    """Return the comparison of each candidate with each other one."""
    rows = {name: {row.id: row for row in run.rows} for name, run in runs.items()}
    pairs: dict[str, dict[str, Pair]] = {name: {} for name in runs}
    for name, other in permutations(runs, 2):
        pairs[name][other] = _pair(rows[name], rows[other])
    return pairs


def _pair(first: Mapping[str, RankedCheck], second: Mapping[str, RankedCheck]) -> Pair:
    """Return how many checks each of two candidates leads, of those on as many images.

    Smaller differences are chance: reference models of one recipe differ by as much.
    """
    leads = []
    for check in first.keys() & second.keys():
        own, other = first[check], second[check]
        comparable = own.reference_std is not None or own.threshold is not None
        if comparable and own.n == other.n and own.value is not None and other.value is not None:
            leads.append(own.score(own.value) - own.score(other.value))
    ahead = sum(lead >= _LED for lead in leads)
    behind = sum(lead <= -_LED for lead in leads)
    return Pair(ahead, behind)


def _beaten(pairs: Mapping[str, Pair]) -> int:
    return sum(pair.won for pair in pairs.values())


def _leader(scores: Mapping[str, float]) -> tuple[str, float]:
    """Return the candidate with the highest score, and by how much it leads the next."""
    (first, name), *others = sorted(((score, name) for name, score in scores.items()), reverse=True)
    return name, min(first - others[0][0], FARTHEST) if others else 0.0
