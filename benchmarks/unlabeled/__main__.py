"""Detection without labels: `python -m benchmarks.unlabeled`.

It prints how many mutants fail with and without labels. Each mutant is made of a model of the
shipped panel, which is left out of its own reference. The images are test images. Checks with
labels count consensus-set errors, those without count disagreements with the unanimous models. Both
judge all images and the worst class, by the same statistics. Classes that were predicted stay in
`--folder`.
"""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from benchmarks.detection.mutants import KINDS
from benchmarks.runner import fashion_mnist, few, option, run
from harness.data.images import sample_up_to, unit_range
from harness.features.unlabeled.measures import against, most_of_a_part, thresholds_on, unanimous
from harness.networks.checkpoints import load_checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

PANEL = tuple(sorted(Path("models/panel").glob("*.safetensors")))
MADE = (
    "weight-noise",
    "sign-flips",
    "pruned-channels",
    "quantised",
    "stale-statistics",
    "swapped-logits",
)
MUTANTS = {
    f"{name}, {strength.words}": (KINDS[name].weights, strength.amount)
    for name in MADE
    for strength in KINDS[name].strengths
}
ROWS = ("unlabeled-unanimous", "unlabeled-unanimous-class")


def main(*, folder: Path, images: int, parents: int) -> None:
    """Print the share of the mutants that both kinds of checks fail, by kind and strength."""
    panel = PANEL[: few(len(PANEL), 9)]
    chosen = range(len(panel))[:: -(-len(panel) // parents)]
    folder.mkdir(parents=True, exist_ok=True)
    data = sample_up_to(fashion_mnist("test"), images)
    pixels, labels = unit_range(data.pixels), data.labels.numpy()

    def votes(path: Path, kind: str = "") -> np.ndarray:
        kept = folder / f"{len(data)}-{path.stem}-{kind}.npy"
        if not kept.exists():
            checkpoint = load_checkpoint(path)
            if kind:
                damage, amount = MUTANTS[kind]
                checkpoint = damage(
                    checkpoint, amount, torch.Generator().manual_seed(int(path.stem[-3:]))
                )
            model = checkpoint.model.eval()
            with torch.inference_mode():
                found = torch.cat([model(part).argmax(dim=1) for part in pixels.split(500)]).numpy()
            np.save(kept, found)
        return np.load(kept)

    healthy = np.stack([votes(path) for path in panel])
    mutants = {(at, kind): votes(panel[at], kind) for at in chosen for kind in MUTANTS}
    limits = []
    for at in range(len(panel)):
        rest = np.delete(healthy, at, axis=0)
        # With labels, models agree where all are correct: a wrong prediction counts as a class of
        # its own.
        correct = np.where(
            rest == labels, labels, len(data.classes) + np.arange(len(rest))[:, None]
        )
        limits.append(
            [(unanimous(each), thresholds_on(each, {}, ROWS)) for each in (correct, rest)]
        )

    def fails(at: int, predicted: np.ndarray) -> Iterator[bool]:
        for expected, known in limits[at]:
            differ = against(predicted, expected)
            counts = (most_of_a_part(differ, expected, {}, part)[0] for part in (None, "class"))
            yield any(not known[row].holds(count) for row, count in zip(ROWS, counts, strict=True))

    found = [("healthy", *fails(at, own)) for at, own in enumerate(healthy)]
    found += [(kind, *fails(at, mutants[at, kind])) for kind in MUTANTS for at in chosen]
    found += [("all mutants", *each) for _, *each in found[len(panel) :]]
    print(
        "| networks | number | fail with labels | without | both |\n| --- | --- | --- | --- | --- |"
    )
    for kind, each in groupby(found, lambda one: one[0]):
        with_labels, without = np.array([one[1:] for one in each]).T
        both = (with_labels & without).sum()
        print(f"| {kind} | {len(without)} | {with_labels.sum()} | {without.sum()} | {both} |")


COMMANDS = {
    "": (
        main,
        option(
            "--folder",
            type=Path,
            default=Path("reports/unlabeled"),
            help="the folder of predictions",
        ),
        option("--images", type=int, default=2_000, help="a stratified sample of the test images"),
        option("--parents", type=int, default=5, help="reference models that mutants are made of"),
    )
}

if __name__ == "__main__":
    sys.exit(run(COMMANDS, "--folder votes --parents 2"))
