"""Thresholds on mean scores from few reference models.

False alarms of retrained models, and faults found.

`python -m benchmarks.scores` fits the models of `examples/silhouettes` with many seeds and judges
each by thresholds from others; a few minutes on one core.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.runner import ROOT, few, run, table, write_between
from harness.calibration.panel import Chance, Panel, ReferenceModel
from harness.calibration.thresholds import thresholds_of
from harness.measures.metric import Unit, packed
from harness.measures.panel.threshold import PanelCheck
from harness.measures.statistics import proportion_interval
from harness.perturb import Pose
from harness.perturb.poses import moved_masks

README = Path(__file__).with_name("README.md")
REFERENCE_MODELS = (3, 8, 20)
CANDIDATES, POOL, FAULTY = 200, 60, 20
SIMULATED = (3, 8)
SHIFTS = (0.0, 0.02, 0.05, 0.1, 0.2)
"""Standard deviations between simulated models, on the scale of logits."""
IMAGES = 600
POSES = {"clean": 0.0, "cw-10": -10.0, "cw-05": -5.0, "ccw-05": 5.0, "ccw-10": 10.0}


@dataclass(frozen=True, eq=False)
class View:
    """The test images in a pose.

    Local means around each pixel, and the outlines, (N, 28, 28) bool.
    """

    features: np.ndarray
    truth: np.ndarray


def example() -> Any:
    """Return the module of the example."""
    path = ROOT / "examples/silhouettes/silhouettes.py"
    spec = importlib.util.spec_from_file_location("silhouettes", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def views(silhouettes: Any) -> dict[str, View]:
    """Return the test images in each pose."""
    pixels, outlines, *_ = silhouettes.clothes()
    count = few(silhouettes.TEST, 50)
    clean = torch.from_numpy(pixels[:count, None]).float() / 255
    found = {}
    for name, degrees in POSES.items():
        pose = Pose(degrees)
        features = silhouettes.features(pose(clean)[:, 0].numpy()).astype(np.float32)
        found[name] = View(features, moved_masks(outlines[:count], pose))
    return found


def scores(
    silhouettes: Any,
    seen: Mapping[str, View],
    seed: int,
    fault: Callable[[np.ndarray], np.ndarray] = lambda masks: masks,
) -> np.ndarray:
    """Return the scores of a model, (poses, images) float32."""
    weights = silhouettes.fit(seed).astype(np.float32)
    by_pose = [
        silhouettes.dice(fault(view.features @ weights > 0.5), view.truth) for view in seen.values()
    ]
    return np.array(by_pose, dtype=np.float32)


def panel_of(references: np.ndarray) -> Panel:
    """Return the panel of K models with these scores, (K, poses, images)."""
    checks = tuple(
        PanelCheck(
            name,
            "clean" if name == "clean" else "rotation",
            "accuracy",
            Unit.SHARE,
            "at_least",
            references.shape[2],
        )
        for name in POSES
    )
    means = references.mean(axis=2, dtype=np.float64)
    models = tuple(
        ReferenceModel(f"{number}", f"{number}", None, dict(zip(POSES, row, strict=True)))
        for number, row in enumerate(means.tolist())
    )
    chance = {}
    for at, name in enumerate(POSES):
        entries = [
            {"id": name, "unit": "share", "each": packed(model[at]), "rest": row[0] if at else None}
            for model, row in zip(references, means, strict=True)
        ]
        found = Chance.of(entries)
        assert found is not None
        chance[name] = found
    return Panel("", 1, {}, checks, models, chance=chance, classes=10, scored=True)


def failing(panel: Panel, candidate: np.ndarray) -> tuple[bool, int]:
    """Return whether a model with these scores, (poses, images), fails.

    The number of judging checks follows.
    """
    means = dict(zip(POSES, candidate.mean(axis=1, dtype=np.float64).tolist(), strict=True))
    judging = [item for item in thresholds_of(panel) if not item.informational]
    return any(not item.holds(means[item.check.id]) for item in judging), len(judging)


def rows(silhouettes: Any, seen: Mapping[str, View]) -> Iterator[tuple[str, ...]]:
    """Yield a row of the table for each number of reference models."""
    candidates, pool, faulty = few(CANDIDATES, 6), few(POOL, 24), few(FAULTY, 2)
    found = np.stack([scores(silhouettes, seen, seed) for seed in range(candidates)])
    others = np.stack([scores(silhouettes, seen, 1000 + seed) for seed in range(pool)])
    broken = {
        name: [scores(silhouettes, seen, seed, fault) for seed in range(faulty)]
        for name, fault in silhouettes.FAULTS.items()
    }
    for count in REFERENCE_MODELS:
        generator = np.random.default_rng(count)
        panels = [
            panel_of(others[generator.choice(pool, count, replace=False)])
            for _ in range(candidates)
        ]
        judged = [failing(panel, model) for panel, model in zip(panels, found, strict=True)]
        alarms = sum(failed for failed, _ in judged)
        low, high = proportion_interval(alarms, candidates)
        checks = np.mean([number for _, number in judged])
        caught = []
        for models in broken.values():
            failures = [
                failing(panel, model)[0]
                for panel, model in zip(panels[:faulty], models, strict=True)
            ]
            caught.append(f"{sum(failures)}")
        yield (
            f"{count}",
            f"{checks:.1f} of {len(POSES)}",
            f"{alarms} of {candidates} ({alarms / candidates:.1%}, {low:.1%} to {high:.1%})",
            *caught,
        )


def simulated(
    generator: np.random.Generator, difficulty: np.ndarray, *, shift: float
) -> np.ndarray:
    """Return the scores of a simulated model, (poses, images) float32.

    On the scale of logits, a score is the image's own, less 0.2 for a pose, plus noise of the image
    (0.5) and a shift of the model. Poses share the shift; each has 0.3 of its own beside it.
    """
    common = generator.normal()
    levels = []
    for at in range(len(POSES)):
        noise = generator.normal(0, 0.5, len(difficulty))
        shared = shift * (common + 0.3 * generator.normal())
        levels.append(difficulty - 0.2 * (at > 0) + noise + shared)
    return np.asarray(1 / (1 + np.exp(-np.array(levels))), dtype=np.float32)


def simulated_rows() -> Iterator[tuple[str, ...]]:
    """Yield a row for each number of reference models and each spread between models."""
    candidates = few(CANDIDATES, 4)
    for count in SIMULATED:
        for shift in SHIFTS:
            generator = np.random.default_rng([count, int(1000 * shift)])
            difficulty = generator.normal(2, 1, few(IMAGES, 50))
            alarms = by_accuracy = judging = 0
            for _ in range(candidates):
                models = [simulated(generator, difficulty, shift=shift) for _ in range(count + 1)]
                panel = panel_of(np.stack(models[1:]))
                failed, checks = failing(panel, models[0])
                alarms += failed
                judging += checks
                by_accuracy += failing(replace(panel, scored=False), models[0])[0]
            low, high = proportion_interval(alarms, candidates)
            low_of, high_of = proportion_interval(by_accuracy, candidates)
            yield (
                f"{count}",
                f"{shift:g}",
                f"{judging / candidates:.1f} of {len(POSES)}",
                f"{alarms} of {candidates} ({low:.1%} to {high:.1%})",
                f"{by_accuracy} of {candidates} ({low_of:.1%} to {high_of:.1%})",
            )


def compare() -> int:
    """Fit and judge the models, simulate others, and write the tables into the page."""
    silhouettes = example()
    head = (
        "reference models",
        "checks that judge",
        "false alarms (95% interval)",
        *(f"{name}, of {few(FAULTY, 2)}" for name in silhouettes.FAULTS),
    )
    body = table(head, rows(silhouettes, views(silhouettes)))
    print(body)
    write_between(README, "results", body)
    head = (
        "reference models",
        "spread between models",
        "checks that judge",
        "false alarms (95% interval)",
        "with the prior of accuracies",
    )
    body = table(head, simulated_rows())
    print(body)
    write_between(README, "simulated", body)
    return 0


COMMANDS = {"": (compare,)}

if __name__ == "__main__":
    sys.exit(run(COMMANDS))
