"""What commands on models share: the options that name data, networks and a device, and opening a model by them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from harness.data.options import DATA_SETTINGS, DataOptions
from harness.errors import printable
from harness.networks import NetworkOptions
from harness.networks.options import NETWORK_SETTINGS
from harness.networks.running import BACKEND_SETTINGS, BackendOptions
from harness.store.settings import add_settings, option_of_pytest, values_in

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable
    from pathlib import Path

    from harness.data import LabelledImages
    from harness.inference import RoleModel


def option_name(name: str) -> str:
    """Return the option of the commands for a setting."""
    return "--data" if name == "data" else option_of_pytest(name)


def add_model_options(command: argparse.ArgumentParser) -> None:
    """Add the options that say on which images, where, and how networks that are not the shipped one are built."""
    add_settings(command.add_argument, DATA_SETTINGS, option=option_name)
    command.add_argument("--samples", type=int, metavar="N", help="a stratified sample of N images (default: all)")
    add_settings(command.add_argument, NETWORK_SETTINGS)
    add_device_option(command, "Where the model runs")
    add_settings(command.add_argument, BACKEND_SETTINGS)


def add_device_option(command: argparse.ArgumentParser, about: str) -> None:
    """Add the option that names a device; `about` begins its help."""
    command.add_argument(
        "--device",
        default="auto",
        metavar="DEVICE",
        help=f"{about}: auto, cpu, cuda or mps; auto is the first there is of cuda, mps and cpu (default: auto).",
    )


def load_all_images(options: argparse.Namespace) -> LabelledImages:
    """Return all images of the data that the options name; what there is to say of them is printed as an aside."""
    from harness.inference import spread_of

    spread = spread_of(BackendOptions.of(values_in(options)))
    images = DataOptions.of(values_in(options)).load(NetworkOptions.of(values_in(options)).transform, spread=spread)
    for note in images.notes:
        print(f"note: {printable(note)}", file=sys.stderr)
    return images


def load_chosen_images(options: argparse.Namespace) -> LabelledImages:
    """Return the images that the options name."""
    from harness.data import stratified_sample

    images = load_all_images(options)
    return images if options.samples is None else stratified_sample(images, options.samples)


def open_chosen(
    path: Path, images: LabelledImages, options: argparse.Namespace, *, others: Iterable[RoleModel] = ()
) -> RoleModel:
    """Return a checkpoint opened for the images, on the device and in the network that the options name.

    What it predicts is cached, as the gate's predictions are, and found again by either.
    """
    from harness.inference import open_model, placed
    from harness.store import PredictionCache

    cluster, device = placed(BackendOptions.of(values_in(options)), options.device)
    model = open_model(
        path,
        images,
        network=NetworkOptions.of(values_in(options)),
        device=device,
        cache=PredictionCache.of_user(),
        backend=cluster or "process",
        others=others,
    )
    if model.note:
        print(f"{path}: {model.note}", file=sys.stderr)
    return model
