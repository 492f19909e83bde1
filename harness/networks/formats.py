"""Formats of files with a whole network, which nobody has to describe; features add them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.base.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.networks.checkpoints import Checkpoint
    from harness.networks.options import NetworkOptions


@dataclass(frozen=True)
class NetworkFormat:
    """A format of network files.

    Attributes:
        load: A function of a file and the options that returns its network, with no step before or
            after it. It raises `CheckpointRefused` for an irregular file.
    """

    load: Callable[[Path, NetworkOptions], Checkpoint]


NETWORK_FORMATS = Registry(
    "format of network files", NetworkFormat, {}, hook="stress_network_formats"
)
"""The formats by the suffix of a file, in lower case."""
