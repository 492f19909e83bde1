"""Networks: the shipped one, a user's own with what it lacks declared; their checkpoints, their training."""

from harness.networks.options import NetworkOptions

__all__ = ["NetworkOptions"]
