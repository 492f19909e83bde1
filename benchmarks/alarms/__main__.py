"""The rate of false alarms, measured with thousands of small networks of one recipe.

`python -m benchmarks.alarms` prints the tables of the recorded networks; its command `train` trains
them. `--logits FILE` measures the networks of a file instead.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from benchmarks.alarms.domains import DOMAINS
from benchmarks.alarms.rates import Setting, settings_of
from benchmarks.alarms.report import tables
from benchmarks.alarms.sources import measure_all, read_logits, trained_source
from benchmarks.alarms.train import train_all
from benchmarks.runner import keep, option, run, write_between

README, RESULTS = (Path(__file__).parent / name for name in ("README.md", "results.json"))


def main(*, logits: Path | None, write: bool, jobs: int) -> None:
    """Measure the recorded networks, and print the tables."""
    if logits is not None:
        recorded = read_logits(logits)
        settings = [setting for size in recorded.sizes for setting in settings_of(recorded, size)]
        print(tables({recorded.title: settings}))
        return

    for name in DOMAINS:
        measure_all(name, jobs=jobs)
    results = results_of_domains(jobs)
    text = tables(results)
    print(text)
    if write:
        keep(RESULTS, results)
        write_between(README, "alarms", text)


def results_of_domains(jobs: int) -> Mapping[str, Sequence[Setting]]:
    """Return the settings of the domains by their titles."""
    tasks = [(name, size) for name, domain in DOMAINS.items() for size in domain.sizes]
    if jobs == 1:
        parts = [_settings(*task) for task in tasks]
    else:
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            parts = list(pool.map(_settings, *zip(*tasks, strict=True)))
    results: dict[str, list[Setting]] = {domain.title: [] for domain in DOMAINS.values()}
    for (name, _), settings in zip(tasks, parts, strict=True):
        results[DOMAINS[name].title] += settings
    return results


def _settings(name: str, size: int) -> list[Setting]:
    return settings_of(trained_source(name), size)


COMMANDS = {
    "": (
        main,
        option(
            "--logits",
            type=Path,
            metavar="FILE",
            help="an npz file with `logits` of healthy networks of one recipe, and `labels`",
        ),
        option("--jobs", type=int, default=1, help="number of processes (default: 1)"),
        option(
            "--write",
            action="store_true",
            help="put the tables into README.md, the numbers beside it",
        ),
    ),
    "train": (
        train_all,
        option("--domain", choices=DOMAINS, help="train the networks of this domain alone"),
    ),
}

if __name__ == "__main__":
    sys.exit(run(COMMANDS, "train", "--write"))
