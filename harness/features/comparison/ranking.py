"""Ranking of finished runs of the gate by their `stress.json`, with the checks that each candidate wins."""

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
    from collections.abc import Mapping, Sequence

_LED = 1.0
"""Lead over the next candidate that wins a check, in standard deviations of the reference models."""
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
        """Return a value in the spread of this check, see `harness.run.outcome.spread`; more is better."""
        threshold = self.threshold if self.threshold is not None else self.reference_mean or 0.0
        return (
            (-1 if self.direction == "at_most" else 1)
            * value
            / spread(threshold, self.reference_std)
        )


@record
class _Record:
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
    """A finished run, from its record at `source`: the candidate's `path` and hash, and its checks.

    `compared` is the number of checks with a threshold, which the reports of the run count, too. `failed_tests` names
    the failing tests without a check. Only runs with the same `alike` can be ranked together.
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
        """Return the smallest margin of each family, see `harness.run.outcome.margin`; the smallest first."""
        found: dict[str, float] = {}
        for row in self.rows:
            if (
                row.status in {"pass", "fail"}
                and row.value is not None
                and row.threshold is not None
            ):
                away = row.score(row.value) - row.score(row.threshold)
                away = max(away, 0.0) if row.status == "pass" else max(min(away, 0.0), -FARTHEST)
                found[row.family] = min(away, found.get(row.family, FARTHEST))
        return dict(sorted(found.items(), key=lambda each: each[1]))


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
    """Runs by the name of their candidates, the best first, with the checks and behaviors that each wins.

    `pairs` compares each candidate with each other one, by their names.
    `wins` are checks in which a candidate leads all others, with its lead, the greatest first. `best` are the families
    in which its smallest margin does so.
    """

    runs: Mapping[str, Run]
    pairs: Mapping[str, Mapping[str, Pair]]
    wins: Mapping[str, Mapping[str, float]]
    best: Mapping[str, Sequence[str]]

    @property
    def lines(self) -> list[str]:
        """Return the ranking as lines for the terminal, with the checks that each candidate wins."""
        lines = aligned([_TITLES, *(tuple(row.values()) for row in self._rows)], text=_TEXT)
        unit = "standard deviations of the reference models ahead of the next"
        for name, one in self.runs.items():
            if one.failed_tests:
                lines.append(f"{name} fails tests without a check: {some_of(one.failed_tests)}")
            if won := [f"{check} by {lead:.1f}" for check, lead in self.wins[name].items()]:
                lines.append(f"{name} wins {some_of(won, shown=_NAMED)} ({unit})")
        return lines

    def as_json(self) -> dict[str, Any]:
        """Return the ranking in plain types."""
        told = [
            {
                **row,
                "path": one.path,
                "record": one.source,
                "failing": one.failing,
                "failed_tests": one.failed_tests,
                "margins": one.margins,
                "won": self.wins[name],
                "pairs": {other: asdict(pair) for other, pair in self.pairs[name].items()},
            }
            for row, (name, one) in zip(self._rows, self.runs.items(), strict=True)
        ]
        return {"ranking": told}

    @property
    def _rows(self) -> list[dict[str, str]]:
        rows = []
        for at, (name, one) in enumerate(self.runs.items(), start=1):
            margin = next((f"{family} {away:+.1f}" for family, away in one.margins.items()), "–")
            won, best = f"{len(self.wins[name])} checks", ", ".join(self.best[name]) or "–"
            beats = f"{_beaten(self.pairs[name])} of {len(self.pairs[name])}"
            failing = f"{len(one.failing)} of {one.compared}"
            cells = str(at), name, one.verdict, beats, failing, margin, won, best
            rows.append(dict(zip(_TITLES, cells, strict=True)))
        return rows


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """Read finished runs from their `stress.json`; raises `InputError` for those that cannot be ranked together."""
    runs: list[Run] = []
    for path in paths:
        try:
            plain = json.loads(read_regular(path, max_bytes=MAX_BYTES))
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(
                f"{path}: cannot be read as the stress.json of a run ({said_of(error)})"
            ) from None
        one = run_of(plain, str(path))
        if other := next((other for other in runs if one.sha256 == other.sha256), None):
            raise InputError(
                f"{path}: its candidate is the network of {other.source}; leave one of them out"
            )
        if unlike := [
            name for name, value in one.alike.items() if runs and value != runs[0].alike[name]
        ]:
            raise InputError(
                f"{path}: its run has another {' and '.join(unlike)} than {runs[0].source}; leave it out"
            )
        runs.append(one)
    return runs


def run_of(plain: Any, source: str) -> Run:
    """Return the run of a record, the content of `stress.json`; raises `InputError` if it has no verdict."""
    plain = plain if isinstance(plain, dict) else {}
    if plain.get("schema") != SCHEMA:
        raise InputError(refusal_of_schema(source, plain.get("schema"), expected=SCHEMA))
    found: _Record = _picked(_Record, plain, source)
    if found.verdict == "error" or found.candidate is None:
        why = some_of(found.errors, shown=1) or "no reason is given"
        raise InputError(f"{source}: the run is inconclusive and has no rank ({why}); leave it out")
    if found.stopped:
        raise InputError(f"{source}: the run {found.stopped}, so it has no rank; leave it out")
    alike = {"set of images": found.data.get("sha256"), "checks file": found.checks_sha256}
    alike |= {
        "number of images": found.data.get("n"),
        "protocol": found.protocol,
        "profile": found.profile,
    }
    own = [entry for entry in found.checks if entry.get("role") == "candidate"]
    rows = tuple(_picked(RankedCheck, entry, f"{source}: check {entry.get('id')}") for entry in own)
    path, sha256 = (str(found.candidate.get(name)) for name in ("path", "sha256"))
    # Also checks of another role, such as the baseline itself: the headline of the run counts them.
    compared = sum(entry.get("status") in _COMPARED for entry in found.checks)
    return Run(source, path, sha256, found.verdict, alike, rows, compared, found.failed_tests)


def _picked(kind: Any, plain: Mapping[str, Any], where: str) -> Any:
    return read_record(
        kind, {each.name: plain.get(each.name) for each in fields(kind)}, where=where
    )


def rank(runs: Sequence[Run]) -> Ranking:
    """Rank runs by verdict, then by the number of other candidates that each beats.

    One candidate beats another if it leads more of their common checks. A lead is at least one
    standard deviation of the reference models. Ties are broken by the checks led less those behind
    over all pairs, then by failures and the smallest margin.

    A candidate has the name of its file, or of its record where several share that. A check has a winner if every
    candidate has a value of as many images, and a threshold or reference models are known. So has a behavior that
    judges all of them.
    """
    stems = [one.path if "://" in one.path else Path(one.path).stem for one in runs]
    named = {
        stem if stems.count(stem) == 1 else one.source: one
        for stem, one in zip(stems, runs, strict=True)
    }

    pairs = _pairs(named)

    def badness(name: str) -> tuple[int, int, int, int, float, str]:
        run = named[name]
        verdict = _ORDER.index(run.verdict)
        beaten = _beaten(pairs[name])
        net_lead = sum(pair.ahead - pair.behind for pair in pairs[name].values())
        failures = len(run.failing) + len(run.failed_tests)
        smallest = next(iter(run.margins.values()), -math.inf)
        return verdict, -beaten, -net_lead, failures, -smallest, name

    wins: dict[str, dict[str, float]] = {name: {} for name in named}
    best: dict[str, list[str]] = {name: [] for name in named}
    rows = {
        name: {row.id: row for row in one.rows if row.value is not None}
        for name, one in named.items()
    }
    unequal: set[str] = set()
    for check in set.intersection(*(set(known) for known in rows.values())):
        row = next(iter(rows.values()))[check]
        if (
            len({known[check].n for known in rows.values()}) > 1
        ):  # Samples that fit a time, for example.
            unequal.add(row.family)
        elif row.reference_std is not None or row.threshold is not None:
            name, lead = _leader(
                {
                    name: known[check].score(known[check].value or 0.0)
                    for name, known in rows.items()
                }
            )
            if lead >= _LED:
                wins[name][check] = lead
    for family in runs[0].margins.keys() - unequal:
        margins = {
            name: one.margins[family] for name, one in named.items() if family in one.margins
        }
        name, lead = _leader(margins)
        if len(margins) == len(runs) and lead >= _LED:
            best[name].append(family)
    ordered = {
        name: dict(sorted(won.items(), key=lambda win: (-win[1], win[0])))
        for name, won in wins.items()
    }
    ranked = {name: named[name] for name in sorted(named, key=badness)}
    return Ranking(ranked, pairs, ordered, best)


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
