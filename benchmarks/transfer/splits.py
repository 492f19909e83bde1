"""Thresholds from K of the healthy fine-tunings, and the gate's verdict on all others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.few.splits import Networks, panel_of
from benchmarks.few.stored import read_answers, read_distances
from benchmarks.runner import read
from benchmarks.transfer.measure import ANSWERS, HEALTHY_FILE, OTHERS
from harness.base.records import read_record
from harness.calibration.panel import Panel, ReferenceModel
from harness.calibration.thresholds import outliers, thresholds_of
from harness.measures import Unit
from harness.measures.panel.predictions import CORRECTED
from harness.measures.panel.threshold import Calibrated, PanelCheck
from harness.measures.statistics import mcnemar_p
from harness.perturb import IDENTITY, PROTOCOL

REGRESSION = "regression-clean"
_LOSS, _LEVEL = 0.01, 0.001
"""Net loss and level of the check against the incumbent."""


@dataclass(frozen=True, eq=False)
class Asked:
    """A row with a value that depends on the reference models.

    Its check, and the images that it counts, (N,) bool.

    `consensus` counts only errors on the consensus set. `worst` counts those of the class with most
    of them.
    """

    check: PanelCheck
    counted: np.ndarray
    consensus: bool = False
    worst: bool = False


@dataclass(frozen=True, eq=False)
class Stored:
    """All networks.

    Those of `benchmarks.few`, rows that depend on reference models, and clean errors, (images,)
    bool.

    `names` are the networks, the healthy ones first. `values`, (networks, rows), are those of the
    rows of the panel.
    """

    networks: Networks
    asked: tuple[Asked, ...]
    names: tuple[str, ...]
    values: np.ndarray
    wrong: np.ndarray
    labels: np.ndarray

    @property
    def healthy(self) -> int:
        """Return the number of healthy networks."""
        return len(self.networks.distances.networks)


@dataclass(frozen=True, eq=False)
class Split:
    """Thresholds from K networks; by name, the checks that each other network fails.

    `signs` are the informational checks with a value beyond their threshold, which a line under
    `PASS` names.
    """

    calibrated: tuple[Calibrated, ...]
    failed: Mapping[str, tuple[str, ...]]
    signs: Mapping[str, tuple[str, ...]]


def stored() -> Stored:
    """Return what the files of the benchmark say of the networks."""
    content, distances, answers = read(OTHERS), read_distances(HEALTHY_FILE), read_answers(ANSWERS)
    rows = tuple(read_record(PanelCheck, row, where=f"{OTHERS}") for row in content["rows"])
    labels = np.repeat(np.arange(len(content["sizes"])), content["sizes"])
    names = (*distances.networks, *content["mutants"])
    of_mutants = np.array([[each[row.id] for row in rows] for each in content["mutants"].values()])
    values = np.vstack([np.array([distances.values[row.id] for row in rows]).T, of_mutants])
    panel = Panel("", PROTOCOL, {}, rows, ())
    nobody = np.empty((0, len(rows)))
    networks = Networks(panel, distances, frozenset(), nobody, nobody)
    wrong = np.array([answers.wrong[name][answers.of_view(repr(IDENTITY))] for name in names])
    asked = tuple(asked_of(row, labels, content["classes"]) for row in content["among"])
    return Stored(networks, asked, names, values, wrong, labels)


def asked_of(row: Mapping[str, Any], labels: np.ndarray, classes: list[str]) -> Asked:
    """Return the row of a check of family consensus or flips."""
    worst = row["metric"] == "worst_class_consensus_set_errors"
    counted = (
        np.ones(len(labels), bool)
        if row["class"] is None
        else labels == classes.index(row["class"])
    )
    n = int(np.bincount(labels).max()) if worst else int(counted.sum())
    check = PanelCheck(
        row["id"], row["family"], row["metric"], Unit.IMAGES, "at_most", n, scale="root"
    )
    return Asked(check, counted, row["family"] == "consensus" or "among" in row["keys"], worst)


def count_of(
    asked: Asked, wrong: np.ndarray, right: np.ndarray, known: np.ndarray, labels: np.ndarray
) -> int:
    """Return the errors of a network that a row counts, from the `right` answers of its incumbent.

    All are (images,) bool; `known` is the consensus set. The family consensus has no incumbent.
    """
    lost = wrong & asked.counted
    lost = lost & known if asked.consensus else lost
    lost = lost & right if asked.check.family == "flips" else lost
    return int(np.bincount(labels[lost], minlength=1).max()) if asked.worst else int(lost.sum())


def of_panel(asked: Asked, wrong: np.ndarray, labels: np.ndarray) -> list[float]:
    """Return the value of each of K reference models, as a calibration counts it.

    `wrong` is (K, images) bool. The others judge a reference model, and the next one is its
    incumbent. See `harness.measures.panel`.
    """
    size, values = len(wrong), []
    for at, own in enumerate(wrong):
        incumbent = (at + 1) % size
        without = [at, incumbent] if asked.check.family == "flips" else [at]
        known = ~np.delete(wrong, without, axis=0).any(axis=0)
        factor = 1.0
        if size in CORRECTED and asked.consensus and not asked.worst:
            factor = (size - 1) / (size + 1 if asked.check.family == "flips" else size)
        values.append(factor * count_of(asked, own, ~wrong[incumbent], known, labels))
    return values


def split(found: Stored, chosen: np.ndarray) -> Split | None:
    """Calibrate by these healthy networks and judge all others; the first is the incumbent.

    None if calibration refuses the panel for an outlier.
    """
    wrong, panel = found.wrong[chosen], panel_of(found.networks, chosen)
    more = {row.check.id: of_panel(row, wrong, found.labels) for row in found.asked}
    models = tuple(
        ReferenceModel(
            model.path, "", None, {**model.values, **{row: each[at] for row, each in more.items()}}
        )
        for at, model in enumerate(panel.models)
    )
    panel = replace(
        panel, checks=(*panel.checks, *(row.check for row in found.asked)), models=models
    )
    if outliers(panel).models:
        return None
    calibrated = tuple(thresholds_of(panel))
    known, right = ~wrong.any(axis=0), ~wrong[0]
    failed, signs = {}, {}
    for at, name in enumerate(found.names):
        if at not in chosen:
            counts = [
                count_of(row, found.wrong[at], right, known, found.labels) for row in found.asked
            ]
            values = [*found.values[at], *counts]
            beyond = [
                item
                for item, value in zip(calibrated, values, strict=True)
                if not item.holds(value)
            ]
            failing = [item.check.id for item in beyond if not item.informational]
            failed[name] = (*failing, *([REGRESSION] if regressed(found.wrong[at], right) else []))
            signs[name] = tuple(item.check.id for item in beyond if item.informational)
    return Split(calibrated, failed, signs)


def regressed(wrong: np.ndarray, right: np.ndarray) -> bool:
    """Return whether a network fails the check against its incumbent; both are (images,) bool."""
    lost, gained = int((wrong & right).sum()), int((~wrong & ~right).sum())
    return (gained - lost) / len(wrong) < -_LOSS and mcnemar_p(lost, gained) < _LEVEL
