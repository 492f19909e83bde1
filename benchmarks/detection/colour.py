"""Channels in the wrong order, on color data: the digits of `examples/`, served as BGR or GBR.

The garments are gray, so this fault is measured on the example's data, by the example's own checks
and network.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.detection.jobs import say
from benchmarks.detection.paths import RESULTS
from benchmarks.runner import ROOT, few, keep, python, read
from harness.base.files import hash_of_file

COLOUR = RESULTS / "colour.json"
DIGITS = ROOT / "examples/digits_on_photos"
ORDERS: Mapping[str, tuple[int, int, int]] = {"RGB": (0, 1, 2), "BGR": (2, 1, 0), "GBR": (1, 2, 0)}
"""Orders of channels that the network gets; it was trained with the first."""
SEEDS = (201, 202, 203)[: few(3, 1)]
"""Seeds outside the ten of the example's panel."""
EPOCHS = few(25, 2)


@dataclass(frozen=True)
class Shown:
    """Verdict of the example's gate on a network that sees channels in this order.

    `failed` are ids of rows.
    """

    order: str
    seed: int
    exit_status: int
    clean_accuracy: float
    failed: Sequence[str]
    checks_sha256: str
    checkpoint_sha256: str


def reordered(state: Mapping[str, Tensor], order: Sequence[int]) -> dict[str, Tensor]:
    """Return weights of a network that sees channels in this order and answers as before.

    Shown channel i is `order[i]` of the picture, and meets the weights of channel i: those for
    `order[i]`, then.
    """
    place = [list(order).index(channel) for channel in range(len(order))]
    return {**state, "conv1.weight": state["conv1.weight"][:, place].contiguous()}


def show_all(*, checkpoints: Path) -> None:
    """Show the network of examples/digits_on_photos its channels in the wrong order.

    It is trained anew for each seed, on a copy of the example. Results of the same weights and
    checks are not measured again. Raises `InputError` when a training or a check ends without an
    answer.
    """
    example = checkpoints.resolve() / "digits_on_photos"
    shutil.copytree(DIGITS, example, dirs_exist_ok=True)
    if not (example / "digits.npz").exists():
        python(example, "digits_on_photos.py", "data")
    kept = {(one.checkpoint_sha256, one.checks_sha256): one for one in read_colour()}
    checks_sha256 = hash_of_file(example / "stress_tests/checks.toml")
    found: list[Shown] = []
    for seed in SEEDS:
        trained = example / f"runs/seed-{seed}.pth"
        if not trained.exists():
            options = (str(trained), "--seed", str(seed), "--epochs", str(EPOCHS))
            python(example, "digits_on_photos.py", "train", *options)
        state = torch.load(trained, weights_only=True)
        for name, order in ORDERS.items():
            candidate = example / f"runs/{name}-seed-{seed}.pth"
            torch.save(reordered(state, order), candidate)
            one = kept.get((str(hash_of_file(candidate)), str(checks_sha256)))
            found.append(one or _gated(example, candidate, name, seed))
            keep(COLOUR, found)
            failed = len(found[-1].failed)
            say(
                f"seed {seed} shown {name}: clean accuracy {found[-1].clean_accuracy:.4f}, "
                f"{failed} rows fail"
            )


def read_colour() -> tuple[Shown, ...]:
    """Return what `show_all` wrote; empty when it has not run."""
    return tuple(Shown(**one) for one in read(COLOUR, ()))


def _gated(example: Path, candidate: Path, order: str, seed: int) -> Shown:
    reports = example / "reports" / candidate.stem
    shutil.rmtree(reports, ignore_errors=True)
    options = (
        "--candidate",
        str(candidate),
        "--incumbent",
        "none",
        "--stress-reports",
        str(reports),
    )
    quiet = ("-p", "no:html", "-p", "no:cacheprovider", "-q")
    status = python(example, "-m", "pytest", *options, *quiet, allowed=(0, 1))
    stress = read(reports / "stress.json")
    rows = {row["id"]: row for row in stress["checks"] if row["role"] == "candidate"}
    failed = [name for name, row in rows.items() if row["status"] == "fail"]
    of_these_files = stress["checks_sha256"], stress["candidate"]["sha256"]
    return Shown(order, seed, status, rows["clean"]["value"], failed, *of_these_files)
