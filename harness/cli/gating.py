"""What commands share that run the gate: the checks file, the options passed on, and the network they speak of."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.networks import NetworkOptions

PASSED_ON = " What follows after -- goes to the gate, such as -- --stress-data npz:shop.npz --baseline none."
"""Ends the description of a command that passes options on."""


def add_checks_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that names the checks file."""
    parser.add_argument(
        "--checks",
        type=Path,
        default=Path("stress_tests/checks.toml"),
        metavar="FILE",
        help="the checks file; the stress tests are those of its folder (default: stress_tests/checks.toml)",
    )


def refuse_own(passed_on: Sequence[str], *own: str) -> None:
    """Raise `InputError` for one of these options after --, which a command gives the gate itself.

    The last one counts: another model would be judged under this one's name, or another run's report be read.
    """
    for option in own:
        if any(each == option or each.startswith(f"{option}=") for each in passed_on):
            raise InputError(
                f"{option} after --: the command says itself what is judged, by which checks file, and where the "
                f"report "
                "goes; leave it out there"
            )


def network_of(options: argparse.Namespace) -> NetworkOptions:
    """Return what the gate's own options, those of the project's configuration included, say of the network."""
    from harness.base.settings import add_settings, values_in
    from harness.networks import NetworkOptions
    from harness.networks.options import NETWORK_SETTINGS
    from harness.run.pytest_configuration import added_options

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add_settings(parser.add_argument, NETWORK_SETTINGS)
    given = [*added_options(options.checks.parent), *options.options]
    return NetworkOptions.of(values_in(parser.parse_known_args(given)[0]))
