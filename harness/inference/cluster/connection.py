"""Connection to a Ray cluster: import, check of the version, and Ray's logs switched off unless wanted."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from harness.base.errors import ClusterError, PackageError
from harness.inference.devices import available_cores

if TYPE_CHECKING:
    from harness.networks.options import BackendOptions

LEAST = (2, 50)
"""The oldest supported release of Ray, its first two numbers."""
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # Ray sends no statistics.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's future default, which avoids a warning.
}


def connect(options: BackendOptions) -> bool:
    """Join the cluster that the options name, or start one on this machine; returns whether it was started.

    A process that has joined a cluster stays there. Raises `InputError` if Ray is not installed, is too old, or finds
    no cluster.
    """
    try:
        for name, value in _QUIET.items():
            if not options.ray_logs:
                os.environ.setdefault(name, value)
        import ray
    except ImportError as error:
        raise PackageError(
            f"needs Ray, which is not installed ({error}); pip install 'stress-harness[ray]'", setting="backend ray"
        ) from None
    if tuple(map(int, ray.__version__.split(".")[:2])) < LEAST:
        raise PackageError(
            f"needs Ray {'.'.join(map(str, LEAST))} or newer, {ray.__version__} is installed; "
            "pip install --upgrade 'stress-harness[ray]'",
            setting="backend ray",
        )
    if ray.is_initialized():
        return False
    address = options.ray_address or os.environ.get("RAY_ADDRESS") or "local"
    if address.startswith("ray://"):
        raise ClusterError(
            "is an address of Ray clients; name the cluster itself, such as 10.0.0.1:6379, and run on one of its nodes",
            setting=f"ray_address {address}",
        )
    started = address == "local"
    own: dict[str, Any] = {"num_cpus": available_cores(), "include_dashboard": False} if started else {}
    level = "info" if options.ray_logs else "critical"
    try:
        ray.init(
            address, log_to_driver=options.ray_logs, logging_level=level, configure_logging=not options.ray_logs, **own
        )
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        said = str(error).splitlines()[0] if str(error) else repr(error)
        raise ClusterError(
            f"no cluster can be joined there ({said}). Start one with `ray start --head`, or remove the address and "
            "RAY_ADDRESS for a new cluster for the run",
            setting=f"ray_address {address}",
        ) from None
    return started
