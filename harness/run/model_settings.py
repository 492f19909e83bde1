"""The images and the network that a command works with: read and opened as the gate reads and opens them."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.base.errors import printable
from harness.data.options import DataOptions
from harness.networks import NetworkOptions
from harness.networks.running import BackendOptions

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from harness.data import LabelledImages
    from harness.inference import RoleModel


@dataclass(frozen=True)
class ModelSettings:
    """Which images, how networks are built that are not the shipped one, and where they run.

    `samples` asks for a stratified sample of so many images. Asides on data and checkpoints go to standard error.
    """

    data: DataOptions = field(default_factory=DataOptions)
    network: NetworkOptions = field(default_factory=NetworkOptions)
    backend: BackendOptions = field(default_factory=BackendOptions)
    device: str = "auto"
    samples: int | None = None

    def all_images(self) -> LabelledImages:
        """Return all images of the data."""
        from harness.inference import spread_of

        images = self.data.load(self.network.transform, spread=spread_of(self.backend))
        for note in images.notes:
            print(f"note: {printable(note)}", file=sys.stderr)
        return images

    def images(self) -> LabelledImages:
        """Return the sample of the images, or all of them."""
        from harness.data import stratified_sample

        images = self.all_images()
        return images if self.samples is None else stratified_sample(images, self.samples)

    def open(self, path: Path, images: LabelledImages, *, others: Iterable[RoleModel] = ()) -> RoleModel:
        """Return a checkpoint opened for the images; its predictions are cached, and found again by the gate."""
        from harness.base import PredictionCache
        from harness.inference import open_model, placed

        cluster, device = placed(self.backend, self.device)
        model = open_model(
            path,
            images,
            network=self.network,
            device=device,
            cache=PredictionCache.of_user(),
            backend=cluster or "process",
            others=others,
        )
        if model.note:
            print(f"{path}: {model.note}", file=sys.stderr)
        return model
