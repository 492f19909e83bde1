"""The images and the network that a command works with: read and opened as the gate reads and opens them."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.base.errors import printable
from harness.base.settings import Setting
from harness.data.settings import DATA_SETTINGS
from harness.networks.options import CHOICE_SETTINGS, NETWORK_SETTINGS, NetworkOptions
from harness.networks.running import BACKEND_SETTINGS, BackendOptions

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from harness.data import LabelledImages
    from harness.data.options import DataOptions
    from harness.inference import RoleModel

__all__ = [
    "BACKEND_SETTINGS",
    "CHOICE_SETTINGS",
    "DATA_AND_NETWORK",
    "MODEL_SETTINGS",
    "ModelSettings",
    "device_setting",
]


def device_setting(about: str) -> Setting:
    """Return the setting of a device; `about` begins its help."""
    return Setting(
        "device",
        f"{about}: auto, cpu, cuda or mps; auto is the first available of cuda, mps and cpu (default: auto).",
        "scope",
        default="auto",
        metavar="DEVICE",
    )


DATA_AND_NETWORK = (*DATA_SETTINGS, *NETWORK_SETTINGS)
"""The settings of data and network. None of the settings here needs NumPy: help is made of them."""
MODEL_SETTINGS = (
    *DATA_AND_NETWORK,
    Setting("samples", "A stratified sample of N images (default: all).", "scope", type=int, metavar="N"),
    device_setting("Where the model runs"),
    *BACKEND_SETTINGS,
)
"""The settings that `ModelSettings` are made of."""


def _shipped_data() -> DataOptions:
    from harness.data.options import DataOptions

    return DataOptions()


@dataclass(frozen=True)
class ModelSettings:
    """Which images, how networks are built that are not the shipped one, and where they run.

    `samples` asks for a stratified sample of so many images. Asides on data and checkpoints go to standard error.
    """

    data: DataOptions = field(default_factory=_shipped_data)
    network: NetworkOptions = field(default_factory=NetworkOptions)
    backend: BackendOptions = field(default_factory=BackendOptions)
    device: str = "auto"
    samples: int | None = None

    @staticmethod
    def of(values: Mapping[str, Any]) -> ModelSettings:
        """Return the settings by their values; those that are missing have their defaults.

        Raises `InputError` for what contradicts itself.
        """
        from harness.data.options import DataOptions

        return ModelSettings(
            DataOptions.of(values),
            NetworkOptions.of(values),
            BackendOptions.of(values),
            values.get("device", "auto"),
            values.get("samples"),
        )

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

    def open(
        self, path: Path | str, images: LabelledImages, *, others: Iterable[RoleModel] = (), ordered: bool = True
    ) -> RoleModel:
        """Return a checkpoint opened for the images; its predictions are cached, and found again by the gate.

        One that is not `ordered` may have its classes in another order than the data.
        """
        from harness.base import PredictionCache
        from harness.inference import open_model, placed
        from harness.inference.engine import Engine

        cluster, device = placed(self.backend, self.device)
        model = open_model(
            path,
            images,
            network=self.network,
            device=device,
            cache=PredictionCache.of_user(),
            backend=cluster or Engine,
            others=others,
            ordered=ordered,
        )
        if model.note:
            print(f"{path}: {model.note}", file=sys.stderr)
        return model
