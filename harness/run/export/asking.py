"""The questions of a run: its tests run once on stand-ins for models, whose ledger has the images asked about."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from harness.base.errors import NotApplicableError, foreign_code
from harness.checks.roles import ROLES
from harness.data.rows import parts_of
from harness.inference import RoleModel
from harness.inference.backend import Perturbed
from harness.inference.ledger import Asked, Ledger
from harness.inference.predictors.protocol import Provides
from harness.inference.standins import StandIn
from harness.measures.panel.predictions import PanelPredictions
from harness.run.budget import OVERVIEW, Costs, Plan, plan_from
from harness.run.side_by_side import overview_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from harness.checks import Check
    from harness.perturb import Perturbation
    from harness.run.mutants import Judge
    from harness.run.session import StressSession


@dataclass(frozen=True, eq=False)
class Question:
    """A perturbation and the numbers of its images, ascending: of all of them, and of those that each name asks for."""

    perturbation: Perturbation
    numbers: np.ndarray
    by_name: dict[str, np.ndarray]


class Questions:
    """All questions of a ledger. Images with equal pixels share a number; with `rounded`, models see 8 bits."""

    def __init__(self, ledger: Ledger, *, rounded: bool) -> None:
        self._rounded, self._sets = rounded, list(ledger.sets)
        self._names: dict[bytes, int] = {}
        at: list[tuple[int, int]] = []
        of_set = {}
        for which, images in enumerate(self._sets):
            of_set[images] = numbers = np.empty(len(images), dtype=np.int64)
            for part in parts_of(len(images), int(np.prod(images.pixels.shape[1:]))):
                for position, pixels in enumerate(images.pixels[part].numpy(), start=part.start):
                    name = hashlib.sha256(np.ascontiguousarray(pixels).data).digest()
                    numbers[position] = number = self._names.setdefault(name, len(at))
                    if number == len(at):
                        at.append((which, position))
        self._at = np.array(at, dtype=np.int64).reshape(-1, 2)
        self.asked: list[Question] = []
        for question in ledger.questions.values():
            by_name = {
                name: np.unique(
                    np.concatenate([of_set[images][slice(None) if at is None else at] for images, at in parts])
                )
                for name, parts in question.by_name.items()
            }
            numbers = np.unique(np.concatenate([*by_name.values()]))
            self.asked.append(Question(question.perturbation, numbers, by_name))

    def __len__(self) -> int:
        return sum(len(question.numbers) for question in self.asked)

    def identity(self) -> str:
        """Return a hash of all images and perturbations, in their order."""
        digest = hashlib.sha256()
        known = list(self._names)
        for question in self.asked:
            digest.update(repr(question.perturbation).encode())
            for number in question.numbers:
                digest.update(known[number])
        return digest.hexdigest()

    def pixels(self, question: Question, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return images of one set under the perturbation, (M, C, H, W) float32, and their positions in the split."""
        which, at = self._at[numbers].T
        images, under = self._sets[which[0]], (question.perturbation,)
        inputs = Perturbed(images.pixels, at, torch.device("cpu"), under, rounded=self._rounded)
        return inputs(np.arange(len(at))).numpy(), images.positions.numpy()[at]

    def parts(self, numbers: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the numbers, (N,) int64 in ascending order, by set of images."""
        which = self._at[numbers, 0]
        yield from np.split(numbers, np.flatnonzero(np.diff(which)) + 1)

    @property
    def shapes(self) -> set[tuple[int, ...]]:
        """Return the shapes of the images, each (C, H, W)."""
        return {tuple(images.pixels.shape[1:]) for images in self._sets}


def questions_of(
    session: StressSession,
    checks: Sequence[Check],
    judge: Judge,
    *,
    overview: bool = False,
    on_failure: Callable[[str, Exception], None] = lambda _name, _error: None,
) -> Questions:
    """Return what the tests of these checks ask models about, and the `overview`; every role has a stand-in.

    `on_failure` is called with a check, and what its test raised: images that it asks for later are not known.
    """
    ledger, path = Ledger(), session.checks.path
    provides = Provides("probabilities", live=False)
    roles = {
        role: RoleModel(role, path, role, role, "recorded", None, StandIn(provides, ledger=ledger)) for role in ROLES
    }
    panel = session.panel_predictions
    if panel is None:
        panel = PanelPredictions(session.images.sha256, session.images.classes, ("asked",), {})
    rows = {check.definition for check in session.checks.checks}
    asked = replace(session, roles=roles, cache=None, panel_predictions=panel)
    for check in checks:
        with ledger.under(check.id):
            try:
                with foreign_code():
                    judge(asked, check)
            except NotApplicableError:
                continue
            except Exception as error:  # Of the test, on made-up answers; one without a row may lack a key.
                if check.definition in rows:
                    on_failure(check.id, error)
    if overview:
        with ledger.under(OVERVIEW):
            overview_of(asked)
    return Questions(ledger, rounded=session.checks.data.pixels is not None)


def fitting(
    session: StressSession, checks: Sequence[Check], judge: Judge, *, seconds: float, images_per_second: float
) -> Plan:
    """Return samples of the families with which a system of this speed answers all images in so many seconds."""
    families = {check.id: check.family for check in checks}

    def count(samples: Mapping[str, int]) -> Ledger:
        """Return how many images each family asks for first, and whose it shares."""
        counted = {family: Asked() for family in families.values()}
        for question in questions_of(replace(session, fitted=samples), checks, judge).asked:
            first: dict[str, np.ndarray] = {}
            for name, numbers in question.by_name.items():
                asked, new = counted[families[name]], numbers
                for other, known in first.items():
                    shared = np.isin(new, known)
                    if shared.any() and other != families[name]:
                        asked.shares.add(other)
                    new = new[~shared]
                asked.add(passes=1, poses=len(new), images=len(numbers))
                first[families[name]] = np.union1d(first.get(families[name], new), new)
        return Ledger(counted)

    sizes = {check.family: session.size_of(check.family) for check in checks}
    return plan_from(count, sizes, Costs(1 / images_per_second, 0.0, 0), images=len(session.images), budget=seconds)
