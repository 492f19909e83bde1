"""Ask a healthy retrain what it knows, where the stress tests want to know: its answers are kept, nothing is judged."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import torch

from harness.errors import NotApplicableError
from harness.inference.predictions import softmax
from harness.measures.knowledge import Knowledge
from harness.perturb import IDENTITY

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.inference import Predictions


KEPT = 10
"""Of how many classes a member's probabilities are kept; those of others, none of them above 1 / 11, count as 0."""


@dataclass(frozen=True, eq=False)
class Asking(Knowledge):
    """Stands for what healthy retrains know while one of them is asked: leaves its answers in a folder."""

    folder: Path | None = None

    def about(self, answers: Sequence[Predictions]) -> NoReturn:
        """Keep a model's answers, a file for each perturbation and sample; raises `NotApplicableError`, always."""
        assert self.folder is not None
        self.folder.mkdir(parents=True, exist_ok=True)
        for each in answers:
            name, positions = repr(each.perturbation), each.images.positions.numpy()
            key = hashlib.sha256(repr((name, positions.tobytes())).encode()).hexdigest()
            # Where the answers are not exact they are as near as a picture needs; suspects need those of rest.
            found = each.probabilities if each.perturbation == IDENTITY else softmax(each.answers)
            shares, likeliest = torch.topk(torch.from_numpy(found), min(KEPT, len(each.classes)))
            np.savez(
                self.folder / f"{key}.npz",
                name=name,
                positions=positions,
                wrong=~each.correct,
                of_label=found[np.arange(len(found)), each.labels],
                likeliest=likeliest.numpy().astype(np.int32),
                shares=shares.numpy(),
                classes=each.classes,
            )
        raise NotApplicableError("retrained reference models are asked here what they know")
