"""Errors of networks in the views that consensus asks about, image by image, as stored in the repository."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import InputError
from harness.base.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from harness.measures.panel.collection import ReferencePredictions


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
        lines = [f'  {json.dumps(name)}: "{_packed(each)}"' for name, each in self.wrong.items()]
        content = f'{{\n "views": {json.dumps(dict(self.views))},\n "wrong": {{\n' + ",\n".join(lines) + "\n }\n}\n"
        write_atomically(path, content.encode())


def with_answers(known: Answers | None, found: Mapping[str, Sequence[ReferencePredictions]]) -> Answers:
    """Return what is known of networks, and what was found anew; raises `InputError` when they answer other things."""
    asked = {name: _by_view(answers) for name, answers in found.items()}
    views = {view: len(each) for view, each in sorted(next(iter(asked.values())).items())}
    wrong = dict(known.wrong) if known and known.views == views else {}
    for name, of_one in asked.items():
        if {view: len(each) for view, each in of_one.items()} != views:
            raise InputError(f"{name}: was asked about other images than the others; measure again")
        wrong[name] = np.concatenate([of_one[view] for view in views])
    return Answers(views, wrong)


def read_answers(path: Path) -> Answers:
    """Read what `Answers.write` wrote."""
    content = json.loads(path.read_bytes())
    count = sum(content["views"].values())
    return Answers(content["views"], {name: _unpacked(text, count) for name, text in content["wrong"].items()})


def _by_view(answers: Sequence[ReferencePredictions]) -> dict[str, np.ndarray]:
    """Return what is wrong under each perturbation; about the most images, where some were asked about twice."""
    return {each.name: each.wrong for each in sorted(answers, key=lambda each: len(each.wrong))}


def _packed(wrong: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(np.packbits(wrong).tobytes(), 9)).decode()


def _unpacked(text: str, count: int) -> np.ndarray:
    bits = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
    return np.unpackbits(bits, count=count).astype(bool)
