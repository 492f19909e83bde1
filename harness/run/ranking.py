"""Checkpoints ranked by the gate: a run of the stress tests for each, its verdict, and the rows that each wins."""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.base.codes import Code
from harness.base.errors import InputError, some_of
from harness.base.progress import Progress
from harness.networks import NetworkOptions
from harness.run.execute import execute
from harness.run.history import FARTHEST
from harness.run.outcome import spread
from harness.run.request import RunRequest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_LED = 1.0
"""Lead over the next candidate that wins a row, in standard deviations of reference models."""
_ORDER = ("pass", "partial", "fail", "error")
"""Verdicts, the best first."""


@dataclass(frozen=True)
class RankingRequest:
    """Checkpoints to rank by the gate of a checks file; `gate_options` go to each run of the stress tests."""

    checkpoints: tuple[Path | str, ...]
    checks_path: Path
    network: NetworkOptions = field(default_factory=NetworkOptions)
    gate_options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Judged:
    """Verdict on one candidate, by its `stress.json`; `rows` are its entries there, by id.

    `failed_tests` names the tests without a check that failed.
    """

    name: str
    path: str
    sha256: str
    verdict: str
    rows: Mapping[str, Mapping[str, Any]]
    error: str = ""
    failed_tests: tuple[str, ...] = ()

    @staticmethod
    def of(name: str, path: str, report: Mapping[str, Any]) -> Judged:
        """Return what a report, the content of `stress.json`, says of its candidate."""
        rows = {row["id"]: row for row in report["checks"] if row["role"] == "candidate"}
        error = next(iter(report["errors"]), "") if report["verdict"] == "error" else ""
        sha256 = (report["candidate"] or {}).get("sha256", "")
        return Judged(name, path, sha256, report["verdict"], rows, error, tuple(report["failed_tests"]))

    @property
    def failing(self) -> list[str]:
        """Return the ids of the checks that fail."""
        return [name for name, row in self.rows.items() if row["status"] == "fail"]

    @property
    def remark(self) -> str:
        """Return the reason of an inconclusive run, or the failing tests without a check; empty without either."""
        if self.error:
            return f"{self.name} has no verdict: {self.error}"
        return f"{self.name} fails tests without a check: {some_of(self.failed_tests)}" if self.failed_tests else ""

    @property
    def judged(self) -> int:
        """Return how many checks were judged."""
        return sum(row["status"] in {"pass", "fail"} for row in self.rows.values())

    @property
    def margins(self) -> dict[str, float]:
        """Return the smallest margin of each family, see `harness.run.outcome.margin`."""
        found: dict[str, float] = {}
        for row in self.rows.values():
            if row["status"] in {"pass", "fail"} and row["value"] is not None:
                away = _score(row, row["value"]) - _score(row, row["threshold"])
                away = max(away, 0.0) if row["status"] == "pass" else min(away, 0.0)
                found[row["family"]] = min(away, found.get(row["family"], FARTHEST))
        return {name: max(value, -FARTHEST) for name, value in found.items()}

    @property
    def tightest(self) -> tuple[str, float]:
        """Return the family with the smallest margin of all, and that margin."""
        return min(self.margins.items(), key=lambda each: each[1], default=("", -math.inf))


@dataclass(frozen=True)
class Win:
    """A row whose best candidate is ahead of the next by `lead` standard deviations of reference models."""

    row: str
    candidate: str
    lead: float


def ranked(candidates: Sequence[Judged]) -> list[Judged]:
    """Return the candidates, the best first: by verdict, number of failures, smallest margin."""

    def badness(one: Judged) -> tuple[int, int, float, str]:
        return _ORDER.index(one.verdict), len(one.failing) + len(one.failed_tests), -one.tightest[1], one.name

    return sorted(candidates, key=badness)


def wins(candidates: Sequence[Judged]) -> list[Win]:
    """Return the rows that one candidate wins, clearly ahead of all others, the greatest lead first.

    A row counts if every judged candidate has a value and a threshold or reference models are known. Their spread is
    the unit of a lead, see `harness.run.outcome.spread`.
    """
    judged = [one for one in candidates if one.verdict != "error"]
    found = []
    for name in judged[0].rows if len(judged) > 1 else ():
        rows = [one.rows.get(name) for one in judged]
        known = [row for row in rows if row and row["value"] is not None]
        if len(known) < len(judged) or (known[0]["reference_std"] is None and known[0]["threshold"] is None):
            continue
        scores = sorted(((_score(row, row["value"]), at) for at, row in enumerate(known)), reverse=True)
        lead = min(scores[0][0] - scores[1][0], FARTHEST)
        if lead >= _LED:
            found.append(Win(name, judged[scores[0][1]].name, lead))
    return sorted(found, key=lambda win: (-win.lead, win.row))


def _score(row: Mapping[str, Any], value: float) -> float:
    """Return a value in the spread of its row, more being better."""
    threshold = row["threshold"] if row["threshold"] is not None else row["reference_mean"] or 0.0
    return (-1 if row["direction"] == "at_most" else 1) * value / spread(threshold, row["reference_std"])


def best_behaviors(candidates: Sequence[Judged]) -> dict[str, list[str]]:
    """Return by candidate the families in which it is the farthest on the good side, and ahead of the next."""
    judged = [one for one in candidates if one.verdict != "error"]
    best: dict[str, list[str]] = {}
    for name in families_of(candidates):
        scores = sorted(((one.margins.get(name, -math.inf), one.name) for one in judged), reverse=True)
        if len(scores) > 1 and scores[0][0] - scores[1][0] >= _LED:
            best.setdefault(scores[0][1], []).append(name)
    return best


def families_of(candidates: Sequence[Judged]) -> list[str]:
    """Return the families that any candidate was judged in, in the order of their checks."""
    return list(dict.fromkeys(name for one in candidates for name in one.margins))


def rank(request: RankingRequest) -> list[Judged]:
    """Run the gate on each checkpoint and return their results, the best first.

    Raises `InputError` for a file that is refused, a network that is given twice, and where none could be judged.
    """
    names = _names(request.checkpoints)
    _expect_different(request.checkpoints, request.network)
    paths = dict(zip(names, request.checkpoints, strict=True))
    candidates = ranked(_judged(paths, request.checks_path, request.gate_options))
    if all(one.verdict == "error" for one in candidates):
        raise InputError(
            f"none of {len(names)} checkpoints could be judged; {candidates[0].path}: {candidates[0].error}"
        )
    return candidates


def _names(paths: Sequence[Path | str]) -> list[str]:
    """Return the name of each checkpoint: its file's stem, or its path where several share the stem."""
    named = [path if isinstance(path, str) else path.stem for path in paths]
    stems = Counter(named)
    return [stem if stems[stem] == 1 else str(path) for stem, path in zip(named, paths, strict=True)]


def _expect_different(paths: Sequence[Path | str], network: NetworkOptions) -> None:
    """Raise `InputError` for a checkpoint that is refused, and for a network that is given twice."""
    from harness.inference.role import close, load

    first: dict[str, Path | str] = {}
    for path in paths:
        checkpoint = load(path, network)
        close(checkpoint.model)
        if (twin := first.setdefault(checkpoint.model_sha256, path)) is not path:
            raise InputError(f"{twin} and {path} hold the same network; there is nothing to compare")


def _judged(checkpoints: Mapping[str, Path | str], checks: Path, passed: Sequence[str]) -> list[Judged]:
    """Run the gate on each checkpoint, one after the other: each run takes all cores."""
    found = []
    for name, path in Progress(checkpoints.items(), unit="checkpoint", desc="gating", delay=2):
        with tempfile.TemporaryDirectory() as folder:
            request = RunRequest(
                roles={"candidate": path},
                checks=checks,
                no_overview=True,
                reports=folder,
                history="none",
                tests=(str(checks.parent),),
                options=("-q", "-p", "no:cacheprovider", "-p", "no:html", *passed),
            )
            result = execute(request)
        if result.report is None or not result.concluded:
            said = f"{path}: the stress tests ended with exit status {result.status}:"
            raise InputError(said, below=result.printed, code=Code.CRASH)
        found.append(Judged.of(name, str(path), result.report))
    return found
