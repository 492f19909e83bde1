"""Trial run of a network in native code, in a process of its own, before any other process runs it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.networks.checkpoints import trial_script
from harness.networks.checkpoints.files import CheckpointRefused

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_PATIENCE = 10
"""Factor from processor seconds to the time limit of a trial, since other processes share the machine."""


@dataclass(frozen=True)
class Trial:
    """The limits of a trial by an `engine`, a package of `trial_script.ENGINES`.

    A trial gets `seconds` of one core, and `megabytes` plus four times the network's size. In messages, `doing` names
    the engine's work and `advice` the remedy.
    """

    engine: str
    megabytes: int
    seconds: int
    doing: str
    advice: str


def expect_moderate(trial: Trial, content: bytes, path: Path, shape: Sequence[int], *, weights: bytes = b"") -> None:
    """Raise `CheckpointRefused` for a network that takes too long, or too much memory, for one blank image.

    `content` describes it, `weights` are external ones, and `shape` is (C, H, W). A small file may expand to any size
    or loop forever, and this process could not stop native code.
    """
    megabytes, patience = trial.megabytes + 4 * ((len(content) + len(weights)) >> 20), _PATIENCE * trial.seconds
    numbers = (megabytes, trial.seconds, len(content), *shape)
    command = [sys.executable, "-P", trial_script.__file__, trial.engine, *map(str, numbers)]
    try:
        ended = subprocess.run(command, input=content + weights, capture_output=True, timeout=patience, check=False)  # noqa: S603  Our own script.
    except subprocess.TimeoutExpired:
        fact = f"{trial.doing} it and one image took more than {patience} s"
    else:
        if ended.returncode == 0:
            return
        fact = f"{trial.doing} it and one image took more than {megabytes} MB or {trial.seconds} s, or crashed"
    raise CheckpointRefused("RESOURCE", path, fact, trial.advice)
