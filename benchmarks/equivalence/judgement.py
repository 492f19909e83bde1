"""An artifact made and judged by the rule of equivalence, on the 10,000 test images, with the default tolerance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.smoke import IMAGES, few
from harness.base.errors import InputError
from harness.features.equivalence.equality import equal
from harness.measures.changed_predictions import lost_and_gained
from harness.run.request import model_spec
from harness.run.settings import ModelSettings

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.equivalence.exports import Maker
    from benchmarks.equivalence.networks import Material
    from harness.networks import NetworkOptions

SAMPLES = few(None, IMAGES)
NOT_APPLICABLE, REFUSED = "not applicable", "refused"


@dataclass(frozen=True)
class Judged:
    """An artifact's outcome, with the predictions that it changes, their bounds, and the worst class as a share.

    An artifact that the network cannot have is not applicable, one that the harness does not open is refused. `note`
    says why.
    """

    network: str
    artifact: str
    held_out: bool
    outcome: str
    changed: int = 0
    images: int = 0
    lower: float = 0.0
    upper: float = 0.0
    lost: int = 0
    gained: int = 0
    worst_class: float = 0.0
    note: str = ""

    @property
    def share(self) -> float:
        """Return the share of predictions that it changes."""
        return self.changed / self.images if self.images else 0.0


def judged(
    artifact: str, make: Maker, material: Material, folder: Path, *, network: str, original: Path | str,
    options: NetworkOptions, held_out: bool,
) -> Judged:  # fmt: skip
    """Make an artifact in the folder, and compare it with its original."""
    try:
        made = make(material, folder / artifact)
        model = ModelSettings(**options.given, samples=SAMPLES)
        done = equal(model_spec(made), original, model, history=folder / "none")
    except LookupError as error:
        return Judged(network, artifact, held_out, NOT_APPLICABLE, note=str(error))
    except InputError as error:
        return Judged(network, artifact, held_out, REFUSED, note=str(error).replace(str(folder), "."))
    lost, gained = (int(each.sum()) for each in lost_and_gained(*done.predictions, done.differ))
    lower, upper = (round(limit, 6) for limit in done.checks[0].limits)
    worst = round(float(np.round(done.checks[1].measurement.value, 6)), 6)
    count = int(done.differ.sum())
    return Judged(
        network, artifact, held_out, done.outcome, count, len(done.differ), lower, upper, lost, gained, worst,
        done.order,
    )  # fmt: skip
