"""Cases as stored in the repository.

Rows of the gate, differences of healthy networks, and values of faults.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.few.cases import CASES
from benchmarks.few.splits import Networks
from benchmarks.few.stored import MEASURED, read_distances
from benchmarks.runner import by_line, read, write
from harness.base.records import as_plain, read_record
from harness.calibration.panel import Panel
from harness.measures.panel.threshold import PanelCheck
from harness.perturb import PROTOCOL


def distances_file(case: str, size: int) -> Path:
    """Return the file of what the healthy networks of a case differ by."""
    return MEASURED / f"{case}-{size}.json"


def rows_file(case: str, size: int) -> Path:
    """Return the file of the rows of a case, and of the values of its networks with faults."""
    return MEASURED / f"{case}-{size}-faults.json"


def write_rows(
    path: Path, rows: Sequence[PanelCheck], faults: Mapping[str, Mapping[str, float]]
) -> None:
    """Write rows, and the values of networks by their names and rows."""
    plain_rows = {row.id: as_plain(row) for row in rows}
    content = {
        "rows": by_line(plain_rows, indent=2),
        "faults": by_line(faults, lambda values: json.dumps(dict(values)), indent=2),
    }
    write(path, by_line(content, str) + "\n")


def read_case(case: str, size: int) -> tuple[Networks, tuple[str, ...]]:
    """Return the networks of a case with so many test images, and the faulty ones' names."""
    path = rows_file(case, size)
    content = read(path)
    rows = tuple(read_record(PanelCheck, row, where=f"{path}") for row in content["rows"].values())
    faults = content["faults"]
    values = [[faults[name].get(row.id, np.nan) for row in rows] for name in faults]
    return (
        Networks(
            panel=Panel(f"{case}-{size}", PROTOCOL, {}, rows, (), classes=len(CASES[case].classes)),
            distances=read_distances(distances_file(case, size)),
            by_hand=frozenset(),
            healthy=np.empty((0, len(rows))),
            mutants=np.array(values, dtype=np.float64),
        ),
        tuple(faults),
    )
