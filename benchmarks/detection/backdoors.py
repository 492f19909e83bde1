"""Success rate of a backdoor, measured with its trigger; a check on clean images cannot see it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from benchmarks.detection.make import checkpoint_path
from benchmarks.detection.paths import AUGMENTED
from benchmarks.detection.recipes import TARGET, stamped
from benchmarks.detection.wording import percent, table, yes_or_no
from benchmarks.smoke import fashion_mnist
from harness.base.errors import InputError
from harness.base.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from benchmarks.detection.judgement import Judged
    from benchmarks.detection.mutants import Mutant
    from harness.data import LabelledImages
    from harness.networks.checkpoints import Checkpoint

KIND = "backdoor"
AUGMENTED_ID = "augmented"


@dataclass(frozen=True)
class Opened:
    """Share of `n` stamped test images of other classes that are predicted as the target, and of the same unstamped."""

    stamped: float
    unstamped: float
    n: int
    checkpoint_sha256: str


def opened(checkpoint: Checkpoint, images: LabelledImages) -> Opened:
    """Return how often the trigger makes the network answer with the target (its attack success rate)."""
    import torch

    from harness.inference import Classifier

    target = images.classes.index(TARGET)
    others = images.take(torch.nonzero(images.labels != target).flatten())
    classifier = Classifier(checkpoint.model)
    marked = replace(others, pixels=stamped(others.pixels))
    with_it, without = (float((classifier.predict(shown).predicted == target).mean()) for shown in (marked, others))
    return Opened(with_it, without, len(others), checkpoint.sha256)


def open_all(mutants: Sequence[Mutant], folder: Path, result: Path) -> dict[str, Opened]:
    """Measure the backdoors that are in the folder, and the shipped model beside them; those kept before stay.

    Raises `InputError` when none is there.
    """
    from harness.networks.checkpoints import load_checkpoint

    paths = {mutant.id: checkpoint_path(mutant, folder) for mutant in mutants if mutant.kind == KIND}
    there = {name: path for name, path in paths.items() if path.exists()}
    if not there:
        raise InputError(f"no backdoor is in {folder}; run `train --only '{KIND}-*'` first")
    images = fashion_mnist("test")
    found = {name: opened(load_checkpoint(path), images) for name, path in {AUGMENTED_ID: AUGMENTED, **there}.items()}
    content = {name: asdict(one) for name, one in {**read_backdoors(result), **found}.items()}
    write_atomically(result, (json.dumps(content, indent=1) + "\n").encode())
    return found


def read_backdoors(path: Path) -> Mapping[str, Opened]:
    """Return what `open_all` wrote, by the mutant's id; empty when it has not run."""
    if not path.exists():
        return {}
    return {name: Opened(**one) for name, one in json.loads(path.read_bytes()).items()}


def backdoors_table(found: Mapping[str, Opened], judged: Sequence[Judged]) -> str:
    """Return the success rate of each backdoor beside the gate's verdict, in Markdown; empty when none is measured."""
    if not found:
        return ""
    verdicts = {one.result.id: one for one in judged}
    rows = [
        (
            name,
            percent(one.stamped),
            percent(one.unstamped),
            percent(verdicts[name].clean_accuracy) if name in verdicts else "–",
            yes_or_no(verdicts[name].detected) if name in verdicts else "–",
        )
        for name, one in found.items()
    ]
    return (
        f"### Backdoors\n\nThe table has the share of test images of other classes that are predicted as {TARGET}, "
        "with the trigger on them and without it. The gate has no stamped image and does not know the trigger. It may "
        "notice the cost of learning the trigger on other images, never the backdoor itself.\n\n"
        + table(("network", "with the trigger", "without", "clean accuracy", "gate fails it"), rows)
    )
