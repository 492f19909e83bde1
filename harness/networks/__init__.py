"""Networks: the shipped one, a user's own with what it lacks declared; their checkpoints, their training."""

from harness.networks.options import NetworkOptions, add_choice_options, add_network_options

__all__ = ["NetworkOptions", "add_choice_options", "add_network_options"]
