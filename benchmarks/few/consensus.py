"""Consensus of few.

Thresholds from K of the panel's networks, tested on all others and on mutants.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.detection.judgement import TRIVIAL
from benchmarks.detection.results import read_result
from benchmarks.few.splits import draws
from benchmarks.few.stored import ANSWERS, FASHION_CHECKS, FASHION_PANEL, read_answers
from benchmarks.runner import table
from harness.calibration.panel import Chance, Panel, PanelCheck, ReferenceModel, read_panel
from harness.calibration.thresholds import family_thresholds
from harness.checks import read_checks
from harness.data import load_fashion_mnist
from harness.features.consensus.measures import (
    CONSENSUS_SET_ERRORS,
    WORST_CLASS_CONSENSUS_SET_ERRORS,
)
from harness.measures.panel.predictions import CORRECTED
from harness.measures.panel.threshold import Calibrated
from harness.perturb.corruptions import corruptions_of
from harness.perturb.grids import views_of

FAMILY, AT_REST = "consensus", "consensus-clean"
SIZES = (3, 5, 8, 12, 20)


@dataclass(frozen=True, eq=False)
class Asked:
    """Errors of networks and mutants in the views of consensus, (networks, answers) bool.

    `counted` are the positions of the answers that each row counts. `labels` are their classes in a
    row that counts the errors of the worst class. To the rows with `chance` an image may add
    several times.
    """

    panel: Panel
    rows: tuple[PanelCheck, ...]
    counted: tuple[np.ndarray, ...]
    labels: Mapping[str, np.ndarray]
    chance: Mapping[str, Chance]
    healthy: np.ndarray
    mutants: np.ndarray

    def lost(self, wrong: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Return the errors on the consensus set `known` in each row, (networks, rows).

        Both (networks, answers).
        """
        columns = []
        for row, counted in zip(self.rows, self.counted, strict=True):
            lost, labels = wrong[:, counted] & known[:, counted], self.labels.get(row.id)
            if labels is None:
                columns.append(lost.sum(axis=1))
            else:
                columns.append(
                    np.max(
                        [lost[:, labels == label].sum(axis=1) for label in np.unique(labels)],
                        axis=0,
                    )
                )
        return np.stack(columns, axis=1)

    def split(
        self, chosen: np.ndarray
    ) -> tuple[list[Calibrated], np.ndarray, np.ndarray, np.ndarray]:
        """Return the chosen networks' thresholds, the errors of others, and the consensus set.

        Mutants are among the others. Each of the chosen is compared with the consensus set of the
        others among them, and corrected, as in a calibration.
        """
        of_few, others = self.healthy[chosen], np.delete(self.healthy, chosen, axis=0)
        wrong = of_few.sum(axis=0)
        values = self.lost(of_few, wrong - of_few == 0).astype(float)
        if len(chosen) in CORRECTED:
            values[:, [row.id not in self.labels for row in self.rows]] *= (len(chosen) - 1) / len(
                chosen
            )
        ids = [row.id for row in self.rows]
        models = tuple(
            ReferenceModel(f"{at}", "", None, dict(zip(ids, map(float, of_one), strict=True)))
            for at, of_one in enumerate(values)
        )
        panel = replace(self.panel, models=models, chance=self.chance)
        known = (wrong == 0)[None]
        return (
            family_thresholds(panel, self.rows),
            self.lost(others, known),
            self.lost(self.mutants, known),
            known[0],
        )


def asked() -> Asked:
    """Return the answers of the shipped panel and of non-trivial mutants, by rows.

    The rows are those of the shipped checks file.
    """
    checks, answers = read_checks(FASHION_CHECKS), read_answers(ANSWERS)
    panel = read_panel(FASHION_PANEL, checks)
    errors = (CONSENSUS_SET_ERRORS.name, WORST_CLASS_CONSENSUS_SET_ERRORS.name)
    rows = tuple(row for row in panel.family(FAMILY) if row.metric in errors)
    counted, labels, chance = [], {}, {}
    of_test = load_fashion_mnist("test").labels.numpy()
    by_id = {check.id: check for check in checks.checks}
    for row in rows:
        check = by_id[row.id]
        under = (
            *views_of(check.keys.get("under"), check.pose),
            *corruptions_of(check.keys.get("damaged")),
        )
        places = [answers.of_view(repr(each)) for each in under]
        counted.append(np.concatenate([np.arange(place.start, place.stop) for place in places]))
        if len(under) > 1:
            chance[row.id] = Chance(0.0)  # Any number will do: chance says nothing of such counts.
        if row.metric == WORST_CLASS_CONSENSUS_SET_ERRORS.name:
            labels[row.id] = np.tile(of_test, len(under))
    healthy = [Path(member.path).stem for member in panel.models]
    results = [read_result(name) for name in answers.wrong if name not in healthy]
    worse = [result.id for result in results if result and (result.clean_accuracy or 0) >= TRIVIAL]
    count = sum(answers.views.values())
    both = (
        np.array([answers.wrong[name] for name in names], dtype=bool).reshape(-1, count)
        for names in (healthy, worse)
    )
    return Asked(panel, rows, tuple(counted), labels, chance, *both)


def consensus_table(networks: Asked, splits: int, *, sizes: Sequence[int] = SIZES) -> str:
    """Return the table of thresholds from K networks.

    Their size, and the networks that exceed one.
    """
    rest, rows = [row.id for row in networks.rows].index(AT_REST), []
    for size in sizes:
        known, losses, alarms, thresholds, checks, caught = ([] for _ in range(6))
        for chosen in tqdm(
            draws(len(networks.healthy), size, splits), unit="split", smoothing=0, leave=False
        ):
            made, others, mutants, agreed = networks.split(chosen)
            limits = np.array([np.inf if item.informational else item.threshold for item in made])
            known.append(agreed[networks.counted[rest]].sum())
            losses += others[:, rest].tolist()
            thresholds.append(made[rest].threshold)
            checks.append(np.isfinite(limits).sum())
            alarms += np.any(others > limits, axis=1).tolist()
            caught.append(np.any(mutants > limits, axis=1).sum())
        healthy = (
            (f"{np.mean(losses):.1f} ± {np.std(losses):.1f}", f"{np.mean(alarms):.2%}")
            if losses
            else ("–", "–")
        )
        mean_caught = f"{np.mean(caught):.1f}" if len(networks.mutants) else "–"
        sizes_of = (
            f"{np.mean(known):.0f}",
            healthy[0],
            f"{np.mean(thresholds):.0f}",
            f"{np.mean(checks):.1f}",
        )
        rows.append((size, len(known), *sizes_of, healthy[1], mean_caught))
    of_all = f"checks with a threshold, of {len(networks.rows)}"
    head = (
        "K",
        "splits",
        "consensus set of K",
        "errors of another network",
        "threshold",
        of_all,
        "false alarms",
    )
    return (
        f"{len(networks.mutants) or 'No'} mutants took part. Consensus set, errors and threshold "
        f"are those of `{AT_REST}`, means over splits.\n\n{table((*head, 'mutants caught'), rows)}"
    )
