"""A model of the time that a check takes on a cluster.

Decode, transfer, compute, merge, and what one driver can do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.features.cluster.backend import ranges


@dataclass(frozen=True)
class Constants:
    """Times measured on one machine.

    Milliseconds: decoding and predicting a picture on one core, a call without any work, and each
    of its ranges. Microseconds: joining an image's logits. The others are bytes of an image,
    megabytes a second that a worker reads from a file, and images of a batch.
    """

    decode_ms: float
    compute_ms: float
    image_bytes: int
    file_mb_s: float
    call_ms: float
    range_ms: float
    merge_us: float
    batch: int


@dataclass(frozen=True)
class Predicted:
    """Seconds of each part of a check.

    The driver's part runs beside the computing, and counts where it is longer.
    """

    decode: float
    transfer: float
    compute: float
    driver: float
    tail: float
    merge: float

    @property
    def total(self) -> float:
        """Return the seconds of all."""
        return self.decode + self.transfer + max(self.compute, self.driver) + self.tail + self.merge

    @property
    def bottleneck(self) -> str:
        """Return the part that takes longest."""
        parts = {
            "decode": self.decode,
            "transfer": self.transfer,
            "compute": self.compute,
            "driver": self.driver,
        }
        return max(parts, key=parts.__getitem__)


def predicted(
    constants: Constants,
    *,
    images: int,
    perturbations: int,
    nodes: int,
    cores: int,
    decoded: bool = False,
) -> Predicted:
    """Return the time of a check on nodes with `cores` cores each.

    It has these images and perturbations. Unless they are `decoded`, all nodes decode the pictures
    once into a file on shared storage. The driver writes it. Ray gives ranges to any node, so each
    node reads other images for each perturbation until it has read all. It has them in its page
    cache from then on.
    """
    c, workers = constants, nodes * cores
    most = max(1, min(64, (32 << 20) // (c.batch * c.image_bytes)))
    count = len(list(ranges(-(-images // c.batch), size=1, workers=workers, most=most)))
    return Predicted(
        decode=0.0
        if decoded
        else images * max(c.decode_ms / 1e3 / workers, c.image_bytes / (c.file_mb_s * 1e6)),
        transfer=images * c.image_bytes * min(1, perturbations / nodes) / (c.file_mb_s * 1e6),
        compute=images * perturbations * c.compute_ms / 1e3 / workers,
        driver=perturbations * (c.call_ms + count * c.range_ms) / 1e3,
        # The last range of a call is a batch; who is done waits for half of one.
        tail=perturbations * min(c.batch, math.ceil(images / workers)) * c.compute_ms / 2e3,
        merge=perturbations * images * c.merge_us / 1e6,
    )
