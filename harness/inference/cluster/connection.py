"""Connection to a Ray cluster: import, address, and Ray's logs switched off unless wanted."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from harness.base.errors import ClusterError, PackageError
from harness.inference.devices import available_cores

if TYPE_CHECKING:
    from harness.networks.running import RayOptions

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # Ray sends no statistics.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's future default, which avoids a warning.
}


def connect(options: RayOptions) -> None:
    """Join the cluster that the options name, or start one on this machine; a process stays in its first cluster.

    Raises `InputError` if Ray is not installed or finds no cluster.
    """
    if not options.logs:
        os.environ.update({name: os.environ.get(name, value) for name, value in _QUIET.items()})
    try:
        import ray
    except ImportError as error:
        raise PackageError(
            f"needs Ray, which is not installed ({error}); pip install 'stress-harness[ray]'", setting="backend ray"
        ) from None
    if ray.is_initialized():
        return
    address = options.address or os.environ.get("RAY_ADDRESS") or "local"
    if address.startswith("ray://"):
        raise ClusterError(
            "is an address of Ray clients; name the cluster itself, such as 10.0.0.1:6379, and run on one of its nodes",
            setting=f"ray-address {address}",
        )
    own: dict[str, Any] = {"num_cpus": available_cores(), "include_dashboard": False} if address == "local" else {}
    level = "info" if options.logs else "critical"
    try:
        ray.init(address, log_to_driver=options.logs, logging_level=level, configure_logging=not options.logs, **own)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        said = str(error).splitlines()[0] if str(error) else repr(error)
        raise ClusterError(
            f"no cluster can be joined there ({said}). Start one with `ray start --head`, or remove the address and "
            "RAY_ADDRESS for a new cluster for the run",
            setting=f"ray-address {address}",
        ) from None
