"""Mutants that need no training, each left out of its own reference.

And the faults that the checks of easy images detect.

`python -m benchmarks.derived` writes the page. Its commands `measure`, which is resumable, and
`judge` make its results. `slices` makes those on the page of found slices.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.derived import slices as found_slices
from benchmarks.derived.judge import Network, failing, panel_of, thresholds, values_of
from benchmarks.derived.networks import MUTATIONS, measure
from benchmarks.runner import ROOT, fashion_mnist, few, keep, option, read, run, write_between

HERE = Path(__file__).parent
RESULTS, SLICES = HERE / "results.json", HERE / "slices.json"
PAIRS = [
    ("Shirt", "T-shirt/top"),
    ("Coat", "Pullover"),
    ("Sandal", "Sneaker"),
    ("Dress", "Coat"),
    ("Ankle boot", "Sneaker"),
]
"""The confusable pairs of the shipped checks file, each judged in both directions."""
BOTH_WAYS = [pair for one, two in PAIRS for pair in ((one, two), (two, one))]
_FEW, _DRAWS = 8, few(20, 1)
"""Reference models of a small panel, and panels drawn."""


def page() -> None:
    """Write the table of the stored results."""
    write_between(HERE / "README.md", "derived", table_of(read(RESULTS)))
    if SLICES.exists():
        write_between(
            ROOT / "docs/behaviours/slices.md", "slices", found_slices.table_of(read(SLICES))
        )


def judge(*, folder: Path) -> None:
    """Judge the networks that are measured, and store what they fail."""
    keep(RESULTS, results(folder))


def slices(*, folder: Path) -> None:
    """Measure the worst slices of measured networks.

    Networks that lose a few images of a class follow.
    """
    images = fashion_mnist("test")
    networks = {
        path.stem: Network.of(path.stem, np.load(path), images)
        for path in sorted(folder.glob("*-*.npz"))
    }
    keep(SLICES, found_slices.results(networks, BOTH_WAYS))


def results(folder: Path) -> dict[str, Any]:
    """Return the checks that each network fails, and the alarms of small panels.

    A network is left out of its own reference.
    """
    images, pairs = fashion_mnist("test"), BOTH_WAYS
    files = {path.stem: path for path in sorted(folder.glob("*.npz"))}

    def network(name: str) -> Network:
        return Network.of(name, np.load(files[name]), images)

    panel = [network(name) for name in files if name.startswith("panel-")]
    sound, mutants = {}, {}
    for own in panel:
        others = [each for each in panel if each is not own]
        known = panel_of(others)
        limits = thresholds([values_of(each, known, pairs) for each in others])
        sound[own.name] = failing(values_of(own, known, pairs), limits)
        for name in files:
            if name.rpartition("-")[0] in MUTATIONS and name.endswith(own.name[-3:]):
                values = values_of(network(name), known, pairs)
                mutants[name] = {
                    "old": failing(values, limits, old=True),
                    "all": failing(values, limits),
                }
        print(own.name, sound[own.name], flush=True)
    small, rng = [], np.random.default_rng(0)
    for _ in range(_DRAWS):
        chosen = rng.permutation(len(panel))
        inside, outside = ([panel[at] for at in part] for part in (chosen[:_FEW], chosen[_FEW:]))
        known = panel_of(inside)
        limits = thresholds([values_of(each, known, pairs) for each in inside])
        small += [failing(values_of(each, known, pairs), limits) for each in outside]
    return {
        "sound": sound,
        "mutants": mutants,
        "few": {"n": len(small), "failing": [each for each in small if each]},
    }


def table_of(found: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    families = ("consensus", "soft_confusion", "batch_norm")
    lines = [
        "| mutation | half | consensus errors alone | all | divergence and lost probability | "
        "soft confusions | batch norms |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, (_, _, chosen) in MUTATIONS.items():
        rows = [each for key, each in found["mutants"].items() if key.rpartition("-")[0] == name]
        if not rows:
            continue
        new = [[check for check in each["all"] if check not in each["old"]] for each in rows]
        counts = [sum(bool(each[key]) for each in rows) for key in ("old", "all")]
        counts += [
            sum(any(check.startswith(f"{family}/") for check in each) for each in new)
            for family in families
        ]
        half = "chosen on" if chosen else "confirmed on"
        lines.append(
            f"| {name} | {half} | "
            + " | ".join(f"{count} of {len(rows)}" for count in counts)
            + " |"
        )
    alarms = {name: checks for name, checks in found["sound"].items() if checks}
    failing = "; ".join(f"{name}: " + ", ".join(checks) for name, checks in alarms.items())
    lines += [
        "",
        f"Healthy networks, each against the thresholds of the others: {len(alarms)} of "
        f"{len(found['sound'])} fail "
        f"({failing or 'none'}).",
        f"Panels of {_FEW}: {len(found['few']['failing'])} of {found['few']['n']} healthy "
        "networks outside fail.",
    ]
    return "\n".join(lines)


FOLDER = option(
    "--folder", type=Path, default=Path("runs/derived"), help="the folder of measurements"
)
COMMANDS = {
    "": (page,),
    "measure": (measure, FOLDER),
    "judge": (judge, FOLDER),
    "slices": (slices, FOLDER),
}

if __name__ == "__main__":
    sys.exit(run(COMMANDS, "measure", "judge", ""))
