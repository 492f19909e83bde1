"""Values and thresholds of networks by their logits: each network left out of its own reference."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from harness.calibration.panel import Panel, ReferenceModel
from harness.calibration.thresholds import family_thresholds
from harness.features.batch_norm.distance import (
    BatchNormDistances,
    batch_norm_distance,
    batch_norm_misfit,
)
from harness.features.batch_norm.metrics import GROUPS
from harness.features.consensus.measures import (
    consensus_set_errors,
    find_consensus_set_errors,
    worst_class_consensus_set_errors,
)
from harness.features.consensus.soft import (
    find_known_images,
    largest_soft_confusion,
    lost_probability,
    panel_divergence,
    soft_confusion,
)
from harness.inference import Predictions
from harness.measures import METRICS
from harness.measures.panel.collection import ReferencePredictions, combine
from harness.measures.panel.threshold import PanelCheck
from harness.perturb import IDENTITY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from harness.calibration.thresholds import Calibrated
    from harness.data import LabelledImages
    from harness.measures.panel.predictions import PanelPredictions

OLD = ("consensus_set_errors", "worst_class_consensus_set_errors")
"""Metrics of checks that the gate had before."""
_FAMILIES = 15
"""Families of the shipped checks file besides clean accuracy, which share half of the false alarms.
"""


@dataclass(frozen=True, eq=False)
class Network:
    """Clean predictions of a network, and the distances of its batch norms.

    The images are clean and augmented.
    """

    name: str
    predictions: Predictions
    norms: np.ndarray
    augmented: np.ndarray

    @staticmethod
    def of(name: str, tables: Mapping[str, np.ndarray], images: LabelledImages) -> Network:
        """Return the network of a file."""
        return Network(
            name,
            Predictions(tables["logits"], images, IDENTITY),
            tables["norms"],
            tables["augmented"],
        )


def panel_of(networks: Sequence[Network]) -> PanelPredictions:
    """Return the panel predictions of these networks."""
    images = networks[0].predictions.images
    found = combine(
        images.sha256,
        int(images.positions.max()) + 1,
        [each.name for each in networks],
        [[ReferencePredictions.of(each.predictions)] for each in networks],
    )
    assert found is not None, "there are predictions"
    return found


def values_of(
    network: Network, panel: PanelPredictions, pairs: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """Return the measurements of a network by the id of a check.

    One of the panel is left out of it.
    """
    panel = panel.without(network.name)
    lost = find_consensus_set_errors([network.predictions], panel)
    seen = find_known_images(network.predictions, panel)
    norms, augmented = (
        BatchNormDistances(2_000, {str(at): float(each) for at, each in enumerate(distances)}, ())
        for distances in (network.norms, network.augmented)
    )
    found = {
        "consensus/clean": consensus_set_errors(lost),
        "consensus/class": worst_class_consensus_set_errors(lost),
        "consensus/divergence": panel_divergence(seen),
        "consensus/lost": lost_probability(seen),
        "soft_confusion/largest": largest_soft_confusion(seen),
        **{f"soft_confusion/{one}-{two}": soft_confusion(seen, (one, two)) for one, two in pairs},
    }
    for group in GROUPS:
        value = batch_norm_distance(replace(norms, parts=(norms.of_all,)), group)
        found[f"batch_norm/{group}"] = value
        found[f"batch_norm/{group}-minimum"] = replace(
            value, metric=METRICS["batch_norm_distance_minimum"]
        )
        found[f"batch_norm/{group}-augmented"] = batch_norm_misfit(
            replace(augmented, parts=(augmented.of_all,)), group
        )
    return found


def thresholds(measured: Sequence[Mapping[str, Any]]) -> dict[str, Calibrated]:
    """Return the thresholds of checks from the measurements of reference models.

    They are by the check's id.
    """
    checks = tuple(
        PanelCheck(
            name,
            name.partition("/")[0],
            each.metric.name,
            each.metric.unit,
            each.metric.direction,
            each.n,
            scale=each.metric.scale,
        )
        for name, each in measured[0].items()
    )
    others = tuple(replace(checks[0], id=f"{at}", family=f"{at}") for at in range(_FAMILIES - 3))
    models = tuple(
        ReferenceModel(
            f"{at}", f"{at}", at, {**{name: each.value for name, each in values.items()}}
        )
        for at, values in enumerate(measured)
    )
    panel, found = Panel("", 1, {}, (*checks, *others), models), {}
    for family in dict.fromkeys(check.family for check in checks):
        for item in family_thresholds(panel, panel.family(family)):
            found[item.check.id] = item
    return found


def failing(
    values: Mapping[str, Any], limits: Mapping[str, Calibrated], *, old: bool = False
) -> list[str]:
    """Return the checks that a network fails, the `old` ones alone or all."""
    return [
        name
        for name, each in values.items()
        if not limits[name].informational and not limits[name].holds(each.value)
        if not old or each.metric.name in OLD
    ]
