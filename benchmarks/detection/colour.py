"""Channels in the wrong order, on color data: the digits of `examples/`, served as BGR or GBR.

The garments are gray, so this fault is measured on the example's data, by the example's own checks and network.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from benchmarks.detection.jobs import python, say
from benchmarks.detection.paths import DIGITS, ROOT, sha256_of
from benchmarks.detection.wording import many, percent, table
from benchmarks.smoke import few
from harness.base.errors import InputError
from harness.base.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

ORDERS: Mapping[str, tuple[int, int, int]] = {"RGB": (0, 1, 2), "BGR": (2, 1, 0), "GBR": (1, 2, 0)}
"""Orders of channels that the network gets; it was trained with the first."""
SEEDS = (201, 202, 203)[: few(3, 1)]
"""Seeds outside the ten of the example's panel."""
EPOCHS = few(25, 2)


@dataclass(frozen=True)
class Shown:
    """Verdict of the example's gate on a network that sees channels in this order; `failed` are ids of rows."""

    order: str
    seed: int
    exit_status: int
    clean_accuracy: float
    failed: Sequence[str]
    checks_sha256: str
    checkpoint_sha256: str


def reordered(state: Mapping[str, Tensor], order: Sequence[int]) -> dict[str, Tensor]:
    """Return the weights of a network that answers as the one given does when shown its channels in this order.

    Shown channel i is `order[i]` of the picture, and meets the weights of channel i: those for `order[i]`, then.
    """
    place = [list(order).index(channel) for channel in range(len(order))]
    return {**state, "conv1.weight": state["conv1.weight"][:, place].contiguous()}


def show_all(folder: Path, result: Path) -> tuple[Shown, ...]:
    """Train the example's network anew for each seed, show it each order, and write what its gate says, as JSON.

    Works in `folder`, on a copy of the example; what is kept of the same weights and checks is not measured again.
    Raises `InputError` when a training or a check ends without an answer.
    """
    import torch

    example = folder / "digits_on_photos"
    shutil.copytree(DIGITS, example, dirs_exist_ok=True)
    if not (example / "digits.npz").exists():
        _run(example, "digits_on_photos.py", "data")
    kept = {(one.checkpoint_sha256, one.checks_sha256): one for one in read_colour(result)}
    checks_sha256 = sha256_of(example / "stress_tests/checks.toml")
    found: list[Shown] = []
    for seed in SEEDS:
        trained = example / f"runs/seed-{seed}.pth"
        if not trained.exists():
            _run(example, "digits_on_photos.py", "train", str(trained), "--seed", str(seed), "--epochs", str(EPOCHS))
        state = torch.load(trained, weights_only=True)
        for name, order in ORDERS.items():
            candidate = example / f"runs/{name}-seed-{seed}.pth"
            torch.save(reordered(state, order), candidate)
            one = kept.get((sha256_of(candidate), checks_sha256)) or _gated(example, candidate, name, seed)
            found.append(one)
            write_atomically(result, (json.dumps([asdict(each) for each in found], indent=1) + "\n").encode())
            say(f"seed {seed} shown {name}: clean accuracy {one.clean_accuracy:.4f}, {len(one.failed)} rows fail")
    return tuple(found)


def read_colour(path: Path) -> tuple[Shown, ...]:
    """Return what `show_all` wrote; empty when it has not run."""
    return tuple(Shown(**one) for one in json.loads(path.read_bytes())) if path.exists() else ()


def colour_table(found: Sequence[Shown]) -> str:
    """Return the verdicts of the example's gate on each order of channels, in Markdown; empty without results."""
    if not found:
        return ""
    rows = []
    for order in dict.fromkeys(one.order for one in found):
        group = [one for one in found if one.order == order]
        rows.append(
            (
                order,
                f"{sum(bool(one.failed) for one in group)} of {len(group)}",
                ", ".join(many(len(one.failed), "row") for one in group),
                ", ".join(percent(one.clean_accuracy) for one in group),
            )
        )
    return (
        "### Channels in the wrong order\n\nThe garments are gray, so this table uses the colored digits of "
        "`examples/digits_on_photos` and the example's own checks. Its network, trained anew, sees the channels in the "
        "order of its training (RGB) and in two wrong orders.\n\n"
        + table(("shown", "the gate fails", "by", "clean accuracy"), rows)
    )


def _gated(example: Path, candidate: Path, order: str, seed: int) -> Shown:
    reports = example / "reports" / candidate.stem
    shutil.rmtree(reports, ignore_errors=True)
    options = ("--candidate", str(candidate), "--incumbent", "none", "--stress-reports", str(reports))
    status = _run(example, "-m", "pytest", *options, "-p", "no:html", "-p", "no:cacheprovider", "-q", allowed=(0, 1))
    stress = json.loads((reports / "stress.json").read_bytes())
    rows = {row["id"]: row for row in stress["checks"] if row["role"] == "candidate"}
    failed = [name for name, row in rows.items() if row["status"] == "fail"]
    of_these_files = stress["checks_sha256"], stress["candidate"]["sha256"]
    return Shown(order, seed, status, rows["clean"]["value"], failed, *of_these_files)


def _run(folder: Path, *arguments: str, allowed: Sequence[int] = (0,)) -> int:
    """Run Python in a folder, the harness's own checkout first among its modules; returns the exit status."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(  # noqa: S603  The command is ours.
        python(*arguments), cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode not in allowed:
        raise InputError(f"{' '.join(arguments)} ended with {done.returncode}: {(done.stderr or done.stdout)[-2000:]}")
    return done.returncode
