"""Networks, shipped or the user's own; their checkpoints, declared outputs and training."""

from harness.networks.options import NetworkOptions

__all__ = ["NetworkOptions"]
