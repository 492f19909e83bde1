"""The command line, `python -m benchmarks.claims`: measure every network, decide the claims, write the tables."""

from __future__ import annotations

import argparse
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

from benchmarks.claims.claims import CLAIMS
from benchmarks.claims.measure import AUGMENTED, BASELINE, Network, kind_of, recipe_of, values_of
from benchmarks.claims.pictures import pictures
from benchmarks.claims.report import Results, read_results, write_table
from benchmarks.smoke import fashion_mnist, few
from harness.base.cache import Store
from harness.base.errors import InputError
from harness.inference import Classifier
from harness.networks.checkpoints import load_checkpoint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.data import LabelledImages

HERE = Path(__file__).parent
MODELS = HERE.parents[1] / "models"
KEPT = HERE / "baselines"
"""Baselines in half precision that come with the benchmark, besides the shipped baseline."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write, or only write; returns 0, or 2 for bad usage and refused input."""
    options = _parser().parse_args(arguments)
    try:
        if options.report:
            results = read_results()
        else:
            baselines = options.baselines or [MODELS / "baseline.safetensors", *_some(KEPT)]
            augmented = [MODELS / "augmented.safetensors", *_some(MODELS / "panel")]
            results = measure(baselines, augmented, fashion_mnist("test"), _training_images())
            results.write()
        write_table(results)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for claim in CLAIMS:
        print(f"{results.decide(claim).verdict}: {claim.says}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.claims", description="Hold the study's claims against many seeds of both models."
    )
    parser.add_argument(
        "--baselines",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="networks without augmentation (default: the shipped baseline and those of benchmarks/claims/baselines)",
    )
    parser.add_argument("--report", action="store_true", help="decide and write from results.json; measure nothing")
    return parser


def measure(
    baselines: Sequence[Path], augmented: Sequence[Path], test: LabelledImages, training: LabelledImages | None
) -> Results:
    """Measure every network; what was predicted before is taken from the user's cache.

    Raises `InputError` for networks that differ in more than seed and augmentation, or that are not of their kind.
    """
    checkpoints = {path: load_checkpoint(path) for path in (*baselines, *augmented)}
    recipe = recipe_of(list(checkpoints.values()))
    for path, checkpoint in checkpoints.items():
        expected = BASELINE if path in baselines else AUGMENTED
        if kind_of(checkpoint) != expected:
            raise InputError(f"{path}: by its record the network is of kind {kind_of(checkpoint)}; named as {expected}")
    data = pictures(test, training, validation_size=few(recipe["validation_size"], 20), split=recipe["split_seed"])
    cache = Store.of_user()
    networks = []
    for path, checkpoint in tqdm(checkpoints.items(), desc="networks", disable=None):
        classifier = Classifier(checkpoint.model, cache=cache)
        classifier.measure_precision_on(data.test)
        assert checkpoint.record is not None
        assert checkpoint.record.training is not None  # `recipe_of` saw to that.
        networks.append(
            Network(
                file=path.name,
                kind=kind_of(checkpoint),
                seed=checkpoint.record.training["seed"],
                sha256=checkpoint.model_sha256,
                values=values_of(classifier, data),
            )
        )
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    return Results(data.counts, recipe, versions, tuple(networks))


def _some(folder: Path) -> list[Path]:
    """Return the networks in a folder, one in a smoke run."""
    networks = sorted(folder.glob("*.safetensors"))
    return networks[: few(len(networks), 1)]


def _training_images() -> LabelledImages | None:
    try:
        return fashion_mnist("train")
    except InputError as error:
        print(f"the gap between training and validation images is not measured: {error}", file=sys.stderr)
        return None
