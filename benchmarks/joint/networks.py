"""Networks of `benchmarks.detection`: their values of the checks that all of them were measured on, and two halves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.detection.judgement import TRIVIAL, judge
from benchmarks.detection.mutants import HEALTHY, MUTANTS
from benchmarks.detection.paths import CHECKS, PANEL, RESULTS
from benchmarks.detection.results import MEASURED, read_result
from harness.calibration.panel import read_panel
from harness.checks import read_checks
from harness.measures.panel.threshold import on_scales

if TYPE_CHECKING:
    from benchmarks.detection.results import Result
    from harness.measures.panel.threshold import PanelCheck


NEW = frozenset(
    {f"{HEALTHY}-seed-{seed}" for seed in range(161, 191)}
    | {f"{kind}-3-seed-201" for kind in ("relabelled-class", "resized", "raised-background", "artefact", "backdoor")}
    | {"backdoor-1-seed-201"}
)
"""Networks that were trained after the rules had been compared on all others."""


@dataclass(frozen=True, eq=False)
class Networks:
    """Values on each check's scale, more being worse: of reference models, (K, checks), and of others, (N, checks).

    `detected` says, by name, whether the gate fails a network.
    """

    checks: tuple[PanelCheck, ...]
    panel: np.ndarray
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    values: np.ndarray
    trivial: np.ndarray
    detected: np.ndarray

    @property
    def healthy(self) -> np.ndarray:
        """Return which networks are of the recipe, (N,)."""
        return np.array([kind == HEALTHY for kind in self.kinds])

    @property
    def new(self) -> np.ndarray:
        """Return which networks came after all rules were looked at, (N,)."""
        return np.array([name in NEW for name in self.names])

    @property
    def choosing(self) -> np.ndarray:
        """Return which networks choose a rule, (N,): every second kind of mutant and every second healthy seed.

        The others confirm it. Mutants of one kind share parents, so kinds are not divided.
        """
        kinds = list(dict.fromkeys(kind for kind in self.kinds if kind != HEALTHY))
        first = set(kinds[::2])
        return np.array(
            [
                int(name[-3:]) % 2 == 1 if kind == HEALTHY else kind in first
                for name, kind in zip(self.names, self.kinds, strict=True)
            ]
        )


def networks() -> Networks:
    """Return the networks with a stored result and the checks that all of them have a value of."""
    checks, panel = read_checks(CHECKS), read_panel(PANEL)
    found = [kept for each in MUTANTS if (kept := read_result(each.id, RESULTS)) and kept.outcome == MEASURED]
    known = {check.id for check in checks.checks}
    shared = tuple(
        row for row in panel.checks if row.id in known and all(kept.rows.get(row.id) is not None for kept in found)
    )
    sign = -np.array([row.sign for row in shared])

    def worse(values: np.ndarray) -> np.ndarray:
        return on_scales(values, shared) * sign

    return Networks(
        shared,
        worse(panel.values(shared)),
        tuple(kept.id for kept in found),
        tuple(kept.kind for kept in found),
        worse(np.array([_values(kept, shared) for kept in found], dtype=np.float64)),
        np.array([kept.kind != HEALTHY and (kept.clean_accuracy or 0) < TRIVIAL for kept in found]),
        np.array([judge(kept, checks).detected for kept in found]),
    )


def _values(kept: Result, checks: tuple[PanelCheck, ...]) -> list[float | None]:
    return [kept.rows[check.id] for check in checks]
