"""The claims of the study that the harness grew from, each with a measure.

They are tested on many seeds of both models. `python -m benchmarks.claims` measures every network,
decides the claims, and writes the tables.
"""

from __future__ import annotations

import math
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from tqdm import tqdm

from benchmarks.claims.claims import CLAIMS, Claim, Decision, Verdict, decide
from benchmarks.claims.measure import (
    AUGMENTED,
    BASELINE,
    Network,
    kind_of,
    pictures,
    recipe_of,
    values_of,
)
from benchmarks.runner import (
    ROOT,
    fashion_mnist,
    few,
    keep,
    option,
    read,
    run,
    table,
    write_between,
)
from harness.base.cache import Store
from harness.base.errors import InputError
from harness.data import LabelledImages
from harness.inference import Classifier
from harness.networks.checkpoints import load_checkpoint

HERE, MODELS = Path(__file__).parent, ROOT / "models"
KEPT = HERE / "baselines"
"""Baselines in half precision that come with the benchmark, besides the shipped baseline."""
RESULTS = HERE / "results.json"


@dataclass(frozen=True)
class Results:
    """Measurements of all networks, with their images, recipe and versions."""

    images: Mapping[str, int]
    recipe: Mapping[str, Any]
    versions: Mapping[str, str]
    networks: tuple[Network, ...]

    def values(self, kind: str, name: str) -> list[float]:
        """Return a measure's values of the networks of a kind, those that have it."""
        return [
            one.values[name] for one in self.networks if one.kind == kind and name in one.values
        ]

    def seeds(self, kind: str) -> list[int]:
        """Return the seeds of the networks of a kind, ascending."""
        return sorted(one.seed for one in self.networks if one.kind == kind)

    def decide(self, claim: Claim) -> Decision:
        """Decide a claim by the networks."""
        return decide(
            claim, self.values(BASELINE, claim.value), self.values(AUGMENTED, claim.value)
        )


def read_results(path: Path = RESULTS) -> Results:
    """Return the results in a file; raises `InputError` when it cannot be used."""
    content = read(path)
    try:
        return Results(
            **{**content, "networks": tuple(Network(**one) for one in content["networks"])}
        )
    except (TypeError, KeyError) as error:
        raise InputError(
            f"{path}: no results ({error!r}); `python -m benchmarks.claims` measures them"
        ) from None


def measure(
    baselines: Sequence[Path],
    augmented: Sequence[Path],
    test: LabelledImages,
    training: LabelledImages | None,
) -> Results:
    """Measure every network; what was predicted before is taken from the user's cache.

    Raises `InputError` for networks that differ in more than seed and augmentation, or that are not
    of their kind.
    """
    checkpoints = {path: load_checkpoint(path) for path in (*baselines, *augmented)}
    recipe = recipe_of(list(checkpoints.values()))
    for path, checkpoint in checkpoints.items():
        expected = BASELINE if path in baselines else AUGMENTED
        if kind_of(checkpoint) != expected:
            raise InputError(
                f"{path}: by its record the network is of kind {kind_of(checkpoint)}; named as "
                f"{expected}"
            )
    data = pictures(
        test,
        training,
        validation_size=few(recipe["validation_size"], 20),
        split=recipe["split_seed"],
    )
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
        print(
            f"the gap between training and validation images is not measured: {error}",
            file=sys.stderr,
        )
        return None


def full_table(results: Results) -> str:
    """Return the benchmark's table in Markdown, with the names of its networks."""
    rows = []
    for claim in CLAIMS:
        decision, images = results.decide(claim), results.images.get(claim.images, 0)
        low, high = (_signed(end, claim) for end in decision.interval)
        counted = f"{images:,}" if images else "no training images"
        facts = (_facts(each, claim) for each in (decision.baseline, decision.augmented))
        found = (_signed(decision.estimate, claim), f"{low} to {high}", _verdict(decision))
        rows.append((claim.says, claim.measure, counted, *facts, *found))
    head = (
        "claim",
        "measure",
        "images",
        "baseline",
        "augmented",
        "estimate",
        "95% interval",
        "verdict",
    )
    verdicts = [results.decide(claim).verdict for claim in CLAIMS]
    counts = ", ".join(
        f"{verdicts.count(name)} {name}" for name in get_args(Verdict) if name in verdicts
    )
    return (
        f"{_networks(results, BASELINE)} and {_networks(results, AUGMENTED)}, measured with torch "
        f"{results.versions.get('torch', 'unknown')}.\n\n{table(head, rows)}\n\n"
        f"The verdicts on {len(CLAIMS)} claims are {counts}."
    )


def _networks(results: Results, kind: str) -> str:
    seeds = results.seeds(kind)
    many = "s" if len(seeds) != 1 else ""
    return f"{len(seeds)} {kind} network{many} (seed{many} {_spans(seeds)})"


def _spans(numbers: Sequence[int]) -> str:
    """Return ascending numbers with runs put together, such as "1 to 20, 42"."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][-1] + 1:
            spans[-1][1:] = [number]
        else:
            spans.append([number])
    return (
        ", ".join(
            (" to " if span[-1] - span[0] > 1 else ", ").join(map(str, span)) for span in spans
        )
        or "none"
    )


def _facts(facts: tuple[float, float, int], claim: Claim) -> str:
    mean, std, _ = facts
    spread = "" if math.isnan(std) else f" ± {_scaled(std, claim)}"
    return f"{_number(mean, claim)}{spread}"


def _number(value: float, claim: Claim) -> str:
    if math.isnan(value):
        return "–"
    return _scaled(value, claim) + {"share": "%", "points": " points"}.get(claim.unit, "")


def _signed(value: float, claim: Claim) -> str:
    if math.isnan(value):
        return "–"
    points = claim.unit in {"share", "points"}
    return ("+" if value >= 0 else "−") + _scaled(abs(value), claim) + (" points" if points else "")


def _scaled(value: float, claim: Claim) -> str:
    scale, digits = {"share": (100, 2), "points": (100, 2), "images": (1, 0)}.get(
        claim.unit, (1, 3)
    )
    return f"{value * scale:.{digits}f}".replace("-", "−")


def _verdict(decision: Decision) -> str:
    return f"**{decision.verdict}**" if decision.verdict == "refuted" else decision.verdict


def main(*, baselines: Sequence[Path] | None, report: bool) -> None:
    """Measure every network, unless only the report is wanted, and decide the claims."""
    if report:
        results = read_results()
    else:
        augmented = [MODELS / "augmented.safetensors", *_some(MODELS / "panel")]
        baselines = baselines or [MODELS / "baseline.safetensors", *_some(KEPT)]
        results = measure(baselines, augmented, fashion_mnist("test"), _training_images())
        keep(RESULTS, results)
    write_between(HERE / "README.md", "claims", full_table(results))
    for claim in CLAIMS:
        print(f"{results.decide(claim).verdict}: {claim.says}")


COMMANDS = {
    "": (
        main,
        option(
            "--baselines",
            type=Path,
            nargs="+",
            metavar="FILE",
            help="networks without augmentation (default: the shipped one and those of "
            "benchmarks/claims/baselines)",
        ),
        option(
            "--report",
            action="store_true",
            help="decide and write from results.json; measure nothing",
        ),
    )
}

if __name__ == "__main__":
    sys.exit(run(COMMANDS))
