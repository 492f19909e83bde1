"""Networks as stored in the repository.

Differences of each two, row by row, and errors in the views of consensus.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.runner import ROOT, by_line, read, write
from harness.base.errors import InputError
from harness.measures import Unit
from harness.measures.metric import unpacked
from harness.measures.panel.collection import ReferencePredictions

MEASURED = Path(__file__).parent / "measured"
FASHION, DIGITS, PAIRS, ANSWERS = (
    MEASURED / f"{name}.json" for name in ("fashion", "digits", "pairs", "answers")
)
FASHION_CHECKS, FASHION_PANEL = ROOT / "stress_tests/checks.toml", ROOT / "models/panel.json"
EXAMPLE = ROOT / "examples/digits_on_photos"
DIGITS_CHECKS, DIGITS_PANEL = EXAMPLE / "stress_tests/checks.toml", EXAMPLE / "panel.json"


# Measurements for thresholds from few networks.


@dataclass(frozen=True, eq=False)
class Distances:
    """Networks measured for this benchmark.

    Their names and, by row, values, rest and half their squared distances.

    `values` and `rest` are (networks,) by row. `chance` is (networks, networks) by row: the
    variance by chance alone, as two networks tell it. Of some networks it is the mean over their
    pairs. `answers` are the rows to which an image contributes a yes or no.
    """

    networks: tuple[str, ...]
    answers: tuple[str, ...]
    values: Mapping[str, np.ndarray]
    chance: Mapping[str, np.ndarray]
    rest: Mapping[str, np.ndarray]

    def write(self, path: Path) -> None:
        """Write them as JSON, a line for each row."""
        above = np.triu_indices(len(self.networks), 1)
        content = {name: json.dumps(getattr(self, name)) for name in ("networks", "answers")}
        for name in ("values", "rest"):
            content[name] = by_line(
                getattr(self, name), lambda each: json.dumps(each.tolist()), indent=2
            )
        content["chance"] = by_line(
            self.chance, lambda each: f"[{', '.join(f'{x:.3g}' for x in each[above])}]", indent=2
        )
        write(path, by_line(content, str) + "\n")


def read_distances(path: Path) -> Distances:
    """Read what `Distances.write` wrote."""
    content = read(path)
    count = len(content["networks"])
    above = np.triu_indices(count, 1)
    chance = {}
    for row, values in content["chance"].items():
        chance[row] = np.zeros((count, count))
        chance[row][above] = values
        chance[row] += chance[row].T
    values, rest = (
        {row: np.array(each) for row, each in content[name].items()} for name in ("values", "rest")
    )
    return Distances(tuple(content["networks"]), tuple(content["answers"]), values, chance, rest)


def distances_of(
    names: Sequence[str], measured: Sequence[Sequence[Mapping[str, Any]]]
) -> Distances:
    """Return what networks differ by, by their entries in the reports of runs in record mode."""
    entries = [{entry["id"]: entry for entry in of_one} for of_one in measured]
    rows = [row for row in entries[0] if all(row in of_one for of_one in entries)]
    values = {row: np.array([of_one[row]["value"] for of_one in entries]) for row in rows}
    chance, rest, answers = {}, {}, []
    for row in (row for row in rows if all(of_one[row].get("each") for of_one in entries)):
        each = np.stack([unpacked(of_one[row]["each"]) for of_one in entries])
        answers += [row] * (each.dtype == np.bool_)
        chance[row] = half_distances(
            each.astype(np.float64), images=entries[0][row]["unit"] == Unit.IMAGES.value
        )
        if all(of_one[row]["rest"] is not None for of_one in entries):
            rest[row] = np.array([of_one[row]["rest"] for of_one in entries])
    return Distances(tuple(names), tuple(answers), values, chance, rest)


def half_distances(each: np.ndarray, *, images: bool) -> np.ndarray:
    """Return the variance of a row by chance by each two networks, (K, K).

    The contributions are (K, images).
    """
    products = each @ each.T
    squares = np.diag(products)
    halves = (squares[:, None] + squares - 2 * products) / 2
    return np.asarray(halves if images else halves / each.shape[1] ** 2)


# Errors for consensus.


@dataclass(frozen=True, eq=False)
class Answers:
    """Which answers of networks are wrong: by name, (answers,) bool, one view after the other.

    `views` are names of perturbations, each with its number of images.
    """

    views: Mapping[str, int]
    wrong: Mapping[str, np.ndarray]

    def of_view(self, name: str) -> slice:
        """Return where the answers about a view stand."""
        names = list(self.views)
        start = sum(self.views[other] for other in names[: names.index(name)])
        return slice(start, start + self.views[name])

    def write(self, path: Path) -> None:
        """Write them as JSON, a line for each network."""
        content = {
            "views": json.dumps(dict(self.views)),
            "wrong": by_line(self.wrong, _packed, indent=2),
        }
        write(path, by_line(content, str) + "\n")


def read_answers(path: Path) -> Answers:
    """Read what `Answers.write` wrote."""
    content = read(path)
    count = sum(content["views"].values())
    return Answers(
        content["views"], {name: _unpacked(text, count) for name, text in content["wrong"].items()}
    )


def with_answers(
    known: Answers | None, found: Mapping[str, Sequence[ReferencePredictions]]
) -> Answers:
    """Return what is known of networks, and what was found anew.

    Raises `InputError` when they answer other things.

    Of a view that a network was asked about twice, the answers about the most images count.
    """
    asked = {
        name: {each.name: each.wrong for each in sorted(answers, key=lambda each: len(each.wrong))}
        for name, answers in found.items()
    }
    views = {view: len(each) for view, each in sorted(next(iter(asked.values())).items())}
    wrong = dict(known.wrong) if known and known.views == views else {}
    for name, of_one in asked.items():
        if {view: len(each) for view, each in of_one.items()} != views:
            raise InputError(f"{name}: was asked about other images than the others; measure again")
        wrong[name] = np.concatenate([of_one[view] for view in views])
    return Answers(views, wrong)


def _packed(wrong: np.ndarray) -> str:
    return f'"{base64.b64encode(zlib.compress(np.packbits(wrong).tobytes(), 9)).decode()}"'


def _unpacked(text: str, count: int) -> np.ndarray:
    bits = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
    return np.unpackbits(bits, count=count).astype(bool)
