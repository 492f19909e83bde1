"""Train networks of a case, healthy and with faults, and store the statistics of their weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from benchmarks.detection.paths import CHECKPOINTS
from benchmarks.few.cases import CASES as CASES_OF_FEW
from benchmarks.few.cases import Case
from benchmarks.few.faults import Training, fault_of, healthy, images_of, write_network
from benchmarks.few.network import Recipe
from benchmarks.fingerprint.faults import FAULTS
from benchmarks.fingerprint.transformer import Transformer
from benchmarks.runner import ROOT, by_line, few, read, write
from harness.features.fingerprint.weights import WeightStatistic, statistics_of
from harness.inference.role import load

MEASURED = Path(__file__).parent / "measured"
HEALTHY = few(40, 4)
"""Number of healthy networks of a case."""
OF_A_FAULT = few(3, 1)
FIRST_SEED_OF_FAULTS = 1_001
_DIGITS = 6
FASHION = "fashion"
"""Name of the networks of Fashion-MNIST, which other benchmarks train."""
HEALTHY_NAME = "seed"


CASES: Mapping[str, Case] = {
    "shapes": CASES_OF_FEW["shapes"],
    "letters": CASES_OF_FEW["letters"],
    "transformer": replace(
        CASES_OF_FEW["letters"],
        make=Transformer,
        recipe=Recipe("adamw", rate=2e-3, epochs=6, batch=64, weight_decay=0.05),
    ),
    "voices": CASES_OF_FEW["voices"],
}
"""Networks by name, each a case of `benchmarks.few`, one with another network and recipe."""


@dataclass(frozen=True, eq=False)
class Measured:
    """Statistics of networks, (S,) float64 by their names, and the kind of each statistic."""

    kinds: np.ndarray
    networks: Mapping[str, np.ndarray]

    @property
    def healthy(self) -> np.ndarray:
        """Return the statistics of the healthy networks, (K, S)."""
        return np.array(
            [values for name, values in self.networks.items() if name.startswith(HEALTHY_NAME)]
        )

    @property
    def others(self) -> dict[str, np.ndarray]:
        """Return the statistics of all other networks, (S,), by their names."""
        return {
            name: values
            for name, values in self.networks.items()
            if not name.startswith(HEALTHY_NAME)
        }

    @property
    def faults(self) -> dict[str, np.ndarray]:
        """Return the statistics of the networks with each fault, (networks, S)."""
        by_fault: dict[str, list[np.ndarray]] = {}
        for name, values in self.others.items():
            by_fault.setdefault(fault_of(name), []).append(values)
        return {fault: np.array(values) for fault, values in by_fault.items()}


def measure(*, case: str, folder: Path | None) -> None:
    """Train the networks of a case that are not in `folder`, and store their statistics.

    Of Fashion-MNIST, nothing is trained: the shipped panel, the baselines of `benchmarks.claims`
    and the checkpoints of `benchmarks.detection` that are there.
    """
    torch.set_num_threads(1)
    work = (folder or ROOT / "runs/fingerprint").resolve()
    if case == FASHION:
        keep(case, _statistics_of_checkpoints(folder or CHECKPOINTS))
        return
    keep(case, {name: statistics_of(network) for name, network in networks_of(case, work).items()})


def networks_of(name: str, work: Path) -> dict[str, nn.Module]:
    """Return the networks of a case by their names, trained where their files are missing."""
    case = CASES[name]
    training_images, _ = images_of(case, work / case.name)
    networks = {}
    for network_name, seed, train in tqdm(list(_trainings()), unit="network", smoothing=0):
        path = work / f"{case.name}-{case.make.__name__.lower()}" / f"{network_name}.pth"
        if not path.exists():
            write_network(path, train(Training(*training_images, case, seed)))
        networks[network_name] = case.make(**case.model_args)
        networks[network_name].load_state_dict(torch.load(path))
    return networks


def read_measured(case: str) -> Measured | None:
    """Return the stored statistics of a case; None without any."""
    content = read(_file(case))
    if content is None:
        return None
    kinds = np.array([name.partition(" of ")[0] for name in content["statistics"]])
    return Measured(kinds, {name: np.array(values) for name, values in content["networks"].items()})


def keep(case: str, statistics: Mapping[str, Iterable[WeightStatistic]]) -> None:
    """Store the statistics of networks by their names; stored ones of other networks stay."""
    names = [statistic.name for statistic in next(iter(statistics.values()))]
    stored: Any = read(_file(case), {"networks": {}})
    rows = {
        name: [round(statistic.value, _DIGITS) for statistic in own]
        for name, own in statistics.items()
    }
    networks = by_line(stored["networks"] | rows, indent=2)
    write(_file(case), by_line({"statistics": json.dumps(names), "networks": networks}, str) + "\n")


def _file(case: str) -> Path:
    return MEASURED / f"{case}.json"


def _trainings() -> Iterable[tuple[str, int, Callable[..., nn.Module]]]:
    for seed in range(1, HEALTHY + 1):
        yield f"{HEALTHY_NAME}-{seed:02}", seed, healthy
    for position, (fault, train) in enumerate(FAULTS.items()):
        for number in range(OF_A_FAULT):
            seed = FIRST_SEED_OF_FAULTS + 10 * position + number
            yield f"{fault.replace(' ', '-')}-{number + 1}", seed, train


def _statistics_of_checkpoints(folder: Path) -> dict[str, tuple[WeightStatistic, ...]]:
    paths = {path.stem: path for path in sorted((ROOT / "models/panel").glob("*.safetensors"))}
    baselines = sorted((ROOT / "benchmarks/claims/baselines").glob("*.safetensors"))
    paths |= {f"no-augmentation-{number}": path for number, path in enumerate(baselines, start=1)}
    paths |= {path.stem: path for path in sorted(folder.glob("*.safetensors"))}
    statistics = {}
    for name, path in paths.items():
        model = load(path).model
        assert isinstance(model, nn.Module)
        statistics[name] = statistics_of(model)
    return statistics
