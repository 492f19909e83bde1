"""Networks, shipped or the user's own with declared normalization and outputs; their checkpoints and training."""

from harness.networks.options import NetworkOptions

__all__ = ["NetworkOptions"]
