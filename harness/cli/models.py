"""Options that commands on models share: data, networks, a device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.base.settings import add_settings, option_of_pytest, values_in
from harness.data.options import DATA_SETTINGS, DataOptions
from harness.networks import NetworkOptions
from harness.networks.options import NETWORK_SETTINGS
from harness.networks.running import BACKEND_SETTINGS, BackendOptions

if TYPE_CHECKING:
    import argparse

    from harness.run.model_settings import ModelSettings


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


def settings_of(options: argparse.Namespace) -> ModelSettings:
    """Return the images and the network that the options name."""
    from harness.run.model_settings import ModelSettings

    return ModelSettings(
        DataOptions.of(values_in(options)),
        NetworkOptions.of(values_in(options)),
        BackendOptions.of(values_in(options)),
        options.device,
        getattr(options, "samples", None),
    )
