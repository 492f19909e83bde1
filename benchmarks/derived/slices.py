"""The worst slice of networks by their logits.

Measured on healthy networks, on mutants, and on networks that lose a few images.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.derived.judge import Network, failing, panel_of, thresholds, values_of
from benchmarks.derived.networks import MUTATIONS
from harness.features.slices.measures import find_slices, worst_slice

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.inference import Predictions

_LOST, _K = (10, 20, 30, 50, 100), 4.06
"""Images of a class that a network loses, and the multiplier of the row in the shipped checks file.
"""


def results(networks: Mapping[str, Network], pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return the worst slices of networks by name, a reference model left out of its own reference.

    `lost` counts networks that lose the darkest images of a class, by the number of these images.
    `beyond` are those beyond the threshold of `worst_slice`, and `easy` those that fail a check of
    easy images. `inside` is the median share of the lost images in the worst slice.
    """
    panel_models = {name: each for name, each in networks.items() if name.startswith("panel-")}
    panel = panel_of([*panel_models.values()])

    def worst(predictions: Predictions, parent: str) -> float:
        return worst_slice(find_slices(predictions, panel.without(parent))).value

    sound = {name: worst(each.predictions, name) for name, each in panel_models.items()}
    values = np.array([*sound.values()])
    limit = float(values.mean() + _K * values.std(ddof=1) * np.sqrt(1 + 1 / len(values)))
    mutants = {
        name: worst(each.predictions, f"panel-{name[-2:]}")
        for name, each in networks.items()
        if name.rpartition("-")[0] in MUTATIONS
    }

    def of_easy_images(network: Network) -> dict[str, Any]:
        found = values_of(network, panel, pairs)
        return {name: each for name, each in found.items() if not name.startswith("batch_norm/")}

    limits = thresholds([of_easy_images(each) for each in panel_models.values()])
    images = next(iter(panel_models.values())).predictions.images
    labels, brightness = images.labels.numpy(), images.pixels[:].float().mean(dim=(1, 2, 3)).numpy()
    lost: dict[str, dict[str, float]] = {}
    for count in _LOST:
        rows = []
        for name, each in [*panel_models.items()][:10]:
            for label in range(len(images.classes)):
                dark = np.flatnonzero(labels == label)
                dark = dark[np.argsort(brightness[dark], kind="stable")[:count]]
                answers = each.predictions.answers.copy()
                answers[dark] = np.roll(answers[dark], 1, axis=1)
                broken = replace(each, predictions=replace(each.predictions, answers=answers))
                seen = find_slices(broken.predictions, panel.without(name))
                found, fails = (
                    worst_slice(seen).value > limit,
                    bool(failing(of_easy_images(broken), limits)),
                )
                rows.append((found, fails, found or fails, (seen.of[dark] == seen.worst).mean()))
        beyond, easy, either, inside = np.array(rows, dtype=float).T
        lost[str(count)] = {
            "n": len(rows),
            "beyond": int(beyond.sum()),
            "easy": int(easy.sum()),
            "either": int(either.sum()),
            "inside": round(float(np.median(inside)), 2),
        }
    rounded = ({name: round(value, 3) for name, value in each.items()} for each in (sound, mutants))
    return {
        "limit": round(limit, 2),
        **dict(zip(("sound", "mutants"), rounded, strict=True)),
        "lost": lost,
    }


def table_of(found: Mapping[str, Any]) -> str:
    """Return the results as Markdown."""
    lines = [
        "| images lost | beyond the threshold of `worst_slice` | fail checks of easy images | "
        "either | lost images in the worst slice |",
        "| --- | --- | --- | --- | --- |",
    ]
    for count, row in found["lost"].items():
        shares = " | ".join(f"{row[key]} of {row['n']}" for key in ("beyond", "easy", "either"))
        lines.append(f"| {count} of 1,000 | {shares} | {row['inside']:.0%} |")
    lines += [
        "",
        f"| mutant without training | beyond the threshold, {found['limit']:.2f} |",
        "| --- | --- |",
    ]
    for name in MUTATIONS:
        own = [each for key, each in found["mutants"].items() if key.rpartition("-")[0] == name]
        if own:
            lines.append(f"| {name} | {sum(each > found['limit'] for each in own)} of {len(own)} |")
    values = np.array([*found["sound"].values()])
    sound = f"{sum(values > found['limit'])} of {len(values)}"
    lines.append(
        f"| none: reference models, {values.mean():.2f} ± {values.std(ddof=1):.2f} | {sound} |"
    )
    return "\n".join(lines)
