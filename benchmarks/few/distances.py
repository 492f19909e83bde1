"""Differences of two networks, row by row, as stored in the repository: all that thresholds from few of them need."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.base.files import write_atomically
from harness.measures import Unit
from harness.measures.metric import unpacked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Any

DIGITS = 3


@dataclass(frozen=True, eq=False)
class Distances:
    """Networks measured for this benchmark: their names and, by row, values, rest and half their squared distances.

    `values` and `rest` are (networks,) by row. `chance` is (networks, networks) by row: the variance by chance alone,
    as two networks tell it. Of some networks it is the mean over their pairs. `answers` are the rows to which an image
    contributes a yes or no.
    """

    networks: tuple[str, ...]
    answers: tuple[str, ...]
    values: Mapping[str, np.ndarray]
    chance: Mapping[str, np.ndarray]
    rest: Mapping[str, np.ndarray]

    def write(self, path: Path) -> None:
        """Write them as JSON, a line for each row."""
        above = np.triu_indices(len(self.networks), 1)
        lines = [f' "{name}": {json.dumps(getattr(self, name))}' for name in ("networks", "answers")]
        for name in ("values", "rest"):
            rows = [f"  {json.dumps(row)}: {json.dumps(each.tolist())}" for row, each in getattr(self, name).items()]
            lines.append(f' "{name}": {{\n' + ",\n".join(rows) + "\n }")
        rows = [
            f"  {json.dumps(row)}: [{', '.join(f'{x:.{DIGITS}g}' for x in each[above])}]"
            for row, each in self.chance.items()
        ]
        lines.append(' "chance": {\n' + ",\n".join(rows) + "\n }")
        write_atomically(path, ("{\n" + ",\n".join(lines) + "\n}\n").encode())


def read_distances(path: Path) -> Distances:
    """Read what `Distances.write` wrote."""
    content = json.loads(path.read_bytes())
    count = len(content["networks"])
    above = np.triu_indices(count, 1)
    chance = {}
    for row, values in content["chance"].items():
        chance[row] = np.zeros((count, count))
        chance[row][above] = values
        chance[row] += chance[row].T
    named = {name: {row: np.array(each) for row, each in content[name].items()} for name in ("values", "rest")}
    return Distances(tuple(content["networks"]), tuple(content["answers"]), named["values"], chance, named["rest"])


def distances_of(names: Sequence[str], measured: Sequence[Sequence[Mapping[str, Any]]]) -> Distances:
    """Return what networks differ by, by their entries in the reports of runs in record mode."""
    entries = [{entry["id"]: entry for entry in of_one} for of_one in measured]
    rows = [row for row in entries[0] if all(row in of_one for of_one in entries)]
    values = {row: np.array([of_one[row]["value"] for of_one in entries]) for row in rows}
    told = [row for row in rows if all(of_one[row].get("each") for of_one in entries)]
    chance, rest, answers = {}, {}, []
    for row in told:
        each = np.stack([unpacked(of_one[row]["each"]) for of_one in entries])
        answers += [row] * (each.dtype == np.bool_)
        chance[row] = half_distances(each.astype(np.float64), images=entries[0][row]["unit"] == Unit.IMAGES.value)
        if all(of_one[row]["rest"] is not None for of_one in entries):
            rest[row] = np.array([of_one[row]["rest"] for of_one in entries])
    return Distances(tuple(names), tuple(answers), values, chance, rest)


def half_distances(each: np.ndarray, *, images: bool) -> np.ndarray:
    """Return the variance of a row by chance as each two networks tell it, (K, K), by contributions (K, images)."""
    products = each @ each.T
    squares = np.diag(products)
    halves = (squares[:, None] + squares - 2 * products) / 2
    return np.asarray(halves if images else halves / each.shape[1] ** 2)
